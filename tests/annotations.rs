//! crun's annotations of config.json: each has its effect, or is refused by name.
//! run.oci.keep_original_groups is in `process`; annotations of systemd are in `systemd_calls`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::descriptors::pid_of;
use crate::harness::agent::{Agent, Reply};
use crate::harness::terminal::ConsoleSocket;
use crate::harness::{Container, kernel};

fn annotate(c: &mut Container, name: &str, value: &str) {
    c.edit(|j| j["annotations"] = json!({name: value}));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let mut c = container!();
    for (name, value, problem) in [
        (
            "run.oci.handler",
            "krun",
            "is not supported: there are no handlers",
        ),
        (
            "run.oci.handler",
            "wasm",
            "is not supported: there are no handlers",
        ),
        (
            "run.oci.seccomp.plugins",
            "/x.so",
            "is not supported: there are no plugins",
        ),
        (
            "run.oci.systemd.force_cgroup_v1",
            "/sys/fs/cgroup",
            "is not supported: cgroup v1",
        ),
        (
            "run.oci.mount_context_type",
            "supercontext",
            "unknown type \"supercontext\"",
        ),
        (
            "run.oci.delegate-cgroup",
            "a/../../b",
            "must not contain \"..\"",
        ),
        (
            "run.oci.hooks.stdout",
            "relative",
            "\"relative\" is not an absolute path",
        ),
        (
            "run.oci.hooks.stderr",
            "relative",
            "\"relative\" is not an absolute path",
        ),
        ("run.oci.seccomp_bpf_data", "BgAAAAAA/38", "is not base64"),
        ("run.oci.seccomp_bpf_data", "BgAAAAAA", "holds 6 bytes"),
    ] {
        annotate(&mut c, name, value);
        let named = format!("config.json: annotations[\"{name}\"]: {problem}");
        c.create().exits(1).one_line().says(&named);
        c.assert_nothing_left();
    }
    // Without systemd, crun ignores it too.
    annotate(&mut c, "run.oci.systemd.subgroup", "sub");
    c.args(&["/bin/true"]);
    c.run().ok().says("is ignored without systemd");
    for (name, value) in [
        ("run.oci.systemd.subgroup", ""),
        ("run.oci.handler", ""),
        ("run.oci.timens_offset", "any"),
        ("run.oci.unknown", "any"),
        ("run.oci.mount_context_type", "rootcontext"),
    ] {
        annotate(&mut c, name, value);
        let output = c.run();
        output.ok();
        assert_eq!(output.stderr(), "", "{name}");
    }
}

#[test]
fn the_process_starts_in_the_cgroup_that_is_delegated_to_it() {
    for name in ["payload", "/deep/er"] {
        let mut c = container!();
        annotate(&mut c, "run.oci.delegate-cgroup", name);
        if kernel::has_controllers(&["pids"]) {
            c.edit(|j| j["linux"]["resources"] = json!({"pids": {"limit": 77}}));
        }
        c.script("grep ^0: /proc/self/cgroup >/new; mv /new /own; exec sleep 1000");
        c.run_detached().ok();
        let below = name.trim_start_matches('/');
        assert_eq!(
            kernel::cgroup_of(c.pid()),
            format!("{}/{below}", c.cgroup_path())
        );
        // The cgroup namespace shows the container's cgroup as its root, and that one has the limits.
        c.wait_file("/own");
        let own = fs::read_to_string(c.rootfs("/own")).unwrap();
        assert_eq!(own.trim(), format!("0::/{below}"));
        if kernel::has_controllers(&["pids"]) {
            assert_eq!(kernel::cgroup_value(&c.cgroup(), "pids.max"), "77");
        }
        assert_eq!(c.exec_output("echo in").trim(), "in");
        c.runtime(&["pause", &c.id]).ok();
        assert_eq!(c.status(), "paused");
        c.runtime(&["resume", &c.id]).ok();
        c.delete(&["--force"]).ok();
        c.assert_nothing_left();
    }
}

#[test]
fn hooks_of_the_host_write_to_the_files_that_annotations_name() {
    let mut c = container!();
    let (stdout, stderr) = (c.scratch().join("out"), c.scratch().join("err"));
    fs::write(&stdout, "before\n").unwrap();
    c.args(&["/bin/true"]);
    c.edit(|j| {
        j["annotations"] = json!({"run.oci.hooks.stdout": stdout, "run.oci.hooks.stderr": stderr});
        for kind in [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ] {
            let script = format!("echo {kind}; echo {kind} failed >&2");
            j["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        }
    });
    let lines = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    c.create().ok();
    // A created container holds no file of the host.
    let held = kernel::descriptors(c.pid());
    assert!(
        !held.iter().any(|(_, link)| link.contains("/out")),
        "{held:?}"
    );
    c.start().ok();
    c.wait_dead();
    c.delete(&[]).ok();
    let kinds = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    assert_eq!(lines(&stdout)[0], "before");
    assert_eq!(lines(&stdout)[1..], kinds);
    assert_eq!(lines(&stderr), kinds.map(|kind| format!("{kind} failed")));
    // A FIFO that nobody reads doesn't hold create up.
    fs::remove_file(&stdout).unwrap();
    nix::unistd::mkfifo(&stdout, nix::sys::stat::Mode::S_IRWXU).unwrap();
    c.create()
        .exits(1)
        .one_line()
        .says("for hooks (config.json: annotations[\"run.oci.hooks.stdout\"]): open: ENXIO");
    c.assert_nothing_left();
}

#[test]
fn the_pidfd_receiver_gets_a_pidfd_of_init() {
    let mut c = container!();
    let path = c.scratch().join("pidfd");
    let socket = ConsoleSocket::listen(&path);
    annotate(&mut c, "run.oci.pidfd_receiver", path.to_str().unwrap());
    c.create().ok();
    assert_eq!(pid_of(&socket.receive()), c.pid());
    c.delete(&["--force"]).ok();
    // The flag wins.
    let other = c.scratch().join("other");
    let flagged = ConsoleSocket::listen(&other);
    c.make("create", &["--pidfd-socket", other.to_str().unwrap()])
        .ok();
    assert_eq!(pid_of(&flagged.receive()), c.pid());
}

#[test]
fn the_seccomp_receiver_is_the_agent_of_a_profile_that_names_none() {
    let mut c = container!();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["rmdir"], "action": "SCMP_ACT_NOTIFY"}],
    });
    c.edit(|j| j["linux"]["seccomp"] = profile);
    c.script("rmdir /no/such/directory && echo answered");
    c.create()
        .exits(1)
        .says("linux.seccomp.listenerPath: missing");
    let path = c.scratch().join("agent");
    let agent = Agent::listen(&path, |_| Reply::Value(0));
    annotate(&mut c, "run.oci.seccomp.receiver", path.to_str().unwrap());
    assert_eq!(c.run().ok().stdout(), "answered\n");
    c.edit(|j| drop(j.as_object_mut().unwrap().remove("annotations")));
    c.set_env("RUN_OCI_SECCOMP_RECEIVER", path.to_str().unwrap());
    assert_eq!(c.run().ok().stdout(), "answered\n");
    assert_eq!(agent.seen().states.len(), 2);
    annotate(&mut c, "run.oci.seccomp.receiver", "agent");
    c.create()
        .exits(1)
        .says("annotations[\"run.oci.seccomp.receiver\"]: \"agent\" is not an absolute path");
}

