//! Parent: makes the cgroup of a container during its creation, and records the cgroup as the
//! container's own.
//! `cgroup` decides how the cgroup is made.

use super::exec::takes_no_processes;
use super::init::CreateRequest;
use super::{DEADLINE, Error, explained};
use crate::cgroup::{Cgroup, Driver, Placement};
use crate::error::Failed;
use crate::invocation::RootlessMode;
use crate::origin::Origin;
use crate::plan::host::Host;
use crate::state::record::Record;

/// Makes the part of the cgroup that must exist before init. If the container may run without a
/// cgroup and gets none, returns a note with the reason.
pub(super) fn prepare_cgroup<'a>(
    request: &CreateRequest<'a>,
    record: &mut Record,
) -> Result<(Placement<'a>, Option<String>), Error> {
    let (driver, host) = (&request.plan.driver, request.host);
    let below = driver.planned_path();
    let own = below.filter(|_| is_rootless(host));
    let own = own.map(|_| &*host.own_cgroup);
    let placement = match driver.prepare_cgroup(&host.hierarchy, &request.plan.limits, own) {
        Err(error) if below.is_some() && error.is_denied() && may_run_without_cgroup(request) => {
            request.dir.remove_cgroup_claim()?;
            record.cgroup = Driver::Disabled;
            let note = format!("the container runs without a cgroup: {error}");
            return Ok((Placement::CallersCgroup, Some(note)));
        }
        other => other.map_err(|error| {
            // A new cgroup itself needs memory, which is charged to the cgroups above it.
            let above =
                below.and_then(|below| Cgroup::nearest_existing(&host.hierarchy.mount.join(below)));
            explained(error.into(), None, above.as_ref(), None)
        })?,
    };
    let owned = match placement.cgroup() {
        Some(cgroup) => {
            delegate_cgroup(cgroup, request).and_then(|()| Ok(request.dir.record_cgroup()?))
        }
        None => Ok(()),
    };
    match owned {
        Ok(()) => Ok((placement, None)),
        Err(error) => {
            placement.undo_placement(DEADLINE);
            Err(error)
        }
    }
}

/// Moves the waiting init from the caller's cgroup into its systemd scope, and sets the limits of
/// the scope. Returns true if init was moved. Does nothing if init was cloned into its cgroup.
pub(super) fn move_init_into_scope(
    request: &CreateRequest<'_>,
    record: &mut Record,
    placement: &mut Placement<'_>,
    pid: i32,
) -> Result<bool, Error> {
    let (host, dir) = (request.host, request.dir);
    let settled =
        placement.move_into_scope(&host.hierarchy, &request.plan.limits, &host.proc, pid)?;
    let (Some(limits), Some(cgroup)) = (settled, placement.cgroup()) else {
        return Ok(false);
    };
    // Record the id first. It distinguishes this cgroup from a later one at the same path.
    record.cgroup_id = Some(cgroup.id()?);
    dir.write_unfinished_record(record)?;
    dir.record_cgroup_at(cgroup.path())?;
    cgroup.take_over(&host.hierarchy, &limits)?;
    delegate_cgroup(cgroup, request)?;
    Ok(true)
}

/// Sets the device rules. A caller who may not set them is in a user namespace, where nobody can
/// make a device. In that case, returns a note instead of an error.
pub(super) fn set_device_rules(
    request: &CreateRequest<'_>,
    placement: &Placement<'_>,
) -> Result<Option<String>, Error> {
    let Some(cgroup) = placement.cgroup() else {
        return Ok(None);
    };
    match cgroup.set_device_rules(&request.plan.limits) {
        Err(error) if error.is_denied() && is_rootless(request.host) => {
            Ok(Some(format!("the device rules are not set: {error}")))
        }
        other => Ok(other.map(|()| None)?),
    }
}

/// Adds the cgroup, and the setting that asks for it, to the error of a clone that failed because
/// of the cgroup: the user may not use it, it is gone, it has controllers enabled for cgroups below
/// it, or it is part of a threaded tree.
pub(crate) fn name_cgroup_in_error(error: Error, cgroup: Option<&Cgroup>, asked: &Origin) -> Error {
    match (error, cgroup) {
        (Error::Failed(failed), Some(cgroup))
            if failed.call == "clone3" && takes_no_processes(failed.errno) =>
        {
            let path = cgroup.path().display();
            let what = asked.asks_to(format!("start a process in cgroup {path}"));
            Error::Failed(Failed {
                what: what.into(),
                ..failed
            })
        }
        (error, _) => error,
    }
}

/// Makes the planned user the owner of the cgroup. Does nothing if that user is the caller, who has
/// made the cgroup.
fn delegate_cgroup(cgroup: &Cgroup, request: &CreateRequest<'_>) -> Result<(), Error> {
    match request.plan.cgroup_owner {
        Some(uid) if uid != super::owner() => Ok(cgroup.delegate_to(uid)?),
        _ => Ok(()),
    }
}

/// True if the container may run without a cgroup.
fn may_run_without_cgroup(request: &CreateRequest<'_>) -> bool {
    match request.plan.rootless {
        None | Some(RootlessMode::No) => false,
        Some(RootlessMode::Yes) => true,
        Some(RootlessMode::Auto) => is_rootless(request.host),
    }
}

fn is_rootless(host: &Host) -> bool {
    host.is_unprivileged() || host.is_in_user_namespace()
}
