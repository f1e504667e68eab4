//! A container that joins another's user namespace. Other namespaces are new, joined or the host's.
//! Containers with a user namespace of their own are in `userns`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::mount::MsFlags;
use serde_json::{Value, json};

use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, eventually, has_strace, kernel, words};

/// The names of namespaces in /proc/PID/ns and in config.json.
const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("mnt", "mount"),
    ("net", "network"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
];

/// The source of a namespace.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    New,
    /// Another container's.
    Joined,
    /// The caller's.
    Shared,
}

fn own(name: &str) -> String {
    kernel::namespace(std::process::id() as i32, name)
}

fn mapping() -> Value {
    json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}])
}

/// Returns a container with a user namespace of its own.
fn owner() -> Container {
    let mut c = Container::new().unwrap();
    c.edit(|j| {
        let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        j["linux"]["uidMappings"] = mapping();
        j["linux"]["gidMappings"] = mapping();
    });
    c
}

/// Runs the sandbox of a pod. Other containers join its user namespace, and namespaces that this
/// user namespace owns.
fn sandbox() -> Option<Container> {
    // This counts the test as skipped if containers can't run here.
    drop(Container::new()?);
    let mut c = owner();
    c.run_detached().ok();
    Some(c)
}

/// Returns a container in the user namespace of a sandbox.
fn beside(sandbox: &Container) -> Container {
    let mut c = Container::new().unwrap();
    join(&mut c, sandbox, "user", "user");
    c
}

fn join(c: &mut Container, other: &Container, name: &str, kind: &str) {
    c.join_namespace(kind, &format!("/proc/{}/ns/{name}", other.pid()));
}

/// Takes a namespace from one of the three sources, and removes the fields from config.json that
/// this source excludes.
fn take(c: &mut Container, other: &Container, (name, kind): (&str, &str), from: From) {
    match from {
        From::New => return,
        From::Joined => join(c, other, name, kind),
        From::Shared => {
            c.without_namespace(kind);
        }
    }
    if kind == "uts" {
        c.edit(|j| drop(j.as_object_mut().unwrap().remove("hostname")));
    }
    // A new mqueue can't be mounted here, and not every host has one to bind.
    if kind == "ipc" && from == From::Shared {
        c.without_mount("/dev/mqueue");
    }
    if kind == "mount" {
        c.edit(|j| {
            j["mounts"] = json!([]);
            j["linux"]["maskedPaths"] = json!([]);
            j["linux"]["readonlyPaths"] = json!([]);
            if from == From::Joined {
                // The root path is resolved in the joined namespace.
                j["root"]["path"] = json!("/");
            }
        });
    }
}

#[track_caller]
fn assert_from(c: &Container, other: &Container, name: &str, from: From) {
    let its = kernel::namespace(c.pid(), name);
    let others = kernel::namespace(other.pid(), name);
    match from {
        From::New => assert!(its != own(name) && its != others, "{name}"),
        From::Joined => assert_eq!(its, others, "{name}"),
        From::Shared => assert_eq!(its, own(name), "{name}"),
    }
}

#[test]
fn the_processes_of_a_pod_share_its_user_namespace() {
    let Some(sandbox) = sandbox() else { return };
    let mut c = beside(&sandbox);
    c.run_detached().ok();
    assert_from(&c, &sandbox, "user", From::Joined);
    for (name, _) in KINDS {
        assert_from(&c, &sandbox, name, From::New);
    }
    for field in ["Uid", "Gid"] {
        assert_eq!(words(&kernel::status(c.pid(), field)), ["100000"; 4]);
    }
    assert_eq!(kernel::status(c.pid(), "Groups"), "");
    let parent: i32 = kernel::status(c.pid(), "PPid").parse().unwrap();
    assert_eq!(
        parent,
        std::process::id() as i32,
        "it is a child of the process that ran it"
    );
    assert_eq!(c.exec_output("id -u; id -g; echo $$ > /dev/null"), "0\n0\n");
    assert_eq!(
        words(&c.exec_output("cat /proc/self/uid_map")),
        ["0", "100000", "65536"]
    );
}

