//! What all connections of a core hold together.

use std::cell::Cell;

/// Bytes that the connections of a core hold, against what they may hold together.
#[derive(Debug)]
pub(crate) struct Tally {
    held: Cell<usize>,
    max: usize,
}

impl Tally {
    pub(crate) fn new(max: usize) -> Self {
        Self { held: Cell::new(0), max }
    }

    #[inline(always)]
    pub(crate) fn add(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
    }

    #[inline(always)]
    pub(crate) fn remove(&self, bytes: usize) {
        debug_assert!(bytes <= self.held.get(), "what is let go of was held");
        self.held.set(self.held.get().saturating_sub(bytes));
    }

    pub(crate) fn held(&self) -> usize {
        self.held.get()
    }

    /// What one connection may hold, of `max` at most: nothing while all together hold too much.
    #[inline(always)]
    pub(crate) fn allowance(&self, max: usize) -> usize {
        if self.is_full() { 0 } else { max }
    }

    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.held.get() > self.max
    }
}
