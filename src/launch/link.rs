//! The parent's end of the link to a child: made, and heard from.
//! What is said, and when, is `protocol`'s and `launch`'s business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Error, FILTERED, SIGSYS, how};
use crate::error::failed;
use crate::protocol::{self, FILTERING, Message};
use crate::sys::clone::{Exit, pidfd_wait};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, signal, socket};

/// How long a signal that asks us to end may wait for our look at it, in ms: all are held back while a child is set up.
const LOOK: i64 = 100;

/// The link between parent and child; of the two ends the first is the parent's.
pub(super) fn make() -> Result<(OwnedFd, OwnedFd), Error> {
    let what = || "make the link to the child".to_owned();
    let (ours, childs) = socket::pair().map_err(failed("socketpair", what))?;
    socket::set_patience(ours.as_fd(), LOOK).map_err(failed("setsockopt", what))?;
    Ok((ours, childs))
}

/// Hears from the child; `None` is the end of it. A signal that asks this process to end is an error.
pub(super) fn receive(link: BorrowedFd<'_>) -> Result<Option<Message>, Error> {
    let what = || "hear from the container's process".to_owned();
    loop {
        match protocol::receive(link) {
            Err(Errno::EAGAIN) => {
                if let Some(signal) = signal::pending_end() {
                    return Err(Error::Interrupted(signal));
                }
            }
            other => return Ok(other.map_err(failed("recvmsg", what))?),
        }
    }
}

/// Finds out whether a filter has killed the child between its last message and the program: by its name it still is what the
/// clone made. After that it is the program that was killed.
pub(super) fn confirm(proc: &Procfs, pid: i32, pidfd: &OwnedFd) -> Result<(), Error> {
    let name = format!("({})", FILTERING.to_string_lossy());
    let unchanged = || {
        proc.read(&format!("{pid}/stat"))
            .is_ok_and(|stat| stat.contains(&name))
    };
    // Both execve and a death close the link first, and have their effect on the name, or on the pidfd, a moment later.
    while unchanged() {
        let what = || "look whether the container's process lives".to_owned();
        if pidfd_wait(pidfd.as_fd(), 1).map_err(failed("poll", what))? && unchanged() {
            return Err(Error::Died(how(Exit::Signal(SIGSYS)), FILTERED.into()));
        }
    }
    Ok(())
}
