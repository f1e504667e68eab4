//! Passed descriptors: sockets, as from systemd, into a container, and a process's pidfd out of it.
//! --preserve-fds by itself is in `process`, the console socket in `terminal`.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use crate::harness::terminal::{ConsoleSocket, Received};
use crate::harness::{Container, adopt, kernel};

/// The pid of the process that the one received descriptor refers to.
pub(crate) fn pid_of(received: &Received) -> i32 {
    assert!(!received.bytes.is_empty());
    assert_eq!(received.descriptors.len(), 1);
    let fd = received.descriptors[0].as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    kernel::status_field(&text, "Pid").parse().unwrap()
}

#[test]
fn the_pidfd_socket_receives_a_pidfd_of_init_and_of_an_exec_process() {
    let c = container!();
    let path = c.scratch().join("pidfd");
    let socket = ConsoleSocket::listen(&path);
    let flags = ["--pidfd-socket", path.to_str().unwrap()];
    c.make("create", &flags).ok();
    assert_eq!(pid_of(&socket.receive()), c.pid());
    c.start().ok();
    let file = c.scratch().join("exec-pid");
    let detached = ["--detach", "--pid-file", file.to_str().unwrap()];
    c.exec_with(
        &[flags.as_slice(), &detached].concat(),
        &["/bin/sleep", "1000"],
    )
    .ok();
    let pid: i32 = fs::read_to_string(file).unwrap().parse().unwrap();
    adopt(pid);
    assert_eq!(pid_of(&socket.receive()), pid);
    c.delete(&["--force"]).ok();
    c.make("run", &[flags.as_slice(), &["--detach"]].concat())
        .ok();
    assert_eq!(pid_of(&socket.receive()), c.pid());
    c.delete(&["--force"]).ok();
    fs::remove_file(&path).unwrap();
    c.make("create", &flags)
        .exits(1)
        .says("--pidfd-socket")
        .one_line();
    c.assert_nothing_left();
}

/// A command, run by a shell that opens descriptors 3 and 4 and sets LISTEN_FDS and LISTEN_PID as
/// systemd does, for this process or for another.
fn activated(c: &Container, own: bool, count: &str, inner: &Command) -> Command {
    let pid = if own { "$$" } else { "1" };
    let script = format!(
        "f=$1; shift; exec 3<\"$f\" 4<\"$f\"; export LISTEN_FDS={count} LISTEN_PID={pid} LISTEN_FDNAMES=a; exec \"$@\""
    );
    let file = c.scratch().join("file");
    fs::write(&file, "passed\n").unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, "sh"]).arg(file);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdin(Stdio::null());
    command
}

#[test]
fn sockets_of_systemd_are_passed_on_if_they_are_for_this_process() {
    let mut c = container!();
    c.script("echo $LISTEN_FDS-$LISTEN_PID; cat <&3 2>/dev/null; ls /proc/self/fd | wc -l");
    let run = |flags: &[&str]| {
        let mut command = c.command(&[&["run"], flags, &["--bundle"]].concat());
        command.arg(c.dir()).arg(&c.id);
        command
    };
    let output = |own, count, flags: &[&str]| {
        let command = activated(&c, own, count, &run(flags));
        c.finish(command).ok().stdout()
    };
    // The fourth or fifth entry is the directory that `ls` reads.
    assert_eq!(output(true, "1", &[]), "1-1\npassed\n5\n");
    assert_eq!(
        output(true, "1", &["--preserve-fds", "1"]),
        "1-1\npassed\n6\n"
    );
    assert_eq!(output(false, "1", &[]), "-\n4\n");
    c.args(&["/bin/sleep", "1000"]);
    c.make("run", &["--detach"]).ok();
    let script = "echo $LISTEN_FDS; cat <&3";
    let exec = c.command(&["exec", &c.id, "/bin/sh", "-c", script]);
    let said = c.finish(activated(&c, true, "1", &exec));
    assert_eq!(said.ok().stdout(), "1\npassed\n");
}

#[test]
fn more_sockets_than_are_open_are_refused() {
    let c = container!();
    let mut run = c.command(&["run", "--bundle"]);
    run.arg(c.dir()).arg(&c.id);
    for count in ["3", "99999999"] {
        let said = c.finish(activated(&c, true, count, &run));
        said.exits(1).says("LISTEN_FDS").one_line();
    }
    c.assert_nothing_left();
}
