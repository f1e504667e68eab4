//! How the child is scheduled, set by its parent: the child has dropped what the kernel asks for (CAP_SYS_NICE).
//! What of it the child must do itself is in `child`.

use super::Error;
use crate::error::failed;
use crate::plan::process::Process;
use crate::sys::{Errno, sched};

/// Sets all that the plan says of the process `pid`.
pub(super) fn set(plan: &Process, pid: i32) -> Result<(), Error> {
    if let Some(scheduler) = &plan.scheduler {
        let place = "process.scheduler";
        sched::set_scheduler(pid, scheduler).map_err(|errno| {
            if errno == Errno::EPERM && scheduler.policy == sched::SCHED_DEADLINE {
                let why = "the kernel gives SCHED_DEADLINE to the privileged only, and to a process that may run on all CPUs: not together with linux.resources.cpu.cpus";
                Error::Unusable("set the scheduler".into(), place.into(), why.into())
            } else {
                let what = || format!("set the scheduler (config.json: {place})");
                failed("sched_setattr", what)(errno).into()
            }
        })?;
    }
    if let Some(priority) = plan.io_priority {
        let what = || "set the I/O priority (config.json: process.ioPriority)".to_owned();
        sched::set_io_priority(pid, priority.class, priority.level)
            .map_err(failed("ioprio_set", what))?;
    }
    Ok(())
}
