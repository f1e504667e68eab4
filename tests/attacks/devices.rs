//! Attacks through /dev and its entries: nodes, links, null devices, terminals.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use super::racers::Attacker;
use super::{Canary, meanwhile, report, try_out};
use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, kernel};

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

/// Gives a container a /dev from outside its image, and returns that directory.
fn with_own_dev(c: &mut Container) -> PathBuf {
    let dev = c.scratch().join("dev");
    fs::create_dir(&dev).unwrap();
    for target in ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"] {
        c.without_mount(target);
    }
    c.mount("/dev", "bind", dev.to_str().unwrap(), &["rbind"]);
    dev
}

/// Runs mknod(1).
fn node(path: &Path, what: &[&str]) {
    let made = Command::new("mknod").arg(path).args(what).status();
    assert!(made.unwrap().success());
}

/// Removes whatever is at a path.
fn clear(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
}

/// Puts at a path, one after the other, each kind of object that is not the null device.
fn each_false_null(path: &Path, canary: &Canary, mut each: impl FnMut(&str)) {
    for link in [
        "/etc/passwd",
        "/proc/sys/kernel/hostname",
        "/proc/self/fd/1",
        "null",
    ] {
        symlink(link, path).unwrap();
        each(link);
        clear(path);
    }
    symlink(canary.dir.join("null"), path).unwrap();
    each("link to the host");
    clear(path);
    fs::write(path, "regular").unwrap();
    each("regular");
    clear(path);
    fs::create_dir(path).unwrap();
    each("directory");
    clear(path);
    for what in [
        &["p"][..],
        &["c", "1", "5"],
        &["c", "5", "2"],
        &["b", "1", "3"],
    ] {
        node(path, what);
        each(what.last().unwrap());
        clear(path);
    }
    each("nothing");
}

// CVE-2025-62161
#[test]
fn cve_2025_31133_a_dev_null_of_the_image_never_serves_as_a_mask() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let dev = with_own_dev(&mut c);
    fs::write(c.rootfs("/secret"), "secret").unwrap();
    c.edit(|j| j["linux"]["maskedPaths"] = json!(["/secret"]));
    c.script("cat /secret; stat -c %t:%T /secret");
    each_false_null(&dev.join("null"), &canary, |case| {
        let output = c.run();
        assert!(
            output.code != 0 && output.stdout().is_empty(),
            "case {case}: {}",
            output.stdout()
        );
        output.one_line();
        c.assert_nothing_left();
        canary.assert_unchanged(case);
    });
}

#[test]
fn cve_2025_31133_a_racing_dev_null_never_serves_as_a_mask() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let dev = with_own_dev(&mut c);
    fs::write(c.rootfs("/secret"), "secret").unwrap();
    c.edit(|j| j["linux"]["maskedPaths"] = json!(["/secret"]));
    c.script("cat /secret; stat -c %t:%T /secret");
    node(&dev.join("null"), &["c", "1", "3"]);
    fs::write(dev.join("other"), "false").unwrap();
    let attacker = Attacker::exchanging_names(&dev, "null", "other").unwrap();
    let (mut masked, mut said) = (0, String::new());
    let tries = meanwhile(|| {
        let output = c.run();
        said = output.stderr();
        if !output.stdout().is_empty() {
            let masks = "1:3\n";
            assert_eq!(output.stdout(), masks, "case of a race: {said}");
            masked += 1;
        }
    });
    report("exposed", tries);
    attacker.stop();
    assert!(masked > 0, "not once was the node in its place: {said}");
    canary.assert_unchanged("race");
}

