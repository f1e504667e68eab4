//! The parent's end of the link to a child: made, and heard from.
//! What is said, and when, is `protocol`'s and `launch`'s business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Error;
use crate::error::failed;
use crate::protocol::{self, Message};
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
