//! Boxes whose memory is used again.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Boxes of one kind that a thread keeps.
const KEPT: usize = 256;

/// Boxes that wait to be used again.
pub(crate) type Free<T> = RefCell<Vec<Box<T>>>;

/// What lies in boxes that are used again. [`Default`] makes the first.
pub(crate) trait Recycle: Default + 'static {
    /// Where those of the thread are kept.
    const FREE: &'static LocalKey<Free<Self>>;

    /// Forgets all that belongs to the use that has ended.
    ///
    /// It takes the value apart by name, without `..`: a field that is added and not cleared does not compile.
    fn clear(&mut self);
}

/// A value that stays in one place while its handle goes from hand to hand. What moves often is cheap to move so, and
/// in a steady state nothing is allocated.
pub(crate) struct Recycled<T: Recycle> {
    /// `None` only while it is being dropped.
    value: Option<Box<T>>,
}

impl<T: Recycle> Recycled<T> {
    /// A value that nothing is left in of its last use.
    #[inline]
    pub(crate) fn take() -> Self {
        let recycled = T::FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        Self { value: Some(recycled.unwrap_or_default()) }
    }
}

impl<T: Recycle> Default for Recycled<T> {
    fn default() -> Self {
        Self::take()
    }
}

impl<T: Recycle> Deref for Recycled<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is taken out in `drop` alone")
    }
}

impl<T: Recycle> DerefMut for Recycled<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is taken out in `drop` alone")
    }
}

impl<T: Recycle> Drop for Recycled<T> {
    fn drop(&mut self) {
        let Some(mut value) = self.value.take() else { return };
        value.clear();
        // The thread is ending when this fails: the memory is simply freed.
        let _ = T::FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(value);
            }
        });
    }
}

impl<T: Recycle + fmt::Debug> fmt::Debug for Recycled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Note(String);

    thread_local! {
        static NOTES: Free<Note> = const { RefCell::new(Vec::new()) };
    }

    impl Recycle for Note {
        const FREE: &'static LocalKey<Free<Self>> = &NOTES;

        fn clear(&mut self) {
            let Self(text) = self;
            text.clear();
        }
    }

    #[test]
    fn memory_is_used_again_and_nothing_is_left_in_it() {
        let mut first = Recycled::<Note>::take();
        first.0.push_str("secret of the last request");
        let at = first.0.as_ptr();
        drop(first);
        let second = Recycled::<Note>::take();
        assert_eq!((second.0.as_ptr(), second.0.as_str()), (at, ""));
    }

    #[test]
    fn no_more_than_a_few_are_kept() {
        let many: Vec<_> = (0..2 * KEPT).map(|_| Recycled::<Note>::take()).collect();
        drop(many);
        assert_eq!(NOTES.with_borrow(Vec::len), KEPT);
    }
}
