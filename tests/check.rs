//! Bundles with mistakes: what `check` says of them, and that `create`, `run` or `start` say the
//! same. Nothing is created or run by `check`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use crate::harness::{Bundle, Container, Output};

/// What `check --json` says of the container's bundle.
#[track_caller]
fn checked(c: &Container, code: i32, flags: &[&str]) -> Value {
    let (globals, flags) = flags.split_at(flags.iter().take_while(|f| **f == SYSTEMD).count());
    let mut command = c.command(globals);
    command.args(["check", "--json", "--bundle"]).arg(c.dir());
    command.args(flags);
    let output = c.finish(command);
    output.exits(code);
    assert_eq!(output.stderr(), "");
    serde_json::from_str(&output.stdout()).unwrap()
}

/// The finding with a code.
#[track_caller]
fn finding<'a>(answer: &'a Value, code: &str) -> &'a Value {
    let all = answer["findings"].as_array().unwrap();
    let found = all.iter().find(|finding| finding["code"] == code);
    found.unwrap_or_else(|| panic!("no finding {code}: {answer:#}"))
}

const SYSTEMD: &str = "--systemd-cgroup";

/// A mistake in a bundle, and what is said of it.
struct Case {
    name: &'static str,
    spoil: fn(&mut Container),
    code: &'static str,
    pointer: &'static str,
    /// Words for the cause, in the messages of check and of the command.
    cause: &'static str,
    /// A word of the remedy.
    remedy: &'static str,
    globals: &'static [&'static str],
}

const fn case(
    name: &'static str,
    spoil: fn(&mut Container),
    (code, pointer): (&'static str, &'static str),
    (cause, remedy): (&'static str, &'static str),
) -> Case {
    Case {
        name,
        spoil,
        code,
        pointer,
        cause,
        remedy,
        globals: &[],
    }
}

/// Installs a program of the container and makes it the process.
fn program(c: &mut Container, bytes: &[u8]) {
    let file = c.rootfs("/bin/program");
    fs::write(&file, bytes).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    c.args(&["/bin/program"]);
}

/// The header of an ELF program for a machine, and its loader.
fn elf(machine: u16, loader: &str) -> Vec<u8> {
    let mut bytes = vec![0; 120];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = 2;
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[20] = 1;
    (bytes[32], bytes[52], bytes[54], bytes[56]) = (64, 64, 56, 1);
    (bytes[64], bytes[72], bytes[96]) = (3, 120, loader.len() as u8 + 1);
    bytes.extend(loader.as_bytes());
    bytes.push(0);
    bytes
}

/// The number of this machine in ELF headers, and of another.
const MACHINES: (u16, u16) = match cfg!(target_arch = "x86_64") {
    true => (62, 183),
    false => (183, 62),
};

/// Ends the change of a bundle.
fn spoilt(_: &mut Bundle) {}

fn bind(c: &mut Container, source: &str) {
    c.mount("/mnt", "bind", source, &["bind"]);
}

