//! The process object: ids, directory, environment, capabilities, limits, and inheritance by init.
//! exec is in `exec`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::harness::{Container, adopt, kernel, skipped, words};

#[test]
fn uid_gid_and_additional_groups_are_those_of_the_config() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 77, 4000]});
    });
    c.run_detached().ok();
    let pid = c.pid();
    assert_eq!(words(&kernel::status(pid, "Uid")), ["1000"; 4]);
    assert_eq!(words(&kernel::status(pid, "Gid")), ["1001"; 4]);
    assert_eq!(words(&kernel::status(pid, "Groups")), ["5", "77", "4000"]);
}

#[test]
fn the_callers_groups_are_dropped() {
    let mut c = container!();
    c.run_detached().ok();
    let groups = kernel::status(c.pid(), "Groups");
    assert!(words(&groups).iter().all(|g| *g == "0"), "{groups}");
}

#[test]
fn the_umask_is_0022_by_default() {
    let mut c = container!();
    c.run_detached().ok();
    assert_eq!(kernel::status(c.pid(), "Umask"), "0022");
}

#[test]
fn the_umask_of_the_config_is_set() {
    let mut c = container!();
    c.edit(|j| j["process"]["user"]["umask"] = json!(0o027));
    c.run_detached().ok();
    assert_eq!(kernel::status(c.pid(), "Umask"), "0027");
}

