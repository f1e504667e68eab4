//! The identity of the process: ids, groups, capabilities, no_new_privs, working directory, umask.
//! The kernel dictates the order: bounding set and groups require privileges that the id change
//! takes away.

use std::os::fd::OwnedFd;

use caps::Capability;

use super::{StepResult, add_detail_for, die_with_parent, filter};
use crate::error::{Failed, failed};
use crate::origin::config;
use crate::plan::process::Process;
use crate::sys::{Errno, path, process, weakened};

/// Gives this process the identity of the plan.
pub(super) fn take_identity(plan: &Process, link: &OwnedFd) -> StepResult {
    process::give_standard_fds(plan.uid).map_err(failed("fchown", || {
        "give standard input and output to the user".into()
    }))?;
    process::drop_bounding_set(plan.caps.bounding).map_err(failed("prctl", || {
        config("process.capabilities.bounding").asks_to("drop capabilities")
    }))?;
    process::set_keepcaps(true).map_err(failed("prctl", || {
        "keep capabilities when the user changes".into()
    }))?;
    // First try as the caller, who may enter directories that the user may not enter. `enter_cwd`
    // retries as the user, who may enter directories that the caller may not enter (NFS).
    let early = nix::unistd::chdir(plan.cwd.as_c_str());
    if !plan.keeps_groups {
        set_planned_groups(plan)?;
    }
    process::setresgid(plan.gid)
        .map_err(failed("setresgid", || {
            plan.origins
                .gid
                .asks_to(format!("become group {}", plan.gid))
        }))
        .map_err(|failure| add_detail_for(failure, Errno::EINVAL, UNMAPPED_ID_HINT))?;
    process::setresuid(plan.uid)
        .map_err(failed("setresuid", || {
            plan.origins
                .uid
                .asks_to(format!("become user {}", plan.uid))
        }))
        .map_err(|failure| add_detail_for(failure, Errno::EINVAL, UNMAPPED_ID_HINT))?;
    // setresuid has cleared the parent death signal, and may have made this process dumpable.
    die_with_parent(link)?;
    process::set_dumpable(false)
        .map_err(failed("prctl", || "make the process undumpable".into()))?;
    enter_cwd(plan, early)?;
    let caps = plan.caps;
    // A later step needs a capability to set the filter. Keep it permitted, but not effective.
    let permitted = caps.permitted | filter::capability_for_filter(plan);
    let inheritable = match weakened::lacks("inheritable") {
        true => caps.permitted,
        false => caps.inheritable,
    };
    process::capset(caps.effective, permitted, inheritable).map_err(failed("capset", || {
        config("process.capabilities").asks_to("set the capabilities")
    }))?;
    process::set_ambient(caps.ambient).map_err(failed("prctl", || {
        config("process.capabilities.ambient").asks_to("set the ambient capabilities")
    }))?;
    if plan.no_new_privs {
        process::set_no_new_privs().map_err(failed("prctl", || {
            config("process.noNewPrivileges").asks_to("set no_new_privs")
        }))?;
    }
    process::umask(plan.umask);
    Ok(())
}

/// The explanation of EINVAL for an id.
pub(super) const UNMAPPED_ID_HINT: &str = "the user namespace does not map it";

/// Sets the groups of the plan.
fn set_planned_groups(plan: &Process) -> StepResult {
    let set = set_groups(&plan.groups).map_err(failed("setgroups", || {
        plan.origins
            .groups
            .asks_to(format!("set the groups {:?}", plan.groups))
    }));
    set.map_err(|failure| {
        add_detail_for(failure, Errno::EPERM, "the user namespace denies setgroups")
    })
    .map_err(|failure| add_detail_for(failure, Errno::EINVAL, UNMAPPED_ID_HINT))
}

/// Replaces the supplementary groups. Where the user namespace denies setgroups(2), an empty list
/// is no error, because the process has no groups.
pub(super) fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    match process::setgroups(groups) {
        // With CAP_SETGID, EPERM can only mean that the user namespace denies setgroups.
        Err(Errno::EPERM)
            if groups.is_empty() && process::has_effective(Capability::CAP_SETGID) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Enters the working directory, unless the `early` attempt succeeded. The directory must lie
/// inside the root (CVE-2024-21626).
fn enter_cwd(plan: &Process, early: Result<(), Errno>) -> StepResult {
    let what = || {
        format!(
            "change to the working directory {} ({})",
            path::as_path(&plan.cwd).display(),
            plan.origins.cwd
        )
    };
    match early {
        Ok(()) => {}
        Err(Errno::EACCES) => {
            nix::unistd::chdir(plan.cwd.as_c_str()).map_err(failed("chdir", what))?
        }
        Err(errno) => return Err(Failed::new(what(), "chdir", errno)),
    }
    match path::getcwd() {
        Ok(Some(_)) => Ok(()),
        Ok(None) if weakened::lacks("cwd") => Ok(()),
        Ok(None) => Err(Failed::from_sentence(format!(
            "{}: it lies outside the container's root",
            what()
        ))),
        Err(errno) => Err(Failed::new(what(), "getcwd", errno)),
    }
}
