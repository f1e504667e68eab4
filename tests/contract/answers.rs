//! Answers that callers decode: state, ps, features, the version, and messages over sockets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::caller::Caller;
use crate::harness::terminal::ConsoleSocket;
use crate::harness::{Container, eventually, has_strace, install, kernel, skipped};

#[test]
fn state_has_every_field_of_the_specification() {
    let mut c = container!();
    c.edit(|j| j["annotations"] = json!({"org.example.key": "value"}));
    c.create().ok();
    let state = c.state();
    assert_eq!(state["id"], json!(c.id));
    assert_eq!(state["pid"], json!(c.pid()));
    assert_eq!(state["bundle"], json!(c.dir()));
    assert_eq!(
        state["rootfs"],
        json!(c.rootfs("/")).as_str().unwrap().trim_end_matches('/')
    );
    assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
    assert_eq!(
        state["owner"],
        json!("root")
            .as_str()
            .filter(|_| state["owner"] != "")
            .unwrap_or("")
    );
    let version = state["ociVersion"].as_str().unwrap();
    assert!(version.starts_with("1."), "{version}");
    let created = state["created"].as_str().unwrap();
    assert!(
        created.len() > 19 && created.as_bytes()[10] == b'T' && created.ends_with('Z'),
        "not RFC 3339 in UTC: {created}"
    );
}

#[test]
fn ps_prints_the_pids_of_the_container_as_the_host_sees_them() {
    let mut c = container!();
    c.script("sleep 1000 & touch /ready; wait");
    c.run_detached().ok();
    c.wait_file("/ready");
    eventually("touch is gone", || kernel::procs(&c.cgroup()).len() == 2);
    let output = c.runtime(&["ps", "--format", "json", &c.id]);
    output.ok();
    assert_eq!(output.stderr(), "");
    let mut pids: Vec<i32> = serde_json::from_str(&output.stdout()).unwrap();
    pids.sort_unstable();
    let mut wanted = kernel::procs(&c.cgroup());
    wanted.sort_unstable();
    assert_eq!(pids, wanted);
    assert!(pids.contains(&c.pid()));
}

#[test]
fn the_version_has_the_lines_that_engines_parse() {
    let c = container!();
    for flag in ["--version", "-v"] {
        let output = c.finish(c.bare_command(&[flag]));
        output.ok();
        assert_eq!(output.stderr(), "");
        let text = output.stdout();
        let lines: Vec<&str> = text.lines().collect();
        let words = crate::harness::words(lines[0]);
        assert_eq!(words[1], "version", "{text}");
        assert!(words[2].starts_with(|d: char| d.is_ascii_digit()), "{text}");
        assert!(lines.iter().any(|l| l.starts_with("spec: 1.")), "{text}");
        assert_eq!(text.matches("version").count(), 1, "{text}");
    }
}

/// The runtime under these names, as it may be installed: a copy, a link to it by an absolute path,
/// and a relative link.
fn installed(c: &Container) -> Vec<(&'static str, PathBuf)> {
    let mut all = Vec::new();
    for name in ["runc", "crun"] {
        for form in ["copy", "link", "relative"] {
            let dir = c.scratch().join(form);
            fs::create_dir_all(&dir).unwrap();
            let path = dir.join(name);
            match form {
                "copy" => install(&fs::read(c.program()).unwrap(), &path),
                "link" => symlink(c.program(), &path).unwrap(),
                _ => symlink(Path::new("../copy").join(name), &path).unwrap(),
            }
            all.push((name, path));
        }
    }
    all
}

#[test]
fn installed_as_runc_or_crun_the_version_is_that_which_callers_look_for() {
    let c = container!();
    for (name, path) in installed(&c) {
        let mut by_path = Command::new(name);
        by_path.env("PATH", path.parent().unwrap());
        let mut relative = Command::new(Path::new("./").join(name));
        relative.current_dir(path.parent().unwrap());
        for mut command in [Command::new(&path), by_path, relative] {
            command.arg("--version");
            let output = c.finish(command);
            output.ok();
            assert_eq!(output.stderr(), "");
            let text = output.stdout();
            // go-runc's rule for the first line, and docker's for all lines.
            let version = text.strip_prefix(&format!("{name} version ")).unwrap();
            let numbers: Vec<u32> = version
                .lines()
                .next()
                .unwrap()
                .split('.')
                .map(|number| number.parse().unwrap())
                .collect();
            let expected: &[u32] = if name == "runc" { &[1, 5, 0] } else { &[1, 29] };
            assert_eq!(numbers, expected, "{text}");
            assert_eq!(text.matches("version").count(), 1, "{text}");
            assert!(text.lines().any(|l| l.starts_with("orlop: 0.")), "{text}");
            assert!(text.lines().any(|l| l.starts_with("spec: 1.")), "{text}");
        }
    }
}

