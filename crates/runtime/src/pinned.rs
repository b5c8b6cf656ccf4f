//! Pinned buffers: fixed-size pieces of one arena per core.
//!
//! A buffer is at any moment in one of three hands: the kernel's (it is listed in the provided-buffer ring),
//! the pool's (it is on the free list), or the program's (it is on loan as a [`PinnedBuf`], or shared as one
//! or more [`PinnedBytes`]). The last handle that is dropped gives it back.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;

use crate::arena::Arena;
use crate::bulk::BulkShare;
use crate::provided_ring::ProvidedRing;
use bytes::{Buf, Bytes};

/// Where the buffers lie that nobody holds.
enum Home {
    /// On a list of ours; taken by [`BufferPool::take`].
    FreeList(RefCell<Vec<u16>>),
    /// In a ring shared with the kernel, which picks one for each receive.
    ProvidedRing(ProvidedRing),
}

/// All pinned buffers of one core for one purpose.
pub(crate) struct BufferPool {
    arena: Arena,
    buffer_bytes: u32,
    /// Handles to each buffer that the program holds.
    shares: Box<[Cell<u32>]>,
    in_use: Cell<u16>,
    home: Home,
}

impl BufferPool {
    /// A pool whose buffers are handed out by [`take`](Self::take).
    pub(crate) fn with_free_list(count: u16, buffer_bytes: u32, lock: bool) -> io::Result<Rc<Self>> {
        let free = (0..count).rev().collect();
        Self::new(count, buffer_bytes, lock, Home::FreeList(RefCell::new(free)))
    }

    /// A pool whose buffers are handed out by the kernel, once the ring is registered at
    /// its [address](ProvidedRing::address). `count` must be a power of two, at most 32,768.
    pub(crate) fn with_provided_ring(count: u16, buffer_bytes: u32, lock: bool) -> io::Result<Rc<Self>> {
        let ring = ProvidedRing::new(count)?;
        let pool = Self::new(count, buffer_bytes, lock, Home::ProvidedRing(ring))?;
        for index in 0..count {
            pool.go_home(index);
        }
        Ok(pool)
    }

    fn new(count: u16, buffer_bytes: u32, lock: bool, home: Home) -> io::Result<Rc<Self>> {
        let arena = Arena::new(usize::from(count) * buffer_bytes as usize, lock)?;
        let shares = vec![Cell::new(0); usize::from(count)].into_boxed_slice();
        Ok(Rc::new(Self { arena, buffer_bytes, shares, in_use: Cell::new(0), home }))
    }

