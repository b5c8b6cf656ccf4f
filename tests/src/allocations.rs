//! An allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Allocations, and reallocations, by the threads that asked to be counted.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Bytes that all threads have allocated and not freed.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counted. Make it the global allocator of a test.
#[derive(Debug)]
pub struct Counting;

/// Counts the allocations of the calling thread from now on: to be called by a handler, on its core.
pub fn count_this_thread() {
    COUNTED.set(true);
}

/// Allocations so far by the threads that asked to be counted.
#[must_use]
pub fn count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

/// Bytes that all threads have allocated and not freed.
#[must_use]
pub fn live_bytes() -> usize {
    LIVE_BYTES.load(Ordering::SeqCst)
}

fn allocated(bytes: usize) {
    LIVE_BYTES.fetch_add(bytes, Ordering::SeqCst);
    // Allocations go on while thread-local values are dropped.
    if COUNTED.try_with(Cell::get) == Ok(true) {
        COUNT.fetch_add(1, Ordering::SeqCst);
    }
}

fn freed(bytes: usize) {
    LIVE_BYTES.fetch_sub(bytes, Ordering::SeqCst);
}

// SAFETY: every call is passed on to the system's allocator as it came, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: as the caller vouches for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        freed(layout.size());
        // SAFETY: as the caller vouches for.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        freed(layout.size());
        allocated(size);
        // SAFETY: as the caller vouches for.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
