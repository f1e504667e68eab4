//! What containerd's shim for runc sends, through go-runc.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::caller::{Caller, errors_in, pid_in, process_file, reap};
use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, eventually, kernel};

/// The log that the shim gives the runtime, in the bundle.
fn log(c: &Container) -> PathBuf {
    c.dir().join("log.json")
}

/// The shim: a log in JSON for every command.
fn shim(c: &Container) -> Caller<'_> {
    let log = log(c).to_str().unwrap().to_owned();
    Caller::new(c, &["--log", &log, "--log-format", "json"])
}

/// `create` as the shim sends it, with the id last.
fn create<'a>(c: &'a Container, flags: &[&'a str]) -> super::caller::Answer {
    let (bundle, pid_file) = (c.dir().to_str().unwrap(), c.pid_file());
    let mut args = vec!["create", "--bundle", bundle];
    args.extend(["--pid-file", pid_file.to_str().unwrap()]);
    args.extend(flags);
    args.push(&c.id);
    shim(c).call(&args)
}

#[test]
fn a_task_lives_and_ends_by_the_commands_of_the_shim() {
    let mut c = container!();
    c.script("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    create(
        &c,
        &["--no-pivot", "--no-new-keyring", "--preserve-fds", "0"],
    )
    .ok();
    // The shim reads these at once, before start.
    let pid = pid_in(&c.pid_file());
    assert_eq!(kernel::cgroup_of(pid), c.cgroup_path());
    let own = std::process::id().to_string();
    assert_eq!(kernel::status(pid, "PPid"), own);
    let shim = shim(&c);
    shim.call(&["start", &c.id]).ok();
    let (code, state) = shim.call_combined(&["state", &c.id]);
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (code, &state["status"], &state["pid"]),
        (0, &json!("running"), &json!(pid))
    );
    let (code, pids) = shim.call_combined(&["ps", "--format", "json", &c.id]);
    let pids: Vec<i32> = serde_json::from_str(&pids).unwrap();
    assert!(code == 0 && pids.contains(&pid), "{pids:?}");
    let list = shim.call(&["list", "--format=json"]).ok().json();
    assert_eq!(list[0]["id"], json!(c.id));
    shim.call(&["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    shim.call(&["resume", &c.id]).ok();
    let limits = json!({"unified": {"cgroup.max.depth": "7"}}).to_string();
    shim.call_with_input(&["update", "--resources=-", &c.id], limits.as_bytes())
        .ok();
    assert_eq!(kernel::cgroup_value(&c.cgroup(), "cgroup.max.depth"), "7");
    let stats = shim.call(&["events", "--stats", &c.id]).ok().json();
    assert_eq!(
        (&stats["type"], &stats["id"]),
        (&json!("stats"), &json!(c.id))
    );
    shim.call(&["kill", &c.id, "15"]).ok();
    assert_eq!(reap(pid), 7);
    // Ends all processes where the pid namespace isn't private; success when none is left.
    shim.call(&["kill", "--all", &c.id, "9"]).ok();
    shim.call(&["delete", &c.id]).ok();
    // The shim's clean-up deletes once more.
    shim.call(&["delete", "--force", &c.id]).ok();
    assert_eq!(errors_in(&log(&c)), Vec::<String>::new());
    c.assert_nothing_left();
}

#[test]
fn an_exec_is_detached_and_leaves_its_pid_in_a_file() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    create(&c, &[]).ok();
    shim(&c).call(&["start", &c.id]).ok();
    let process = process_file(&c, "exit 5", false);
    let pid_file = c.dir().join("exec-1.pid");
    let args = [
        "exec",
        "--process",
        &process,
        "--detach",
        "--pid-file",
        pid_file.to_str().unwrap(),
        &c.id,
    ];
    shim(&c).call(&args).ok();
    assert_eq!(reap(pid_in(&pid_file)), 5);
    // Without a pid file the shim knows that exec failed.
    fs::remove_file(&pid_file).unwrap();
    let mut missing = c.config()["process"].clone();
    missing["args"] = json!(["/bin/unheard-of"]);
    fs::write(&process, missing.to_string()).unwrap();
    let text = "exec: \"/bin/unheard-of\": stat /bin/unheard-of: no such file or directory";
    shim(&c).call(&args).fails(255, text);
    assert!(!pid_file.exists());
    let errors = errors_in(&log(&c));
    assert!(errors.last().unwrap().contains(text), "{errors:?}");
}

