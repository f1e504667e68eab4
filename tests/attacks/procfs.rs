//! procfs and sysfs: mounts inside them, and objects that an image puts in their place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::Canary;
use crate::harness::{Container, skipped};
use crate::lsm;

// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867
#[test]
fn cve_2019_19921_a_symlink_in_place_of_proc_or_sys_is_refused() {
    for name in ["proc", "sys"] {
        let mut c = container!();
        let canary = Canary::of(&c);
        fs::create_dir_all(c.rootfs("/elsewhere")).unwrap();
        symlink("elsewhere", c.rootfs("/chain")).unwrap();
        symlink("proc", c.rootfs("/crossed")).unwrap();
        // A volume that is mounted before /proc and /sys.
        let volume = c.scratch().join("volume");
        fs::create_dir_all(volume.join("below")).unwrap();
        c.edit(|j| {
            let mounts = j["mounts"].as_array_mut().unwrap();
            let volume = json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["bind"]});
            mounts.insert(0, volume);
        });
        for target in [
            canary.dir.to_str().unwrap(),
            "/elsewhere",
            "../../scratch/canary",
            "/chain",
            "/crossed",
            "/volume/below",
            &format!("../{name}"),
        ] {
            let _ = fs::remove_dir(c.rootfs(name));
            let _ = fs::remove_file(c.rootfs(name));
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

// Like the test above, but a link in the image leads to procfs, or the image or an earlier mount
// brings another procfs.
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
    // A path on the host, which is read as a path in the container.
    let on_host = c.rootfs("/proc/self/attr").to_str().unwrap().to_owned();
    c.mount(&on_host, "tmpfs", "tmpfs", &[]);
    c.create().exits(1).says("inside /proc");
    c.without_mount(&on_host);
    fs::create_dir(c.rootfs("/elsewhere")).unwrap();
    c.mount("/elsewhere", "proc", "proc", &[]);
    refused(&mut c, "/elsewhere/sys", "tmpfs");
    refused(&mut c, "/elsewhere/uptime", "bind");
    c.without_mount("/elsewhere");
    // A procfs in the image itself.
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

/// Adds to the image fakes of the procfs files that the runtime writes, with nothing mounted
/// there. Returns their paths.
fn fake(c: &mut Container) -> Vec<PathBuf> {
    let mut files = vec!["sys/net/ipv4/ip_forward".to_owned()];
    for name in ["self", "thread-self", "1", "2", "3", "4", "5"] {
        for attribute in ["exec", "keycreate", "apparmor/exec"] {
            files.push(format!("{name}/attr/{attribute}"));
        }
    }
    c.without_mount("/proc").edit(|j| {
        j["linux"]["maskedPaths"] = json!([]);
        j["linux"]["readonlyPaths"] = json!([]);
    });
    let put = |name: &String| {
        let file = c.rootfs("/proc").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        file
    };
    files.iter().map(put).collect()
}

#[track_caller]
fn assert_unwritten(files: &[PathBuf]) {
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        assert_eq!(text, "", "a write was led astray: {}", file.display());
    }
}

// CVE-2025-62596
#[test]
fn cve_2025_52881_a_sysctl_is_written_in_a_procfs_that_nobody_else_has() {
    let host = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let before = host();
    let mut c = container!();
    let files = fake(&mut c);
    let value = if before == "1\n" { "0" } else { "1" };
    c.edit(|j| j["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": value}));
    c.run_detached().ok();
    assert_unwritten(&files);
    let mut enter = Command::new("nsenter");
    enter.args(["--net", "--target", &c.pid().to_string()]);
    let read = enter
        .args(["cat", "/proc/sys/net/ipv4/ip_forward"])
        .output();
    let read = String::from_utf8(read.unwrap().stdout).unwrap();
    assert_eq!(read, format!("{value}\n"));
    assert_eq!(host(), before);
}

#[test]
fn cve_2025_52881_a_profile_or_label_is_written_in_a_procfs_that_nobody_else_has() {
    let mut c = container!();
    let files = fake(&mut c);
    let of_init = |c: &Container, name: &str| {
        fs::read_to_string(format!("/proc/{}/attr/{name}", c.pid())).unwrap()
    };
    if lsm::apparmor_is_on() {
        let Some(profile) = lsm::Profile::load(&c, "faked") else {
            return;
        };
        c.edit(|j| j["process"]["apparmorProfile"] = json!(profile.name));
        c.run_detached().ok();
        assert_unwritten(&files);
        assert!(of_init(&c, "current").contains(&profile.enforced()));
    } else if lsm::selinux_is_on() {
        c.edit(|j| j["process"]["selinuxLabel"] = json!("unlabeled"));
        c.create().ok();
        assert_unwritten(&files);
        assert!(of_init(&c, "exec").contains("unlabeled"));
    } else {
        skipped("neither AppArmor nor SELinux is on");
    }
}

/// The container has mounted other files over the attributes of an exec process.
#[test]
fn cve_2019_16884_a_tmpfs_over_the_attributes_does_not_swallow_the_profile() {
    let mut c = container!();
    let Some(profile) = lsm::Profile::load(&c, "hidden") else {
        return;
    };
    c.run_detached().ok();
    let script = "mount -t tmpfs tmpfs /proc && for name in self thread-self $(seq 200); do \
        mkdir -p /proc/$name/attr/apparmor; : >/proc/$name/attr/exec; \
        : >/proc/$name/attr/apparmor/exec; done";
    let mut enter = Command::new("nsenter");
    enter.args([
        "--mount",
        "--target",
        &c.pid().to_string(),
        "/bin/sh",
        "-c",
        script,
    ]);
    assert!(enter.status().unwrap().success());
    let denied = format!(
        "{}; cat /proc/*/attr/exec /proc/*/attr/apparmor/exec",
        lsm::DENIED
    );
    let flags = ["--apparmor", profile.name.as_str()];
    let said = c.exec_with(&flags, &["/bin/sh", "-c", &denied]);
    assert_eq!(said.ok().stdout(), "denied\n");
}
