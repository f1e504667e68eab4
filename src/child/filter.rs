//! The seccomp filter: set for this process and all that it becomes.
//! When in the order of the steps: that is `identity`'s and `exec`'s.

use std::os::fd::{AsFd, OwnedFd};

use super::{Step, because};
use crate::plan::seccomp::Filter;
use crate::protocol::{Message, send};
use crate::sys::seccomp;

/// Sets a filter; its listener, if it has one, goes to the parent.
pub(super) fn set(filter: Option<&Filter>, link: &OwnedFd) -> Step {
    let Some(filter) = filter else { return Ok(()) };
    let listener = seccomp::set_filter(&filter.program, filter.flags)
        .map_err(because("seccomp", || {
            "set the filter of system calls (config.json: linux.seccomp)".into()
        }))?;
    if let Some(listener) = listener {
        send(link.as_fd(), &Message::Listener(listener)).map_err(because("sendmsg", || {
            "hand on the listener of seccomp".into()
        }))?;
    }
    Ok(())
}
