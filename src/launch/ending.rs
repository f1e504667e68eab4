//! For the parent and later commands: kills processes of a container, and describes how they ended.
//! `processes` finds the processes of a container without a cgroup.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Error;
use crate::error::failed;
use crate::origin::config;
use crate::plan::process::Process;
use crate::sys::Errno;
use crate::sys::clone::{Child, Exit, pidfd_send_signal, pidfd_wait};
use crate::sys::wait::reap;

/// How long a container may take to leave its cgroup after all its processes were killed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(super) const SIGKILL: i32 = Signal::SIGKILL as i32;
const SIGSEGV: i32 = Signal::SIGSEGV as i32;
pub(super) const SIGSYS: i32 = Signal::SIGSYS as i32;
/// Returns the reason why a process was killed by SIGSYS before it could run its program.
pub(super) fn filtered_out() -> String {
    config("linux.seccomp").asks_to(": the filter forbids system calls that are needed to start it")
}

/// An error after which no process is left.
pub(super) struct Undone {
    pub(super) error: Box<Error>,
    /// How the process ended, if one was started.
    pub(super) exit: Option<Exit>,
}

impl From<Error> for Undone {
    fn from(error: Error) -> Undone {
        let error = Box::new(error);
        Undone { error, exit: None }
    }
}

/// Kills and reaps a process. If `error` is the death of the process, the new error has the exit
/// status and says whether the seccomp filter may be the cause.
pub(super) fn undo_process(error: Error, child: &Child, process: &Process) -> Undone {
    let _ = send_signal(&child.pidfd, SIGKILL);
    let exit = reap(child.pidfd.as_fd()).ok();
    let error = match (error, exit) {
        (Error::Gone | Error::Died(..), Some(exit)) => {
            // The filter may have kept a process that exits without a message from sending one. If
            // the filter refuses exit(2) as well, libc ends the process with SIGSEGV.
            let silent = matches!(exit, Exit::Code(_) | Exit::Signal(SIGSEGV));
            let silent = process.seccomp.is_some() && silent;
            let filtered = silent || matches!(exit, Exit::Signal(SIGSYS));
            let reason = if filtered {
                filtered_out()
            } else {
                String::new()
            };
            Error::Died(describe_exit(exit), reason)
        }
        (error, _) => error,
    };
    let error = Box::new(error);
    Undone { error, exit }
}

/// Sends a signal to the process behind a pidfd.
pub(super) fn send_signal(pidfd: &OwnedFd, signal: i32) -> Result<(), Errno> {
    pidfd_send_signal(pidfd.as_fd(), signal)
}

/// Sends a signal to a container's init.
pub(crate) fn kill(pid: i32, pidfd: &OwnedFd, signal: i32) -> Result<(), Error> {
    match send_signal(pidfd, signal) {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(Error::NotRunning),
        Err(errno) => {
            let what = || format!("send signal {signal} to process {pid}");
            Err(failed("pidfd_send_signal", what)(errno).into())
        }
    }
}

/// Kills the process behind a pidfd if it still exists, and waits until it has ended.
pub(crate) fn end(pid: i32, pidfd: &OwnedFd, deadline: Duration) -> Result<(), Error> {
    let what = || format!("end process {pid}");
    match send_signal(pidfd, SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(failed("pidfd_send_signal", what)(errno).into()),
    }
    let milliseconds = i32::try_from(deadline.as_millis()).unwrap_or(i32::MAX);
    if pidfd_wait(pidfd.as_fd(), milliseconds).map_err(failed("poll", what))? {
        Ok(())
    } else {
        Err(Error::Undying(pid, deadline.as_secs()))
    }
}

/// Describes how a process ended.
pub(super) fn describe_exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with code {code}"),
        Exit::Signal(signal) => {
            let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
            format!("killed by signal {signal} ({name})")
        }
    }
}