#[test]
fn an_unknown_system_call_is_refused_where_an_annotation_asks_for_that() {
    let mut c = container!();
    let call = json!({"names": ["rmdir", "no_such_call"], "action": "SCMP_ACT_ERRNO"});
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]});
    c.edit(|j| j["linux"]["seccomp"] = profile);
    c.args(&["/bin/true"]);
    for (value, code) in [("0", 0), ("1", 1)] {
        annotate(&mut c, "run.oci.seccomp_fail_unknown_syscall", value);
        let output = c.run();
        output.exits(code);
        assert_eq!(
            output
                .stderr()
                .contains("run.oci.seccomp_fail_unknown_syscall is set"),
            code == 1
        );
    }
}

#[test]
fn a_filter_in_the_kernels_form_takes_the_place_of_the_profile() {
    let mut c = container!();
    let (load, equal, answer) = (0x20, 0x15, 0x06);
    // rmdir(2) of x86_64 fails with EXDEV (18), all else is allowed.
    let program: [(u16, u8, u8, u32); 4] = [
        (load, 0, 0, 0),
        (equal, 0, 1, 84),
        (answer, 0, 0, 0x0005_0000 | 18),
        (answer, 0, 0, 0x7fff_0000),
    ];
    let bytes: Vec<u8> = program
        .iter()
        .flat_map(|(code, jt, jf, k)| {
            let code = code.to_ne_bytes().into_iter().chain([*jt, *jf]);
            code.chain(k.to_ne_bytes()).collect::<Vec<_>>()
        })
        .collect();
    annotate(&mut c, "run.oci.seccomp_bpf_data", &base64(&bytes));
    // This profile would refuse everything.
    c.edit(|j| j["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    for no_new_privs in [true, false] {
        c.edit(|j| j["process"]["noNewPrivileges"] = json!(no_new_privs));
        c.script("rmdir /no 2>&1; grep Seccomp_filters /proc/self/status; exec sleep 1000");
        c.run_detached().ok();
        let expected = "rmdir: '/no': Invalid cross-device link\nSeccomp_filters:\t1\n";
        crate::harness::eventually("the script has printed", || {
            c.payload_output().lines().count() == 2
        });
        assert_eq!(c.payload_output(), expected);
        let of_exec = c.exec(&["/bin/sh", "-c", "rmdir /no 2>&1"]);
        assert!(
            of_exec.stdout().contains("cross-device"),
            "{}",
            of_exec.stdout()
        );
        c.delete(&["--force"]).ok();
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            let digit = if digit <= chunk.len() {
                DIGITS[value as usize]
            } else {
                b'='
            };
            text.push(digit.into());
        }
    }
    text
}

#[test]
fn help_readme_and_features_list_the_same_annotations() {
    let c = container!();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let tests = fs::read_to_string(tests).unwrap();
    let help = c.runtime(&["create", "--help"]).ok().stdout();
    assert_eq!(
        c.runtime(&["run", "--help"])
            .stdout()
            .split("Annotations")
            .nth(1),
        help.split("Annotations").nth(1)
    );
    let mut lines = help.lines();
    let mut found = 0;
    while let Some(line) = lines.next() {
        let Some((name, value)) = line
            .trim()
            .split_once('=')
            .filter(|(name, _)| name.starts_with("run.oci."))
        else {
            continue;
        };
        let about = lines.next().unwrap().trim();
        let row = format!("| `{name}={value}` | {about} |");
        assert!(readme.contains(&row), "README.md lacks the row {row}");
        assert!(
            tests.contains(&format!("| `{name}` |")),
            "tests/README.md lacks {name}"
        );
        found += 1;
    }
    assert_eq!(readme.matches("| `run.oci.").count(), found);
    assert!(found > 10, "{help}");
    let features: Value = serde_json::from_str(&c.runtime(&["features"]).stdout()).unwrap();
    let unsafe_ones = features["potentiallyUnsafeConfigAnnotations"]
        .as_array()
        .unwrap();
    assert!(unsafe_ones.contains(&json!("run.oci.")));
}
