//! flock(2): an exclusive lock on an open file, which all copies of the descriptor share.
//! Callers decide how long to wait for the lock.

use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock};

use super::{Errno, errno, retry};

/// A lock. Dropping it releases the lock, even if another process still has a copy of the
/// descriptor.
pub(crate) struct Lock(OwnedFd);

impl Lock {
    /// Locks an open file. On failure, also returns the descriptor. EWOULDBLOCK means that another
    /// process has the lock.
    pub(crate) fn try_take(fd: OwnedFd) -> core::result::Result<Lock, (OwnedFd, Errno)> {
        let lock = FlockOperation::NonBlockingLockExclusive;
        match retry(|| flock(&fd, lock).map_err(errno)) {
            Ok(()) => Ok(Lock(fd)),
            Err(errno) => Err((fd, errno)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If the unlock fails, closing the last copy of the descriptor releases the lock, at the
        // latest when this process exits.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
