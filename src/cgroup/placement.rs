//! Puts a container's first process into its cgroup while the container is being created, and
//! undoes this on failure.
//! The cgroup itself is handled in `cgroup`, and later commands use `driver`.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::systemd::{Scope, SystemdClient, open_scope_cgroup};
use super::{Cgroup, Driver, Error, Hierarchy, Limits};
use crate::error::failed;
use crate::sys::procfs::Procfs;

/// Where a container's first process is placed.
pub(crate) enum Placement<'a> {
    /// The process is cloned into a cgroup that was made for it.
    Cgroup(Cgroup),
    /// systemd makes a scope around the process after the clone.
    PendingScope(PendingScope<'a>),
    /// The process stays in the caller's cgroup.
    CallersCgroup,
}

/// A scope that systemd has not made yet.
pub(crate) struct PendingScope<'a> {
    scope: &'a Scope,
    systemd: SystemdClient<'a>,
    /// True once systemd has made the unit for this container.
    started: bool,
    cgroup: Option<Cgroup>,
}

impl Driver {
    /// Makes the cgroup before the first process exists. With systemd, only connects to it, so that
    /// nothing has to be undone if systemd doesn't reply. `own` is the text of /proc/self/cgroup if
    /// the kernel restricts the cgroups that the caller's processes can enter.
    pub(crate) fn prepare_cgroup(
        &self,
        hierarchy: &Hierarchy,
        limits: &Limits,
        own: Option<&str>,
    ) -> Result<Placement<'_>, Error> {
        match self {
            Driver::Cgroupfs(below) => {
                let cgroup = Cgroup::create(hierarchy, below, limits, own)?;
                Ok(Placement::Cgroup(cgroup))
            }
            Driver::Systemd(scope) => {
                let mut systemd = SystemdClient::connect(scope)?;
                systemd.refuse_in_use(hierarchy)?;
                Ok(Placement::PendingScope(PendingScope {
                    scope,
                    systemd,
                    started: false,
                    cgroup: None,
                }))
            }
            Driver::Disabled => Ok(Placement::CallersCgroup),
        }
    }
}

impl Placement<'_> {
    /// The cgroup, once it exists.
    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Placement::Cgroup(cgroup) => Some(cgroup),
            Placement::PendingScope(pending) => pending.cgroup.as_ref(),
            Placement::CallersCgroup => None,
        }
    }

    /// The id of the cgroup, once it exists.
    pub(crate) fn cgroup_id(&self) -> Result<Option<u64>, Error> {
        self.cgroup().map(Cgroup::id).transpose()
    }

    /// The cgroup to clone the first process into; `None` for the caller's cgroup.
    pub(crate) fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup().map(Cgroup::dir_fd)
    }

    /// Asks systemd to move the first process from the caller's cgroup into its scope. Returns the
    /// limits to set there, or `None` if the process was cloned directly into its cgroup.
    pub(crate) fn move_into_scope(
        &mut self,
        hierarchy: &Hierarchy,
        limits: &Limits,
        proc: &Procfs,
        pid: i32,
    ) -> Result<Option<Limits>, Error> {
        let Placement::PendingScope(pending) = self else {
            return Ok(None);
        };
        let limits = pending.systemd.start_scope(limits, pid)?;
        pending.started = true;
        let text = proc
            .read(&format!("{pid}/cgroup"))
            .map_err(failed("read", || format!("read /proc/{pid}/cgroup")))?;
        let cgroup = open_scope_cgroup(hierarchy, &text, pid, pending.scope)?;
        if let Err(error) = cgroup.refuse_other_processes(pid) {
            // The unit also holds processes of others, so it must not be stopped. It stops with the
            // last of its processes.
            pending.started = false;
            return Err(error);
        }
        pending.cgroup = Some(cgroup);
        Ok(Some(limits))
    }

    /// Kills all processes in the cgroup and removes it. Ignores errors, because the caller reports
    /// an earlier error.
    pub(crate) fn undo_placement(mut self, timeout: Duration) {
        if let Some(cgroup) = self.cgroup() {
            let _ = cgroup.kill_all();
        }
        if let Placement::PendingScope(pending) = &mut self
            && pending.started
        {
            let _ = pending.systemd.stop_unit();
        }
        if let Some(cgroup) = self.cgroup() {
            let _ = cgroup.delete_tree(timeout);
        }
    }
}
