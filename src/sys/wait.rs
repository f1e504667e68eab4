//! waitid(2): the exit status of children and adopted orphans.
//!
//! nix's waitid is not used, because it has no value for real-time signals: it returns EINVAL, and
//! the exit status is lost. rustix's waitid is not used, because it does not return the pid.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::clone::Exit;
use super::{Errno, Result, check, retry};

struct Ended {
    /// The pid of the child, or 0 if no child has exited (only with WNOHANG).
    pid: i32,
    exit: Exit,
}

fn waitid(kind: libc::idtype_t, id: libc::id_t, options: libc::c_int) -> Result<Ended> {
    // SAFETY: siginfo_t is plain data, for which all zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    retry(|| {
        // __WALL includes children with any exit signal, also those that another process cloned for
        // us with CLONE_PARENT.
        // SAFETY: info outlives the call.
        check(
            unsafe {
                libc::waitid(
                    kind,
                    id,
                    &raw mut info,
                    options | libc::WEXITED | libc::__WALL,
                )
            }
            .into(),
        )
    })?;
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves the zeros.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let exit = match info.si_code {
        libc::CLD_KILLED | libc::CLD_DUMPED => Exit::Signal(status),
        _ => Exit::Code(status),
    };
    Ok(Ended { pid, exit })
}

/// Waits for the child of `pidfd` to exit and reaps it. Fails with ECHILD if the process is not a
/// child of this process, or was already reaped.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, 0).map(|ended| ended.exit)
}

/// True if `pid` is a child of this process that has not been reaped.
pub(crate) fn is_child(pid: i32) -> bool {
    let id = libc::id_t::try_from(pid).ok().filter(|id| *id != 0);
    id.is_some_and(|id| waitid(libc::P_PID, id, libc::WNOHANG | libc::WNOWAIT).is_ok())
}

/// Reaps exited children until none is left or the next one is `except`, which is left to `reap`.
pub(crate) fn reap_all_except(except: i32) -> Result<()> {
    loop {
        let ended = match waitid(libc::P_ALL, 0, libc::WNOHANG | libc::WNOWAIT) {
            Err(Errno::ECHILD) => return Ok(()),
            other => other?,
        };
        if ended.pid == 0 || ended.pid == except {
            return Ok(());
        }
        waitid(libc::P_PID, ended.pid as libc::id_t, libc::WNOHANG)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::zombie_processes)]
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;
    use crate::sys::clone::pidfd_open;

    fn end_of(script: &str) -> Exit {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pidfd = pidfd_open(i32::try_from(child.id()).unwrap()).unwrap();
        reap(pidfd.as_fd()).unwrap()
    }

    #[test]
    fn an_exit_code_and_any_signal_are_told_apart() {
        assert_eq!(end_of("exit 7"), Exit::Code(7));
        assert_eq!(end_of("kill -TERM $$"), Exit::Signal(libc::SIGTERM));
        assert_eq!(end_of("kill -40 $$"), Exit::Signal(40));
    }
}