/// A shell with an empty /run of its own, which sees nothing of the host's.
fn with_own_run(script: &str, path: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs own-run /run && {{ {script}; }}");
    command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
    command.arg(script).arg("sh").arg(path);
    command
}

#[test]
fn installed_as_runc_or_crun_the_default_root_is_that_of_the_name() {
    let mut c = container!();
    c.script("echo ran");
    for (name, path) in installed(&c) {
        let script = "\"$1\" run --keep --bundle \"$2\" \"$3\"; ls /run; \
            \"$1\" list -q; \"$1\" delete \"$3\"; ls \"/run/$4\"";
        let mut command = with_own_run(script, &path);
        command.arg(c.dir()).arg(&c.id).arg(name);
        let output = c.finish(command);
        output.ok();
        assert_eq!(
            output.stdout(),
            format!("ran\n{name}\n{}\n", c.id),
            "{path:?}"
        );
    }
}

#[test]
fn installed_as_crun_the_log_and_the_short_flags_are_those_of_crun() {
    let c = container!();
    for (name, path) in installed(&c) {
        let log = c.scratch().join("log");
        let logged = |format: &[&str]| {
            let _ = fs::remove_file(&log);
            let mut command = Command::new(&path);
            command.arg("--log").arg(&log).args(format);
            command
                .arg("--root")
                .arg(c.root())
                .args(["start", "nobody"]);
            let said = c.finish(command).exits(1).one_line().stderr();
            (said, fs::read_to_string(&log).unwrap())
        };
        for format in [&[][..], &["--log-format", "text"]] {
            let (said, text) = logged(format);
            if name == "crun" {
                assert_eq!(said, text);
            } else {
                assert!(text.starts_with("time="), "{text}");
            }
        }
        let (said, text) = logged(&["--log-format=json"]);
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["msg"], said.trim_end());
        for (flag, expected) in [("-V", name), ("-?", "A low"), ("--usage", "A low")] {
            let mut command = Command::new(&path);
            command.arg(flag);
            let output = c.finish(command);
            assert!(output.ok().stdout().starts_with(expected), "{flag}");
        }
    }
}

#[test]
fn a_name_that_promises_a_virtual_machine_is_refused() {
    let mut c = container!();
    c.script("echo ran");
    for name in ["krun", "crun-wasm"] {
        let path = c.scratch().join(name);
        symlink(c.program(), &path).unwrap();
        let mut command = Command::new(&path);
        command
            .arg("--root")
            .arg(c.root())
            .args(["run", "--bundle"]);
        command.arg(c.dir()).arg(&c.id);
        let said = c.finish(command);
        said.exits(1).one_line().says("has no handler");
        assert_eq!(said.stdout(), "");
    }
}

#[test]
fn ps_prints_a_table_with_the_processes_of_the_container_only() {
    let mut c = container!();
    c.script("sleep 1000");
    c.run_detached().ok();
    for flags in [
        &["ps"][..],
        &["ps", "--format", "table"],
        &["ps", "-f=table"],
    ] {
        let output = c.runtime(&[flags, &[&c.id, "-o", "pid,args"]].concat());
        output.ok();
        let text = output.stdout();
        let mut lines = text.lines();
        assert_eq!(crate::harness::words(lines.next().unwrap())[0], "PID");
        let pids: Vec<i32> = lines
            .map(|line| crate::harness::words(line)[0].parse().unwrap())
            .collect();
        let mut wanted = kernel::procs(&c.cgroup());
        wanted.sort_unstable();
        assert_eq!(pids, wanted, "{text}");
    }
}

