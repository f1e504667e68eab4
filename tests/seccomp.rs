//! linux.seccomp: the calls that a filter denies, and the point from which the filter applies.
//! The decisions of a filter's program are tested beside the compiler, in src/plan/seccomp.

use serde_json::{Value, json};

use crate::harness::{Container, has_strace, kernel};

/// Sets a profile that allows every call, except as the rules in `syscalls` say.
fn filter(c: &mut Container, syscalls: Value) {
    profile(
        c,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls}),
    );
}

fn profile(c: &mut Container, profile: Value) {
    c.edit(|j| j["linux"]["seccomp"] = profile);
}

fn refuse(name: &str, errno: Option<u32>) -> Value {
    let names = [name.to_owned(), format!("{name}at")];
    json!([{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}])
}

/// Returns the seccomp mode and the number of filters from the text of /proc/PID/status.
fn filters(status: &str) -> Vec<&str> {
    let wanted = |line: &&str| line.starts_with("Seccomp");
    let lines = status.lines().filter(wanted);
    lines
        .map(|line| line.split(':').nth(1).unwrap().trim())
        .collect()
}

#[test]
fn a_call_is_refused_with_the_errno_of_the_rule() {
    for (errno, text) in [
        (None, "Operation not permitted"),
        (Some(38), "Function not implemented"),
        (Some(122), "Disk quota exceeded"),
    ] {
        let mut c = container!();
        filter(&mut c, refuse("mkdir", errno));
        c.script("mkdir /tmp/x");
        let output = c.run();
        output.exits(1);
        assert!(output.stderr().contains(text), "{}", output.stderr());
    }
}

#[test]
fn init_and_exec_processes_run_under_exactly_one_filter() {
    for userns in [false, true] {
        for no_new_privs in [json!(null), json!(false), json!(true)] {
            for uid in [0, 1000] {
                let mut c = container!();
                filter(&mut c, refuse("mkdir", None));
                if userns {
                    c.user_namespace();
                }
                c.edit(|j| {
                    j["process"]["noNewPrivileges"] = no_new_privs.clone();
                    j["process"]["user"] = json!({"uid": uid, "gid": uid});
                });
                c.create().ok();
                c.start().ok();
                let init = std::fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
                assert_eq!(filters(&init), ["2", "1"], "{no_new_privs} {uid} {userns}");
                let script = "mkdir /tmp/x 2>/dev/null; echo $?; cat /proc/self/status";
                let text = c.exec_output(script);
                assert!(text.starts_with("1\n"), "{text}");
                assert_eq!(filters(&text), ["2", "1"], "{no_new_privs} {uid} {userns}");
                let set = if no_new_privs == json!(true) {
                    "1"
                } else {
                    "0"
                };
                assert_eq!(kernel::status(c.pid(), "NoNewPrivs").trim(), set);
            }
        }
    }
}

#[test]
fn exec_with_a_process_file_or_flags_of_its_own_is_filtered_too() {
    let mut c = container!();
    filter(&mut c, refuse("mkdir", None));
    c.run_detached().ok();
    let mut process = c.config()["process"].clone();
    process["args"] = json!(["/bin/cat", "/proc/self/status"]);
    process["noNewPrivileges"] = json!(true);
    let file = c.scratch().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let output = c.exec_with(&["--process", file.to_str().unwrap()], &[]);
    output.ok();
    assert_eq!(filters(&output.stdout()), ["2", "1"]);
    let flags = ["--cap", "CAP_SYS_ADMIN", "--no-new-privs", "--user", "1000"];
    let output = c.exec_with(&flags, &["cat", "/proc/self/status"]);
    output.ok();
    assert_eq!(filters(&output.stdout()), ["2", "1"]);
}

#[test]
fn exec_is_refused_when_the_profile_can_not_be_read_any_more() {
    let mut c = container!();
    filter(&mut c, refuse("mkdir", None));
    c.run_detached().ok();
    c.edit(|j| j["linux"]["seccomp"]["syscalls"][0]["action"] = json!("SCMP_ACT_NONE"));
    let output = c.exec(&["/bin/true"]);
    output.exits(255);
    let place = "linux.seccomp.syscalls[0].action";
    assert!(output.stderr().contains(place), "{}", output.stderr());
}

