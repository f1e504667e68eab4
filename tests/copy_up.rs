//! tmpcopyup: a new tmpfs copies the directory that it covers. Tests the copies and the failures.
//! Other options of mounts are in `mounts`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::time::{Duration, SystemTime};

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::harness::kernel;

#[test]
fn tmpcopyup_brings_what_was_below() {
    let mut c = container!();
    fs::create_dir_all(c.rootfs("/covered/dir")).unwrap();
    fs::write(c.rootfs("/covered/dir/file"), "copied\n").unwrap();
    symlink("dir/file", c.rootfs("/covered/link")).unwrap();
    fs::set_permissions(c.rootfs("/covered/dir"), fs::Permissions::from_mode(0o700)).unwrap();
    c.mount("/covered", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let text = c.output_of("cat /covered/link; stat -c %a /covered/dir; rm /covered/dir/file");
    assert_eq!(text, "copied\n700\n");
    assert!(c.rootfs("/covered/dir/file").exists());
}

#[test]
fn tmpcopyup_keeps_types_owners_permissions_and_times() {
    let mut c = container!();
    let top = c.rootfs("/covered");
    fs::create_dir_all(top.join("dir/empty")).unwrap();
    fs::write(top.join("dir/program"), vec![7_u8; 300_000]).unwrap();
    chown(top.join("dir/program"), Some(1000), Some(1001)).unwrap();
    fs::set_permissions(top.join("dir/program"), fs::Permissions::from_mode(0o6755)).unwrap();
    symlink("/nowhere", top.join("dir/link")).unwrap();
    lchown(top.join("dir/link"), Some(5), Some(6)).unwrap();
    mknod(
        &top.join("dir/fifo"),
        SFlag::S_IFIFO,
        Mode::from_bits_truncate(0o640),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.join("s")).unwrap();
    mknod(
        &top.join("dir/null"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o604),
        nix::sys::stat::makedev(1, 3),
    )
    .unwrap();
    chown(top.join("dir/empty"), Some(7), Some(8)).unwrap();
    fs::set_permissions(top.join("dir/empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_987_654_321);
    for name in ["dir/empty", "dir/program", "dir"] {
        fs::File::open(top.join(name))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    c.mount("/covered", "tmpfs", "tmpfs", &["tmpcopyup", "ro"]);
    c.run_detached().ok();
    let pid = c.pid();
    assert!(kernel::mount_at(pid, "/covered").unwrap().has("ro"));
    let inside = std::path::PathBuf::from(format!("/proc/{pid}/root/covered"));
    let names = [
        "dir",
        "dir/empty",
        "dir/program",
        "dir/link",
        "dir/fifo",
        "dir/null",
        "s",
    ];
    for name in names {
        let [was, is] = [&top, &inside].map(|dir| fs::symlink_metadata(dir.join(name)).unwrap());
        assert_ne!(was.dev(), is.dev(), "{name}");
        assert_eq!(
            (was.mode(), was.uid(), was.gid(), was.rdev()),
            (is.mode(), is.uid(), is.gid(), is.rdev()),
            "{name}"
        );
        assert_eq!(
            (was.mtime(), was.mtime_nsec()),
            (is.mtime(), is.mtime_nsec()),
            "{name}"
        );
    }
    assert_eq!(
        fs::read(inside.join("dir/program")).unwrap(),
        vec![7_u8; 300_000]
    );
    assert_eq!(
        fs::read_link(inside.join("dir/link")).unwrap().to_str(),
        Some("/nowhere")
    );
}

#[test]
fn tmpcopyup_follows_no_link_out_of_the_directory() {
    let mut c = container!();
    let secret = c.scratch().join("secret");
    fs::write(&secret, "of the host").unwrap();
    fs::create_dir_all(c.rootfs("/covered")).unwrap();
    symlink(&secret, c.rootfs("/covered/link")).unwrap();
    symlink("/etc", c.rootfs("/covered/dir")).unwrap();
    c.mount("/covered", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let text =
        c.output_of("readlink /covered/link; readlink /covered/dir; cat /covered/link; true");
    assert_eq!(text, format!("{}\n/etc\n", secret.display()));
}

#[test]
fn tmpcopyup_brings_what_earlier_mounts_show_there() {
    let mut c = container!();
    let source = c.scratch();
    fs::write(source.join("file"), "bound\n").unwrap();
    c.mount(
        "/covered/below",
        "bind",
        source.to_str().unwrap(),
        &["bind"],
    );
    c.mount("/covered", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let text = c.output_of("cat /covered/below/file; rm /covered/below/file");
    assert_eq!(text, "bound\n");
    assert!(source.join("file").exists());
}

#[test]
fn tmpcopyup_of_nothing_is_an_empty_tmpfs() {
    let mut c = container!();
    c.mount("/new/place", "tmpfs", "tmpfs", &["tmpcopyup", "mode=750"]);
    let text = c.output_of("ls -A /new/place; stat -c %a /new/place");
    assert_eq!(text, "750\n");
}

#[test]
fn tmpcopyup_says_what_does_not_fit() {
    let mut c = container!();
    fs::create_dir_all(c.rootfs("/covered/dir")).unwrap();
    fs::write(c.rootfs("/covered/dir/file"), vec![1; 200_000]).unwrap();
    c.mount("/covered", "tmpfs", "tmpfs", &["tmpcopyup", "size=64k"]);
    let output = c.run();
    output.exits(1);
    output.says("mount /covered (config.json: mounts[6]): copy up dir/file: write: ENOSPC");
    c.assert_nothing_left();
}

#[test]
fn tmpcopyup_refuses_a_tree_without_end() {
    let mut c = container!();
    fs::create_dir_all(c.rootfs(&format!("/covered/{}", "d/".repeat(300)))).unwrap();
    c.mount("/covered", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let output = c.run();
    output.exits(1);
    output.says("mount /covered (config.json: mounts[6]): copy up d/d/");
    c.assert_nothing_left();
}

#[test]
fn tmpcopyup_is_only_for_tmpfs() {
    let mut c = container!();
    let source = c.scratch();
    c.mount(
        "/covered",
        "bind",
        source.to_str().unwrap(),
        &["bind", "tmpcopyup"],
    );
    let output = c.run();
    output.exits(1);
    output.says("config.json: mounts[6].options[1]: tmpcopyup: only a tmpfs");
}

#[test]
fn tmpcopyup_in_a_user_namespace_brings_what_it_may() {
    let mut c = container!();
    c.user_namespace();
    c.edit(|j| {
        j["process"]["scheduler"] = serde_json::json!({"policy": "SCHED_RR", "priority": 1});
    });
    let top = c.rootfs("/covered");
    fs::create_dir_all(&top).unwrap();
    for (name, id) in [("mapped", 100_005), ("unmapped", 5)] {
        fs::write(top.join(name), "copied\n").unwrap();
        chown(top.join(name), Some(id), Some(id)).unwrap();
    }
    mknod(
        &top.join("null"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    )
    .unwrap();
    c.mount("/covered", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let text = c.output_of(
        "cd /covered; cat mapped unmapped; stat -c '%n %u' *; cut -d' ' -f41 /proc/self/stat",
    );
    assert_eq!(text, "copied\ncopied\nmapped 5\nunmapped 65534\n2\n");
}