#[test]
fn every_other_namespace_is_new_or_joined_or_the_callers() {
    let Some(sandbox) = sandbox() else { return };
    for kind in KINDS {
        for from in [From::New, From::Joined, From::Shared] {
            let mut c = beside(&sandbox);
            take(&mut c, &sandbox, kind, from);
            c.run_detached().ok();
            assert_from(&c, &sandbox, "user", From::Joined);
            for (name, _) in KINDS {
                let expected = if name == kind.0 { from } else { From::New };
                assert_from(&c, &sandbox, name, expected);
            }
            let exec = c.exec(&["/bin/sh", "-c", "id -u"]);
            exec.ok();
            assert_eq!(exec.stdout(), "0\n", "{kind:?} {from:?}");
        }
    }
}

#[test]
fn a_whole_pod_shares_all_but_mounts() {
    let Some(sandbox) = sandbox() else { return };
    let mut c = beside(&sandbox);
    for kind in KINDS.into_iter().filter(|kind| kind.0 != "mnt") {
        take(&mut c, &sandbox, kind, From::Joined);
    }
    c.script("id -u; ps -o args | grep -c '^[/]bin/sleep 1000'; ls /sys/class/net");
    let output = c.run();
    output.ok();
    assert_eq!(output.stdout(), "0\n1\nlo\n");
}

#[test]
fn namespaces_that_the_joined_user_namespace_does_not_own_are_joined_all_the_same() {
    let Some(sandbox) = sandbox() else { return };
    let mut owner = container!();
    owner.run_detached().ok();
    let mut c = beside(&sandbox);
    for kind in [("net", "network"), ("uts", "uts")] {
        take(&mut c, &owner, kind, From::Joined);
    }
    c.run_detached().ok();
    for name in ["net", "uts"] {
        assert_from(&c, &owner, name, From::Joined);
    }
    assert_from(&c, &sandbox, "user", From::Joined);
    // A new sysfs would show a network namespace over which root of this user namespace has no
    // rights.
    assert_eq!(kernel::mount_at(c.pid(), "/sys").unwrap().fstype, "sysfs");
    let writable = c.exec(&["/bin/touch", "/sys/kernel/uevent_helper"]);
    assert_ne!(writable.code, 0);
    assert_eq!(c.exec_output("hostname"), "orlop\n");
}

#[test]
fn the_callers_own_user_namespace_by_path_is_no_other() {
    let mut c = container!();
    let path = format!("/proc/{}/ns/user", std::process::id());
    c.join_namespace("user", &path);
    assert_eq!(
        words(&c.output_of("cat /proc/self/uid_map"))[2],
        "4294967295"
    );
}

/// Runs a command with --debug under strace. Returns the route from its log, and the calls with
/// which processes enter namespaces. Each call follows the pid of its caller.
fn traced(c: &Container, args: &[&str]) -> Option<(String, Vec<String>)> {
    let own = c.command(&[&["--debug"], args].concat());
    let trace = c.scratch().join("trace");
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-e", "trace=clone,clone3,setns,unshare", "-o"]);
    command.arg(&trace);
    command.arg(own.get_program()).args(own.get_args());
    let vars = own.get_envs();
    command.envs(vars.filter_map(|(key, value)| Some((key, value?))));
    command.stdin(std::process::Stdio::null());
    let output = c.finish(command);
    output.ok();
    let said = output.stderr();
    let route = said.lines().find_map(|line| line.split("route: ").nth(1));
    let route = route.unwrap_or_else(|| panic!("no route: {said}"));
    let route = route
        .split("; Namespaces")
        .next()
        .unwrap()
        .trim_end_matches('"');
    let calls = fs::read_to_string(trace).unwrap();
    let done = |line: &&str| !line.contains(" resumed>") && line.contains('(');
    Some((
        route.to_owned(),
        calls.lines().filter(done).map(str::to_owned).collect(),
    ))
}