#[test]
fn the_callers_umask_does_not_reach_the_container() {
    let mut c = container!();
    c.script("umask; touch /file; mkdir /dir");
    let mut command = std::process::Command::new("/bin/sh");
    let inner = c.command(&["run", "--bundle"]);
    command.args(["-c", "umask 0777; exec \"$@\"", "sh"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(c.dir())
        .arg(&c.id);
    command.stdin(std::process::Stdio::null());
    let output = c.finish(command);
    output.ok();
    assert_eq!(output.stdout(), "0022\n");
    assert_eq!(
        fs::metadata(c.rootfs("/file"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o644
    );
}

#[test]
fn cwd_is_the_working_directory_of_init() {
    let mut c = container!();
    c.edit(|j| j["process"]["cwd"] = json!("/tmp"));
    assert_eq!(c.output_of("pwd"), "/tmp\n");
}

#[test]
fn a_missing_cwd_is_made_inside_the_rootfs() {
    let mut c = container!();
    c.edit(|j| j["process"]["cwd"] = json!("/some/new/place"));
    assert_eq!(c.output_of("readlink /proc/self/cwd"), "/some/new/place\n");
    assert!(c.rootfs("/some/new/place").is_dir());
}

#[test]
fn a_cwd_that_is_not_a_directory_fails_and_names_it() {
    let mut c = container!();
    c.edit(|j| j["process"]["cwd"] = json!("/etc/passwd"));
    c.create()
        .exits(1)
        .says("/etc/passwd")
        .says("not a directory");
    c.assert_nothing_left();
}

#[test]
fn a_cwd_that_only_the_user_may_enter_works() {
    let mut c = container!();
    fs::create_dir_all(c.rootfs("/home/user")).unwrap();
    std::os::unix::fs::chown(c.rootfs("/home/user"), Some(1000), Some(1000)).unwrap();
    fs::set_permissions(c.rootfs("/home/user"), fs::Permissions::from_mode(0o700)).unwrap();
    c.edit(|j| {
        j["process"]["cwd"] = json!("/home/user");
        j["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    assert_eq!(c.output_of("pwd"), "/home/user\n");
}

#[test]
fn a_symlinked_cwd_is_resolved_inside_the_rootfs() {
    let mut c = container!();
    std::os::unix::fs::symlink("/tmp", c.rootfs("/link")).unwrap();
    c.edit(|j| j["process"]["cwd"] = json!("/link"));
    assert_eq!(c.output_of("readlink /proc/self/cwd"), "/tmp\n");
}

#[test]
fn the_environment_is_that_of_the_config_and_home() {
    let mut c = container!();
    c.edit(|j| {
        let env = j["process"]["env"].as_array_mut().unwrap();
        env.push(json!("NAME=some value = more"));
        env.push(json!("EMPTY="));
    });
    let mut wanted: Vec<String> = c.config()["process"]["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect();
    wanted.push("HOME=/root".to_owned());
    c.run_detached().ok();
    let text = fs::read(format!("/proc/{}/environ", c.pid())).unwrap();
    let mut found: Vec<String> = text
        .split(|b| *b == 0)
        .filter(|e| !e.is_empty())
        .map(|e| String::from_utf8_lossy(e).into_owned())
        .collect();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

#[test]
fn home_is_looked_up_in_the_containers_passwd_unless_given() {
    let mut c = container!();
    c.edit(|j| j["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    assert_eq!(c.output_of("echo $HOME"), "/home/user\n");
    c.edit(|j| {
        j["process"]["env"]
            .as_array_mut()
            .unwrap()
            .push(json!("HOME=/given"))
    });
    assert_eq!(c.output_of("echo $HOME"), "/given\n");
    c.edit(|j| {
        j["process"]["env"].as_array_mut().unwrap().pop();
        j["process"]["user"] = json!({"uid": 4711, "gid": 0});
    });
    assert_eq!(c.output_of("echo $HOME"), "/\n");
}

#[test]
fn arguments_arrive_as_they_are() {
    let mut c = container!();
    c.args(&[
        "/bin/sh",
        "-c",
        "for a; do echo \"<$a>\"; done",
        "sh",
        "",
        "a b",
        "*",
        "ü\n\"'",
    ]);
    let output = c.run();
    output.ok();
    assert_eq!(output.stdout(), "<>\n<a b>\n<*>\n<ü\n\"'>\n");
}

#[test]
fn argv_0_is_the_first_argument_as_written() {
    let mut c = container!();
    c.args(&["sleep", "1000"]);
    c.run_detached().ok();
    let line = fs::read_to_string(format!("/proc/{}/cmdline", c.pid())).unwrap();
    assert_eq!(line, "sleep\0".to_owned() + "1000\0");
}

/// Returns the five capability sets of a process as masks, in the order of /proc/PID/status.
fn capability_sets(pid: i32) -> [u64; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|name| u64::from_str_radix(&kernel::status(pid, name), 16).unwrap())
}

const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;
const CHOWN: u64 = 1;
const AUDIT_WRITE: u64 = 1 << 29;

#[test]
fn capabilities_of_root_are_those_of_the_config_and_none_are_inheritable() {
    let mut c = container!();
    c.run_detached().ok();
    let all = KILL | NET_BIND_SERVICE | AUDIT_WRITE;
    assert_eq!(capability_sets(c.pid()), [0, all, all, all, 0]);
}

/// Returns a command of the runtime whose caller lacks CAP_SYSLOG.
fn without_syslog(c: &crate::harness::Container, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set=-syslog", "--"]);
    let own = c.command(&[&["--log-level", "warning"], args].concat());
    command.arg(own.get_program()).args(own.get_args());
    command.envs(
        own.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    command.stdin(std::process::Stdio::null());
    command
}

#[test]
fn a_capability_that_the_caller_lacks_is_left_out_with_a_warning() {
    let mut c = container!();
    let sets = [
        "bounding",
        "permitted",
        "effective",
        "inheritable",
        "ambient",
    ];
    c.capabilities(&sets, &["CAP_CHOWN", "CAP_SYSLOG"]);
    let warning = "process.capabilities: CAP_SYSLOG ignored in bounding";
    let (bundle, pid_file) = (c.dir().to_owned(), c.pid_file());
    let run = ["run", "--detach", "--pid-file", pid_file.to_str().unwrap()];
    let run = [&run[..], &["--bundle", bundle.to_str().unwrap(), &c.id]].concat();
    let mut command = without_syslog(&c, &run);
    command.stdout(std::process::Stdio::null());
    c.finish(command).ok().says(warning);
    assert_eq!(capability_sets(c.pid()), [CHOWN; 5]);
    // exec treats capabilities from the config, a flag and a process file alike.
    let process = c.scratch().join("process");
    let mut described = c.config()["process"].clone();
    described["args"] = json!(["/bin/cat", "/proc/self/status"]);
    std::fs::write(&process, described.to_string()).unwrap();
    let id = c.id.clone();
    for args in [
        &["exec", &id, "/bin/cat", "/proc/self/status"][..],
        &[
            "exec",
            "--cap",
            "CAP_SYSLOG",
            &id,
            "/bin/cat",
            "/proc/self/status",
        ],
        &["exec", "--process", process.to_str().unwrap(), &id],
    ] {
        let output = c.finish(without_syslog(&c, args));
        output.ok().says(warning);
        let mask = kernel::status_field(&output.stdout(), "CapEff");
        assert_eq!(u64::from_str_radix(&mask, 16).unwrap(), CHOWN);
    }
}

#[test]
fn root_of_a_user_namespace_has_capabilities_that_its_creator_lacks() {
    let mut c = container!();
    c.user_namespace();
    c.capabilities(
        &["bounding", "permitted", "effective"],
        &["CAP_CHOWN", "CAP_SYSLOG"],
    );
    c.args(&["/bin/cat", "/proc/self/status"]);
    let bundle = c.dir().to_str().unwrap().to_owned();
    let output = c.finish(without_syslog(&c, &["run", "--bundle", &bundle, &c.id]));
    assert_eq!(output.ok().stderr(), "");
    let mask = kernel::status_field(&output.stdout(), "CapEff");
    assert_eq!(u64::from_str_radix(&mask, 16).unwrap(), CHOWN | 1 << 34);
}

#[test]
fn each_of_the_five_sets_is_set_by_itself() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        j["process"]["capabilities"] = json!({
            "bounding": ["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_CHOWN"],
            "permitted": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_KILL"],
        });
    });
    c.run_detached().ok();
    // At execve, a user other than root keeps only the ambient set in the permitted and effective
    // sets (capabilities(7)).
    assert_eq!(
        capability_sets(c.pid()),
        [
            KILL | NET_BIND_SERVICE,
            KILL,
            KILL,
            KILL | NET_BIND_SERVICE | CHOWN,
            KILL
        ]
    );
}

// `runc spec` before 1.2 wrote ambient sets like this one.
#[test]
fn ambient_capabilities_that_are_not_inheritable_are_left_out() {
    let mut c = container!();
    c.capabilities(&["ambient"], &["CAP_KILL", "CAP_AUDIT_WRITE"]);
    c.run_detached().ok();
    let all = KILL | NET_BIND_SERVICE | AUDIT_WRITE;
    assert_eq!(capability_sets(c.pid()), [0, all, all, all, 0]);
    c.exec(&["/bin/true"]).ok();
}

#[test]
fn a_user_without_ambient_capabilities_has_none() {
    let mut c = container!();
    c.edit(|j| j["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    c.run_detached().ok();
    let bounding = KILL | NET_BIND_SERVICE | AUDIT_WRITE;
    assert_eq!(capability_sets(c.pid()), [0, 0, 0, bounding, 0]);
}

#[test]
fn without_a_capabilities_object_there_are_none() {
    let mut c = container!();
    c.edit(|j| {
        j["process"].as_object_mut().unwrap().remove("capabilities");
    });
    c.run_detached().ok();
    assert_eq!(capability_sets(c.pid()), [0; 5]);
}

#[test]
fn an_unknown_capability_is_no_error() {
    let mut c = container!();
    c.capabilities(
        &["bounding", "permitted", "effective"],
        &["CAP_KILL", "CAP_UNHEARD_OF"],
    );
    c.run_detached().ok();
    assert_eq!(capability_sets(c.pid()), [0, KILL, KILL, KILL, 0]);
}

#[test]
fn no_new_privileges_is_as_the_config_says() {
    for (value, wanted) in [(json!(true), "1"), (json!(false), "0"), (json!(null), "0")] {
        let mut c = container!();
        c.edit(|j| {
            j["process"]["noNewPrivileges"] = value.clone();
            if value.is_null() {
                j["process"]
                    .as_object_mut()
                    .unwrap()
                    .remove("noNewPrivileges");
            }
        });
        c.run_detached().ok();
        assert_eq!(kernel::status(c.pid(), "NoNewPrivs"), wanted, "{value}");
    }
}

#[test]
fn rlimits_are_those_of_the_config() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 300, "hard": 400},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_STACK", "soft": 8_388_608, "hard": u64::MAX},
        ]);
    });
    c.run_detached().ok();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(kernel::limit(c.pid(), "Max open files"), pair("300", "400"));
    assert_eq!(kernel::limit(c.pid(), "Max core file size"), pair("0", "0"));
    assert_eq!(
        kernel::limit(c.pid(), "Max stack size"),
        pair("8388608", "unlimited")
    );
}

#[test]
fn a_hard_limit_above_the_callers_is_raised_also_in_a_user_namespace() {
    let capabilities = kernel::status(std::process::id() as i32, "CapEff");
    if u64::from_str_radix(&capabilities, 16).unwrap() & 1 << 24 == 0 {
        return skipped("CAP_SYS_RESOURCE is missing");
    }
    for in_user_namespace in [false, true] {
        let mut c = container!();
        c.edit(|j| {
            let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 2000, "hard": 3000}]);
            j["process"]["rlimits"] = limit;
            if in_user_namespace {
                let namespaces = j["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({"type": "user"}));
                let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
                j["linux"]["uidMappings"] = map.clone();
                j["linux"]["gidMappings"] = map;
            }
        });
        c.script("ulimit -Sn; ulimit -Hn");
        let command = c.command(&["run", "--bundle"]);
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", "ulimit -n 1000; exec \"$@\"", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.arg(c.dir()).arg(&c.id);
        let output = c.finish(shell);
        output.ok();
        assert_eq!(output.stdout(), "2000\n3000\n");
    }
}

#[test]
fn a_tiny_limit_of_the_container_does_not_hurt_the_runtime() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3},
            {"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0},
        ]);
    });
    c.args(&["/bin/true"]);
    c.run().ok();
}

