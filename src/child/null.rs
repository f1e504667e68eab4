//! The null device of the container in the place of the host's, where that is standard input,
//! output or error: by a descriptor of the host's node, root in a container could change its mode
//! and owner for all others.

use std::os::fd::{AsFd, BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::stat::fstat;

use super::Step;
use crate::error::failed;
use crate::sys::{path, process, weakened};

/// Replaces these descriptors. A container may have no null device, or something else in its place
/// (which an image or, when it is `exec`, another process decides): then they stay as they are.
pub(super) fn replace(descriptors: &[RawFd]) -> Step {
    if descriptors.is_empty() {
        return Ok(());
    }
    let is_null =
        |fd: BorrowedFd<'_>| Ok(path::is_null_device(&fstat(fd)?) || weakened::lacks("null-stdio"));
    let Ok(null) = path::open_device(c"/dev/null", is_null) else {
        return Ok(());
    };
    let what = || "put the container's /dev/null in the place of the host's".to_owned();
    nix::fcntl::fcntl(&null, FcntlArg::F_SETFL(OFlag::empty())).map_err(failed("fcntl", what))?;
    for number in descriptors {
        process::dup_onto(null.as_fd(), *number).map_err(failed("dup3", what))?;
    }
    Ok(())
}
