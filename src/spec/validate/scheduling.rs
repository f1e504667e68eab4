//! Validates the scheduling fields. For a broken rule, the kernel would report only EINVAL.
//! This module doesn't check the CPUs, privileges and sysctls of the host.

use oci_spec::runtime::{
    ExecCPUAffinity, LinuxIOPriority, LinuxMemoryPolicy, LinuxSchedulerPolicy as Policy,
    MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode, Scheduler,
};

use crate::error::Findings;
use crate::spec::ranges;

/// The kernel's shortest runtime (1 << DL_SCALE), in nanoseconds.
const MIN_RUNTIME_NS: u64 = 1024;

/// The longest deadline or period. The kernel reserves the top bit of both.
const MAX_PERIOD_NS: u64 = i64::MAX as u64;

/// Checks linux.memoryPolicy.
pub(super) fn check_memory_policy(policy: &LinuxMemoryPolicy, found: &mut Findings) {
    let mut refuse = |field: &str, problem: String| {
        found.refuse(format!("linux.memoryPolicy.{field}"), problem);
    };
    let (mode, flags) = (policy.mode(), policy.flags().as_deref().unwrap_or_default());
    let nodes = match ranges::list_to_mask(policy.nodes().as_deref().unwrap_or("")) {
        Ok(nodes) => nodes,
        Err(problem) => return refuse("nodes", problem),
    };
    let [relative, static_, balancing] = [
        Flag::MpolFRelativeNodes,
        Flag::MpolFStaticNodes,
        Flag::MpolFNumaBalancing,
    ]
    .map(|flag| flags.contains(&flag));
    match mode {
        Mode::MpolDefault | Mode::MpolLocal if !nodes.is_empty() => {
            refuse("nodes", format!("{mode} takes none"));
        }
        Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred => {}
        _ if nodes.is_empty() => refuse("nodes", format!("is empty, and {mode} needs one")),
        _ => {}
    }
    if relative && static_ {
        let problem = "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other";
        refuse("flags", problem.into());
    } else if (relative || static_) && nodes.is_empty() {
        refuse("flags", "need nodes, but there are none".into());
    }
    if balancing && !matches!(mode, Mode::MpolBind | Mode::MpolPreferredMany) {
        let problem = "MPOL_F_NUMA_BALANCING goes with MPOL_BIND and MPOL_PREFERRED_MANY only";
        refuse("flags", problem.into());
    }
}

/// Checks process.execCPUAffinity.
pub(super) fn check_affinity(
    configured: &ExecCPUAffinity,
    refuse: &mut impl FnMut(String, String),
) {
    for (field, cpus) in [
        ("initial", configured.initial()),
        ("final", configured.cpu_affinity_final()),
    ] {
        if let Some(problem) = cpus
            .as_deref()
            .and_then(|cpus| ranges::list_to_mask(cpus).err())
        {
            refuse(format!("execCPUAffinity.{field}"), problem);
        }
    }
}

/// Checks process.ioPriority.
pub(super) fn check_io_priority(
    configured: &LinuxIOPriority,
    refuse: &mut impl FnMut(String, String),
) {
    let priority = configured.priority();
    if !(0..=7).contains(&priority) {
        refuse(
            "ioPriority.priority".into(),
            format!("{priority} is not between 0 and 7"),
        );
    }
}

/// Checks process.scheduler.
pub(super) fn check_scheduler(scheduler: &Scheduler, refuse: &mut impl FnMut(String, String)) {
    let policy = *scheduler.policy();
    let mut refuse = |field: &str, problem: String| refuse(format!("scheduler.{field}"), problem);
    if policy == Policy::SchedIso {
        refuse("policy", "no kernel implements SCHED_ISO".into());
    }
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        refuse("nice", format!("{nice} is not between -20 and 19"));
    }
    let priority = scheduler.priority().unwrap_or(0);
    match policy {
        Policy::SchedFifo | Policy::SchedRr if !(1..=99).contains(&priority) => {
            refuse(
                "priority",
                format!("{priority} is not between 1 and 99, as {policy} needs it"),
            );
        }
        Policy::SchedFifo | Policy::SchedRr => {}
        _ if priority != 0 => {
            refuse(
                "priority",
                format!("{policy} has none (SCHED_FIFO and SCHED_RR have)"),
            );
        }
        _ => {}
    }
    let [runtime, deadline, period] = [
        ("runtime", scheduler.runtime()),
        ("deadline", scheduler.deadline()),
        ("period", scheduler.period()),
    ]
    .map(|(field, value)| (field, value.unwrap_or(0)));
    if policy != Policy::SchedDeadline {
        for (field, _) in [runtime, deadline, period]
            .iter()
            .filter(|(_, value)| *value != 0)
        {
            refuse(field, format!("{policy} has none (SCHED_DEADLINE has)"));
        }
        return;
    }
    for (field, value) in [deadline, period] {
        if value > MAX_PERIOD_NS {
            refuse(field, format!("{value} is more than {MAX_PERIOD_NS}"));
        }
    }
    if runtime.1 < MIN_RUNTIME_NS {
        refuse(
            "runtime",
            format!("{} is less than {MIN_RUNTIME_NS}, the shortest", runtime.1),
        );
    }
    if deadline.1 < runtime.1 {
        refuse(
            "deadline",
            format!("{} is less than the runtime, {}", deadline.1, runtime.1),
        );
    }
    // Without a period, the kernel uses the deadline as the period.
    if period.1 != 0 && period.1 < deadline.1 {
        refuse(
            "period",
            format!("{} is less than the deadline, {}", period.1, deadline.1),
        );
    }
}