/// Mistakes that `create` refuses, before or after it has touched anything.
const REFUSED: &[Case] = &[
    case(
        "text behind the JSON",
        |c| {
            let mut text = serde_json::to_string(c.config()).unwrap();
            text.push_str("\n}");
            fs::write(c.dir().join("config.json"), text).unwrap();
        },
        ("config-syntax", ""),
        ("trailing characters at line 2 column 1", "line"),
    ),
    case(
        "a key that stands twice",
        |c| fs::write(c.dir().join("config.json"), "{\"a\": 1,\n \"a\": 2}").unwrap(),
        ("config-syntax", ""),
        ("duplicate key \"a\" at line 2", "line"),
    ),
    case(
        "another major version",
        |c| spoilt(c.edit(|j| j["ociVersion"] = json!("2.0.0"))),
        ("invalid-version", "/ociVersion"),
        ("\"2.0.0\" is not supported", "ociVersion"),
    ),
    case(
        "a string for a number",
        |c| spoilt(c.edit(|j| j["process"]["user"]["uid"] = json!("root"))),
        ("wrong-type", "/process/user/uid"),
        ("invalid type: string \"root\"", "specification"),
    ),
    case(
        "a required field is missing",
        |c| {
            spoilt(c.edit(|j| {
                drop(
                    j["mounts"][1]
                        .as_object_mut()
                        .unwrap()
                        .remove("destination"),
                )
            }))
        },
        ("missing-field", "/mounts/1/destination"),
        ("is missing", "add the field"),
    ),
    case(
        "no arguments",
        |c| spoilt(c.args(&[])),
        ("invalid-arguments", "/process/args"),
        ("is empty", "process.args[0]"),
    ),
    case(
        "a variable without a sign",
        |c| spoilt(c.edit(|j| j["process"]["env"][0] = json!("PATH"))),
        ("invalid-environment", "/process/env/0"),
        ("process.env[0]", "NAME=value"),
    ),
    case(
        "a relative working directory",
        |c| spoilt(c.edit(|j| j["process"]["cwd"] = json!("root"))),
        ("invalid-directory", "/process/cwd"),
        ("\"root\" is not an absolute path", "absolute"),
    ),
    case(
        "a user who isn't mapped",
        |c| {
            spoilt(
                c.user_namespace()
                    .edit(|j| j["process"]["user"]["uid"] = json!(70_000)),
            )
        },
        ("unmapped-id", "/process/user/uid"),
        ("70000 has no mapping", "linux.uidMappings"),
    ),
    case(
        "no root file system",
        |c| fs::remove_dir_all(c.dir().join("rootfs")).unwrap(),
        ("root-missing", "/root/path"),
        ("ENOENT (no such file or directory)", "root.path"),
    ),
    case(
        "a file for a root file system",
        |c| {
            fs::remove_dir_all(c.dir().join("rootfs")).unwrap();
            fs::write(c.dir().join("rootfs"), "").unwrap();
        },
        ("root-failed", "/root/path"),
        ("it is not a directory", "directory"),
    ),
    case(
        "mappings without a user namespace",
        |c| {
            let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            c.edit(|j| j["linux"]["uidMappings"] = map);
        },
        ("user-namespace-needed", "/linux/uidMappings"),
        ("needs a user namespace", "\"user\""),
    ),
    case(
        "an idmapped mount without a user namespace",
        |c| spoilt(c.mount("/mnt", "bind", "/", &["bind", "idmap"])),
        ("user-namespace-needed", "/mounts/6/options"),
        ("idmap requires mappings", "\"user\""),
    ),
    case(
        "a namespace twice",
        |c| {
            c.edit(|j| {
                let list = j["linux"]["namespaces"].as_array_mut().unwrap();
                list.push(json!({"type": "pid"}));
            });
        },
        ("invalid-namespace", "/linux/namespaces/6/type"),
        ("the same type as linux.namespaces[0]", ""),
    ),
    case(
        "a namespace of a process that is gone",
        |c| spoilt(c.join_namespace("network", "/proc/4194304/ns/net")),
        ("namespace-unusable", "/linux/namespaces/5/path"),
        ("ENOENT (no such file or directory)", "/proc/PID/ns/net"),
    ),
    case(
        "a namespace of another type",
        |c| spoilt(c.join_namespace("network", "/proc/self/ns/ipc")),
        ("namespace-unusable", "/linux/namespaces/5/path"),
        ("it is a namespace of another type", "of its type"),
    ),
    case(
        "a host name without a uts namespace",
        |c| spoilt(c.without_namespace("uts")),
        ("invalid-host-name", "/hostname"),
        ("needs a uts namespace", "\"uts\""),
    ),
    case(
        "a mount without its source",
        |c| bind(c, "/no/such/source"),
        ("mount-source-missing", "/mounts/6/source"),
        ("ENOENT (no such file or directory)", "create the source"),
    ),
    case(
        "an unknown mount option",
        |c| spoilt(c.mount("/mnt", "bind", "/", &["bind", "readonly"])),
        ("invalid-mount", "/mounts/6/options/1"),
        ("unknown option \"readonly\"", ""),
    ),
    case(
        "a soft limit above the hard one",
        |c| spoilt(c.edit(|j| j["process"]["rlimits"][0]["soft"] = json!(4096))),
        ("invalid-rlimit", "/process/rlimits/0/soft"),
        ("is more than hard", ""),
    ),
    case(
        "swap below memory",
        |c| {
            let memory = json!({"limit": 1 << 30, "swap": 1 << 20});
            c.edit(|j| j["linux"]["resources"]["memory"] = memory);
        },
        ("swap-below-memory", "/linux/resources/memory/swap"),
        ("less than the memory limit", "-1 is no limit"),
    ),
    case(
        "a limit of cgroup v1",
        |c| spoilt(c.edit(|j| j["linux"]["resources"]["memory"] = json!({"swappiness": 10}))),
        ("cgroup-v1-only", "/linux/resources/memory/swappiness"),
        ("only cgroup v1 has this", "linux.resources.unified"),
    ),
    case(
        "a path with ..",
        |c| spoilt(c.edit(|j| j["linux"]["cgroupsPath"] = json!("/a/../b"))),
        ("invalid-cgroup-path", "/linux/cgroupsPath"),
        ("contains \\\"..\\\"", "without \"..\""),
    ),
    Case {
        globals: &[SYSTEMD],
        ..case(
            "a path of the other driver",
            |c| spoilt(c.edit(|j| j["linux"]["cgroupsPath"] = json!("/a/b"))),
            ("systemd-cgroup-path", "/linux/cgroupsPath"),
            ("slice:prefix:name", "SLICE:PREFIX:NAME"),
        )
    },
    case(
        "a filter that answers the agent's own call",
        |c| {
            let call = json!({"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"});
            let listener = "/run/no-agent";
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call], "listenerPath": listener});
            c.edit(|j| j["linux"]["seccomp"] = profile);
        },
        ("invalid-seccomp", "/linux/seccomp/syscalls/0/names/0"),
        ("hands the listener to the agent", ""),
    ),
    case(
        "a parameter of the host",
        |c| spoilt(c.edit(|j| j["linux"]["sysctl"] = json!({"vm.swappiness": "1"}))),
        ("invalid-sysctl", "/linux/sysctl/vm.swappiness"),
        ("linux.sysctl[\"vm.swappiness\"]", "sysctl(8)"),
    ),
    case(
        "a hook that isn't there",
        |c| spoilt(c.edit(|j| j["hooks"] = json!({"createRuntime": [{"path": "/no/such/hook"}]}))),
        ("hook-failed", "/hooks/createRuntime/0"),
        ("ENOENT (no such file or directory)", "by hand"),
    ),
    case(
        "a device with an impossible number",
        |c| {
            let device = json!({"type": "c", "path": "/dev/x", "major": 9999, "minor": 1});
            c.edit(|j| j["linux"]["devices"] = json!([device]));
        },
        ("invalid-device", "/linux/devices/0/major"),
        ("9999 is not between 0 and", ""),
    ),
    case(
        "a masked path that is relative",
        |c| spoilt(c.edit(|j| j["linux"]["maskedPaths"][0] = json!("proc/acpi"))),
        ("invalid-path", "/linux/maskedPaths/0"),
        ("\"proc/acpi\" is not an absolute path", "absolute"),
    ),
    case(
        "a program that isn't there",
        |c| spoilt(c.args(&["/no/such/program"])),
        ("program-missing", "/process/args/0"),
        ("no such file or directory", "process.args[0]"),
    ),
    case(
        "a program that PATH hasn't",
        |c| spoilt(c.args(&["no-such-program"])),
        ("program-missing", "/process/args/0"),
        ("executable file not found in $PATH", "PATH"),
    ),
    case(
        "a program that nobody may execute",
        |c| spoilt(c.args(&["/etc/passwd"])),
        ("program-denied", "/process/args/0"),
        ("exec: \"/etc/passwd\": permission denied", "chmod +x"),
    ),
];

