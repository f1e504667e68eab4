//! /dev and what stands in it: nodes, links, null devices, terminals.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::racers::Attacker;
use super::{Canary, meanwhile, report, try_out};
use crate::harness::terminal::{ConsoleSocket, Screen};

// CVE-2026-41579, CVE-2026-47766, CVE-2026-88264
#[test]
fn cve_2026_41579_symlinks_in_place_of_dev_and_its_entries_change_nothing_outside() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let absolute = canary.dir.to_str().unwrap().to_owned();
    for target in ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"] {
        c.without_mount(target);
    }
    for target in [absolute.as_str(), "../../scratch/canary", "/missing", "dev"] {
        let _ = fs::remove_dir_all(c.rootfs("/dev"));
        let _ = fs::remove_file(c.rootfs("/dev"));
        symlink(target, c.rootfs("/dev")).unwrap();
        try_out(&mut c);
        canary.assert_unchanged(target);
    }
    for name in [
        "null", "ptmx", "console", "fd", "stdin", "core", "pts", "shm", "tty",
    ] {
        for target in [
            format!("{absolute}/{name}"),
            format!("../../../scratch/canary/{name}"),
            name.to_owned(),
        ] {
            let _ = fs::remove_file(c.rootfs("/dev"));
            let _ = fs::remove_dir_all(c.rootfs("/dev"));
            fs::create_dir(c.rootfs("/dev")).unwrap();
            symlink(&target, c.rootfs("/dev").join(name)).unwrap();
            try_out(&mut c);
            canary.assert_unchanged(&target);
        }
    }
}

#[test]
fn cve_2025_31133_a_dev_null_of_the_image_never_serves_as_a_mask() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let dev = c.scratch().join("dev");
    fs::write(c.rootfs("/secret"), "secret").unwrap();
    for target in ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"] {
        c.without_mount(target);
    }
    c.mount("/dev", "bind", dev.to_str().unwrap(), &["rbind"]);
    c.edit(|j| j["linux"]["maskedPaths"] = json!(["/secret"]));
    for case in 0..3 {
        let _ = fs::remove_dir_all(&dev);
        fs::create_dir(&dev).unwrap();
        match case {
            0 => symlink("/etc/passwd", dev.join("null")).unwrap(),
            1 => fs::write(dev.join("null"), "regular").unwrap(),
            _ => symlink(canary.dir.join("null"), dev.join("null")).unwrap(),
        }
        c.script("cat /secret; stat -c %t:%T /secret");
        let output = c.run();
        assert!(
            output.code != 0 && !output.stdout().contains("secret") || output.stdout() == "1:3\n",
            "case {case}: {}",
            output.stdout()
        );
        c.assert_nothing_left();
        canary.assert_unchanged("null");
    }
}

#[test]
fn cve_2025_52565_a_terminal_is_made_of_nothing_but_a_ptmx() {
    let mut c = container!();
    let dir = c.scratch().join("dev");
    fs::create_dir_all(dir.join("pts")).unwrap();
    let make = |name: &str, what: &[&str]| {
        let path = dir.join(name);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mknod")
            .arg(&path)
            .args(what)
            .status();
        assert!(made.unwrap().success());
    };
    c.edit(|j| {
        let mounts = j["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        j["process"]["terminal"] = json!(true);
    });
    c.edit(|j| j["linux"]["maskedPaths"] = json!([]));
    c.mount("/dev", "bind", dir.to_str().unwrap(), &["bind"]);
    let path = c.dir().join("console").to_str().unwrap().to_owned();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // A FIFO would wait for a writer, and no driver answers for 1:200.
    let things: [&[&str]; 4] = [
        &["p"],
        &["c", "1", "200"],
        &["c", "1", "3"],
        &["c", "5", "2"],
    ];
    for thing in things {
        for name in ["ptmx", "pts/ptmx"] {
            make("ptmx", &["p"]);
            make("pts/ptmx", &["p"]);
            make(name, thing);
            let output = c.make("create", &["--console-socket", &path]);
            output.exits(1).one_line().says("ptmx");
            c.assert_nothing_left();
        }
    }
    drop(listener);
    fs::remove_file(&path).unwrap();
    let socket = ConsoleSocket::listen(path.as_ref());
    let before = fs::read_dir(&dir).unwrap().count();
    // With a devpts beside it, the 5:2 of the image is as good as any.
    make("ptmx", &["c", "5", "2"]);
    c.mount("/dev/pts", "devpts", "devpts", &["nosuid"]);
    c.args(&[
        "/bin/stat",
        "-c",
        "%a %g",
        "/dev/pts/ptmx",
        "/proc/self/fd/0",
        "/dev/pts/0",
    ]);
    c.make("create", &["--console-socket", &path]).ok();
    let master = socket.receive().descriptors.remove(0);
    let screen = Screen::of(master);
    c.start().ok();
    screen.wait_for("620 5");
    assert!(screen.text().starts_with("666 0"), "{}", screen.text());
    assert_eq!(
        fs::read_dir(&dir).unwrap().count(),
        before,
        "a console was made"
    );
}

// A device in a volume that another container writes: its mode was once set by name.
#[test]
fn a_device_node_that_is_exchanged_for_a_link_leaves_a_file_of_the_host_alone() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let volume = c.scratch().join("volume");
    fs::create_dir(&volume).unwrap();
    let (node, link) = (volume.join("a"), volume.join("b"));
    let made = std::process::Command::new("mknod")
        .arg(&node)
        .args(["c", "1", "5"])
        .status();
    assert!(made.unwrap().success());
    symlink(canary.dir.join("file"), &link).unwrap();
    c.mount("/v", "bind", volume.to_str().unwrap(), &["rbind"]);
    c.args(&["/bin/true"]);
    c.edit(|j| {
        j["linux"]["devices"] = json!([
            {"path": "/v/a", "type": "c", "major": 1, "minor": 5, "fileMode": 0o777, "uid": 7},
        ]);
    });
    let attacker = Attacker::exchanging(&volume).unwrap();
    let mut made = 0;
    let tries = meanwhile(|| {
        made += usize::from(c.make("run", &[]).code == 0);
        canary.assert_unchanged("race");
    });
    report("exposed", tries);
    attacker.stop();
    assert!(made > 0, "not once was the node in its place");
    c.assert_nothing_left();
}
