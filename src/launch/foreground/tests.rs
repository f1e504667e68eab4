//! Tests that supervise a process on its own pty, from another pty or from pipes.
//! A test that sends signals to the runtime, or adopts orphans, runs in a separate process
//! (`alone`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::zombie_processes)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use nix::sys::signal::SigSet;
use nix::sys::termios::tcgetattr;

use super::*;
use crate::sys::clone::pidfd_open;
use crate::sys::process::set_child_subreaper;
use crate::sys::signal::{block_all, default_sigchld};
use crate::sys::tty::{Pty, pty_of_the_host};

const OPTIONS: Settings<'_> = Settings {
    notify: None,
    subreaper: false,
    patience: Duration::from_millis(200),
};

fn started(command: &mut Command) -> Child {
    let pid = i32::try_from(command.spawn().unwrap().id()).unwrap();
    let pidfd = pidfd_open(pid).unwrap();
    Child { pid, pidfd }
}

/// Supervises a child with signals blocked. They are blocked only after the child has started,
/// because the standard library lets a child inherit the mask.
fn attended_child(child: &Child, console: Option<Console<'_>>, settings: Settings<'_>) -> Exit {
    let before = SigSet::thread_get_mask().unwrap();
    block_all().unwrap();
    let signals = Signals::new().unwrap();
    let exit = supervise(child, console, &signals, settings).unwrap();
    // Restore the mask instead of unblocking all signals. In a test that keeps all signals blocked,
    // the signal of the next child may come before the next call of `supervise`.
    before.thread_set_mask().unwrap();
    exit
}

/// Supervises a shell that inherits our streams, as a container without a terminal does.
fn attended(script: &str, settings: Settings<'_>) -> Exit {
    let child = started(Command::new("sh").args(["-c", script]));
    attended_child(&child, None, settings)
}

/// Supervises a shell whose controlling terminal is `inner`.
fn attended_on(
    inner: Pty,
    script: &str,
    outer: &OwnedFd,
    output: BorrowedFd<'_>,
    size: Option<Size>,
) -> Exit {
    let console = Console {
        master: inner.master,
        terminal: outer.as_fd(),
        input: outer.as_fd(),
        output,
    };
    prepare(console.master.as_fd(), outer.as_fd(), size).unwrap();
    let slave = || Stdio::from(inner.slave.try_clone().unwrap());
    let child = started(
        Command::new("setsid")
            .args(["--ctty", "sh", "-c", script])
            .stdin(slave())
            .stdout(slave())
            .stderr(slave()),
    );
    drop(inner.slave);
    attended_child(&child, Some(console), OPTIONS)
}

/// Starts a thread that returns everything that appears on a terminal until its last slave is
/// closed.
fn screen(master: &OwnedFd) -> JoinHandle<Vec<u8>> {
    let mut master = File::from(master.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        let end = master.read_to_end(&mut seen).unwrap_err();
        assert_eq!(end.raw_os_error(), Some(Errno::EIO as i32));
        seen
    })
}

/// Runs a script on its own pty, with another pty as our terminal. `keys` are typed on our
/// terminal.
fn session(script: &str, keys: &str, size: Option<Size>) -> (Exit, Vec<u8>) {
    let outer = pty_of_the_host();
    tty::set_size(
        outer.slave.as_fd(),
        Size {
            rows: 24,
            columns: 80,
        },
    )
    .unwrap();
    let before = tcgetattr(&outer.slave).unwrap();
    let seen = screen(&outer.master);
    File::from(outer.master.try_clone().unwrap())
        .write_all(keys.as_bytes())
        .unwrap();
    let inner = pty_of_the_host();
    let script = script
        .replace("OUTER", &tty::name(&outer.slave))
        .replace("INNER", &tty::name(&inner.slave));
    let exit = attended_on(inner, &script, &outer.slave, outer.slave.as_fd(), size);
    assert_eq!(
        tcgetattr(&outer.slave).unwrap(),
        before,
        "our terminal is as it was"
    );
    drop(outer.slave);
    (exit, seen.join().unwrap())
}

fn contains(seen: &[u8], wanted: &str) -> bool {
    String::from_utf8_lossy(seen).contains(wanted)
}

