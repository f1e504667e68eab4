//! The heap: an allocator for a program of one thread that ends soon. Allocating and freeing take a few instructions each,
//! where the C library's allocator took a third of all that a `run` executes; small pieces lie close together, so that fewer
//! pages are touched, and copied after the clone.
//! Large pieces, and the space to cut small ones from, are the C library's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// Sizes are rounded up to a multiple of this, which is the alignment that every piece has.
const GRAIN: usize = 16;
/// Sizes to here have a list of free pieces for each multiple of `GRAIN`, larger ones for each power of two.
const FINE: usize = 1024;
const FINE_LISTS: usize = FINE / GRAIN;
/// What is larger goes to the C library.
const LARGEST: usize = 32 << 10;
const LISTS: usize = FINE_LISTS + (LARGEST / FINE).ilog2() as usize;
/// How much is taken from the C library at once; the first of it is part of the program.
const CHUNK: usize = 256 << 10;

/// A free piece holds the address of the next one.
struct Free(*mut Free);

/// What is allocated from.
struct Heap {
    free: [*mut Free; LISTS],
    /// Where the unused part of the chunk begins, and how long it is. It has never been used, so it is all zeros.
    unused: *mut u8,
    left: usize,
}

#[repr(align(16))]
struct FirstChunk(UnsafeCell<[u8; CHUNK]>);

// SAFETY: there is one thread.
unsafe impl Sync for FirstChunk {}

static FIRST_CHUNK: FirstChunk = FirstChunk(UnsafeCell::new([0; CHUNK]));

/// The allocator.
pub(crate) struct OneThread(UnsafeCell<Heap>);

// SAFETY: there is one thread; a clone of the process has a copy of its own.
unsafe impl Sync for OneThread {}

impl OneThread {
    pub(crate) const fn new() -> OneThread {
        OneThread(UnsafeCell::new(Heap {
            free: [null_mut(); LISTS],
            unused: FIRST_CHUNK.0.get().cast(),
            left: CHUNK,
        }))
    }
}

/// The size that a request is rounded up to, and the number of its list; `None` if it is the C library's.
fn class(layout: Layout) -> Option<(usize, usize)> {
    if layout.align() > GRAIN || layout.size() > LARGEST {
        return None;
    }
    let size = layout.size().max(1);
    if size <= FINE {
        let grains = size.div_ceil(GRAIN);
        return Some((grains * GRAIN, grains - 1));
    }
    let rounded = size.next_power_of_two();
    let list = FINE_LISTS + (rounded / FINE).ilog2() as usize - 1;
    Some((rounded, list))
}

impl Heap {
    /// Takes a piece off a list of free ones; null if there is none.
    fn reuse(&mut self, list: usize) -> *mut u8 {
        let Some(head) = self.free.get_mut(list) else {
            return null_mut();
        };
        let piece = *head;
        if !piece.is_null() {
            // SAFETY: a piece on a list is free, and begins with the address of the next one.
            *head = unsafe { (*piece).0 };
        }
        piece.cast()
    }

    /// Cuts a new piece, which is all zeros; null if memory is short.
    fn cut(&mut self, size: usize) -> *mut u8 {
        if size > self.left {
            let chunk = Layout::new::<FirstChunk>();
            // SAFETY: its size isn't zero.
            let fresh = unsafe { System.alloc_zeroed(chunk) };
            if fresh.is_null() {
                return null_mut();
            }
            (self.unused, self.left) = (fresh, CHUNK);
        }
        let piece = self.unused;
        self.left -= size;
        // SAFETY: the chunk is at least that long.
        self.unused = unsafe { piece.add(size) };
        piece
    }
}

// Not inlined: in each of their 5000 places that makes the program a tenth larger.
// SAFETY: a piece is given out once until it comes back, is as large as its class and aligned to `GRAIN`; the class follows
// from the layout, which is the same when it comes back.
unsafe impl GlobalAlloc for OneThread {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((size, list)) = class(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: there is one thread, and the reference ends with this call.
        let heap = unsafe { &mut *self.0.get() };
        let piece = heap.reuse(list);
        if piece.is_null() {
            heap.cut(size)
        } else {
            piece
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((size, list)) = class(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        };
        // SAFETY: there is one thread, and the reference ends with this call.
        let heap = unsafe { &mut *self.0.get() };
        let piece = heap.reuse(list);
        if piece.is_null() {
            return heap.cut(size);
        }
        // SAFETY: the piece is at least that long.
        unsafe { piece.write_bytes(0, layout.size()) };
        piece
    }

    #[inline(never)]
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let Some((_, list)) = class(layout) else {
            // SAFETY: the caller's promise, and that this class was the C library's when it was allocated.
            return unsafe { System.dealloc(piece, layout) };
        };
        // SAFETY: there is one thread, and the reference ends with this call.
        let heap = unsafe { &mut *self.0.get() };
        if let Some(head) = heap.free.get_mut(list) {
            let piece: *mut Free = piece.cast();
            // SAFETY: the piece is free from now on, and large enough and aligned for an address.
            unsafe { piece.write(Free(*head)) };
            *head = piece;
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is one of a layout of this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (class(layout), class(new)) {
            // SAFETY: the caller's promise.
            (None, None) => unsafe { System.realloc(piece, layout, new_size) },
            (old, new) if old == new => piece,
            _ => {
                // SAFETY: the caller promises that the new size isn't zero.
                let moved = unsafe { self.alloc(new) };
                if !moved.is_null() {
                    let length = layout.size().min(new_size);
                    // SAFETY: both are at least that long, and two pieces don't overlap.
                    unsafe { moved.copy_from_nonoverlapping(piece, length) };
                    // SAFETY: the caller's promise; nothing refers to the old piece any more.
                    unsafe { self.dealloc(piece, layout) };
                }
                moved
            }
        }
    }
}
