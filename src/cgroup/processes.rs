//! Lists, freezes, signals and kills the processes in a cgroup, and removes the empty cgroup.
//! `sys::clone` starts a process in a cgroup.

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::fcntl::AT_FDCWD;

use super::{Cgroup, Error, tree};
use crate::error::{Failed, failed};
use crate::sys::{Errno, clone, path};

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;
/// The time limit for freezing, which waits for processes in uninterruptible sleep.
pub(super) const FREEZER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before another attempt to remove a cgroup that is busy but has no processes. Such a
/// cgroup may be a mount point.
const REMOVE_RETRY_PAUSE: Duration = Duration::from_millis(10);

impl Cgroup {
    /// Freezes all processes and waits until they have stopped. On an error, thaws the cgroup
    /// again.
    pub(crate) fn freeze_all(&self) -> Result<(), Error> {
        self.write_file(c"cgroup.freeze", "1")?;
        self.wait_for_frozen_state(true).inspect_err(|_| {
            let _ = self.write_file(c"cgroup.freeze", "0");
        })
    }

    /// Thaws all processes and waits until they run.
    pub(crate) fn thaw_all(&self) -> Result<(), Error> {
        self.write_file(c"cgroup.freeze", "0")?;
        self.wait_for_frozen_state(false)
    }

    fn wait_for_frozen_state(&self, frozen: bool) -> Result<(), Error> {
        let deadline = Instant::now() + FREEZER_TIMEOUT;
        let what = || self.describe_access("wait for", c"cgroup.events");
        let undone = Cell::new(false);
        // A cgroup stays "frozen" for ever if its last process exited in the freezer while a
        // process in a nested cgroup was still exiting. The kernel counts the nested cgroups at a
        // thaw, but not when a process exits (Linux 6.12, cgroup_exit, cgroup_do_freeze).
        let done = |events: tree::CgroupEvents| {
            if events.frozen == frozen || (!frozen && !events.populated) {
                return true;
            }
            undone.set(self.is_set_to_freeze().is_ok_and(|set| set != frozen));
            undone.get()
        };
        let ended =
            tree::wait_for_events(self.dir_fd(), done, deadline).map_err(failed("poll", what))?;
        let path = self.path.clone();
        if undone.get() {
            let done = if frozen { "thawed" } else { "frozen" };
            return Err(Error::FreezerUndone { path, done });
        }
        if ended {
            return Ok(());
        }
        Err(Error::Freezer {
            path,
            verb: if frozen { "freeze" } else { "thaw" },
            holders: match frozen {
                true => self.describe_processes(),
                false => "a cgroup above it is frozen".into(),
            },
        })
    }

    /// True if the freezer of this cgroup itself is set, whether its processes have stopped or not.
    pub(super) fn is_set_to_freeze(&self) -> Result<bool, Errno> {
        Ok(tree::read_file(self.dir_fd(), c"cgroup.freeze")?.trim() == "1")
    }

    /// True if a process that enters the cgroup is frozen at once.
    pub(crate) fn stops_processes(&self) -> bool {
        self.is_set_to_freeze().unwrap_or(false) || self.is_frozen().unwrap_or(false)
    }

    /// True if all processes are frozen by the freezer of this cgroup or of a cgroup above it.
    pub(crate) fn is_frozen(&self) -> Result<bool, Error> {
        Ok(self.read_events()?.frozen)
    }

    /// True if the cgroup or a nested one has a process.
    pub(crate) fn is_populated(&self) -> Result<bool, Error> {
        Ok(self.read_events()?.populated)
    }

