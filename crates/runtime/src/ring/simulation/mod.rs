//! The ring against a simulated kernel.
//!
//! [`SimulatedKernel`] takes the entries that the ring queues, carries them out in an order that a seed decides, and checks
//! each one against what a kernel would do with it. [`run`] drives a whole core on it, with clients and handlers that do
//! what the seed says: thousands of interleavings in a second, each of which can be repeated.

mod kernel;
mod random;
mod scenario;

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::squeue;

use super::kernel::{Kernel as RealKernel, Pending, QueueSizes};
use super::{Completion, Ring};
use crate::bulk::BulkRing;
use crate::counters::CoreCounters;
use crate::pinned::BufferPool;
use kernel::SimulatedKernel;

/// The kernel's side of a ring in unit tests: the real one, or a simulated one.
pub(super) enum Kernel {
    Real(Box<RealKernel>),
    Simulated(Rc<RefCell<SimulatedKernel>>),
}

impl Kernel {
    /// # Safety
    /// As [`RealKernel::new`].
    pub(super) unsafe fn new(
        files_max: u32,
        sizes: QueueSizes,
        buffers: &BufferPool,
        bulk: &BulkRing,
        wake: &OwnedFd,
    ) -> io::Result<Self> {
        // SAFETY: handed on to the caller.
        unsafe {
            RealKernel::new(files_max, sizes, buffers, bulk, wake).map(|kernel| Self::Real(Box::new(kernel)))
        }
    }

    /// # Safety
    /// As [`RealKernel::push`].
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        match self {
            // SAFETY: handed on to the caller.
            Self::Real(kernel) => unsafe { kernel.push(entry) },
            Self::Simulated(kernel) => kernel.borrow_mut().push(entry),
        }
    }

    pub(super) fn pending(&mut self) -> Pending {
        match self {
            Self::Real(kernel) => kernel.pending(),
            Self::Simulated(kernel) => kernel.borrow().pending(),
        }
    }

    pub(super) fn enter(&mut self, queued: u32) -> io::Result<usize> {
        match self {
            Self::Real(kernel) => kernel.enter(queued),
            Self::Simulated(kernel) => kernel.borrow_mut().enter(),
        }
    }

    pub(super) fn collect(&mut self, completions: &mut Vec<Completion>) {
        match self {
            Self::Real(kernel) => kernel.collect(completions),
            Self::Simulated(kernel) => kernel.borrow_mut().collect(completions),
        }
    }

    pub(super) fn mute_signals(&mut self) {
        match self {
            Self::Real(kernel) => kernel.mute_signals(),
            Self::Simulated(_) => {}
        }
    }

    pub(super) fn ask_for_signals(&mut self) -> bool {
        match self {
            Self::Real(kernel) => kernel.ask_for_signals(),
            Self::Simulated(_) => true,
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        matches!(self, Self::Real(kernel) if kernel.is_registered())
    }
}

impl Ring {
    /// A ring on a simulated kernel with `files` direct descriptors.
    fn simulated(
        seed: u64,
        files: usize,
        buffers: Rc<BufferPool>,
        counters: Arc<CoreCounters>,
    ) -> (Self, Rc<RefCell<SimulatedKernel>>) {
        let bulk = BulkRing::new().unwrap();
        let receive = buffers.provided_ring().unwrap();
        let kernel = Rc::new(RefCell::new(SimulatedKernel::new(seed, files, receive, bulk.ring())));
        let ring = Self::with_kernel(Kernel::Simulated(Rc::clone(&kernel)), bulk, buffers, counters);
        (ring, kernel)
    }
}
