//! The heap: an allocator for a single thread. It is used because the locks and caches of the C
//! library's allocator took a third of the instructions of a `run`.
//! The heap gets its blocks from the C library.

use std::alloc::System;

use talc::cell::TalcSyncCell;
use talc::source::GlobalAllocSource;
use talc::{DefaultBinning, TalcCell};

/// The number of bytes to get from the C library at once. One block is enough for a configuration
/// as engines write it.
const BLOCK_BYTES: usize = 256 << 10;

/// The type of the allocator.
pub(crate) type Heap = TalcSyncCell<GlobalAllocSource<System>, DefaultBinning>;

/// Makes an empty heap.
pub(crate) const fn new() -> Heap {
    let heap = TalcCell::new(GlobalAllocSource::with_block_size(System, BLOCK_BYTES));
    // SAFETY: there is one thread and no signal handler; a cloned process has its own copy.
    unsafe { TalcSyncCell::new(heap) }
}
