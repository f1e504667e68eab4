//! Hooks: their order, namespaces, input and failures, and that no hook can block a command.
//! The lifecycle without hooks is in `lifecycle`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Container, eventually, kernel, wait_for};

const CREATE: [&str; 3] = ["prestart", "createRuntime", "createContainer"];
const ALL: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook that runs a script with the /bin/sh of its mount namespace.
fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

fn with_timeout(mut hook: Value, seconds: i64) -> Value {
    hook["timeout"] = json!(seconds);
    hook
}

fn set(c: &mut Container, kind: &str, hooks: &[Value]) {
    c.edit(|j| j["hooks"][kind] = json!(hooks));
}

/// A file that hooks inside and outside the container find at the same path.
fn log_file(c: &mut Container) -> PathBuf {
    let dir = c.scratch().to_str().unwrap().to_owned();
    c.mount(&dir, "bind", &dir, &["rbind"]);
    c.scratch().join("log")
}

/// Adds a hook of each kind that writes a note when it runs.
fn note_all(c: &mut Container) -> PathBuf {
    let log = log_file(c);
    for kind in ALL {
        set(c, kind, &[shell(&note(kind, &log))]);
    }
    log
}

fn note(kind: &str, log: &std::path::Path) -> String {
    format!("echo {kind} >> {}", log.display())
}

fn lines(log: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn host_namespace(name: &str) -> String {
    kernel::namespace(std::process::id() as i32, name)
}

#[test]
fn hooks_run_in_their_order_and_namespaces_and_are_told_the_state() {
    let mut c = container!();
    let log = log_file(&mut c);
    for kind in ALL {
        let script = format!(
            "echo {kind} $(readlink /proc/self/ns/net) $(readlink /proc/self/ns/mnt) $(pwd) $(cat) >> {}",
            log.display()
        );
        set(&mut c, kind, &[shell(&script)]);
    }
    c.edit(|j| j["annotations"] = json!({"org.example.key": "value"}));
    c.edit(|j| j["process"]["cwd"] = json!("/tmp"));
    c.create().ok();
    let pid = c.pid();
    let own = ["net", "mnt"].map(host_namespace);
    let inside = ["net", "mnt"].map(|name| kernel::namespace(pid, name));
    assert_eq!(lines(&log).len(), 3);
    c.start().ok();
    assert_eq!(lines(&log).len(), 5);
    c.kill("KILL").ok();
    c.wait_dead();
    c.delete(&[]).ok();
    let bundle = c.dir().to_str().unwrap().to_owned();
    let root = format!("{bundle}/rootfs");
    let expected = [
        ("prestart", &own, bundle.as_str(), "created", pid),
        ("createRuntime", &own, &bundle, "creating", pid),
        ("createContainer", &inside, &root, "creating", 1),
        ("startContainer", &inside, "/tmp", "created", 1),
        ("poststart", &own, &bundle, "running", pid),
        ("poststop", &own, &bundle, "stopped", 0),
    ];
    let lines = lines(&log);
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, (kind, namespaces, cwd, status, pid)) in lines.iter().zip(expected) {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        assert_eq!(words[0], kind);
        assert_eq!([words[1], words[2]], namespaces.each_ref(), "{kind}");
        assert_eq!(words[3], cwd, "{kind}");
        let mut state: Value = serde_json::from_str(words[4]).unwrap();
        let version = state["ociVersion"].take();
        assert!(version.as_str().unwrap().starts_with("1."), "{version}");
        let told = json!({
            "ociVersion": null, "id": c.id, "status": status, "pid": pid, "bundle": bundle,
            "annotations": {"org.example.key": "value"}
        });
        assert_eq!(state, told, "{kind}");
    }
}

#[test]
fn a_foreground_run_runs_all_hooks() {
    let mut c = container!();
    let log = note_all(&mut c);
    let dir = c.scratch();
    let script = format!("echo program >> {}/log; sleep 0.3", dir.display());
    c.script(&script);
    c.run().ok();
    let mut lines = lines(&log);
    // The program and the poststart hook may write in either order.
    lines[4..6].sort();
    let expected = [&ALL[..4], &["poststart", "program", "poststop"]].concat();
    assert_eq!(lines, expected);
    c.assert_nothing_left();
}

