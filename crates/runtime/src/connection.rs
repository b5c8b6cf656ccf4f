//! One connection: what both back ends share.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::core::Core;
use crate::epoll::EpollSocket;
use crate::pinned::PinnedBytes;
use crate::ring::RingSocket;
use crate::send_buf::SendBuf;
use crate::stream::Stream;
use crate::table::ConnectionId;

/// Where the bytes come from and go to.
pub(crate) enum Io {
    Ring(RingSocket),
    Epoll(EpollSocket),
}

/// Why waiting on a connection ends without I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    DeadlinePassed,
    /// Somebody asked through the connection table for it to be closed.
    CloseRequested,
    /// The program has aborted the connection.
    Aborted,
}

pub(crate) struct Connection {
    pub(crate) core: Rc<Core>,
    pub(crate) id: ConnectionId,
    io: Io,
    interruption: Cell<Option<Interruption>>,
    /// Nothing would be lost by closing it.
    idle: Cell<bool>,
    /// The program has let go of it; it lives until what is queued has gone out.
    released: Cell<bool>,
    closed: Cell<bool>,
    /// The socket as system calls know it, once a file was sent.
    installed: RefCell<Option<Rc<OwnedFd>>>,
    receiver: Cell<Option<Waker>>,
    sender: Cell<Option<Waker>>,
    /// Waits for an interruption alone.
    watcher: Cell<Option<Waker>>,
}

impl Connection {
    /// Enters a connection into the table of its core; `None`, and `io` closed, when the table is full.
    pub(crate) fn open(core: &Rc<Core>, io: Io) -> Option<Stream> {
        let id = core.table.borrow_mut().insert(core.unix_seconds())?;
        let connection = Rc::new(Self {
            core: Rc::clone(core),
            id,
            io,
            interruption: Cell::new(None),
            idle: Cell::new(false),
            released: Cell::new(false),
            closed: Cell::new(false),
            installed: RefCell::default(),
            receiver: Cell::new(None),
            sender: Cell::new(None),
            watcher: Cell::new(None),
        });
        core.opened(&connection);
        Some(Stream::new(connection))
    }

    pub(crate) fn io(&self) -> &Io {
        &self.io
    }

    /// # Errors
    /// `ConnectionAborted` once the program has aborted the connection. Nothing may name it then: what it stood for may be
    /// another client's connection.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.interruption.get() {
            Some(Interruption::Aborted) => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn poll_receive(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<PinnedBytes>> {
        self.check()?;
        match &self.io {
            Io::Ring(socket) => socket.poll_receive(self, cx),
            Io::Epoll(socket) => socket.poll_receive(self, cx),
        }
    }

    pub(crate) fn try_receive(self: &Rc<Self>) -> Option<PinnedBytes> {
        self.check().ok()?;
        match &self.io {
            Io::Ring(socket) => socket.try_receive(self),
            Io::Epoll(socket) => socket.try_receive(),
        }
    }

    pub(crate) fn set_bulk(&self, bulk: bool) {
        match &self.io {
            Io::Ring(socket) => socket.set_bulk(self, bulk),
            Io::Epoll(socket) => socket.set_bulk(bulk),
        }
    }

    /// Puts bytes back in front of what is to be received next.
    pub(crate) fn unreceive(&self, bytes: PinnedBytes) {
        if self.check().is_err() {
            return;
        }
        match &self.io {
            Io::Ring(socket) => socket.unreceive(self, bytes),
            Io::Epoll(socket) => socket.unreceive(bytes),
        }
    }

    pub(crate) fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        match &self.io {
            Io::Ring(socket) => socket.poll_send_ready(self, cx),
            Io::Epoll(socket) => socket.poll_send_ready(self, cx),
        }
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        match &self.io {
            Io::Ring(socket) => socket.poll_flush(self, cx),
            Io::Epoll(socket) => socket.poll_flush(self, cx),
        }
    }

    pub(crate) fn send(self: &Rc<Self>, data: SendBuf) {
        if self.check().is_err() {
            return;
        }
        match &self.io {
            Io::Ring(socket) => socket.send(self, data),
            Io::Epoll(socket) => socket.send(self, [data]),
        }
    }

