//! exec: the inherited properties of a later process, the effects of flags, and failures.
//! Terminals are in `terminal`.

use std::fs;

use serde_json::{Value, json};

use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, adopt, eventually, kernel, skipped, words};

/// Writes a process object for --process to a file. Returns the path.
fn process_file(c: &Container, change: impl FnOnce(&mut Value)) -> String {
    let mut process = c.config()["process"].clone();
    change(&mut process);
    let path = c.scratch().join("process.json");
    fs::write(&path, serde_json::to_vec(&process).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Starts a detached exec of `sleep` and returns its pid.
fn sleeper(c: &Container, flags: &[&str]) -> i32 {
    let file = c.scratch().join("exec.pid");
    let mut all = vec!["--detach", "--pid-file", file.to_str().unwrap()];
    all.extend(flags);
    c.exec_with(&all, &["/bin/sleep", "1000"]).ok();
    let pid = fs::read_to_string(file).unwrap().parse().unwrap();
    adopt(pid);
    pid
}

#[test]
fn exec_runs_a_command_with_its_output_and_exit_code() {
    let mut c = container!();
    c.run_detached().ok();
    let output = c.exec(&["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]);
    output.exits(7);
    assert_eq!(
        (output.stdout(), output.stderr()),
        ("out\n".to_owned(), "err\n".to_owned())
    );
}

#[test]
fn exec_reads_stdin() {
    let mut c = container!();
    c.run_detached().ok();
    let input = c.scratch().join("input");
    fs::write(&input, "typed\n").unwrap();
    let mut command = c.command(&["exec", &c.id, "cat"]);
    command.stdin(fs::File::open(input).unwrap());
    let output = c.finish(command);
    output.ok();
    assert_eq!(output.stdout(), "typed\n");
}

#[test]
fn exec_joins_every_namespace_of_init() {
    let mut c = container!();
    c.run_detached().ok();
    let pid = sleeper(&c, &[]);
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        assert_eq!(
            kernel::namespace(pid, name),
            kernel::namespace(c.pid(), name),
            "{name}"
        );
    }
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/root")).unwrap(),
        fs::read_link(format!("/proc/{}/root", c.pid())).unwrap()
    );
}

#[test]
fn exec_joins_the_cgroup_of_init() {
    let mut c = container!();
    c.run_detached().ok();
    let pid = sleeper(&c, &[]);
    assert_eq!(kernel::cgroup_of(pid), c.cgroup_path());
}

#[test]
fn exec_inherits_user_umask_limits_capabilities_and_privileges_from_the_config() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["user"] =
            json!({"uid": 1000, "gid": 1001, "umask": 0o077, "additionalGids": [42]});
        j["process"]["cwd"] = json!("/tmp");
    });
    c.capabilities(&["inheritable", "ambient"], &["CAP_KILL"]);
    c.run_detached().ok();
    let (init, pid) = (c.pid(), sleeper(&c, &[]));
    for field in [
        "Uid",
        "Gid",
        "Groups",
        "Umask",
        "NoNewPrivs",
        "Seccomp",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "SigBlk",
    ] {
        assert_eq!(
            kernel::status(pid, field),
            kernel::status(init, field),
            "{field}"
        );
    }
    assert_eq!(
        kernel::limit(pid, "Max open files"),
        kernel::limit(init, "Max open files")
    );
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd"))
            .unwrap()
            .file_name()
            .unwrap(),
        "tmp"
    );
}

#[test]
fn exec_inherits_the_oom_score_of_the_config() {
    let mut c = container!();
    c.edit(|j| j["process"]["oomScoreAdj"] = json!(111));
    c.run_detached().ok();
    let pid = sleeper(&c, &[]);
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(text.trim(), "111");
}

#[test]
fn exec_has_no_descriptor_but_the_standard_three() {
    let mut c = container!();
    c.run_detached().ok();
    let pid = sleeper(&c, &[]);
    let numbers: Vec<i32> = kernel::descriptors(pid).into_iter().map(|d| d.0).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn exec_takes_cwd_env_user_and_groups_from_flags() {
    let mut c = container!();
    c.run_detached().ok();
    let flags = [
        "--cwd",
        "/tmp",
        "-e",
        "ONE=1",
        "-e",
        "TWO=2 and more",
        "--user",
        "1000:1001",
        "-g",
        "7",
        "-g",
        "8",
    ];
    let output = c.exec_with(
        &flags,
        &["/bin/sh", "-c", "pwd; echo $ONE $TWO; id -u; id -g; id -G"],
    );
    output.ok();
    let text = output.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["/tmp", "1 2 and more", "1000", "1001"]);
    let groups = words(lines[4]);
    assert!(groups.contains(&"7") && groups.contains(&"8"), "{groups:?}");
}

