//! The kernel's side of the ring: two queues in shared memory, and the call that hands over.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{self, Ordering};

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue};

use super::descriptor::Descriptor;
use super::{BUFFER_GROUP, BULK_GROUP, Completion, OPERATIONS};
use crate::bulk::BulkRing;
use crate::pinned::BufferPool;
use crate::provided_ring::ProvidedRing;

/// `IORING_ENTER_GETEVENTS`: run deferred task work and post its completions.
const GETEVENTS: u32 = 1;
/// Sets a socket option through the ring (`SOCKET_URING_OP_SETSOCKOPT`), to reset a connection.
const SET_SOCKET_OPTION: u8 = opcode::SetSockOpt::CODE;
/// How many slots the two queues have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSizes {
    submissions: u32,
    completions: u32,
}

impl QueueSizes {
    /// More submissions than a batch of completions asks for, so that one call takes them all. When completions overflow the
    /// kernel keeps the rest until the next call.
    pub(crate) const FULL: Self = Self { submissions: 1024, completions: 8192 };
    /// For hosts that allow little locked memory: a tenth of it, and more calls under load.
    pub(crate) const SMALL: Self = Self { submissions: 128, completions: 512 };
}

/// What the queues hold for the kernel, and what the kernel says in their flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// Entries that have not been handed over.
    pub(super) queued: u32,
    /// The kernel has work that it does when it is entered.
    pub(super) deferred: bool,
    /// Completions did not fit into their queue.
    pub(super) overflow: bool,
}

pub(super) struct Kernel {
    descriptor: Descriptor,
    uring: IoUring,
}

impl Kernel {
    /// Sets up a ring for the calling thread. It registers what [`Ring::new`](super::Ring::new) says.
    ///
    /// # Safety
    /// `buffers` and `bulk` must outlive the kernel's use of the ring: whoever owns the value drops them after it.
    pub(super) unsafe fn new(
        files_max: u32,
        sizes: QueueSizes,
        buffers: &BufferPool,
        bulk: &BulkRing,
        wake: &OwnedFd,
    ) -> io::Result<Self> {
        let uring: IoUring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(sizes.completions)
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_no_sqarray()
            .build(sizes.submissions)?;
        let submitter = uring.submitter();
        submitter.register_files_sparse(files_max)?;
        submitter.register_eventfd(wake.as_raw_fd())?;
        let register = |ring: &ProvidedRing, group| {
            // SAFETY: the caller keeps the memory of the rings, and of the buffers that they list, alive for longer.
            unsafe { submitter.register_buf_ring_with_flags(ring.address(), ring.entries(), group, 0) }
        };
        buffers.provided_ring().map_or(Ok(()), |ring| register(ring, BUFFER_GROUP))?;
        register(bulk.ring(), BULK_GROUP)?;
        submitter.register_restrictions(&mut restrictions())?;
        // Before the ring is enabled, since from then on it refuses to register anything.
        let descriptor = Descriptor::new(uring.as_raw_fd());
        submitter.register_enable_rings()?;
        Ok(Self { descriptor, uring })
    }

    /// Queues an entry; `false` if there is no room.
    ///
    /// # Safety
    /// What the entry points to and what it names must live until its last completion.
    #[inline(always)]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller upholds what the entry needs.
        unsafe { self.uring.submission().push(entry).is_ok() }
    }

    #[inline(always)]
    pub(super) fn pending(&mut self) -> Pending {
        let submission = self.uring.submission();
        Pending {
            queued: submission.len() as u32,
            deferred: submission.taskrun(),
            overflow: submission.cq_overflow(),
        }
    }

    /// Hands over `queued` entries, and lets the kernel run what it has deferred.
    pub(super) fn enter(&mut self, queued: u32) -> io::Result<usize> {
        self.descriptor.enter(queued, 0, GETEVENTS)
    }

    /// Takes all completions that have come.
    #[inline(always)]
    pub(super) fn collect(&mut self, completions: &mut Vec<Completion>) {
        let entries = self.uring.completion();
        completions.extend(
            entries.filter_map(|entry| Completion::new(entry.user_data(), entry.result(), entry.flags())),
        );
    }

    pub(super) fn mute_signals(&mut self) {
        // The kernel notes that there is work, and then looks whether to signal. Only where the note is a barrier, as it is
        // here, cannot both sides miss what the other has written.
        if cfg!(target_arch = "x86_64") {
            self.uring.completion().disable_eventfd();
        }
    }

    pub(super) fn ask_for_signals(&mut self) -> bool {
        let mut completions = self.uring.completion();
        completions.enable_eventfd();
        atomic::fence(Ordering::SeqCst);
        completions.sync();
        let has_completed = !completions.is_empty();
        drop(completions);
        let pending = self.pending();
        has_completed || pending.deferred || pending.overflow
    }

    #[cfg(test)]
    pub(super) fn is_registered(&self) -> bool {
        matches!(self.descriptor, Descriptor::Registered(_))
    }
}

fn restrictions() -> Vec<Restriction> {
    let flags = squeue::Flags::FIXED_FILE | squeue::Flags::BUFFER_SELECT | squeue::Flags::SKIP_SUCCESS;
    OPERATIONS
        .iter()
        .map(|(_, code)| Restriction::sqe_op(*code))
        .chain([Restriction::sqe_op(SET_SOCKET_OPTION), Restriction::sqe_flags_allowed(flags.bits())])
        .collect()
}

/// How muting and asking meet a kernel that has work at that moment. Ours is what the methods above do; the kernel's is
/// `io_req_local_work_add`: it puts work on a list, notes it in the ring's flags, and then looks whether to signal.
#[cfg(all(test, gimmal_loom))]
mod model {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, Ordering, fence};
    use loom::thread;

    #[derive(Default)]
    struct Shared {
        has_work: AtomicBool,
        muted: AtomicBool,
        signalled: AtomicBool,
    }

    impl Shared {
        fn kernel_has_work(&self, note_is_barrier: bool) {
            self.has_work.store(true, Ordering::Relaxed);
            if note_is_barrier {
                fence(Ordering::SeqCst);
            }
            if !self.muted.load(Ordering::Relaxed) {
                self.signalled.store(true, Ordering::Release);
            }
        }

        /// Whether the core may sleep.
        fn ask_for_signals(&self) -> bool {
            self.muted.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            !self.has_work.load(Ordering::Relaxed)
        }
    }

    fn sleeps_through_work(note_is_barrier: bool) {
        loom::model(move || {
            let shared = Arc::new(Shared::default());
            shared.muted.store(true, Ordering::Relaxed);
            let kernel = Arc::clone(&shared);
            let working = thread::spawn(move || kernel.kernel_has_work(note_is_barrier));
            let sleeps = shared.ask_for_signals();
            working.join().unwrap();
            assert!(
                !sleeps || shared.signalled.load(Ordering::Acquire),
                "the core sleeps, and nothing wakes it"
            );
        });
    }

    #[test]
    fn a_core_never_sleeps_through_work() {
        sleeps_through_work(true);
    }

    /// Why signals are muted on x86-64 alone.
    #[test]
    #[should_panic(expected = "nothing wakes it")]
    fn where_the_note_is_no_barrier_work_can_be_missed() {
        sleeps_through_work(false);
    }
}