/// A process never gets another object in place of the null device, and the object's owner is not
/// changed.
#[test]
fn cve_2026_88265_a_dev_null_of_the_image_is_never_standard_input_or_output() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let dev = with_own_dev(&mut c);
    let null = dev.join("null");
    let id = |stat: &fs::Metadata| (stat.dev(), stat.ino(), stat.uid(), stat.gid());
    let host = id(&fs::metadata("/dev/null").unwrap());
    c.edit(|j| {
        j["linux"]["maskedPaths"] = json!([]);
        j["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let bundle = c.dir().to_str().unwrap().to_owned();
    let pid_file = c.pid_file().to_str().unwrap().to_owned();
    let flags = [
        "run",
        "--detach",
        "--bundle",
        &bundle,
        "--pid-file",
        &pid_file,
        &c.id,
    ];
    each_false_null(&null, &canary, |case| {
        let before = fs::symlink_metadata(&null).ok().map(|stat| id(&stat));
        let mut command = c.command(&flags);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let begin = Instant::now();
        let code = command.status().unwrap();
        assert!(begin.elapsed() < crate::harness::DEADLINE, "{case}");
        if code.success() {
            for number in 0..3 {
                let found = fs::metadata(format!("/proc/{}/fd/{number}", c.pid())).unwrap();
                assert_eq!(id(&found), host, "{case}: {number}");
            }
        }
        c.delete(&["--force"]).ok();
        let after = fs::symlink_metadata(&null).ok().map(|stat| id(&stat));
        assert_eq!(after, before, "{case}");
        canary.assert_unchanged(case);
    });
    assert_eq!(id(&fs::metadata("/dev/null").unwrap()), host);
}

#[test]
fn cve_2025_52565_a_terminal_is_made_of_nothing_but_a_ptmx() {
    let mut c = container!();
    let dir = c.scratch().join("dev");
    fs::create_dir_all(dir.join("pts")).unwrap();
    let make = |name: &str, what: &[&str]| {
        clear(&dir.join(name));
        node(&dir.join(name), what);
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
    // A FIFO would wait for a writer, and 1:200 has no driver.
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
    // With a devpts beside it, the image's own 5:2 node is as good as any.
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

// The device is in a volume that another container writes. Its mode was once set by name.
#[test]
fn a_device_node_that_is_exchanged_for_a_link_leaves_a_file_of_the_host_alone() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let volume = c.scratch().join("volume");
    fs::create_dir(&volume).unwrap();
    let (node, link) = (volume.join("a"), volume.join("b"));
    self::node(&node, &["c", "1", "5"]);
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

/// Creates a container with a terminal and starts it. Create may fail, but nothing may take long.
fn try_terminal(c: &Container) -> i32 {
    let path = c.dir().join("console");
    let socket = ConsoleSocket::listen(&path);
    let begin = Instant::now();
    let output = c.make("create", &["--console-socket", path.to_str().unwrap()]);
    if output.code == 0 {
        // The terminal doesn't hang up while the master is open.
        let _master = socket.receive();
        c.start();
        let mounts = kernel::mounts(c.pid());
        let console = mounts.iter().filter(|mount| mount.fstype == "devpts");
        let places = ["/dev/pts", "/dev/console"];
        for mount in console {
            assert!(places.contains(&mount.target.as_str()), "{}", mount.line);
        }
    } else {
        output.one_line();
    }
    c.delete(&["--force"]).ok();
    assert!(
        begin.elapsed() < crate::harness::DEADLINE,
        "{}",
        output.stderr()
    );
    c.assert_nothing_left();
    fs::remove_file(&path).unwrap();
    output.code
}

/// The terminal is bound on no file that a name in the image leads to.
#[test]
fn cve_2025_52565_a_terminal_is_bound_on_no_other_file() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let dev = with_own_dev(&mut c);
    node(&dev.join("ptmx"), &["c", "5", "2"]);
    node(&dev.join("null"), &["c", "1", "3"]);
    fs::create_dir(dev.join("pts")).unwrap();
    c.mount("/dev/pts", "devpts", "devpts", &["nosuid", "ptmxmode=0666"]);
    c.edit(|j| j["process"]["terminal"] = json!(true));
    let pattern = || fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let before = pattern();
    let console = dev.join("console");
    for link in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/etc/passwd",
        "console",
    ] {
        symlink(link, &console).unwrap();
        assert_eq!(try_terminal(&c), 1, "{link}");
        clear(&console);
    }
    symlink(canary.dir.join("console"), &console).unwrap();
    assert_eq!(try_terminal(&c), 1);
    clear(&console);
    for what in [&["p"][..], &["c", "1", "5"]] {
        node(&console, what);
        try_terminal(&c);
        clear(&console);
    }
    assert_eq!(try_terminal(&c), 0);
    // Slaves' names that lead elsewhere, in a directory where a devpts should be.
    c.without_mount("/dev/pts");
    for number in 0..10 {
        symlink(
            "/proc/sys/kernel/core_pattern",
            dev.join(format!("pts/{number}")),
        )
        .unwrap();
    }
    for what in [&["c", "5", "2"][..], &["p"], &["c", "1", "3"]] {
        node(&dev.join("pts/ptmx"), what);
        assert_eq!(try_terminal(&c), 1, "{what:?}");
        clear(&dev.join("pts/ptmx"));
    }
    assert!(pattern() == before);
    canary.assert_unchanged("terminal");
}

/// /dev/console is created if it is missing, but never through a link.
#[test]
fn cve_2026_88264_a_console_is_not_made_through_a_link() {
    let mut c = container!();
    let canary = Canary::of(&c);
    for target in ["/dev/mqueue", "/dev/shm", "/dev"] {
        c.without_mount(target);
    }
    let volume = canary.dir.to_str().unwrap().to_owned();
    c.mount("/v", "bind", &volume, &["rbind", "rw"]);
    for readonly in [false, true] {
        c.edit(|j| {
            j["process"]["terminal"] = json!(true);
            j["root"]["readonly"] = json!(readonly);
        });
        for link in [
            "/v/new".to_owned(),
            "/v/file".to_owned(),
            "../v/new".to_owned(),
            format!("{volume}/new"),
            "../../../scratch/canary/new".to_owned(),
            "console".to_owned(),
        ] {
            clear(&c.rootfs("/dev"));
            fs::create_dir_all(c.rootfs("/dev/pts")).unwrap();
            symlink(&link, c.rootfs("/dev/console")).unwrap();
            assert_eq!(try_terminal(&c), 1, "a link to {link}");
            canary.assert_unchanged(&link);
        }
    }
}