#[test]
fn an_unknown_capability_given_to_exec_is_ignored() {
    let mut c = container!();
    c.run_detached().ok();
    let flags = ["--cap", "CAP_UNHEARD_OF", "--cap", "CAP_CHOWN"];
    let pid = sleeper(&c, &flags);
    let mask = u64::from_str_radix(&kernel::status(pid, "CapEff"), 16).unwrap();
    assert_eq!(mask & 1, 1);
    let output = c.exec_with(&flags, &["/bin/true"]);
    output.ok().one_line().says("unknown capability");
}

#[test]
fn arguments_of_exec_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut c = container!();
    c.run_detached().ok();
    let bytes = std::ffi::OsStr::from_bytes;
    fs::create_dir(c.rootfs("/").join(bytes(b"d\xfe"))).unwrap();
    let mut command = c.command(&["exec", "--cwd"]);
    command
        .arg(bytes(b"/d\xfe"))
        .arg("--env")
        .arg(bytes(b"V=\xff"));
    command.arg("--env").arg(bytes(b"\xfa=v")).arg(&c.id);
    command.args([
        "/bin/sh",
        "-c",
        "pwd; tr '\\0' '\\n' </proc/$$/environ; echo $0",
    ]);
    let output = c.finish({
        command.arg(bytes(b"\xfd"));
        command
    });
    let text = output.ok().stdout_bytes();
    for word in [b"/d\xfe\n".as_slice(), b"V=\xff\n", b"\xfa=v\n", b"\xfd\n"] {
        assert!(
            text.windows(word.len()).any(|found| found == word),
            "{text:?}"
        );
    }
}

#[test]
fn exec_with_no_new_privs_sets_it() {
    let mut c = container!();
    c.edit(|j| j["process"]["noNewPrivileges"] = json!(false));
    c.run_detached().ok();
    assert_eq!(kernel::status(sleeper(&c, &[]), "NoNewPrivs"), "0");
    assert_eq!(
        kernel::status(sleeper(&c, &["--no-new-privs"]), "NoNewPrivs"),
        "1"
    );
}

#[test]
fn exec_takes_a_whole_process_from_a_file() {
    let mut c = container!();
    c.run_detached().ok();
    let file = process_file(&c, |p| {
        p["args"] = json!(["/bin/sh", "-c", "id -u; pwd; echo $X; umask"]);
        p["user"] = json!({"uid": 12, "gid": 13, "umask": 0o007});
        p["cwd"] = json!("/etc");
        p["env"] = json!(["PATH=/bin", "X=from the file"]);
    });
    let output = c.runtime(&["exec", "--process", &file, &c.id]);
    output.ok();
    assert_eq!(output.stdout(), "12\n/etc\nfrom the file\n0007\n");
}

#[test]
fn exec_detached_returns_at_once_and_writes_the_pid() {
    let mut c = container!();
    c.run_detached().ok();
    let pid = sleeper(&c, &[]);
    assert!(kernel::alive(pid));
    assert_eq!(kernel::status(pid, "PPid"), std::process::id().to_string());
    assert!(kernel::procs(&c.cgroup()).contains(&pid));
}

#[test]
fn exec_returns_128_and_the_signal_that_ended_the_process() {
    let mut c = container!();
    c.run_detached().ok();
    c.exec(&["/bin/sh", "-c", "kill -KILL $$"]).exits(137);
}

// For conmon, a missing pid file is the only sign of a failed exec.
#[test]
fn exec_of_a_missing_command_is_255_names_it_and_writes_no_pid_file() {
    let mut c = container!();
    c.run_detached().ok();
    let file = c.scratch().join("pid");
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    c.exec_with(&flags, &["missing-command"])
        .exits(255)
        .says("exec failed: ")
        .says("executable file not found in $PATH")
        .one_line();
    assert!(!file.exists());
    c.exec(&["/missing/command"])
        .exits(255)
        .says("no such file or directory");
    c.exec(&["/etc/passwd"])
        .exits(255)
        .says("permission denied");
    assert!(kernel::alive(c.pid()));
}

#[test]
fn exec_in_a_stopped_container_is_refused() {
    let mut c = container!();
    c.args(&["/bin/true"]);
    c.run_detached().ok();
    c.wait();
    c.exec(&["/bin/true"])
        .exits(255)
        .says("cannot exec in a stopped container");
}

