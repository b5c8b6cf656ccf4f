//! Operations that complete once and are awaited.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, squeue};

use super::slot::SocketFile;
use super::{Op, OpKey, RingSocket};
use crate::connection::Connection;
use crate::core::Core;

/// What a successful result is, so that one that nobody waits for any more is not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Yields {
    Nothing,
    /// A file descriptor of this process.
    Descriptor,
}

/// The state shared by the operation in flight and the future that waits for it.
pub(crate) struct Oneshot {
    result: Cell<Option<i32>>,
    waker: Cell<Option<Waker>>,
    abandoned: Cell<bool>,
    yields: Yields,
    /// The connection whose socket the operation names.
    connection: Option<Rc<Connection>>,
    /// What the kernel reads while the operation is in flight.
    _memory: Option<Box<dyn Any>>,
}

impl Oneshot {
    fn new(yields: Yields, connection: Option<Rc<Connection>>, memory: Option<Box<dyn Any>>) -> Rc<Self> {
        Rc::new(Self {
            result: Cell::new(None),
            waker: Cell::new(None),
            abandoned: Cell::new(false),
            yields,
            connection,
            _memory: memory,
        })
    }

    pub(crate) fn connection(&self) -> Option<&Rc<Connection>> {
        self.connection.as_ref()
    }

    /// Takes the result: to the future that waits, or, if it has gone, closes the descriptor that came late.
    pub(crate) fn complete(&self, result: i32) {
        if self.abandoned.get() {
            if self.yields == Yields::Descriptor && result >= 0 {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(result) });
            }
            return;
        }
        self.result.set(Some(result));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Waits for a single completion.
///
/// Dropping it cancels the operation; its memory stays until the kernel has answered.
pub(crate) struct OneshotFuture {
    core: Rc<Core>,
    key: OpKey,
    state: Rc<Oneshot>,
}

impl OneshotFuture {
    /// Queues `entry`. What it points to, and any descriptor that it names, must lie in `memory`.
    pub(crate) fn new(core: &Rc<Core>, entry: squeue::Entry, yields: Yields, memory: Box<dyn Any>) -> Self {
        let state = Oneshot::new(yields, None, Some(memory));
        let key = core.ring().push(entry, Op::Oneshot(Rc::clone(&state)));
        Self { core: Rc::clone(core), key, state }
    }

    /// Queues the operation that `build` makes for the socket of `connection`.
    ///
    /// # Errors
    /// `NotConnected` once the socket is closed.
    pub(crate) fn on_socket(
        connection: &Rc<Connection>,
        socket: &RingSocket,
        build: impl FnOnce(&SocketFile) -> squeue::Entry,
        yields: Yields,
    ) -> io::Result<Self> {
        let state = Oneshot::new(yields, Some(Rc::clone(connection)), None);
        let key = socket
            .submit(connection, build, Op::Oneshot(Rc::clone(&state)))
            .ok_or(io::ErrorKind::NotConnected)?;
        Ok(Self { core: Rc::clone(&connection.core), key, state })
    }

    /// Gives the socket of `connection` a descriptor of this process: a new one for a direct descriptor, else a duplicate.
    ///
    /// # Errors
    /// `NotConnected` once the socket is closed; what the kernel refuses with, such as too many open files.
    pub(crate) async fn install(connection: &Rc<Connection>, socket: &RingSocket) -> io::Result<OwnedFd> {
        if let Some(duplicate) = socket.with_descriptor(OwnedFd::try_clone)? {
            return duplicate;
        }
        let build = |file: &SocketFile| {
            file.entry(
                |slot| opcode::FixedFdInstall::new(slot, 0).build(),
                |_| unreachable!("only a direct descriptor is installed"),
            )
        };
        let descriptor = Self::on_socket(connection, socket, build, Yields::Descriptor)?.await?;
        // SAFETY: a successful FIXED_FD_INSTALL returns a new descriptor that is ours.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
    }
}

impl Future for OneshotFuture {
    type Output = io::Result<i32>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(result) = self.state.result.take() else {
            self.state.waker.set(Some(cx.waker().clone()));
            return Poll::Pending;
        };
        // Nothing is left to cancel or to close.
        self.state.abandoned.set(true);
        Poll::Ready(if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) })
    }
}

impl Drop for OneshotFuture {
    fn drop(&mut self) {
        if self.state.abandoned.replace(true) {
            return;
        }
        match self.state.result.take() {
            Some(result) => self.state.complete(result),
            None => self.core.ring().cancel(self.key),
        }
    }
}
