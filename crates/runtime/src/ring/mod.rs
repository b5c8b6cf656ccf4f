//! The networking ring of one core.
//!
//! Every operation in flight is an entry of a slab. Its key (slot and generation) is the user data of the
//! submission, so a completion can only ever reach the operation that it belongs to. The entry owns what the
//! kernel uses (the connection, with its buffers in flight), so that memory outlives its operation whatever the
//! program drops in the meantime.

mod accept;
mod descriptor;
mod oneshot;
mod slot;
mod socket;
mod unread;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{self, Ordering};
use std::time::{Duration, Instant};

use io_uring::register::Restriction;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use crate::bulk::BulkRing;
use crate::connection::Connection;
use crate::counters::CoreCounters;
use crate::pinned::BufferPool;
use crate::provided_ring::ProvidedRing;
use crate::send_buf::SendBuf;

pub(crate) use accept::RingListener;
use descriptor::Descriptor;
pub(crate) use oneshot::{Oneshot, OneshotFuture, Yields};
pub(crate) use socket::{RingSocket, writable_entry};

/// The id under which the receive buffers are registered.
const BUFFER_GROUP: u16 = 0;
/// The id under which the bulk buffers are registered.
const BULK_GROUP: u16 = 1;
/// `IORING_ENTER_GETEVENTS`: run deferred task work and post its completions.
const GETEVENTS: u32 = 1;
/// How long a ring that is being torn down may take to give back the operations in flight.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The operations that the networking ring submits; after set-up it refuses all others.
pub(crate) const OPERATIONS: [(&str, u8); 11] = [
    ("IORING_OP_ACCEPT", opcode::AcceptMulti::CODE),
    ("IORING_OP_RECV", opcode::RecvMulti::CODE),
    ("IORING_OP_SEND", opcode::Send::CODE),
    ("IORING_OP_SENDMSG", opcode::SendMsg::CODE),
    ("IORING_OP_SEND_ZC", opcode::SendZc::CODE),
    ("IORING_OP_SHUTDOWN", opcode::Shutdown::CODE),
    ("IORING_OP_CLOSE", opcode::Close::CODE),
    ("IORING_OP_CONNECT", opcode::Connect::CODE),
    ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
    ("IORING_OP_FIXED_FD_INSTALL", opcode::FixedFdInstall::CODE),
    ("IORING_OP_POLL_ADD", opcode::PollAdd::CODE),
];
/// Sets a socket option through the ring (`SOCKET_URING_OP_SETSOCKOPT`), to reset a connection.
const SET_SOCKET_OPTION: u8 = opcode::SetSockOpt::CODE;

/// The key of an operation in flight: its slot in the slab and the generation of that use of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpKey(NonZeroU64);

impl OpKey {
    fn new(slot: usize, generation: u32) -> Self {
        let key = u64::from(generation) << 32 | slot as u64;
        Self(NonZeroU64::new(key).expect("no generation is zero"))
    }

