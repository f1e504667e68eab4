//! Descriptors that the caller of this program hands over by their numbers on the command line.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::{Errno, Result, check};

/// Takes ownership of a writable descriptor. Dropping the result closes the descriptor. EBADF: the
/// caller did not pass this descriptor, or it is not writable.
pub(crate) fn take_writable_fd(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: integers only; a closed number is EBADF.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // Inherited descriptors survive an exec; every descriptor above 2 that this program opens has
    // FD_CLOEXEC. A descriptor without this flag was inherited, so no value owns it.
    if number <= libc::STDERR_FILENO || flags & i64::from(libc::FD_CLOEXEC) != 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: integers only.
    let status = check(unsafe { libc::fcntl(number, libc::F_GETFL) }.into())?;
    if status & i64::from(libc::O_ACCMODE) == i64::from(libc::O_RDONLY) {
        return Err(Errno::EBADF);
    }
    // SAFETY: integers only.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: the descriptor is open, and as explained above nothing owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
