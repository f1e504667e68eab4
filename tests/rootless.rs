//! Containers of a caller who isn't root, with and without newuidmap(1); errors for other cases.
//! User namespaces that root creates are in `userns` and `userns_joined`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, Output, adopt, eventually, kernel, skipped, words};

/// A uid that no machine uses.
const USER: u32 = 61_234;

fn mapping(inside: u32, outside: u32, size: u32) -> Value {
    json!({"containerID": inside, "hostID": outside, "size": size})
}

/// Creates the bundle of a container of USER, who is root inside. The config requests no cgroup.
pub(crate) fn rootless() -> Option<Container> {
    let mut c = Container::new()?;
    c.without_namespace("network").without_mount("/sys");
    c.mount(
        "/sys",
        "none",
        "/sys",
        &["rbind", "nosuid", "noexec", "nodev", "ro"],
    );
    c.edit(|j| {
        let linux = j["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        linux.remove("resources");
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        linux.insert("uidMappings".into(), json!([mapping(0, USER, 1)]));
        linux.insert("gidMappings".into(), json!([mapping(0, USER, 1)]));
        let user = &mut j["process"]["user"];
        *user = json!({"uid": 0, "gid": 0});
    });
    c.give_to(USER);
    Some(c)
}

macro_rules! rootless {
    () => {
        match rootless() {
            Some(container) => container,
            None => return,
        }
    };
}

#[test]
fn what_spec_writes_for_a_user_runs() {
    let mut c = rootless!();
    fs::remove_file(c.dir().join("config.json")).unwrap();
    let dir = c.dir().to_str().unwrap().to_owned();
    c.runtime(&["spec", "--rootless", "--bundle", &dir]).ok();
    let text = fs::read(c.dir().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(config["linux"]["uidMappings"], json!([mapping(0, USER, 1)]));
    // The test changes only the program and the terminal.
    config["process"]["terminal"] = json!(false);
    let script = "id -u; id -g; echo $$; hostname; cat /proc/self/setgroups";
    config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    c.edit(|j| *j = config);
    let output = c.run();
    output.ok();
    assert_eq!(output.stdout(), "0\n0\n1\norlop\ndeny\n");
    assert_eq!(output.stderr(), "");
}

#[test]
fn root_in_the_container_is_the_user() {
    let mut c = rootless!();
    c.run_detached().ok();
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", c.pid())).unwrap();
    let user = USER.to_string();
    for map in ["uid_map", "gid_map"] {
        assert_eq!(words(&read(map)), ["0", &user, "1"]);
    }
    assert_eq!(read("setgroups"), "deny\n");
    for field in ["Uid", "Gid"] {
        assert_eq!(words(&kernel::status(c.pid(), field)), [user.as_str(); 4]);
    }
}

#[test]
fn the_owner_has_every_command() {
    let mut c = rootless!();
    c.script("trap 'exit 3' TERM; echo started; while true; do sleep 0.1; done");
    c.create().ok();
    assert_eq!(c.status(), "created");
    assert_eq!(c.state()["pid"], c.pid());
    c.start().ok();
    assert_eq!(c.status(), "running");
    eventually("it runs", || c.payload_output() == "started\n");
    assert_eq!(c.exec_output("id -u; cat /proc/1/comm"), "0\nsh\n");
    let listed = c.runtime(&["list", "-q"]);
    assert_eq!(listed.stdout(), format!("{}\n", c.id));
    let pids: Vec<i32> =
        serde_json::from_str(&c.runtime(&["ps", "--format", "json", &c.id]).stdout()).unwrap();
    assert!(pids.contains(&c.pid()), "{pids:?}");
    c.kill("TERM").ok();
    assert_eq!(c.wait(), 3);
    assert_eq!(c.status(), "stopped");
    c.delete(&[]).ok();
    c.assert_nothing_left();
}

#[test]
fn a_container_that_runs_is_ended_and_deleted_by_force() {
    let mut c = rootless!();
    c.run_detached().ok();
    let pid = c.pid();
    c.delete(&["--force"]).ok();
    assert!(!kernel::alive(pid));
    c.assert_nothing_left();
}

#[test]
fn without_a_cgroup_processes_stay_in_the_callers_cgroup_and_it_is_not_killed() {
    let mut c = rootless!();
    c.run_detached().ok();
    assert_eq!(
        kernel::cgroup_of(c.pid()),
        kernel::cgroup_of(std::process::id() as i32)
    );
    c.runtime(&["pause", &c.id]).exits(1).says("cgroup");
    c.exec_with(&["--cgroup", "x"], &["/bin/true"])
        .exits(255)
        .says("cgroup");
    let pid = exec_detached(&c);
    // The bystander is in the same cgroup as the container and the test.
    let mut bystander = Bystander(Command::new("sleep").arg("1000").spawn().unwrap());
    c.runtime(&["kill", "--all", &c.id, "KILL"]).ok();
    c.wait_dead();
    eventually("the exec process dies", || !kernel::alive(pid));
    assert!(bystander.0.try_wait().unwrap().is_none());
}

/// A process that must outlive the test's container, but not the test.
struct Bystander(std::process::Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a detached process in the container and returns its pid.
fn exec_detached(c: &Container) -> i32 {
    let file = c.dir().join("exec.pid");
    c.exec_with(
        &["--detach", "--pid-file", file.to_str().unwrap()],
        &["/bin/sleep", "1000"],
    )
    .ok();
    let pid = fs::read_to_string(file).unwrap().parse().unwrap();
    adopt(pid);
    pid
}

#[test]
fn a_cgroup_that_is_asked_for_must_be_made() {
    let Some(mut c) = rootless() else { return };
    let path = c.cgroup_path();
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    c.create()
        .exits(1)
        .one_line()
        .says("make cgroup")
        .says("permission denied");
    c.assert_nothing_left();
    let mut c = rootless().unwrap();
    c.edit(|j| j["linux"]["resources"] = json!({"pids": {"limit": 10}}));
    c.create().exits(1).one_line().says("permission denied");
    let mut c = rootless().unwrap();
    c.script("true");
    let run = |c: &Container, rootless: &str| {
        let mut command = c.command(&["--rootless", rootless, "run", "--bundle"]);
        command.arg(c.dir()).arg(&c.id);
        c.finish(command)
    };
    run(&c, "false")
        .exits(1)
        .says("make cgroup")
        .says("permission denied");
    run(&c, "true").ok();
    run(&c, "auto").ok();
}

#[test]
fn a_cgroup_that_the_user_may_use_is_used() {
    let mut c = rootless!();
    // systemd delegates the same files to a user. But here the process starts in the test's cgroup,
    // which is above, and the user has no right to move a process out of that cgroup.
    let parent = c.cgroup().parent().unwrap().to_owned();
    for file in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    ] {
        lchown(parent.join(file), Some(USER), Some(USER)).unwrap();
    }
    let path = c.cgroup_path();
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(path));
    c.create()
        .exits(1)
        .one_line()
        .says("put a process into cgroup")
        .says("cgroup.procs");
    c.assert_nothing_left();
    // A cgroup that existed before is not removed, even if root of a user namespace creates the
    // container.
    fs::create_dir(c.cgroup()).unwrap();
    lchown(c.cgroup(), Some(USER), Some(USER)).unwrap();
    lchown(c.cgroup().join("cgroup.procs"), Some(USER), Some(USER)).unwrap();
    let mut as_root = Command::new("setpriv");
    let user = USER.to_string();
    as_root.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
    as_root.args(["unshare", "--user", "--map-root-user", "--mount"]);
    as_root.arg(c.program()).arg("--root").arg(c.root());
    as_root.args(["run", "--bundle"]).arg(c.dir()).arg(&c.id);
    let outputs = [c.create(), c.finish(as_root)];
    fs::remove_dir(c.cgroup()).unwrap();
    for output in outputs {
        output
            .exits(1)
            .one_line()
            .says(&format!(
                "put a process into cgroup {}",
                c.cgroup().display()
            ))
            .says("cgroup.procs");
    }
    c.assert_nothing_left();
    // The command runs inside the delegated cgroup, as in a session of that user.
    let dir = parent.join("session");
    fs::create_dir(&dir).unwrap();
    lchown(dir.join("cgroup.procs"), Some(USER), Some(USER)).unwrap();
    let from_inside = |args: &[&str]| {
        let mut shell = Command::new("/bin/bash");
        shell.args(["-c", "echo $$ > $0/cgroup.procs && exec setpriv --reuid $1 --regid $1 --clear-groups -- \"${@:2}\""]);
        shell.arg(&dir).arg(USER.to_string()).arg(c.program());
        shell.arg("--root").arg(c.root()).args(args);
        c.finish(shell)
    };
    let (bundle, pid) = (c.dir().to_str().unwrap().to_owned(), c.pid_file());
    from_inside(&[
        "run",
        "--detach",
        "--bundle",
        &bundle,
        "--pid-file",
        pid.to_str().unwrap(),
        &c.id,
    ])
    .ok();
    assert_eq!(kernel::cgroup_of(c.pid()), c.cgroup_path());
    let file = c.dir().join("exec.pid");
    let file = file.to_str().unwrap();
    let args = [
        "exec",
        "--detach",
        "--pid-file",
        file,
        &c.id,
        "/bin/sleep",
        "1000",
    ];
    from_inside(&args).ok();
    adopt(fs::read_to_string(file).unwrap().parse().unwrap());
    assert_eq!(kernel::procs(&c.cgroup()).len(), 2);
    from_inside(&["pause", &c.id]).ok();
    from_inside(&["resume", &c.id]).ok();
    from_inside(&["delete", "--force", &c.id]).ok();
    assert!(!c.cgroup().exists());
    eventually("the session's cgroup goes", || fs::remove_dir(&dir).is_ok());
}

#[test]
fn a_caller_without_privileges_needs_a_user_namespace() {
    let mut c = rootless!();
    c.without_namespace("user").edit(|j| {
        let linux = j["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    c.create()
        .exits(1)
        .one_line()
        .says("linux.namespaces")
        .says("user namespace");
    c.assert_nothing_left();
}

#[test]
fn devices_and_file_systems_are_what_the_kernel_gives_a_user() {
    let mut c = rootless!();
    let text = c.output_of(
        "for d in null zero full random urandom tty; do stat -c '%n %t:%T %F' /dev/$d; done; \
         echo x > /dev/null && head -c 3 /dev/zero | wc -c; \
         stat -f -c '%T' /proc /dev/pts /dev/shm; cat /proc/kcore | wc -c; \
         grep '^[^ ]* /sys/fs/cgroup.* rw,' /proc/mounts || true",
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "/dev/null 1:3 character special file");
    assert_eq!(lines[5], "/dev/tty 5:0 character special file");
    assert_eq!(lines[6..], ["3", "proc", "devpts", "tmpfs", "0"], "{text}");
}

#[test]
fn cve_2023_25809_the_hosts_cgroups_are_read_only_without_a_cgroup_namespace() {
    let mut c = rootless!();
    c.without_namespace("cgroup");
    c.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev"],
    );
    let text = c.output_of("grep ' /sys/fs/cgroup cgroup2 ' /proc/mounts");
    // If cgroup v2 is at the same place on the host, this includes the mount that came with /sys.
    assert!(!text.is_empty());
    for line in text.lines() {
        assert!(words(line)[3].starts_with("ro,"), "{text}");
    }
}

#[test]
fn namespaces_of_the_host_are_shown_by_its_own_mounts() {
    let mut c = rootless!();
    c.without_namespace("pid").without_mount("/sys");
    c.mount(
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    c.run_detached().ok();
    for name in ["pid", "net"] {
        let own = kernel::namespace(std::process::id() as i32, name);
        assert_eq!(kernel::namespace(c.pid(), name), own, "{name}");
    }
    for (target, fstype) in [("/proc", "proc"), ("/sys", "sysfs")] {
        assert_eq!(kernel::mount_at(c.pid(), target).unwrap().fstype, fstype);
    }
    let writable = kernel::mounts(c.pid()).into_iter().filter(|mount| {
        mount.target.starts_with("/sys/fs/cgroup") && mount.options.contains(&"rw".to_owned())
    });
    assert_eq!(
        writable.count(),
        0,
        "what protects /sys protects what is below it"
    );
    let pid = std::process::id();
    assert_eq!(
        c.exec_output(&format!("test -d /proc/{pid} && echo seen")),
        "seen\n"
    );
}

#[test]
fn a_group_that_is_not_mapped_is_left_out_for_a_user_and_an_error_for_root() {
    let mut c = rootless!();
    let mut command = c.command(&["--log-level", "warning", "--log"]);
    let log = c.dir().join("log");
    c.script("stat -c %g /dev/pts/ptmx");
    command
        .arg(&log)
        .args(["run", "--bundle"])
        .arg(c.dir())
        .arg(&c.id);
    c.finish(command).ok();
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("gid=5 is left out"), "{text}");
    let mut c = Container::new().unwrap();
    c.edit(|j| {
        let linux = j["linux"].as_object_mut().unwrap();
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        linux.insert("uidMappings".into(), json!([mapping(0, USER, 1)]));
        linux.insert("gidMappings".into(), json!([mapping(0, USER, 1)]));
    });
    c.create()
        .exits(1)
        .one_line()
        .says("/dev/pts")
        .says("mounts[2]");
    c.assert_nothing_left();
}

#[test]
fn fields_that_need_an_unmapped_id_are_refused_by_name() {
    let mut c = rootless!();
    c.edit(|j| j["process"]["user"] = json!({"uid": 5, "gid": 0}));
    c.create().exits(1).one_line().says("process.user.uid");
    let mut c = rootless!();
    c.edit(|j| j["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [0]}));
    let output = c.create();
    output
        .exits(1)
        .one_line()
        .says("process.user.additionalGids")
        .says("denies setgroups");
    c.assert_nothing_left();
    let mut c = rootless!();
    c.run_detached().ok();
    let output = c.exec_with(&["--user", "5"], &["/bin/true"]);
    output
        .exits(255)
        .one_line()
        .says("become user 5")
        .says("does not map it");
}

#[test]
fn the_oom_score_can_be_raised_and_not_lowered() {
    let mut c = rootless!();
    c.edit(|j| j["process"]["oomScoreAdj"] = json!(500));
    c.run_detached().ok();
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", c.pid())).unwrap();
    assert_eq!(score, "500\n");
    assert_eq!(c.exec_output("cat /proc/self/oom_score_adj"), "500\n");
    let mut c = rootless!();
    c.edit(|j| j["process"]["oomScoreAdj"] = json!(-1000));
    c.create().exits(1).one_line().says("process.oomScoreAdj");
    c.assert_nothing_left();
}

#[test]
fn time_offsets_go_through_an_intermediate_process() {
    let mut c = rootless!();
    c.edit(|j| {
        j["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "time"}));
        j["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    });
    c.run_detached().ok();
    let uptime = c.exec_output("cat /proc/uptime");
    assert!(
        words(&uptime)[0].parse::<f64>().unwrap() > 1_000_000.0,
        "{uptime}"
    );
    let mut bad = rootless!();
    bad.edit(|j| {
        j["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "time"}));
        j["linux"]["timeOffsets"] = json!({"boottime": {"secs": -1_000_000_000, "nanosecs": 0}});
    });
    bad.create().exits(1).one_line().says("linux.timeOffsets");
    bad.assert_nothing_left();
}

#[test]
fn a_second_container_of_the_user_joins_the_namespaces_of_the_first() {
    let mut first = rootless!();
    first.edit(|j| {
        j["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "network"}))
    });
    first.run_detached().ok();
    for joined in [
        &["user"][..],
        &["user", "network", "ipc", "uts"],
        &["user", "pid", "cgroup"],
    ] {
        let mut c = rootless!();
        c.edit(|j| {
            let linux = j["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
            j.as_object_mut().unwrap().remove("hostname");
        });
        for kind in joined {
            let name = if *kind == "network" { "net" } else { kind };
            c.join_namespace(kind, &format!("/proc/{}/ns/{name}", first.pid()));
        }
        c.run_detached().ok();
        for kind in joined {
            let name = if *kind == "network" { "net" } else { kind };
            assert_eq!(
                kernel::namespace(c.pid(), name),
                kernel::namespace(first.pid(), name),
                "{kind}"
            );
        }
        assert_eq!(
            c.exec_output("id -u; hostname > /dev/null; cat /proc/self/setgroups"),
            "0\ndeny\n"
        );
        c.kill("KILL").ok();
        assert_eq!(c.wait(), 137);
    }
}

#[test]
fn a_namespace_that_the_user_has_no_rights_over_is_not_joined() {
    let mut owner = container!();
    owner.run_detached().ok();
    let mut c = rootless!();
    c.join_namespace("network", &format!("/proc/{}/ns/net", owner.pid()));
    c.create().exits(1).one_line().says("/ns/net");
    c.assert_nothing_left();
}

#[test]
fn a_terminal_and_hooks_work_for_a_user() {
    let mut c = rootless!();
    let log = c.dir().join("log");
    let hook = |kind: &str| {
        let script = format!("echo {kind} >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
    };
    c.edit(|j| {
        j["process"]["terminal"] = json!(true);
        for kind in ["createRuntime", "createContainer", "poststart", "poststop"] {
            j["hooks"][kind] = hook(kind);
        }
    });
    c.script("test -t 0 && tty && stty size");
    let path = c.dir().join("console").to_str().unwrap().to_owned();
    let socket = ConsoleSocket::listen(path.as_ref());
    lchown(&path, Some(USER), Some(USER)).unwrap();
    c.make("create", &["--console-socket", &path]).ok();
    let screen = Screen::of(socket.receive().descriptors.remove(0));
    c.start().ok();
    screen.wait_for("/dev/");
    assert_eq!(c.wait(), 0);
    c.delete(&[]).ok();
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(
        words(&text),
        ["createRuntime", "createContainer", "poststart", "poststop"]
    );
}

#[test]
fn a_terminal_is_one_of_the_host_where_its_dev_is_bound() {
    if fs::metadata("/dev/ptmx").is_ok_and(|m| m.mode() & 0o666 != 0o666) {
        return skipped("nobody but root may open /dev/ptmx");
    }
    let mut c = rootless!();
    let console = fs::metadata("/dev/console").is_ok();
    c.edit(|j| {
        let mounts = j["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        j["process"]["terminal"] = json!(true);
    });
    c.mount("/dev", "bind", "/dev", &["rbind", "rw", "rprivate"]);
    c.script("test -t 0 && tty");
    let path = c.dir().join("console").to_str().unwrap().to_owned();
    let socket = ConsoleSocket::listen(path.as_ref());
    lchown(&path, Some(USER), Some(USER)).unwrap();
    c.make("create", &["--console-socket", &path]).ok();
    let screen = Screen::of(socket.receive().descriptors.remove(0));
    c.start().ok();
    screen.wait_for("/dev/pts/");
    assert_eq!(c.wait(), 0);
    c.delete(&[]).ok();
    assert_eq!(fs::metadata("/dev/console").is_ok(), console);
}

#[test]
fn root_of_the_container_cannot_uncover_what_the_host_hides_or_protects() {
    let mut c = rootless!();
    c.capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    fs::create_dir(c.rootfs("/given")).unwrap();
    c.mount("/given", "bind", "/dev", &["rbind"]);
    c.run_detached().ok();
    for script in [
        "umount /given/shm",
        "umount /given/pts",
        "umount /sys/fs/cgroup",
    ] {
        let output = c.exec(&["/bin/sh", "-c", script]);
        assert_ne!(output.code, 0, "{script}");
    }
}

#[test]
fn a_flag_that_the_host_has_locked_stays_whatever_the_options_say() {
    let flags = ["rw", "suid", "dev", "exec", "atime", "diratime"];
    for kind in ["bind", "rbind"] {
        let mut c = rootless!();
        let dir = c.scratch().join("given");
        fs::create_dir(&dir).unwrap();
        fs::create_dir(c.rootfs("/given")).unwrap();
        c.mount("/given", "bind", dir.to_str().unwrap(), &[kind, "rprivate"]);
        c.edit(|j| {
            let options = j["mounts"].as_array_mut().unwrap().last_mut().unwrap()["options"]
                .as_array_mut()
                .unwrap();
            options.extend(flags.map(|flag| json!(flag)));
        });
        c.script("grep ' /given ' /proc/self/mountinfo | cut -d' ' -f6");
        let locked = "ro,nosuid,nodev,noexec,noatime,nodiratime";
        let output = run_after(
            &c,
            &format!("mount -t tmpfs -o {locked} t {}", dir.display()),
        );
        output.ok();
        assert_eq!(output.stdout().trim(), locked, "{kind}");
        // If only one flag is locked, the others can be cleared.
        let output = run_after(
            &c,
            &format!(
                "mount -t tmpfs -o ro,nosuid t {0} && mount -o remount,bind,rw {0}",
                dir.display()
            ),
        );
        output.ok();
        assert_eq!(output.stdout().trim(), "rw,nosuid,relatime", "{kind}");
        c.assert_nothing_left();
    }
}

#[test]
fn a_container_of_one_user_is_not_touched_by_another() {
    let mut c = rootless!();
    c.run_detached().ok();
    let mut other = Command::new(c.program());
    other
        .arg("--root")
        .arg(c.root())
        .args(["kill", &c.id, "KILL"]);
    other.uid(USER + 1);
    c.finish(other).exits(1);
    assert!(kernel::alive(c.pid()));
}

#[test]
fn the_default_root_of_a_user_is_in_the_users_runtime_directory() {
    let c = rootless!();
    let dir = c.dir().join("runtime");
    fs::create_dir(&dir).unwrap();
    lchown(&dir, Some(USER), Some(USER)).unwrap();
    let mut c = c;
    c.script("true");
    let mut command = c.bare_command(&["run", "--keep", "--bundle"]);
    command.arg(c.dir()).arg(&c.id).env("XDG_RUNTIME_DIR", &dir);
    c.finish(command).ok();
    let root = dir.join("orlop");
    let stat = fs::metadata(&root).unwrap();
    // The sticky bit protects the directory from cleanup (XDG Base Directory Specification).
    assert_eq!(
        (stat.permissions().mode() & 0o7777, stat.uid()),
        (0o1700, USER)
    );
    let mut command = c.bare_command(&["delete", &c.id]);
    command.env("XDG_RUNTIME_DIR", &dir);
    c.finish(command).ok();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[test]
fn the_owner_enters_a_container_that_was_not_started() {
    for no_new_privs in [true, false] {
        let mut c = rootless!();
        c.edit(|j| {
            j["process"]["noNewPrivileges"] = json!(no_new_privs);
            j["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
            let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "time"}));
            j["linux"]["timeOffsets"] = json!({"boottime": {"secs": 100_000}});
        });
        c.script("sleep 1000");
        c.create().ok();
        for (number, link) in kernel::descriptors(c.pid()) {
            // Apart from the standard descriptors, no descriptor refers to a file system.
            assert!(number <= 2 || link.contains(":["), "{number} -> {link}");
        }
        let seen = |c: &Container| {
            c.exec_output("id -u; hostname; readlink /proc/self/ns/*; grep Seccomp: /proc/self/status; cut -d. -f1 /proc/uptime | wc -c")
        };
        let created = seen(&c);
        assert_eq!(seen(&c), created);
        assert_eq!(c.status(), "created");
        c.start().ok();
        assert_eq!(seen(&c), created);
        let kept = kernel::descriptors(c.pid());
        assert!(kept.iter().all(|(fd, _)| *fd < 3), "{kept:?}");
        c.delete(&["--force"]).ok();
        c.assert_nothing_left();
    }
}

#[test]
fn a_container_that_was_entered_before_its_start_ends_as_any_other() {
    let mut c = rootless!();
    c.create().ok();
    let pid = exec_detached(&c);
    c.delete(&[]).exits(1).says("created");
    c.kill("TERM").ok();
    c.wait_dead();
    eventually("the exec process dies", || !kernel::alive(pid));
    assert_eq!(c.status(), "stopped");
    c.exec(&["/bin/true"]).exits(255).says("stopped");
    c.delete(&[]).ok();
    c.assert_nothing_left();
}

/// Runs a container as USER in a new mount namespace, after a shell script has prepared it. In the
/// script, `$0` is a directory of the test.
fn run_after(c: &Container, preparation: &str) -> Output {
    let script = format!(
        "{preparation}; exec setpriv --reuid $1 --regid $1 --clear-groups -- \"$2\" --root \"$3\" run --bundle \"$4\" \"$5\""
    );
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "/bin/sh",
        "-ec",
        &script,
    ]);
    command.arg(c.dir()).arg(USER.to_string()).arg(c.program());
    command.arg(c.root()).arg(c.dir()).arg(&c.id);
    c.finish(command)
}

/// Like `run_after`, with these lines in /etc/subuid and /etc/subgid.
fn with_granted(c: &Container, granted: &str) -> Output {
    for name in ["subuid", "subgid"] {
        fs::write(c.dir().join(name), granted).unwrap();
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = format!("{passwd}orlop-test:x:{USER}:{USER}::/:/bin/sh\n");
    fs::write(c.dir().join("passwd"), line).unwrap();
    // The host may lack these files, and its /etc must not change. So an overlay provides them.
    let preparation = "mkdir $0/upper $0/work; mount -t overlay -o lowerdir=/etc,upperdir=$0/upper,workdir=$0/work o /etc; \
                       cp $0/subuid $0/subgid $0/passwd /etc/";
    run_after(c, preparation)
}

fn map_more(c: &mut Container) {
    c.edit(|j| {
        for list in ["uidMappings", "gidMappings"] {
            j["linux"][list] = json!([mapping(0, USER, 1), mapping(1, 300_000, 65_536)]);
        }
        j["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
    });
}

#[test]
fn more_ids_are_mapped_as_the_system_grants_them() {
    if !Path::new("/usr/bin/newuidmap").exists() {
        return skipped("newuidmap is not installed: Debian's package uidmap");
    }
    let mut c = rootless!();
    map_more(&mut c);
    c.script("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G; cat /proc/self/setgroups; stat -c %g /dev/pts");
    let output = with_granted(&c, "orlop-test:300000:65536\n");
    output.ok();
    let text = output.stdout();
    let user = USER.to_string();
    let map = ["0", &user, "1", "1", "300000", "65536"];
    assert_eq!(
        words(&text),
        [&map[..], &map, &["1000", "1000", "7", "allow", "0"]].concat()
    );
}

#[test]
fn ids_that_the_system_does_not_grant_are_reported_with_newuidmaps_message() {
    if !Path::new("/usr/bin/newuidmap").exists() {
        return skipped("newuidmap is not installed: Debian's package uidmap");
    }
    let mut c = rootless!();
    map_more(&mut c);
    let output = with_granted(&c, "orlop-test:300000:1000\n");
    output.exits(1).one_line();
    output
        .says("newuidmap")
        .says("linux.uidMappings")
        .says("not allowed");
    c.assert_nothing_left();
}

#[test]
fn without_the_tools_only_the_own_id_is_mapped() {
    let mut c = rootless!();
    map_more(&mut c);
    let hide = "for f in /usr/bin/newuidmap /usr/bin/newgidmap; do if [ -e $f ]; then mount --bind /dev/null $f; fi; done";
    let output = run_after(&c, hide);
    output
        .exits(1)
        .one_line()
        .says("newuidmap")
        .says("not installed");
    c.assert_nothing_left();
}

#[test]
fn root_of_a_user_namespace_that_the_caller_is_in_makes_containers_in_it() {
    let mut c = rootless!();
    for user_namespace in [false, true] {
        if !user_namespace {
            c.without_namespace("user");
        } else {
            c.edit(|j| {
                j["linux"]["namespaces"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"type": "user"}))
            });
        }
        c.without_mount("/dev/pts");
        c.edit(|j| {
            let linux = j["linux"].as_object_mut().unwrap();
            for list in ["uidMappings", "gidMappings"] {
                if user_namespace {
                    linux.insert(list.into(), json!([mapping(0, 0, 1)]));
                } else {
                    linux.remove(list);
                }
            }
        });
        c.script("id -u; stat -c %t:%T /dev/null; echo x > /dev/null; cat /proc/self/setgroups");
        let mut command = Command::new("setpriv");
        let user = USER.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command.args(["unshare", "--user", "--map-root-user", "--mount"]);
        command.arg(c.program()).arg("--root").arg(c.root());
        command.args(["run", "--bundle"]).arg(c.dir()).arg(&c.id);
        let output = c.finish(command);
        output.ok();
        assert_eq!(output.stdout(), "0\n1:3\ndeny\n", "{user_namespace}");
    }
}

// The caller's own uts namespace is the host's. Root of a user namespace can't enter it again.
#[test]
fn root_of_a_user_namespace_joins_another_beside_a_new_user_namespace() {
    let mut c = rootless!();
    let file = c.scratch().join("uts");
    std::fs::write(&file, "").unwrap();
    c.without_mount("/dev/pts");
    c.edit(|j| {
        j.as_object_mut().unwrap().remove("hostname");
        for list in ["uidMappings", "gidMappings"] {
            j["linux"][list] = json!([mapping(0, 0, 1)]);
        }
        let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "uts");
        namespaces.push(json!({"type": "uts", "path": file}));
    });
    c.script("hostname; id -u; cat /proc/self/uid_map");
    let mut command = Command::new("setpriv");
    let user = USER.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
    let script = "unshare --uts=$0 hostname joined; exec \"$@\"";
    command.args(["unshare", "--user", "--map-root-user", "--mount"]);
    command.args(["/bin/sh", "-ec", script]).arg(&file);
    command.arg(c.program()).arg("--root").arg(c.root());
    command.args(["run", "--bundle"]).arg(c.dir()).arg(&c.id);
    let output = c.finish(command);
    output.ok();
    assert_eq!(words(&output.stdout()), ["joined", "0", "0", "0", "1"]);
}

#[test]
fn a_limit_on_namespaces_is_told_by_its_sysctl() {
    let mut c = rootless!();
    c.edit(|j| {
        for list in ["uidMappings", "gidMappings"] {
            j["linux"][list] = json!([mapping(0, 0, 1)]);
        }
    });
    let mut command = Command::new("unshare");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    command.args(["--user", "--map-root-user", "/bin/sh", "-ec", script, "sh"]);
    command
        .arg(c.program())
        .arg("--root")
        .arg(c.root())
        .args(["run", "--bundle"]);
    command.arg(c.dir()).arg(&c.id).uid(USER).gid(USER);
    let output = c.finish(command);
    output.exits(1).one_line().says("user.max_user_namespaces");
    c.assert_nothing_left();
}

#[test]
fn root_of_a_user_namespace_enters_pid_and_time_namespaces_from_those_of_the_host() {
    let mut c = rootless!();
    c.without_namespace("user");
    c.without_mount("/dev/pts");
    c.edit(|j| {
        let linux = j["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "time"}));
        linux.insert(
            "timeOffsets".into(),
            json!({"boottime": {"secs": 1_000_000}}),
        );
    });
    c.script("sleep 1000");
    // A second container joins the pid namespace of the first. The path needs the first one's pid,
    // which is known only after its start.
    let other = c.scratch().join("other");
    fs::create_dir(&other).unwrap();
    lchown(&other, Some(USER), Some(USER)).unwrap();
    let mut config = c.config().clone();
    config["root"]["path"] = json!(c.rootfs(""));
    config["process"]["args"] = json!([
        "/bin/sh",
        "-c",
        "readlink /proc/self/ns/pid; cut -d. -f1 /proc/uptime"
    ]);
    for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!("/proc/@PID@/ns/pid");
        }
    }
    fs::write(
        other.join("config.in"),
        serde_json::to_vec(&config).unwrap(),
    )
    .unwrap();
    let script = "orlop() { \"$program\" --root \"$root\" \"$@\"; }
        orlop run --detach --bundle \"$bundle\" --pid-file \"$other/pid\" one >/dev/null
        orlop exec one /bin/sh -c 'id -u; readlink /proc/self/ns/pid; cut -d. -f1 /proc/uptime'
        sed \"s/@PID@/$(cat \"$other/pid\")/\" \"$other/config.in\" >\"$other/config.json\"
        orlop run --bundle \"$other\" two
        orlop delete --force one";
    let user = USER.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
    command.args([
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "/bin/sh",
        "-ec",
        script,
    ]);
    command.env("program", c.program()).env("root", c.root());
    command.env("bundle", c.dir()).env("other", &other);
    let output = c.finish(command);
    let text = output.ok().stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        (lines.len(), lines[0], lines[1]),
        (5, "0", lines[3]),
        "{text}"
    );
    for uptime in [lines[2], lines[4]] {
        assert!(uptime.parse::<u64>().unwrap() > 1_000_000, "{text}");
    }
}
