//! flock(2): an exclusive lock that belongs to an open file, so to all copies of its descriptor.
//! Not how long it is waited for.

use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock};

use super::{Errno, errno};

/// A lock that is held until this is dropped. Whoever else has a copy of the descriptor doesn't keep it.
pub(crate) struct Lock(OwnedFd);

impl Lock {
    /// Takes the lock of an open file, and gives the descriptor back where that fails. EWOULDBLOCK: another has it.
    pub(crate) fn try_take(fd: OwnedFd) -> core::result::Result<Lock, (OwnedFd, Errno)> {
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(fd)),
            Err(error) => Err((fd, errno(error))),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Where this fails, the last copy of the descriptor that is closed gives it up: at the latest when we end.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
