//! Tests that need no container: the state JSON, and hooks that are small programs of the host.
#![allow(clippy::unwrap_used)]
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;

fn about() -> StateTemplate {
    let annotations = BTreeMap::from([("a\"b".to_owned(), "\n".to_owned())]);
    StateTemplate::new("1.3.0", "x", Path::new("/b"), &annotations)
}

fn shell(script: &str, timeout: Option<u64>) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: vec!["hook".into(), "-c".into(), script.into()],
        env: Some(vec!["PATH=/usr/bin:/bin".into()]),
        timeout,
    }
}

fn outcome(hooks: &[Hook]) -> String {
    let context = HookContext {
        about: &about(),
        pid: 7,
        env: None,
        cwd: Some(Path::new("/nonexistent")),
        outputs: None,
        only_while: None,
        interruptible: false,
    };
    match run_hooks(HookKind::CreateRuntime, hooks, context) {
        Ok(()) => "fine".into(),
        Err(error) => told(&error),
    }
}

/// Returns the part of an error after runc's wording.
fn told(error: &Error) -> String {
    let text = error.to_string();
    let (kind, index) = (error.kind.as_str(), error.index);
    let words = format!("error running {kind} hook #{index}: ");
    assert!(text.starts_with(&words), "{text}");
    text.replacen(&words, "", 1)
}

#[test]
fn the_state_is_json_with_what_the_specification_wants() {
    let state: Value = serde_json::from_str(&about().state_json("creating", 7)).unwrap();
    let expected = json!({
        "ociVersion": "1.3.0", "id": "x", "status": "creating", "pid": 7, "bundle": "/b",
        "annotations": {"a\"b": "\n"}
    });
    assert_eq!(state, expected);
    let plain = StateTemplate::new("1.3.0", "x", Path::new("/b"), &BTreeMap::new());
    assert!(!plain.state_json("stopped", 0).contains("annotations"));
}

#[test]
fn the_hooks_of_a_configuration_are_taken_as_they_stand() {
    let hook = json!({"path": "/x", "args": ["y"], "env": ["A=b"], "timeout": 3});
    let spec = json!({
        "ociVersion": "1.2.0",
        "hooks": {"prestart": [hook], "poststop": [{"path": "/z"}]},
    });
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let hooks = Hooks::from_spec(&spec);
    assert_eq!(
        serde_json::to_value(&hooks.prestart).unwrap(),
        json!([hook])
    );
    assert_eq!(
        serde_json::to_value(&hooks.poststop).unwrap(),
        json!([{"path": "/z"}])
    );
    assert!(hooks.hold_up_create() && hooks.look_into_root());
    assert!(!Hooks::default().look_into_root());
}

#[test]
fn a_hook_reads_the_state_and_has_its_own_environment_and_nothing_open() {
    assert_eq!(outcome(&[shell("grep -q '\"pid\":7,'", None)]), "fine");
    let env =
        "test \"$(env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=)\" = PATH=/usr/bin:/bin";
    assert_eq!(outcome(&[shell(env, None)]), "fine");
    assert_eq!(
        outcome(&[shell("test \"$(pwd)\" = / && test ! -e /dev/fd/3", None)]),
        "fine"
    );
    // Check only the last seven digits, because glibc reserves some of the higher signals.
    let masks = "grep -E '^Sig(Blk|Ign):.*[1-9a-f].{0,6}$' /proc/self/status && exit 1; exit 0";
    assert_eq!(outcome(&[shell(masks, None)]), "fine");
}

#[test]
fn what_failed_is_named_with_its_last_words() {
    let second = |hook| outcome(&[shell("exit 0", None), hook, shell("exit 9", None)]);
    assert_eq!(
        second(shell("echo one; echo two >&2; exit 3", None)),
        "hooks.createRuntime[1] (/bin/sh): exited with code 3: one; two"
    );
    assert_eq!(
        second(shell("kill -TERM $$", None)),
        "hooks.createRuntime[1] (/bin/sh): killed by signal 15 (SIGTERM)"
    );
    let missing = Hook {
        path: "/nonexistent/x".into(),
        args: Vec::new(),
        env: None,
        timeout: None,
    };
    assert_eq!(
        second(missing),
        "hooks.createRuntime[1] (/nonexistent/x): execve: ENOENT (no such file or directory)"
    );
}

#[test]
fn a_hook_that_reads_nothing_or_prints_too_much_is_fine() {
    assert_eq!(outcome(&[shell("exec <&-; sleep 0.1", None)]), "fine");
    let flood = "head -c 10000000 /dev/zero | tr '\\0' x >&2; echo; echo end >&2; exit 1";
    assert_eq!(
        outcome(&[shell(flood, Some(20))]),
        "hooks.createRuntime[0] (/bin/sh): exited with code 1: end"
    );
}

#[test]
fn time_is_bounded_whoever_holds_the_pipes() {
    let start = Instant::now();
    assert_eq!(
        outcome(&[shell("echo hm >&2; sleep 60 & sleep 1000", Some(2))]),
        "hooks.createRuntime[0] (/bin/sh): timed out after 2s: hm"
    );
    // `run` doesn't wait for the end of a pipe that a daemon holds open.
    assert_eq!(outcome(&[shell("sleep 60 & exit 0", Some(600))]), "fine");
    assert!(start.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_hook_ends_with_the_process_that_it_is_for() {
    use std::os::fd::AsFd;
    let mut other = std::process::Command::new("sleep")
        .arg("0.1")
        .spawn()
        .unwrap();
    let pidfd = crate::sys::clone::pidfd_open(i32::try_from(other.id()).unwrap()).unwrap();
    let context = HookContext {
        about: &about(),
        pid: 7,
        env: None,
        cwd: None,
        outputs: None,
        only_while: Some(pidfd.as_fd()),
        interruptible: false,
    };
    let error = run_hooks(HookKind::Prestart, &[shell("sleep 60", None)], context).unwrap_err();
    other.wait().unwrap();
    assert_eq!(
        told(&error),
        "hooks.prestart[0] (/bin/sh): stopped, since the container's process has ended"
    );
}

#[test]
fn all_hooks_run_where_a_failure_is_only_a_warning() {
    let context = HookContext {
        about: &about(),
        pid: 0,
        env: None,
        cwd: None,
        outputs: None,
        only_while: None,
        interruptible: false,
    };
    let hooks = [
        shell("exit 1", None),
        shell("exit 0", None),
        shell("exit 2", None),
    ];
    assert_eq!(run_all_hooks(HookKind::Poststop, &hooks, context).len(), 2);
}
