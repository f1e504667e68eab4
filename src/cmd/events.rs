//! `events`: prints a container's resource usage, once or at an interval. Also prints an event when
//! the OOM killer kills a process of the container.
//! `cgroup` reads the numbers.

use std::os::fd::AsFd;
use std::time::Instant;

use serde::Serialize;

use super::{Error, open_container, print_stdout};
use crate::cgroup::{Stats, WatchEvent};
use crate::invocation::{EventsArgs, Globals};
use crate::log::Log;
use crate::state::{FoundContainer, InitState};

/// The format of runc's types.Event.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Prints one line of JSON for each event until the container stops. With --stats it prints only
/// one line.
pub(crate) fn events(globals: &Globals, args: &EventsArgs, log: &Log) -> Result<(), Error> {
    let id = args.id.as_str();
    let dir = open_container(globals, id)?;
    let found = FoundContainer::read_container(&dir)?;
    let not_running = || Error::IdNotRunning(id.to_owned());
    let InitState::Alive { pidfd, .. } = &found.init else {
        return Err(not_running());
    };
    let cgroup = found.open_cgroup_in(&dir)?.ok_or(Error::NoCgroup)?;
    if args.stats {
        return print_event("stats", id, Some(cgroup.read_stats()?));
    }
    let mut watch = cgroup.start_watch()?.ok_or_else(not_running)?;
    loop {
        let next = Instant::now().checked_add(args.interval);
        let next = next.ok_or_else(|| Error::BadFlag("--interval: out of range".into()))?;
        loop {
            match watch.wait_for_event(pidfd.as_fd(), next)? {
                WatchEvent::OomKill => print_event("oom", id, None)?,
                WatchEvent::Ended => return Ok(()),
                WatchEvent::Deadline => break,
            }
        }
        match cgroup.read_stats() {
            Ok(stats) => print_event("stats", id, Some(stats))?,
            // If the cgroup was just removed, the next wait returns `Ended`. Any other error is no
            // reason to stop, because later events can still be printed.
            Err(error) => log.warn(&error.to_string()),
        }
    }
}

fn print_event(kind: &'static str, id: &str, data: Option<Stats>) -> Result<(), Error> {
    let event = Event { kind, id, data };
    print_stdout(&(serde_json::to_string(&event).unwrap_or_default() + "\n"))
}
