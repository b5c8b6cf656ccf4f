//! The receive buffers: a provided-buffer ring, from which the kernel picks one for each receive.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::sync::atomic::{AtomicU16, Ordering};
use std::{io, slice};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

const COUNT: u16 = 64;
const BYTES: usize = 64 * 1024;
const PAGE_BYTES: usize = 4096;

/// The group under which the buffers are registered.
pub(crate) const GROUP: u16 = 0;

/// Lives as long as the process: the memory is never given back.
pub(crate) struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
    available: u16,
}

impl Buffers {
    pub(crate) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries = allocate(usize::from(COUNT) * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        let memory = allocate(usize::from(COUNT) * BYTES);
        // SAFETY: the ring is page-aligned, holds `COUNT` entries and is never freed.
        unsafe { submitter.register_buf_ring_with_flags(entries as u64, COUNT, GROUP, 0)? };
        let mut buffers = Self { entries, memory, tail: 0, available: 0 };
        for buffer in 0..COUNT {
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    /// Whether the kernel has one to pick.
    pub(crate) fn are_available(&self) -> bool {
        self.available > 0
    }

    /// What the kernel received into a buffer, which is ours until it is given back.
    pub(crate) fn take(&mut self, buffer: u16, len: usize) -> &[u8] {
        self.available -= 1;
        assert!(buffer < COUNT && len <= BYTES);
        // SAFETY: the arena holds `COUNT` buffers of `BYTES`, and the kernel has let go of this one.
        unsafe { slice::from_raw_parts(self.memory.add(usize::from(buffer) * BYTES), len) }
    }

    pub(crate) fn give_back(&mut self, buffer: u16) {
        self.available += 1;
        // SAFETY: the masked index is inside the ring, and `buffer` inside the arena. There are as many entries
        // as buffers, so the kernel no longer reads the one that is written.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail & (COUNT - 1)));
            entry.set_addr(self.memory.add(usize::from(buffer) * BYTES) as u64);
            entry.set_len(BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is a field of entry 0 that the kernel shares and reads atomically.
        unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) }
            .store(self.tail, Ordering::Release);
    }
}

fn allocate(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("a valid layout");
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}
