//! For later commands: finds and signals the processes of a container that has no cgroup. These are
//! the processes in its pid namespace, or the descendants of its init.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::Signal;

use super::Error;
use crate::error::failed;
use crate::sys::clone::{pidfd_open, pidfd_send_signal, pidfd_wait};
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{Errno, Result as Called};

const SIGKILL: i32 = Signal::SIGKILL as i32;
/// The largest number of times that processes are listed while they are killed.
const ROUNDS: usize = 10;

/// How to recognise the container's processes.
pub(crate) struct ContainerProcesses<'a> {
    pub(crate) proc: &'a Procfs,
    /// The container's init, which is alive.
    pub(crate) init: i32,
    /// True if the container has its own pid namespace. Without one, an orphan of the container
    /// can't be distinguished from the host's processes.
    pub(crate) own_pids: bool,
}

impl ContainerProcesses<'_> {
    /// Returns the pids of the processes in the caller's pid namespace, sorted.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, Error> {
        let all = all_pids()?;
        let mut members = vec![self.init];
        if self.own_pids {
            let own = self.namespace(self.init).map_err(failed("stat", || {
                format!("look at the pid namespace of process {}", self.init)
            }))?;
            // Skip processes that have ended in the meantime, or that the caller may not inspect.
            members.extend(all.into_iter().filter(|pid| {
                *pid != self.init && self.namespace(*pid).is_ok_and(|namespace| namespace == own)
            }));
        } else {
            let parents: Vec<(i32, i32)> = all
                .into_iter()
                .filter_map(|pid| Some((pid, self.parent(pid)?)))
                .collect();
            let mut seen = 0;
            while let Some(parent) = members.get(seen).copied() {
                let children = parents.iter().filter(|(_, of)| *of == parent);
                members.extend(children.map(|(pid, _)| *pid));
                seen += 1;
            }
        }
        members.sort_unstable();
        members.dedup();
        Ok(members)
    }

    /// Sends a signal to each process, to init last, because its pid namespace ends with it.
    /// Returns the first error.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Error> {
        let mut result = Ok(());
        // The next round finds processes that were forked during this round.
        let rounds = if signal == SIGKILL { ROUNDS } else { 1 };
        for _ in 0..rounds {
            let others = self.others()?;
            if others.is_empty() {
                break;
            }
            for (pid, pidfd) in others {
                result = result.and(send(pid, pidfd.as_fd(), signal));
            }
        }
        match pidfd_open(self.init) {
            Ok(init) => result.and(send(self.init, init.as_fd(), signal)),
            Err(Errno::ESRCH) => result,
            Err(errno) => {
                let what = || format!("open process {}", self.init);
                result.and(Err(failed("pidfd_open", what)(errno).into()))
            }
        }
    }

    /// Opens all live processes except init before any is signalled, because the children of a
    /// process that has ended are no longer descendants of init.
    fn others(&self) -> Result<Vec<(i32, OwnedFd)>, Error> {
        let pids = self.pids()?.into_iter().filter(|pid| *pid != self.init);
        let open = pids.filter_map(|pid| {
            let pidfd = pidfd_open(pid).ok()?;
            // Check again: the pid may have been reused before the pidfd was opened, but not after.
            let ended = pidfd_wait(pidfd.as_fd(), 0).unwrap_or(true);
            (!ended && self.is_member(pid)).then_some((pid, pidfd))
        });
        Ok(open.collect())
    }

    fn is_member(&self, pid: i32) -> bool {
        if self.own_pids {
            let (one, other) = (self.namespace(pid), self.namespace(self.init));
            return matches!((one, other), (Ok(one), Ok(other)) if one == other);
        }
        let mut pid = pid;
        // The ancestors end at init or at pid 1. A longer chain is a loop through reused pids.
        for _ in 0..4096 {
            match self.parent(pid) {
                Some(parent) if parent == self.init => return true,
                Some(parent) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        false
    }

    fn namespace(&self, pid: i32) -> Called<(u64, u64)> {
        self.proc.namespace(&format!("{pid}/ns/pid"))
    }

    /// Returns the parent: field 4 of /proc/PID/stat.
    fn parent(&self, pid: i32) -> Option<i32> {
        let stat = self.proc.read(&format!("{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_ascii_whitespace().nth(4 - 3)?.parse().ok()
    }
}

/// Sends a signal. A process that has ended is no error.
fn send(pid: i32, pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Error> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => {
            let what = || format!("send signal {signal} to process {pid}");
            Err(failed("pidfd_send_signal", what)(errno).into())
        }
    }
}

fn all_pids() -> Result<Vec<i32>, Error> {
    let read = || "list /proc".to_owned();
    let entries = std::fs::read_dir("/proc").map_err(|e| failed("open", read)(errno_of(&e)))?;
    let mut pids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| failed("getdents64", read)(errno_of(&e)))?;
        pids.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    Ok(pids)
}
