//! The cgroup driver of a container: this program (cgroupfs), systemd, or none. The plan and the
//! record hold the same value.
//! The steps during the creation of a container are in `placement`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::systemd::{self, Scope, SystemdClient};
use super::{Cgroup, Error, Limits, plan_limits, plan_path};
use crate::error::Violation;
use crate::invocation::CgroupDriver;

/// The way a container gets its cgroup, and the data that later commands need for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Driver {
    /// This program makes the cgroup, at this path below the cgroup2 mount. The path is not in the
    /// record. A symbolic link in the state directory holds it, so that a damaged record doesn't
    /// lose it.
    Cgroupfs(#[serde(skip)] PathBuf),
    /// systemd makes the cgroup together with a scope.
    Systemd(Scope),
    /// The container has no cgroup of its own. Each process stays in the cgroup of its caller.
    Disabled,
}

impl Default for Driver {
    /// Returns the driver for a record without a driver. Such a record was written before there was
    /// a choice of drivers.
    fn default() -> Driver {
        Driver::Cgroupfs(PathBuf::new())
    }
}

impl Driver {
    /// True if init is cloned into the caller's cgroup and moved afterwards.
    pub(crate) fn moves_init(&self) -> bool {
        matches!(self, Driver::Systemd(_))
    }

    /// True if the container has no cgroup.
    pub(crate) fn is_disabled(&self) -> bool {
        matches!(self, Driver::Disabled)
    }

    /// Returns the path below the cgroup2 mount, if it is known before the cgroup is made. systemd
    /// chooses its paths itself.
    pub(crate) fn planned_path(&self) -> Option<&Path> {
        match self {
            Driver::Cgroupfs(below) => Some(below),
            Driver::Systemd(_) | Driver::Disabled => None,
        }
    }

    /// Sets new limits in the container's cgroup, and new device rules if `devices` is true. Either
    /// all of them are set or none.
    pub(crate) fn update_limits(
        &self,
        cgroup: &Cgroup,
        limits: &Limits,
        devices: bool,
    ) -> Result<(), Error> {
        match self {
            Driver::Cgroupfs(_) | Driver::Disabled => cgroup.update_limits(limits, devices),
            Driver::Systemd(scope) => {
                SystemdClient::connect(scope)?.update_limits(cgroup, limits, devices)
            }
        }
    }

    /// True if `attach_process` has an effect. It has one only with systemd, which may move a
    /// process even where the caller may not.
    pub(crate) fn can_attach(&self) -> bool {
        matches!(self, Driver::Systemd(_))
    }

    /// Asks systemd to move a process into the container's cgroup, or into the nested cgroup at
    /// `below`. Does nothing with the other drivers.
    pub(crate) fn attach_process(&self, pid: i32, below: &str) -> Result<(), Error> {
        match self {
            Driver::Systemd(scope) => {
                Ok(SystemdClient::connect(scope)?.attach_process(pid, below)?)
            }
            Driver::Cgroupfs(_) | Driver::Disabled => Ok(()),
        }
    }

    /// Removes the container's cgroup and kills all remaining processes in it. The cgroup is
    /// identified by its path on the host and its id. A different cgroup at this path is not
    /// touched.
    pub(crate) fn remove_cgroup(
        &self,
        path: &Path,
        id: Option<u64>,
        timeout: Duration,
    ) -> Result<(), Error> {
        let cgroup = match Cgroup::open(path)? {
            // The cgroup belongs to somebody else, and so does any unit of the same name.
            Some(cgroup) if !cgroup.has_id(id)? => return Ok(()),
            cgroup => cgroup,
        };
        match (self, &cgroup) {
            // In nearly all cases the cgroup is empty, so this step is enough.
            (Driver::Cgroupfs(_), Some(cgroup)) if cgroup.remove_unused() => return Ok(()),
            (_, Some(cgroup)) if cgroup.is_populated()? => cgroup.kill_all()?,
            _ => {}
        }
        if let Driver::Systemd(scope) = self {
            stop_scope(scope, cgroup.as_ref())?;
        }
        cgroup.map_or(Ok(()), |cgroup| cgroup.delete_tree(timeout))
    }
}

