//! Descriptors that the caller of this program passes by their numbers on the command line.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::{Errno, Result, check};

/// Takes ownership of a writable descriptor. Dropping the result closes the descriptor. EBADF: the
/// caller did not pass this descriptor, or it is not writable.
pub(crate) fn take_writable_fd(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: the arguments are integers. For a number that isn't open, fcntl(2) returns EBADF.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // Every descriptor above 2 that this program opens has FD_CLOEXEC. A descriptor without this
    // flag was inherited from the caller, so no `OwnedFd` of this program owns it.
    if number <= libc::STDERR_FILENO || flags & i64::from(libc::FD_CLOEXEC) != 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: the arguments are integers.
    let status = check(unsafe { libc::fcntl(number, libc::F_GETFL) }.into())?;
    if status & i64::from(libc::O_ACCMODE) == i64::from(libc::O_RDONLY) {
        return Err(Errno::EBADF);
    }
    // SAFETY: the arguments are integers.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: the descriptor is open, and, as explained above, no value of this program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