#[test]
fn the_name_stays_when_the_binary_executes_itself_again() {
    let mut c = container!();
    if !has_strace() {
        return skipped("no strace");
    }
    c.script("echo ran");
    let calls = c.scratch().join("calls");
    for (name, path) in installed(&c) {
        // Mappings that can't be replaced are what makes it execute itself.
        let script = "strace -e trace=prctl,execveat -e inject=prctl:error=EPERM:when=1 -o \"$4\" \
            \"$1\" run --bundle \"$2\" \"$3\"; ls /run";
        let mut command = with_own_run(script, &path);
        command.arg(c.dir()).arg(&c.id).arg(&calls);
        let output = c.finish(command);
        output.ok();
        let calls = fs::read_to_string(&calls).unwrap();
        assert!(calls.contains("execveat("), "{calls}");
        assert_eq!(output.stdout(), format!("ran\n{name}\n"), "{path:?}");
    }
}

#[test]
fn features_is_json_with_the_fields_that_engines_read() {
    let c = container!();
    let output = c.finish(c.bare_command(&["features"]));
    output.ok();
    assert_eq!(output.stderr(), "");
    let features: Value = serde_json::from_str(&output.stdout()).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(
        features["ociVersionMax"]
            .as_str()
            .unwrap()
            .starts_with("1.")
    );
    let has = |v: &Value, name: &str| v.as_array().unwrap().iter().any(|e| e == name);
    assert!(has(&features["hooks"], "createContainer"));
    assert!(has(&features["mountOptions"], "rro"));
    assert!(has(&features["mountOptions"], "tmpcopyup"));
    assert!(has(
        &features["linux"]["memoryPolicy"]["modes"],
        "MPOL_BIND"
    ));
    assert!(has(&features["linux"]["namespaces"], "network"));
    let seccomp = &features["linux"]["seccomp"];
    assert!(has(&seccomp["actions"], "SCMP_ACT_NOTIFY"));
    assert!(has(&seccomp["operators"], "SCMP_CMP_MASKED_EQ"));
    assert!(has(&seccomp["archs"], "SCMP_ARCH_X86_64"));
    assert!(has(&seccomp["archs"], "SCMP_ARCH_LOONGARCH64"));
    let flags = |list: &str| seccomp[list].as_array().unwrap().len();
    assert_eq!(flags("knownFlags"), 4);
    // Of these, WAIT_KILLABLE_RECV came with Linux 5.19.
    assert!(flags("supportedFlags") >= 3);
    assert!(has(&seccomp["supportedFlags"], "SECCOMP_FILTER_FLAG_TSYNC"));
    for what in ["v2", "systemd", "systemdUser"] {
        assert_eq!(features["linux"]["cgroup"][what], true, "{what}");
    }
}

#[test]
fn state_and_ps_have_the_bytes_of_runc() {
    let mut c = container!();
    c.create().ok();
    let caller = Caller::new(&c, &[]);
    let text = caller.call(&["state", &c.id]).ok().stdout;
    assert!(text.starts_with("{\n  \"ociVersion\": \""), "{text}");
    assert!(text.ends_with("\n}"), "{text}");
    let names = [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "owner",
    ];
    let places: Vec<_> = names
        .iter()
        .map(|name| text.find(&format!("  \"{name}\": ")))
        .collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{text}"
    );
    let text = caller.call(&["ps", "--format", "json", &c.id]).ok().stdout;
    assert_eq!(text, format!("[{}]\n", c.pid()));
}

#[test]
fn a_console_socket_may_have_a_path_that_is_too_long_for_an_address() {
    let mut c = container!();
    c.edit(|j| j["process"]["terminal"] = json!(true));
    let deep = c.scratch().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let short = c.scratch().join("short");
    std::os::unix::fs::symlink(&deep, &short).unwrap();
    let console = ConsoleSocket::listen(&short.join("s"));
    let path = deep.join("s");
    c.make("create", &["--console-socket", path.to_str().unwrap()])
        .ok();
    assert_eq!(console.receive().descriptors.len(), 1);
}

#[test]
fn a_command_that_nobody_knows_or_that_lacks_its_id_exits_with_1() {
    let c = container!();
    let caller = Caller::new(&c, &[]);
    for args in [
        &["unheard-of"][..],
        &["start"],
        &["start", "a", "b"],
        &["state", "--unheard-of", "a"],
    ] {
        let answer = caller.call(args);
        assert!(answer.code == 1 && answer.stdout.is_empty(), "{answer:?}");
    }
    assert_eq!(caller.call(&["exec"]).code, 255);
}
