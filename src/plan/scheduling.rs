//! Scheduling of a process: converts the words of config.json to the kernel's numbers.
//! `spec::validate` checks combinations of values. The kernel decides which values it permits.

use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Scheduler as Configured,
};

use crate::spec::ranges;
use crate::sys::sched::{
    SCHED_BATCH, SCHED_DEADLINE, SCHED_FIFO, SCHED_IDLE, SCHED_ISO, SCHED_OTHER, SCHED_RR,
    Scheduler,
};

/// linux.memoryPolicy for set_mempolicy(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPolicy {
    /// An `MPOL_` number with its `MPOL_F_` bits.
    pub(crate) mode: u32,
    /// A mask of memory nodes.
    pub(crate) nodes: Vec<usize>,
}

/// Converts linux.memoryPolicy to the numbers of linux/mempolicy.h. The list of nodes is already
/// validated.
pub(crate) fn convert_memory_policy(configured: &LinuxMemoryPolicy) -> MemoryPolicy {
    let mode = MEMORY_POLICY_MODES
        .iter()
        .find(|(mode, _)| *mode == configured.mode());
    let flags = configured.flags().iter().flatten();
    let flags =
        flags.filter_map(|flag| MEMORY_POLICY_FLAGS.iter().find(|(known, _)| known == flag));
    let nodes = configured.nodes().as_deref().unwrap_or("");
    MemoryPolicy {
        mode: flags.fold(mode.map_or(0, |(_, number)| *number), |bits, (_, flag)| {
            bits | flag
        }),
        nodes: ranges::list_to_mask(nodes).unwrap_or_default(),
    }
}

/// The modes of memory policies. `features` lists them.
pub(crate) const MEMORY_POLICY_MODES: [(MemoryPolicyModeType, u32); 7] = [
    (MemoryPolicyModeType::MpolDefault, 0),
    (MemoryPolicyModeType::MpolPreferred, 1),
    (MemoryPolicyModeType::MpolBind, 2),
    (MemoryPolicyModeType::MpolInterleave, 3),
    (MemoryPolicyModeType::MpolLocal, 4),
    (MemoryPolicyModeType::MpolPreferredMany, 5),
    (MemoryPolicyModeType::MpolWeightedInterleave, 6),
];

/// The flags of memory policies.
pub(crate) const MEMORY_POLICY_FLAGS: [(MemoryPolicyFlagType, u32); 3] = [
    (MemoryPolicyFlagType::MpolFNumaBalancing, 1 << 13),
    (MemoryPolicyFlagType::MpolFRelativeNodes, 1 << 14),
    (MemoryPolicyFlagType::MpolFStaticNodes, 1 << 15),
];

/// process.execCPUAffinity as CPU masks. An empty mask changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuAffinity {
    /// The CPUs that are used until the kernel moves the process to the CPUs of its cgroup.
    pub(crate) initial: Vec<usize>,
    /// The CPUs for the program.
    pub(crate) last: Vec<usize>,
}

/// Converts process.execCPUAffinity. The lists of CPUs are already validated.
pub(crate) fn convert_affinity(configured: &ExecCPUAffinity) -> CpuAffinity {
    let mask = |list: &Option<String>| {
        ranges::list_to_mask(list.as_deref().unwrap_or("")).unwrap_or_default()
    };
    CpuAffinity {
        initial: mask(configured.initial()),
        last: mask(configured.cpu_affinity_final()),
    }
}

/// process.ioPriority for ioprio_set(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoPriority {
    /// An `IOPRIO_CLASS_` number.
    pub(crate) class: u8,
    pub(crate) level: u8,
}

/// Converts process.ioPriority to numbers.
pub(crate) fn convert_io_priority(configured: &LinuxIOPriority) -> IoPriority {
    IoPriority {
        class: match configured.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        },
        level: configured.priority().try_into().unwrap_or(0),
    }
}

/// Converts process.scheduler for sched_setattr(2). Absent values become 0.
pub(crate) fn convert_scheduler(configured: &Configured) -> Scheduler {
    let flags = configured.flags().iter().flatten();
    Scheduler {
        policy: match configured.policy() {
            LinuxSchedulerPolicy::SchedOther => SCHED_OTHER,
            LinuxSchedulerPolicy::SchedFifo => SCHED_FIFO,
            LinuxSchedulerPolicy::SchedRr => SCHED_RR,
            LinuxSchedulerPolicy::SchedBatch => SCHED_BATCH,
            LinuxSchedulerPolicy::SchedIso => SCHED_ISO,
            LinuxSchedulerPolicy::SchedIdle => SCHED_IDLE,
            LinuxSchedulerPolicy::SchedDeadline => SCHED_DEADLINE,
        },
        flags: flags.fold(0, |bits, word| bits | scheduler_flag_bit(*word)),
        nice: configured.nice().unwrap_or(0),
        priority: configured
            .priority()
            .and_then(|priority| priority.try_into().ok())
            .unwrap_or(0),
        runtime: configured.runtime().unwrap_or(0),
        deadline: configured.deadline().unwrap_or(0),
        period: configured.period().unwrap_or(0),
    }
}

/// Returns the bit of a flag in linux/sched.h.
fn scheduler_flag_bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_memory_policy_becomes_the_kernels_numbers() {
        for (text, mode, nodes) in [
            (r#"{"mode": "MPOL_LOCAL"}"#, 4, vec![]),
            (
                r#"{"mode": "MPOL_BIND", "nodes": "0,2", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"]}"#,
                0xa002,
                vec![0b101],
            ),
        ] {
            let configured = serde_json::from_str(text).unwrap();
            assert_eq!(
                convert_memory_policy(&configured),
                MemoryPolicy { mode, nodes }
            );
        }
    }

    #[test]
    fn an_affinity_becomes_masks() {
        let configured = serde_json::from_str(r#"{"final": "0-1,3"}"#).unwrap();
        let expected = CpuAffinity {
            initial: vec![],
            last: vec![0b1011],
        };
        assert_eq!(convert_affinity(&configured), expected);
    }

    #[test]
    fn an_io_priority_becomes_the_kernels_numbers() {
        for (class, number) in [("RT", 1), ("BE", 2), ("IDLE", 3)] {
            let text = format!(r#"{{"class": "IOPRIO_CLASS_{class}", "priority": 7}}"#);
            let configured = serde_json::from_str(&text).unwrap();
            let expected = IoPriority {
                class: number,
                level: 7,
            };
            assert_eq!(convert_io_priority(&configured), expected);
        }
    }

    #[test]
    fn a_scheduler_becomes_the_kernels_numbers() {
        let table = [
            (r#"{"policy": "SCHED_OTHER"}"#, Scheduler::default()),
            (
                r#"{"policy": "SCHED_BATCH", "nice": -3}"#,
                Scheduler {
                    policy: 3,
                    nice: -3,
                    ..Scheduler::default()
                },
            ),
            (
                r#"{"policy": "SCHED_RR", "priority": 99, "flags": ["SCHED_RESET_ON_FORK"]}"#,
                Scheduler {
                    policy: 2,
                    priority: 99,
                    flags: 1,
                    ..Scheduler::default()
                },
            ),
            (
                r#"{"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2000, "period": 3000,
                    "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MAX"]}"#,
                Scheduler {
                    policy: 6,
                    flags: 0x52,
                    runtime: 1024,
                    deadline: 2000,
                    period: 3000,
                    ..Scheduler::default()
                },
            ),
        ];
        for (text, expected) in table {
            let configured: Configured = serde_json::from_str(text).unwrap();
            assert_eq!(convert_scheduler(&configured), expected, "{text}");
        }
    }
}