#[test]
fn hooks_before_the_change_of_root_find_the_mounts_and_can_add_to_them() {
    for flags in [&["--detach"][..], &["--detach", "--no-pivot"]] {
        let mut c = container!();
        fs::create_dir(c.rootfs("/outside")).unwrap();
        fs::create_dir(c.rootfs("/inside")).unwrap();
        let root = c
            .rootfs("/")
            .to_str()
            .unwrap()
            .trim_end_matches('/')
            .to_owned();
        let mounted = format!("grep -q ' {root}/dev/pts ' /proc/self/mountinfo");
        let from_outside = format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -m -t $pid sh -c \"{mounted} && mount -t tmpfs one {root}/outside\""
        );
        set(&mut c, "createRuntime", &[shell(&from_outside)]);
        let from_inside =
            format!("{mounted} && mount -t tmpfs two {root}/inside && test -d dev/pts");
        set(&mut c, "createContainer", &[shell(&from_inside)]);
        c.make("run", flags).ok();
        for (target, source) in [("/outside", "one"), ("/inside", "two")] {
            let mount = kernel::mount_at(c.pid(), target).unwrap();
            assert_eq!(mount.source, source, "{flags:?}");
        }
        assert!(!kernel::host_mountinfo().contains(&root), "{flags:?}");
        let root = kernel::mount_at(c.pid(), "/").unwrap();
        assert!(root.root.ends_with("/rootfs"), "{root:?}");
    }
}

#[test]
fn cve_2025_23266_each_hook_has_its_own_environment_and_nothing_else() {
    let mut c = container!();
    let log = log_file(&mut c);
    for kind in ALL {
        let dump = format!(
            "{{ echo {kind}; /bin/cat /proc/self/environ; echo; /bin/ls /proc/self/fd | /usr/bin/wc -l || /bin/ls /proc/self/fd | /bin/wc -l; }} >> {} 2>/dev/null",
            log.display()
        );
        let mut plain = shell(&dump);
        plain.as_object_mut().unwrap().remove("env");
        let with = |env: Value| {
            let mut hook = shell(&dump);
            hook["env"] = env;
            hook
        };
        set(
            &mut c,
            kind,
            &[plain, with(json!(["OWN=1"])), with(json!([]))],
        );
    }
    c.edit(|j| {
        let env = j["process"]["env"].as_array_mut().unwrap();
        env.push(json!("LD_PRELOAD=/proc/self/cwd/evil.so"));
    });
    let calls = |c: &Container, args: &[&str], stage: &str| {
        let mut command = c.command(args);
        command.env_clear().env("CALL", stage);
        c.finish(command).ok();
    };
    let (bundle, pid_file) = (c.dir().to_owned(), c.pid_file());
    let create = ["create", "--bundle", bundle.to_str().unwrap(), "--pid-file"];
    let id = c.id.clone();
    calls(
        &c,
        &[&create[..], &[pid_file.to_str().unwrap(), &id]].concat(),
        "create",
    );
    c.pid();
    calls(&c, &["start", &id], "start");
    c.kill("KILL").ok();
    c.wait_dead();
    calls(&c, &["delete", &id], "delete");
    let found = lines(&log);
    assert_eq!(found.len(), ALL.len() * 3 * 3, "{found:?}");
    for (index, hook) in found.chunks(3).enumerate() {
        let kind = ALL[index / 3];
        assert_eq!(hook[0], kind);
        // Ignore variables that the shell sets or that the harness adds to the process.
        let own = |entry: &&str| {
            !entry.is_empty()
                && ![
                    "PWD=",
                    "SHLVL=",
                    "_=",
                    "OLDPWD=",
                    "PATH=",
                    "ORLOP_TEST_COOKIE=",
                ]
                .iter()
                .any(|p| entry.starts_with(p))
        };
        let env: Vec<&str> = hook[1].split('\0').filter(own).collect();
        let of_process = ["HOME=/root", "LD_PRELOAD=/proc/self/cwd/evil.so"];
        let expected: &[&str] = match (index % 3, kind) {
            // Without `env`, a hook in the container has the process's environment. Other hooks
            // have the runtime's.
            (0, "startContainer") => &of_process,
            (0, "poststart") => &["CALL=start"],
            (0, "poststop") => &["CALL=delete"],
            (0, _) => &["CALL=create"],
            (1, _) => &["OWN=1"],
            _ => &[],
        };
        assert_eq!(env, expected, "{}", hook[0]);
        // The descriptors are 0, 1, 2, and the directory that `ls` reads.
        assert_eq!(hook[2], "4", "{}", hook[0]);
    }
}