    pub(crate) fn provided_ring(&self) -> Option<&ProvidedRing> {
        match &self.home {
            Home::ProvidedRing(ring) => Some(ring),
            Home::FreeList(_) => None,
        }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.arena.is_locked()
    }

    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes as usize
    }

    /// Buffers that the program holds.
    pub(crate) fn in_use(&self) -> usize {
        usize::from(self.in_use.get())
    }

    /// Buffers that nobody holds.
    pub(crate) fn available(&self) -> usize {
        self.shares.len() - self.in_use()
    }

    fn is_scarce(&self) -> bool {
        self.in_use() > self.shares.len() / 2
    }

    /// Takes a buffer off the free list.
    pub(crate) fn take(self: &Rc<Self>) -> Option<PinnedBuf> {
        let Home::FreeList(free) = &self.home else { return None };
        let index = free.borrow_mut().pop()?;
        self.hold(index);
        Some(PinnedBuf { pool: Rc::clone(self), index })
    }

    /// The buffer that the kernel picked for a receive of `len` bytes.
    ///
    /// `index` and `len` are what one completion reported: the kernel has taken the buffer out of the ring,
    /// written `len` bytes to its start, and will not touch it until it is given back.
    #[inline(always)]
    pub(crate) fn received(self: &Rc<Self>, index: u16, len: u32) -> PinnedBytes {
        self.hold(index);
        let len = len.min(self.buffer_bytes);
        PinnedBytes(Memory::Pinned(Share { pool: Rc::clone(self), start: 0, len, index }))
    }

    #[inline(always)]
    fn hold(&self, index: u16) {
        let shares = &self.shares[usize::from(index)];
        assert_eq!(shares.get(), 0, "a buffer is handed out only when nobody holds it");
        shares.set(1);
        self.in_use.set(self.in_use.get() + 1);
    }

    fn share(&self, index: u16) {
        let shares = &self.shares[usize::from(index)];
        shares.set(shares.get() + 1);
    }

    fn release(&self, index: u16) {
        let shares = &self.shares[usize::from(index)];
        shares.set(shares.get() - 1);
        if shares.get() == 0 {
            self.in_use.set(self.in_use.get() - 1);
            self.go_home(index);
        }
    }

    fn go_home(&self, index: u16) {
        match &self.home {
            Home::FreeList(free) => free.borrow_mut().push(index),
            Home::ProvidedRing(ring) => ring.push(self.address(index), self.buffer_bytes, index),
        }
    }

    fn address(&self, index: u16) -> *mut u8 {
        assert!(usize::from(index) < self.shares.len());
        // SAFETY: the arena holds `shares.len()` buffers of `buffer_bytes` each.
        unsafe { self.arena.as_ptr().add(usize::from(index) * self.buffer_bytes as usize) }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("buffer_bytes", &self.buffer_bytes)
            .field("count", &self.shares.len())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

/// A whole pinned buffer that can be written, held by one owner alone.
///
/// [`freeze`](Self::freeze) turns what was written into [`PinnedBytes`]; dropping it gives the buffer back.
pub struct PinnedBuf {
    pool: Rc<BufferPool>,
    index: u16,
}

impl PinnedBuf {
    /// The first `len` bytes, to be shared and sent.
    ///
    /// # Panics
    /// If `len` is more than the buffer holds.
    #[must_use]
    pub fn freeze(self, len: usize) -> PinnedBytes {
        assert!(len <= self.pool.buffer_bytes(), "{len} bytes do not fit in the buffer");
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped or used again, so the pool handle is moved out exactly once, and the
        // share of the buffer goes over to the new value.
        let pool = unsafe { std::ptr::read(&raw const this.pool) };
        PinnedBytes(Memory::Pinned(Share { pool, start: 0, len: len as u32, index: this.index }))
    }
}

impl Deref for PinnedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer is `buffer_bytes` long, initialised (the arena is zeroed), and ours alone.
        unsafe { std::slice::from_raw_parts(self.pool.address(self.index), self.pool.buffer_bytes()) }
    }
}

impl DerefMut for PinnedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.pool.address(self.index), self.pool.buffer_bytes()) }
    }
}

impl Drop for PinnedBuf {
    fn drop(&mut self) {
        self.pool.release(self.index);
    }
}

impl fmt::Debug for PinnedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedBuf({} bytes)", self.len())
    }
}

/// A part of a pinned buffer, which counts as one share of it.
struct Share {
    pool: Rc<BufferPool>,
    start: u32,
    len: u32,
    index: u16,
}

impl Share {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `start + len` never passes the end of the buffer, which stays ours, unwritten by anyone, for as
        // long as a share of it is held.
        unsafe {
            std::slice::from_raw_parts(
                self.pool.address(self.index).add(self.start as usize),
                self.len as usize,
            )
        }
    }
}

impl Clone for Share {
    fn clone(&self) -> Self {
        self.pool.share(self.index);
        Self { pool: Rc::clone(&self.pool), ..*self }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.release(self.index);
    }
}

#[derive(Clone)]
enum Memory {
    Pinned(Share),
    Bulk(BulkShare),
    Shared(Bytes),
    /// Of the program itself, as no bytes at all are: nothing has to be done to let go of them.
    Static(&'static [u8]),
}

/// Bytes that were received, read from a file, or are to be sent. They lie in a pinned buffer, or in memory of
/// their own.
///
/// Cloning and slicing share the memory; the last handle to a pinned buffer gives it back to the core. Holding on
/// to many of them starves the core's other connections of buffers, so copy what is to be kept, or use
/// [`unpin_if_scarce`](Self::unpin_if_scarce).
///
/// ```
/// let mut bytes = gimmal_runtime::PinnedBytes::from("hello, world");
/// assert_eq!(&*bytes.split_to(5), b"hello");
/// assert_eq!(bytes.into_bytes(), ", world");
/// ```
#[derive(Clone)]
pub struct PinnedBytes(Memory);

impl PinnedBytes {
    /// No bytes, in no buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self(Memory::Static(&[]))
    }

    pub(crate) const fn bulk(share: BulkShare) -> Self {
        Self(Memory::Bulk(share))
    }

