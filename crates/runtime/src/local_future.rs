//! Boxed futures whose memory is recycled by the thread that uses them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// Block sizes are powers of two from `1 << MIN_SHIFT` to `1 << MAX_SHIFT` bytes.
const MIN_SHIFT: u32 = 6;
const MAX_SHIFT: u32 = 13;
const CLASSES: usize = (MAX_SHIFT - MIN_SHIFT + 1) as usize;
const BLOCK_ALIGN: usize = 16;
/// Free blocks kept per size; what is over goes back to the allocator.
const BLOCKS_KEPT: usize = 256;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { free: [const { Vec::new() }; CLASSES] }) };
}

struct Pool {
    free: [Vec<NonNull<u8>>; CLASSES],
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (class, blocks) in self.free.iter().enumerate() {
            for block in blocks {
                // SAFETY: every block in `free[class]` was allocated by `take` with this layout, and is
                // listed once, because `give` is called once per block, when its future is dropped.
                unsafe { dealloc(block.as_ptr(), block_layout(class)) };
            }
        }
    }
}

/// The size class that holds `layout`, or `None` if it goes to the allocator directly.
fn class_of(layout: Layout) -> Option<usize> {
    if layout.size() > 1 << MAX_SHIFT || layout.align() > BLOCK_ALIGN {
        return None;
    }
    let shift = layout.size().max(1).next_power_of_two().trailing_zeros();
    Some(shift.saturating_sub(MIN_SHIFT) as usize)
}

fn block_layout(class: usize) -> Layout {
    Layout::from_size_align(1 << (class as u32 + MIN_SHIFT), BLOCK_ALIGN)
        .expect("sizes are small powers of two")
}

/// Memory for a non-zero-sized `layout`.
fn take(layout: Layout) -> NonNull<u8> {
    let class = class_of(layout);
    let recycled =
        class.and_then(|class| POOL.try_with(|pool| pool.borrow_mut().free[class].pop()).ok().flatten());
    recycled.unwrap_or_else(|| {
        let layout = class.map_or(layout, block_layout);
        // SAFETY: the caller's layout is not zero-sized, and a block's never is.
        let block = unsafe { alloc(layout) };
        NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
    })
}

/// Gives back what `take(layout)` gave.
///
/// # Safety
/// `block` came from `take` with an equal `layout`, and nothing uses it any more.
unsafe fn give(block: NonNull<u8>, layout: Layout) {
    let class = class_of(layout);
    if let Some(class) = class {
        let kept = POOL.try_with(|pool| {
            let free = &mut pool.borrow_mut().free[class];
            let room = free.len() < BLOCKS_KEPT;
            if room {
                free.push(block);
            }
            room
        });
        if kept == Ok(true) {
            return;
        }
    }
    // SAFETY: `take` allocated it with this very layout.
    unsafe { dealloc(block.as_ptr(), class.map_or(layout, block_layout)) };
}

/// A `Pin<Box<dyn Future<Output = T>>>` without the allocator: its memory comes from, and goes back to, a
/// free list of the thread. In a steady state, making and dropping one allocates nothing.
///
/// It is `!Send`, as everything on a core is. Futures of more than 8 KiB, or aligned to more than 16 bytes,
/// use the allocator.
///
/// # Cancel safety
/// Dropping it drops the future that it holds.
///
/// ```
/// # use gimmal_runtime::LocalFuture;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let name = String::from("gimmal");
/// let greeting = LocalFuture::new(async move { format!("hello, {name}") });
/// assert_eq!(greeting.await, "hello, gimmal");
/// # }
/// ```
pub struct LocalFuture<T> {
    future: NonNull<dyn Future<Output = T>>,
}

impl<T: 'static> LocalFuture<T> {
    /// Moves `future` into a recycled block.
    pub fn new<F: Future<Output = T> + 'static>(future: F) -> Self {
        let layout = Layout::new::<F>();
        let block = if layout.size() == 0 { NonNull::<F>::dangling() } else { take(layout).cast::<F>() };
        // SAFETY: the block is ours alone, as large as `F` and aligned for it (`class_of` sees to both; a
        // zero-sized `F` may be written to any aligned pointer).
        unsafe { block.write(future) };
        Self { future: block }
    }
}

impl<T> Future for LocalFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: `future` points to a live future until `drop`; it is never moved out of its block, which
        // stays where it is, so pinning it is sound; `&mut self` makes the access exclusive.
        let future = unsafe { Pin::new_unchecked(self.future.as_mut()) };
        future.poll(cx)
    }
}

/// Nothing in it is pinned by where *it* lies.
impl<T> Unpin for LocalFuture<T> {}

impl<T> Drop for LocalFuture<T> {
    fn drop(&mut self) {
        /// Gives the block back even if the future's destructor panics.
        struct Block(NonNull<u8>, Layout);
        impl Drop for Block {
            fn drop(&mut self) {
                if self.1.size() > 0 {
                    // SAFETY: the block came from `take` with the layout of this very value, which has just
                    // been dropped in place.
                    unsafe { give(self.0, self.1) };
                }
            }
        }
        // SAFETY: the future is live until the `drop_in_place` below.
        let layout = Layout::for_value(unsafe { self.future.as_ref() });
        let _block = Block(self.future.cast(), layout);
        // SAFETY: dropped once, here, and not used after.
        unsafe { self.future.drop_in_place() };
    }
}

impl<T> fmt::Debug for LocalFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::task::Waker;

    fn poll_once<T>(future: &mut LocalFuture<T>) -> Poll<T> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_block_is_used_again() {
        let first = LocalFuture::new(async { [0_u8; 100] });
        let at = first.future.cast::<u8>();
        drop(first);
        let second = LocalFuture::new(async { [1_u8; 90] });
        assert_eq!(second.future.cast::<u8>(), at);
    }

    #[test]
    fn sizes_from_nothing_to_large_hold_their_values() {
        fn check<const N: usize>() {
            let data = [7_u8; N];
            let mut future = LocalFuture::new(async move {
                std::future::ready(()).await;
                data
            });
            let Poll::Ready(back) = poll_once(&mut future) else { panic!("it is ready at once") };
            assert_eq!(back, [7_u8; N]);
        }
        check::<0>();
        check::<1>();
        check::<63>();
        check::<64>();
        check::<1000>();
        check::<8192>();
        check::<100_000>();
    }

    #[test]
    fn large_alignment_is_kept() {
        #[repr(align(128))]
        struct Wide(u8);
        impl Future for Wide {
            type Output = usize;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<usize> {
                Poll::Ready(std::ptr::from_ref(&*self).addr() + usize::from(self.0))
            }
        }
        let mut future = LocalFuture::new(Wide(0));
        let Poll::Ready(address) = poll_once(&mut future) else { panic!("it is ready at once") };
        assert_eq!(address % 128, 0);
    }

    #[test]
    fn dropping_a_pending_future_drops_what_it_holds() {
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        let mut future = LocalFuture::new(async move {
            std::future::pending::<()>().await;
            drop(inside);
        });
        assert!(poll_once(&mut future).is_pending());
        assert_eq!(Rc::strong_count(&held), 2);
        drop(future);
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[test]
    fn a_panic_in_the_destructor_loses_no_block() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("boom");
            }
        }
        let bomb = Bomb;
        let future = LocalFuture::new(async move { drop(bomb) });
        let at = future.future.cast::<u8>();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(future)));
        assert!(result.is_err());
        let next = LocalFuture::new(async { [0_u8; 10] });
        assert_eq!(next.future.cast::<u8>(), at);
    }
}