/// Returns the namespace kinds that a call of the trace names, in the words of --debug.
fn kinds_of(call: &str) -> Vec<&'static str> {
    let flags = [
        ("NEWUSER", "user"),
        ("NEWNS", "mnt"),
        ("NEWNET", "net"),
        ("NEWIPC", "ipc"),
        ("NEWUTS", "uts"),
        ("NEWCGROUP", "cgroup"),
        ("NEWPID", "pid"),
        ("NEWTIME", "time"),
    ];
    let named = flags.iter().filter(|(flag, _)| call.contains(flag));
    named.map(|(_, name)| *name).collect()
}

#[test]
fn debug_tells_the_route_by_which_a_process_comes_into_its_namespaces() {
    if !has_strace() {
        return;
    }
    let Some(sandbox) = sandbox() else { return };
    let pid = sandbox.pid();
    let run = |c: &Container| {
        let dir = c.dir().to_str().unwrap().to_owned();
        traced(c, &["run", "--bundle", &dir, &c.id]).unwrap()
    };
    let script = |mut c: Container| {
        c.script("true");
        c
    };
    let mut cgroup = owner();
    cgroup.join_namespace("cgroup", &format!("/proc/{pid}/ns/cgroup"));
    let mut pids = beside(&sandbox);
    pids.join_namespace("pid", &format!("/proc/{pid}/ns/pid"));
    // Each case names the process that clones init. Unless it is the parent, it uses CLONE_PARENT.
    for (c, cloner) in [
        (owner(), "the parent "),
        (beside(&sandbox), "an intermediate process enters user"),
        (cgroup, "an intermediate process enters cgroup"),
        (pids, "the child enters user"),
    ] {
        let c = script(c);
        let (route, calls) = run(&c);
        assert!(route.starts_with(cloner), "{route}");
        let clones: Vec<&String> = calls.iter().filter(|l| l.contains(" clone")).collect();
        let last = clones.last().unwrap();
        let direct = cloner.starts_with("the parent");
        assert_eq!(
            clones.len(),
            if direct { 1 } else { 2 },
            "{route}: {calls:#?}"
        );
        assert_eq!(last.contains("CLONE_PARENT"), !direct, "{route}: {last}");
        let new = route.split(" into new ").nth(1).unwrap_or_default();
        assert_eq!(new.split("; ").next().unwrap(), kinds_of(last).join(" "));
        let entered = route.split(" enters ").nth(1).unwrap_or_default();
        let entered = entered.split(',').next().unwrap();
        // These are the calls of the cloning process before its clone.
        let before = calls.iter().take_while(|line| line != last);
        let own = before.filter(|line| words(line)[0] == words(last)[0] && line.ends_with("= 0"));
        let setns = own.filter(|line| line.contains("setns("));
        let mut by_setns: Vec<&str> = setns.flat_map(|line| kinds_of(line)).collect();
        by_setns.sort_unstable();
        let mut entered: Vec<&str> = words(entered);
        entered.sort_unstable();
        assert_eq!(entered, by_setns, "{route}: {calls:#?}");
    }
    let (route, calls) = traced(&sandbox, &["exec", &sandbox.id, "true"]).unwrap();
    let joined = calls.iter().find(|l| l.contains("setns(")).unwrap();
    let expected = kinds_of(joined).join(" ");
    assert_eq!(
        route,
        format!("the child enters {expected}, clones the process")
    );
}

#[test]
fn a_created_container_holds_no_descriptor_of_the_host_and_starts() {
    let Some(sandbox) = sandbox() else { return };
    let mut c = beside(&sandbox);
    c.script("id -u");
    c.create().ok();
    assert_eq!(c.status(), "created");
    for (number, target) in kernel::descriptors(c.pid()) {
        let harmless =
            number < 3 || target.starts_with("socket:") || target == "anon_inode:[signalfd]";
        assert!(harmless, "{number} -> {target}");
    }
    c.start().ok();
    assert_eq!(c.wait(), 0);
    assert_eq!(c.payload_output(), "0\n");
}

