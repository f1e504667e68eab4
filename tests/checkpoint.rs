//! `checkpoint` and `restore`: the kernel's records of a container before and afterwards.
//! On a host where CRIU doesn't work, tests that need it are skipped with CRIU's own reason.
//! Refusals before CRIU is called are tested everywhere.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use serde_json::json;

use crate::harness::systemd::{Manner, Systemd};
use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, Output, eventually, kernel, skipped, wait_for};

/// Counts in a file of the root.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i >/tmp/n && mv /tmp/n /count; sleep 0.02; done";

/// The reason why CRIU can't be used here, if any.
fn obstacle() -> Option<String> {
    let check = match Command::new("criu").arg("check").output() {
        Ok(check) => check,
        Err(e) => return Some(format!("criu: {e}")),
    };
    if !check.status.success() {
        let text = String::from_utf8_lossy(&check.stderr).into_owned();
        let reason = text.lines().find(|line| line.contains("Error"));
        let reason = reason.unwrap_or("it failed without a reason").to_owned();
        return Some(format!("criu check: {reason}"));
    }
    let locks = Command::new("iptables-restore").arg("--version").output();
    locks
        .err()
        .map(|e| format!("iptables-restore, by which CRIU blocks the network: {e}"))
}

/// A hierarchy of cgroup v1 is seen by all processes of the machine: the test that makes one runs
/// alone.
static HIERARCHIES: RwLock<()> = RwLock::new(());

thread_local! {
    /// What this test holds of `HIERARCHIES` until its thread ends.
    static SHARED: RefCell<Option<RwLockReadGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// A container that counts. Returns None and counts the test as skipped if CRIU can't be used.
fn counter() -> Option<Container> {
    SHARED.with_borrow_mut(|held| {
        held.get_or_insert_with(|| HIERARCHIES.read().unwrap_or_else(PoisonError::into_inner));
    });
    if let Some(why) = obstacle() {
        skipped(&why);
        return None;
    }
    let mut c = Container::new()?;
    c.script(COUNTER);
    Some(c)
}

macro_rules! counter {
    () => {
        match counter() {
            Some(container) => container,
            None => return,
        }
    };
}

mod files;
mod inside;
mod memory;
mod network;
mod outside;
mod places;

fn images(c: &Container) -> String {
    c.scratch().join("images").to_str().unwrap().to_owned()
}

/// Runs detached. Standard input and output must not be the test's, as a restore could not bring
/// those back.
#[track_caller]
fn run(c: &Container, globals: &[&str]) {
    let log = c.scratch().join("log");
    let mut all = globals.to_vec();
    all.extend([
        "--log",
        log.to_str().unwrap(),
        "run",
        "--detach",
        "--bundle",
    ]);
    let pid_file = c.pid_file();
    all.extend([c.dir().to_str().unwrap(), "--pid-file"]);
    all.extend([pid_file.to_str().unwrap(), &c.id]);
    let runtime = c.command(&all);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec \"$@\" </dev/null >/dev/null 2>&1", "sh"]);
    shell.arg(runtime.get_program()).args(runtime.get_args());
    shell.envs(
        runtime
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    let output = c.finish(shell);
    let log = fs::read_to_string(log).unwrap_or_default();
    assert_eq!(output.code, 0, "{log}");
}

#[track_caller]
fn checkpoint(c: &Container, flags: &[&str]) -> Output {
    let images = images(c);
    let mut all = vec!["checkpoint", "--image-path", &images];
    all.extend(flags);
    all.push(&c.id);
    c.runtime(&all)
}

/// Checkpoints the container and reaps its init.
#[track_caller]
fn checkpointed(c: &Container, flags: &[&str]) {
    let output = checkpoint(c, flags);
    output.ok();
    assert_eq!(
        (output.stdout(), output.stderr()),
        (String::new(), String::new())
    );
    assert_eq!(c.wait(), 128 + 9);
}

#[track_caller]
fn restore(c: &Container, flags: &[&str]) -> Output {
    let images = images(c);
    let mut all = vec!["--image-path", &images];
    all.extend(flags);
    c.make("restore", &all)
}

#[track_caller]
fn restored(c: &Container, flags: &[&str]) {
    let mut all = vec!["--detach"];
    all.extend(flags);
    let output = restore(c, &all);
    output.ok();
    assert_eq!(output.stderr(), "");
}

