//! Accepting connections into direct descriptors.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, types};
use socket2::{Domain, SockRef};

use super::slot::Slot;
use super::{Completion, Op, OpKey, RingSocket};
use crate::connection::{Connection, Io};
use crate::core::Core;
use crate::listener::accept_waiting;
use crate::stream::Stream;

/// Connections for which the table must have room before whatever comes is accepted at once: as many as a backlog may
/// hold. A connection that the kernel accepts and finds no slot for is lost.
const MULTISHOT_ROOM: usize = 4096;

/// A listening socket with a multishot accept, which accepts one by one when the table is nearly full.
pub(crate) struct RingListener {
    core: Rc<Core>,
    socket: OwnedFd,
    /// Slots of the file table that were filled and are not connections yet. There may be more than the
    /// connection table has room for, since the kernel accepts whatever has come; they wait for their turn.
    accepted: RefCell<VecDeque<Slot>>,
    op: Cell<Option<OpKey>>,
    multishot: Cell<bool>,
    cancelling: Cell<bool>,
    closed: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl RingListener {
    pub(crate) fn new(core: &Rc<Core>, socket: OwnedFd) -> Rc<Self> {
        Rc::new(Self {
            core: Rc::clone(core),
            socket,
            accepted: RefCell::new(VecDeque::new()),
            op: Cell::new(None),
            multishot: Cell::new(false),
            cancelling: Cell::new(false),
            closed: Cell::new(false),
            waker: Cell::new(None),
        })
    }

    /// The next connection. Accepting is started, and started again after a pause, by asking.
    pub(crate) fn poll_accept(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Stream> {
        self.waker.set(Some(cx.waker().clone()));
        if !self.core.may_accept() {
            self.pause();
            self.core.wake_when_one_closes(cx.waker());
            return Poll::Pending;
        }
        let multishot = self.core.room() >= MULTISHOT_ROOM;
        if self.multishot.get() && !multishot {
            self.pause();
        }
        let Some(slot) = self.accepted.borrow_mut().pop_front() else {
            self.arm(multishot);
            return Poll::Pending;
        };
        let stream = Connection::open(&self.core, Io::Ring(RingSocket::direct(slot)));
        Poll::Ready(stream.expect("the table has room, as was seen above"))
    }

    /// The next connection that has come already; `None` when that was all, or the table is full.
    pub(crate) fn poll_accept_waiting(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        self.waker.set(Some(cx.waker().clone()));
        self.pause();
        if !self.core.has_room() {
            return Poll::Ready(None);
        }
        let accepted = self.accepted.borrow_mut().pop_front();
        let socket = match accepted {
            Some(slot) => RingSocket::direct(slot),
            // Until the operation has ended it may accept.
            None if self.op.get().is_some() => return Poll::Pending,
            None => match accept_waiting(&SockRef::from(&self.socket)) {
                Some(socket) => RingSocket::descriptor(socket.into()),
                None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Connection::open(&self.core, Io::Ring(socket)))
    }

    fn arm(self: &Rc<Self>, multishot: bool) {
        if self.op.get().is_some() {
            return;
        }
        let socket = types::Fd(self.socket.as_raw_fd());
        let entry = if multishot {
            opcode::AcceptMulti::new(socket).allocate_file_index(true).build()
        } else {
            let slot = Some(types::DestinationSlot::auto_target());
            opcode::Accept::new(socket, ptr::null_mut(), ptr::null_mut()).file_index(slot).build()
        };
        self.op.set(Some(self.core.ring().push(entry, Op::Accept(Rc::clone(self)))));
        self.multishot.set(multishot);
        self.cancelling.set(false);
    }

    fn pause(&self) {
        if let Some(key) = self.op.get().filter(|_| !self.cancelling.replace(true)) {
            self.core.ring().cancel(key);
        }
    }

    /// Ends accepting; connections that are accepted and not asked for, or come late, are closed.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.pause();
        self.accepted.take().into_iter().for_each(|slot| self.refuse(slot));
    }

    /// Ends listening while the socket stays open. A Unix socket is all cores' own, and the others go on accepting.
    pub(super) fn stop_listening(&self) {
        let socket = SockRef::from(&self.socket);
        if socket.domain().is_ok_and(|domain| domain != Domain::UNIX) {
            // Refused only for a socket that listens no more.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn refuse(&self, slot: Slot) {
        self.core.counters.refused.add(1);
        slot.close(&mut self.core.ring());
    }

    pub(crate) fn on_completion(self: &Rc<Self>, completion: Completion) {
        if !completion.more() {
            self.op.set(None);
        }
        match completion.result {
            slot if slot >= 0 && self.closed.get() => self.refuse(Slot::accepted(slot as u32)),
            slot if slot >= 0 => self.accepted.borrow_mut().push_back(Slot::accepted(slot as u32)),
            error if error == -libc::ECANCELED => {}
            // The file table is full because the connection table is.
            error if error == -libc::ENFILE && !self.core.may_accept() => {}
            // That one client has gone, or a signal came: the next may be accepted at once.
            error if [-libc::ECONNABORTED, -libc::EINTR].contains(&error) => {}
            error => return self.on_error(-error),
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Out of descriptors or memory, most likely: asking again at once would fail again.
    fn on_error(&self, errno: i32) {
        self.core.counters.accept_errors.add(1);
        let error = io::Error::from_raw_os_error(errno);
        tracing::warn!(%error, "accepting failed; it goes on in a moment");
        if let Some(waker) = self.waker.take() {
            self.core.wake_at_next_tick(&waker);
        }
    }
}