    #[cfg(test)]
    pub(crate) fn is_pinned(&self) -> bool {
        matches!(self.0, Memory::Pinned(_))
    }

    /// The bytes in memory of their own; copies only what lies in a pinned buffer, or was received together with what
    /// somebody else holds.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Memory::Pinned(share) => Bytes::copy_from_slice(share.bytes()),
            Memory::Bulk(share) => share.into_bytes(),
            Memory::Shared(bytes) => bytes,
            Memory::Static(bytes) => Bytes::from_static(bytes),
        }
    }

    /// Copies the bytes out of their pinned buffer if fewer than half of the core's buffers are free; for whoever
    /// holds on to them while others may need the buffer.
    #[must_use]
    pub fn unpin_if_scarce(self) -> Self {
        match &self.0 {
            Memory::Pinned(share) if share.pool.is_scarce() => self.into_bytes().into(),
            _ => self,
        }
    }

    /// Takes the first `at` bytes off, leaving the rest.
    ///
    /// # Panics
    /// If `at` is beyond the end.
    #[must_use]
    pub fn split_to(&mut self, at: usize) -> Self {
        if at == self.len() {
            return std::mem::take(self);
        }
        let head = self.slice(0..at);
        self.advance(at);
        head
    }

    /// The bytes to be changed where they lie, if nobody else can see them: the only handle to what was received.
    pub fn try_mut(&mut self) -> Option<&mut [u8]> {
        let share = match &mut self.0 {
            Memory::Pinned(share) => share,
            Memory::Bulk(share) => return share.try_mut(),
            Memory::Shared(_) | Memory::Static(_) => return None,
        };
        if share.pool.shares[usize::from(share.index)].get() != 1 {
            return None;
        }
        // SAFETY: as in `bytes`, and this is the only share of the buffer, borrowed exclusively: neither another
        // handle nor the kernel, which has handed the buffer over, looks at it meanwhile.
        Some(unsafe {
            std::slice::from_raw_parts_mut(
                share.pool.address(share.index).add(share.start as usize),
                share.len as usize,
            )
        })
    }

    /// Appends a copy of `bytes` in the same pinned buffer, if that has room behind and nobody else can see it. Returns
    /// whether it did.
    pub(crate) fn try_extend(&mut self, bytes: &[u8]) -> bool {
        let Memory::Pinned(share) = &mut self.0 else { return false };
        let end = (share.start + share.len) as usize;
        let is_sole = share.pool.shares[usize::from(share.index)].get() == 1;
        if !is_sole || bytes.len() > share.pool.buffer_bytes() - end {
            return false;
        }
        // SAFETY: the room lies within the buffer, whose only share is borrowed exclusively: neither another handle nor the
        // kernel, which has handed the whole buffer over, looks at it meanwhile. `bytes` cannot lie in it, since what is
        // borrowed from a buffer is borrowed from a share of it.
        unsafe {
            let room = share.pool.address(share.index).add(end);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len());
        }
        share.len += bytes.len() as u32;
        true
    }

    /// Drops all but the first `len` bytes; nothing if there are no more.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            *self = self.slice(0..len);
        }
    }

    /// Drops the first `count` bytes; the buffer goes back once none are left.
    ///
    /// # Panics
    /// If there are fewer than `count`.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "{count} is beyond the end");
        if count == self.len() {
            *self = Self::new();
            return;
        }
        match &mut self.0 {
            Memory::Pinned(share) => {
                share.start += count as u32;
                share.len -= count as u32;
            }
            Memory::Bulk(share) => share.narrow(count, share.bytes().len()),
            Memory::Shared(bytes) => drop(bytes.split_to(count)),
            Memory::Static(bytes) => *bytes = &bytes[count..],
        }
    }

    /// A part of the bytes, in the same buffer.
    ///
    /// # Panics
    /// If the range does not lie within the bytes.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} is not in 0..{}", self.len());
        if range.is_empty() {
            return Self::new();
        }
        match &self.0 {
            Memory::Pinned(share) => {
                let mut part = share.clone();
                part.start += range.start as u32;
                part.len = range.len() as u32;
                Self(Memory::Pinned(part))
            }
            Memory::Bulk(share) => {
                let mut part = share.clone();
                part.narrow(range.start, range.end);
                Self(Memory::Bulk(part))
            }
            Memory::Shared(bytes) => Self(Memory::Shared(bytes.slice(range))),
            Memory::Static(bytes) => Self(Memory::Static(&bytes[range])),
        }
    }
}

