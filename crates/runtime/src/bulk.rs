//! Bulk buffers: large pieces of recycled memory, for connections on which much is under way.
//!
//! A large body that comes in pinned buffers comes in many pieces, which have to be put together again, and each piece has
//! rested in its buffer until the cache forgot it. A bulk buffer takes all that the socket has in one receive, goes to the
//! program as it is, and is used again as soon as it is dropped.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;

use bytes::Bytes;

use crate::pinned::PinnedBytes;
use crate::provided_ring::ProvidedRing;

/// Bytes of a bulk buffer.
const BUFFER_BYTES: usize = 128 * 1024;
/// What has fewer bytes is copied out, so that nobody who keeps a few bytes keeps a whole buffer.
const SHARED_BYTES_MIN: usize = BUFFER_BYTES / 4;
/// Buffers that the kernel is told of, and that are given out in one round. The kernel takes the one that has rested longest:
/// with those that the program holds they should fit into the cache.
pub(crate) const PROVIDED: u16 = 4;
/// Unused buffers kept per core.
const KEPT: usize = 32;

thread_local! {
    /// Those that nobody holds, on a thread that runs a core. The one that was used last is used first: it may still be in
    /// the cache. Other threads, on which buffers are dropped as well, would keep memory that they never use.
    static FREE: RefCell<Option<Vec<Vec<u8>>>> = const { RefCell::new(None) };
}

/// Keeps unused buffers on the calling thread from now on.
pub(crate) fn keep_on_this_thread() {
    FREE.with_borrow_mut(|free| {
        free.get_or_insert_default();
    });
}

/// A bulk buffer. A thread that runs a core uses it again when it is dropped there.
pub(crate) struct BulkBuf(Vec<u8>);

impl BulkBuf {
    pub(crate) fn take() -> Self {
        let recycled = FREE.with_borrow_mut(|free| free.as_mut()?.pop());
        Self(recycled.unwrap_or_else(|| vec![0; BUFFER_BYTES]))
    }

    /// Its first `len` bytes.
    pub(crate) fn freeze(self, len: usize) -> PinnedBytes {
        if len < SHARED_BYTES_MIN {
            return Bytes::copy_from_slice(&self[..len]).into();
        }
        PinnedBytes::bulk(BulkShare { buffer: Rc::new(self), range: 0..len as u32 })
    }
}

/// A part of a bulk buffer, which is used again when all its shares are gone.
#[derive(Clone)]
pub(crate) struct BulkShare {
    buffer: Rc<BulkBuf>,
    range: Range<u32>,
}

impl BulkShare {
    fn range(&self) -> Range<usize> {
        self.range.start as usize..self.range.end as usize
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.range()]
    }

    /// The bytes, if this is the only share.
    pub(crate) fn try_mut(&mut self) -> Option<&mut [u8]> {
        let range = self.range();
        Some(&mut Rc::get_mut(&mut self.buffer)?[range])
    }

    /// The bytes in memory that may go to other threads: the buffer itself, if this is the only share.
    pub(crate) fn into_bytes(self) -> Bytes {
        let range = self.range();
        match Rc::try_unwrap(self.buffer) {
            Ok(buffer) => Bytes::from_owner(buffer).slice(range),
            Err(shared) => Bytes::copy_from_slice(&shared[range]),
        }
    }

    /// The part from `from` to `to` of this one, which they lie in.
    pub(crate) fn narrow(&mut self, from: usize, to: usize) {
        let start = self.range.start;
        self.range = start + from as u32..start + to as u32;
    }
}

impl Deref for BulkBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for BulkBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl AsRef<[u8]> for BulkBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for BulkBuf {
    fn drop(&mut self) {
        let memory = mem::take(&mut self.0);
        // The thread is ending when this fails: the memory is simply freed.
        let _ = FREE.try_with(|free| {
            if let Some(free) = &mut *free.borrow_mut()
                && free.len() < KEPT
            {
                free.push(memory);
            }
        });
    }
}

/// The bulk buffers that the kernel may write to. There are none before the first are asked for.
pub(crate) struct BulkRing {
    ring: ProvidedRing,
    /// By the index under which the ring lists them.
    buffers: Vec<BulkBuf>,
}