#[test]
fn a_killed_program_ends_by_sigsys() {
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
    ] {
        let mut c = container!();
        filter(
            &mut c,
            json!([{"names": ["mkdir", "mkdirat"], "action": action}]),
        );
        c.edit(|j| j["process"]["args"] = json!(["/bin/mkdir", "/tmp/x"]));
        c.run().exits(159);
        c.script("sleep 1000");
        c.run_detached().ok();
        c.exec(&["/bin/mkdir", "/tmp/x"]).exits(159);
        c.delete(&["--force"]).ok();
    }
}

#[test]
fn a_logged_call_is_done() {
    let mut c = container!();
    filter(
        &mut c,
        json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_LOG"}]),
    );
    assert_eq!(c.output_of("mkdir /tmp/x && echo made"), "made\n");
}

#[test]
fn conditions_on_arguments_decide() {
    // kill(pid, signal): 10 is SIGUSR1, 12 is SIGUSR2, 18 is SIGCONT.
    let cases = [
        (
            json!([{"index": 1, "op": "SCMP_CMP_EQ", "value": 10}]),
            "1 0 0\n",
        ),
        (
            json!([{"index": 1, "op": "SCMP_CMP_NE", "value": 10}]),
            "0 1 1\n",
        ),
        (
            json!([{"index": 1, "op": "SCMP_CMP_GT", "value": 12}]),
            "0 0 1\n",
        ),
        (
            json!([{"index": 1, "op": "SCMP_CMP_GE", "value": 12}]),
            "0 1 1\n",
        ),
        (
            json!([{"index": 1, "op": "SCMP_CMP_LT", "value": 12}]),
            "1 0 0\n",
        ),
        (
            json!([{"index": 1, "op": "SCMP_CMP_LE", "value": 12}]),
            "1 1 0\n",
        ),
        (
            json!([{"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 8, "valueTwo": 8}]),
            "1 1 0\n",
        ),
        (
            json!([{"index": 1, "op": "SCMP_CMP_EQ", "value": 10}, {"index": 0, "op": "SCMP_CMP_EQ", "value": 77}]),
            "0 0 0\n",
        ),
        (
            json!([{"index": 1, "op": "SCMP_CMP_EQ", "value": 10}, {"index": 1, "op": "SCMP_CMP_EQ", "value": 18}]),
            "1 0 1\n",
        ),
    ];
    for (args, expected) in cases {
        let mut c = container!();
        filter(
            &mut c,
            json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": args}]),
        );
        let script = "trap : USR1 USR2; for s in USR1 USR2 CONT; do kill -$s $$ 2>/dev/null; r=\"$r$? \"; done; echo ${r% }";
        assert_eq!(c.output_of(script), expected, "{args}");
    }
}

#[test]
fn a_profile_need_not_allow_what_starting_takes_but_capset_without_no_new_privs() {
    let names = [
        "execve",
        "exit_group",
        "brk",
        "arch_prctl",
        "mprotect",
        "mmap",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "getrandom",
        "readlink",
        "readlinkat",
        "prlimit64",
        "getuid",
        "prctl",
    ];
    let strict = json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    });
    let mut c = container!();
    profile(&mut c, strict.clone());
    c.edit(|j| {
        j["process"]["noNewPrivileges"] = json!(true);
        j["process"]["args"] = json!(["/bin/true"]);
    });
    c.run().ok();
    // Setting a filter without no_new_privs needs a capability. The filter already applies when the
    // runtime drops that capability.
    c.edit(|j| j["process"]["noNewPrivileges"] = json!(false));
    let output = c.run();
    output.exits(1);
    let told = output.stderr();
    assert!(
        told.contains("SIGSYS") && told.contains("linux.seccomp"),
        "{told}"
    );
    let output = c.create();
    output.ok();
    let output = c.runtime(&["start", &c.id]);
    output.exits(1).says("SIGSYS").says("linux.seccomp");
    c.delete(&["--force"]).ok();
    c.edit(|j| {
        let allowed = &mut j["linux"]["seccomp"]["syscalls"][0]["names"];
        allowed.as_array_mut().unwrap().push(json!("capset"));
    });
    c.run().ok();
}

#[test]
fn a_call_that_fails_before_the_program_runs_is_reported_with_the_filter() {
    let mut c = container!();
    filter(&mut c, refuse("capset", None));
    c.edit(|j| j["process"]["noNewPrivileges"] = json!(false));
    let output = c.run();
    output.exits(1);
    let told = output.stderr();
    assert!(
        told.contains("capset: EPERM") && told.contains("linux.seccomp"),
        "{told}"
    );
}

#[test]
fn run_start_and_exec_report_a_filter_that_kills_the_runtime_before_the_program_runs() {
    // Without no_new_privs, capset comes between the filter and execve. execve has no fourth
    // argument, so that argument is not 5 and the rule matches.
    let at_execve = json!([{"index": 3, "op": "SCMP_CMP_NE", "value": 5}]);
    for (name, args, no_new_privs) in [
        ("capset", json!([]), false),
        ("execve", at_execve.clone(), false),
        ("execve", at_execve, true),
    ] {
        for (action, said) in [
            ("SCMP_ACT_KILL_PROCESS", "SIGSYS"),
            ("SCMP_ACT_TRAP", "SIGSYS"),
            ("SCMP_ACT_ERRNO", "EPERM"),
        ] {
            for uid in [0, 1000] {
                let mut c = container!();
                let rules = json!([{"names": [name], "action": action, "args": args}]);
                c.edit(|j| {
                    j["process"]["noNewPrivileges"] = json!(no_new_privs);
                    j["process"]["user"] = json!({"uid": uid, "gid": uid});
                });
                c.script("sleep 1000");
                c.run_detached().ok();
                filter(&mut c, rules);
                let output = c.exec(&["/bin/true"]);
                output.exits(255).one_line();
                output.says(said).says("linux.seccomp");
                c.delete(&["--force"]).ok();
                let output = c.run();
                output.exits(1).one_line();
                output.says(said).says("linux.seccomp");
                c.create().ok();
                let output = c.start();
                output.exits(1).one_line();
                output.says(said).says("linux.seccomp");
                c.delete(&["--force"]).ok();
            }
        }
    }
}

#[test]
fn a_default_that_even_forbids_to_exit_is_an_error() {
    let mut c = container!();
    c.script("sleep 1000");
    c.run_detached().ok();
    // Without a tracer every call fails with ENOSYS, even exit_group.
    profile(&mut c, json!({"defaultAction": "SCMP_ACT_TRACE"}));
    let refused = |output: crate::harness::Output, code| {
        output.exits(code).one_line().says("linux.seccomp");
    };
    refused(c.exec(&["/bin/true"]), 255);
    c.delete(&["--force"]).ok();
    c.create().ok();
    refused(c.start(), 1);
    c.delete(&[]).ok();
    refused(c.run(), 1);
    c.edit(|j| j["process"]["noNewPrivileges"] = json!(false));
    refused(c.run(), 1);
}

#[test]
fn the_flags_of_a_profile_reach_the_kernel() {
    let mut c = container!();
    let file = c.scratch().join("strace");
    let traced = |c: &mut Container, inject: &[&str]| {
        let orlop = c.command(&[]);
        let mut command = std::process::Command::new("strace");
        command
            .args(["-f", "-qq", "-e", "trace=seccomp", "-o"])
            .arg(&file);
        command
            .args(inject)
            .arg(orlop.get_program())
            .args(orlop.get_args());
        for (name, value) in orlop.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.args(["run", "--bundle"]).arg(c.dir()).arg(&c.id);
        let output = c.finish(command);
        let calls = std::fs::read_to_string(&file).unwrap();
        (output, calls)
    };
    if !has_strace() {
        return;
    }
    c.args(&["/bin/true"]);
    for (flags, expected) in [
        (json!(null), "SECCOMP_FILTER_FLAG_SPEC_ALLOW, {len="),
        (json!([]), "SECCOMP_SET_MODE_FILTER, 0, {len="),
        (
            json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
            "SECCOMP_SET_MODE_FILTER, 0, {len=",
        ),
        (
            json!([
                "SECCOMP_FILTER_FLAG_LOG",
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
            ]),
            "SECCOMP_FILTER_FLAG_LOG|SECCOMP_FILTER_FLAG_SPEC_ALLOW, {len=",
        ),
    ] {
        profile(
            &mut c,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}),
        );
        let (output, calls) = traced(&mut c, &[]);
        output.ok();
        assert_eq!(calls.lines().count(), 1, "{calls}");
        assert!(calls.contains(expected), "{expected}: {calls}");
    }
    // strace makes the call fail as on a kernel that doesn't know the flag.
    let socket = c.scratch().join("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    profile(
        &mut c,
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "listenerPath": socket,
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        }),
    );
    let (output, _) = traced(&mut c, &["-e", "inject=seccomp:error=EINVAL"]);
    output
        .exits(1)
        .says("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which requires Linux 5.19");
    output.says("EINVAL").says("linux.seccomp.flags");
}