fn count(c: &Container) -> u64 {
    let text = fs::read_to_string(c.rootfs("/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Waits until the counter has continued from its former value, not from the start.
#[track_caller]
fn goes_on(c: &Container, from: u64) -> u64 {
    let mut now = 0;
    eventually("the counter goes on", || {
        now = count(c);
        assert!(now >= from, "{now} after {from}");
        now > from + 2
    });
    now
}

/// A directory with a program `criu` that runs this script.
fn fake_criu(c: &Container, script: &str) -> PathBuf {
    let dir = c.scratch().join("fake");
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("criu");
    fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

#[track_caller]
fn checkpoint_with_path(c: &Container, path: &Path) -> Output {
    let images = images(c);
    let mut command = c.command(&["checkpoint", "--image-path", &images, &c.id]);
    command.env("PATH", format!("{}:/bin:/usr/bin", path.display()));
    if path == Path::new("/nowhere") {
        command.env("PATH", path);
    }
    c.finish(command)
}

#[test]
fn a_counter_goes_on_after_checkpoint_and_restore() {
    let c = counter!();
    run(&c, &[]);
    let mut last = goes_on(&c, 0);
    for _ in 0..3 {
        let cgroup = c.cgroup();
        checkpointed(&c, &[]);
        let at = count(&c);
        assert!(at >= last);
        // As with runc, only the files of the container are left.
        c.runtime(&["state", &c.id])
            .exits(1)
            .says("container does not exist");
        assert!(!cgroup.exists());
        assert_eq!(count(&c), at);
        restored(&c, &[]);
        last = goes_on(&c, at);
        assert_eq!(c.status(), "running");
        assert_eq!(kernel::cgroup_of(c.pid()), c.cgroup_path());
        assert_eq!(c.exec_output("cat /proc/self/cgroup | tail -n 1"), "0::/\n");
    }
    c.delete(&["--force"]).ok();
    c.wait();
    c.assert_nothing_left();
}

#[test]
fn what_the_kernel_says_of_a_restored_process_is_what_it_said_before() {
    let mut c = counter!();
    c.edit(|j| {
        j["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
        });
        j["process"]["oomScoreAdj"] = json!(77);
        j["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 63, "additionalGids": [5, 7]});
    });
    run(&c, &[]);
    let fields = [
        "Uid",
        "Gid",
        "Groups",
        "Umask",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "SigBlk",
        "SigIgn",
    ];
    let of = |pid: i32| {
        let mut said: Vec<String> = fields.map(|field| kernel::status(pid, field)).into();
        said.push(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap());
        said.push(format!("{:?}", kernel::limit(pid, "Max open files")));
        // The descriptors must include none of the runtime, of CRIU or of the caller.
        said.push(format!("{:?}", kernel::descriptors(pid)));
        said.extend(places(pid));
        said
    };
    goes_on(&c, 0);
    let before = of(c.pid());
    checkpointed(&c, &[]);
    restored(&c, &[]);
    assert_eq!(of(c.pid()), before);
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let (its, own) = (
            kernel::namespace(c.pid(), name),
            kernel::namespace(std::process::id() as i32, name),
        );
        assert_ne!(its, own, "{name}");
    }
    assert!(
        c.exec_output("cat /sys/class/net/lo/flags")
            .starts_with("0x9")
    );
}

/// The mount points of a process, each with `true` if it is read-only.
fn places(pid: i32) -> Vec<String> {
    let mut places: Vec<String> = kernel::mounts(pid)
        .iter()
        .map(|mount| format!("{} {}", mount.target, mount.has("ro")))
        .collect();
    places.sort();
    places
}

#[test]
fn a_restored_container_has_no_keyring_of_the_callers() {
    let mut c = counter!();
    if !Path::new("/proc/keys").exists() {
        return skipped("the kernel has no keyrings");
    }
    c.edit(|j| {
        let masked = j["linux"]["maskedPaths"].as_array_mut().unwrap();
        masked.retain(|path| path != "/proc/keys");
    });
    c.script("while :; do cat /proc/keys >/tmp/k && mv /tmp/k /keys; sleep 0.05; done");
    run(&c, &[]);
    c.wait_file("/keys");
    checkpointed(&c, &[]);
    fs::remove_file(c.rootfs("/keys")).unwrap();
    restored(&c, &[]);
    c.wait_file("/keys");
    let name = format!("_ses.{}:", c.id);
    eventually("init lists the keyring of the container", || {
        let keys = fs::read_to_string(c.rootfs("/keys")).unwrap_or_default();
        keys.contains(&name)
    });
    // An exec process finds the same keyring.
    let keys = c.exec_output("cat /proc/keys");
    assert_eq!(keys.matches(&name).count(), 1, "{keys}");
}

#[test]
fn a_terminal_comes_back_by_the_console_socket() {
    let mut c = counter!();
    c.script("stty -echo; while read line; do echo got $line; done");
    c.edit(|j| j["process"]["terminal"] = json!(true));
    let socket = c.scratch().join("console");
    let listener = ConsoleSocket::listen(&socket);
    let console = ["--console-socket", socket.to_str().unwrap()];
    c.make("run", &["--detach", console[0], console[1]]).ok();
    let mut screen = Screen::of(listener.receive().descriptors.remove(0));
    screen.type_in("one\n");
    screen.wait_for("got one");
    checkpointed(&c, &[]);
    drop(screen);
    restored(&c, &console);
    let mut received = listener.receive();
    assert_eq!(received.descriptors.len(), 1);
    let mut screen = Screen::of(received.descriptors.remove(0));
    screen.type_in("two\n");
    screen.wait_for("got two");
    // Without a socket the terminal can't be passed on. The error comes before anything is created.
    let images = images(&c);
    let bundle = c.dir().to_str().unwrap();
    let flags = [
        "restore",
        "--detach",
        "--image-path",
        &images,
        "--bundle",
        bundle,
        "other",
    ];
    c.runtime(&flags).exits(1).says("cannot allocate tty");
}

#[test]
fn pipes_of_the_caller_are_those_of_the_restore() {
    let mut c = counter!();
    c.script("while read line; do echo got $line; done; echo end; sleep 1000");
    let start = |args: &[&str]| {
        let mut command = c.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let (bundle, pid_file) = (c.dir().to_str().unwrap(), c.pid_file());
    let place = [
        "--detach",
        "--bundle",
        bundle,
        "--pid-file",
        pid_file.to_str().unwrap(),
        &c.id,
    ];
    let mut first = start(&[&["run"], &place[..]].concat());
    let mut first_input = first.stdin.take().unwrap();
    assert!(wait_for(&mut first).success());
    first_input.write_all(b"one\n").unwrap();
    checkpointed(&c, &[]);
    fs::remove_file(&pid_file).unwrap();
    let images = images(&c);
    let mut second = start(&[&["restore", "--image-path", &images], &place[..]].concat());
    let mut output = second.stdout.take().unwrap();
    assert!(wait_for(&mut second).success());
    second.stdin.take().unwrap().write_all(b"two\n").unwrap();
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"end\n") && output.read(&mut byte).unwrap() == 1 {
        text.push(byte[0]);
    }
    assert_eq!(String::from_utf8(text).unwrap(), "got two\nend\n");
}

#[test]
fn a_listener_takes_connections_after_a_restore() {
    let mut c = counter!();
    fs::create_dir(c.rootfs("/www")).unwrap();
    fs::write(c.rootfs("/www/page"), "hello").unwrap();
    c.args(&["/bin/busybox", "httpd", "-f", "-p", "7777", "-h", "/www"]);
    run(&c, &[]);
    let page = "http://127.0.0.1:7777/page";
    let ask = ["/bin/busybox", "wget", "-q", "-O", "-", page];
    eventually("it listens", || c.exec(&ask).stdout() == "hello");
    let output = checkpoint(&c, &[]);
    if output.stderr().contains("Can't get 1:") {
        return skipped(&format!("this CRIU on this kernel: {}", output.stderr()));
    }
    output.ok();
    c.wait();
    c.exec(&ask).exits(255);
    restored(&c, &[]);
    assert_eq!(c.exec(&ask).stdout(), "hello");
}

#[test]
fn bind_mounts_come_from_where_the_config_of_the_restore_says() {
    let mut c = counter!();
    let (one, two, nested) = (
        c.scratch().join("1"),
        c.scratch().join("2"),
        c.scratch().join("n"),
    );
    for (dir, text) in [(&one, "one"), (&two, "two"), (&nested, "nested")] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("file"), text).unwrap();
    }
    fs::create_dir(c.rootfs("/real")).unwrap();
    symlink("/real", c.rootfs("/link")).unwrap();
    c.mount(
        "/link/there",
        "bind",
        one.to_str().unwrap(),
        &["bind", "ro"],
    );
    c.mount(
        "/link/there/deep/er",
        "bind",
        nested.to_str().unwrap(),
        &["bind"],
    );
    // On a host with shared mounts, CRIU looks for the mount that has the source.
    c.mount("/self", "bind", ".", &["bind"]);
    // A mount point can't be created in a read-only mount, so it must exist.
    fs::create_dir_all(one.join("deep/er")).unwrap();
    run(&c, &[]);
    goes_on(&c, 0);
    checkpointed(&c, &[]);
    // As in a restore from another bundle under another id, the root lacks the mount points.
    fs::create_dir_all(two.join("deep/er")).unwrap();
    fs::remove_dir_all(c.rootfs("/real/there")).unwrap();
    c.edit(|j| {
        for mount in j["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/link/there" {
                mount["source"] = json!(two);
            }
        }
    });
    restored(&c, &[]);
    let seen = c.exec_output("cat /real/there/file /real/there/deep/er/file");
    assert_eq!(seen, "twonested");
    let mount = kernel::mount_at(c.pid(), "/real/there").unwrap();
    assert!(mount.has("ro"), "{}", mount.line);
    c.exec(&["/bin/touch", "/real/there/new"]).exits(1);
    c.exec(&["/bin/stat", "/self/config.json"]).ok();
}

#[test]
fn a_link_that_the_container_has_exchanged_does_not_open_what_is_read_only() {
    let mut c = counter!();
    let (secret, data) = (c.scratch().join("secret"), c.scratch().join("data"));
    fs::create_dir(&secret).unwrap();
    fs::create_dir(&data).unwrap();
    for dir in ["/real/ro", "/other", "/rw"] {
        fs::create_dir_all(c.rootfs(dir)).unwrap();
    }
    symlink("/real", c.rootfs("/link")).unwrap();
    symlink("/rw", c.rootfs("/other/ro")).unwrap();
    c.mount(
        "/link/ro",
        "bind",
        secret.to_str().unwrap(),
        &["bind", "ro"],
    );
    c.mount("/rw", "bind", data.to_str().unwrap(), &["bind"]);
    run(&c, &[]);
    let last = goes_on(&c, 0);
    c.exec_output("rm /link && ln -s /other /link");
    checkpoint(&c, &[])
        .exits(1)
        .one_line()
        .says("a mount that has other flags by now (config.json: mounts[6])");
    assert_eq!(c.status(), "running");
    goes_on(&c, last);
}

#[test]
fn a_container_may_run_on_and_be_dumped_in_steps() {
    let c = counter!();
    run(&c, &[]);
    let mut last = goes_on(&c, 0);
    checkpoint(&c, &["--leave-running"]).ok();
    assert_eq!(c.status(), "running");
    last = goes_on(&c, last);
    checkpoint(&c, &["--parent-path", "/etc"])
        .exits(1)
        .says("--parent-path");
    checkpoint(&c, &["--parent-path", "../nothing"])
        .exits(1)
        .says("invalid --parent-path ../nothing: open: ENOENT");
    let first = c.scratch().join("first");
    let pre = [
        "checkpoint",
        "--pre-dump",
        "--image-path",
        first.to_str().unwrap(),
        &c.id,
    ];
    let output = c.runtime(&pre);
    let lacks = output
        .stderr()
        .contains("does not support tracking of memory");
    if output.code != 0 && lacks {
        return skipped("this kernel does not track memory");
    }
    output.ok();
    assert_eq!(c.status(), "running");
    last = goes_on(&c, last);
    checkpointed(&c, &["--parent-path", "../first"]);
    assert!(Path::new(&images(&c)).join("parent").exists());
    restored(&c, &[]);
    goes_on(&c, last);
}

#[test]
fn a_paused_container_is_dumped_and_comes_back_running() {
    let c = counter!();
    run(&c, &[]);
    let last = goes_on(&c, 0);
    c.runtime(&["pause", &c.id]).ok();
    checkpoint(&c, &["--leave-running"]).ok();
    assert_eq!(c.status(), "paused");
    checkpointed(&c, &[]);
    restored(&c, &[]);
    goes_on(&c, last);
}

#[test]
fn a_checkpoint_that_fails_names_the_log_and_leaves_the_container_running() {
    let mut c = counter!();
    // Standard output is a file outside of the container.
    c.run_detached().ok();
    let last = goes_on(&c, 0);
    let work = c.scratch().join("work");
    let output = checkpoint(&c, &["--work-path", work.to_str().unwrap()]);
    let said = "criu failed to checkpoint the container; its last error in";
    output.exits(1).one_line();
    output.says(&format!("{said} {}/dump.log: (", work.display()));
    assert_eq!(c.status(), "running");
    assert!(c.root_entries().contains(&c.id));
    goes_on(&c, last);
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let c = counter!();
    fs::create_dir(images(&c)).unwrap();
    let output = restore(&c, &["--detach"]);
    output
        .exits(1)
        .one_line()
        .says("criu failed to restore the container");
    output.says(&format!("its last error in {}/restore.log: (", images(&c)));
    assert!(!c.pid_file().exists());
    c.assert_nothing_left();
    fs::remove_dir_all(images(&c)).unwrap();
    restore(&c, &["--detach"])
        .exits(1)
        .one_line()
        .says("(--image-path): open: ENOENT");
    c.assert_nothing_left();
}

#[test]
fn a_restore_in_the_foreground_ends_with_the_code_of_its_process() {
    let mut c = counter!();
    c.script("echo >/begun; while ! test -e /end; do sleep 0.05; done; exit 7");
    run(&c, &[]);
    c.wait_file("/begun");
    checkpointed(&c, &[]);
    fs::write(c.rootfs("/end"), "").unwrap();
    restore(&c, &[]).exits(7);
    assert!(c.root_entries().is_empty());
    restore(&c, &["--keep"]).exits(7);
    assert_eq!(c.status(), "stopped");
    restore(&c, &["--keep"]).exits(1).says("already exists");
    c.delete(&[]).ok();
    c.assert_nothing_left();
}

#[test]
fn hooks_of_a_restore_are_those_that_runc_runs() {
    let mut c = counter!();
    let log = c.scratch().join("hooks");
    let hook = |name: &str| {
        let script = format!(
            "read state; echo {name} ${{state%%,\\\"ociV*}} >>{}",
            log.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    c.edit(|j| {
        for kind in [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ] {
            j["hooks"][kind] = hook(kind);
        }
    });
    // A createContainer hook would run in the container.
    c.edit(|j| {
        j["hooks"]
            .as_object_mut()
            .unwrap()
            .remove("createContainer");
    });
    run(&c, &[]);
    goes_on(&c, 0);
    let take = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let names = text
            .lines()
            .map(|line| line.split(' ').next().unwrap().to_owned());
        (names.collect::<Vec<_>>(), text)
    };
    assert_eq!(take().0, ["prestart", "createRuntime", "poststart"]);
    checkpointed(&c, &[]);
    assert_eq!(take().0, ["poststop"]);
    restored(&c, &[]);
    let (names, text) = take();
    assert_eq!(names, ["prestart", "createRuntime"]);
    assert!(text.contains(&format!("\"pid\":{}", c.pid())), "{text}");
    // A failing hook stops the restore.
    c.delete(&["--force"]).ok();
    c.wait();
    c.edit(|j| j["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}));
    fs::remove_file(c.pid_file()).unwrap();
    restore(&c, &["--detach"])
        .exits(1)
        .says("error running createRuntime hook #0");
    c.assert_nothing_left();
}

#[test]
fn a_network_namespace_that_is_joined_stays_that_one() {
    let mut c = counter!();
    let mut holder = Command::new("unshare")
        .args(["--net", "sleep", "1000"])
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = kernel::namespace(std::process::id() as i32, "net");
    eventually("the namespace is there", || {
        kernel::namespace(holder.id() as i32, "net") != own
    });
    c.join_namespace("network", &path);
    run(&c, &[]);
    let last = goes_on(&c, 0);
    checkpointed(&c, &[]);
    restored(&c, &[]);
    goes_on(&c, last);
    let same = kernel::namespace(c.pid(), "net") == kernel::namespace(holder.id() as i32, "net");
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(same);
}

#[test]
fn limits_are_those_of_the_config_after_a_restore() {
    let mut c = counter!();
    if !kernel::has_controllers(&["memory", "pids"]) {
        return;
    }
    c.edit(|j| {
        j["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        j["linux"]["resources"]["pids"] = json!({"limit": 50});
    });
    run(&c, &[]);
    let last = goes_on(&c, 0);
    checkpointed(&c, &[]);
    c.edit(|j| j["linux"]["resources"]["pids"] = json!({"limit": 60}));
    restored(&c, &[]);
    goes_on(&c, last);
    let says = |file: &str| kernel::cgroup_value(&c.cgroup(), file);
    assert_eq!(says("memory.max"), (64 << 20).to_string());
    assert_eq!(says("pids.max"), "60");
}

#[test]
fn a_scope_is_made_around_what_comes_back() {
    let mut c = counter!();
    let parent = c.cgroup().parent().unwrap().to_owned();
    let systemd = Systemd::start(&c.scratch(), parent, Manner::Well);
    c.set_env("DBUS_SYSTEM_BUS_ADDRESS", &systemd.address);
    let path = format!("a-b.slice:orlop:{}", c.id);
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    run(&c, &["--systemd-cgroup"]);
    let mut last = goes_on(&c, 0);
    for mode in ["soft", "ignore"] {
        let mode = ["--manage-cgroups-mode", mode];
        checkpointed(&c, &mode);
        systemd.collect();
        let made = systemd.members().len();
        restored(&c, &[&["--systemd-cgroup"], &mode[..]].concat());
        assert_eq!(systemd.members()[made..], ["StartTransientUnit"]);
        last = goes_on(&c, last);
        let scope = format!("orlop-{}.scope", c.id);
        assert!(kernel::cgroup_of(c.pid()).ends_with(&scope));
        let own = c.exec_output("cat /proc/1/cgroup");
        assert_eq!(own.lines().last(), Some("0::/"));
    }
    c.delete(&["--force"]).ok();
    c.wait();
    c.assert_nothing_left();
}

#[test]
fn a_cgroup_mount_and_the_hosts_options_of_it_are_as_before() {
    let mut c = counter!();
    c.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    let options = || {
        let mounts = kernel::parse_mountinfo(&kernel::host_mountinfo());
        let host = kernel::cgroup2_mount().unwrap();
        let mount = mounts
            .iter()
            .find(|m| Path::new(&m.target) == host)
            .unwrap();
        mount.line.rsplit(' ').next().unwrap().to_owned()
    };
    run(&c, &[]);
    goes_on(&c, 0);
    let before = options();
    let pure = fs::read_to_string("/proc/self/cgroup")
        .unwrap()
        .lines()
        .count()
        == 1;
    if !pure {
        // CRIU would write into cgroups of version 1, although the container is not in them.
        let full = ["--detach", "--manage-cgroups-mode", "full"];
        restore(&c, &full)
            .exits(1)
            .one_line()
            .says("--manage-cgroups-mode full");
    }
    for mode in ["soft", "ignore", "full"] {
        if mode == "full" && !pure {
            continue;
        }
        let flags = ["--manage-cgroups-mode", mode];
        checkpointed(&c, &flags);
        restored(&c, &flags);
        assert_eq!(
            c.exec_output("cat /proc/1/cgroup | tail -n 1"),
            "0::/\n",
            "{mode}"
        );
        assert_eq!(
            c.exec_output("cat /sys/fs/cgroup/cgroup.procs | head -n 1"),
            "1\n",
            "{mode}"
        );
    }
    if pure {
        assert_eq!(options(), before);
    }
}

#[test]
fn a_container_with_a_user_namespace_comes_back() {
    let mut c = counter!();
    c.user_namespace();
    for path in ["/", "/tmp"] {
        let mode = PermissionsExt::from_mode(0o777);
        fs::set_permissions(c.rootfs(path), mode).unwrap();
    }
    run(&c, &[]);
    let last = goes_on(&c, 0);
    checkpointed(&c, &[]);
    restored(&c, &[]);
    goes_on(&c, last);
    let map = |pid: i32| fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    assert_eq!(
        crate::harness::words(&map(c.pid())),
        ["0", "100000", "65536"]
    );
    assert_eq!(c.exec_output("id -u"), "0\n");
}

#[test]
fn a_file_of_criu_s_options_is_named_by_an_annotation() {
    let mut c = counter!();
    let file = c.scratch().join("criu.conf");
    fs::write(&file, "log-file=other.log\n").unwrap();
    c.edit(|j| j["annotations"]["org.criu.config"] = json!(file));
    run(&c, &[]);
    goes_on(&c, 0);
    let work = c.scratch().join("work");
    let flags = ["--work-path", work.to_str().unwrap()];
    checkpointed(&c, &flags);
    assert!(work.join("other.log").exists() && !work.join("dump.log").exists());
    fs::remove_file(work.join("other.log")).unwrap();
    restored(&c, &flags);
    assert!(work.join("other.log").exists() && !work.join("restore.log").exists());
}

#[test]
fn a_missing_criu_and_one_that_is_too_old_are_told_before_anything_is_stopped() {
    let c = container!();
    c.runtime(&["checkpoint", &c.id])
        .exits(1)
        .says("container does not exist");
    run(&c, &[]);
    checkpoint_with_path(&c, Path::new("/nowhere"))
        .exits(1)
        .one_line()
        .says("criu is not installed");
    // `criu_resp`: type VERSION, success, version 2.6. A newline would split it into two messages.
    let answer = c.scratch().join("answer");
    fs::write(&answer, [8, 10, 16, 1, 82, 4, 8, 2, 16, 6]).unwrap();
    let old = fake_criu(&c, &format!("cat {} >&$2", answer.display()));
    let output = checkpoint_with_path(&c, &old);
    output
        .exits(1)
        .one_line()
        .says("is CRIU 2.6, which is too old")
        .says("3.16 or newer");
    let dead = fake_criu(&c, "exit 3");
    checkpoint_with_path(&c, &dead)
        .exits(1)
        .one_line()
        .says("criu was ended with code 3");
    let garbage = fake_criu(&c, r#"printf 'garbage' >&$2"#);
    checkpoint_with_path(&c, &garbage)
        .exits(1)
        .one_line()
        .says("the answer of criu can't be read");
    assert_eq!(c.status(), "running");
    assert!(!Path::new(&images(&c)).exists());
}

#[test]
fn what_can_not_come_back_right_is_refused_by_name() {
    let refused = |c: &Container, what: &str| {
        run(c, &[]);
        checkpoint(c, &[])
            .exits(1)
            .one_line()
            .says("not supported by checkpoint and restore")
            .says(what);
        assert_eq!(c.status(), "running");
        let other = ["restore", "--bundle", c.dir().to_str().unwrap(), "other"];
        c.runtime(&other).exits(1).one_line().says(what);
    };
    let mut c = container!();
    c.without_namespace("mount");
    refused(&c, "a mount namespace of its own");
    let mut c = container!();
    let source = c.scratch().to_str().unwrap().to_owned();
    c.mount(
        "/mnt",
        "bind",
        &source,
        &["bind", "idmap=uids=0-1000-10;gids=0-1000-10"],
    );
    refused(&c, "a mount that maps ids (config.json: mounts[6])");
    let mut c = container!();
    c.mount("/link", "bind", "/proc/self/exe", &["bind", "copy-symlink"]);
    refused(&c, "a copy of one (config.json: mounts[6])");
}

#[test]
fn only_a_running_container_is_dumped() {
    let mut c = container!();
    c.create().ok();
    checkpoint(&c, &[])
        .exits(1)
        .one_line()
        .says("container cannot be checkpointed in created state");
    c.start().ok();
    c.kill("KILL").ok();
    c.wait();
    checkpoint(&c, &[])
        .exits(1)
        .one_line()
        .says("container cannot be checkpointed in stopped state");
}

#[test]
fn flags_are_checked_before_anything_is_done() {
    let c = container!();
    c.runtime(&["checkpoint", "--help"]).ok();
    c.runtime(&["restore", "--help"]).ok();
    for (line, message) in [
        (
            "restore --lsm-mount-context",
            "flag needs an argument: --lsm-mount-context",
        ),
        (
            "checkpoint --manage-cgroups-mode x a",
            "--manage-cgroups-mode \"x\": expected soft, full",
        ),
        (
            "checkpoint --network-lock x a",
            "--network-lock \"x\": expected iptables, nftables or skip",
        ),
        (
            "checkpoint --empty-ns pid a",
            "namespace \"pid\" is not supported",
        ),
        (
            "checkpoint --page-server x a",
            "--page-server \"x\": expected ADDRESS:PORT",
        ),
        (
            "checkpoint --parent-path /x a",
            "--parent-path \"/x\": must be relative",
        ),
        (
            "checkpoint --status-fd 9 a",
            "--status-fd: only --lazy-pages reports a status",
        ),
        (
            "checkpoint --lazy-pages --status-fd 9 a",
            "write to --status-fd 9: fcntl: EBADF",
        ),
        ("restore --console-socket /x a", "cannot use console socket"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        c.runtime(&words).exits(1).one_line().says(message);
    }
}
