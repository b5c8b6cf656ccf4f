//! A queue for what seldom queues up.

use std::collections::VecDeque;

/// A queue that takes one word while nothing has been in it: what every connection has, and few use.
#[expect(clippy::box_collection, reason = "a word in each connection instead of four")]
pub(crate) struct LazyQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for LazyQueue<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> LazyQueue<T> {
    pub(crate) fn push_back(&mut self, value: T) {
        self.0.get_or_insert_default().push_back(value);
    }

    pub(crate) fn push_front(&mut self, value: T) {
        self.0.get_or_insert_default().push_front(value);
    }

    /// The first of it. Who finds none leaves no memory either.
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let value = self.0.as_mut()?.pop_front();
        if value.is_none() {
            self.release();
        }
        value
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.0.as_ref()?.front()
    }

    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()?.back_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops what is in it, and its memory.
    pub(crate) fn release(&mut self) {
        self.0 = None;
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|queue| queue.iter())
    }

    /// Whether it holds no memory.
    #[cfg(test)]
    pub(crate) fn is_released(&self) -> bool {
        self.0.is_none()
    }
}