impl BulkRing {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { ring: ProvidedRing::new(PROVIDED)?, buffers: Vec::new() })
    }

    pub(crate) fn ring(&self) -> &ProvidedRing {
        &self.ring
    }

    /// Sees to it that the kernel has buffers.
    pub(crate) fn fill(&mut self) {
        while self.buffers.len() < usize::from(PROVIDED) {
            let mut buffer = BulkBuf::take();
            self.ring.push(buffer.as_mut_ptr(), BUFFER_BYTES as u32, self.buffers.len() as u16);
            self.buffers.push(buffer);
        }
    }

    /// The `len` bytes that the kernel has received into the buffer `index`, which another one replaces.
    pub(crate) fn received(&mut self, index: u16, len: u32) -> PinnedBytes {
        let mut fresh = BulkBuf::take();
        self.ring.push(fresh.as_mut_ptr(), BUFFER_BYTES as u32, index);
        mem::replace(&mut self.buffers[usize::from(index)], fresh).freeze(len as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_a_core_keeps_no_buffer() {
        let kept = || FREE.with_borrow(|free| free.as_ref().map(Vec::len));
        drop(BulkBuf::take());
        assert_eq!(kept(), None);
        keep_on_this_thread();
        drop(BulkBuf::take());
        assert_eq!(kept(), Some(1));
        let whole = BulkBuf::take().freeze(BUFFER_BYTES).into_bytes();
        let kept_there = std::thread::spawn(move || {
            drop(whole);
            FREE.with_borrow(|free| free.as_ref().map(Vec::len))
        });
        assert_eq!((kept_there.join().unwrap(), kept()), (None, Some(0)));
    }

    #[test]
    fn the_buffer_that_was_dropped_last_is_used_next() {
        keep_on_this_thread();
        let (first, second) = (BulkBuf::take(), BulkBuf::take());
        let (one, two) = (first.as_ptr(), second.as_ptr());
        drop(second);
        drop(first.freeze(BUFFER_BYTES));
        let (again, after) = (BulkBuf::take(), BulkBuf::take());
        assert_eq!((again.as_ptr(), after.as_ptr()), (one, two));
    }

    #[test]
    fn a_few_bytes_do_not_keep_a_buffer() {
        keep_on_this_thread();
        let mut buffer = BulkBuf::take();
        let at = buffer.as_ptr();
        buffer[..5].copy_from_slice(b"hello");
        let bytes = buffer.freeze(5);
        assert_eq!(BulkBuf::take().as_ptr(), at);
        assert_eq!(&*bytes, b"hello");
    }

    #[test]
    fn the_only_share_may_be_changed_and_given_away_without_a_copy() {
        let buffer = BulkBuf::take();
        let at = buffer.as_ptr();
        let mut bytes = buffer.freeze(BUFFER_BYTES);
        bytes.try_mut().unwrap()[..8].copy_from_slice(b"in place");
        let head = bytes.split_to(3);
        assert!(bytes.try_mut().is_none(), "the head is another share");
        assert_eq!((&*head, &bytes[..5]), (&b"in "[..], &b"place"[..]));
        assert_ne!(
            bytes.clone().into_bytes().as_ptr(),
            at.wrapping_add(3),
            "of two shares one must be a copy"
        );
        drop(head);
        bytes.truncate(5);
        assert_eq!(bytes.try_mut().unwrap(), b"place");
        let bytes = bytes.into_bytes();
        assert_eq!((bytes.as_ptr(), &bytes[..]), (at.wrapping_add(3), &b"place"[..]));
    }

    #[test]
    fn a_received_buffer_is_replaced_and_lives_on() {
        let mut ring = BulkRing::new().unwrap();
        ring.fill();
        assert_eq!(ring.ring().tail(), PROVIDED);
        ring.buffers[3][..5].copy_from_slice(b"hello");
        let bytes = ring.received(3, SHARED_BYTES_MIN as u32);
        assert_eq!(
            (&bytes[..5], bytes.len(), ring.ring().tail()),
            (&b"hello"[..], SHARED_BYTES_MIN, PROVIDED + 1)
        );
        assert_ne!(ring.buffers[3].as_ptr(), bytes.as_ptr());
    }
}