#[test]
fn an_exec_into_an_ending_container_does_not_say_that_a_file_is_missing() {
    let mut c = container!();
    c.args(&["/bin/sleep", "0.03"]);
    for _ in 0..30 {
        c.run_detached().ok();
        let mut last = c.exec(&["/bin/true"]);
        while last.code == 0 {
            last = c.exec(&["/bin/true"]);
        }
        let told = last.stderr();
        assert!(!told.contains("no such file"), "{told}");
        c.wait();
        c.delete(&[]).ok();
    }
}

#[test]
fn exec_works_in_a_created_container() {
    let mut c = container!();
    c.create().ok();
    let output = c.exec(&["/bin/hostname"]);
    output.ok();
    assert_eq!(output.stdout(), "orlop\n");
    assert_eq!(c.status(), "created");
}

#[test]
fn exec_in_a_paused_container_is_refused_unless_told_otherwise() {
    let mut c = container!();
    c.run_detached().ok();
    c.runtime(&["pause", &c.id]).ok();
    c.exec(&["/bin/true"])
        .exits(255)
        .says("cannot exec in a paused container (use --ignore-paused to override)");
    let file = c.scratch().join("pid");
    let flags = [
        "--ignore-paused",
        "--detach",
        "--pid-file",
        file.to_str().unwrap(),
    ];
    let inner = c.command(&["exec"]);
    let mut command = std::process::Command::new(inner.get_program());
    command
        .args(inner.get_args())
        .args(flags)
        .args([&c.id, "true"]);
    let mut child = command.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    c.runtime(&["resume", &c.id]).ok();
    assert!(crate::harness::wait_for(&mut child).success());
    adopt(fs::read_to_string(file).unwrap().parse().unwrap());
}

/// A container may freeze a cgroup just after the runtime has looked at it.
#[test]
fn exec_into_a_frozen_cgroup_is_given_up_after_10_s() {
    let mut c = container!();
    c.run_detached().ok();
    let below = c.cgroup().join("below");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("cgroup.freeze"), "1").unwrap();
    let begin = std::time::Instant::now();
    c.exec_with(&["--cgroup", "below"], &["/bin/true"])
        .exits(255)
        .one_line()
        .says("frozen")
        .says(below.to_str().unwrap());
    let took = begin.elapsed();
    assert!(took > std::time::Duration::from_secs(9), "{took:?}");
    assert_eq!(c.status(), "running");
    eventually("nothing is left in the cgroup", || {
        kernel::procs(&below).is_empty()
    });
}

#[test]
fn the_container_outlives_its_exec_processes_and_they_die_with_it() {
    let mut c = container!();
    c.run_detached().ok();
    let pid = sleeper(&c, &[]);
    c.kill("KILL").ok();
    c.wait();
    crate::harness::eventually("the exec process dies", || !kernel::alive(pid));
}

#[test]
fn exec_joins_a_subcgroup_by_flag_and_cannot_leave_the_containers() {
    let mut c = container!();
    c.run_detached().ok();
    fs::create_dir(c.cgroup().join("sub")).unwrap();
    let pid = sleeper(&c, &["--cgroup", "sub"]);
    assert_eq!(kernel::cgroup_of(pid), format!("{}/sub", c.cgroup_path()));
    for path in ["../../x", "..", "a/../../b"] {
        c.exec_with(&["--cgroup", path], &["/bin/true"]).exits(255);
    }
}

#[test]
fn exec_goes_where_init_is_when_the_containers_cgroup_takes_no_processes() {
    let mut c = container!();
    c.run_detached().ok();
    let (cgroup, pid) = (c.cgroup(), c.pid());
    let controllers = fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap();
    // With threaded controllers only, a cgroup without populated children still accepts processes.
    let is_domain = |name: &&&str| ["memory", "io", "hugetlb"].contains(*name);
    let names = crate::harness::words(&controllers);
    let Some(controller) = names.iter().find(is_domain) else {
        return skipped("no domain controller to enable");
    };
    let below = cgroup.join("init.scope");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("cgroup.procs"), pid.to_string()).unwrap();
    fs::write(
        cgroup.join("cgroup.subtree_control"),
        format!("+{controller}"),
    )
    .unwrap();
    let text = c.exec_output("cat /proc/self/cgroup");
    assert!(text.contains("0::/init.scope"), "{text}");
    c.exec_with(&["--cgroup", "init.scope"], &["/bin/true"])
        .ok();
    // A cgroup that a flag names has no fallback.
    let full = cgroup.join("full");
    fs::create_dir(&full).unwrap();
    fs::write(
        full.join("cgroup.subtree_control"),
        format!("+{controller}"),
    )
    .unwrap();
    c.exec_with(&["--cgroup", "full"], &["/bin/true"])
        .exits(255)
        .says("EBUSY")
        .says(&format!(
            "start a process in cgroup {} (--cgroup full)",
            full.display()
        ))
        .one_line();
}

