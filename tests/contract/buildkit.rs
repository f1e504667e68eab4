//! What buildkit and docker send: a run and an exec in the foreground, a wrapper in a shell script,
//! and the version of the runtime.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::caller::{Caller, answer, pid_in, process_file};
use crate::harness::{eventually, wait_for};

#[test]
fn a_step_runs_in_the_foreground_and_a_second_process_beside_it() {
    let mut c = container!();
    c.script("trap 'exit 11' TERM; : >/ready; while :; do sleep 0.01; done");
    let bundle = c.dir().to_str().unwrap();
    let buildkit = Caller::new(&c, &[]);
    let mut run = buildkit
        .command(&["run", "--bundle", bundle, "--keep", &c.id])
        .spawn()
        .unwrap();
    c.wait_file("/ready");
    let state = buildkit.call(&["state", &c.id]).ok().json();
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], bundle);
    assert_eq!(state["rootfs"], format!("{bundle}/rootfs"));
    let process = process_file(&c, "exit 12", false);
    let pid_file = c.scratch().join("exec.pid");
    let args = [
        "exec",
        "--process",
        &process,
        "--pid-file",
        pid_file.to_str().unwrap(),
        &c.id,
    ];
    assert_eq!(buildkit.call(&args).code, 12);
    assert!(pid_in(&pid_file) > 0);
    // buildkit passes signals to the runtime, which passes them on.
    let runtime = Pid::from_raw(i32::try_from(run.id()).unwrap());
    kill(runtime, Signal::SIGTERM).unwrap();
    assert_eq!(wait_for(&mut run).code(), Some(11));
    buildkit.call(&["delete", &c.id]).ok();
    c.assert_nothing_left();
}

#[test]
fn a_run_that_is_killed_by_9_is_gone_for_delete() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    let bundle = c.dir().to_str().unwrap();
    let buildkit = Caller::new(&c, &[]);
    let mut run = buildkit
        .command(&["run", "--bundle", bundle, "--keep", &c.id])
        .spawn()
        .unwrap();
    eventually("the container runs", || {
        let answer = buildkit.call(&["state", &c.id]);
        answer.code == 0 && answer.json()["status"] == "running"
    });
    buildkit.call(&["kill", &c.id, "9"]).ok();
    assert_eq!(wait_for(&mut run).code(), Some(128 + 9));
    buildkit.call(&["delete", &c.id]).ok();
}

#[test]
fn docker_calls_the_runtime_through_a_shell_script() {
    let mut c = container!();
    c.script("echo from the container");
    let wrapper = c.scratch().join("runtime");
    let runtime = c.program();
    let script = format!("#!/bin/sh\n{} --debug=false $@\n", runtime.display());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let root = c.root();
    // A script that another thread still holds open for writing can't be executed.
    let mut command = Command::new("/bin/sh");
    command.arg(&wrapper).arg("--root").arg(&root);
    command.args(["run", "--bundle"]).arg(c.dir()).arg(&c.id);
    assert_eq!(answer(command).ok().stdout, "from the container\n");
}

#[test]
fn docker_finds_the_version_and_the_commit() {
    let c = container!();
    let text = Caller::exactly(&c, Vec::new())
        .call(&["--version"])
        .ok()
        .stdout;
    // docker takes any line with the word; the last one wins.
    let line = |word: &str| text.lines().filter(|l| l.contains(word)).count();
    assert!(line("version") == 1 && line("commit:") <= 1, "{text}");
    let (name, version) = text
        .lines()
        .next()
        .unwrap()
        .split_once(" version ")
        .unwrap();
    assert!(!name.contains(' '), "{text}");
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{text}");
    assert!(text.lines().any(|l| l.starts_with("spec: 1.")), "{text}");
}
