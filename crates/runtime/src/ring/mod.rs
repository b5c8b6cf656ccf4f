//! The networking ring of one core.
//!
//! Every operation in flight is an entry of a slab. Its key (slot and generation) is the user data of the
//! submission, so a completion can only ever reach the operation that it belongs to. The entry owns what the
//! kernel uses (the connection, with its buffers in flight), so that memory outlives its operation whatever the
//! program drops in the meantime.

mod accept;
mod descriptor;
mod kernel;
mod oneshot;
#[cfg(test)]
mod simulation;
mod slot;
mod socket;
mod unread;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{cqueue, opcode, squeue, types};
use slab::Slab;

use crate::bulk::BulkRing;
use crate::connection::Connection;
use crate::counters::CoreCounters;
use crate::pinned::BufferPool;
use crate::send_buf::SendBuf;

pub(crate) use accept::RingListener;
#[cfg(not(test))]
use kernel::Kernel;
use kernel::Pending;
pub(crate) use kernel::QueueSizes;
pub(crate) use oneshot::{Oneshot, OneshotFuture, Yields};
#[cfg(test)]
use simulation::Kernel;
pub(crate) use socket::{RingSocket, writable_entry};

/// The id under which the receive buffers are registered.
const BUFFER_GROUP: u16 = 0;
/// The id under which the bulk buffers are registered.
const BULK_GROUP: u16 = 1;

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
    /// `None` for what nobody watches, whose key is none: it shows only when it fails, and then there was nothing left to
    /// cancel or to close.
    fn new(user_data: u64, result: i32, flags: u32) -> Option<Self> {
        Some(Self { key: OpKey(NonZeroU64::new(user_data)?), result, flags })
    }

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
    kernel: Kernel,
    in_flight: Slab<Op>,
    /// Of the last use of each slot of `in_flight`.
    generations: Vec<u32>,
    /// Submissions that found the queue full while the kernel would not take any.
    backlog: VecDeque<squeue::Entry>,
    counters: Arc<CoreCounters>,
    /// Below the kernel's side, as the buffers are, so that they outlive it.
    bulk: BulkRing,
    _buffers: Rc<BufferPool>,
}

impl Ring {
    /// Sets up a ring for the calling thread, registers `files_max` direct descriptors, the receive buffers and
    /// `wake` (an eventfd that is signalled when there is work), and locks it down to [`OPERATIONS`].
    pub(crate) fn new(
        files_max: u32,
        sizes: QueueSizes,
        buffers: Rc<BufferPool>,
        wake: &OwnedFd,
        counters: Arc<CoreCounters>,
    ) -> io::Result<Self> {
        let bulk = BulkRing::new()?;
        // SAFETY: the new value owns `buffers` and `bulk`, and drops them after the kernel's side.
        let kernel = unsafe { Kernel::new(files_max, sizes, &buffers, &bulk, wake)? };
        Ok(Self::with_kernel(kernel, bulk, buffers, counters))
    }

    fn with_kernel(
        kernel: Kernel,
        bulk: BulkRing,
        buffers: Rc<BufferPool>,
        counters: Arc<CoreCounters>,
    ) -> Self {
        Self {
            kernel,
            in_flight: Slab::with_capacity(1024),
            generations: Vec::with_capacity(1024),
            backlog: VecDeque::new(),
            counters,
            bulk,
            _buffers: buffers,
        }
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
            let queued = self.kernel.pending().queued;
            let _ = self.enter(queued);
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
        unsafe { self.kernel.push(entry) }
    }

    fn enter(&mut self, queued: u32) -> io::Result<usize> {
        self.counters.ring_enters.add(1);
        self.kernel.enter(queued)
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
        let Pending { queued, deferred, overflow } = self.kernel.pending();
        if overflow {
            self.counters.cq_overflows.add(1);
        }
        if queued > 0 || deferred || overflow {
            match self.enter(queued) {
                Ok(_) => {}
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.collect(completions);
        Ok(queued > 0 && (!self.backlog.is_empty() || self.kernel.pending().queued > 0))
    }

    /// Has the eventfd signal no more: while the core goes round, signals cost and tell it nothing.
    pub(crate) fn mute_signals(&mut self) {
        self.kernel.mute_signals();
    }

    /// Has the eventfd signal for what comes from now on. Returns whether something is there already that no signal was
    /// given for.
    pub(crate) fn ask_for_signals(&mut self) -> bool {
        self.kernel.ask_for_signals()
    }

    fn collect(&mut self, completions: &mut Vec<Completion>) {
        let before = completions.len();
        self.kernel.collect(completions);
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

    /// Whether the operation of a key is in flight.
    #[cfg(test)]
    fn owns(&self, key: u64) -> bool {
        let key = NonZeroU64::new(key).map(OpKey);
        key.is_some_and(|key| {
            self.generations.get(key.slot()) == Some(&key.generation()) && self.in_flight.contains(key.slot())
        })
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Asks the kernel to end all that is in flight; each operation still completes.
    pub(crate) fn cancel_all(&mut self) {
        self.push_unwatched(opcode::AsyncCancel2::new(types::CancelBuilder::any()).build());
    }

    /// Whether nothing is left but memory that was sent without copying, on connections that are closed: the kernel has it
    /// for as long as the clients take.
    pub(crate) fn only_memory_is_left(&self) -> bool {
        let is_memory = |op: &Op| matches!(op, Op::SendZeroCopy(op) if op.connection.is_closed());
        self.in_flight.iter().all(|(_, op)| is_memory(op))
    }

    /// Leaves the memory that was sent without copying to the kernel for good, and returns what is in flight.
    pub(crate) fn leave_memory(&mut self) -> Slab<Op> {
        let in_flight = std::mem::take(&mut self.in_flight);
        for (_, op) in &in_flight {
            if let Op::SendZeroCopy(op) = op {
                std::mem::forget(Rc::clone(&op.memory));
            }
        }
        in_flight
    }

    /// Ends listening on the sockets that a kernel does not let go of: clients would connect, and nobody accept them.
    pub(crate) fn stop_listening(&self) {
        for (_, op) in &self.in_flight {
            if let Op::Accept(listener) = op {
                listener.stop_listening();
            }
        }
    }

    /// Hands over what is queued, for whatever comes of it.
    pub(crate) fn flush(&mut self) {
        let _ = self.turn(&mut Vec::new());
    }
}

/// The user data of operations that nobody watches: no key of an operation in flight.
const UNWATCHED: u64 = 0;

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

    /// A registered ring saves each call a look-up of the descriptor.
    #[test]
    fn the_ring_is_entered_by_its_registered_index() {
        let buffers = BufferPool::with_provided_ring(8, 4096, false).unwrap();
        // Any descriptor that can be signalled.
        // SAFETY: makes a new descriptor, which is owned from here on.
        let wake = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        let ring = Ring::new(16, QueueSizes::FULL, buffers, &wake, Arc::default()).unwrap();
        assert!(ring.kernel.is_registered());
    }
}
