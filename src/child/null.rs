//! Replaces the host's null device as standard input, output or error by the container's.
//! Through the host's, root in a container could change mode and owner of the host's node.

use std::os::fd::{AsFd, BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::stat::fstat;

use super::StepResult;
use crate::error::failed;
use crate::sys::{path, process, weakened};

/// Replaces these descriptors. They stay as they are if the container has no null device at
/// /dev/null: the image, or another process before an exec, may have put something else there.
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
