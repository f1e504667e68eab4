//! Sets the seccomp filter of this process. `exec` decides at which step this happens.

use std::os::fd::{AsFd, OwnedFd};

use caps::Capability;

use super::StepResult;
use crate::error::{Failed, failed};
use crate::origin::config;
use crate::plan::process::Process;
use crate::plan::seccomp::SeccompFilter;
use crate::protocol::{FILTERING_NAME, Message, send};
use crate::sys::{Errno, process, seccomp};

/// Returns the capability that must stay permitted until the filter is set. This is CAP_SYS_ADMIN
/// if there is a filter and no_new_privs isn't set, otherwise none.
///
/// The filter could be set earlier, with all capabilities. But then a profile would have to allow
/// all later steps, including system calls that are newer than many profiles. A late filter must
/// allow only capset and execve.
pub(super) fn capability_for_filter(plan: &Process) -> u64 {
    let needed = plan.seccomp.is_some() && !plan.no_new_privs;
    if needed {
        Capability::CAP_SYS_ADMIN.bitmask()
    } else {
        0
    }
}

/// Sets the seccomp filter of this process. Sends the filter's listener, if it has one, to the
/// parent.
pub(super) fn set_filter(plan: &Process, filter: &SeccompFilter, link: &OwnedFd) -> StepResult {
    process::set_name(FILTERING_NAME).map_err(failed("prctl", || {
        "rename the process before it sets its filter".into()
    }))?;
    let hand_on = |listener| send(link.as_fd(), &Message::Listener(listener));
    install_filter(plan, filter, hand_on).map_err(|(call, errno)| {
        let what = match (call, filter.flags & seccomp::FILTER_FLAG_WAIT_KILLABLE_RECV) {
            ("sendmsg", _) => config("linux.seccomp").asks_to("pass on the seccomp listener"),
            // A kernel before 5.19 returns EINVAL. The filter isn't set without the flag, because
            // signals would then interrupt the agent's work.
            ("seccomp", flag) if flag != 0 => config("linux.seccomp.flags").asks_to(
                "set a filter with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which requires Linux 5.19",
            ),
            _ => config("linux.seccomp").asks_to("set the seccomp filter"),
        };
        Failed::new(what, call, errno)
    })
}

/// Sets the filter of this process, and passes its listener to `hand_on`. An error names the call
/// that failed.
pub(super) fn install_filter(
    plan: &Process,
    filter: &SeccompFilter,
    hand_on: impl FnOnce(OwnedFd) -> Result<(), Errno>,
) -> Result<(), (&'static str, Errno)> {
    let (caps, extra) = (plan.caps, capability_for_filter(plan));
    let at = |call| move |errno| (call, errno);
    let temporary =
        (caps.effective | extra, caps.permitted | extra) != (caps.effective, caps.permitted);
    if temporary {
        process::capset(
            caps.effective | extra,
            caps.permitted | extra,
            caps.inheritable,
        )
        .map_err(at("capset"))?;
    }
    // Send the listener at once, because the agent may have to answer each later system call.
    if let Some(listener) =
        seccomp::set_filter(&filter.program, filter.flags).map_err(at("seccomp"))?
    {
        hand_on(listener).map_err(at("sendmsg"))?;
    }
    if temporary {
        process::capset(caps.effective, caps.permitted, caps.inheritable).map_err(at("capset"))?;
    }
    Ok(())
}
