//! --no-pivot: the host's root stays in the container's mount namespace, but must not be reachable.
//! Common properties of all containers are in `mounts` and `security`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::harness::{Container, eventually};

/// Mounts a procfs and a sysfs in a user namespace of the container's own. A process that sees only
/// masked ones may not do so.
const ATTACK: &str = "\
    busybox unshare -mrpf sh -c 'mount -t proc proc /tmp && ls /tmp/sys/kernel/core_pattern && : >>/tmp/sys/kernel/core_pattern && echo open'; \
    busybox unshare -mrn sh -c 'mount -t sysfs sysfs /tmp && ls /tmp/kernel && echo mounted'; \
    busybox unshare -mr true && echo attacked; ls /proc/self/fd >/dev/null && ls /sys/class >/dev/null && echo usable";

fn assert_fails(c: &mut Container, run: impl FnOnce(&Container) -> crate::harness::Output) {
    // Engines grant this capability. Without it no process can map root.
    c.capabilities(&["bounding", "effective", "permitted"], &["CAP_SETFCAP"]);
    c.script(ATTACK);
    let output = run(c);
    output.ok();
    assert_eq!(output.stdout(), "attacked\nusable\n", "{}", output.stderr());
}

#[test]
fn no_full_procfs_or_sysfs_of_the_host_stays_in_the_mount_namespace() {
    for (user_namespace, hook) in [(false, false), (false, true), (true, false)] {
        let mut c = container!();
        if user_namespace {
            c.user_namespace();
        }
        if hook {
            c.edit(|j| {
                j["hooks"]["createContainer"] = serde_json::json!([{"path": "/usr/bin/true"}]);
            });
        }
        assert_fails(&mut c, |c| {
            run_after(c, &[ONLY_THE_USUAL, "exec \"$@\""].concat(), &[])
        });
    }
}

/// Unmounts the mounts of procfs and sysfs by other users of the machine, which root of a user
/// namespace may be unable to reach.
const ONLY_THE_USUAL: &str = r#"
    sed -n 's/^[0-9]* [0-9]* [^ ]* \/ \([^ ]*\) .* - \(proc\|sysfs\) .*/\1/p' /proc/self/mountinfo |
    while read -r at; do case $at in /proc|/sys) ;; *) umount -l "$at";; esac; done
    "#;

/// Runs `run --no-pivot` in a copy of our mount namespace that a script has changed.
fn run_after(
    c: &Container,
    script: &str,
    arguments: &[&std::path::Path],
) -> crate::harness::Output {
    let inner = c.command(&["run", "--no-pivot", "--bundle"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.args(arguments);
    command.arg(inner.get_program()).args(inner.get_args());
    command.arg(c.dir()).arg(&c.id).stdin(Stdio::null());
    c.finish(command)
}

// The caller owns the directories of the views and can reach them.
#[test]
fn views_that_root_of_a_user_namespace_cannot_reach_are_covered() {
    let mut c = container!();
    c.user_namespace();
    let secret = c.scratch().join("secret");
    for name in ["proc", "sys"] {
        fs::create_dir_all(secret.join(name)).unwrap();
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let script = r#"mount -t proc proc "$1/proc"; mount -t sysfs sysfs "$1/sys"; shift; exec "$@""#;
    let script = [ONLY_THE_USUAL, script].concat();
    assert_fails(&mut c, |c| run_after(c, &script, &[&secret]));
}

#[test]
fn a_view_that_another_mount_hides_is_refused_by_its_path_in_a_user_namespace() {
    let mut c = container!();
    c.user_namespace();
    let hidden = c.scratch().join("hidden");
    fs::create_dir_all(hidden.join("deep")).unwrap();
    let script = r#"mount -t proc proc "$1/deep"; mount -t tmpfs tmpfs "$1"; shift; exec "$@""#;
    let script = [ONLY_THE_USUAL, script].concat();
    let output = run_after(&c, &script, &[&hidden]);
    let said = output.exits(1).one_line();
    said.says(hidden.join("deep").to_str().unwrap())
        .says("unmount one on the host");
    c.assert_nothing_left();
}

// The kernel checks all mounts of the namespace, not only those that a path leads to.
#[test]
fn views_at_other_places_and_hidden_ones_are_closed_as_well() {
    let mut c = container!();
    let scratch = c.scratch();
    // The root has a mount below it. The clone of the root includes that mount and hides the
    // original. Also, a directory around the root is bound in the container.
    let in_root = c.rootfs("/given");
    for dir in [
        &scratch.join("a b"),
        &scratch.join("hidden/deep"),
        &scratch.join("twice"),
        &in_root,
    ] {
        fs::create_dir_all(dir).unwrap();
    }
    c.edit(|j| {
        let masked = j["linux"]["maskedPaths"].as_array_mut().unwrap();
        masked.push(serde_json::json!("/given"));
    });
    c.mount(
        "/bound",
        "bind",
        scratch.join("..").to_str().unwrap(),
        &["bind"],
    );
    c.mount("/etc", "bind", "rootfs/etc", &["rbind"]);
    let script = r#"
        set -e
        cd "$1"; root=$2; shift 2
        mount -t sysfs sysfs "a b"
        mount -t proc proc hidden/deep
        mount -t tmpfs tmpfs hidden
        mount -t proc proc twice
        mount -t proc proc twice
        mount -t proc proc "$root"
        exec "$@""#;
    assert_fails(&mut c, |c| run_after(c, script, &[&scratch, &in_root]));
}

#[test]
fn a_root_that_is_the_hosts_is_entered() {
    let mut c = container!();
    c.edit(|j| j["root"] = serde_json::json!({"path": "/", "readonly": true}));
    c.mount("/tmp", "bind", "/", &["rbind", "ro"]);
    let mark = c.scratch().join("mark");
    fs::write(&mark, "the host's\n").unwrap();
    c.args(&["/bin/cat", &format!("/tmp{}", mark.display())]);
    for flags in [&["--no-pivot"][..], &[]] {
        let output = c.make("run", flags);
        output.ok();
        assert_eq!(output.stdout(), "the host's\n");
    }
}

#[test]
fn a_joined_mount_namespace_keeps_no_full_view_either() {
    let mut c = container!();
    let mut holder = Command::new("unshare");
    holder.args(["--mount", "sleep", "1000"]);
    let mut holder = holder.stdin(Stdio::null()).spawn().unwrap();
    let comm = format!("/proc/{}/comm", holder.id());
    eventually("the holder runs", || {
        fs::read_to_string(&comm).unwrap().trim() == "sleep"
    });
    c.join_namespace("mount", &format!("/proc/{}/ns/mnt", holder.id()));
    assert_fails(&mut c, |c| {
        let output = c.make("run", &["--no-pivot"]);
        holder.kill().unwrap();
        holder.wait().unwrap();
        output
    });
}

// In a chroot, mountinfo doesn't show a process any mounts outside of it.
#[test]
fn a_caller_in_a_chroot_leaves_no_view_outside_of_it_either() {
    let mut c = container!();
    let top = c.scratch().join("top");
    fs::create_dir(&top).unwrap();
    let script = "mount --rbind / \"$1\" && top=$1 && shift && exec chroot \"$top\" \"$@\"";
    assert_fails(&mut c, |c| run_after(c, script, &[&top]));
}
