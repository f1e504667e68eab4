//! Memory that this process shares with the processes that it clones, and the clock for the times
//! that they write there.

use std::sync::atomic::AtomicU64;

use nix::time::{ClockId, clock_gettime};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use super::{Result, errno};

/// Maps zeroed words, which stay until execve or the end of the process. All pages are allocated at
/// once, so that the cgroup of a cloned process isn't charged for any.
pub(crate) fn words(count: usize) -> Result<&'static [AtomicU64]> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    let bytes = count * size_of::<AtomicU64>();
    // SAFETY: the kernel chooses the address, so the mapping replaces no other.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) };
    let start = start.map_err(errno)?.cast::<AtomicU64>();
    // SAFETY: the mapping has this size, is aligned to a page, zeroed, and never unmapped; every
    // access to it is atomic.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// Returns the time of the monotonic clock in ns, in the time namespace of this process. Makes no
/// system call, because the C library reads the clock in the vDSO.
pub(crate) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        (time.tv_sec() as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec() as u64)
    })
}
