//! What happens to the processes of a command and of a container: init is killed at any step, calls
//! are interrupted, a process is stopped or does not end, a program cannot be executed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::harness::{Container, adopt, eventually, kernel};

#[test]
fn a_stopped_init_is_deleted_by_force() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    adopt(c.pid());
    kill(Pid::from_raw(c.pid()), Signal::SIGSTOP).unwrap();
    eventually("init has stopped", || {
        kernel::process_state(c.pid()) == Some('T')
    });
    assert_eq!(c.status(), "running");
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

#[test]
fn a_process_that_does_not_end_is_told_after_10_s_and_delete_can_be_tried_again() {
    let mut c = container!();
    c.args(&["/bin/sleep", "1000"]);
    c.run_detached().ok();
    adopt(c.pid());
    // A process that nobody reaps keeps the init of its pid namespace from ending, as a process in
    // an uninterruptible sleep does.
    let file = c.scratch().join("exec.pid");
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    c.exec_with(&flags, &["/bin/sleep", "1000"]).ok();
    let orphan: i32 = fs::read_to_string(file).unwrap().parse().unwrap();
    let begin = Instant::now();
    let deleted = c.delete(&["--force"]);
    let took = begin.elapsed();
    deleted
        .exits(1)
        .one_line()
        .says("does not end")
        .says(&c.pid().to_string());
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_secs(25),
        "{took:?}"
    );
    assert_eq!(c.root_entries(), [c.id.as_str()]);
    waitpid(Pid::from_raw(orphan), None).unwrap();
    c.delete(&["--force"]).ok();
    c.assert_nothing_left();
}

/// Makes a program that the kernel refuses to execute.
type Obstacle = fn(&mut Container) -> Option<fs::File>;

fn write_program(c: &Container, text: &[u8]) {
    let path = c.rootfs("/program");
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_program_that_the_kernel_refuses_is_named_with_the_reason() {
    let rows: [(Obstacle, &str); 5] = [
        (
            |c| {
                write_program(c, b"no program");
                None
            },
            "ENOEXEC",
        ),
        (
            |c| {
                write_program(c, b"#!/no/interpreter\n");
                None
            },
            "ENOENT",
        ),
        (
            |c| {
                write_program(c, b"\x7fELF and nothing else");
                None
            },
            "ENOEXEC",
        ),
        (
            |c| {
                write_program(c, b"#!/bin/sh\n");
                let source = c.rootfs("/program").to_str().unwrap().to_owned();
                c.mount("/program", "bind", &source, &["bind", "noexec"]);
                None
            },
            "permission denied",
        ),
        (
            |c| {
                let program = fs::read(c.rootfs("/bin/busybox")).unwrap();
                write_program(c, &program);
                Some(
                    fs::OpenOptions::new()
                        .append(true)
                        .open(c.rootfs("/program"))
                        .unwrap(),
                )
            },
            "ETXTBSY",
        ),
    ];
    for (obstacle, words) in rows {
        let mut c = container!();
        let _open = obstacle(&mut c);
        c.args(&["/bin/sleep", "1000"]);
        c.run_detached().ok();
        adopt(c.pid());
        c.exec(&["/program"])
            .exits(255)
            .one_line()
            .says(words)
            .says("/program");
        c.delete(&["--force"]).ok();
        c.args(&["/program"]);
        c.run().exits(1).one_line().says(words).says("/program");
        c.assert_nothing_left();
    }
}

/// The calls that a signal without SA_RESTART, or a busy kernel, makes fail for a moment.
pub(super) const INTERRUPTIBLE: [(i64, Errno); 16] = [
    (libc::SYS_read, Errno::EINTR),
    (libc::SYS_pread64, Errno::EINTR),
    (libc::SYS_write, Errno::EINTR),
    (libc::SYS_openat, Errno::EINTR),
    (libc::SYS_openat2, Errno::EAGAIN),
    (libc::SYS_connect, Errno::EINTR),
    (libc::SYS_accept4, Errno::EINTR),
    (libc::SYS_sendmsg, Errno::EINTR),
    (libc::SYS_recvmsg, Errno::EINTR),
    (libc::SYS_sendto, Errno::EINTR),
    (libc::SYS_recvfrom, Errno::EINTR),
    (libc::SYS_poll, Errno::EINTR),
    (libc::SYS_ppoll, Errno::EINTR),
    (libc::SYS_waitid, Errno::EINTR),
    (libc::SYS_wait4, Errno::EINTR),
    (libc::SYS_flock, Errno::EINTR),
];