#[test]
fn args_are_passed_as_given_and_the_path_is_the_name_without_them() {
    let mut c = container!();
    let script = c.scratch().join("script");
    let log = c.scratch().join("log");
    let text = format!("#!/bin/sh\necho \"$# $1\" >> {}\n", log.display());
    crate::harness::install(text.as_bytes(), &script);
    let hooks = [
        json!({"path": script}),
        json!({"path": script, "args": []}),
        json!({"path": script, "args": ["other name", "a b"]}),
    ];
    set(&mut c, "createRuntime", &hooks);
    c.create().ok();
    assert_eq!(lines(&log), ["0 ", "0 ", "1 a b"]);
}

#[test]
fn a_failing_hook_of_create_leaves_nothing_but_poststop() {
    for verb in ["create", "run"] {
        for kind in CREATE {
            let mut c = container!();
            let log = note_all(&mut c);
            let hooks = [
                shell("exit 0"),
                shell("echo why >&2; exit 3"),
                shell("exit 4"),
            ];
            set(&mut c, kind, &hooks);
            c.make(verb, &[]).exits(1).one_line().says(&format!(
                "hooks.{kind}[1] (/bin/sh): exited with code 3: why"
            ));
            c.assert_nothing_left();
            let before = CREATE.iter().take_while(|k| **k != kind).copied();
            let expected: Vec<&str> = before.chain(["poststop"]).collect();
            assert_eq!(lines(&log), expected, "{kind}");
            c.edit(|j| j["hooks"] = json!({}));
            c.create().ok();
        }
    }
}

#[test]
fn a_failing_hook_of_start_leaves_nothing_of_the_container() {
    for kind in ["startContainer", "poststart"] {
        let mut c = container!();
        let log = note_all(&mut c);
        set(&mut c, kind, &[shell("echo why >&2; exit 3")]);
        c.create().ok();
        let pid = c.pid();
        let failed = format!("hooks.{kind}[0] (/bin/sh): exited with code 3: why");
        c.start().exits(1).one_line().says(&failed);
        assert!(!kernel::alive(pid));
        assert_eq!(lines(&log).last().unwrap(), "poststop", "{kind}");
        c.assert_nothing_left();
        c.delete(&[]).exits(1).says("does not exist");
    }
}

#[test]
fn a_failing_start_hook_of_run_leaves_nothing() {
    for kind in ["startContainer", "poststart"] {
        for flags in [&[][..], &["--detach"]] {
            let mut c = container!();
            let log = note_all(&mut c);
            set(&mut c, kind, &[shell("exit 3")]);
            c.make("run", flags)
                .exits(1)
                .one_line()
                .says(&format!("hooks.{kind}[0] (/bin/sh): exited with code 3"));
            c.assert_nothing_left();
            assert_eq!(lines(&log).last().unwrap(), "poststop", "{kind}");
        }
    }
}

