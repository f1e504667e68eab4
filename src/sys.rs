//! The boundary with the kernel. Only this module and its submodules contain unsafe blocks and use
//! libc.
//! They contain no policy: a function makes one system call, or a few that only make sense
//! together.
//!
//! Every function returns the kernel's errno. The callers add the operation and its object.
#![allow(unsafe_code)]
// The kernel's interface uses integers of fixed widths. The casts below convert between them and
// Rust's types.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub(crate) mod bpf;
pub(crate) mod clone;
pub(crate) mod entry;
pub(crate) mod exe;
pub(crate) mod handed;
#[cfg(not(test))]
pub(crate) mod heap;
pub(crate) mod lock;
pub(crate) mod mount;
pub(crate) mod netlink;
pub(crate) mod ns;
pub(crate) mod path;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod remap;
pub(crate) mod sched;
pub(crate) mod seccomp;
pub(crate) mod shared;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod tty;
pub(crate) mod wait;
pub(crate) mod weakened;

use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};

use nix::NixPath;
pub(crate) use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// The result of a system call.
pub(crate) type Result<T> = core::result::Result<T, Errno>;

/// Turns the return value of a raw system call into a result.
fn check(value: libc::c_long) -> Result<i64> {
    if value < 0 {
        Err(Errno::last())
    } else {
        Ok(value)
    }
}

/// Takes ownership of the descriptor that a raw system call returned, or returns the call's errno.
fn new_fd(value: libc::c_long) -> Result<OwnedFd> {
    let fd = check(value)? as RawFd;
    // SAFETY: callers pass the return value of a call that makes a descriptor; nothing else owns
    // it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Converts rustix's errno.
fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// Calls open(2) and repeats it after EINTR, which network file systems and devices may return.
pub(crate) fn open<P: ?Sized + NixPath>(path: &P, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    retry(|| nix::fcntl::open(path, flags, mode))
}

/// Calls openat(2) and repeats it after EINTR.
pub(crate) fn open_at<P: ?Sized + NixPath>(
    dir: impl AsFd,
    path: &P,
    flags: OFlag,
    mode: Mode,
) -> Result<OwnedFd> {
    retry(|| nix::fcntl::openat(dir.as_fd(), path, flags, mode))
}

/// Repeats a call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
