//! Runs an attempt in a child process with new namespaces, and waits for it for a bounded time.
//! The probes decide what to attempt, and what a failure means.

use std::os::fd::{AsFd as _, BorrowedFd};

use nix::sched::CloneFlags;

use crate::sys::Errno;
use crate::sys::clone::{CloneArgs, Exit, Side, clone3, pidfd_send_signal, pidfd_wait};
use crate::sys::process::{exit_now, set_dies_with_parent};
use crate::sys::wait::reap;

/// The time that a few system calls may take, in milliseconds.
pub(crate) const PATIENCE_MS: i32 = 5000;
/// The time that a killed child may take to exit, in milliseconds.
const PATIENCE_OF_KILL_MS: i32 = 1000;
const SIGKILL: i32 = 9;
const SIGSYS: i32 = 31;

/// Runs `steps` in a child with these new namespaces. The child has no effect on this process or on
/// the host, apart from what `steps` writes into files.
///
/// ETIMEDOUT: the child didn't exit in time, and was killed. ENOSYS: a seccomp filter killed it.
pub(crate) fn attempt(
    namespaces: CloneFlags,
    steps: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let code = || steps().err().map_or(0, |errno| errno as i32);
    match in_child(namespaces, PATIENCE_MS, code)? {
        0 => Ok(()),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// Runs `code` in a child with these new namespaces, and returns the child's exit code. `code`
/// returns a number from 0 to 255.
pub(crate) fn in_child(
    namespaces: CloneFlags,
    patience_ms: i32,
    code: impl FnOnce() -> i32,
) -> Result<i32, Errno> {
    in_cgroup(None, namespaces, patience_ms, code)
}

/// Does the same as `in_child`, but starts the child in `cgroup`.
pub(crate) fn in_cgroup(
    cgroup: Option<BorrowedFd<'_>>,
    namespaces: CloneFlags,
    patience_ms: i32,
    code: impl FnOnce() -> i32,
) -> Result<i32, Errno> {
    let args = CloneArgs {
        namespaces,
        cgroup,
        sibling: false,
    };
    let child = match clone3(&args)? {
        Side::Child => {
            let _ = set_dies_with_parent(true);
            exit_now(code())
        }
        Side::Parent(child) => child,
    };
    let in_time = pidfd_wait(child.pidfd.as_fd(), patience_ms)?;
    if !in_time {
        pidfd_send_signal(child.pidfd.as_fd(), SIGKILL)?;
        // A file system that never answers can keep even a killed process from exiting. The process
        // that adopts such a child reaps it later.
        if !pidfd_wait(child.pidfd.as_fd(), PATIENCE_OF_KILL_MS)? {
            return Err(Errno::ETIMEDOUT);
        }
    }
    match reap(child.pidfd.as_fd())? {
        Exit::Code(code) if in_time => Ok(code),
        Exit::Signal(SIGSYS) => Err(Errno::ENOSYS),
        Exit::Signal(_) if in_time => Err(Errno::ECANCELED),
        _ => Err(Errno::ETIMEDOUT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_tells_the_errno_of_its_child() {
        let none = CloneFlags::empty();
        assert_eq!(attempt(none, || Ok(())), Ok(()));
        assert_eq!(attempt(none, || Err(Errno::EXDEV)), Err(Errno::EXDEV));
    }
}