impl Default for PinnedBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for PinnedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Pinned(share) => share.bytes(),
            Memory::Bulk(share) => share.bytes(),
            Memory::Shared(bytes) => bytes,
            Memory::Static(bytes) => bytes,
        }
    }
}

/// For those who read through [`bytes::Buf`], as the bodies of the `http-body` crate are read.
impl Buf for PinnedBytes {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, count: usize) {
        self.advance(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.split_to(len).into_bytes()
    }
}

impl AsRef<[u8]> for PinnedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for PinnedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedBytes({} bytes)", self.len())
    }
}

impl From<Bytes> for PinnedBytes {
    fn from(bytes: Bytes) -> Self {
        Self(Memory::Shared(bytes))
    }
}

impl From<Vec<u8>> for PinnedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for PinnedBytes {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static [u8]> for PinnedBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Memory::Static(bytes))
    }
}

impl From<&'static str> for PinnedBytes {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_handle_gives_the_buffer_back() {
        let pool = BufferPool::with_free_list(2, 4096, false).unwrap();
        let mut buffer = pool.take().unwrap();
        buffer[..5].copy_from_slice(b"hello");
        let mut bytes = buffer.freeze(5);
        let head = bytes.split_to(2);
        assert_eq!((&*head, &*bytes), (&b"he"[..], &b"llo"[..]));
        assert_eq!(pool.in_use(), 1);
        drop(head);
        assert_eq!(pool.in_use(), 1);
        bytes.advance(3);
        assert!(bytes.is_empty());
        assert_eq!(pool.available(), 2, "a handle with nothing left holds no buffer");
    }

    #[test]
    fn an_empty_pool_gives_none() {
        let pool = BufferPool::with_free_list(1, 4096, false).unwrap();
        let only = pool.take().unwrap();
        assert!(pool.take().is_none());
        drop(only);
        assert!(pool.take().is_some());
    }

    #[test]
    fn a_provided_ring_publishes_every_buffer_and_takes_it_back() {
        let pool = BufferPool::with_provided_ring(4, 4096, false).unwrap();
        let ring = pool.provided_ring().unwrap();
        assert_eq!((ring.address() % 4096, ring.entries(), ring.tail()), (0, 4, 4));
        let bytes = pool.received(2, 10);
        assert_eq!((bytes.len(), pool.in_use()), (10, 1));
        drop(bytes);
        assert_eq!((ring.tail(), pool.in_use()), (5, 0));
    }

    #[test]
    #[should_panic(expected = "nobody holds it")]
    fn a_buffer_cannot_be_handed_out_twice() {
        let pool = BufferPool::with_provided_ring(4, 4096, false).unwrap();
        let _held = pool.received(1, 1);
        let _again = pool.received(1, 1);
    }

    #[test]
    fn only_the_only_handle_may_change_the_bytes() {
        let pool = BufferPool::with_free_list(2, 4096, false).unwrap();
        let mut bytes = pool.take().unwrap().freeze(8);
        bytes.try_mut().unwrap().copy_from_slice(b"in place");
        let other = bytes.slice(3..8);
        assert!(bytes.try_mut().is_none());
        drop(other);
        bytes.truncate(2);
        assert_eq!(bytes.try_mut().unwrap(), b"in");
        assert!(PinnedBytes::from("shared").try_mut().is_none());
    }

    #[test]
    fn bytes_leave_their_buffer_when_buffers_are_scarce() {
        let pool = BufferPool::with_free_list(4, 4096, false).unwrap();
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut buffer = pool.take().unwrap();
            buffer[0] = b'x';
            held.push(buffer.freeze(1).unpin_if_scarce());
        }
        assert_eq!(pool.in_use(), 2, "the third is more than half");
        assert!(held.iter().all(|bytes| **bytes == *b"x"));
    }

    #[test]
    fn heap_bytes_slice_alike() {
        let bytes = PinnedBytes::from(&b"abcd"[..]);
        assert_eq!(&*bytes, b"abcd");
        assert_eq!(&*bytes.slice(1..3), b"bc");
        assert_eq!(&*bytes.slice(2..2), b"");
    }
}
