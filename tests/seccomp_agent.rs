//! SCMP_ACT_NOTIFY: calls that an agent handles instead of the kernel, for create, run and exec.
//! Filters without an agent are tested in `seccomp`.

use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::harness::agent::{Agent, Reply};
use crate::harness::{Container, eventually, kernel};

/// System call numbers of x86_64.
const MKDIR: i32 = 83;
const RMDIR: i32 = 84;
const UMASK: i32 = 95;
const CAPSET: i32 = 126;

fn answer(number: i32) -> Reply {
    match number {
        // EXDEV.
        MKDIR => Reply::Errno(18),
        // The agent reports success.
        RMDIR => Reply::Value(0),
        _ => Reply::Continue,
    }
}

fn agent(c: &mut Container, names: &[&str], flags: &[&str]) -> Agent {
    let path = c.scratch().join("agent");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "listenerPath": path,
        "listenerMetadata": "the metadata",
        "flags": flags,
        "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
    });
    c.edit(|j| j["linux"]["seccomp"] = profile);
    Agent::listen(&path, answer)
}

const SCRIPT: &str = "mkdir /tmp/x 2>&1; echo $?; rmdir /tmp/no 2>&1; echo $?; umask 12; umask; grep Seccomp /proc/self/status; \
                      ls -d /tmp/x 2>/dev/null || true";
const PRINTED: &str = "mkdir: can't create directory '/tmp/x': Invalid cross-device link\n1\n0\n0012\nSeccomp:\t2\nSeccomp_filters:\t1\n";

#[test]
fn an_agent_answers_for_run_create_and_exec() {
    for no_new_privs in [false, true] {
        let mut c = container!();
        let agent = agent(
            &mut c,
            &["mkdir", "rmdir", "umask"],
            &["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        );
        c.edit(|j| j["process"]["noNewPrivileges"] = json!(no_new_privs));
        assert_eq!(c.output_of(SCRIPT), PRINTED);
        {
            let mut seen = agent.seen();
            assert_eq!(seen.links, ["anon_inode:seccomp notify"]);
            let told = &seen.states[0];
            assert_eq!(told["ociVersion"], told["state"]["ociVersion"]);
            assert_eq!(told["fds"], json!(["seccompFd"]));
            assert_eq!(told["metadata"], "the metadata");
            assert_eq!(told["state"]["status"], "creating");
            assert_eq!(told["state"]["id"], c.id.as_str());
            assert_eq!(told["state"]["bundle"], c.dir().to_str().unwrap());
            assert_eq!(told["state"]["pid"], told["pid"]);
            let numbers: Vec<i32> = seen.asked.iter().map(|asked| asked.number).collect();
            for number in [MKDIR, RMDIR, UMASK] {
                assert!(numbers.contains(&number), "{numbers:?}");
            }
            assert!(seen.asked.iter().all(|asked| asked.pid > 0));
            *seen = Default::default();
        }
        c.script(&format!("{SCRIPT}; exec sleep 1000"));
        c.create().ok();
        eventually("the agent is told of the container", || {
            agent.seen().states.len() == 1
        });
        assert_eq!(agent.seen().states[0]["pid"], c.pid());
        c.start().ok();
        eventually("the program has printed all", || {
            c.payload_output() == PRINTED
        });
        assert_eq!(c.exec_output(SCRIPT), PRINTED);
        let seen = agent.seen();
        assert_eq!(seen.states.len(), 2);
        assert_eq!(seen.states[1]["state"]["status"], "running");
        assert_eq!(seen.states[1]["state"]["pid"], c.pid());
        assert_ne!(seen.states[1]["pid"], c.pid());
    }
}

#[test]
fn an_agent_answers_in_a_user_namespace() {
    let mut c = container!();
    let agent = agent(&mut c, &["mkdir", "rmdir", "umask"], &[]);
    c.user_namespace();
    assert_eq!(c.output_of(SCRIPT), PRINTED);
    assert_eq!(agent.seen().states.len(), 1);
}

#[test]
fn an_agent_is_asked_of_what_the_runtime_does_before_the_program_runs() {
    for no_new_privs in [false, true] {
        let mut c = container!();
        let names = [
            "capset",
            "close",
            "close_range",
            "prctl",
            "execve",
            "rt_sigprocmask",
        ];
        let agent = agent(&mut c, &names, &[]);
        c.edit(|j| j["process"]["noNewPrivileges"] = json!(no_new_privs));
        assert_eq!(c.output_of("echo ran"), "ran\n");
        let asked = |number| {
            agent
                .seen()
                .asked
                .iter()
                .any(|asked| asked.number == number)
        };
        assert_eq!(asked(CAPSET), !no_new_privs);
        c.script("exec sleep 1000");
        c.create().ok();
        c.start().ok();
        assert_eq!(c.exec_output("echo ran"), "ran\n");
        assert_eq!(kernel::status(c.pid(), "Seccomp").trim(), "2");
    }
}

#[test]
fn a_filter_with_a_listener_that_kills_the_runtime_is_reported() {
    for (name, action) in [
        ("close_range", "SCMP_ACT_KILL"),
        ("sendmsg", "SCMP_ACT_KILL_PROCESS"),
        ("sendmsg", "SCMP_ACT_ERRNO"),
        ("execve", "SCMP_ACT_KILL"),
    ] {
        let mut c = container!();
        let agent = agent(&mut c, &["mkdir"], &[]);
        c.edit(|j| {
            let entry = json!({"names": [name], "action": action});
            let calls: &mut Value = &mut j["linux"]["seccomp"]["syscalls"];
            calls.as_array_mut().unwrap().push(entry);
        });
        let output = c.run();
        output.exits(1).one_line().says("linux.seccomp");
        drop(agent);
    }
}

#[test]
fn calls_whose_agent_has_gone_do_not_exist() {
    let mut c = container!();
    let path = c.scratch().join("agent");
    let socket = UnixListener::bind(&path).unwrap();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    });
    c.edit(|j| j["linux"]["seccomp"] = profile);
    c.script("until [ -e /tmp/go ]; do usleep 10000; done; mkdir /tmp/x 2>&1");
    c.create().ok();
    // Dropping the connection also closes the seccomp listener that was sent over it.
    drop(socket.accept().unwrap());
    c.start().ok();
    std::fs::write(c.rootfs("tmp/go"), "").unwrap();
    assert_eq!(c.wait(), 1);
    let told = c.payload_output();
    assert!(told.contains("Function not implemented"), "{told}");
}
