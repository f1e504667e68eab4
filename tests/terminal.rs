//! Terminals: the console socket, and a container in the foreground on the caller's terminal.
//! Attacks through /dev are in `attacks`.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use serde_json::json;

use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Container, adopt, kernel, words};

fn on_a_terminal(c: &mut Container, script: &str) {
    c.script(script);
    c.edit(|j| j["process"]["terminal"] = json!(true));
}

fn console_path(c: &Container) -> String {
    c.scratch().join("console").to_str().unwrap().to_owned()
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[test]
fn the_console_socket_receives_one_descriptor_with_data_when_create_returns() {
    let mut c = container!();
    on_a_terminal(
        &mut c,
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; read line; echo got $line",
    );
    let path = console_path(&c);
    let socket = ConsoleSocket::listen(path.as_ref());
    c.make("create", &["--console-socket", &path]).ok();
    let mut received = socket.receive();
    assert_eq!(received.descriptors.len(), 1);
    assert!(!received.bytes.is_empty() && received.bytes.len() < 4096);
    let master = received.descriptors.remove(0);
    assert!(nix::unistd::isatty(master.as_fd()).unwrap());
    let mut screen = Screen::of(master);
    c.start().ok();
    screen.wait_for("all");
    assert!(
        screen.text().contains("/dev/console") || screen.text().contains("/dev/pts/0"),
        "{}",
        screen.text()
    );
    screen.type_in("hello\n");
    screen.wait_for("got hello");
    assert_eq!(c.wait(), 0);
}

#[test]
fn the_pty_is_the_controlling_terminal_of_init() {
    let mut c = container!();
    on_a_terminal(&mut c, "sleep 1000");
    let path = console_path(&c);
    let socket = ConsoleSocket::listen(path.as_ref());
    c.make("run", &["--detach", "--console-socket", &path]).ok();
    let received = socket.receive();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", c.pid())).unwrap();
    let after = stat.rsplit_once(") ").unwrap().1.to_owned();
    // The field is tty_nr (proc_pid_stat(5)). Major 136 is a pty.
    let number: u32 = words(&after)[4].parse().unwrap();
    assert_eq!(number >> 8 & 0xfff, 136);
    for (number, target) in kernel::descriptors(c.pid()) {
        assert!(target.starts_with("/dev/"), "{number} -> {target}");
    }
    drop(received);
}

#[test]
fn the_terminal_belongs_to_the_user_of_the_process() {
    let mut c = container!();
    on_a_terminal(&mut c, "stat -c %u /dev/console; echo done; sleep 1000");
    c.edit(|j| j["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    let path = console_path(&c);
    let socket = ConsoleSocket::listen(path.as_ref());
    c.make("run", &["--detach", "--console-socket", &path]).ok();
    let screen = Screen::of(socket.receive().descriptors.remove(0));
    screen.wait_for("done");
    assert!(screen.text().starts_with("1000"), "{}", screen.text());
}

#[test]
fn a_newline_of_a_foreground_container_is_translated_once_at_most() {
    let mut c = container!();
    on_a_terminal(&mut c, "echo one; echo two");
    let pty = openpty(Some(&size(24, 80)), None).unwrap();
    let slave = File::from(pty.slave);
    let mut command = c.command(&["run", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    command.stdin(slave.try_clone().unwrap());
    command.stdout(slave.try_clone().unwrap());
    command.stderr(slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let screen = Screen::of(pty.master);
    assert_eq!(crate::harness::wait_for(&mut child).code(), Some(0));
    screen.wait_for("two");
    // The caller's terminal may add a carriage return; the container's must not add another.
    assert!(!screen.text().contains("\r\r"), "{:?}", screen.text());
}

#[test]
fn the_console_size_of_the_config_is_set() {
    let mut c = container!();
    on_a_terminal(&mut c, "stty size; echo done; sleep 1000");
    c.edit(|j| j["process"]["consoleSize"] = json!({"height": 33, "width": 77}));
    let path = console_path(&c);
    let socket = ConsoleSocket::listen(path.as_ref());
    c.make("run", &["--detach", "--console-socket", &path]).ok();
    let screen = Screen::of(socket.receive().descriptors.remove(0));
    screen.wait_for("done");
    assert!(screen.text().contains("33 77"), "{}", screen.text());
}

#[test]
fn a_console_size_of_nothing_is_none() {
    let mut c = container!();
    on_a_terminal(&mut c, "stty size; echo done; sleep 1000");
    c.edit(|j| j["process"]["consoleSize"] = json!({"height": 33, "width": 0}));
    let path = console_path(&c);
    let socket = ConsoleSocket::listen(path.as_ref());
    c.make("run", &["--detach", "--console-socket", &path]).ok();
    let screen = Screen::of(socket.receive().descriptors.remove(0));
    screen.wait_for("done");
    assert!(!screen.text().contains("33"), "{}", screen.text());
}

#[test]
fn a_detached_terminal_without_a_socket_is_refused() {
    let mut c = container!();
    on_a_terminal(&mut c, "true");
    c.create()
        .exits(1)
        .says("will detach without setting console socket");
    c.assert_nothing_left();
}

#[test]
fn a_socket_without_a_terminal_is_refused() {
    let c = container!();
    let path = console_path(&c);
    let _socket = ConsoleSocket::listen(path.as_ref());
    c.make("create", &["--console-socket", &path])
        .exits(1)
        .says("will not detach or allocate tty");
    c.assert_nothing_left();
}

#[test]
fn a_console_socket_that_nobody_listens_on_fails_create_and_leaves_nothing() {
    let mut c = container!();
    on_a_terminal(&mut c, "true");
    let path = console_path(&c);
    c.make("create", &["--console-socket", &path]).exits(1);
    c.assert_nothing_left();
    drop(ConsoleSocket::listen(path.as_ref()));
    c.make("create", &["--console-socket", &path]).exits(1);
    c.assert_nothing_left();
}

#[test]
fn run_in_the_foreground_uses_the_callers_terminal() {
    let mut c = container!();
    on_a_terminal(
        &mut c,
        "trap 'stty size; exit 5' WINCH; stty size; echo ready; while :; do sleep 0.02; done",
    );
    let pty = openpty(Some(&size(24, 80)), None).unwrap();
    let slave = File::from(pty.slave);
    let mut command = c.command(&["run", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    command.stdin(slave.try_clone().unwrap());
    command.stdout(slave.try_clone().unwrap());
    command.stderr(slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    let screen = Screen::of(pty.master);
    screen.wait_for("ready");
    assert!(screen.text().contains("24 80"), "{}", screen.text());
    let resized = std::process::Command::new("stty")
        .args(["rows", "30", "cols", "100"])
        .stdin(slave.try_clone().unwrap())
        .status()
        .unwrap();
    assert!(resized.success());
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGWINCH).unwrap();
    screen.wait_for("30 100");
    assert_eq!(crate::harness::wait_for(&mut child).code(), Some(5));
}

#[test]
fn keys_typed_at_a_foreground_container_reach_it_and_the_mode_is_restored() {
    let mut c = container!();
    on_a_terminal(&mut c, "echo ready; read line; echo got $line; exit 6");
    let pty = openpty(Some(&size(24, 80)), None).unwrap();
    let slave = File::from(pty.slave);
    let before = nix::sys::termios::tcgetattr(&slave).unwrap();
    let mut command = c.command(&["run", "--bundle"]);
    command.arg(c.dir()).arg(&c.id);
    command.stdin(slave.try_clone().unwrap());
    command.stdout(slave.try_clone().unwrap());
    command.stderr(slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut screen = Screen::of(pty.master);
    screen.wait_for("ready");
    screen.type_in("hello\r");
    screen.wait_for("got hello");
    assert_eq!(crate::harness::wait_for(&mut child).code(), Some(6));
    let after = nix::sys::termios::tcgetattr(&slave).unwrap();
    assert_eq!(after.local_flags, before.local_flags);
    assert_eq!(after.input_flags, before.input_flags);
}

#[test]
fn the_bundle_that_spec_writes_is_a_shell_on_the_callers_terminal() {
    let c = container!();
    let config = c.dir().join("config.json");
    std::fs::remove_file(&config).unwrap();
    c.finish(c.bare_command(&["spec", "--bundle", c.dir().to_str().unwrap()]))
        .ok();
    // The test doesn't change the config. The config has no cgroup path, so the container's cgroup
    // is beside the test's cgroup.
    let pty = openpty(Some(&size(24, 80)), None).unwrap();
    let slave = File::from(pty.slave);
    let mut command = c.command(&["run", "--bundle"]);
    command.arg(c.dir()).arg(unique(&c));
    command.stdin(slave.try_clone().unwrap());
    command.stdout(slave.try_clone().unwrap());
    command.stderr(slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut screen = Screen::of(pty.master);
    screen.wait_for("/ # ");
    screen.type_in("echo $((40 + 2)) lines\n");
    screen.wait_for("42 lines");
    screen.type_in("exit 7\n");
    assert_eq!(crate::harness::wait_for(&mut child).code(), Some(7));
    c.assert_nothing_left();
}

/// Returns an id that no other test run uses. If linux.cgroupsPath is missing, the id names the
/// cgroup.
fn unique(c: &Container) -> String {
    format!("{}-{}", c.id, std::process::id())
}

#[test]
fn a_terminal_is_refused_where_stdin_is_none() {
    let mut c = container!();
    on_a_terminal(&mut c, "true");
    let mut command = c.command(&["run", "--bundle"]);
    command.arg(c.dir()).arg(&c.id).stdin(Stdio::null());
    c.finish(command).exits(1);
    c.assert_nothing_left();
}

#[test]
fn exec_gets_a_terminal_by_console_socket() {
    exec_on_a_terminal(container!());
}

#[test]
fn exec_in_a_user_namespace_gets_a_terminal_of_its_user() {
    let mut c = container!();
    c.user_namespace();
    exec_on_a_terminal(c);
}

fn exec_on_a_terminal(mut c: Container) {
    c.run_detached().ok();
    let path = console_path(&c);
    let socket = ConsoleSocket::listen(path.as_ref());
    let file = c.scratch().join("exec.pid");
    let flags = [
        "--tty",
        "--detach",
        "--console-socket",
        &path,
        "--pid-file",
        file.to_str().unwrap(),
    ];
    c.exec_with(&flags, &["/bin/sh", "-c", "test -t 0 && tty && echo yes"])
        .ok();
    adopt(std::fs::read_to_string(&file).unwrap().parse().unwrap());
    let screen = Screen::of(socket.receive().descriptors.remove(0));
    screen.wait_for("yes");
    assert!(screen.text().contains("/dev/pts/"), "{}", screen.text());
}
