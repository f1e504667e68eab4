//! Waits for events in a cgroup: an OOM kill, or the exit of the last process.
//! This module changes nothing, and each wait returns at the next event.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::{Cgroup, Error, tree};
use crate::error::failed;
use crate::sys::{Errno, clone};

/// The reason why a wait returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchEvent {
    /// The kernel killed a process in the cgroup, or in one below it, for lack of memory.
    OomKill,
    /// The watched process has exited, or no process is left in the cgroup.
    Ended,
    /// The deadline has passed.
    Deadline,
}

/// The open cgroup files. poll(2) reports their changes.
pub(crate) struct CgroupWatch {
    events: OwnedFd,
    /// memory.events; `None` without the memory controller.
    memory: Option<OwnedFd>,
    /// The number of OOM kills reported so far.
    kills: u64,
}

impl Cgroup {
    /// Starts to watch the cgroup. Returns `None` if the cgroup no longer exists.
    pub(crate) fn start_watch(&self) -> Result<Option<CgroupWatch>, Error> {
        let what = |file| move || self.describe_access("open", file);
        let events = match tree::open_file(self.dir_fd(), c"cgroup.events", OFlag::O_RDONLY) {
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(None),
            other => other.map_err(failed("open", what(c"cgroup.events")))?,
        };
        let memory = match tree::open_file(self.dir_fd(), c"memory.events", OFlag::O_RDONLY) {
            Err(Errno::ENOENT | Errno::ENODEV) => None,
            other => Some(other.map_err(failed("open", what(c"memory.events")))?),
        };
        let mut watch = CgroupWatch {
            events,
            memory,
            kills: 0,
        };
        watch.kills = watch.count_oom_kills();
        Ok(Some(watch))
    }
}

impl CgroupWatch {
    /// Waits for the next event or until `deadline`. The exit of `process` counts as an event.
    pub(crate) fn wait_for_event(
        &mut self,
        process: BorrowedFd<'_>,
        deadline: Instant,
    ) -> Result<WatchEvent, Error> {
        let what = || "wait for events of the cgroup".to_owned();
        loop {
            // After each read, poll(2) reports the next change of the file. OOM kills are checked
            // first, because a kill may be the reason why the process exited.
            let kills = self.count_oom_kills();
            if kills > self.kills {
                self.kills = kills;
                return Ok(WatchEvent::OomKill);
            }
            let populated = tree::read_from_start(&self.events)
                .is_ok_and(|text| tree::CgroupEvents::parse(&text).populated);
            if !populated || clone::pidfd_wait(process, 0).map_err(failed("poll", what))? {
                return Ok(WatchEvent::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // poll(2) can't wait for less than a millisecond.
            if left.as_millis() == 0 {
                return Ok(WatchEvent::Deadline);
            }
            let mut fds = vec![
                PollFd::new(self.events.as_fd(), PollFlags::POLLPRI),
                PollFd::new(process, PollFlags::POLLIN),
            ];
            let memory = self.memory.as_ref();
            fds.extend(memory.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)));
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match nix::poll::poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed("poll", what)(errno).into()),
            }
        }
    }

    /// Returns the number of OOM kills so far. If the cgroup no longer exists, returns the number
    /// that was last reported.
    fn count_oom_kills(&self) -> u64 {
        let text = self.memory.as_ref().map(tree::read_from_start);
        let kills = text.and_then(|text| tree::find_keyed_number(&text.ok()?, "oom_kill"));
        kills.unwrap_or(self.kills)
    }
}