/// Runs a container with CAP_SYS_ADMIN and a bind of a read-only mount of the host. Checks that
/// the container can't clear the mount's flags.
fn assert_that_flags_of_the_host_stay(mut c: Container) {
    let dir = c.scratch().join("data");
    fs::create_dir(&dir).unwrap();
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("t"), &dir, Some("tmpfs"), flags, None::<&str>).unwrap();
    fs::create_dir(c.rootfs("/data")).unwrap();
    c.mount("/data", "bind", dir.to_str().unwrap(), &["bind"]);
    let sets = ["bounding", "effective", "permitted"];
    c.capabilities(&sets, &["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    c.run_detached().ok();
    for script in [
        "mount -o remount,bind,rw,nosuid,nodev /data",
        "mount -o remount,bind,ro,suid,nodev /data",
        "mount -o remount,bind,ro,nosuid,dev /data",
        "touch /data/x",
    ] {
        let output = c.exec(&["/bin/sh", "-c", script]);
        assert_ne!(output.code, 0, "{script}");
    }
    // The container may remount its own mounts.
    let text =
        c.exec_output("mount -t tmpfs -o ro t /tmp && mount -o remount,bind,rw /tmp && echo may");
    assert_eq!(text, "may\n");
    drop(c.delete(&["--force"]));
    nix::mount::umount(&dir).unwrap();
}

#[test]
fn root_of_a_user_namespace_cannot_clear_what_the_host_has_set_on_a_mount() {
    let Some(sandbox) = sandbox() else { return };
    assert_that_flags_of_the_host_stay(beside(&sandbox));
    assert_that_flags_of_the_host_stay(owner());
}

#[test]
fn a_source_that_only_the_hosts_root_can_reach_is_bound() {
    let Some(sandbox) = sandbox() else { return };
    let mut c = beside(&sandbox);
    let secret = c.scratch().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "reached\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(c.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(c.rootfs("/given"), "").unwrap();
    let file = secret.join("file");
    c.mount("/given", "bind", file.to_str().unwrap(), &["bind", "ro"]);
    assert_eq!(c.output_of("cat /given"), "reached\n");
}

#[test]
fn an_idmapped_mount_takes_the_mappings_of_the_joined_user_namespace() {
    let Some(sandbox) = sandbox() else { return };
    let mut c = beside(&sandbox);
    let dir = c.scratch().join("data");
    fs::create_dir(&dir).unwrap();
    fs::create_dir(c.rootfs("/data")).unwrap();
    c.mount("/data", "bind", dir.to_str().unwrap(), &["bind", "idmap"]);
    let owner = c.output_of("stat -c '%u %g' /data && touch /data/made");
    assert_eq!(owner, "0 0\n");
    let made = fs::metadata(dir.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0));
}

#[test]
fn time_offsets_are_set_for_a_time_namespace_of_the_joined_user_namespace() {
    let Some(sandbox) = sandbox() else { return };
    let mut c = beside(&sandbox);
    c.edit(|j| {
        let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "time"}));
        j["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    });
    c.run_detached().ok();
    assert_from(&c, &sandbox, "time", From::New);
    let uptime = c.exec_output("cat /proc/uptime");
    let uptime: f64 = words(&uptime)[0].parse().unwrap();
    assert!(uptime > 1_000_000.0);
    let mut second = beside(&sandbox);
    join(&mut second, &c, "time", "time");
    second.run_detached().ok();
    assert_from(&second, &c, "time", From::Joined);
    let uptime = second.exec_output("cat /proc/uptime");
    let uptime: f64 = words(&uptime)[0].parse().unwrap();
    assert!(uptime > 1_000_000.0);
}

