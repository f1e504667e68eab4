//! Containers in a mount namespace that is not their own: the caller's, or one joined by path.
//! Namespaces of other kinds have their own file.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, adopt, eventually, kernel};

fn own() -> String {
    kernel::namespace(std::process::id() as i32, "mnt")
}

/// A process in a new mount namespace that is a private copy of ours. It is killed on drop.
struct Holder(Child);

impl Holder {
    fn new() -> Holder {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sleep", "1000"]);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let holder = Holder(child);
        eventually("the holder has its namespace and runs sleep", || {
            let comm = fs::read_to_string(format!("/proc/{}/comm", holder.pid())).unwrap();
            comm.trim() == "sleep"
        });
        holder
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Uses the caller's mount namespace, with all mounts, masks and read-only paths of `base_config`.
fn without_own_namespace(c: &mut Container) {
    c.without_namespace("mount");
    c.edit(|j| j["root"]["readonly"] = json!(true));
}

#[test]
fn mounts_in_the_callers_mount_namespace_are_seen_by_the_container_only() {
    let before = kernel::host_mountinfo();
    let mut c = container!();
    let scratch = c.scratch();
    fs::write(scratch.join("file"), "from outside").unwrap();
    c.mount(
        "/outside",
        "bind",
        scratch.to_str().unwrap(),
        &["bind", "ro"],
    );
    without_own_namespace(&mut c);
    c.create().ok();
    assert_eq!(kernel::namespace(c.pid(), "mnt"), own());
    c.start().ok();
    assert_eq!(kernel::namespace(c.pid(), "mnt"), own());
    assert_eq!(kernel::host_mountinfo(), before);
    let seen = c.exec_output(
        "cat /outside/file; echo; stat -f -c %T / /proc /dev /sys /dev/shm; \
         head -c1 /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo $$",
    );
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "from outside");
    assert_eq!(lines[2..6], ["proc", "tmpfs", "sysfs", "tmpfs"]);
    assert_eq!(lines[6..8], ["0", "0"]);
    for file in [
        "/new",
        "/outside/new",
        "/sys/new",
        "/proc/sys/kernel/hostname",
    ] {
        let script = format!("echo x > {file}; true");
        let said = c.exec(&["/bin/sh", "-c", &script]).stderr();
        assert!(
            said.contains("Read-only") || said.contains("denied"),
            "{file}: {said}"
        );
    }
    assert_eq!(kernel::host_mountinfo(), before);
}

#[test]
fn a_container_without_mounts_in_the_callers_mount_namespace_is_a_chroot() {
    let mut c = container!();
    c.without_namespace("mount").without_namespace("pid");
    c.edit(|j| {
        j["mounts"] = json!([]);
        for list in ["maskedPaths", "readonlyPaths"] {
            j["linux"][list] = json!([]);
        }
    });
    c.run_detached().ok();
    assert_eq!(kernel::namespace(c.pid(), "mnt"), own());
    assert_eq!(c.exec_output("ls /etc"), "group\npasswd\n");
}

#[test]
fn without_a_mount_namespace_of_its_own_even_a_capable_container_mounts_nothing() {
    let before = kernel::host_mountinfo();
    let mut c = container!();
    c.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    without_own_namespace(&mut c);
    c.script("mount -t tmpfs tmpfs /tmp; umount /proc; umount -l /; sleep 1000");
    c.run_detached().ok();
    eventually("the payload is done", || {
        c.payload_output().is_empty() && kernel::alive(c.pid())
    });
    assert_eq!(c.exec_output("mountpoint -q /tmp || echo none"), "none\n");
    assert_eq!(kernel::host_mountinfo(), before);
}

#[test]
fn hooks_of_a_container_in_the_callers_mount_namespace_see_its_root_where_config_json_says() {
    let mut c = container!();
    without_own_namespace(&mut c);
    let out = c.scratch().join("out");
    let script = format!(
        "mountpoint -q {}/dev && readlink /proc/self/ns/mnt >{}",
        c.rootfs("").display(),
        out.display()
    );
    c.edit(|j| {
        j["hooks"]["createContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    });
    c.run_detached().ok();
    // The hook runs in the mount namespace in which the mounts are made. The container leaves that
    // namespace later.
    assert_ne!(fs::read_to_string(out).unwrap().trim(), own());
    assert_eq!(kernel::namespace(c.pid(), "mnt"), own());
}

#[test]
fn a_joined_mount_namespace_gets_the_containers_root_and_mounts() {
    let before = kernel::host_mountinfo();
    let holder = Holder::new();
    let mut c = container!();
    c.join_namespace("mount", &format!("/proc/{}/ns/mnt", holder.pid()));
    let scratch = c.scratch();
    fs::write(scratch.join("file"), "from outside").unwrap();
    c.mount(
        "/outside",
        "bind",
        scratch.to_str().unwrap(),
        &["bind", "ro"],
    );
    c.edit(|j| j["root"]["readonly"] = json!(true));
    c.create().ok();
    let (init, held) = (c.pid(), kernel::namespace(holder.pid(), "mnt"));
    assert_eq!(kernel::namespace(init, "mnt"), held);
    assert_ne!(held, own());
    c.start().ok();
    assert_eq!(c.exec_output("cat /outside/file"), "from outside");
    for target in ["/", "/proc", "/dev", "/sys", "/outside"] {
        assert!(kernel::mount_at(init, target).is_some(), "{target}");
    }
    assert!(kernel::mount_at(init, "/").unwrap().has("ro"));
    assert_eq!(kernel::host_mountinfo(), before);
    // pivot_root(2): processes that had the old root now have the new one.
    let root = format!("/proc/{}/root/etc", holder.pid());
    assert_eq!(fs::read_dir(root).unwrap().count(), 2);
    c.kill("KILL").ok();
    c.wait();
    c.delete(&[]).ok();
    assert_eq!(kernel::host_mountinfo(), before);
}

#[test]
fn the_callers_own_mount_namespace_by_path_is_refused_by_name() {
    let before = kernel::host_mountinfo();
    let mut c = container!();
    for path in ["/proc/self/ns/mnt", "/proc/1/ns/mnt"] {
        c.join_namespace("mount", path);
        c.create()
            .exits(1)
            .says(path)
            .says("linux.namespaces[5].path")
            .one_line();
        c.assert_nothing_left();
    }
    assert_eq!(kernel::host_mountinfo(), before);
}

#[test]
fn a_mount_namespace_of_another_container_has_no_root_of_ours_and_stays_as_it_is() {
    let mut first = container!();
    let mut second = container!();
    first.run_detached().ok();
    let before = fs::read_to_string(format!("/proc/{}/mountinfo", first.pid())).unwrap();
    second.join_namespace("mount", &format!("/proc/{}/ns/mnt", first.pid()));
    second.create().exits(1).says("root.path").one_line();
    second.assert_nothing_left();
    let after = fs::read_to_string(format!("/proc/{}/mountinfo", first.pid())).unwrap();
    assert_eq!(after, before);
    assert_eq!(first.exec_output("ls /etc"), "group\npasswd\n");
}

#[test]
fn propagation_is_refused_without_a_mount_namespace_of_its_own() {
    let mut c = container!();
    without_own_namespace(&mut c);
    c.edit(|j| j["linux"]["rootfsPropagation"] = json!("rshared"));
    c.create()
        .exits(1)
        .says("linux.rootfsPropagation")
        .one_line();
    c.edit(|j| j["linux"]["rootfsPropagation"] = json!("rprivate"));
    c.mount("/mnt", "tmpfs", "tmpfs", &["rslave"]);
    c.create().exits(1).says("mounts[6].options").one_line();
    c.assert_nothing_left();
    c.without_mount("/mnt");
    c.run_detached().ok();
}

#[test]
fn a_terminal_is_the_containers_own_in_the_callers_mount_namespace_too() {
    let mut c = container!();
    without_own_namespace(&mut c);
    c.script("tty; readlink /proc/self/fd/0; stat -c %t:%T /dev/console; sleep 1000");
    c.edit(|j| j["process"]["terminal"] = json!(true));
    let path = c.scratch().join("console");
    let socket = ConsoleSocket::listen(&path);
    let flags = ["--detach", "--console-socket", path.to_str().unwrap()];
    c.make("run", &flags).ok();
    let screen = Screen::of(socket.receive().descriptors.pop().unwrap());
    screen.wait_for("/dev/pts/0");
    screen.wait_for("88:0");
    let file = c.scratch().join("exec-pid");
    let files = [file.to_str().unwrap(), path.to_str().unwrap()];
    let flags = [
        "--tty",
        "--detach",
        "--pid-file",
        files[0],
        "--console-socket",
        files[1],
    ];
    c.exec_with(&flags, &["/bin/sh", "-c", "tty"]).ok();
    adopt(fs::read_to_string(&file).unwrap().parse().unwrap());
    let screen = Screen::of(socket.receive().descriptors.pop().unwrap());
    screen.wait_for("/dev/pts/1");
}

#[test]
fn a_thousand_mounts_are_taken_along() {
    let mut c = container!();
    without_own_namespace(&mut c);
    for index in 0..1000 {
        let mount = json!({"destination": format!("/m/{index}"), "type": "bind", "source": "rootfs/etc", "options": ["bind", "ro"]});
        c.config_mounts().push(mount);
    }
    c.script("cat /m/*/passwd | grep -c ^root:");
    c.edit(|j| j["root"]["readonly"] = json!(false));
    c.run().ok();
    let output = c.run();
    assert_eq!(output.ok().stdout(), "1000\n");
}

#[test]
fn a_joined_mount_namespace_that_is_a_peer_of_the_callers_sends_nothing_back() {
    let mut c = container!();
    c.join_namespace("mount", "/proc/HOLDER/ns/mnt");
    c.script("sleep 0.2");
    // The command has a shared `/` of its own. The holder's mounts are its peers.
    let script = r#"
        set -e
        mount --make-rshared /
        unshare --mount --propagation unchanged sleep 1000 & holder=$!
        trap "kill $holder" EXIT
        while [ "$(readlink /proc/$holder/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; do sleep 0.05; done
        sed -i "s/HOLDER/$holder/" "$0/config.json"
        before=$(cat /proc/self/mountinfo)
        "$@"
        [ "$before" = "$(cat /proc/self/mountinfo)" ]"#;
    let inner = c.command(&["run", "--bundle"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(c.dir());
    command.arg(inner.get_program()).args(inner.get_args());
    command.arg(c.dir()).arg(&c.id).stdin(Stdio::null());
    c.finish(command).ok();
}

#[test]
fn in_a_plain_chroot_the_error_says_that_the_root_is_no_mount_point() {
    let c = container!();
    let jail = c.scratch().join("jail");
    fs::create_dir(&jail).unwrap();
    let script = r#"
        set -e
        cd "$1"; mkdir proc sys run dev
        cp "$2" orlop; cp -a "$3" bundle
        mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev
        exec chroot . /orlop --root /run/orlop run --bundle /bundle "$4""#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&jail);
    command
        .arg(c.program())
        .arg(c.dir())
        .arg(&c.id)
        .stdin(Stdio::null());
    let output = c.finish(command);
    output
        .exits(1)
        .says("/ is not a mount point")
        .says("chroot")
        .one_line();
}
