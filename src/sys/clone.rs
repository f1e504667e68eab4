//! Processes by clone3(2) and pidfd. Not what a process does with itself: that is `process`.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sched::CloneFlags;
use rustix::process::{Pid, PidfdFlags};

use super::{Errno, Result, check, errno, new_fd, retry};

/// What clone3 is asked for.
pub(crate) struct Clone<'a> {
    /// New namespaces.
    pub(crate) namespaces: CloneFlags,
    /// The directory of the cgroup that the child starts in; `None`: the caller's.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// True: the child becomes one of the caller's parent, not of the caller.
    pub(crate) sibling: bool,
}

/// Which side of the clone a caller is on.
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

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// The exit code by the shell's convention, as runc passes it on: 128 plus the signal's number.
    pub(crate) fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

// These two don't fit into the 32 bits that libc gives them.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// clone3(2) without shared memory. The child has its own copy of everything, and every handled signal is back at its default.
///
/// After it the child must end by `process::exit_now` or execve: glibc's cached thread id is the parent's.
pub(crate) fn clone3(request: &Clone<'_>) -> Result<Side> {
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
        // Its exit signal is the caller's own; another one would be EINVAL.
        args.flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = request.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args outlives the call and its size is given; without CLONE_VM the child runs on a copy of this stack.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    })?;
    side(pid as i32, pidfd)
}

/// The side of a clone with CLONE_PIDFD that answered `pid`.
fn side(pid: i32, pidfd: RawFd) -> Result<Side> {
    if pid == 0 {
        return Ok(Side::Child);
    }
    let pidfd = new_fd(pidfd.into())?;
    Ok(Side::Parent(Child { pid, pidfd }))
}

/// The flags of `clone_sibling`, as clone(2) takes them.
pub(crate) const SIBLING_FLAGS: u64 = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;

/// True on the architectures on which the flags of clone(2) are its second argument.
pub(crate) const FLAGS_COME_SECOND: bool = cfg!(target_arch = "s390x");

/// Clones a child of this process' parent, in the pid namespace that setns(2) has chosen for
/// children. The child is as after `clone3`, but handled signals stay handled.
///
/// clone(2), since the seccomp profiles of engines refuse clone3, whose flags no filter can see.
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

/// pidfd_open(2).
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::EINVAL)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(errno)
}

/// pidfd_send_signal(2); signal 0 only asks whether the process is there.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // Not by rustix, which has no signal 0 and no real-time signals.
    // SAFETY: a null siginfo asks the kernel to fill it as kill(2) does.
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

/// Waits at most `timeout_ms` (-1: for ever) until the process behind `pidfd` has ended; a zombie has. True if it has.
pub(crate) fn pidfd_wait(pidfd: BorrowedFd<'_>, timeout_ms: i32) -> Result<bool> {
    let timeout = nix::poll::PollTimeout::try_from(timeout_ms).map_err(|_| Errno::EINVAL)?;
    let mut fds = [nix::poll::PollFd::new(pidfd, nix::poll::PollFlags::POLLIN)];
    Ok(retry(|| nix::poll::poll(&mut fds, timeout))? > 0)
}
