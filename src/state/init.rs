//! Finds a container's init by its record, and checks that its pid wasn't reused.
//! `Dir::status` derives the container's status from the result.

use std::os::fd::{AsFd, OwnedFd};

use super::record::Record;
use crate::error::{Failed, failed};
use crate::sys::Errno;
use crate::sys::clone::{pidfd_open, pidfd_wait};
use crate::sys::procfs::Procfs;

/// The state of a container's init.
pub(crate) enum InitState {
    /// Init is alive, and its pid was not reused.
    Alive { pid: i32, pidfd: OwnedFd },
    /// Init was never started, has exited, is a zombie, or is from an earlier boot.
    Gone,
}

/// Checks whether the pid of a record still belongs to the container's init. Returns an error if
/// the check is impossible, because a container whose init counts as gone could be removed.
pub(crate) fn init(record: &Record, proc: &Procfs, boot_id: &str) -> Result<InitState, Failed> {
    let Some(pid) = record.pid.filter(|_| record.is_of_boot(boot_id)) else {
        return Ok(InitState::Gone);
    };
    let what = || format!("look for init, process {pid}");
    let pidfd = match pidfd_open(pid) {
        Ok(pidfd) => pidfd,
        // EINVAL: the number now belongs to a thread.
        Err(Errno::ESRCH | Errno::EINVAL) => return Ok(InitState::Gone),
        Err(errno) => return Err(failed("pidfd_open", what)(errno)),
    };
    // Read the start time after opening the pidfd. If it matches, the pidfd refers to init and not
    // to a process that has reused the pid.
    let start = read_start_time(proc, pid).map_err(failed("read", what))?;
    let is_it = start.is_some() && start == record.start_time;
    if is_it && !pidfd_wait(pidfd.as_fd(), 0).map_err(failed("poll", what))? {
        Ok(InitState::Alive { pid, pidfd })
    } else {
        Ok(InitState::Gone)
    }
}

/// Returns the start time of a process in clock ticks since boot, field 22 of /proc/PID/stat.
/// Returns `None` if the process doesn't exist.
pub(crate) fn read_start_time(proc: &Procfs, pid: i32) -> Result<Option<u64>, Errno> {
    let stat = match proc.read(&format!("{pid}/stat")) {
        Ok(stat) => stat,
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // Field 2, the name, may contain blanks and parentheses. Field 3 follows the last parenthesis.
    let fields = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    Ok(fields
        .split_ascii_whitespace()
        .nth(22 - 3)
        .and_then(|field| field.parse().ok()))
}