#[test]
fn a_terminal_is_received_after_create_has_returned() {
    let mut c = container!();
    c.script("read line; echo got $line")
        .edit(|j| j["process"]["terminal"] = json!(true));
    let path = c.scratch().join("console.sock");
    let console = ConsoleSocket::listen(&path);
    create(&c, &["--console-socket", path.to_str().unwrap()]).ok();
    // Nobody has read yet: the message waits in the socket.
    let mut received = console.receive();
    assert!((1..4096).contains(&received.bytes.len()));
    assert_eq!(received.descriptors.len(), 1);
    let mut screen = Screen::of(received.descriptors.remove(0));
    shim(&c).call(&["start", &c.id]).ok();
    screen.type_in("hello\n");
    screen.wait_for("got hello");
    assert_eq!(c.wait(), 0);
}

#[test]
fn an_exec_has_a_terminal_too() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    create(&c, &[]).ok();
    shim(&c).call(&["start", &c.id]).ok();
    let process = process_file(&c, "tty >/dev/null && echo on a terminal", true);
    let path = c.scratch().join("exec.sock");
    let console = ConsoleSocket::listen(&path);
    let pid_file = c.dir().join("exec-2.pid");
    shim(&c)
        .call(&[
            "exec",
            "--process",
            &process,
            "--console-socket",
            path.to_str().unwrap(),
            "--detach",
            "--pid-file",
            pid_file.to_str().unwrap(),
            &c.id,
        ])
        .ok();
    let screen = Screen::of(console.receive().descriptors.remove(0));
    screen.wait_for("on a terminal");
    assert_eq!(reap(pid_in(&pid_file)), 0);
}

#[test]
fn the_last_error_of_the_log_is_the_reason_of_a_failed_create() {
    let mut c = container!();
    c.edit(|j| j["root"]["path"] = json!("absent"));
    let answer = create(&c, &[]).fails(1, "absent");
    let errors = errors_in(&log(&c));
    let last = errors.last().unwrap();
    // What the shim shows is what the runtime has said.
    assert!(answer.stderr.contains(last), "{last}: {answer:?}");
    c.assert_nothing_left();
}

#[test]
fn events_take_an_interval_as_go_writes_it() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    create(&c, &[]).ok();
    shim(&c).call(&["start", &c.id]).ok();
    let file = c.scratch().join("events");
    let mut command = shim(&c).command(&["events", "--interval=10ms", &c.id]);
    command.stdout(fs::File::create(&file).unwrap());
    let mut events = command.spawn().unwrap();
    eventually("three records of statistics", || {
        let text = fs::read_to_string(&file).unwrap();
        text.matches("\"type\":\"stats\"").count() >= 3
    });
    c.kill("KILL").ok();
    c.wait();
    assert!(crate::harness::wait_for(&mut events).success());
}

#[test]
fn a_restore_takes_the_flags_as_go_runc_writes_them() {
    let c = container!();
    let image = c.scratch().join("absent");
    let bundle = c.dir().to_str().unwrap();
    let pid_file = c.pid_file();
    let answer = shim(&c).call(&[
        "restore",
        "--image-path",
        image.to_str().unwrap(),
        "--work-path",
        bundle,
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        "--manage-cgroups-mode",
        "soft",
        "--detach",
        "--pid-file",
        pid_file.to_str().unwrap(),
        "--no-pivot",
        "-no-subreaper",
        "--bundle",
        bundle,
        &c.id,
    ]);
    // No flag is at fault, but the image that isn't there, or CRIU.
    let is_known = |text: &&str| answer.stderr.contains(text);
    let known = [image.to_str().unwrap(), "criu is not installed"];
    assert!(answer.code == 1 && known.iter().any(is_known), "{answer:?}");
    c.assert_nothing_left();
}