#[test]
fn calls_that_a_profile_names_without_effect_are_in_the_debug_log() {
    let mut c = container!();
    profile(
        &mut c,
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_MIPS"],
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "listenerPath": "/nowhere",
            "syscalls": [{"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO"}],
        }),
    );
    c.args(&["/bin/true"]);
    let told = |output: &str| {
        [
            "linux.seccomp.syscalls[0].names[1]: unknown system call ",
            "linux.seccomp.architectures[0]: SCMP_ARCH_MIPS is ignored",
            "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is ignored",
            "linux.seccomp.listenerPath: is ignored",
        ]
        .map(|text| output.contains(text))
    };
    let mut quiet = c.command(&["run", "--bundle"]);
    quiet.arg(c.dir()).arg(&c.id);
    let output = c.finish(quiet);
    output.ok();
    assert_eq!(told(&output.stderr()), [false; 4], "{}", output.stderr());
    let mut debug = c.command(&["--debug", "run", "--bundle"]);
    debug.arg(c.dir()).arg(&c.id);
    let output = c.finish(debug);
    output.ok();
    assert_eq!(told(&output.stderr()), [true; 4], "{}", output.stderr());
}

#[test]
fn rules_that_contradict_each_other_are_refused() {
    let mut c = container!();
    let rule = |action: &str| json!({"names": ["kill"], "action": action, "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 9}]});
    filter(
        &mut c,
        json!([rule("SCMP_ACT_ERRNO"), rule("SCMP_ACT_LOG")]),
    );
    let output = c.run();
    output.exits(1);
    output.says("config.json: linux.seccomp.syscalls[1]: kill has another action for the same arguments in an earlier rule");
}

#[test]
fn mistakes_in_a_profile_are_reported_with_their_place() {
    let one = |syscall: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [syscall]});
    let arg =
        |arg: Value| one(json!({"names": ["kill"], "action": "SCMP_ACT_TRAP", "args": [arg]}));
    let cases = [
        (
            json!({"defaultAction": "SCMP_ACT_NONE"}),
            "linux.seccomp.defaultAction: unknown value",
        ),
        (
            json!({"syscalls": []}),
            "linux.seccomp.defaultAction: is missing",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW has no errno",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO"}),
            "linux.seccomp: does not allow execve",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}),
            "linux.seccomp.architectures[0]: unknown value",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_X"]}),
            "linux.seccomp.flags[0]: unknown value",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "linux.seccomp.listenerMetadata: must not be set",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ["kill"]}),
            "linux.seccomp.syscalls[0]: is not an object",
        ),
        (
            one(json!({"names": [], "action": "SCMP_ACT_TRAP"})),
            "linux.seccomp.syscalls[0].names: must not be empty",
        ),
        (
            one(json!({"names": [""], "action": "SCMP_ACT_TRAP"})),
            "linux.seccomp.syscalls[0].names[0]: must not be empty",
        ),
        (
            one(json!({"names": ["kill"], "action": "SCMP_ACT_TRAP", "errnoRet": 1})),
            "linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_TRAP has no errno",
        ),
        (
            one(json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "linux.seccomp.syscalls[0].errnoRet: 4096 is more than 4095",
        ),
        (
            one(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.listenerPath: missing",
        ),
        (
            one(json!({"names": ["write"], "action": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.syscalls[0].names[0]: SCMP_ACT_NOTIFY cannot be used for write",
        ),
        (
            arg(json!({"index": 6, "op": "SCMP_CMP_EQ", "value": 0})),
            "linux.seccomp.syscalls[0].args[0].index: 6 is not the index of an argument",
        ),
        (
            arg(json!({"index": 0, "op": "SCMP_CMP_X", "value": 0})),
            "linux.seccomp.syscalls[0].args[0].op: unknown value",
        ),
    ];
    for (wrong, expected) in cases {
        let mut c = container!();
        profile(&mut c, wrong);
        let output = c.run();
        output.exits(1);
        let expected = format!("config.json: {expected}");
        assert!(
            output.stderr().contains(&expected),
            "{expected}: {}",
            output.stderr()
        );
    }
}

#[test]
fn a_profile_whose_program_is_too_long_is_refused() {
    let mut c = container!();
    let rule = |value: u64| json!({"names": ["kill"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": value}]});
    filter(&mut c, (0..2000).map(|n| rule(n << 31)).collect());
    let output = c.run();
    output.exits(1);
    assert!(
        output.stderr().contains("the kernel takes 4096 at most"),
        "{}",
        output.stderr()
    );
}

#[test]
fn unknown_calls_and_architectures_are_passed_over() {
    let mut c = container!();
    profile(
        &mut c,
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_MIPS", "SCMP_ARCH_S390X"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO"}],
        }),
    );
    assert_eq!(c.output_of("mkdir /tmp/x 2>/dev/null || echo no"), "no\n");
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    let mut c = container!();
    profile(
        &mut c,
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/nowhere/agent",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        }),
    );
    let output = c.run();
    output.exits(1);
    let told = output.stderr();
    assert!(
        told.contains("/nowhere/agent") && told.contains("linux.seccomp.listenerPath"),
        "{told}"
    );
}

#[test]
fn a_program_named_as_a_process_that_sets_its_filter_does_not_delay_start() {
    let mut c = container!();
    filter(&mut c, refuse("mkdir", None));
    crate::harness::install(b"#!/bin/sh\nsleep 1000\n", &c.rootfs("/bin/orlop:filter"));
    c.args(&["/bin/orlop:filter"]);
    // If the start were delayed, the command would exceed the harness's deadline.
    c.run_detached().ok();
    let name = std::fs::read_to_string(format!("/proc/{}/comm", c.pid())).unwrap();
    assert_eq!(name, "orlop:filter\n");
}

#[test]
fn an_exec_process_starts_under_a_profile_that_allows_no_birth() {
    let mut c = container!();
    let allowed = [
        "execve",
        "capset",
        "brk",
        "mmap",
        "mprotect",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "getrandom",
        "readlinkat",
        "readlink",
        "newfstatat",
        "getuid",
        "geteuid",
        "exit_group",
        "rt_sigaction",
        "rt_sigprocmask",
        "nanosleep",
        "clock_nanosleep",
        "write",
    ];
    profile(
        &mut c,
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}],
        }),
    );
    for no_new_privs in [true, false] {
        c.edit(|j| j["process"]["noNewPrivileges"] = json!(no_new_privs));
        c.run_detached().ok();
        let output = c.exec(&["/bin/busybox", "echo", "works"]);
        output.ok();
        assert_eq!(output.stdout(), "works\n");
        c.delete(&["--force"]).ok();
    }
}
