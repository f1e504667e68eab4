//! What conmon and conmon-rs send on behalf of podman and CRI-O.

use serde_json::json;

use super::caller::{Caller, pid_in, process_file, reap};
use crate::harness::Container;
use crate::harness::terminal::{ConsoleSocket, Screen};

/// conmon: its whole environment, with what systemd and podman have left in it.
fn conmon(c: &Container) -> Caller<'_> {
    Caller::new(c, &["--log-format=json", "--log", "/dev/null"]).environment(&[
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("_OCI_SYNCPIPE", "3"),
        ("_OCI_STARTPIPE", "4"),
        ("_OCI_ATTACHPIPE", "5"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_PID", "1"),
        ("INVOCATION_ID", "0123456789abcdef0123456789abcdef"),
        ("JOURNAL_STREAM", "8:12345"),
    ])
}

/// A container whose process is on a terminal and answers one line.
fn on_a_terminal(c: &mut Container) {
    c.script("read line; echo got $line")
        .edit(|j| j["process"]["terminal"] = json!(true));
}

#[test]
fn a_container_and_its_exec_start_as_conmon_starts_them() {
    let mut c = container!();
    on_a_terminal(&mut c);
    let path = c.scratch().join("conmon-term.ABC123");
    let console = ConsoleSocket::listen(&path);
    let (bundle, socket) = (c.dir().to_str().unwrap(), path.to_str().unwrap());
    let pid_file = c.pid_file();
    let conmon = conmon(&c);
    conmon
        .call(&[
            "create",
            "--bundle",
            bundle,
            "--pid-file",
            pid_file.to_str().unwrap(),
            "--no-pivot",
            "--no-new-keyring",
            "--console-socket",
            socket,
            &c.id,
        ])
        .ok();
    let received = console.receive();
    assert_eq!(received.descriptors.len(), 1);
    assert!(!received.bytes.is_empty());
    c.start().ok();
    let process = process_file(&c, "exit 6", false);
    let exec_pid = c.scratch().join("exec.pid");
    let exec_pid = exec_pid.to_str().unwrap();
    let args = [
        "exec",
        "--pid-file",
        exec_pid,
        "--process",
        &process,
        "--detach",
        &c.id,
    ];
    conmon.call(&args).ok();
    assert_eq!(reap(pid_in(exec_pid.as_ref())), 6);
    let mut screen = Screen::of(received.descriptors.into_iter().next().unwrap());
    screen.type_in("you\n");
    screen.wait_for("got you");
    assert_eq!(c.wait(), 0);
}

#[test]
fn conmon_rs_repeats_its_flags_and_writes_the_command_of_an_exec_inline() {
    let c = container!();
    let root = format!("--root={}", c.root().display());
    let globals = [root.clone(), "--systemd-cgroup=false".into(), root];
    let rs = Caller::exactly(&c, globals.to_vec());
    let (bundle, pid_file) = (c.dir().to_str().unwrap(), c.pid_file());
    let args = [
        "create",
        "--bundle",
        bundle,
        "--pid-file",
        pid_file.to_str().unwrap(),
        &c.id,
    ];
    rs.call(&args).ok();
    c.start().ok();
    let path = c.scratch().join("rs.sock");
    let console = ConsoleSocket::listen(&path);
    let exec_pid = c.scratch().join("rs.pid");
    let socket = format!("--console-socket={}", path.display());
    let file = format!("--pid-file={}", exec_pid.display());
    // No `--` stands before the command, whose own flags aren't the runtime's.
    let args = [
        "exec", "-d", &socket, "--tty", &file, &c.id, "ls", "-d", "/bin",
    ];
    rs.call(&args).ok();
    let screen = Screen::of(console.receive().descriptors.remove(0));
    screen.wait_for("/bin");
    assert_eq!(reap(pid_in(&exec_pid)), 0);
}
