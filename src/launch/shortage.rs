//! Parent: adds to an error the limit that caused it.
//! `cgroup::shortage` finds this limit with the kernel's counters.

use super::Error;
use crate::cgroup::{self, Cgroup, Limits, NeededResource, Shortage};
use crate::sys::Errno;
use crate::sys::clone::Exit;

const SIGBUS: i32 = nix::sys::signal::Signal::SIGBUS as i32;

/// Adds to an error the limit that was too low, if there is one. `limits` are those that the
/// configuration set.
pub(crate) fn explained(
    error: Error,
    exit: Option<Exit>,
    cgroup: Option<&Cgroup>,
    limits: Option<&Limits>,
) -> Error {
    let shortage = need(&error, exit).and_then(|need| cgroup?.find_shortage(need));
    let Some(shortage) = shortage else {
        return error;
    };
    Error::Limit(Box::new(error), told(shortage, limits))
}

/// Names the limit for which the kernel has killed a process in this cgroup. Returns `None` if the
/// kernel has killed none.
pub(crate) fn killed_for_memory(cgroup: &Cgroup, limits: &Limits) -> Option<String> {
    let shortage = cgroup.find_shortage(NeededResource::Survival)?;
    Some(told(shortage, Some(limits)))
}

/// Describes the shortage, with the field of the configuration that set the limit.
fn told(shortage: Shortage, limits: Option<&Limits>) -> String {
    let place = shortage.own_file.as_ref().and_then(|file| {
        // The last write to a file is in effect.
        let set = limits?.files.iter().rfind(|limit| limit.file == *file)?;
        Some(format!(" ({})", set.origin))
    });
    shortage.sentence + &place.unwrap_or_default()
}

/// Returns the resource that may have been missing.
fn need(error: &Error, exit: Option<Exit>) -> Option<NeededResource> {
    let errno = match error {
        Error::Gone | Error::Died(..) => {
            return match exit {
                Some(Exit::Signal(SIGBUS)) => Some(NeededResource::HugePages),
                _ => Some(NeededResource::Survival),
            };
        }
        Error::Cgroup(cgroup::Error::Call(failed)) if failed.errno == Errno::EAGAIN => {
            return Some(NeededResource::Cgroups);
        }
        Error::Failed(failed) | Error::Cgroup(cgroup::Error::Call(failed)) => failed.errno,
        Error::Init(failure) | Error::Exec(failure) => failure.errno,
        _ => return None,
    };
    match errno {
        Errno::ENOMEM => Some(NeededResource::Memory),
        Errno::EAGAIN => Some(NeededResource::Processes),
        Errno::ENOSPC => Some(NeededResource::Cpuset),
        _ => None,
    }
}
