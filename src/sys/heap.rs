//! The heap: an allocator for one thread, without the C library's locks and caches, which took a third of the instructions of a
//! `run`. It gets its blocks from the C library.

use std::alloc::System;

use talc::cell::TalcSyncCell;
use talc::source::GlobalAllocSource;
use talc::{DefaultBinning, TalcCell};

/// How much is taken from the C library at once, in bytes: what a container of an engine's configuration needs.
const BLOCK: usize = 256 << 10;

/// The allocator.
pub(crate) type Heap = TalcSyncCell<GlobalAllocSource<System>, DefaultBinning>;

/// Makes an empty heap.
pub(crate) const fn new() -> Heap {
    let heap = TalcCell::new(GlobalAllocSource::with_block_size(System, BLOCK));
    // SAFETY: there is one thread and no signal handler; a clone of the process has a copy of its own.
    unsafe { TalcSyncCell::new(heap) }
}
