//! The cgroup of a container that is being brought up: who makes it when, and how it goes again if the rest fails.
//! Not what is in it: that is `cgroup`.

use std::os::fd::BorrowedFd;

use super::exec::takes_no_processes;
use super::init::Request;
use super::{DEADLINE, Error, explained};
use crate::cgroup::systemd::{Scope, Systemd, scope_cgroup};
use crate::cgroup::{Cgroup, Limits, Place};
use crate::error::{Failed, failed};
use crate::invocation::Rootless;
use crate::plan::host::Host;
use crate::protocol::{self, Message};

/// Where the container's processes live.
pub(super) enum Home<'a> {
    /// In a cgroup that was made for them.
    Made(Cgroup),
    /// In a scope, which systemd makes around the first of them.
    Scope(Coming<'a>),
    /// Where the caller is.
    Shared,
}

/// A scope on its way.
pub(super) struct Coming<'a> {
    scope: &'a Scope,
    systemd: Systemd,
    /// The unit is ours.
    started: bool,
    cgroup: Option<Cgroup>,
}

impl<'a> Home<'a> {
    /// Makes what has to be there before the first process is. systemd is only spoken to: if it doesn't listen, nothing was begun.
    pub(super) fn prepare(
        request: &Request<'a>,
        notes: &mut Vec<String>,
    ) -> Result<Home<'a>, Error> {
        match request.place {
            Place::Path(below) => {
                let (host, hierarchy) = (request.host, &request.host.hierarchy);
                let own = is_rootless(host).then_some(&*host.own_cgroup);
                let cgroup = match Cgroup::create(hierarchy, below, request.limits, own) {
                    Err(error) if error.is_denied() && may_lack(request) => {
                        notes.push(format!("done without a cgroup: {error}"));
                        request.dir.renounce_cgroup()?;
                        return Ok(Home::Shared);
                    }
                    other => other.map_err(|error| {
                        // A cgroup takes memory itself, of those above.
                        let above = Cgroup::above(&hierarchy.mount.join(below));
                        explained(error.into(), None, above.as_ref(), None)
                    })?,
                };
                let given = delegate(&cgroup, request);
                let home = Home::Made(cgroup);
                match given.and_then(|()| Ok(request.dir.own_cgroup()?)) {
                    Ok(()) => Ok(home),
                    Err(error) => {
                        home.undo();
                        Err(error)
                    }
                }
            }
            Place::Scope(scope) => {
                let systemd = Systemd::connect(&scope.unit);
                let mut systemd = systemd.map_err(crate::cgroup::Error::from)?;
                systemd.refuse_in_use(scope, &request.host.hierarchy)?;
                Ok(Home::Scope(Coming {
                    scope,
                    systemd,
                    started: false,
                    cgroup: None,
                }))
            }
            Place::Nowhere => Ok(Home::Shared),
        }
    }

    /// Rules the access to devices. Who may not set a rule is in a user namespace, where nobody makes a device.
    pub(super) fn apply_devices(
        &self,
        request: &Request<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(cgroup) = self.cgroup() else {
            return Ok(());
        };
        match cgroup.apply_devices(request.limits) {
            Err(error) if error.is_denied() && is_rootless(request.host) => {
                notes.push(format!("done without rules for devices: {error}"));
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// The cgroup, once it is there.
    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Home::Made(cgroup) => Some(cgroup),
            Home::Scope(coming) => coming.cgroup.as_ref(),
            Home::Shared => None,
        }
    }

    /// Its number, once it is there.
    pub(super) fn cgroup_id(&self) -> Result<Option<u64>, Error> {
        Ok(self.cgroup().map(Cgroup::id).transpose()?)
    }

    /// What the first process is cloned into; `None`: the caller's own.
    pub(super) fn for_clone(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup().map(Cgroup::dir)
    }

    /// Has the first process, which was cloned elsewhere, moved to where it belongs; answers with the limits that are to be set
    /// there, or `None` if it was there from the start.
    pub(super) fn settle(
        &mut self,
        request: &Request<'_>,
        pid: i32,
    ) -> Result<Option<Limits>, Error> {
        let Home::Scope(coming) = self else {
            return Ok(None);
        };
        let limits = coming
            .systemd
            .start(coming.scope, request.limits, pid)
            .map_err(crate::cgroup::Error::from)?;
        coming.started = true;
        let what = || format!("read /proc/{pid}/cgroup");
        let text = request.host.proc.read(&format!("{pid}/cgroup"));
        let text = text.map_err(failed("read", what))?;
        let hierarchy = &request.host.hierarchy;
        let cgroup = scope_cgroup(hierarchy, &text, pid, &coming.scope.unit)?;
        if let Err(error) = cgroup.refuse_others(pid) {
            // The unit is theirs as well: it goes with the last of them.
            coming.started = false;
            return Err(error.into());
        }
        coming.cgroup = Some(cgroup);
        Ok(Some(limits))
    }

    /// Sets the limits of a cgroup into which the first process was moved, and lets it go on. By now the record can tell this
    /// cgroup from a later one at the same path.
    pub(super) fn furnish(
        &self,
        request: &Request<'_>,
        limits: &Limits,
        link: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let Some(cgroup) = self.cgroup() else {
            return Ok(());
        };
        request.dir.own_cgroup_at(cgroup.path())?;
        cgroup.take_over(&request.host.hierarchy, limits)?;
        delegate(cgroup, request)?;
        protocol::send(link, &Message::CgroupJoined)
            .map_err(|_| Error::Died("gone".into(), String::new()))
    }

    /// Ends what is in it and takes it away. An error on the way is not told: there is one already.
    pub(super) fn undo(mut self) {
        if let Some(cgroup) = self.cgroup() {
            let _ = cgroup.kill();
        }
        if let Home::Scope(coming) = &mut self
            && coming.started
        {
            let _ = coming.systemd.stop();
        }
        if let Some(cgroup) = self.cgroup() {
            let _ = cgroup.delete(DEADLINE);
        }
    }
}

/// Names the cgroup and what has asked for it, if an error is that the kernel lets no process into it: a user may not, it is
/// gone, it has controllers enabled for cgroups below it, or it is part of a threaded tree.
pub(crate) fn naming(error: Error, cgroup: Option<&Cgroup>, place: &str) -> Error {
    match (error, cgroup) {
        (Error::Failed(failed), Some(cgroup))
            if failed.call == "clone3" && takes_no_processes(failed.errno) =>
        {
            let path = cgroup.path().display();
            let what = format!("start a process in cgroup {path} ({place})");
            Error::Failed(Failed { what, ..failed })
        }
        (error, _) => error,
    }
}

/// Gives the cgroup to the user who is to have it, if it is not his by having been made.
fn delegate(cgroup: &Cgroup, request: &Request<'_>) -> Result<(), Error> {
    match request.plan.cgroup_owner {
        Some(uid) if uid != super::owner() => Ok(cgroup.delegate(uid)?),
        _ => Ok(()),
    }
}

/// True if a container may do without a cgroup.
fn may_lack(request: &Request<'_>) -> bool {
    match request.rootless {
        None | Some(Rootless::No) => false,
        Some(Rootless::Yes) => true,
        Some(Rootless::Auto) => is_rootless(request.host),
    }
}

fn is_rootless(host: &Host) -> bool {
    host.is_unprivileged() || host.is_in_user_namespace()
}
