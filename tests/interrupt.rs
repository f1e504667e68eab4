//! Signals during container setup: the command leaves nothing, and its exit code names the signal.
//! Signals for the container's own process are not here.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Container, eventually, wait_for};

/// Adds a hook that reports its start and then runs longer than any test.
fn slow_hook(c: &mut Container, kind: &str) {
    let script = format!("echo >{}; exec sleep 1000", begun(c).display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    c.edit(|j| j["hooks"] = json!({kind: [hook]}));
}

fn begun(c: &Container) -> std::path::PathBuf {
    c.scratch().join("begun")
}

fn spawn(c: &Container, mut command: Command) -> Child {
    let _ = fs::remove_file(begun(c));
    let child = command.spawn().unwrap();
    eventually("the hook runs", || begun(c).exists());
    child
}

fn create(c: &Container, verb: &str) -> Command {
    let mut command = c.command(&[verb, "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    command.stderr(fs::File::create(c.scratch().join("stderr")).unwrap());
    command
}

fn send(child: &Child, signal: Signal) {
    signal::kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

#[test]
fn a_signal_to_create_or_run_ends_it_with_all_that_it_has_made() {
    let mut c = container!();
    for (verb, kind, signal) in [
        ("create", "prestart", Signal::SIGTERM),
        ("create", "createRuntime", Signal::SIGINT),
        ("create", "createContainer", Signal::SIGHUP),
        ("run", "createContainer", Signal::SIGTERM),
        ("run", "poststart", Signal::SIGTERM),
    ] {
        slow_hook(&mut c, kind);
        let mut child = spawn(&c, create(&c, verb));
        send(&child, signal);
        let status = wait_for(&mut child);
        assert_eq!(status.code(), Some(128 + signal as i32), "{verb} {kind}");
        let said = fs::read_to_string(c.scratch().join("stderr")).unwrap();
        let name = format!("interrupted by signal {} ({signal})", signal as i32);
        assert!(said.contains(&name) && said.lines().count() == 1, "{said}");
        c.assert_nothing_left();
    }
}

#[test]
fn a_signal_that_the_caller_ignores_ends_nothing() {
    let mut c = container!();
    slow_hook(&mut c, "createRuntime");
    let create = create(&c, "create");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    command.arg(create.get_program()).args(create.get_args());
    for (name, value) in create.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = spawn(&c, command);
    send(&child, Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(400));
    assert!(child.try_wait().unwrap().is_none());
    send(&child, Signal::SIGTERM);
    assert_eq!(wait_for(&mut child).code(), Some(143));
    c.assert_nothing_left();
}
