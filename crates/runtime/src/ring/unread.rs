//! What has been received and not read.

use crate::lazy_queue::LazyQueue;
use crate::pinned::PinnedBytes;

/// Received buffers in order. Most requests are one buffer, so the first has a place of its own, and a connection that
/// has read all keeps no memory for the others.
#[derive(Default)]
pub(super) struct Unread {
    first: Option<PinnedBytes>,
    others: LazyQueue<PinnedBytes>,
    bytes: usize,
}

impl Unread {
    /// Bytes in all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds what has been received. What fits behind the last piece, in the same buffer, is copied there: a peer that sends
    /// tiny packets would otherwise take a whole buffer with each. So any two neighbours hold more than one buffer's worth.
    #[inline(always)]
    pub(super) fn push_back(&mut self, bytes: PinnedBytes) {
        self.bytes += bytes.len();
        match &mut self.first {
            None => self.first = Some(bytes),
            Some(first) => {
                let last = self.others.back_mut().unwrap_or(first);
                if !last.try_extend(&bytes) {
                    self.others.push_back(bytes);
                }
            }
        }
    }

    /// Pieces that lie in receive buffers.
    #[cfg(test)]
    pub(super) fn buffers(&self) -> usize {
        self.first.iter().chain(self.others.iter()).filter(|piece| piece.is_pinned()).count()
    }

    pub(super) fn push_front(&mut self, bytes: PinnedBytes) {
        self.bytes += bytes.len();
        if let Some(second) = self.first.replace(bytes) {
            self.others.push_front(second);
        }
    }

    #[inline(always)]
    pub(super) fn pop_front(&mut self) -> Option<PinnedBytes> {
        let bytes = self.first.take()?;
        self.bytes -= bytes.len();
        self.first = self.others.pop_front();
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_out_in_order_and_none_is_kept() {
        let mut unread = Unread::default();
        for text in ["b", "cc", "ddd"] {
            unread.push_back(PinnedBytes::from(text));
        }
        unread.push_front(PinnedBytes::from("a"));
        assert_eq!(unread.bytes(), 7);
        let all: Vec<_> = std::iter::from_fn(|| unread.pop_front()).map(|bytes| bytes.to_vec()).collect();
        assert_eq!(all, [&b"a"[..], b"b", b"cc", b"ddd"]);
        assert_eq!((unread.bytes(), unread.others.is_released()), (0, true));
    }
}