#[test]
fn exec_refuses_a_profile_that_it_cannot_apply() {
    let mut c = container!();
    c.run_detached().ok();
    // This kernel has no AppArmor: exec must not start a process without the profile.
    c.edit(|config| config["process"]["apparmorProfile"] = json!("strict"));
    c.exec(&["/bin/true"])
        .exits(255)
        .one_line()
        .says("process.apparmorProfile");
}

#[test]
fn a_process_file_may_be_a_pipe_that_the_caller_holds() {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let mut c = container!();
    c.run_detached().ok();
    let text = serde_json::to_string(&json!({
        "args": ["/bin/sh", "-c", "tty; stty size"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
        "consoleSize": {"height": 10, "width": 110},
    }));
    let (reader, writer) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(
        &reader,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let path = format!("/dev/fd/{}", reader.as_raw_fd());
    // The text is longer than a pipe holds, and is written after the first read.
    let late = std::thread::spawn(move || {
        let mut writer = writer;
        std::thread::sleep(std::time::Duration::from_millis(200));
        writer.write_all(" ".repeat(100_000).as_bytes()).unwrap();
        writer.write_all(text.unwrap().as_bytes()).unwrap();
    });
    let socket = c.scratch().join("console");
    let console = ConsoleSocket::listen(&socket);
    let mut command = c.command(&["exec", "--detach", "--tty", "--console-socket"]);
    command
        .arg(&socket)
        .args(["--process", &path, "--pid-file"]);
    let file = c.scratch().join("exec.pid");
    command.arg(&file).arg(&c.id);
    c.finish(command).ok();
    adopt(fs::read_to_string(file).unwrap().parse().unwrap());
    late.join().unwrap();
    let screen = Screen::of(console.receive().descriptors.remove(0));
    screen.wait_for("/dev/pts/0");
    screen.wait_for("10 110");
}

#[test]
fn exec_cap_is_ambient_too_where_it_may_be_inherited() {
    let mut c = container!();
    c.capabilities(&["bounding"], &["CAP_CHOWN", "CAP_KILL", "CAP_SYSLOG"]);
    c.capabilities(&["permitted", "effective"], &["CAP_CHOWN", "CAP_KILL"]);
    c.capabilities(&["inheritable"], &["CAP_CHOWN", "CAP_SYSLOG"]);
    c.capabilities(&["ambient"], &["CAP_CHOWN"]);
    c.run_detached().ok();
    let sets = |cap: &str| {
        let output = c.exec_with(&["--cap", cap], &["/bin/cat", "/proc/self/status"]);
        let text = output.ok().stdout();
        ["CapInh", "CapPrm", "CapEff", "CapAmb"]
            .map(|set| u64::from_str_radix(&kernel::status_field(&text, set), 16).unwrap())
    };
    let (chown, kill, syslog, net_raw) = (1, 1 << 5, 1 << 34, 1 << 13);
    let both = chown | syslog;
    assert_eq!(sets("CAP_SYSLOG"), [both, both | kill, both | kill, both]);
    let with = chown | kill | net_raw;
    assert_eq!(sets("CAP_NET_RAW"), [both, with, with, chown]);
}

#[test]
fn a_missing_interpreter_is_distinguished_from_a_missing_program() {
    let mut c = container!();
    c.run_detached().ok();
    crate::harness::install(b"#!/no/such/shell\n", &c.rootfs("/run.sh"));
    c.exec(&["/run.sh"])
        .exits(255)
        .one_line()
        .says("exec /run.sh: no such file or directory")
        .says("interpreter");
}

#[test]
fn a_bad_working_directory_is_named_with_its_flag_or_field() {
    let mut c = container!();
    c.run_detached().ok();
    c.exec_with(&["--cwd", "/etc/passwd"], &["/bin/true"])
        .exits(255)
        .says("change to the working directory /etc/passwd (--cwd): chdir: ENOTDIR")
        .one_line();
    let file = c.scratch().join("process.json");
    let process =
        json!({"args": ["/bin/true"], "cwd": "/etc/passwd", "user": {"uid": 0, "gid": 0}});
    fs::write(&file, process.to_string()).unwrap();
    c.runtime(&["exec", "--process", file.to_str().unwrap(), &c.id])
        .exits(255)
        .says("process.json: process.cwd)")
        .one_line();
    c.edit(|j| j["process"]["cwd"] = json!("/etc/passwd"));
    c.exec(&["/bin/true"])
        .exits(255)
        .says("(config.json: process.cwd)")
        .one_line();
}