/// Returns the CPU time that this thread has used.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Runs an ignored test of this file in a separate process. All threads and children of that
/// process start with signals blocked. A shell unblocks the signals that it traps.
fn alone(test: &str) {
    let name = format!("launch::foreground::tests::{test}");
    let output = Command::new("env")
        .arg("--block-signal")
        .arg(std::env::current_exe().unwrap())
        .args([name.as_str(), "--exact", "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn the_exit_code_or_the_signal_comes_back() {
    assert_eq!(attended("exit 42", OPTIONS).code(), 42);
    assert_eq!(attended("kill -KILL $$", OPTIONS).code(), 128 + 9);
    assert_eq!(attended("kill -40 $$", OPTIONS).code(), 128 + 40);
}

#[test]
fn ten_megabytes_pass_unchanged_up_to_the_last_byte() {
    let (exit, seen) = session(
        "head -c 10000000 /dev/zero | tr '\\0' x; printf end; exit 3",
        "",
        None,
    );
    assert_eq!(exit, Exit::Code(3));
    assert_eq!(seen.len(), 10_000_003);
    assert!(seen.ends_with(b"xend"));
}

#[test]
fn output_reaches_a_pipe_with_plain_newlines() {
    let outer = pty_of_the_host();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let exit = attended_on(
        pty_of_the_host(),
        "echo a; echo b",
        &outer.slave,
        writer.as_fd(),
        None,
    );
    assert_eq!(exit, Exit::Code(0));
    let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(
        flags & nix::fcntl::OFlag::O_NONBLOCK.bits(),
        0,
        "the pipe's own flags are left alone"
    );
    drop(writer);
    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "a\nb\n");
}

#[test]
fn keys_reach_the_container_and_newlines_are_translated_once() {
    let (exit, seen) = session("read line; echo \"got $line\"; exit 5", "hello\n", None);
    assert_eq!(exit, Exit::Code(5));
    assert!(contains(&seen, "got hello\r\n"), "{seen:?}");
}

#[test]
fn the_size_of_our_terminal_is_passed_on_unless_one_is_given() {
    let (_, seen) = session("stty size", "", None);
    assert!(contains(&seen, "24 80"), "{seen:?}");
    let (_, seen) = session(
        "stty size",
        "",
        Some(Size {
            rows: 7,
            columns: 9,
        }),
    );
    assert!(contains(&seen, "7 9"), "{seen:?}");
}

#[test]
fn a_terminal_that_is_closed_and_opened_again_stays_connected() {
    let script = "exec </dev/null >/dev/null 2>&1; sleep 0.5; echo back >INNER; exit 0";
    let before = cpu_time();
    let (exit, seen) = session(script, "", None);
    assert_eq!(exit, Exit::Code(0));
    assert!(contains(&seen, "back\r\n"), "{seen:?}");
    assert!(cpu_time() - before < Duration::from_millis(100));
}

#[test]
fn a_stdout_that_nobody_reads_neither_delays_the_end_nor_burns_time() {
    let outer = pty_of_the_host();
    let (_reader, writer) = std::io::pipe().unwrap();
    let script = "(trap '' HUP; exec head -c 1000000 /dev/zero) & sleep 0.5; exit 4";
    let (start, cpu) = (Instant::now(), cpu_time());
    let exit = attended_on(
        pty_of_the_host(),
        script,
        &outer.slave,
        writer.as_fd(),
        None,
    );
    assert_eq!(exit, Exit::Code(4));
    assert!(start.elapsed() < Duration::from_secs(50));
    assert!(cpu_time() - cpu < Duration::from_millis(100));
}

#[test]
fn a_terminal_that_nobody_reads_does_not_delay_the_end_either() {
    let (outer, full) = (pty_of_the_host(), pty_of_the_host());
    let script = "(trap '' HUP; exec yes) & sleep 0.3; exit 4";
    let start = Instant::now();
    let exit = attended_on(
        pty_of_the_host(),
        script,
        &outer.slave,
        full.slave.as_fd(),
        None,
    );
    assert_eq!(exit, Exit::Code(4));
    assert!(start.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_closed_stdout_hangs_the_container_up() {
    let outer = pty_of_the_host();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let script = "trap 'exit 9' HUP; echo x; for i in $(seq 2500); do sleep 0.02; done";
    let exit = attended_on(
        pty_of_the_host(),
        script,
        &outer.slave,
        writer.as_fd(),
        None,
    );
    assert_eq!(exit, Exit::Code(9));
}

#[test]
fn signals_are_forwarded() {
    alone("inner_forwarding");
}

#[test]
#[ignore = "part of signals_are_forwarded"]
fn inner_forwarding() {
    let script = "trap 'exit 12' USR1; kill -USR1 $PPID; for i in $(seq 2500); do sleep 0.02; done";
    assert_eq!(attended(script, OPTIONS), Exit::Code(12));
    let script = "trap 'exit 13' TERM; kill -URG $PPID; kill -WINCH $PPID; kill -TERM $PPID; for i in $(seq 2500); do sleep 0.02; done";
    assert_eq!(attended(script, OPTIONS), Exit::Code(13));
}

#[test]
fn a_resize_of_our_terminal_is_followed() {
    alone("inner_resize");
}

#[test]
#[ignore = "part of a_resize_of_our_terminal_is_followed"]
fn inner_resize() {
    let script = "stty rows 40 cols 100 <OUTER; kill -WINCH $PPID; \
                  for i in $(seq 2500); do [ \"$(stty size)\" = '40 100' ] && exit 0; sleep 0.02; done; exit 1";
    assert_eq!(session(script, "", None).0, Exit::Code(0));
}

#[test]
fn orphans_are_reaped() {
    alone("inner_orphans");
}

#[test]
#[ignore = "part of orphans_are_reaped"]
fn inner_orphans() {
    default_sigchld().unwrap();
    set_child_subreaper().unwrap();
    let script = "(sleep 0.05 & sleep 0.1 & sh -c 'sleep 0.1; kill -40 $$' &); sleep 0.4; exit 6";
    let settings = Settings {
        subreaper: true,
        ..OPTIONS
    };
    assert_eq!(attended(script, settings), Exit::Code(6));
    let flag = Some(nix::sys::wait::WaitPidFlag::WNOHANG);
    assert_eq!(nix::sys::wait::waitpid(None, flag), Err(Errno::ECHILD));
}