#[test]
fn hooks_run_around_a_container_that_joined_a_user_namespace() {
    let Some(sandbox) = sandbox() else { return };
    let mut c = beside(&sandbox);
    let dir = c.scratch();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let log = dir.join("log");
    let hook = |kind: &str| {
        let script = format!("echo {kind} $(id -u) >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
    };
    c.mount(
        dir.to_str().unwrap(),
        "bind",
        dir.to_str().unwrap(),
        &["rbind"],
    );
    fs::create_dir_all(c.rootfs(dir.to_str().unwrap())).unwrap();
    let open = fs::Permissions::from_mode(0o666);
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, open).unwrap();
    c.edit(|j| {
        for kind in [
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
        ] {
            j["hooks"][kind] = hook(kind);
        }
    });
    c.run_detached().ok();
    let text = fs::read_to_string(&log).unwrap();
    let expected = "createRuntime 0\ncreateContainer 0\nstartContainer 0\npoststart 0\n";
    assert_eq!(text, expected);
}

#[test]
fn a_terminal_comes_through_an_intermediate_process() {
    let Some(sandbox) = sandbox() else { return };
    let mut c = beside(&sandbox);
    c.edit(|j| {
        j["process"]["terminal"] = json!(true);
        j["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    c.script("test -t 0 && stat -c %u /proc/self/fd/0 -L && tty");
    let path = c.scratch().join("console").to_str().unwrap().to_owned();
    let socket = ConsoleSocket::listen(path.as_ref());
    c.make("create", &["--console-socket", &path]).ok();
    let screen = Screen::of(socket.receive().descriptors.remove(0));
    c.start().ok();
    screen.wait_for("1000");
    assert_eq!(c.wait(), 0);
}

#[test]
fn an_id_without_a_mapping_is_reported_with_its_field() {
    let Some(sandbox) = sandbox() else { return };
    for (field, user) in [
        ("process.user.uid", json!({"uid": 70_000, "gid": 0})),
        ("process.user.gid", json!({"uid": 0, "gid": 70_000})),
        (
            "process.user.additionalGids",
            json!({"uid": 0, "gid": 0, "additionalGids": [70_000]}),
        ),
    ] {
        let mut c = beside(&sandbox);
        c.edit(|j| j["process"]["user"] = user);
        let output = c.create();
        output.exits(1).one_line();
        output
            .says(field)
            .says("the user namespace does not map it");
        c.assert_nothing_left();
    }
}

#[test]
fn a_failure_at_any_stage_leaves_nothing_and_says_why() {
    let Some(sandbox) = sandbox() else { return };
    type Break = (&'static str, fn(&mut Container));
    let breaks: [Break; 8] = [
        ("/missing/ns", |c| {
            c.join_namespace("user", "/missing/ns");
        }),
        ("another type", |c| {
            let path = format!("/proc/{}/ns/net", std::process::id());
            c.join_namespace("user", &path);
        }),
        ("namespaces[", |c| {
            c.join_namespace("network", "/etc/passwd");
        }),
        ("mounts[6]", |c| {
            c.mount("/x", "bind", "/missing", &["bind"]);
        }),
        ("mounts[6]", |c| {
            c.mount("/x", "nofs", "x", &[]);
        }),
        ("root.path", |c| {
            c.edit(|j| j["root"]["path"] = json!("gone"));
        }),
        ("hooks.createRuntime[0]", |c| {
            let hook = json!([{"path": "/bin/false"}]);
            c.edit(|j| j["hooks"]["createRuntime"] = hook);
        }),
        ("executable file not found", |c| {
            c.args(&["nothing"]);
        }),
    ];
    for (says, break_it) in breaks {
        let mut c = beside(&sandbox);
        break_it(&mut c);
        c.create().exits(1).one_line().says(says);
        c.assert_nothing_left();
    }
}

#[test]
fn a_pid_namespace_whose_init_is_gone_is_refused() {
    let Some(sandbox) = sandbox() else { return };
    let file = sandbox.scratch().join("pid");
    fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap().to_owned();
    let from = format!("/proc/{}/ns/pid", sandbox.pid());
    let flags = MsFlags::MS_BIND;
    nix::mount::mount(
        Some(from.as_str()),
        path.as_str(),
        None::<&str>,
        flags,
        None::<&str>,
    )
    .unwrap();
    let user = self::sandbox().unwrap();
    sandbox.kill("KILL").ok();
    sandbox.wait_dead();
    let mut c = beside(&user);
    c.join_namespace("pid", &path);
    without_proc(&mut c);
    c.create().exits(1).one_line().says("not running");
    c.assert_nothing_left();
    nix::mount::umount(path.as_str()).unwrap();
}

#[test]
fn mappings_beside_a_path_are_fine_if_they_are_those_of_the_namespace() {
    let Some(sandbox) = sandbox() else { return };
    // containerd and CRI-O write mappings beside the path.
    let mut c = beside(&sandbox);
    c.script("id -u");
    c.edit(|j| {
        j["linux"]["uidMappings"] = mapping();
        j["linux"]["gidMappings"] = mapping();
    });
    let output = c.run();
    output.ok();
    assert_eq!(output.stdout(), "0\n");
    c.edit(|j| j["linux"]["gidMappings"][0]["hostID"] = json!(200_000));
    c.run()
        .exits(1)
        .one_line()
        .says("has other mappings")
        .says("linux.uidMappings");
    c.assert_nothing_left();
    c.edit(|j| drop(j["linux"].as_object_mut().unwrap().remove("gidMappings")));
    c.run()
        .exits(1)
        .one_line()
        .says("linux.gidMappings: is missing");
}

/// Removes procfs from the mounts. Procfs can't be mounted in a user namespace that doesn't own
/// the pid namespace.
fn without_proc(c: &mut Container) {
    c.edit(|j| {
        j["mounts"].as_array_mut().unwrap().remove(0);
        j["linux"]["maskedPaths"] = json!([]);
        j["linux"]["readonlyPaths"] = json!([]);
    });
}

#[test]
fn a_new_user_namespace_goes_with_every_other_namespace_of_whoever_owns_it() {
    let mut other = container!();
    other.run_detached().ok();
    for kind in KINDS {
        for from in [From::Joined, From::Shared] {
            let mut c = owner();
            take(&mut c, &other, kind, from);
            if kind.0 == "ipc" {
                c.without_mount("/dev/mqueue");
            }
            if kind.0 == "pid" && from == From::Joined {
                // A new procfs would show a pid namespace that this user namespace does not own.
                c.create()
                    .exits(1)
                    .one_line()
                    .says("mounts[0]")
                    .says("does not own");
                c.assert_nothing_left();
                without_proc(&mut c);
            }
            c.run_detached().ok();
            for (name, _) in KINDS {
                let expected = if name == kind.0 { from } else { From::New };
                assert_from(&c, &other, name, expected);
            }
            assert_from(&c, &other, "user", From::New);
            let exec = c.exec(&["/bin/sh", "-c", "id -u"]);
            exec.ok();
            assert_eq!(exec.stdout(), "0\n", "{kind:?} {from:?}");
        }
    }
}

#[test]
fn a_cgroup_that_was_given_to_another_user_is_entered_by_root() {
    let Some(sandbox) = sandbox() else { return };
    let c = beside(&sandbox);
    // Root doesn't own cgroup.procs, and may write to it only because of a capability.
    let parent = c.cgroup().parent().unwrap().to_owned();
    std::os::unix::fs::chown(parent.join("cgroup.procs"), Some(1), Some(1)).unwrap();
    let session = parent.join("session");
    fs::create_dir(&session).unwrap();
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-ec", "echo $$ > $0/cgroup.procs; exec \"$@\""]);
    shell
        .arg(&session)
        .arg(c.program())
        .arg("--root")
        .arg(c.root());
    shell.args(["run", "--detach", "--bundle"]).arg(c.dir());
    shell.arg("--pid-file").arg(c.pid_file()).arg(&c.id);
    c.finish(shell).ok();
    assert_eq!(kernel::cgroup_of(c.pid()), c.cgroup_path());
    assert_eq!(kernel::procs(&c.cgroup()), [c.pid()]);
    c.delete(&["--force"]).ok();
    eventually("the session's cgroup goes", || {
        fs::remove_dir(&session).is_ok()
    });
}