/// Mistakes that only the execution of the program shows.
const NOT_EXECUTED: &[Case] = &[
    case(
        "a script whose interpreter is missing",
        |c| program(c, b"#!/usr/bin/python9 -u\n"),
        ("interpreter-missing", "/process/args/0"),
        (
            "the interpreter \"/usr/bin/python9\" that its first line names is not in the container",
            "first line",
        ),
    ),
    case(
        "a script with the line ends of another system",
        |c| program(c, b"#!/bin/sh\r\necho\r\n"),
        ("interpreter-line", "/process/args/0"),
        ("its first line ends with a carriage return", "sed -i"),
    ),
    case(
        "a program whose loader is missing",
        |c| program(c, &elf(MACHINES.0, "/lib/ld-none.so.1")),
        ("loader-missing", "/process/args/0"),
        (
            "the loader \"/lib/ld-none.so.1\" that it needs is not",
            "C library",
        ),
    ),
    case(
        "a program for another machine",
        |c| program(c, &elf(MACHINES.1, "/lib/ld.so")),
        ("wrong-architecture", "/process/args/0"),
        ("it is built for ", "uname -m"),
    ),
    case(
        "a script without an interpreter",
        |c| program(c, b"echo\n"),
        ("not-a-program", "/process/args/0"),
        ("neither an ELF program nor a script", "#!/bin/sh"),
    ),
];