    fn slot(self) -> usize {
        (self.0.get() & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u32 {
        (self.0.get() >> 32) as u32
    }
}

/// What an operation in flight is, with everything that must live until it completes. One pointer and what it stands for,
/// so that it moves in registers.
#[derive(Clone)]
pub(crate) enum Op {
    Accept(Rc<RingListener>),
    /// A multishot receive into provided buffers.
    Receive(Rc<Connection>),
    /// A single receive into a bulk buffer.
    ReceiveBulk(Rc<Connection>),
    /// A single receive into memory of the connection's own, when the buffers had run out.
    ReceiveOwned(Rc<Connection>),
    Send(Rc<Connection>),
    /// The memory is the kernel's until the notification, which may come long after the result.
    SendZeroCopy(Box<WithMemory<SendBuf>>),
    /// Makes the close that follows a reset.
    Linger(Box<WithMemory<libc::linger>>),
    /// Acts on the connection's socket, and its outcome is of no use.
    Unwatched(Rc<Connection>),
    Oneshot(Rc<Oneshot>),
}

/// A connection, with memory that the kernel uses on its behalf.
pub(crate) struct WithMemory<T> {
    pub(crate) connection: Rc<Connection>,
    memory: Rc<T>,
}

impl<T> Clone for WithMemory<T> {
    fn clone(&self) -> Self {
        Self { connection: Rc::clone(&self.connection), memory: Rc::clone(&self.memory) }
    }
}

impl<T> WithMemory<T> {
    fn new(connection: &Rc<Connection>, memory: Rc<T>) -> Box<Self> {
        Box::new(Self { connection: Rc::clone(connection), memory })
    }
}

/// A completion, copied out of the completion queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) key: OpKey,
    /// What the operation returned, or a negative errno.
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completion {
    /// Whether the operation goes on and will complete again.
    pub(crate) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// Whether it says that the kernel is done with the memory of a zero-copy send.
    pub(crate) fn is_notification(self) -> bool {
        cqueue::notif(self.flags)
    }
}

pub(crate) struct Ring {
    descriptor: Descriptor,
    uring: IoUring,
    in_flight: Slab<Op>,
    /// Of the last use of each slot of `in_flight`.
    generations: Vec<u32>,
    /// Submissions that found the queue full while the kernel would not take any.
    backlog: VecDeque<squeue::Entry>,
    counters: Arc<CoreCounters>,
    /// Below the ring, as the buffers are, so that they outlive it.
    bulk: BulkRing,
    _buffers: Rc<BufferPool>,
}

impl Ring {
    /// Sets up a ring for the calling thread, registers `files_max` direct descriptors, the receive buffers and
    /// `wake` (an eventfd that is signalled when there is work), and locks it down to [`OPERATIONS`].
    pub(crate) fn new(
        files_max: u32,
        buffers: Rc<BufferPool>,
        wake: &OwnedFd,
        counters: Arc<CoreCounters>,
    ) -> io::Result<Self> {
        let uring: IoUring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_no_sqarray()
            .build(SUBMISSIONS)?;
        let submitter = uring.submitter();
        submitter.register_files_sparse(files_max)?;
        submitter.register_eventfd(wake.as_raw_fd())?;
        let bulk = BulkRing::new()?;
        let register = |ring: &ProvidedRing, group| {
            // SAFETY: the memory of the rings and the buffers that they list live in `buffers` and `bulk`, which the new
            // value owns and drops after the ring.
            unsafe { submitter.register_buf_ring_with_flags(ring.address(), ring.entries(), group, 0) }
        };
        buffers.provided_ring().map_or(Ok(()), |ring| register(ring, BUFFER_GROUP))?;
        register(bulk.ring(), BULK_GROUP)?;
        submitter.register_restrictions(&mut restrictions())?;
        // Before the ring is enabled, since from then on it refuses to register anything.
        let descriptor = Descriptor::new(uring.as_raw_fd());
        submitter.register_enable_rings()?;
        Ok(Self {
            descriptor,
            uring,
            in_flight: Slab::with_capacity(1024),
            generations: Vec::with_capacity(1024),
            backlog: VecDeque::new(),
            counters,
            bulk,
            _buffers: buffers,
        })
    }

    /// Queues an operation. It reaches the kernel with the next [`turn`](Self::turn), together with all others
    /// that are queued by then.
    // Inlined, so that the entry is written to the queue and nowhere else.
    #[inline(always)]
    pub(crate) fn push(&mut self, entry: squeue::Entry, op: Op) -> OpKey {
        let slot = self.in_flight.insert(op);
        if slot == self.generations.len() {
            self.generations.push(0);
        }
        let generation = &mut self.generations[slot];
        // No key is zero.
        *generation = generation.checked_add(1).unwrap_or(1);
        let key = OpKey::new(slot, *generation);
        self.enqueue(entry.user_data(key.0.get()));
        key
    }

    /// Queues an operation that uses no memory of ours and whose outcome is of no use, such as a close: it completes
    /// in silence.
    pub(crate) fn push_unwatched(&mut self, entry: squeue::Entry) {
        self.enqueue(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(UNWATCHED));
    }

    /// Asks the kernel to end an operation; its own completion still comes.
    pub(crate) fn cancel(&mut self, key: OpKey) {
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(key.0.get())).build();
        self.push_unwatched(cancel);
    }

    #[inline(always)]
    fn enqueue(&mut self, entry: squeue::Entry) {
        self.counters.submissions.add(1);
        if !self.backlog.is_empty() || !self.try_enqueue(&entry) {
            self.enqueue_later(entry);
        }
    }

    /// Keeps an entry that the queue has no room for.
    #[cold]
    fn enqueue_later(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            // Hand over what there is. A kernel that refuses (EBUSY, EAGAIN, EINTR) will take it later.
            let queued = self.uring.submission().len() as u32;
            let _ = self.enter(queued, 0);
            if self.try_enqueue(&entry) {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    #[inline(always)]
    fn try_enqueue(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: whatever memory an entry points to is owned by its `Op` in the slab, which is removed only when the
        // last completion of the operation has been seen. What it names stays open as long: the socket of a connection
        // counts the operations that name it (`RingSocket::submit`), any other descriptor is owned by the `Op`.
        unsafe { self.uring.submission().push(entry).is_ok() }
    }

    fn enter(&self, submissions: u32, completions_min: u32) -> io::Result<usize> {
        self.counters.ring_enters.add(1);
        self.descriptor.enter(submissions, completions_min, GETEVENTS)
    }

    /// Hands over what is queued, lets the kernel run what it has deferred, and collects all completions: one
    /// system call, or none when there is nothing to do. Returns whether the kernel has left something queued, to be
    /// handed over with the next turn.
    ///
    /// # Errors
    /// What `io_uring_enter` fails with, other than what passes with time: EINTR, EBUSY, EAGAIN and ENOMEM.
    pub(crate) fn turn(&mut self, completions: &mut Vec<Completion>) -> io::Result<bool> {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_enqueue(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
        let submission = self.uring.submission();
        let queued = submission.len() as u32;
        let deferred = submission.taskrun();
        let overflow = submission.cq_overflow();
        drop(submission);
        if overflow {
            self.counters.cq_overflows.add(1);
        }
        if queued > 0 || deferred || overflow {
            match self.enter(queued, 0) {
                Ok(_) => {}
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.collect(completions);
        Ok(queued > 0 && (!self.backlog.is_empty() || !self.uring.submission().is_empty()))
    }

    /// Has the eventfd signal no more: while the core goes round, signals cost and tell it nothing.
    pub(crate) fn mute_signals(&mut self) {
        // The kernel notes that there is work, and then looks whether to signal. Only where the note is a barrier, as it is
        // here, cannot both sides miss what the other has written.
        if cfg!(target_arch = "x86_64") {
            self.uring.completion().disable_eventfd();
        }
    }

    /// Has the eventfd signal for what comes from now on. Returns whether something is there already that no signal was
    /// given for.
    pub(crate) fn ask_for_signals(&mut self) -> bool {
        let mut completions = self.uring.completion();
        completions.enable_eventfd();
        atomic::fence(Ordering::SeqCst);
        completions.sync();
        let has_completed = !completions.is_empty();
        drop(completions);
        let submission = self.uring.submission();
        has_completed || submission.taskrun() || submission.cq_overflow()
    }

    fn collect(&mut self, completions: &mut Vec<Completion>) {
        let before = completions.len();
        // What nobody watches, whose key is none, shows only when it fails, and then there was nothing left to cancel or to
        // close.
        completions.extend(self.uring.completion().filter_map(|entry| {
            let key = OpKey(NonZeroU64::new(entry.user_data())?);
            Some(Completion { key, result: entry.result(), flags: entry.flags() })
        }));
        self.counters.completions.add((completions.len() - before) as u64);
    }

    /// The operation of a completion, taken out of the slab if this was its last one; `None` for a stale key.
    pub(crate) fn complete(&mut self, completion: Completion) -> Option<Op> {
        let slot = completion.key.slot();
        if self.generations.get(slot) != Some(&completion.key.generation()) {
            return None;
        }
        if completion.more() { self.in_flight.get(slot).cloned() } else { self.in_flight.try_remove(slot) }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Cancels all that is in flight and waits for it, handing each completion to `on_completion`. Returns
    /// whether the kernel has let go of everything.
    pub(crate) fn drain(&mut self, mut on_completion: impl FnMut(Op, Completion)) -> bool {
        let until = Instant::now() + DRAIN_MAX;
        let cancel_all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        self.push_unwatched(cancel_all);
        let mut completions = Vec::new();
        while self.in_flight() > 0 && Instant::now() < until {
            if self.turn(&mut completions).is_err() {
                return false;
            }
            if completions.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            for completion in completions.drain(..) {
                if let Some(op) = self.complete(completion) {
                    on_completion(op, completion);
                }
            }
        }
        self.in_flight() == 0
    }

    /// Hands over what is queued, for whatever comes of it.
    pub(crate) fn flush(&mut self) {
        let _ = self.turn(&mut Vec::new());
    }
}

/// The user data of operations that nobody watches: no key of an operation in flight.
const UNWATCHED: u64 = 0;

/// Slots of the submission queue: more than a batch of completions asks for, so that one call takes them all.
const SUBMISSIONS: u32 = 1024;
/// Slots of the completion queue. When it overflows the kernel keeps the rest until the next call.
const COMPLETIONS: u32 = 8192;

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM))
}

fn restrictions() -> Vec<Restriction> {
    let flags = squeue::Flags::FIXED_FILE | squeue::Flags::BUFFER_SELECT | squeue::Flags::SKIP_SUCCESS;
    OPERATIONS
        .iter()
        .map(|(_, code)| Restriction::sqe_op(*code))
        .chain([Restriction::sqe_op(SET_SOCKET_OPTION), Restriction::sqe_flags_allowed(flags.bits())])
        .collect()
}
