//! How the child is scheduled, and who is killed first, set by its parent: the child has dropped what the kernel asks for.
//! What of it the child must do itself is in `child`.

use super::Error;
use crate::error::failed;
use crate::origin::config;
use crate::plan::process::Process;
use crate::plan::scheduling::Affinity;
use crate::sys::clone::Side;
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, path, sched};

/// Clones on process.execCPUAffinity.initial, which the child inherits.
pub(super) fn on_initial_cpus(
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
        // Our own place is no reason to fail.
        let _ = sched::set_affinity(0, &own);
    }
    cloned
}

/// Clones with process.oomScoreAdj, for a caller who may not set it afterwards (`inheriting`): the files of a child that can't be
/// looked into belong to root.
pub(super) fn with_oom_score(
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
        // What this process has is no reason to fail.
        let _ = proc.write(&file, own.trim_end().as_bytes());
    }
    cloned
}

/// Sets what the child may not set any more: its /proc files belong to the host once it is not dumpable. Before anything else its
/// CPUs. The kernel gives SCHED_DEADLINE only to a process that may run on all CPUs.
///
/// A caller who isn't root may not either; what the child has `inherited` is set already.
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

/// Puts a process on process.execCPUAffinity.final; without either field, on all CPUs of its cgroup.
fn set_cpus(affinity: Option<&Affinity>, pid: i32) -> Result<(), Error> {
    let Some(affinity) = affinity else {
        leave_the_callers_cpus(pid);
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

/// Lets a process run on all CPUs of its cgroup: those that the caller is pinned to are none of the container's affair, and
/// CLONE_INTO_CGROUP doesn't widen them as a move would.
pub(super) fn leave_the_callers_cpus(pid: i32) {
    // As many as any kernel knows: it takes from them what there is, now and when the cpuset is changed. Nobody has asked for
    // this, so a refusal is no reason to fail.
    const WORDS: usize = 8192 / usize::BITS as usize;
    let _ = sched::set_affinity(pid, &[usize::MAX; WORDS]);
}

/// Sets all that the plan says of the process `pid`.
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
