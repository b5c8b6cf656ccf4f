//! A connection on the ring: one receive, one send in flight, and a queue for what is to follow.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::types::CancelBuilder;
use io_uring::{cqueue, opcode, squeue};

use super::slot::{Slot, SocketFile, addressed};
use super::unread::Unread;
use super::{BUFFER_GROUP, BULK_GROUP, Completion, OneshotFuture, Op, OpKey, WithMemory, Yields};
use crate::connection::Connection;
use crate::core::Core;
use crate::lazy_queue::LazyQueue;
use crate::pinned::PinnedBytes;
use crate::send_buf::SendBuf;

/// Pieces that one vectored send takes.
const VECTORED_MAX: usize = 16;
/// Bytes that one send carries: large enough to amortise the operation, small enough that a peer that reads
/// slowly shows progress.
const SEND_BYTES_MAX: usize = 256 * 1024;
/// Sends of at least this many bytes are tried without copying.
const ZERO_COPY_BYTES_MIN: usize = 32 * 1024;
/// The single receive that stands in for provided buffers when they have run out.
const OWNED_BYTES: usize = 16 * 1024;
/// `IORING_SEND_ZC_REPORT_USAGE`: the notification says whether the kernel copied after all.
const ZERO_COPY_REPORT_USAGE: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`.
const ZERO_COPY_COPIED: i32 = i32::MIN;

/// Whether the connection ends with a reset instead of in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reset {
    No,
    Asked,
    /// The option that makes the close a reset is being set, or has been.
    Prepared,
}

/// How receiving ended.
#[derive(Clone, Copy)]
enum ReceiveEnd {
    Eof,
    Errno(i32),
}

#[derive(Default)]
struct Receive {
    unread: Unread,
    op: Option<OpKey>,
    /// The operation has been asked to end: too much is unread, or the connection is closing.
    cancelling: bool,
    /// It waits for its turn at the bulk buffers.
    in_line: bool,
    /// Memory of a single receive in flight.
    owned: Option<Box<[u8]>>,
    end: Option<ReceiveEnd>,
}

impl Receive {
    /// Drops what was received and not read.
    fn forget(&mut self, core: &Core) {
        core.unread.remove(self.unread.bytes());
        self.unread = Unread::default();
    }
}

#[derive(Default)]
struct Transmit {
    queue: LazyQueue<SendBuf>,
    /// Bytes in `queue` and in flight.
    unsent: usize,
    op: Option<OpKey>,
    /// In flight once there is an operation; before, it waits for what else the same turn brings.
    in_flight: Option<InFlight>,
    errno: Option<i32>,
}

/// The data of the send in flight, which stays where it is until the completion has come.
enum InFlight {
    One { data: Held, sent: usize },
    Many(Box<Vectored>),
}

/// Who holds the data of a send. Its bytes do not move when this value does.
enum Held {
    Alone(SendBuf),
    /// Shared with the operation, since a zero-copy send uses it beyond its result.
    Shared(Rc<SendBuf>),
}

impl Held {
    fn share(&mut self) -> Rc<SendBuf> {
        let shared = match mem::replace(self, Self::Alone(SendBuf::Static(&[]))) {
            Self::Alone(data) => Rc::new(data),
            Self::Shared(data) => data,
        };
        *self = Self::Shared(Rc::clone(&shared));
        shared
    }
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Alone(data) => data,
            Self::Shared(data) => data,
        }
    }
}

struct Vectored {
    data: Vec<SendBuf>,
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl Vectored {
    /// Collects up to [`VECTORED_MAX`] pieces and [`SEND_BYTES_MAX`] bytes from the front of `queue`.
    fn gather(queue: &mut LazyQueue<SendBuf>) -> Box<Self> {
        let pieces_max = queue.len().min(VECTORED_MAX);
        let mut data = Vec::with_capacity(pieces_max);
        let mut bytes = 0;
        while data.len() < pieces_max && bytes < SEND_BYTES_MAX {
            let Some(piece) = queue.pop_front() else { break };
            bytes += piece.len();
            data.push(piece);
        }
        // SAFETY: a msghdr is plain data for which all zeroes are valid.
        let header = unsafe { mem::zeroed() };
        let mut this = Box::new(Self { vectors: Vec::with_capacity(data.len()), data, header });
        this.point_at(0);
        this
    }

    /// Points the header at what is left after `sent` bytes of the current vectors.
    fn point_at(&mut self, mut sent: usize) {
        self.vectors.clear();
        for piece in &self.data {
            let skipped = sent.min(piece.len());
            sent -= skipped;
            let rest = &piece[skipped..];
            if !rest.is_empty() {
                self.vectors
                    .push(libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() });
            }
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
    }

    fn left(&self) -> usize {
        self.vectors.iter().map(|vector| vector.iov_len).sum()
    }

    fn bytes(&self) -> usize {
        self.data.iter().map(|piece| piece.len()).sum()
    }
}

pub(crate) struct RingSocket {
    /// `None` once it has been closed: then nothing is left that could name it.
    file: RefCell<Option<SocketFile>>,
    /// Operations that name the file and have not completed. It is closed at 0 alone.
    naming: Cell<u32>,
    receive: RefCell<Receive>,
    transmit: RefCell<Transmit>,
    /// Receives go into bulk buffers.
    bulk: Cell<bool>,
    closing: Cell<bool>,
    reset: Cell<Reset>,
    /// Sending has been asked to end (`SHUT_WR`).
    is_shut: Cell<bool>,
    /// Zero-copy sends are worth while: set until the kernel reports that it copied.
    zero_copy: Cell<bool>,
}

impl RingSocket {
    pub(crate) fn direct(slot: Slot) -> Self {
        Self::new(SocketFile::Direct(slot))
    }

    pub(crate) fn descriptor(descriptor: OwnedFd) -> Self {
        Self::new(SocketFile::Descriptor(descriptor))
    }

    fn new(file: SocketFile) -> Self {
        Self {
            file: RefCell::new(Some(file)),
            naming: Cell::new(0),
            receive: RefCell::default(),
            transmit: RefCell::default(),
            bulk: Cell::new(false),
            closing: Cell::new(false),
            reset: Cell::new(Reset::No),
            is_shut: Cell::new(false),
            zero_copy: Cell::new(true),
        }
    }

    /// Queues an operation that names the socket, which stays open until the operation has completed. `None` if the socket
    /// is closed.
    #[inline(always)]
    pub(super) fn submit(
        &self,
        connection: &Rc<Connection>,
        build: impl FnOnce(&SocketFile) -> squeue::Entry,
        op: Op,
    ) -> Option<OpKey> {
        let file = self.file.borrow();
        let entry = build(file.as_ref()?);
        self.naming.set(self.naming.get() + 1);
        Some(connection.core.ring().push(entry, op))
    }

    /// An operation that names the socket has completed.
    #[inline(always)]
    pub(crate) fn named_no_longer(&self, connection: &Rc<Connection>) {
        debug_assert!(self.naming.get() > 0, "each operation completes once");
        self.naming.set(self.naming.get().saturating_sub(1));
        if self.closing.get() {
            self.close_when_quiet(connection);
        }
    }

    /// Uses the descriptor of the process, if the socket has one; `None` for a direct descriptor.
    ///
    /// # Errors
    /// `NotConnected` once the socket is closed.
    pub(crate) fn with_descriptor<T>(&self, f: impl FnOnce(&OwnedFd) -> T) -> io::Result<Option<T>> {
        match &*self.file.borrow() {
            None => Err(io::ErrorKind::NotConnected.into()),
            Some(SocketFile::Direct(_)) => Ok(None),
            Some(SocketFile::Descriptor(descriptor)) => Ok(Some(f(descriptor))),
        }
    }
}

/// Receiving.
impl RingSocket {
    pub(crate) fn poll_receive(
        &self,
        connection: &Rc<Connection>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<PinnedBytes>> {
        if let Some(bytes) = self.try_receive(connection) {
            return Poll::Ready(Ok(bytes));
        }
        if let Some(error) = connection.interruption() {
            return Poll::Ready(Err(error));
        }
        let mut receive = self.receive.borrow_mut();
        match receive.end {
            Some(ReceiveEnd::Eof) => Poll::Ready(Ok(PinnedBytes::new())),
            Some(ReceiveEnd::Errno(errno)) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            None => {
                if receive.op.is_none() {
                    self.arm(connection, &mut receive);
                }
                connection.wait_to_receive(cx);
                Poll::Pending
            }
        }
    }

    /// What has been received already. Asking for more is left to [`poll_receive`](Self::poll_receive), except
    /// that a receive which was stopped because too much lay unread goes on once half of it has been read.
    pub(crate) fn try_receive(&self, connection: &Rc<Connection>) -> Option<PinnedBytes> {
        let mut receive = self.receive.borrow_mut();
        let bytes = receive.unread.pop_front()?;
        connection.core.unread.remove(bytes.len());
        let resume = receive.op.is_none() && receive.end.is_none();
        if resume && receive.unread.bytes() <= connection.core.options.unread_bytes_max / 2 {
            self.arm(connection, &mut receive);
        }
        Some(bytes)
    }

    /// Bytes that are unsent, and unread.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.transmit.borrow().unsent, self.receive.borrow().unread.bytes())
    }

    /// Whether it receives on although too much is unread.
    #[cfg(test)]
    pub(super) fn receives_beyond_limit(&self, max: usize) -> bool {
        let receive = self.receive.borrow();
        receive.unread.bytes() >= max && receive.op.is_some() && !receive.cancelling
    }

    /// Pieces in receive buffers that are unread.
    #[cfg(test)]
    pub(super) fn unread_buffers(&self) -> usize {
        self.receive.borrow().unread.buffers()
    }

    pub(crate) fn unreceive(&self, connection: &Connection, bytes: PinnedBytes) {
        connection.core.unread.add(bytes.len());
        self.receive.borrow_mut().unread.push_front(bytes);
    }

    /// Asks for more, or stands in line for it.
    fn arm(&self, connection: &Rc<Connection>, receive: &mut Receive) {
        if self.closing.get() || receive.in_line {
            return;
        }
        if self.bulk.get() && !connection.core.bulk_line.borrow().is_empty() {
            self.stand_in_line(connection, receive);
        } else {
            self.arm_now(connection, receive);
        }
    }

    fn arm_now(&self, connection: &Rc<Connection>, receive: &mut Receive) {
        receive.op = if connection.core.unread.is_full() {
            // One buffer at a time: a multishot receive may bring many before it can be stopped.
            self.submit_receive(connection, BUFFER_GROUP, Op::Receive(Rc::clone(connection)))
        } else if self.bulk.get() {
            connection.core.ring().bulk.fill();
            self.submit_receive(connection, BULK_GROUP, Op::ReceiveBulk(Rc::clone(connection)))
        } else {
            let build = |file: &SocketFile| {
                addressed!(file, |file| opcode::RecvMulti::new(file, BUFFER_GROUP).build())
            };
            self.submit(connection, build, Op::Receive(Rc::clone(connection)))
        };
        receive.cancelling = false;
    }

    /// A single receive into a buffer of `group`.
    fn submit_receive(&self, connection: &Rc<Connection>, group: u16, op: Op) -> Option<OpKey> {
        let build = |file: &SocketFile| {
            addressed!(file, |file| opcode::Recv::new(file, ptr::null_mut(), 0)
                .buf_group(group)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT))
        };
        self.submit(connection, build, op)
    }

    fn stand_in_line(&self, connection: &Rc<Connection>, receive: &mut Receive) {
        receive.in_line = true;
        connection.core.bulk_line.borrow_mut().push_back(Rc::clone(connection));
    }

    /// Its turn at the bulk buffers has come; returns whether it takes it.
    pub(crate) fn take_bulk_turn(&self, connection: &Rc<Connection>) -> bool {
        let mut receive = self.receive.borrow_mut();
        receive.in_line = false;
        if self.closing.get() {
            return false;
        }
        connection.core.counters.receive_rearms.add(1);
        self.arm_now(connection, &mut receive);
        true
    }

    /// From the next receive on, uses bulk buffers or no longer. A receive under way that would go on in small pieces is
    /// ended; a single one into a bulk buffer ends by itself.
    pub(crate) fn set_bulk(&self, connection: &Connection, bulk: bool) {
        if !self.bulk.replace(bulk) && bulk {
            self.stop_receiving(connection, &mut self.receive.borrow_mut());
        }
    }

    /// Goes on after the receive buffers had run out: with them if some have come back, else with memory of
    /// the connection's own.
    pub(crate) fn receive_again(&self, connection: &Rc<Connection>) {
        let core = &connection.core;
        let mut receive = self.receive.borrow_mut();
        if receive.op.is_some() || receive.end.is_some() || self.closing.get() {
            return;
        }
        // The buffers ran out before the receive could be stopped: it goes on once enough has been read.
        if receive.unread.bytes() >= core.options.unread_bytes_max.max(1) {
            return;
        }
        core.counters.receive_rearms.add(1);
        if core.receive_buffers.available() > 0 {
            return self.arm(connection, &mut receive);
        }
        core.counters.fallback_receives.add(1);
        let mut memory = vec![0_u8; OWNED_BYTES].into_boxed_slice();
        let (pointer, len) = (memory.as_mut_ptr(), memory.len() as u32);
        receive.owned = Some(memory);
        let build =
            |file: &SocketFile| addressed!(file, |file| opcode::Recv::new(file, pointer, len).build());
        receive.op = self.submit(connection, build, Op::ReceiveOwned(Rc::clone(connection)));
        receive.cancelling = false;
    }

    pub(crate) fn on_received(&self, connection: &Rc<Connection>, completion: Completion) {
        let buffers = &connection.core.receive_buffers;
        self.on_provided(connection, completion, false, |index, len| buffers.received(index, len));
    }

    pub(crate) fn on_received_bulk(&self, connection: &Rc<Connection>, completion: Completion) {
        let core = &connection.core;
        self.on_provided(connection, completion, true, |index, len| core.ring().bulk.received(index, len));
    }

    /// The kernel has picked a buffer, if it has received something, which `take` takes from where it was listed.
    fn on_provided(
        &self,
        connection: &Rc<Connection>,
        completion: Completion,
        is_bulk: bool,
        take: impl FnOnce(u16, u32) -> PinnedBytes,
    ) {
        let core = &connection.core;
        let mut receive = self.receive.borrow_mut();
        if !completion.more() {
            receive.op = None;
        }
        if let Some(index) = cqueue::buffer_select(completion.flags) {
            let bytes = take(index, completion.result.max(0) as u32);
            // Without bytes it goes back at once.
            if !bytes.is_empty() {
                self.keep(connection, &mut receive, bytes);
            }
        }
        match completion.result {
            1.. => {}
            0 => receive.end = Some(ReceiveEnd::Eof),
            error if error == -libc::ENOBUFS => {
                core.counters.buffers_exhausted.add(1);
                if is_bulk {
                    self.stand_in_line(connection, &mut receive);
                } else {
                    core.starved.borrow_mut().push(Rc::clone(connection));
                }
            }
            // It stopped because it was asked to.
            error if error == -libc::ECANCELED && receive.cancelling => {}
            error => receive.end = Some(ReceiveEnd::Errno(-error)),
        }
        drop(receive);
        connection.wake_receiver();
    }

    pub(crate) fn on_received_owned(&self, connection: &Rc<Connection>, completion: Completion) {
        let mut receive = self.receive.borrow_mut();
        receive.op = None;
        let memory = receive.owned.take();
        match completion.result {
            len if len > 0 => {
                if let Some(memory) = memory {
                    let len = len as usize;
                    // A few bytes keep no more memory than they take.
                    let bytes = if len < memory.len() / 2 {
                        memory[..len].to_vec()
                    } else {
                        let mut memory = Vec::from(memory);
                        memory.truncate(len);
                        memory
                    };
                    self.keep(connection, &mut receive, bytes.into());
                }
            }
            0 => receive.end = Some(ReceiveEnd::Eof),
            error if error == -libc::ECANCELED && receive.cancelling => {}
            error => receive.end = Some(ReceiveEnd::Errno(-error)),
        }
        drop(receive);
        connection.wake_receiver();
    }

    #[inline(always)]
    fn keep(&self, connection: &Rc<Connection>, receive: &mut Receive, bytes: PinnedBytes) {
        connection.core.count_received(connection, bytes.len());
        if self.closing.get() {
            return;
        }
        connection.core.unread.add(bytes.len());
        let unread_max = connection.core.options.unread_bytes_max;
        if receive.unread.bytes() >= unread_max {
            // It came before the receive could be stopped: the buffer is for others.
            receive.unread.push_back(bytes.into_bytes().into());
        } else {
            receive.unread.push_back(bytes);
        }
        if receive.unread.bytes() >= unread_max || connection.core.unread.is_full() {
            self.stop_receiving(connection, receive);
        }
    }

    fn stop_receiving(&self, connection: &Connection, receive: &mut Receive) {
        if let Some(key) = receive.op.filter(|_| !receive.cancelling) {
            receive.cancelling = true;
            connection.core.ring().cancel(key);
        }
    }
}

/// Sending.
impl RingSocket {
    /// Ready when little enough is unsent for more to be queued.
    pub(crate) fn poll_send_ready(
        &self,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let unsent_max = connection.core.options.unsent_bytes_max;
        self.poll_unsent(connection, unsent_max, cx)
    }

    /// Ready when everything that was queued has gone to the kernel.
    pub(crate) fn poll_flush(&self, connection: &Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unsent(connection, 0, cx)
    }

    fn poll_unsent(&self, connection: &Connection, max: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transmit = self.transmit.borrow();
        if let Some(errno) = transmit.errno {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if transmit.unsent <= connection.core.unsent.allowance(max) {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = connection.interruption() {
            return Poll::Ready(Err(error));
        }
        connection.wait_to_send(cx);
        Poll::Pending
    }

    /// Queues `data`, to be sent with the core's next turn if nothing is in flight.
    pub(crate) fn send(&self, connection: &Rc<Connection>, data: SendBuf) {
        let mut transmit = self.transmit.borrow_mut();
        if data.is_empty() || transmit.errno.is_some() || self.closing.get() {
            return;
        }
        transmit.unsent += data.len();
        connection.core.unsent.add(data.len());
        if transmit.in_flight.is_none() {
            transmit.in_flight = Some(InFlight::One { data: Held::Alone(data), sent: 0 });
            connection.core.send_soon(connection);
        } else {
            transmit.queue.push_back(data);
        }
    }

    /// Starts the send that waits for the turn, together with what was queued since then if both are small: a large piece
    /// is worth a send of its own, if that spares a copy.
    pub(crate) fn start_send(&self, connection: &Rc<Connection>) {
        let mut transmit = self.transmit.borrow_mut();
        // A reset has started it already, or it has failed.
        if transmit.op.is_some() || transmit.in_flight.is_none() {
            return;
        }
        let is_small = |piece: &[u8]| piece.len() < ZERO_COPY_BYTES_MIN;
        let next = transmit.queue.front();
        let takes_next = next.is_some_and(|next| is_small(next) || !self.zero_copy.get());
        let joins = |waiting: &mut InFlight| match waiting {
            InFlight::One { data: Held::Alone(first), .. } => takes_next && is_small(first),
            _ => false,
        };
        if let Some(InFlight::One { data: Held::Alone(first), .. }) = transmit.in_flight.take_if(joins) {
            transmit.queue.push_front(first);
            self.start(connection, &mut transmit);
        } else {
            self.submit_send(connection, &mut transmit);
        }
    }

    /// Starts the next send with what is queued.
    fn start(&self, connection: &Rc<Connection>, transmit: &mut Transmit) {
        transmit.in_flight = match transmit.queue.len() {
            0 => {
                // An idle connection keeps no memory for what it may send.
                transmit.queue.release();
                return;
            }
            1 => transmit.queue.pop_front().map(|data| InFlight::One { data: Held::Alone(data), sent: 0 }),
            _ => Some(InFlight::Many(Vectored::gather(&mut transmit.queue))),
        };
        self.submit_send(connection, transmit);
    }

    /// Submits what is left of the send in flight. Only one is ever under way, since submissions that do not
    /// depend on each other may be carried out in any order.
    fn submit_send(&self, connection: &Rc<Connection>, transmit: &mut Transmit) {
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        connection.core.counters.sends.add(1);
        transmit.op = match &mut transmit.in_flight {
            None => None,
            Some(InFlight::Many(many)) => {
                let header = ptr::from_ref(&many.header);
                let build = |file: &SocketFile| {
                    addressed!(file, |file| opcode::SendMsg::new(file, header).flags(flags as u32).build())
                };
                self.submit(connection, build, Op::Send(Rc::clone(connection)))
            }
            Some(InFlight::One { data, sent }) => {
                let rest = &data[*sent..];
                let (pointer, len) = (rest.as_ptr(), rest.len().min(SEND_BYTES_MAX) as u32);
                if rest.len() >= ZERO_COPY_BYTES_MIN && self.zero_copy.get() {
                    connection.core.counters.zero_copy_sends.add(1);
                    let build = |file: &SocketFile| {
                        addressed!(file, |file| opcode::SendZc::new(file, pointer, len)
                            .flags(flags)
                            .zc_flags(ZERO_COPY_REPORT_USAGE)
                            .build())
                    };
                    let op = Op::SendZeroCopy(WithMemory::new(connection, data.share()));
                    self.submit(connection, build, op)
                } else {
                    let build = |file: &SocketFile| {
                        addressed!(file, |file| opcode::Send::new(file, pointer, len).flags(flags).build())
                    };
                    self.submit(connection, build, Op::Send(Rc::clone(connection)))
                }
            }
        };
        if transmit.op.is_none() {
            transmit.drop_all(&connection.core);
        }
    }

    pub(crate) fn on_sent(&self, connection: &Rc<Connection>, completion: Completion) {
        if cqueue::notif(completion.flags) {
            return self.on_zero_copy_released(connection, completion.result);
        }
        let mut transmit = self.transmit.borrow_mut();
        transmit.op = None;
        let sent = completion.result.max(0) as usize;
        connection.core.count_sent(connection, sent);
        if completion.result < 0 {
            transmit.errno = Some(-completion.result);
            transmit.drop_all(&connection.core);
            drop(transmit);
            self.fail_receiving(connection, -completion.result);
            return connection.wake_sender();
        }
        if self.reset.get() != Reset::No {
            // A cancelled send that had begun tells how far it came.
            transmit.drop_all(&connection.core);
        } else {
            let taken = sent.min(transmit.unsent);
            transmit.unsent -= taken;
            connection.core.unsent.remove(taken);
            if transmit.advance(sent) {
                self.submit_send(connection, &mut transmit);
            } else {
                self.start(connection, &mut transmit);
            }
        }
        drop(transmit);
        connection.wake_sender();
    }

    /// A send that fails takes the error of a reset with it, so that a receive may never hear of it.
    fn fail_receiving(&self, connection: &Connection, errno: i32) {
        // Sending alone was ended by the program: more may still be received.
        if self.is_shut.get() {
            return;
        }
        let mut receive = self.receive.borrow_mut();
        receive.end.get_or_insert(ReceiveEnd::Errno(errno));
        self.stop_receiving(connection, &mut receive);
        drop(receive);
        connection.wake_receiver();
    }

    fn on_zero_copy_released(&self, connection: &Connection, usage: i32) {
        if usage & ZERO_COPY_COPIED != 0 {
            connection.core.counters.zero_copy_copied.add(1);
            self.zero_copy.set(false);
        }
    }
}

impl Transmit {
    /// Gives up what has not gone yet.
    fn drop_all(&mut self, core: &Core) {
        // By name, so that whatever is added is given up as well. An operation under way completes by itself.
        let Self { queue, unsent, op: _, in_flight, errno: _ } = self;
        core.unsent.remove(mem::take(unsent));
        *in_flight = None;
        queue.release();
    }

    /// Notes that `bytes` of the send in flight have gone; returns whether some of it is left.
    fn advance(&mut self, bytes: usize) -> bool {
        let left = match &mut self.in_flight {
            None => false,
            Some(InFlight::One { data, sent }) => {
                *sent += bytes;
                *sent < data.len()
            }
            Some(InFlight::Many(many)) => {
                let sent = many.bytes() - many.left() + bytes;
                many.point_at(sent);
                many.left() > 0
            }
        };
        if !left {
            self.in_flight = None;
        }
        left
    }
}

/// Ending.
impl RingSocket {
    /// Lets what is queued go out, then closes. What was received and not read is dropped.
    pub(crate) fn close(&self, connection: &Rc<Connection>) {
        self.closing.set(true);
        let mut receive = self.receive.borrow_mut();
        receive.forget(&connection.core);
        self.stop_receiving(connection, &mut receive);
        drop(receive);
        self.close_when_quiet(connection);
    }

    /// Drops what is queued and closes with a reset.
    pub(crate) fn reset(&self, connection: &Rc<Connection>) {
        if self.reset.get() == Reset::No {
            self.reset.set(Reset::Asked);
        }
        // What waited for the turn goes as far as it can: half an answer tells the peer more than none.
        self.start_send(connection);
        self.transmit.borrow_mut().queue.release();
        self.closing.set(true);
        let mut receive = self.receive.borrow_mut();
        receive.forget(&connection.core);
        // Whatever waits for the socket ends now, an operation that nobody polls any more among them.
        if self.naming.get() > 0 {
            receive.cancelling = true;
            self.submit(connection, cancel_all, Op::Unwatched(Rc::clone(connection)));
        }
        drop(receive);
        self.close_when_quiet(connection);
    }

    /// Closes once nothing is queued and no operation names the socket.
    fn close_when_quiet(&self, connection: &Rc<Connection>) {
        let quiet = self.naming.get() == 0 && {
            let transmit = self.transmit.borrow();
            transmit.in_flight.is_none() && transmit.queue.is_empty()
        };
        if !quiet {
            return;
        }
        if self.reset.get() == Reset::Asked {
            self.reset.set(Reset::Prepared);
            let linger = Rc::new(libc::linger { l_onoff: 1, l_linger: 0 });
            let build = |file: &SocketFile| {
                addressed!(file, |file| opcode::SetSockOpt::new(
                    file,
                    libc::SOL_SOCKET as u32,
                    libc::SO_LINGER as u32,
                    Rc::as_ptr(&linger).cast(),
                    size_of::<libc::linger>() as u32,
                )
                .build())
            };
            let op = Op::Linger(WithMemory::new(connection, Rc::clone(&linger)));
            if self.submit(connection, build, op).is_some() {
                return;
            }
        }
        if let Some(file) = self.file.take() {
            file.close(&mut connection.core.ring());
        }
        connection.closed();
    }

    /// The operation that shuts down sending, and what it comes to.
    ///
    /// # Errors
    /// `NotConnected` once the socket is closed.
    pub(crate) fn shutdown(&self, connection: &Rc<Connection>) -> io::Result<OneshotFuture> {
        self.is_shut.set(true);
        OneshotFuture::on_socket(connection, self, shutdown_entry, Yields::Nothing)
    }

    /// Shuts down sending, whatever comes of it. What is queued has gone out before: the caller has flushed.
    pub(crate) fn shutdown_unwatched(&self, connection: &Rc<Connection>) {
        if !self.is_shut.replace(true) {
            self.submit(connection, shutdown_entry, Op::Unwatched(Rc::clone(connection)));
        }
    }
}

/// The operation that waits until a socket takes more.
pub(crate) fn writable_entry(file: &SocketFile) -> squeue::Entry {
    addressed!(file, |file| opcode::PollAdd::new(file, libc::POLLOUT as u32).build())
}

/// The operation that shuts down sending.
fn shutdown_entry(file: &SocketFile) -> squeue::Entry {
    addressed!(file, |file| opcode::Shutdown::new(file, libc::SHUT_WR).build())
}

/// The operation that ends all others on a socket.
fn cancel_all(file: &SocketFile) -> squeue::Entry {
    addressed!(file, |file| opcode::AsyncCancel2::new(CancelBuilder::fd(file).all()).build())
}
