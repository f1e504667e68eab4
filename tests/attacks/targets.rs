//! Mount targets, and objects that an image or a volume puts in the way.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::racers::Attacker;
use super::{Canary, meanwhile, report, try_out};
use crate::harness::{Container, kernel};

#[test]
fn cve_2019_18837_hostile_things_in_place_of_mount_targets_change_nothing_outside() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let absolute = canary.dir.to_str().unwrap().to_owned();
    c.mount("/target/below", "tmpfs", "tmpfs", &[]);
    c.mount(
        "/file",
        "bind",
        &format!("{absolute}/file"),
        &["bind", "ro"],
    );
    c.edit(|j| {
        j["process"]["cwd"] = json!("/target/work");
        j["linux"]["maskedPaths"] = json!(["/target", "/file"]);
    });
    for (link, file_link) in [
        (absolute.clone(), format!("{absolute}/new")),
        (
            "../../../../../../../..".to_owned(),
            "../../scratch/canary/new".to_owned(),
        ),
        ("target".to_owned(), "file".to_owned()),
        ("/missing/one".to_owned(), "/missing/two".to_owned()),
    ] {
        for (name, to) in [("target", &link), ("file", &file_link)] {
            let path = c.rootfs(name);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
            symlink(to, &path).unwrap();
        }
        try_out(&mut c);
        canary.assert_unchanged(&link);
    }
    for name in ["target", "file"] {
        fs::remove_file(c.rootfs(name)).unwrap();
        nix::unistd::mkfifo(&c.rootfs(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    try_out(&mut c);
    canary.assert_unchanged("fifo");
}

/// Checks that the attacker loses a race. Its container swaps a directory /a and a link /b of a
/// volume, while the runtime mounts on files in /a and creates missing ones there.
fn assert_race_is_lost(add: impl FnOnce(&mut Container)) {
    let mut c = container!();
    let canary = Canary::of(&c);
    let volume = c.scratch().join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&canary.dir, volume.join("b")).unwrap();
    c.mount("/v", "bind", volume.to_str().unwrap(), &["rbind"]);
    add(&mut c);
    c.script("cut -d' ' -f5 /proc/self/mountinfo");
    let attacker = Attacker::exchanging(&volume).unwrap();
    let try_once = || {
        let output = c.make("run", &[]);
        canary.assert_unchanged("race");
        // Each run has something to create.
        let clear = |name| drop(fs::remove_dir_all(volume.join(name).join("raced")));
        ["a", "b"].into_iter().for_each(clear);
        // A mount that went through the link is elsewhere inside the root, not below /v.
        usize::from(output.stdout().contains("\n/v/"))
    };
    let mut inside = 0;
    let mut tries = 0;
    // On a busy machine the attacker may keep the directory swapped out for long.
    for _ in 0..20 {
        tries += meanwhile(|| inside += try_once());
        if inside > 0 {
            break;
        }
    }
    report("exposed", tries);
    attacker.stop();
    assert!(inside > 0, "not once was the directory in its place");
    assert!(!kernel::host_mountinfo().contains("raced"));
    c.assert_nothing_left();
}

#[test]
fn cve_2021_30465_a_racing_link_in_a_volume_brings_no_mount_outside() {
    assert_race_is_lost(|c| {
        c.mount("/v/a/raced/sub", "tmpfs", "tmpfs", &[]);
        c.mount("/v/a/raced/made", "tmpfs", "tmpfs", &[]);
    });
}

#[test]
fn cve_2024_45310_a_racing_link_in_a_volume_has_no_file_made_outside() {
    assert_race_is_lost(|c| {
        let file = c.scratch().join("file");
        fs::write(&file, "").unwrap();
        c.mount("/v/a/raced/file", "bind", file.to_str().unwrap(), &["bind"]);
    });
}

#[test]
fn cve_2024_45310_a_racing_link_in_a_volume_has_no_device_made_outside() {
    assert_race_is_lost(|c| {
        c.mount("/v/a/raced", "tmpfs", "tmpfs", &[]);
        c.edit(|j| {
            j["linux"]["devices"] = json!([
                {"path": "/v/a/node", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 7},
                {"path": "/v/a/new/pipe", "type": "p", "fileMode": 0o666},
            ]);
        });
    });
}

/// Each path to make read-only or to mask is looked up once, and treated as the file that was
/// found.
#[test]
fn ghsa_3q8j_pf29_vwv8_a_racing_path_is_never_left_writable_or_visible() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let volume = c.scratch().join("volume");
    for name in ["a", "b"] {
        for below in ["ro/deep", "hidden/deep"] {
            fs::create_dir_all(volume.join(name).join(below)).unwrap();
        }
        fs::write(volume.join(name).join("secret"), "secret").unwrap();
    }
    c.mount("/v", "bind", volume.to_str().unwrap(), &["rbind", "rw"]);
    c.edit(|j| {
        j["linux"]["readonlyPaths"] = json!(["/v/a/ro", "/v/a/ro/deep"]);
        j["linux"]["maskedPaths"] = json!(["/v/a/secret", "/v/a/hidden"]);
    });
    c.script("cat /proc/self/mountinfo");
    let attacker = Attacker::exchanging(&volume).unwrap();
    let mut found = 0;
    let tries = meanwhile(|| {
        let output = c.run();
        let mounts = kernel::parse_mountinfo(&output.stdout());
        let is_ours = |mount: &&kernel::Mount| mount.target.starts_with("/v/");
        for mount in mounts.iter().filter(is_ours) {
            found += 1;
            match mount.target.rsplit('/').next().unwrap() {
                "secret" => assert_eq!(mount.root, "/null", "left: {}", mount.line),
                _ => assert!(mount.has("ro"), "left: {}", mount.line),
            }
        }
        if output.code == 0 {
            // Two read-only and two masked paths, mounted on whatever was there.
            assert!(
                mounts.iter().filter(is_ours).count() >= 3,
                "{}",
                output.stdout()
            );
        }
    });
    report("exposed", tries);
    attacker.stop();
    assert!(found > 0);
    canary.assert_unchanged("race");
    c.assert_nothing_left();
}