    pub(crate) fn send_all<const N: usize>(self: &Rc<Self>, pieces: [SendBuf; N]) {
        if self.check().is_err() {
            return;
        }
        match &self.io {
            // They wait for the turn, and so for each other.
            Io::Ring(socket) => pieces.into_iter().for_each(|piece| socket.send(self, piece)),
            Io::Epoll(socket) => socket.send(self, pieces),
        }
    }

    pub(crate) fn set_deadline(&self, after: Option<Duration>) {
        // The slot may be another connection's by now.
        if self.is_closed() {
            return;
        }
        if self.interruption.get() == Some(Interruption::DeadlinePassed) {
            self.interruption.set(None);
        }
        match after {
            Some(after) => self.core.deadlines.set(self.id.slot(), after, self.core.now()),
            None => self.core.deadlines.clear(self.id.slot()),
        }
    }

    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
        if idle && self.core.is_draining() {
            self.set_deadline(Some(self.core.options.drain_idle));
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle.get()
    }

    /// What waiting fails with until the interruption is lifted.
    pub(crate) fn interruption(&self) -> Option<io::Error> {
        self.interruption.get().map(|interruption| match interruption {
            Interruption::DeadlinePassed => {
                io::Error::new(io::ErrorKind::TimedOut, "the connection's deadline has passed")
            }
            Interruption::CloseRequested => {
                io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was asked to close")
            }
            Interruption::Aborted => {
                io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was aborted")
            }
        })
    }

    pub(crate) fn deadline_passed(self: &Rc<Self>) {
        self.core.counters.deadlines_passed.add(1);
        if self.released.get() {
            return self.reset();
        }
        self.interrupt(Interruption::DeadlinePassed);
    }

    pub(crate) fn close_requested(&self) {
        self.interrupt(Interruption::CloseRequested);
    }

    fn interrupt(&self, interruption: Interruption) {
        // Nothing takes an abort back.
        if self.check().is_ok() {
            self.interruption.set(Some(interruption));
        }
        self.wake_receiver();
        self.wake_sender();
        if let Some(waker) = self.watcher.take() {
            waker.wake();
        }
    }

    pub(crate) fn poll_interrupted(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.interruption() {
            Some(error) => Poll::Ready(error),
            None => {
                self.watcher.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    pub(crate) fn wait_to_receive(&self, cx: &mut Context<'_>) {
        self.receiver.set(Some(cx.waker().clone()));
    }

    pub(crate) fn wait_to_send(&self, cx: &mut Context<'_>) {
        self.sender.set(Some(cx.waker().clone()));
    }

    pub(crate) fn wake_receiver(&self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_sender(&self) {
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }

    /// The descriptor of a direct socket that was kept.
    pub(crate) fn installed(&self) -> Option<Rc<OwnedFd>> {
        self.installed.borrow().clone()
    }

    /// Keeps the descriptor for as long as the connection is open, if not too many are kept already: all cores together
    /// an eighth of what the process may open.
    pub(crate) fn keep_installed(&self, descriptor: &Rc<OwnedFd>) {
        let kept = &self.core.installed;
        let cores = self.core.handles().len();
        let has_room = kept.get() < self.core.options.connections_max as usize / (8 * cores);
        // Another send of a file may have kept one in the meantime.
        if has_room && !self.is_closed() && self.installed().is_none() {
            kept.set(kept.get() + 1);
            self.installed.replace(Some(Rc::clone(descriptor)));
        }
    }

    /// The program has dropped its handle: what is queued still goes out, within the linger time.
    pub(crate) fn release(self: &Rc<Self>) {
        self.released.set(true);
        if self.is_closed() {
            return;
        }
        self.core.deadlines.set(self.id.slot(), self.core.options.linger, self.core.now());
        match &self.io {
            Io::Ring(socket) => socket.close(self),
            Io::Epoll(socket) => socket.close(self),
        }
    }

    /// Ends the connection at once, with a reset.
    pub(crate) fn reset(self: &Rc<Self>) {
        self.interrupt(Interruption::Aborted);
        if self.is_closed() {
            return;
        }
        match &self.io {
            Io::Ring(socket) => socket.reset(self),
            Io::Epoll(socket) => socket.reset(self),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Takes the connection off the table: nothing of it is in flight any more.
    pub(crate) fn closed(self: &Rc<Self>) {
        if !self.closed.replace(true) {
            self.core.closed(self);
            self.wake_sender();
            if self.installed.take().is_some() {
                self.core.installed.set(self.core.installed.get() - 1);
            }
        }
    }
}
