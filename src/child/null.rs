//! Replaces the host's null device as standard input, output or error by the container's null
//! device.
//! With a descriptor of the host's device node, root in a container could change the mode and the
//! owner of that node.

use std::os::fd::{AsFd, BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::stat::fstat;

use super::StepResult;
use crate::error::failed;
use crate::sys::{path, process, weakened};

/// Replaces these descriptors, unless the container's /dev/null is no null device. The image, or
/// another process before an exec, may have put something else there.
pub(super) fn replace_null_devices(descriptors: &[RawFd]) -> StepResult {
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
