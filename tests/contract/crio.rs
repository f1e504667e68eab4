//! What CRI-O sends directly: with a few variables as the whole environment, and never with
//! `--systemd-cgroup` after create.

use serde_json::{Value, json};

use super::caller::{Caller, process_file};
use crate::harness::{Container, kernel};

/// CRI-O, which calls the runtime with nothing else in its environment.
fn crio(c: &Container) -> Caller<'_> {
    Caller::new(c, &[]).environment(&[
        ("CRI_O_EXTERNAL", "1"),
        ("XDG_RUNTIME_DIR", "/run/user/0"),
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ])
}

#[test]
fn a_container_lives_and_ends_by_the_commands_of_crio() {
    let mut c = container!();
    c.script("trap 'exit 3' USR1; while :; do sleep 0.01; done");
    c.create().ok();
    let crio = crio(&c);
    crio.call(&["start", &c.id]).ok();
    let state = crio.call(&["state", &c.id]).ok().json();
    assert_eq!(state["status"], json!("running"));
    let created = state["created"].as_str().unwrap();
    humantime::parse_rfc3339(created).unwrap();
    crio.call(&["pause", &c.id]).ok();
    crio.call(&["resume", &c.id]).ok();
    let limits = json!({"unified": {"cgroup.max.depth": "9"}}).to_string();
    crio.call_with_input(&["update", "--resources", "-", &c.id], limits.as_bytes())
        .ok();
    assert_eq!(kernel::cgroup_value(&c.cgroup(), "cgroup.max.depth"), "9");
    crio.call(&["kill", &c.id, "SIGUSR1"]).ok();
    assert_eq!(c.wait(), 3);
    crio.call(&["kill", "-a", &c.id, "9"]).ok();
    // CRI-O takes these words for a container that is gone.
    crio.call(&["kill", &c.id, "KILL"])
        .fails(1, "container not running");
    crio.call(&["delete", "--force", &c.id]).ok();
    crio.call(&["delete", "--force", &c.id]).ok();
    c.assert_nothing_left();
}

#[test]
fn an_exec_in_the_foreground_returns_the_code_of_its_process() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    c.create().ok();
    c.start().ok();
    let process = process_file(&c, "echo out; exit 42", false);
    for caller in [crio(&c), Caller::new(&c, &[]).environment(&[])] {
        let answer = caller.call(&["exec", "--process", &process, &c.id]);
        assert_eq!((answer.code, answer.stdout.as_str()), (42, "out\n"));
    }
}

#[test]
fn probes_have_the_answers_that_crio_looks_for() {
    let c = container!();
    let crio = Caller::exactly(&c, Vec::new());
    let (code, features) = crio.call_combined(&["features"]);
    let features: Value = serde_json::from_str(&features).unwrap();
    assert_eq!(code, 0);
    for version in ["ociVersionMin", "ociVersionMax"] {
        assert!(features[version].as_str().unwrap().starts_with("1."));
    }
    let options = features["mountOptions"].as_array().unwrap();
    assert!(options.contains(&json!("rro")));
    let linux = &features["linux"];
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], json!(true));
    let namespaces = linux["namespaces"].as_array().unwrap();
    assert!(namespaces.contains(&json!("user")));
    crio.call(&["checkpoint", "--help"]).ok();
    crio.call(&["--version"]).ok();
    let answer = crio.call(&["restore", "--lsm-mount-context"]);
    assert_ne!(answer.code, 0);
    assert!(
        answer.stderr.contains("flag needs an argument"),
        "{answer:?}"
    );
}
