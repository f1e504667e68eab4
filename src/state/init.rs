//! The init of a container by its record: whether the process of that pid is still the one that was started.
//! Not what follows from it for the container's status.

use std::os::fd::{AsFd, OwnedFd};

use super::record::Record;
use crate::error::{Failed, failed};
use crate::sys::Errno;
use crate::sys::clone::{pidfd_open, pidfd_wait};
use crate::sys::procfs::Procfs;

/// What is known of a container's init.
pub(crate) enum Init {
    /// Alive, and the process that was started: its pid was not given to another one since.
    Alive { pid: i32, pidfd: OwnedFd },
    /// Not started, ended, a zombie, or of an earlier boot.
    Gone,
}

/// Looks whether the init of a record is still the process that was started. What can't be looked at is an error: taken for gone,
/// it would be removed.
pub(crate) fn init(record: &Record, proc: &Procfs, boot_id: &str) -> Result<Init, Failed> {
    let Some(pid) = record.pid.filter(|_| record.is_of_boot(boot_id)) else {
        return Ok(Init::Gone);
    };
    let what = || format!("look for init, process {pid}");
    let pidfd = match pidfd_open(pid) {
        Ok(pidfd) => pidfd,
        // EINVAL: it is the number of a thread now.
        Err(Errno::ESRCH | Errno::EINVAL) => return Ok(Init::Gone),
        Err(errno) => return Err(failed("pidfd_open", what)(errno)),
    };
    // Read after the pidfd is open: if the start time is right, the pidfd is that process.
    let start = start_time(proc, pid).map_err(failed("read", what))?;
    let is_it = start.is_some() && start == record.start_time;
    if is_it && !pidfd_wait(pidfd.as_fd(), 0).map_err(failed("poll", what))? {
        Ok(Init::Alive { pid, pidfd })
    } else {
        Ok(Init::Gone)
    }
}

/// The start time of a process in clock ticks since boot: field 22 of /proc/PID/stat. `None`: no such process.
pub(crate) fn start_time(proc: &Procfs, pid: i32) -> Result<Option<u64>, Errno> {
    let stat = match proc.read(&format!("{pid}/stat")) {
        Ok(stat) => stat,
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // The name, field 2, may hold blanks and parentheses: what follows its last one starts with field 3.
    let fields = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    Ok(fields
        .split_ascii_whitespace()
        .nth(22 - 3)
        .and_then(|field| field.parse().ok()))
}