/// The record of a command's error in the log.
#[track_caller]
fn record(c: &mut Container, case: &Case, verb: &str) -> (Output, Value) {
    let log = c.scratch().join("log.json");
    let _ = fs::remove_file(&log);
    let mut command = c.command(&["--log", log.to_str().unwrap(), "--log-format", "json"]);
    command.args(case.globals).args([verb, "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    let output = c.finish(command);
    let record = fs::read_to_string(&log).unwrap_or_default();
    let record = serde_json::from_str(&record)
        .unwrap_or_else(|_| panic!("{}: no record: {record}", case.name));
    (output, record)
}

/// Compares what check and a command say of a mistake.
#[track_caller]
fn said_alike(case: &Case, verb: &str) {
    let Some(mut c) = Container::new() else {
        return;
    };
    (case.spoil)(&mut c);
    let answer = checked(&c, 1, case.globals);
    let found = finding(&answer, case.code);
    assert_eq!(found["severity"], "error", "{}: {found}", case.name);
    let pointer = found["pointer"].as_str().unwrap_or_default();
    assert!(pointer.starts_with(case.pointer), "{}: {found}", case.name);
    let cause = case.cause.replace("\\\"", "\"");
    let msg = found["msg"].as_str().unwrap();
    assert!(msg.contains(&cause), "{}: {msg}", case.name);
    let hint = found["hint"].as_str().unwrap_or_default();
    assert!(hint.contains(case.remedy), "{}: {hint:?}", case.name);
    assert!(
        found["line"].as_u64().unwrap() > 0,
        "{}: {found}",
        case.name
    );
    let (output, record) = record(&mut c, case, verb);
    output.exits(1).one_line().says(&cause);
    assert_eq!(record["code"], found["code"], "{}: {record}", case.name);
    assert_eq!(record.get("hint"), found.get("hint"), "{}", case.name);
    let at = record["pointer"].as_str().unwrap_or_default();
    assert!(pointer.starts_with(at), "{}: {record}", case.name);
    assert!(at.starts_with(case.pointer), "{}: {record}", case.name);
    c.assert_nothing_left();
}

#[test]
fn what_create_refuses_is_found_with_the_same_words_and_the_remedy() {
    for case in REFUSED {
        said_alike(case, "create");
    }
}

#[test]
fn what_cannot_be_executed_is_found_with_the_same_words_and_the_remedy() {
    for case in NOT_EXECUTED {
        said_alike(case, "run");
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_explained_under_a_filter_that_allows_looking() {
    for (forbidden, says) in [
        ("reboot", "the interpreter \"/usr/bin/python9\""),
        ("openat2", "the interpreter that it names is not"),
    ] {
        let mut c = container!();
        program(&mut c, b"#!/usr/bin/python9\n");
        let call = json!({"names": [forbidden], "action": "SCMP_ACT_KILL_PROCESS"});
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]});
        c.edit(|j| j["linux"]["seccomp"] = profile);
        c.run().exits(1).one_line().says(says);
        c.assert_nothing_left();
    }
}

#[test]
fn a_good_bundle_has_no_problems_and_check_makes_nothing() {
    let c = container!();
    let before = files(&c);
    let answer = checked(&c, 0, &[]);
    assert_eq!(answer["findings"], json!([]));
    let mut command = c.command(&["check", "--bundle"]);
    command.arg(c.dir());
    let output = c.finish(command);
    assert!(
        output
            .ok()
            .stdout()
            .ends_with("config.json: no problems found\n")
    );
    assert_eq!(files(&c), before);
    c.assert_nothing_left();
}

fn files(c: &Container) -> Vec<String> {
    let list = |dir: std::path::PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let all = list(c.dir().to_owned())
        .chain(list(c.rootfs("/")))
        .chain(list(c.rootfs("/bin")));
    let mut names: Vec<String> = all.map(|entry| format!("{:?}", entry.path())).collect();
    names.extend(c.root_entries());
    names.sort();
    names
}

#[test]
fn all_problems_are_told_at_once_with_line_and_column() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["user"]["uid"] = json!("root");
        j["process"]["cwd"] = json!("root");
        j["mounts"][2]["options"] = json!(["bind", "nonsense"]);
        j["mounts"][1]["options"] = json!([7]);
        j["linux"]["cgroupsPath"] = json!("/a/../b");
        j["process"]["args"] = json!(["/none"]);
    });
    let text = serde_json::to_string_pretty(c.config()).unwrap();
    fs::write(c.dir().join("config.json"), &text).unwrap();
    let answer = checked(&c, 1, &[]);
    for (code, member) in [
        ("invalid-directory", "\"cwd\""),
        ("invalid-mount", "\"nonsense\""),
        ("invalid-cgroup-path", "\"cgroupsPath\""),
        ("program-missing", "\"/none\""),
    ] {
        let found = finding(&answer, code);
        let line = found["line"].as_u64().unwrap() as usize;
        let column = found["column"].as_u64().unwrap() as usize;
        let line = text.lines().nth(line - 1).unwrap();
        assert!(line[column - 1..].starts_with(member), "{found}: {line}");
    }
    let all = answer["findings"].as_array().unwrap();
    let misfits = all.iter().filter(|found| found["code"] == "wrong-type");
    assert_eq!(misfits.count(), 2, "{answer:#}");
    assert_eq!(answer["errors"], all.len());
    let lines: Vec<u64> = all
        .iter()
        .map(|found| found["line"].as_u64().unwrap())
        .collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn warnings_are_told_and_are_no_failure() {
    let mut c = container!();
    c.edit(|j| {
        j["hostName"] = json!("x");
        j["mounts"][0]["optoins"] = json!([]);
        j["windows"] = json!({});
        j["process"]["capabilities"]["bounding"][0] = json!("CAP_NONE");
        let call = json!({"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"});
        j["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]});
    });
    c.mount("/dev", "tmpfs", "tmpfs", &[]);
    let answer = checked(&c, 0, &[]);
    assert_eq!(answer["errors"], 0, "{answer:#}");
    for (code, pointer, says) in [
        ("unknown-property", "/hostName", "did you mean hostname?"),
        ("foreign-section", "/windows", "another platform"),
        ("invalid-capability", "/process/capabilities", "CAP_NONE"),
        (
            "unknown-syscall",
            "/linux/seccomp/syscalls/0/names/1",
            "no_such_call",
        ),
        (
            "invalid-mount",
            "/mounts/1/destination",
            "is covered by mounts[6]",
        ),
    ] {
        let found = finding(&answer, code);
        assert_eq!(found["severity"], "warning");
        assert!(found["msg"].as_str().unwrap().contains(says), "{found}");
        let all = answer["findings"].as_array().unwrap();
        let places = all.iter().filter(|found| found["code"] == code);
        let mut places = places.map(|found| found["pointer"].as_str().unwrap());
        assert!(places.any(|place| place == pointer), "{answer:#}");
    }
    let all = answer["findings"].as_array().unwrap();
    let near = |found: &Value| {
        found["msg"]
            .as_str()
            .unwrap()
            .contains("did you mean options?")
    };
    assert!(all.iter().any(near), "{answer:#}");
    let mut command = c.command(&["check", "--bundle"]);
    command.arg(c.dir());
    let output = c.finish(command);
    assert!(
        output
            .ok()
            .stdout()
            .contains("warning: config.json: hostName: unknown property")
    );
}

#[test]
fn what_a_rootfs_holds_cannot_lead_check_out_of_it_or_make_it_wait() {
    let mut c = container!();
    // The host has this file, the container hasn't.
    let outside = c.scratch().join("outside");
    fs::write(&outside, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&outside, c.rootfs("/bin/program")).unwrap();
    c.args(&["/bin/program"]);
    finding(&checked(&c, 1, &[]), "program-missing");
    fs::remove_file(c.rootfs("/bin/program")).unwrap();
    nix::unistd::mkfifo(&c.rootfs("/bin/program"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    finding(&checked(&c, 1, &[]), "program-denied");
    // An interpreter that is a fifo is not opened either.
    fs::rename(c.rootfs("/bin/program"), c.rootfs("/bin/fifo")).unwrap();
    program(&mut c, b"#!/bin/fifo\n");
    assert_eq!(checked(&c, 0, &[])["errors"], 0);
    fs::remove_file(c.rootfs("/bin/program")).unwrap();
    program(&mut c, b"#!/bin/program\n");
    assert_eq!(checked(&c, 0, &[])["errors"], 0);
}

#[test]
fn another_host_is_compared_by_its_report() {
    let mut c = container!();
    let report = c.scratch().join("host.json");
    let item = |id: &str, status: &str, needed: bool| json!({"id": id, "status": status, "found": "why", "hint": "mend it", "needed": needed});
    let mut host = json!({
        "version": 1, "orlop": "0.1.0", "kernel": "6.1.0", "uid": 0, "containers": true,
        "architecture": std::env::consts::ARCH,
        "items": [
            item("namespace.cgroup", "missing", false),
            item("filesystem.mqueue", "limited", false),
            item("lsm.apparmor", "ok", false),
            item("cgroup.memory", "missing", false),
            item("kernel.clone3", "missing", true),
        ],
    });
    fs::write(&report, host.to_string()).unwrap();
    let flags = ["--host", report.to_str().unwrap()];
    c.edit(|j| {
        j["process"]["apparmorProfile"] = json!("p");
        j["linux"]["resources"]["memory"] = json!({"limit": 1 << 30});
    });
    let answer = checked(&c, 1, &flags);
    let all = answer["findings"].as_array().unwrap();
    for (says, pointer, severity) in [
        (
            "namespace.cgroup is missing",
            "/linux/namespaces/5",
            "error",
        ),
        ("filesystem.mqueue is limited", "/mounts/4/type", "warning"),
        (
            "cgroup.memory is missing",
            "/linux/resources/memory/limit",
            "error",
        ),
        ("kernel.clone3 is missing", "/linux", "error"),
    ] {
        let is_it = |found: &&Value| found["msg"].as_str().unwrap().contains(says);
        let found = all
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{says}: {answer:#}"));
        assert_eq!(found["code"], "host-lacks");
        assert_eq!(found["pointer"], pointer);
        assert_eq!(found["severity"], severity);
        assert_eq!(found["hint"], "mend it");
    }
    assert_eq!(all.len(), 4, "{answer:#}");
    // The other host decides which programs run.
    program(&mut c, &elf(MACHINES.1, ""));
    host["architecture"] = json!(if MACHINES.1 == 62 {
        "x86_64"
    } else {
        "aarch64"
    });
    fs::write(&report, host.to_string()).unwrap();
    assert_eq!(checked(&c, 1, &flags)["errors"], 3);
    fs::write(&report, "{}").unwrap();
    let mut command = c.command(&["check", "--bundle"]);
    command.arg(c.dir()).args(flags);
    c.finish(command)
        .exits(1)
        .one_line()
        .says("orlop doctor --json");
}

#[test]
fn a_limit_without_a_controller_is_found_as_create_would() {
    let mut c = container!();
    c.edit(|j| {
        j["linux"]["resources"]["rdma"] = json!({"mlx5_0": {"hcaHandles": 3}});
    });
    let case = case("", |_| {}, ("", ""), ("", ""));
    let (output, record) = record(&mut c, &case, "create");
    if record["code"] != "controller-missing" {
        return;
    }
    output.exits(1);
    let answer = checked(&c, 1, &[]);
    let found = finding(&answer, "controller-missing");
    let msg = found["msg"].as_str().unwrap();
    assert!(
        record["msg"].as_str().unwrap().ends_with(msg),
        "{msg}: {record}"
    );
    assert_eq!(found["hint"], record["hint"]);
    assert_eq!(found["pointer"], record["pointer"]);
}
