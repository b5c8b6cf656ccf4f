//! Memory that is shared with the kernel, to tell it of buffers to receive into.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::arena::Arena;

/// The memory of an io_uring provided-buffer ring (`io_uring_register_buf_ring(3)`).
pub(crate) struct ProvidedRing {
    memory: Arena,
    mask: u16,
    tail: Cell<u16>,
}

impl ProvidedRing {
    /// A ring of `entries`, a power of two of at most 32,768, that lists no buffer yet.
    pub(crate) fn new(entries: u16) -> io::Result<Self> {
        let memory = Arena::new(usize::from(entries) * size_of::<BufRingEntry>(), false)?;
        Ok(Self { memory, mask: entries - 1, tail: Cell::new(0) })
    }

    pub(crate) fn address(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    pub(crate) fn entries(&self) -> u16 {
        self.mask + 1
    }

    /// Lists the buffer `index` of `bytes` bytes at `address`, for the kernel to write to. There must be as many entries as
    /// there are buffers, so that none that the kernel may still read is written.
    pub(crate) fn push(&self, address: *mut u8, bytes: u32, index: u16) {
        let tail = self.tail.get();
        let base = self.memory.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the masked index is inside the ring, whose memory lives as long as `self`. The kernel reads
        // an entry only after the store to the tail below has published it, and there are as many entries as
        // buffers, so an entry that it may still read is never written. Field setters leave the tail, which
        // overlays a reserved field of entry 0, alone.
        unsafe {
            let entry = &mut *base.add(usize::from(tail & self.mask));
            entry.set_addr(address as u64);
            entry.set_len(bytes);
            entry.set_bid(index);
        }
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        // SAFETY: `tail` gives the address of a field of entry 0 in our live, page-aligned mapping; the kernel
        // shares it and expects a 16-bit release store.
        unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) }.store(tail, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn tail(&self) -> u16 {
        // SAFETY: the memory is ours, page-aligned and alive.
        unsafe { *BufRingEntry::tail(self.memory.as_ptr().cast::<BufRingEntry>()) }
    }
}
