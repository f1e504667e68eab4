//! The processes of a container that has no cgroup: those of its pid namespace, or else the descendants of its init.
//! Not those of one with a cgroup: the kernel lists them.

use std::os::fd::AsFd;

use super::Error;
use crate::error::failed;
use crate::sys::clone::{pidfd_open, pidfd_send_signal};
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{Errno, Result as Called};

/// How a process is known to be the container's.
pub(crate) struct Members<'a> {
    pub(crate) proc: &'a Procfs,
    /// The container's init, which is alive.
    pub(crate) init: i32,
    /// The container's pid namespace is its own. If not, a process whose parent has ended can't be told from the host's.
    pub(crate) own_pids: bool,
}

impl Members<'_> {
    /// Their pids, by the caller's namespace, sorted.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, Error> {
        let all = all_pids()?;
        let mut members = vec![self.init];
        if self.own_pids {
            let own = self.namespace(self.init).map_err(failed("stat", || {
                format!("look at the pid namespace of process {}", self.init)
            }))?;
            // One that has ended meanwhile, or that may not be looked at, is none of them.
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

    /// Sends a signal to each, init last: with it a pid namespace ends. The first error is the answer.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Error> {
        let mut result = Ok(());
        let mut pids = self.pids()?;
        pids.sort_by_key(|pid| *pid == self.init);
        for pid in pids {
            let sent = pidfd_open(pid).and_then(|pidfd| {
                // The pid may have been given to another process since it was listed, but not since the pidfd is open.
                if pid == self.init || self.is_member(pid) {
                    pidfd_send_signal(pidfd.as_fd(), signal)
                } else {
                    Ok(())
                }
            });
            match sent {
                Ok(()) | Err(Errno::ESRCH | Errno::ENOENT) => {}
                Err(errno) if result.is_ok() => {
                    let what = || format!("send signal {signal} to process {pid}");
                    result = Err(failed("pidfd_send_signal", what)(errno).into());
                }
                Err(_) => {}
            }
        }
        result
    }

    fn is_member(&self, pid: i32) -> bool {
        if self.own_pids {
            let (one, other) = (self.namespace(pid), self.namespace(self.init));
            return matches!((one, other), (Ok(one), Ok(other)) if one == other);
        }
        let mut pid = pid;
        // A line of ancestors ends at init or at pid 1; what is longer than this is a loop of reused pids.
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

    /// Field 4 of /proc/PID/stat.
    fn parent(&self, pid: i32) -> Option<i32> {
        let stat = self.proc.read(&format!("{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_ascii_whitespace().nth(4 - 3)?.parse().ok()
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