/// Removes the cgroup of a create command that was killed. That command may have been killed before
/// it made the cgroup. So a cgroup with processes belongs to somebody else and is kept.
pub(crate) fn remove_claimed(path: &Path, timeout: Duration) -> Result<(), Error> {
    match Cgroup::open(path)? {
        Some(cgroup) if cgroup.refuse_in_use().is_ok() => cgroup.delete_tree(timeout),
        _ => Ok(()),
    }
}

/// Asks systemd to stop a unit if the unit still has the container's cgroup. If the cgroup is gone,
/// the unit has already stopped, and systemd only has to forget the unit if it failed. This doesn't
/// affect a running unit of the same name.
fn stop_scope(scope: &Scope, cgroup: Option<&Cgroup>) -> Result<(), Error> {
    let mut systemd = SystemdClient::connect(scope)?;
    match cgroup {
        Some(cgroup) if systemd.owns_cgroup(cgroup)? => systemd.stop_unit()?,
        Some(_) => {}
        None => systemd.forget_unit()?,
    }
    Ok(())
}

/// Plans the limits and the driver, or returns all violations. `own` is the text of
/// /proc/self/cgroup.
pub(crate) fn plan_driver(
    asked: CgroupDriver,
    spec: &Spec,
    id: &str,
    own: &str,
) -> Result<(Limits, Driver), Vec<Violation>> {
    let mut violations = Vec::new();
    let linux = spec.linux().as_ref();
    let annotations = spec.annotations().as_ref();
    let limits = plan_limits(linux.and_then(|linux| linux.resources().as_ref()))
        .map_err(|found| violations.extend(found));
    let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let driver = match asked {
        CgroupDriver::Cgroupfs => plan_path(cgroups_path, id, own)
            .map(Driver::Cgroupfs)
            .map_err(|found| violations.push(found)),
        CgroupDriver::Systemd => systemd::plan_scope(cgroups_path, id, annotations)
            .map(Driver::Systemd)
            .map_err(|found| violations.extend(found)),
        CgroupDriver::Disabled => Ok(Driver::Disabled),
    };
    if let (Ok(limits), Ok(Driver::Disabled)) = (&limits, &driver) {
        violations.extend(refuse_limits_without_cgroup(limits));
    }
    match (limits, driver) {
        (Ok(limits), Ok(driver)) if violations.is_empty() => Ok((limits, driver)),
        _ => Err(violations),
    }
}

/// True if the configuration specifies the cgroup's path or sets a limit.
pub(crate) fn requires_cgroup(spec: &Spec, limits: &Limits) -> bool {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
    path.is_some_and(|path| !path.as_os_str().is_empty())
        || limits.files.iter().any(|limit| !limit.no_limit)
}

/// Refuses limits that need a cgroup. Device rules are accepted, because every configuration has
/// device rules.
fn refuse_limits_without_cgroup(limits: &Limits) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for limit in limits.files.iter().filter(|limit| !limit.no_limit) {
        if violations
            .last()
            .is_none_or(|last| last.origin != limit.origin)
        {
            violations.push(Violation::at(
                limit.origin.clone(),
                "needs a cgroup, and --cgroup-manager disabled makes none",
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_keeps_what_later_commands_need() {
        let planned = systemd::plan_scope(Some(Path::new("a.slice:b:c")), "box", None).unwrap();
        for (driver, text) in [
            (Driver::Cgroupfs("a/b".into()), r#""cgroupfs""#),
            (
                Driver::Systemd(planned),
                r#"{"systemd":{"name":"b-c.scope","user":false}}"#,
            ),
            (Driver::Disabled, r#""disabled""#),
        ] {
            assert_eq!(serde_json::to_string(&driver).unwrap(), text);
            let read: Driver = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
            assert_eq!(read.moves_init(), driver.moves_init());
            assert_eq!(read.is_disabled(), driver.is_disabled());
        }
    }
}
