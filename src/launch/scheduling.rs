//! Parent: sets CPUs, scheduler, I/O priority and OOM score of a process.
//! The child can't set them, because it has dropped the capabilities by then.

use super::Error;
use crate::error::failed;
use crate::origin::config;
use crate::plan::process::Process;
use crate::plan::scheduling::CpuAffinity;
use crate::sys::clone::Side;
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, path, sched};

/// Clones on the CPUs of process.execCPUAffinity.initial, which the child inherits.
pub(super) fn run_on_initial_cpus(
    plan: &Process,
    clone: impl FnOnce() -> Result<Side, Error>,
) -> Result<Side, Error> {
    let Some(affinity) = plan.affinity.as_ref().filter(|a| !a.initial.is_empty()) else {
        return clone();
    };
    let what = || config("process.execCPUAffinity.initial").asks_to("run on other CPUs");
    let own = sched::affinity().map_err(failed("sched_getaffinity", what))?;
    sched::set_affinity(0, &affinity.initial).map_err(failed("sched_setaffinity", what))?;
    let cloned = clone();
    if !matches!(cloned, Ok(Side::Child)) {
        // A failure to reset the CPUs is no error, because it concerns only this process.
        let _ = sched::set_affinity(0, &own);
    }
    cloned
}

/// Clones with process.oomScoreAdj, which the child inherits, if `inheriting` is true. This is for
/// a caller who can't set the score afterwards, because the /proc files of an undumpable child
/// belong to root.
pub(super) fn run_with_oom_score(
    plan: &Process,
    proc: &Procfs,
    inheriting: bool,
    clone: impl FnOnce() -> Result<Side, Error>,
) -> Result<Side, Error> {
    let Some(score) = plan.oom_score_adj.filter(|_| inheriting) else {
        return clone();
    };
    let what = || {
        let asked = config("process.oomScoreAdj").asks_to(format!("set oom_score_adj to {score}"));
        format!("{asked}, which without privileges can only be raised")
    };
    let name = format!("{}/oom_score_adj", std::process::id());
    let file = path::c_path(name.as_ref()).map_err(failed("open", what))?;
    let own = proc.read(&name).map_err(failed("read", what))?;
    proc.write(&file, score.to_string().as_bytes())
        .map_err(failed("write", what))?;
    let cloned = clone();
    if !matches!(cloned, Ok(Side::Child)) {
        // A failure to reset the score is no error, because it concerns only this process.
        let _ = proc.write(&file, own.trim_end().as_bytes());
    }
    cloned
}

/// Sets the properties that the process can no longer set itself. The CPUs are set first, because
/// the kernel allows SCHED_DEADLINE only for a process that may run on all CPUs. The OOM score is
/// set next, through a file that belongs to root because the process isn't dumpable.
///
/// A caller who isn't root can't set the OOM score here. In that case `inherited` is true, because
/// the process has inherited the score.
pub(super) fn set_from_outside(
    plan: &Process,
    proc: &Procfs,
    pid: i32,
    inherited: bool,
) -> Result<(), Error> {
    set_cpus(plan.affinity.as_ref(), pid)?;
    if let Some(score) = plan.oom_score_adj.filter(|_| !inherited) {
        let what =
            || config("process.oomScoreAdj").asks_to(format!("set oom_score_adj to {score}"));
        let name =
            path::c_path(format!("{pid}/oom_score_adj").as_ref()).map_err(failed("open", what))?;
        proc.write(&name, score.to_string().as_bytes())
            .map_err(failed("write", what))?;
    }
    set(plan, pid)
}

/// Moves a process to the CPUs of process.execCPUAffinity.final. Without process.execCPUAffinity,
/// allows all CPUs of its cgroup.
fn set_cpus(affinity: Option<&CpuAffinity>, pid: i32) -> Result<(), Error> {
    let Some(affinity) = affinity else {
        allow_all_cpus(pid);
        return Ok(());
    };
    if affinity.last.is_empty() {
        return Ok(());
    }
    sched::set_affinity(pid, &affinity.last)
        .map_err(failed("sched_setaffinity", || {
            config("process.execCPUAffinity.final").asks_to("set the CPUs")
        }))
        .map_err(Error::from)
}

/// Lets a process run on all CPUs of its cgroup, even if the caller is pinned to some CPUs.
/// CLONE_INTO_CGROUP doesn't reset the CPUs, as a move into the cgroup would.
pub(super) fn allow_all_cpus(pid: i32) {
    // The mask has as many CPUs as any kernel supports. The kernel uses the CPUs that exist, now
    // and after a change of the cpuset. The user hasn't asked for this, so a refusal is no error.
    const MASK_WORDS: usize = 8192 / usize::BITS as usize;
    let _ = sched::set_affinity(pid, &[usize::MAX; MASK_WORDS]);
}

/// Sets scheduler and I/O priority.
fn set(plan: &Process, pid: i32) -> Result<(), Error> {
    if let Some(scheduler) = &plan.scheduler {
        let place = "process.scheduler";
        sched::set_scheduler(pid, scheduler).map_err(|errno| {
            if errno == Errno::EPERM && scheduler.policy == sched::SCHED_DEADLINE {
                let why = "the kernel gives SCHED_DEADLINE to the privileged only, and to a process that may run on all CPUs: not together with linux.resources.cpu.cpus";
                Error::Unusable("set the scheduler".into(), config(place), why.into())
            } else {
                let what = || config(place).asks_to("set the scheduler");
                failed("sched_setattr", what)(errno).into()
            }
        })?;
    }
    if let Some(priority) = plan.io_priority {
        let what = || config("process.ioPriority").asks_to("set the I/O priority");
        sched::set_io_priority(pid, priority.class, priority.level)
            .map_err(failed("ioprio_set", what))?;
    }
    Ok(())
}