#[test]
fn a_failing_poststop_hook_is_a_warning_and_the_others_run() {
    let mut c = container!();
    let log = log_file(&mut c);
    let hooks = [shell("exit 3"), shell(&note("second", &log))];
    set(&mut c, "poststop", &hooks);
    c.args(&["/bin/true"]);
    let warning = "hooks.poststop[0] (/bin/sh): exited with code 3";
    // The warning appears even if no option asks for warnings, since runtime-spec requires it.
    let records = c.scratch().join("records");
    let id = c.id.clone();
    let to_file = ["--log", records.to_str().unwrap(), "delete", &id];
    for (flags, to_stderr) in [(&to_file[..], false), (&to_file[2..], true)] {
        c.create().ok();
        c.start().ok();
        c.wait_dead();
        let output = c.runtime(flags);
        output.ok();
        let told = if to_stderr {
            output.stderr()
        } else {
            assert_eq!(output.stderr(), "");
            fs::read_to_string(&records).unwrap()
        };
        assert!(told.contains(warning), "{told}");
        assert!(told.contains("level=warning"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    c.run().ok().says(warning);
    assert_eq!(lines(&log), ["second"; 3]);
    // A warning in addition to an error would be a second record, and podman reads only one.
    let records = c.scratch().join("failed");
    set(&mut c, "poststart", &[shell("exit 4")]);
    let flags = [
        "--log",
        records.to_str().unwrap(),
        "--log-format",
        "json",
        "run",
    ];
    let bundle = c.dir().to_str().unwrap().to_owned();
    c.runtime(&[&flags[..], &["--bundle", &bundle, &c.id]].concat())
        .exits(1)
        .one_line();
    assert_eq!(fs::read_to_string(records).unwrap().lines().count(), 1);
    c.assert_nothing_left();
}

#[test]
fn a_program_that_cannot_be_executed_is_named() {
    for kind in CREATE.iter().chain(&["startContainer"]) {
        let mut c = container!();
        set(&mut c, kind, &[json!({"path": "/nonexistent/hook"})]);
        c.run().exits(1).one_line().says(&format!(
            "hooks.{kind}[0] (/nonexistent/hook): execve: ENOENT (no such file or directory)"
        ));
        set(&mut c, kind, &[json!({"path": "/etc/passwd"})]);
        c.run().exits(1).says("execve: EACCES (permission denied)");
    }
}

#[test]
fn a_hook_that_is_killed_is_reported_with_its_signal() {
    let mut c = container!();
    set(&mut c, "createContainer", &[shell("kill -KILL $$")]);
    c.run()
        .exits(1)
        .says("hooks.createContainer[0] (/bin/sh): killed by signal 9 (SIGKILL)");
}

#[test]
fn a_hook_past_its_timeout_is_killed_with_what_it_started() {
    for kind in &ALL[..5] {
        let mut c = container!();
        let log = log_file(&mut c);
        let note = note("still here", &log);
        let long = format!(
            "echo hm >&2; (for i in $(seq 1000); do {note}; sleep 0.05; done) & sleep 1000"
        );
        set(&mut c, kind, &[with_timeout(shell(&long), 2)]);
        c.run().exits(1).one_line().says(&format!(
            "hooks.{kind}[0] (/bin/sh): timed out after 2s: hm"
        ));
        c.assert_nothing_left();
        eventually("what it started is ended", || {
            let before = lines(&log).len();
            std::thread::sleep(Duration::from_millis(300));
            lines(&log).len() == before
        });
    }
}

#[test]
fn processes_that_a_hook_leaves_behind_block_nothing() {
    // The process is in another process group, which the kill does not reach, and keeps the pipes
    // open.
    for kind in ALL {
        let mut c = container!();
        set(&mut c, kind, &[shell("setsid sleep 60 & exit 0")]);
        c.args(&["/bin/true"]);
        let begin = Instant::now();
        c.run().ok();
        if ["createRuntime", "prestart"].contains(&kind) {
            set(
                &mut c,
                kind,
                &[with_timeout(shell("setsid sleep 60 & sleep 1000"), 1)],
            );
            c.run().exits(1).says("timed out after 1s");
        }
        assert!(begin.elapsed() < Duration::from_secs(50), "{kind}");
    }
}

#[test]
fn a_hook_may_leave_its_stdin_unread() {
    let mut c = container!();
    let long = "x".repeat(200_000);
    c.edit(|j| j["annotations"] = json!({ "long": long }));
    for kind in ALL {
        set(
            &mut c,
            kind,
            &[shell("exec <&-; sleep 0.05"), json!({"path": "/bin/true"})],
        );
    }
    c.args(&["/bin/true"]);
    c.run().ok();
    // The init of a pid namespace survives a SIGPIPE anyway, so repeat this without one.
    c.without_namespace("pid");
    c.run().ok();
    for kind in ALL {
        set(&mut c, kind, &[shell("test $(wc -c) -gt 200000")]);
    }
    c.run().ok();
}

#[test]
fn megabytes_on_stderr_are_cut_to_the_last_lines() {
    for kind in ["createRuntime", "startContainer"] {
        let mut c = container!();
        let flood = "dd if=/dev/zero bs=1000000 count=10 2>/dev/null | tr '\\0' 'x' >&2; echo >&2; echo end >&2";
        set(&mut c, kind, &[shell(flood)]);
        c.args(&["/bin/true"]);
        let output = c.run();
        output.ok();
        assert_eq!(output.stderr(), "");
        set(&mut c, kind, &[shell(&format!("{flood}; exit 1"))]);
        c.run().exits(1).one_line().says(&format!(
            "hooks.{kind}[0] (/bin/sh): exited with code 1: end"
        ));
    }
}

#[test]
fn hooks_print_nothing_where_the_container_or_the_caller_prints() {
    let mut c = container!();
    for kind in ALL {
        set(&mut c, kind, &[shell("echo out; echo err >&2")]);
    }
    c.script("echo program");
    let output = c.run();
    output.ok();
    assert_eq!(
        (output.stdout().as_str(), output.stderr()),
        ("program\n", String::new())
    );
}

#[test]
fn later_commands_run_hooks_without_the_config() {
    let mut c = container!();
    let log = note_all(&mut c);
    c.create().ok();
    let config = c.dir().join("config.json");
    fs::rename(&config, c.dir().join("away")).unwrap();
    c.start().ok();
    c.kill("KILL").ok();
    c.wait_dead();
    c.delete(&[]).ok();
    assert_eq!(lines(&log), ALL);
}

#[test]
fn delete_force_is_not_held_up_by_a_hook_that_hangs() {
    for kind in &ALL[..5] {
        let mut c = container!();
        let ready = log_file(&mut c);
        let hang = format!("touch {}; sleep 1000", ready.display());
        set(&mut c, kind, &[shell(&hang)]);
        let mut run = c.command(&["run", "--detach", "--bundle"]);
        let mut run = run
            .arg(c.dir())
            .arg(&c.id)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the hook runs", || ready.exists());
        c.delete(&["--force"]).ok();
        if *kind == "poststart" {
            // A poststart hook runs on the host and may take long, although its container is gone.
            run.kill().unwrap();
        }
        assert!(!wait_for(&mut run).success());
        c.assert_nothing_left();
    }
}

#[test]
fn a_poststop_hook_that_hangs_runs_once_and_keeps_nobody_from_deleting() {
    let mut c = container!();
    let log = log_file(&mut c);
    let hang = format!("{}; sleep 1000", note("poststop", &log));
    set(&mut c, "poststop", &[shell(&hang)]);
    c.create().ok();
    let mut delete = c.command(&["delete", "--force", &c.id]).spawn().unwrap();
    eventually("the hook runs", || log.exists());
    assert_eq!(c.status(), "stopped");
    c.delete(&[]).ok();
    assert!(c.root_entries().is_empty());
    c.edit(|j| j["hooks"] = json!({}));
    c.create().ok();
    delete.kill().unwrap();
    wait_for(&mut delete);
    assert_eq!(lines(&log), ["poststop"]);
    assert_eq!(c.status(), "created");
}

#[test]
fn a_hook_ends_with_the_command_that_runs_it() {
    let mut c = container!();
    let note = c.scratch().join("pid");
    let hang = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000",
        note.display()
    );
    set(&mut c, "createRuntime", &[shell(&hang)]);
    let mut create = c.command(&["create", "--bundle"]);
    let mut create = create.arg(c.dir()).arg(&c.id).spawn().unwrap();
    eventually("the hook runs", || note.exists());
    assert_eq!(c.status(), "creating");
    create.kill().unwrap();
    wait_for(&mut create);
    let pid = fs::read_to_string(&note).unwrap().trim().parse().unwrap();
    eventually("the hook ends", || !kernel::alive(pid));
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn hooks_leave_no_children_to_init() {
    let mut c = container!();
    set(
        &mut c,
        "startContainer",
        &[shell("(exit 1) & (exit 2) & sleep 0.1")],
    );
    c.create().ok();
    c.start().ok();
    let pid = c.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children, "");
}

#[test]
fn hooks_work_where_the_engine_ignores_sigchld() {
    let mut c = container!();
    let log = note_all(&mut c);
    let line = format!(
        "trap '' CHLD PIPE; r='{} --root {}'; $r create --bundle {} {id} && $r start {id} && $r delete --force {id}",
        crate::harness::runtime_path().display(),
        c.root().display(),
        c.dir().display(),
        id = c.id,
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]).stdin(Stdio::null());
    c.finish(command).ok();
    assert_eq!(lines(&log), ALL);
}

#[test]
fn bad_hooks_are_refused_by_their_place() {
    let mut c = container!();
    for (hook, problem) in [
        (
            json!({"path": "bin/x"}),
            "path: \"bin/x\" is not an absolute path",
        ),
        (json!({"path": ""}), "path: is empty"),
        (json!({"args": []}), "path: is missing"),
        (
            json!({"path": "/x", "timeout": 0}),
            "timeout: 0 is not a positive number of seconds",
        ),
        (
            json!({"path": "/x", "timeout": -1}),
            "timeout: -1 is not a positive number of seconds",
        ),
        (
            json!({"path": "/x", "env": ["A=b", "C"]}),
            "env[1]: \"C\" has no =",
        ),
        (
            json!({"path": "/x", "args": ["a\u{0}b"]}),
            "args[0]: contains a NUL",
        ),
    ] {
        set(
            &mut c,
            "poststart",
            &[json!({"path": "/x", "timeout": null}), hook],
        );
        c.create()
            .exits(1)
            .one_line()
            .says(&format!("config.json: hooks.poststart[1].{problem}"));
        c.assert_nothing_left();
    }
}

#[test]
fn a_limit_that_leaves_no_process_for_a_hook_is_named() {
    let mut c = container!();
    set(&mut c, "startContainer", &[shell("exit 0")]);
    c.edit(|j| {
        // No process of the host has this uid.
        j["process"]["user"] = json!({"uid": 987_654, "gid": 987_654});
        j["process"]["rlimits"] = json!([{"type": "RLIMIT_NPROC", "soft": 1, "hard": 1}]);
        j["process"]["capabilities"] = json!({});
    });
    c.run()
        .exits(1)
        .says("hooks.startContainer[0] (/bin/sh): clone3: EAGAIN")
        .says("linux.resources.pids.limit");
}

#[test]
fn files_that_hooks_make_are_not_writable_by_all() {
    let mut c = container!();
    let dir = c.scratch();
    for kind in CREATE {
        set(
            &mut c,
            kind,
            &[shell(&format!("touch {}/{kind}", dir.display()))],
        );
    }
    c.create().ok();
    for kind in CREATE {
        let mode = fs::metadata(dir.join(kind)).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{kind}: {mode:o}");
    }
}

#[test]
fn hooks_of_a_container_with_a_user_namespace_find_its_mounts() {
    let mut c = container!();
    c.user_namespace();
    fs::create_dir(c.rootfs("/inside")).unwrap();
    let root = c
        .rootfs("/")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    for kind in ["prestart", "startContainer"] {
        set(&mut c, kind, &[shell("exit 0")]);
    }
    let mount = format!("test $(id -u) = 0 && mount -t tmpfs hook {root}/inside");
    set(&mut c, "createContainer", &[shell(&mount)]);
    c.run_detached().ok();
    assert_eq!(kernel::mount_at(c.pid(), "/inside").unwrap().source, "hook");
}

#[test]
fn a_start_container_hook_is_under_the_filter_of_the_process() {
    for no_new_privs in [true, false] {
        let mut c = container!();
        c.edit(|j| {
            j["process"]["noNewPrivileges"] = json!(no_new_privs);
            j["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
            });
        });
        let hook = "exec grep -E '^(Seccomp|CapEff|CapPrm):' /proc/self/status >/tmp/hook";
        set(&mut c, "startContainer", &[shell(hook)]);
        c.mount("/tmp", "tmpfs", "tmpfs", &[]);
        let text =
            c.output_of("cat /tmp/hook; grep -E '^(Seccomp|CapEff|CapPrm):' /proc/self/status");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], lines[3..], "{text}");
        assert_eq!(kernel::status_field(&text, "Seccomp"), "2");
        drop(c);
        let mut c = container!();
        c.edit(|j| {
            j["process"]["noNewPrivileges"] = json!(no_new_privs);
            j["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
            j["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
            });
        });
        let hook = json!({"path": "/bin/mkdir", "args": ["mkdir", "/tmp/x"]});
        set(&mut c, "startContainer", &[hook]);
        c.run()
            .exits(1)
            .one_line()
            .says("error running startContainer hook #0: hooks.startContainer[0] (/bin/mkdir)")
            .says("SIGSYS, bad system call: linux.seccomp");
    }
}

#[test]
fn a_missing_file_for_the_output_of_poststart_leaves_nothing_of_the_container() {
    let mut c = container!();
    c.edit(|j| {
        j["hooks"] = json!({"poststart": [{"path": "/bin/true"}]});
        j["annotations"] = json!({"run.oci.hooks.stdout": "/missing/file"});
    });
    c.run_detached().exits(1).says("/missing/file").one_line();
    c.runtime(&["state", &c.id]).exits(1).says("does not exist");
    c.assert_nothing_left();
}
