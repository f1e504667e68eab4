//! The share of CPU time, disk time and memory of a process: sched_setattr, ioprio_set and similar.

use super::{Result, check};

/// The attributes of sched_setattr(2). Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scheduler {
    /// A `SCHED_` number.
    pub(crate) policy: u32,
    /// `SCHED_FLAG_` bits.
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    /// For SCHED_FIFO and SCHED_RR; 0 otherwise.
    pub(crate) priority: u32,
    /// This field and the next two are for SCHED_DEADLINE; 0 otherwise.
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

pub(crate) const SCHED_OTHER: u32 = libc::SCHED_OTHER as u32;
pub(crate) const SCHED_FIFO: u32 = libc::SCHED_FIFO as u32;
pub(crate) const SCHED_RR: u32 = libc::SCHED_RR as u32;
pub(crate) const SCHED_BATCH: u32 = libc::SCHED_BATCH as u32;
pub(crate) const SCHED_ISO: u32 = 4;
pub(crate) const SCHED_IDLE: u32 = libc::SCHED_IDLE as u32;
pub(crate) const SCHED_DEADLINE: u32 = libc::SCHED_DEADLINE as u32;

/// sched_setattr(2) for the process `pid`. Fails with EPERM for SCHED_DEADLINE if the process may
/// not use all CPUs.
pub(crate) fn set_scheduler(pid: i32, scheduler: &Scheduler) -> Result<()> {
    /// struct sched_attr as of Linux 5.3; later kernels accept it.
    #[repr(C)]
    struct Attr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
        util_min: u32,
        util_max: u32,
    }
    let attr = Attr {
        size: size_of::<Attr>() as u32,
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: attr outlives the call and contains its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) })?;
    Ok(())
}

/// ioprio_set(2) for the process `pid`. `class` is an `IOPRIO_CLASS_` number, `level` is 0
/// (highest) to 7.
pub(crate) fn set_io_priority(pid: i32, class: u8, level: u8) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: i32 = 13;
    let priority = i32::from(class) << IOPRIO_CLASS_SHIFT | i32::from(level);
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority) })?;
    Ok(())
}

/// sched_setaffinity(2): restricts the process `pid` (0 for this process) to the CPUs of a mask.
/// Fails with EINVAL if the process may use none of them.
pub(crate) fn set_affinity(pid: i32, cpus: &[usize]) -> Result<()> {
    // SAFETY: pointer and length are of one slice.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid,
            size_of_val(cpus),
            cpus.as_ptr(),
        )
    })?;
    Ok(())
}

/// Returns the CPUs that this process may use.
pub(crate) fn affinity() -> Result<Vec<usize>> {
    const LARGEST: usize = 8192 / usize::BITS as usize;
    let mut cpus = vec![0_usize; LARGEST];
    // SAFETY: pointer and length are of one buffer.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of_val(cpus.as_slice()),
            cpus.as_mut_ptr(),
        )
    })?;
    cpus.truncate(length as usize / size_of::<usize>());
    Ok(cpus)
}

/// set_mempolicy(2) for this process: a mode with its flags, and a mask of memory nodes.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[usize]) -> Result<()> {
    // The kernel uses one bit less than the given number.
    let bits = nodes.len() * usize::BITS as usize + 1;
    // SAFETY: pointer and length are of one slice.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) })?;
    Ok(())
}
