//! Creates processes with clone3(2), and signals and waits for them with pidfds.
//! Operations of a process on itself are in `process`.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sched::CloneFlags;
use rustix::process::{Pid, PidfdFlags};

use super::{Errno, Result, check, errno, new_fd, retry};

/// The arguments of `clone3`.
pub(crate) struct CloneArgs<'a> {
    /// The namespaces to create for the child.
    pub(crate) namespaces: CloneFlags,
    /// The directory of the cgroup in which the child starts. `None`: the cgroup of the caller.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// True if the child's parent is the caller's parent, not the caller.
    pub(crate) sibling: bool,
}

/// The process in which a clone returned.
pub(crate) enum Side {
    Child,
    Parent(Child),
}

/// A child of this process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// The exit status of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// Returns the exit code as shells and runc report it. For a signal, the code is 128 plus its
    /// number.
    pub(crate) fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

// libc's constants for these two flags are truncated to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Calls clone3(2) without shared memory. The child has its own copy of everything. The kernel
/// resets every handled signal to its default.
///
/// The child must finish with `process::exit_now` or execve, since glibc's cached thread id is
/// still the parent's.
pub(crate) fn clone3(request: &CloneArgs<'_>) -> Result<Side> {
    let mut pidfd: RawFd = -1;
    let mut args = libc::clone_args {
        flags: (request.namespaces.bits() as u32 as u64)
            | libc::CLONE_PIDFD as u64
            | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if request.sibling {
        // The kernel uses the caller's own exit signal here. Setting exit_signal fails with EINVAL.
        args.flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = request.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args outlives the call and its size is given. Without CLONE_VM the child runs on a
    // copy of this stack.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    })?;
    side(pid as i32, pidfd)
}

/// Interprets the return value of a clone with CLONE_PIDFD.
fn side(pid: i32, pidfd: RawFd) -> Result<Side> {
    if pid == 0 {
        return Ok(Side::Child);
    }
    let pidfd = new_fd(pidfd.into())?;
    Ok(Side::Parent(Child { pid, pidfd }))
}

/// The flags that `clone_sibling` passes to clone(2).
pub(crate) const SIBLING_FLAGS: u64 = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;

/// True on architectures where the flags are the second argument of clone(2).
pub(crate) const FLAGS_COME_SECOND: bool = cfg!(target_arch = "s390x");

/// Makes a sibling of this process, in the pid namespace that setns(2) chose for children. The new
/// process is like a child of `clone3`, but handled signals stay handled.
///
/// This function uses clone(2), because the seccomp profiles of engines refuse clone3. A filter
/// can't read the flags of clone3.
pub(crate) fn clone_sibling() -> Result<Side> {
    let mut pidfd: RawFd = -1;
    let (first, second) = if FLAGS_COME_SECOND {
        (0, SIBLING_FLAGS)
    } else {
        (SIBLING_FLAGS, 0)
    };
    let place = &raw mut pidfd;
    // SAFETY: pidfd outlives the call; without CLONE_VM the child runs on a copy of this stack.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, first, second, place, 0, 0) })?;
    side(pid as i32, pidfd)
}

/// Calls pidfd_open(2).
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::EINVAL)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(errno)
}

/// Calls pidfd_send_signal(2). Signal 0 only checks that the process exists.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // rustix is not used, because it supports neither signal 0 nor real-time signals.
    // SAFETY: for a null siginfo the kernel fills in what kill(2) sends.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Waits at most `timeout_ms` (-1: without limit) for the process of `pidfd` to exit. Returns true
/// if the process has exited; a zombie counts as exited.
pub(crate) fn pidfd_wait(pidfd: BorrowedFd<'_>, timeout_ms: i32) -> Result<bool> {
    let timeout = nix::poll::PollTimeout::try_from(timeout_ms).map_err(|_| Errno::EINVAL)?;
    let mut fds = [nix::poll::PollFd::new(pidfd, nix::poll::PollFlags::POLLIN)];
    Ok(retry(|| nix::poll::poll(&mut fds, timeout))? > 0)
}