    /// Returns the processes in the cgroup and in all nested ones, as pids in the caller's pid
    /// namespace. Leaves out processes that the caller can't see.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = match tree::read_numbers(self.dir_fd(), c"cgroup.procs") {
            // A threaded cgroup lists only threads. Threads that aren't thread group leaders are
            // skipped later, because pidfd_open fails for them.
            Err(Errno::EOPNOTSUPP) => tree::read_numbers(self.dir_fd(), c"cgroup.threads"),
            // The cgroup is gone.
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
            other => other,
        }
        .map_err(failed("read", || {
            self.describe_access("read", c"cgroup.procs")
        }))?;
        let enter = |dir: BorrowedFd<'_>| match tree::read_numbers(dir, c"cgroup.procs") {
            Ok(more) => {
                pids.extend(more);
                Ok(())
            }
            // Either the cgroup has threads of a process that is listed in a cgroup above, or the
            // cgroup was removed in the meantime.
            Err(Errno::EOPNOTSUPP | Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(errno),
        };
        tree::walk_nested(self.dir_fd(), enter, |_, _| Ok(()))
            .map_err(failed("read", || format!("walk {}", self.path.display())))?;
        pids.retain(|pid| *pid > 0);
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Kills all processes in the cgroup and below, frozen or not. The kernel does this in one
    /// step. A cgroup that no longer exists is not an error.
    pub(crate) fn kill_all(&self) -> Result<(), Error> {
        match tree::write_file(self.dir_fd(), c"cgroup.kill", "1") {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            // The kernel can't kill a threaded cgroup as a whole.
            Err(Errno::EOPNOTSUPP) => self.signal_while_frozen(SIGKILL),
            other => {
                let what = || self.describe_access("write \"1\" to", c"cgroup.kill");
                Ok(other.map_err(failed("write", what))?)
            }
        }
    }

    /// Sends a signal to every process in the cgroup and below. If the cgroup was already frozen,
    /// it stays frozen.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<(), Error> {
        if signal == SIGKILL {
            self.kill_all()
        } else {
            self.signal_while_frozen(signal)
        }
    }

    /// Freezes the processes while it signals them, so that no process can escape by forking.
    fn signal_while_frozen(&self, signal: i32) -> Result<(), Error> {
        // Read cgroup.freeze and not cgroup.events, which reports the cgroup as thawed while a
        // process exits.
        match self.is_set_to_freeze() {
            Ok(true) => return self.signal_each(signal),
            Ok(false) => {}
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
            Err(errno) => {
                return Err(
                    failed("read", || self.describe_access("read", c"cgroup.freeze"))(errno).into(),
                );
            }
        }
        self.freeze_all()?;
        let sent = self.signal_each(signal);
        let thawed = self.write_file(c"cgroup.freeze", "0");
        sent.and(thawed)
    }

    /// Signals all processes, even if one of them can't be signalled. Returns the first error.
    fn signal_each(&self, signal: i32) -> Result<(), Error> {
        let mut result = Ok(());
        for pid in self.pids()? {
            let sent = clone::pidfd_open(pid)
                .and_then(|pidfd| clone::pidfd_send_signal(pidfd.as_fd(), signal));
            match sent {
                // ESRCH: the process has exited. ENOENT and EINVAL: pidfd_open was called for a
                // thread that isn't a thread group leader.
                Ok(()) | Err(Errno::ESRCH | Errno::ENOENT | Errno::EINVAL) => {}
                Err(errno) if result.is_ok() => {
                    let path = self.path.display();
                    let what = format!("send signal {signal} to process {pid} of {path}");
                    result = Err(Failed::new(what, "pidfd_send_signal", errno).into());
                }
                Err(_) => {}
            }
        }
        result
    }

    /// Removes the cgroup if it has neither processes nor nested cgroups. Returns false if the
    /// removal failed for any reason.
    pub(crate) fn remove_unused(&self) -> bool {
        let name = path::c_path(self.path.as_os_str());
        name.is_ok_and(|name| tree::remove_dir(AT_FDCWD, &name).is_ok())
    }

    /// Removes the cgroup and all nested ones. Kills no process, but waits up to `timeout` for
    /// processes that are exiting. A cgroup that no longer exists is not an error.
    pub(crate) fn delete_tree(&self, timeout: Duration) -> Result<(), Error> {
        let removing = || format!("remove cgroup {}", self.path.display());
        let name = path::c_path(self.path.as_os_str()).map_err(failed("rmdir", removing))?;
        let deadline = Instant::now() + timeout;
        let mut tries = 0;
        loop {
            match tree::remove_dir(AT_FDCWD, &name) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                // A read-only mount returns EROFS before it checks whether the name exists.
                Err(Errno::EROFS) if !tree::exists(AT_FDCWD, &name) => return Ok(()),
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(failed("rmdir", removing)(errno).into()),
            }
            tries += 1;
            if !self.wait_until_empty(tries > 1, deadline)? {
                return Err(Error::Busy {
                    path: self.path.clone(),
                    holders: self.describe_processes(),
                });
            }
            let leave = |parent: BorrowedFd<'_>, name: &CStr| match tree::remove_dir(parent, name) {
                // Somebody used or made a nested cgroup. The next iteration tries again.
                Ok(()) | Err(Errno::ENOENT | Errno::EBUSY) => Ok(()),
                Err(errno) => Err(errno),
            };
            match tree::walk_nested(self.dir_fd(), |_| Ok(()), leave) {
                Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => {
                    let what = || format!("remove the cgroups below {}", self.path.display());
                    return Err(failed("rmdir", what)(errno).into());
                }
            }
        }
    }

    /// Waits until no process is left. Returns false if the deadline passes. If `again` is true,
    /// pauses for a moment even if the cgroup is empty.
    fn wait_until_empty(&self, again: bool, deadline: Instant) -> Result<bool, Error> {
        let empty = tree::wait_for_events(self.dir_fd(), |events| !events.populated, deadline)
            .and_then(|empty| {
                if again && empty {
                    let pause = deadline.min(Instant::now() + REMOVE_RETRY_PAUSE);
                    tree::wait_for_events(self.dir_fd(), |_| false, pause)?;
                    return Ok(Instant::now() < deadline);
                }
                Ok(empty)
            });
        match empty {
            Err(Errno::ENODEV | Errno::ENOENT) => Ok(true),
            other => Ok(other.map_err(failed("poll", || {
                self.describe_access("wait for", c"cgroup.events")
            }))?),
        }
    }

    /// Describes the processes in the cgroup for messages: `process 12 (sleep), process 13 (sh)`.
    pub(super) fn describe_processes(&self) -> String {
        let pids = self.pids().unwrap_or_default();
        let mut text = String::new();
        for pid in pids.iter().take(5) {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let comma = if text.is_empty() { "" } else { ", " };
            let comm = comm.trim().escape_debug();
            let _ = write!(text, "{comma}process {pid} ({comm})");
        }
        match pids.len() {
            0 => "no process that is visible from here".into(),
            more @ 6.. => format!("{text} and {} more", more - 5),
            _ => text,
        }
    }
}
