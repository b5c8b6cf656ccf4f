//! What a connection sends, and the recycled memory that it is written to.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use crate::pinned::PinnedBytes;

/// Recycled vectors kept per core.
const KEPT: usize = 256;
/// A vector that has grown beyond this many bytes is not kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// The capacity of a new one: a response with a small body fits. No multiple of a page, or the starts of all would share a few
/// sets of the cache.
const NEW_BYTES: usize = 4 * 1024 + 320;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A recycled `Vec<u8>` to write output into; it goes back to its thread when it is dropped, or when it has
/// been sent.
///
/// ```
/// use gimmal_runtime::OutBuf;
/// let mut out = OutBuf::take();
/// out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
/// assert_eq!(out.len(), 17);
/// ```
#[derive(Default)]
pub struct OutBuf(Vec<u8>);

impl OutBuf {
    /// An empty vector with some capacity.
    #[must_use]
    pub fn take() -> Self {
        let recycled = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        Self(recycled.unwrap_or_else(|| Vec::with_capacity(NEW_BYTES)))
    }

    /// [`take`](Self::take)s one if this is still the default, which has no capacity: for who writes only now and then.
    pub fn ensure(&mut self) {
        if self.0.capacity() == 0 {
            *self = Self::take();
        }
    }
}

impl Drop for OutBuf {
    fn drop(&mut self) {
        let mut vector = std::mem::take(&mut self.0);
        if !(NEW_BYTES..=KEPT_BYTES_MAX).contains(&vector.capacity()) {
            return;
        }
        vector.clear();
        // The thread is ending when this fails: the vector is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(vector);
            }
        });
    }
}

impl Deref for OutBuf {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for OutBuf {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl fmt::Debug for OutBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutBuf({} bytes)", self.len())
    }
}

/// Bytes to be sent. The memory stays alive and unchanged until the kernel is done with it.
#[derive(Debug)]
pub enum SendBuf {
    /// Bytes of the program itself.
    Static(&'static [u8]),
    /// Shared bytes.
    Shared(Bytes),
    /// Recycled output memory.
    Out(OutBuf),
    /// A pinned buffer: what was received, or read from a file, goes out without a copy.
    Pinned(PinnedBytes),
}

impl Deref for SendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Out(bytes) => bytes,
            Self::Pinned(bytes) => bytes,
        }
    }
}

impl From<&'static [u8]> for SendBuf {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

impl<const N: usize> From<&'static [u8; N]> for SendBuf {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self::Static(bytes)
    }
}

impl From<&'static str> for SendBuf {
    fn from(text: &'static str) -> Self {
        Self::Static(text.as_bytes())
    }
}

impl From<Bytes> for SendBuf {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

impl From<Vec<u8>> for SendBuf {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Shared(bytes.into())
    }
}

impl From<OutBuf> for SendBuf {
    fn from(bytes: OutBuf) -> Self {
        Self::Out(bytes)
    }
}

impl From<PinnedBytes> for SendBuf {
    fn from(bytes: PinnedBytes) -> Self {
        Self::Pinned(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_vector_is_used_again_and_is_empty() {
        let mut first = OutBuf::take();
        first.extend_from_slice(b"secret of the last response");
        let at = first.as_ptr();
        drop(first);
        let second = OutBuf::take();
        assert_eq!(second.as_ptr(), at);
        assert!(second.is_empty());
    }

    #[test]
    fn a_vector_that_has_grown_large_is_let_go() {
        let mut large = OutBuf::take();
        large.resize(KEPT_BYTES_MAX + 1, 0);
        drop(large);
        assert!(OutBuf::take().capacity() <= KEPT_BYTES_MAX);
    }
}
