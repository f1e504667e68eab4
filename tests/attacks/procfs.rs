//! procfs and sysfs: what may be mounted there, and what an image may put in their place.

use std::fs;
use std::os::unix::fs::symlink;

use super::Canary;

// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642
#[test]
fn cve_2019_19921_a_symlink_in_place_of_proc_or_sys_is_refused() {
    for name in ["proc", "sys"] {
        let mut c = container!();
        let canary = Canary::of(&c);
        for target in [
            canary.dir.to_str().unwrap(),
            "/elsewhere",
            "../../scratch/canary",
        ] {
            let _ = fs::remove_dir(c.rootfs(name));
            let _ = fs::remove_file(c.rootfs(name));
            fs::create_dir_all(c.rootfs("/elsewhere")).unwrap();
            symlink(target, c.rootfs(name)).unwrap();
            c.create().exits(1).says(&format!("/{name}"));
            c.assert_nothing_left();
            canary.assert_unchanged(target);
        }
    }
}

#[test]
fn cve_2019_16884_a_mount_over_proc_is_refused_but_for_the_usual_files() {
    let mut c = container!();
    let file = c.scratch().join("file");
    fs::write(&file, "mine\n").unwrap();
    for destination in [
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/proc/self/../self/attr",
    ] {
        c.mount(destination, "tmpfs", "tmpfs", &[]);
        c.create().exits(1).says("/proc");
        c.assert_nothing_left();
        c.without_mount(destination);
    }
    c.mount("/proc/uptime", "bind", file.to_str().unwrap(), &["bind"]);
    assert_eq!(c.output_of("cat /proc/uptime"), "mine\n");
}

// The same, where the image leads a harmless name there, or brings a procfs along, or an earlier mount does.
#[test]
fn cve_2019_16884_a_mount_in_a_procfs_is_refused_whichever_way_it_was_reached() {
    let mut c = container!();
    let file = c.scratch().join("file");
    fs::write(&file, "mine\n").unwrap();
    let refused = |c: &mut crate::harness::Container, destination: &str, kind: &str| {
        let (source, options): (_, &[&str]) = match kind {
            "tmpfs" => ("tmpfs", &[]),
            _ => (file.to_str().unwrap(), &["bind"]),
        };
        c.mount(destination, kind, source, options);
        c.create()
            .exits(1)
            .says("procfs")
            .says("mounts[")
            .one_line();
        c.assert_nothing_left();
        c.without_mount(destination);
    };
    for goal in [
        "/proc/self/attr",
        "/proc/sys",
        "/proc",
        "proc/self",
        "etc/../proc/tty",
    ] {
        symlink(goal, c.rootfs("/vol")).unwrap();
        refused(&mut c, "/vol", "tmpfs");
        fs::remove_file(c.rootfs("/vol")).unwrap();
    }
    for (link, below) in [
        ("/proc", "uptime"),
        ("/proc/sys", "kernel/core_pattern"),
        ("/proc/self", "attr/current"),
    ] {
        symlink(link, c.rootfs("/vol")).unwrap();
        refused(&mut c, &format!("/vol/{below}"), "bind");
        fs::remove_file(c.rootfs("/vol")).unwrap();
    }
    // The path of the host, which is taken for that of the container.
    let on_host = c.rootfs("/proc/self/attr").to_str().unwrap().to_owned();
    c.mount(&on_host, "tmpfs", "tmpfs", &[]);
    c.create().exits(1).says("inside /proc");
    c.without_mount(&on_host);
    fs::create_dir(c.rootfs("/elsewhere")).unwrap();
    c.mount("/elsewhere", "proc", "proc", &[]);
    refused(&mut c, "/elsewhere/sys", "tmpfs");
    refused(&mut c, "/elsewhere/uptime", "bind");
    c.without_mount("/elsewhere");
    // The image's own.
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let own = c.rootfs("/elsewhere");
    mount(
        Some("proc"),
        &own,
        Some("proc"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    symlink("elsewhere/self/attr", c.rootfs("/vol")).unwrap();
    c.mount("/vol", "tmpfs", "tmpfs", &[]);
    let output = c.create();
    umount2(&own, MntFlags::MNT_DETACH).unwrap();
    output.exits(1).says("procfs");
}