#[test]
fn oom_score_adj_is_that_of_the_config() {
    let mut c = container!();
    c.edit(|j| j["process"]["oomScoreAdj"] = json!(321));
    c.run_detached().ok();
    let text = fs::read_to_string(format!("/proc/{}/oom_score_adj", c.pid())).unwrap();
    assert_eq!(text.trim(), "321");
}

#[test]
fn a_command_without_a_slash_is_looked_up_in_the_containers_path() {
    let mut c = container!();
    fs::create_dir(c.rootfs("/first")).unwrap();
    fs::create_dir(c.rootfs("/second")).unwrap();
    fs::write(c.rootfs("/first/tool"), "not executable").unwrap();
    crate::harness::install(b"#!/bin/sh\necho second\n", &c.rootfs("/second/tool"));
    c.edit(|j| j["process"]["env"][0] = json!("PATH=/missing:/first:/second:/bin"));
    c.args(&["tool"]);
    let output = c.run();
    output.ok();
    assert_eq!(output.stdout(), "second\n");
}

#[test]
fn a_missing_command_is_reported_by_create_in_the_words_that_engines_match() {
    let mut c = container!();
    c.args(&["missing-command"]);
    c.create()
        .exits(1)
        .says("executable file not found in $PATH")
        .says("missing-command")
        .one_line();
    c.assert_nothing_left();
    c.args(&["/missing/command"]);
    c.create()
        .exits(1)
        .says("no such file or directory")
        .says("/missing/command")
        .one_line();
    c.assert_nothing_left();
    c.make("run", &[])
        .exits(1)
        .says("no such file or directory");
}

