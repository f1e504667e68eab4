//! Words of errors that callers search for, in the letters that they search.

use serde_json::json;

use super::caller::Caller;
use crate::harness::kernel;

#[test]
fn commands_on_an_unknown_id_say_that_it_does_not_exist() {
    let c = container!();
    for args in [
        vec!["state", "nobody"],
        vec!["start", "nobody"],
        vec!["kill", "nobody", "KILL"],
        vec!["delete", "nobody"],
        vec!["ps", "nobody"],
        vec!["pause", "nobody"],
        vec!["resume", "nobody"],
    ] {
        c.runtime(&args).exits(1).says("does not exist").one_line();
    }
    c.runtime(&["exec", "nobody", "true"])
        .exits(255)
        .says("does not exist");
}

#[test]
fn an_existing_id_is_refused_and_the_first_container_lives_on() {
    let mut c = container!();
    c.create().ok();
    let pid = c.pid();
    let other = format!("{}/other", c.parent_cgroup_path());
    c.edit(|j| j["linux"]["cgroupsPath"] = json!(other));
    c.make("create", &[])
        .exits(1)
        .says("container with given ID already exists");
    assert!(kernel::alive(pid));
    assert_eq!(c.status(), "created");
    assert_eq!(c.state()["pid"], json!(pid));
}

#[test]
fn start_twice_is_refused() {
    let mut c = container!();
    c.create().ok();
    c.start().ok();
    c.start()
        .exits(1)
        .says("cannot start an already running container");
}

#[test]
fn a_container_that_is_not_running_is_told_by_the_words_of_runc() {
    let mut c = container!();
    c.script("exit 0");
    c.create().ok();
    c.start().ok();
    c.wait();
    let caller = Caller::new(&c, &[]);
    let id = c.id.as_str();
    for (args, code, text) in [
        (&["kill", id, "TERM"][..], 1, "container not running"),
        (&["pause", id], 1, "container not running"),
        (&["resume", id], 1, "container not paused"),
        (
            &["start", id],
            1,
            "cannot start a container that has stopped",
        ),
        (
            &["exec", id, "true"],
            255,
            "cannot exec in a stopped container",
        ),
        (&["events", "--stats", id], 1, "is not running"),
    ] {
        caller.call(args).fails(code, text);
    }
}

#[test]
fn a_container_that_runs_is_not_deleted_and_a_paused_one_takes_no_exec() {
    let mut c = container!();
    c.run_detached().ok();
    let caller = Caller::new(&c, &[]);
    let id = c.id.as_str();
    let text = format!("cannot delete container {id} that is not stopped: running");
    caller.call(&["delete", id]).fails(1, &text);
    caller.call(&["pause", id]).ok();
    let text = "cannot exec in a paused container (use --ignore-paused to override)";
    caller.call(&["exec", id, "true"]).fails(255, text);
    caller
        .call(&["start", id])
        .fails(1, "cannot start a container in the paused state");
    caller.call(&["resume", id]).ok();
    caller
        .call(&["resume", id])
        .fails(1, "container not paused");
}

/// docker and podman take their exit codes 126 and 127 from these words.
#[test]
fn a_program_that_cannot_run_is_told_by_the_words_of_go() {
    for (program, text) in [
        (
            "unheard-of",
            "exec: \"unheard-of\": executable file not found in $PATH",
        ),
        (
            "/unheard-of",
            "exec: \"/unheard-of\": stat /unheard-of: no such file or directory",
        ),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory"),
    ] {
        let mut c = container!();
        c.args(&[program]);
        let bundle = c.dir().to_str().unwrap();
        let caller = Caller::new(&c, &[]);
        caller
            .call(&["create", "--bundle", bundle, &c.id])
            .fails(1, text);
        c.assert_nothing_left();
        c.args(&["/bin/sleep", "1000"]);
        c.create().ok();
        let answer = Caller::new(&c, &[]).call(&["exec", &c.id, program]);
        answer.fails(
            255,
            &format!("exec failed: unable to start container process: {text}"),
        );
    }
}

#[test]
fn flags_that_do_not_fit_are_told_by_the_words_of_runc() {
    let mut c = container!();
    let bundle = c.dir().to_str().unwrap().to_owned();
    let socket = c.scratch().join("nobody.sock");
    let socket = socket.to_str().unwrap();
    let caller = Caller::new(&c, &[]);
    for id in ["", ".", "..", "a/b", "a b"] {
        caller
            .call(&["create", "--bundle", &bundle, id])
            .fails(1, "container ID");
    }
    let id = c.id.as_str();
    for (args, text) in [
        (
            &[
                "create",
                "--bundle",
                &bundle,
                "--console-socket",
                socket,
                id,
            ][..],
            "cannot use console socket if",
        ),
        (
            &["create", "--bundle", &bundle, "--preserve-fds", "1000", id],
            "preserved",
        ),
        (
            &["--systemd-cgroup", "create", "--bundle", &bundle, id],
            "slice:prefix:name",
        ),
        (&["create", "--bundle"], "flag needs an argument"),
        (&["events", "--interval=0s", id], "interval"),
    ] {
        caller.call(args).fails(1, text);
    }
    c.edit(|j| j["process"]["terminal"] = json!(true));
    let text = "cannot allocate tty if";
    Caller::new(&c, &[])
        .call(&["create", "--bundle", &bundle, &c.id])
        .fails(1, text);
    c.assert_nothing_left();
}
