//! Mounts that are added to a container while it acts against them.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::racers::Attacker;
use super::visibility::{seen, watching};
use super::{Canary, meanwhile, report};
use crate::harness::{Container, kernel};
use crate::live_mounts::{bind, change, tmpfs};

#[test]
fn cve_2021_30465_a_racing_link_brings_no_added_mount_and_no_mount_point_outside() {
    let mut c = container!();
    let canary = Canary::of(&c);
    let volume = c.scratch().join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&canary.dir, volume.join("b")).unwrap();
    c.mount("/v", "bind", volume.to_str().unwrap(), &["rbind"]);
    c.args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    let before = kernel::mounts(c.pid()).len();
    let file = c.scratch().join("file");
    fs::write(&file, "").unwrap();
    let list = json!([
        tmpfs("/v/a/raced", &[]),
        bind(file.to_str().unwrap(), "/v/a/made/file", &["bind"]),
    ]);
    let attacker = Attacker::exchanging(&volume).unwrap();
    let host = kernel::host_mountinfo().lines().count();
    let mut inside = 0;
    let mut removed = 0;
    for _ in 0..20 {
        let tries = meanwhile(|| {
            let added = change(&c, "add", &list);
            let mounts = kernel::mounts(c.pid());
            // Mounts that went through the link are elsewhere inside the root.
            inside += usize::from(mounts.iter().any(|m| m.target == "/v/a/raced"));
            let gone = change(&c, "remove", &list).code == 0;
            removed += usize::from(gone);
            assert!(added.code == 0 || mounts.len() == before, "{mounts:?}");
            if !gone {
                c.delete(&["--force"]).ok();
                c.run_detached().ok();
            }
            canary.assert_unchanged("race");
            for name in ["raced", "made"] {
                let _ = fs::remove_dir_all(volume.join("a").join(name));
                let _ = fs::remove_dir_all(volume.join("b").join(name));
            }
        });
        report("exposed", 2 * tries);
        if inside > 0 && removed > 0 {
            break;
        }
    }
    attacker.stop();
    assert!(inside > 0 && removed > 0, "{inside} {removed}");
    assert_eq!(kernel::host_mountinfo().lines().count(), host);
    assert!(!kernel::host_mountinfo().contains("raced"));
}

#[test]
fn a_racing_link_makes_remove_unmount_nothing_else() {
    let mut c = container!();
    let volume = c.scratch().join("volume");
    fs::create_dir_all(volume.join("a/x")).unwrap();
    // The link leads to a directory with masked paths and other mounts.
    symlink("/sys", volume.join("b")).unwrap();
    fs::create_dir(volume.join("a/firmware")).unwrap();
    c.mount("/v", "bind", volume.to_str().unwrap(), &["rbind"]);
    c.args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    let masked = |c: &Container| {
        kernel::mounts(c.pid())
            .iter()
            .filter(|m| m.target.starts_with("/sys"))
            .count()
    };
    let before = masked(&c);
    let attacker = Attacker::exchanging(&volume).unwrap();
    let list = json!([tmpfs("/v/a/firmware", &[])]);
    let mut removed = 0;
    let tries = meanwhile(|| {
        // The mount lands in /v/a, or over the mask.
        let added = change(&c, "add", &list).code == 0;
        for _ in 0..50 {
            if change(&c, "remove", &list).code == 0 {
                removed += 1;
                break;
            }
        }
        assert!(masked(&c) >= before);
        assert!(added);
    });
    report("exposed", tries);
    attacker.stop();
    assert!(removed > 0 && masked(&c) >= before);
}

#[test]
fn cve_2016_9962_the_container_never_sees_the_process_that_changes_its_mounts() {
    let Some(mut c) = watching() else { return };
    c.run_detached().ok();
    let list = json!([tmpfs("/added", &[]), bind("/tmp", "/bound", &["rbind"])]);
    let seen = seen(&c, || {
        change(&c, "add", &list).ok();
        change(&c, "remove", &list).ok();
    });
    seen.assert_nobody("mounts");
}