#[test]
fn a_command_that_is_not_executable_is_permission_denied() {
    let mut c = container!();
    c.args(&["/etc/passwd"]);
    c.create()
        .exits(1)
        .says("permission denied")
        .says("/etc/passwd")
        .one_line();
    c.assert_nothing_left();
}

#[test]
fn a_directory_as_command_is_an_error_of_create() {
    let mut c = container!();
    c.args(&["/etc"]);
    c.create().exits(1).says("/etc").one_line();
    c.assert_nothing_left();
}

#[test]
fn init_has_no_descriptor_but_the_standard_three() {
    let mut c = container!();
    c.run_detached().ok();
    let numbers: Vec<i32> = kernel::descriptors(c.pid())
        .into_iter()
        .map(|d| d.0)
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn the_callers_descriptors_are_seen_by_init_neither_created_nor_running() {
    let c = container!();
    let inner = c.command(&["create", "--bundle"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "exec 5</ 6</etc/passwd 9</sys; exec \"$@\"", "sh"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(c.dir());
    command.arg("--pid-file").arg(c.pid_file()).arg(&c.id);
    command.stdin(std::process::Stdio::null());
    c.finish(command).ok();
    for (number, target) in kernel::descriptors(c.pid()) {
        let path = std::path::Path::new(&target);
        assert!(
            number <= 2 || !path.is_dir() && target != "/etc/passwd",
            "created: {number} -> {target}"
        );
    }
    c.start().ok();
    let mut numbers = Vec::new();
    crate::harness::eventually("init execs", || {
        numbers = kernel::descriptors(c.pid())
            .into_iter()
            .map(|d| d.0)
            .collect();
        numbers == [0, 1, 2]
    });
}

#[test]
fn preserved_descriptors_reach_init() {
    let mut c = container!();
    c.script("cat <&3; cat <&4; ls /proc/self/fd");
    let first = c.scratch().join("first");
    fs::write(&first, "three\n").unwrap();
    let inner = c.command(&["run", "--preserve-fds", "2", "--bundle"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args([
        "-c",
        "f=$1; shift; exec 3<\"$f\" 4<\"$f\" 5<\"$f\"; exec \"$@\"",
        "sh",
    ]);
    command.arg(&first);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(c.dir())
        .arg(&c.id);
    command.stdin(std::process::Stdio::null());
    let output = c.finish(command);
    output.ok();
    let text = output.stdout();
    // Descriptor 5 is the directory, which `ls` itself opens.
    assert_eq!(text, "three\nthree\n0\n1\n2\n3\n4\n5\n");
    let inner = c.command(&["run", "--preserve-fds", "1", "--bundle"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "exec 3<&-; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.arg(c.dir()).arg(&c.id);
    command.stdin(std::process::Stdio::null());
    c.finish(command).exits(1).says("preserved-fd");
    c.assert_nothing_left();
}

#[test]
fn no_signal_is_blocked_or_ignored_in_init() {
    let c = container!();
    let inner = c.command(&["run", "--detach", "--bundle"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "trap '' PIPE USR1 INT QUIT CHLD; exec \"$@\"", "sh"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(c.dir());
    command.arg("--pid-file").arg(c.pid_file()).arg(&c.id);
    command.stdin(std::process::Stdio::null());
    c.finish(command).ok();
    assert_eq!(kernel::status(c.pid(), "SigBlk"), "0000000000000000");
    let ignored = u64::from_str_radix(&kernel::status(c.pid(), "SigIgn"), 16).unwrap();
    // The C library reserves the signals 32 and 33 for itself.
    assert_eq!(ignored & !(0b11 << 31), 0, "{ignored:x}");
}

#[test]
fn init_leads_a_session_of_its_own() {
    let mut c = container!();
    c.run_detached().ok();
    assert_eq!(words(&kernel::status(c.pid(), "NSsid")).last(), Some(&"1"));
}

#[test]
fn dev_null_of_the_caller_keeps_its_owner() {
    let before = fs::metadata("/dev/null").unwrap().uid();
    let mut c = container!();
    c.edit(|j| j["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    c.run_detached().ok();
    assert_eq!(fs::metadata("/dev/null").unwrap().uid(), before);
}

/// Returns the metadata of the files behind the standard descriptors of a process.
fn standard(pid: i32) -> [fs::Metadata; 3] {
    [0, 1, 2].map(|number| fs::metadata(format!("/proc/{pid}/fd/{number}")).unwrap())
}

/// Runs a command whose standard descriptors are the host's /dev/null.
#[track_caller]
fn with_null(command: &mut std::process::Command) {
    use std::process::Stdio;
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    assert!(command.stderr(Stdio::null()).status().unwrap().success());
}

/// Starts a process in a container and returns its pid. The caller's standard descriptors are the
/// host's /dev/null.
#[track_caller]
fn exec_with_null(c: &Container) -> i32 {
    let file = c.scratch().join("exec-pid");
    let mut exec = c.command(&["exec", "--detach", "--pid-file"]);
    with_null(exec.arg(&file).args([&c.id, "sleep", "1000"]));
    let pid = fs::read_to_string(&file).unwrap().parse().unwrap();
    adopt(pid);
    pid
}

#[test]
fn dev_null_as_stdio_is_the_containers_own() {
    let c = container!();
    let mut create = c.command(&["create", "--pid-file"]);
    with_null(
        create
            .arg(c.pid_file())
            .arg("--bundle")
            .arg(c.dir())
            .arg(&c.id),
    );
    c.start().ok();
    let own = fs::metadata(format!("/proc/{}/root/dev/null", c.pid())).unwrap();
    assert_ne!(own.dev(), fs::metadata("/dev/null").unwrap().dev());
    for pid in [c.pid(), exec_with_null(&c)] {
        assert_eq!(standard(pid).map(|file| file.dev()), [own.dev(); 3]);
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/0")).unwrap();
        let flags = u32::from_str_radix(&kernel::status_field(&info, "flags"), 8).unwrap();
        assert_eq!(flags & 0o4000, 0, "O_NONBLOCK");
    }
}

#[test]
fn a_file_in_the_place_of_dev_null_never_becomes_stdio() {
    let mut c = container!();
    c.run_detached().ok();
    let null = fs::metadata("/dev/null").unwrap().rdev();
    for other in [
        "mkfifo -m 666 /dev/null",
        "ln -s /etc/passwd /dev/null",
        "ln -s zero /dev/null",
        "echo text >/dev/null",
        "mkdir /dev/null",
        "true",
    ] {
        c.exec_output(&format!("rm -r /dev/null && {other}"));
        let pid = exec_with_null(&c);
        assert_eq!(standard(pid).map(|file| file.rdev()), [null; 3], "{other}");
    }
}

#[test]
fn stdio_that_is_a_pipe_can_be_opened_anew_by_the_user() {
    let mut c = container!();
    c.edit(|j| j["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    c.script("echo out >/dev/stdout; echo err >/dev/stderr");
    let inner = c.command(&["run", "--bundle"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "\"$@\" 2>&1 | cat", "sh"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(c.dir())
        .arg(&c.id);
    command.stdin(std::process::Stdio::null());
    let output = c.finish(command);
    assert_eq!(output.stdout(), "out\nerr\n");
}

#[test]
fn a_caller_with_closed_stdio_and_few_descriptors_still_works() {
    let mut c = container!();
    c.args(&["/bin/touch", "/ran"]);
    // The config's limit is higher and would need CAP_SYS_RESOURCE.
    c.edit(|config| config["process"]["rlimits"] = json!([]));
    let inner = c.command(&["run", "--bundle"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 32; exec \"$@\" 0<&- 1>&- 2>&-", "sh"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(c.dir())
        .arg(&c.id);
    c.finish(command).ok();
    assert!(c.rootfs("/ran").exists());
}

#[test]
fn the_callers_groups_are_kept_where_the_annotation_of_crun_says_so() {
    let mut c = container!();
    c.script("grep ^Groups /proc/self/status");
    let groups = |c: &crate::harness::Container| {
        let inner = c.command(&["run", "--bundle"]);
        let mut command = std::process::Command::new("setpriv");
        command.args(["--groups", "0,7,8"]).arg(inner.get_program());
        command.args(inner.get_args()).arg(c.dir()).arg(&c.id);
        command.stdin(std::process::Stdio::null());
        words(&c.finish(command).ok().stdout())[1..].join(" ")
    };
    assert_eq!(groups(&c), "");
    c.edit(|j| j["annotations"] = json!({"run.oci.keep_original_groups": "1"}));
    assert_eq!(groups(&c), "0 7 8");
    c.edit(|j| j["annotations"] = json!({"run.oci.keep_original_groups": "0"}));
    assert_eq!(groups(&c), "");
}

#[test]
fn a_limit_above_the_callers_is_reported_with_its_name_and_the_callers_limit() {
    let mut c = container!();
    c.edit(|j| {
        j["process"]["rlimits"] =
            json!([{"type": "RLIMIT_NOFILE", "soft": 1_048_577, "hard": 1_048_577}]);
    });
    let inner = c.command(&["run", "--bundle"]);
    let mut command = std::process::Command::new("/bin/sh");
    let without = "ulimit -n 1024; exec setpriv --bounding-set=-sys_resource \
                   --inh-caps=-sys_resource -- \"$@\"";
    command.args(["-c", without, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.arg(c.dir()).arg(&c.id);
    let output = c.finish(command);
    output.exits(1).one_line();
    output.says("set RLIMIT_NOFILE to 1048577 and 1048577");
    output.says("(config.json: process.rlimits[0])");
    output.says("the caller's hard limit is 1024");
    c.assert_nothing_left();
}
