//! The processes in a cgroup: listed, frozen, signalled, killed, and waited for until it can be removed.
//! How they come into it is not here: that is clone3.

use std::ffi::CStr;
use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::fcntl::AT_FDCWD;

use super::{Cgroup, Error, tree};
use crate::error::{Failed, failed};
use crate::sys::{Errno, clone, path};

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;
/// How long a freezer may take. What it waits for are processes in uninterruptible sleep.
pub(super) const FREEZER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two tries to remove a cgroup that is busy though nothing is in it: it is a mount point, say.
const PAUSE: Duration = Duration::from_millis(10);

impl Cgroup {
    /// Stops everything in it and waits until it stands; on an error it is thawed again.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        self.write(c"cgroup.freeze", "1")?;
        self.wait_frozen(true).inspect_err(|_| {
            let _ = self.write(c"cgroup.freeze", "0");
        })
    }

    /// Lets everything in it go on, and waits until it does.
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        self.write(c"cgroup.freeze", "0")?;
        self.wait_frozen(false)
    }

    fn wait_frozen(&self, frozen: bool) -> Result<(), Error> {
        let deadline = Instant::now() + FREEZER_TIMEOUT;
        let what = || self.object("wait for", c"cgroup.events");
        // A cgroup whose last process ended in the freezer while one below it was still ending says "frozen" for ever: the kernel
        // counts the cgroups below when it thaws, and not when a process ends (Linux 6.12, cgroup_exit, cgroup_do_freeze).
        let done = |events: tree::Events| events.frozen == frozen || (!frozen && !events.populated);
        if tree::wait(self.dir(), done, deadline).map_err(failed("poll", what))? {
            return Ok(());
        }
        Err(Error::Freezer {
            path: self.path.clone(),
            verb: if frozen { "freeze" } else { "thaw" },
            holders: if frozen {
                self.holders()
            } else {
                "a cgroup above it is frozen".into()
            },
        })
    }

    /// True if nothing in it runs, by its own freezer or one above.
    pub(crate) fn is_frozen(&self) -> Result<bool, Error> {
        Ok(self.events()?.frozen)
    }

    /// True if there is a process in it or in a nested one.
    pub(crate) fn is_populated(&self) -> Result<bool, Error> {
        Ok(self.events()?.populated)
    }

    /// The processes in it and in all nested ones, by the pids of the caller's namespace; those that it can't see are left out.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = match tree::numbers(self.dir(), c"cgroup.procs") {
            // A threaded cgroup lists its threads only; those that are no leaders are skipped by pidfd_open later.
            Err(Errno::EOPNOTSUPP) => tree::numbers(self.dir(), c"cgroup.threads"),
            // It is gone.
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
            other => other,
        }
        .map_err(failed("read", || self.object("read", c"cgroup.procs")))?;
        let enter = |dir: BorrowedFd<'_>| match tree::numbers(dir, c"cgroup.procs") {
            Ok(more) => {
                pids.extend(more);
                Ok(())
            }
            // Threads of a process that the domain above lists; or removed meanwhile.
            Err(Errno::EOPNOTSUPP | Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(errno),
        };
        tree::walk(self.dir(), enter, |_, _| Ok(()))
            .map_err(failed("read", || format!("walk {}", self.path.display())))?;
        pids.retain(|pid| *pid > 0);
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Kills everything in it and below, frozen or not, as one step of the kernel's. One that is gone is fine.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        match tree::write(self.dir(), c"cgroup.kill", "1") {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            // A threaded cgroup can't be killed as a whole.
            Err(Errno::EOPNOTSUPP) => self.signal_frozen(SIGKILL),
            other => {
                let what = || self.object("write \"1\" to", c"cgroup.kill");
                Ok(other.map_err(failed("write", what))?)
            }
        }
    }

    /// Sends a signal to every process in it and below. A cgroup that was frozen before stays so.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<(), Error> {
        if signal == SIGKILL {
            self.kill()
        } else {
            self.signal_frozen(signal)
        }
    }

    /// They are frozen meanwhile, so that none escapes by forking.
    fn signal_frozen(&self, signal: i32) -> Result<(), Error> {
        // Not what cgroup.events says: a process that is ending makes it look thawed.
        match tree::read(self.dir(), c"cgroup.freeze") {
            Ok(frozen) if frozen.trim() == "1" => return self.signal_each(signal),
            Ok(_) => {}
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
            Err(errno) => {
                return Err(failed("read", || self.object("read", c"cgroup.freeze"))(errno).into());
            }
        }
        self.freeze()?;
        let sent = self.signal_each(signal);
        let thawed = self.write(c"cgroup.freeze", "0");
        sent.and(thawed)
    }

    /// A process that can't be signalled does not keep the others from it; the first error is the answer.
    fn signal_each(&self, signal: i32) -> Result<(), Error> {
        let mut result = Ok(());
        for pid in self.pids()? {
            let sent = clone::pidfd_open(pid)
                .and_then(|pidfd| clone::pidfd_send_signal(pidfd.as_fd(), signal));
            match sent {
                // ESRCH: it has ended. ENOENT, EINVAL: by pidfd_open of a thread that is no leader.
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

    /// Removes it if there is neither a process nor a cgroup in it; false if it is there still, whatever the reason.
    pub(crate) fn remove_unused(&self) -> bool {
        let name = path::c_path(self.path.as_os_str());
        name.is_ok_and(|name| tree::remove(AT_FDCWD, &name).is_ok())
    }

    /// Removes it and all nested ones, waiting at most `timeout` for processes that are ending; kills nothing. One that is
    /// gone already is fine.
    pub(crate) fn delete(&self, timeout: Duration) -> Result<(), Error> {
        let removing = || format!("remove cgroup {}", self.path.display());
        let name = path::c_path(self.path.as_os_str()).map_err(failed("rmdir", removing))?;
        let deadline = Instant::now() + timeout;
        let mut tries = 0;
        loop {
            match tree::remove(AT_FDCWD, &name) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                // A read-only mount says so before it looks whether the name exists.
                Err(Errno::EROFS) if !tree::exists(AT_FDCWD, &name) => return Ok(()),
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(failed("rmdir", removing)(errno).into()),
            }
            tries += 1;
            if !self.wait_empty(tries > 1, deadline)? {
                return Err(Error::Busy {
                    path: self.path.clone(),
                    holders: self.holders(),
                });
            }
            let leave = |parent: BorrowedFd<'_>, name: &CStr| match tree::remove(parent, name) {
                // Taken again, or made anew below: the next round sees to it.
                Ok(()) | Err(Errno::ENOENT | Errno::EBUSY) => Ok(()),
                Err(errno) => Err(errno),
            };
            match tree::walk(self.dir(), |_| Ok(()), leave) {
                Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => {
                    let what = || format!("remove the cgroups below {}", self.path.display());
                    return Err(failed("rmdir", what)(errno).into());
                }
            }
        }
    }

    /// Waits until no process is left; false if the deadline passes, or has passed when trying `again`.
    fn wait_empty(&self, again: bool, deadline: Instant) -> Result<bool, Error> {
        let empty =
            tree::wait(self.dir(), |events| !events.populated, deadline).and_then(|empty| {
                if again && empty {
                    let pause = deadline.min(Instant::now() + PAUSE);
                    tree::wait(self.dir(), |_| false, pause)?;
                    return Ok(Instant::now() < deadline);
                }
                Ok(empty)
            });
        match empty {
            Err(Errno::ENODEV | Errno::ENOENT) => Ok(true),
            other => {
                Ok(other.map_err(failed("poll", || self.object("wait for", c"cgroup.events")))?)
            }
        }
    }

    /// Who is in it, for messages: `process 12 (sleep), process 13 (sh)`.
    pub(super) fn holders(&self) -> String {
        let pids = self.pids().unwrap_or_default();
        let mut text = String::new();
        for pid in pids.iter().take(5) {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let comma = if text.is_empty() { "" } else { ", " };
            let comm = comm.trim().escape_debug();
            let _ = write!(text, "{comma}process {pid} ({comm})");
        }
        match pids.len() {
            0 => "no process that can be seen from here".into(),
            more @ 6.. => format!("{text} and {} more", more - 5),
            _ => text,
        }
    }
}
