//! Parent: keeps the descriptors that the caller passes to the container's process, and closes
//! those that the caller left open by mistake.

use std::os::fd::RawFd;

use crate::error::{Failed, failed};
use crate::plan::process::Process;
use crate::sys::process;

/// Why the descriptors can't be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("LISTEN_FDS={0}: not a number of descriptors")]
    ListenFds(String),
    #[error("unable to stat preserved-fd {0} (of {1} by LISTEN_FDS and {2} by --preserve-fds)")]
    Missing(u32, u32, u32),
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// Keeps the standard descriptors, the sockets of systemd's socket activation, and `preserve` more.
/// Checks that the sockets and the preserved descriptors are open, and closes all others. Must be
/// called before this program opens anything. Returns the number of sockets.
pub(crate) fn take(preserve: u32) -> Result<u32, Error> {
    let listen = listen_fds(
        std::env::var("LISTEN_PID").ok().as_deref(),
        std::env::var("LISTEN_FDS").ok(),
    )?;
    let missing = |fd| Error::Missing(fd, listen, preserve);
    let end = 3_u32
        .checked_add(listen)
        .and_then(|end| end.checked_add(preserve))
        .ok_or(missing(u32::MAX))?;
    for fd in 3..end {
        let number = i32::try_from(fd).map_err(|_| missing(fd))?;
        if !process::is_open_descriptor(number) {
            return Err(missing(fd));
        }
    }
    process::close_range(end, u32::MAX).map_err(failed("close_range", || {
        "close inherited descriptors".into()
    }))?;
    Ok(listen)
}

/// Returns the number of sockets, like sd_listen_fds(3). Returns 0 if LISTEN_PID is not the pid of
/// this process, because the sockets are then meant for another process.
fn listen_fds(pid: Option<&str>, fds: Option<String>) -> Result<u32, Error> {
    match fds {
        Some(fds) if pid == Some(&std::process::id().to_string()) => {
            fds.parse().map_err(|_| Error::ListenFds(fds))
        }
        _ => Ok(0),
    }
}

/// Returns the standard descriptors that `child::null` must replace. Returns none if the process
/// has a terminal, because the terminal replaces all three.
pub(super) fn null(process: &Process) -> Vec<RawFd> {
    if process.terminal.is_some() {
        Vec::new()
    } else {
        process::null_fds()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sockets_are_taken_only_by_the_process_they_are_meant_for() {
        let own = std::process::id().to_string();
        assert_eq!(listen_fds(Some(&own), Some("2".into())).unwrap(), 2);
        assert_eq!(listen_fds(Some("1"), Some("2".into())).unwrap(), 0);
        assert_eq!(listen_fds(None, Some("2".into())).unwrap(), 0);
        assert!(listen_fds(Some(&own), Some("-1".into())).is_err());
    }
}
