//! Who makes a container's cgroup: this program by itself, systemd, or nobody; and where it is to be.
//! Not how it is made: that is `cgroup` and `systemd`.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::systemd::{self, Scope, Systemd, Unit};
use super::{Cgroup, Error, Limits, plan_limits, plan_path};
use crate::error::Violation;
use crate::invocation::CgroupDriver;

/// What a container's record says of its cgroup, for later commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Driver {
    /// A directory of cgroupfs that this program made.
    #[default]
    Cgroupfs,
    /// A unit that systemd made and keeps.
    Systemd(Unit),
    /// There is none: its processes are where their callers were.
    Disabled,
}

impl Driver {
    /// Sets new limits, and with `devices` new device rules, in a container's cgroup: all of them or none.
    pub(crate) fn update(
        &self,
        cgroup: &Cgroup,
        limits: &Limits,
        devices: bool,
    ) -> Result<(), Error> {
        match self {
            Driver::Cgroupfs | Driver::Disabled => cgroup.update(limits, devices),
            Driver::Systemd(unit) => Systemd::connect(unit)?.update(cgroup, limits, devices),
        }
    }
}

/// Where a container's processes are to go.
#[derive(Debug, PartialEq)]
pub(crate) enum Place {
    /// A path below the cgroup2 mount.
    Path(PathBuf),
    /// A scope of systemd's.
    Scope(Scope),
    /// They stay where the caller is.
    Nowhere,
}

impl Place {
    /// What is written down of it.
    pub(crate) fn driver(&self) -> Driver {
        match self {
            Place::Path(_) => Driver::Cgroupfs,
            Place::Scope(scope) => Driver::Systemd(scope.unit.clone()),
            Place::Nowhere => Driver::Disabled,
        }
    }
}

/// Plans limits and place, or answers with every violation. `own` is the text of /proc/self/cgroup.
pub(crate) fn plan(
    driver: CgroupDriver,
    spec: &Spec,
    id: &str,
    own: &str,
) -> Result<(Limits, Place), Vec<Violation>> {
    let mut violations = Vec::new();
    let linux = spec.linux().as_ref();
    let annotations = spec.annotations().as_ref();
    let limits = plan_limits(linux.and_then(|linux| linux.resources().as_ref()))
        .map_err(|found| violations.extend(found));
    let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let place = match driver {
        CgroupDriver::Cgroupfs => plan_path(cgroups_path, id, own)
            .map(Place::Path)
            .map_err(|found| violations.push(found)),
        CgroupDriver::Systemd => systemd::plan(cgroups_path, id, annotations)
            .map(Place::Scope)
            .map_err(|found| violations.extend(found)),
        CgroupDriver::Disabled => Ok(Place::Nowhere),
    };
    if let (Ok(limits), Ok(Place::Nowhere)) = (&limits, &place) {
        violations.extend(without_cgroup(limits));
    }
    match (limits, place) {
        (Ok(limits), Ok(place)) if violations.is_empty() => Ok((limits, place)),
        _ => Err(violations),
    }
}

/// True if a configuration says where the cgroup is to be, or what its limits are.
pub(crate) fn is_asked_for(spec: &Spec, limits: &Limits) -> bool {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
    path.is_some_and(|path| !path.as_os_str().is_empty())
        || limits.files.iter().any(|limit| !limit.no_limit)
}

/// What of the limits needs a cgroup. The rules about devices are not among them: every configuration has some.
fn without_cgroup(limits: &Limits) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for limit in limits.files.iter().filter(|limit| !limit.no_limit) {
        if violations
            .last()
            .is_none_or(|last| last.place != limit.field())
        {
            violations.push(Violation::new(
                limit.field(),
                "needs a cgroup, and --cgroup-manager disabled makes none",
            ));
        }
    }
    violations
}
