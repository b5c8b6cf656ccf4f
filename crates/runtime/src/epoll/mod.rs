//! The back end for hosts without io_uring: Tokio's sockets behind the same types.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::bulk::BulkBuf;
use crate::connection::{Connection, Io};
use crate::core::Core;
use crate::lazy_queue::LazyQueue;
use crate::listener::accept_waiting;
use crate::pinned::{PinnedBuf, PinnedBytes};
use crate::send_buf::SendBuf;
use crate::stream::Stream;

/// The receive that stands in for pinned buffers when they have run out.
const OWNED_BYTES: usize = 16 * 1024;
/// Pieces that one vectored write takes.
const VECTORED_MAX: usize = 16;
/// Bytes that a connection writes before Tokio hears of other sockets: one that takes megabytes keeps nobody waiting.
const TURN_BYTES: usize = 256 * 1024;

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls the same method on either kind of socket.
macro_rules! either {
    ($socket:expr, $kind:ident, |$inner:ident| $call:expr) => {
        match $socket {
            $kind::Tcp($inner) => $call,
            $kind::Unix($inner) => $call,
        }
    };
}

#[derive(Default)]
struct Transmit {
    queue: VecDeque<SendBuf>,
    /// Bytes of the first piece that have gone.
    sent: usize,
    unsent: usize,
    errno: Option<i32>,
    /// A task waits for the socket to take more.
    draining: bool,
}

pub(crate) struct EpollSocket {
    /// `None` once it has been reset.
    socket: RefCell<Option<Socket>>,
    /// Put back by the reader.
    ready: RefCell<LazyQueue<PinnedBytes>>,
    transmit: RefCell<Transmit>,
    /// Receives go into bulk buffers.
    bulk: Cell<bool>,
    /// The task that drains `transmit`.
    drainer: Cell<Option<Waker>>,
    closing: Cell<bool>,
}

impl EpollSocket {
    fn new(socket: Socket) -> Self {
        Self {
            socket: RefCell::new(Some(socket)),
            ready: RefCell::default(),
            transmit: RefCell::default(),
            bulk: Cell::new(false),
            drainer: Cell::new(None),
            closing: Cell::new(false),
        }
    }

    /// A stream on a connected socket, TCP or Unix.
    pub(crate) fn connected(socket: socket2::Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let unix = socket.domain()? == socket2::Domain::UNIX;
        let socket: OwnedFd = socket.into();
        Ok(Self::new(if unix {
            Socket::Unix(UnixStream::from_std(socket.into())?)
        } else {
            Socket::Tcp(TcpStream::from_std(socket.into())?)
        }))
    }

    pub(crate) fn poll_receive(
        &self,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<PinnedBytes>> {
        if let Some(bytes) = self.try_receive() {
            return Poll::Ready(Ok(bytes));
        }
        if let Some(error) = connection.interruption() {
            return Poll::Ready(Err(error));
        }
        ready!(connection.core.poll_share(cx));
        // A buffer is held only while the socket has something for it.
        let received = match connection.core.receive_buffers.take() {
            _ if self.bulk.get() => self.poll_into_bulk(cx),
            Some(buffer) => self.poll_into_pinned(buffer, cx),
            None => {
                connection.core.counters.buffers_exhausted.add(1);
                connection.core.counters.fallback_receives.add(1);
                self.poll_into_heap(cx)
            }
        };
        match &received {
            Poll::Pending => connection.wait_to_receive(cx),
            Poll::Ready(Ok(bytes)) => connection.core.count_received(connection, bytes.len()),
            Poll::Ready(Err(_)) => {}
        }
        received
    }

    fn poll_into_pinned(&self, mut buffer: PinnedBuf, cx: &mut Context<'_>) -> Poll<io::Result<PinnedBytes>> {
        self.poll_read(&mut buffer, cx)
            .map_ok(|len| if len == 0 { PinnedBytes::new() } else { buffer.freeze(len) })
    }

    fn poll_into_bulk(&self, cx: &mut Context<'_>) -> Poll<io::Result<PinnedBytes>> {
        let mut buffer = BulkBuf::take();
        self.poll_read(&mut buffer, cx).map_ok(|len| buffer.freeze(len))
    }

    fn poll_into_heap(&self, cx: &mut Context<'_>) -> Poll<io::Result<PinnedBytes>> {
        let mut memory = vec![0; OWNED_BYTES];
        self.poll_read(&mut memory, cx).map_ok(|len| {
            memory.truncate(len);
            memory.into()
        })
    }

    fn poll_read(&self, memory: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(memory);
        let mut socket = self.socket.borrow_mut();
        let socket = socket.as_mut().ok_or_else(was_reset)?;
        let polled = either!(socket, Socket, |socket| Pin::new(socket).poll_read(cx, &mut buf));
        polled.map_ok(|()| buf.filled().len())
    }

    pub(crate) fn try_receive(&self) -> Option<PinnedBytes> {
        self.ready.borrow_mut().pop_front()
    }

    pub(crate) fn set_bulk(&self, bulk: bool) {
        self.bulk.set(bulk);
    }

    pub(crate) fn unreceive(&self, bytes: PinnedBytes) {
        self.ready.borrow_mut().push_front(bytes);
    }

    pub(crate) fn poll_send_ready(
        &self,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_unsent(connection, connection.core.options.unsent_bytes_max, cx)
    }

    pub(crate) fn poll_flush(&self, connection: &Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unsent(connection, 0, cx)
    }

    fn poll_unsent(&self, connection: &Connection, max: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transmit = self.transmit.borrow();
        if let Some(errno) = transmit.errno {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if transmit.unsent <= connection.core.unsent.allowance(max) {
            return connection.core.poll_share(cx).map(Ok);
        }
        if let Some(error) = connection.interruption() {
            return Poll::Ready(Err(error));
        }
        connection.wait_to_send(cx);
        Poll::Pending
    }

    /// Queues `pieces` and writes what the socket takes at once; a task sees to the rest.
    pub(crate) fn send<const N: usize>(&self, connection: &Rc<Connection>, pieces: [SendBuf; N]) {
        {
            let mut transmit = self.transmit.borrow_mut();
            if transmit.errno.is_some() {
                return;
            }
            for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                transmit.unsent += piece.len();
                connection.core.unsent.add(piece.len());
                transmit.queue.push_back(piece);
            }
            if transmit.queue.is_empty() || transmit.draining {
                return;
            }
        }
        if self.write_queued(connection) != Written::All {
            self.transmit.borrow_mut().draining = true;
            let connection = Rc::clone(connection);
            let core = Rc::clone(&connection.core);
            core.spawn(async move { drain(&connection).await });
        }
    }

    /// Writes what the socket takes, within one turn.
    fn write_queued(&self, connection: &Connection) -> Written {
        let mut transmit = self.transmit.borrow_mut();
        let mut left = TURN_BYTES;
        while !transmit.queue.is_empty() {
            if left == 0 {
                return Written::TurnOver;
            }
            let written = {
                let mut vectors = [io::IoSlice::new(&[]); VECTORED_MAX];
                let (mut count, mut room) = (0, left);
                for (vector, piece) in vectors.iter_mut().zip(&transmit.queue) {
                    let from = if count == 0 { transmit.sent } else { 0 };
                    let len = (piece.len() - from).min(room);
                    *vector = io::IoSlice::new(&piece[from..from + len]);
                    room -= len;
                    count += 1;
                    if room == 0 {
                        break;
                    }
                }
                connection.core.counters.sends.add(1);
                match &*self.socket.borrow() {
                    Some(socket) => {
                        either!(socket, Socket, |socket| socket.try_write_vectored(&vectors[..count]))
                    }
                    None => Err(was_reset()),
                }
            };
            match written {
                Ok(bytes) => {
                    connection.core.count_sent(connection, bytes);
                    connection.core.unsent.remove(bytes);
                    transmit.advance(bytes);
                    left -= bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::SocketFull,
                Err(error) => {
                    let unsent = transmit.fail(&connection.core, error.raw_os_error().unwrap_or(libc::EPIPE));
                    drop(transmit);
                    drop(unsent);
                    return Written::All;
                }
            }
        }
        Written::All
    }

    async fn writable(&self) -> io::Result<()> {
        // The socket is borrowed only while it is polled, so that the reader can use it in between.
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.borrow();
        let socket = socket.as_ref().ok_or_else(was_reset)?;
        either!(socket, Socket, |socket| socket.poll_write_ready(cx))
    }

    /// Ready when the socket takes more now, and not only when last heard of.
    pub(crate) fn poll_takes_more(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_writable(cx))?;
            let socket = self.socket.borrow();
            let socket = socket.as_ref().ok_or_else(was_reset)?;
            let look = either!(socket, Socket, |socket| {
                socket.try_io(Interest::WRITABLE, || takes_more(socket.as_fd()))
            });
            match look {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                looked => return Poll::Ready(looked),
            }
        }
    }

    /// Waits until the socket takes more; `false` if it will not any more.
    async fn drains(&self, connection: &Connection) -> bool {
        poll_fn(|cx| {
            if connection.is_closed() {
                return Poll::Ready(false);
            }
            self.drainer.set(Some(cx.waker().clone()));
            self.poll_writable(cx).map(|writable| writable.is_ok())
        })
        .await
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.with_descriptor(|descriptor| SockRef::from(&descriptor).shutdown(Shutdown::Write))
    }

    pub(crate) fn with_descriptor<T>(
        &self,
        f: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let socket = self.socket.borrow();
        let socket = socket.as_ref().ok_or_else(was_reset)?;
        either!(socket, Socket, |socket| f(socket.as_fd()))
    }

    pub(crate) fn close(&self, connection: &Rc<Connection>) {
        self.closing.set(true);
        self.ready.borrow_mut().release();
        if !self.transmit.borrow().draining {
            connection.closed();
        }
    }

    pub(crate) fn reset(&self, connection: &Rc<Connection>) {
        // Refused only for a socket that is gone already.
        let _ = self.with_descriptor(|descriptor| {
            SockRef::from(&descriptor).set_linger(Some(std::time::Duration::ZERO))
        });
        let unsent = self.transmit.borrow_mut().fail(&connection.core, libc::ECONNABORTED);
        drop(unsent);
        self.ready.borrow_mut().release();
        // Closing it is what resets it.
        drop(self.socket.take());
        connection.closed();
        if let Some(drainer) = self.drainer.take() {
            drainer.wake();
        }
    }
}

/// `WouldBlock` if a socket takes nothing at the moment.
fn takes_more(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut look = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: the kernel reads and writes one structure, which lives through the call; it does not wait.
    match unsafe { libc::poll(&raw mut look, 1, 0) } {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        1.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn was_reset() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// How far writing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// Nothing is queued any more.
    All,
    SocketFull,
    TurnOver,
}

impl Transmit {
    /// Forgets all that was to be sent: sending fails with `errno` from now on. The memory is to be dropped by the caller,
    /// when nothing is borrowed.
    #[must_use]
    fn fail(&mut self, core: &Core, errno: i32) -> VecDeque<SendBuf> {
        // By name, so that whatever is added is forgotten as well. The task that drains ends by itself.
        let Self { queue, sent, unsent, errno: failed, draining: _ } = self;
        *sent = 0;
        core.unsent.remove(mem::take(unsent));
        failed.get_or_insert(errno);
        mem::take(queue)
    }

    fn advance(&mut self, bytes: usize) {
        self.unsent -= bytes;
        self.sent += bytes;
        while let Some(piece) = self.queue.front() {
            if self.sent < piece.len() {
                break;
            }
            self.sent -= piece.len();
            self.queue.pop_front();
        }
    }
}

/// Writes what is queued as the socket takes it, then closes the connection if its owner has let go of it.
async fn drain(connection: &Rc<Connection>) {
    let Io::Epoll(this) = connection.io() else { return };
    while this.drains(connection).await {
        let written = this.write_queued(connection);
        connection.wake_sender();
        match written {
            Written::All => break,
            Written::SocketFull => {}
            // Until Tokio has looked at all sockets.
            Written::TurnOver => tokio::task::yield_now().await,
        }
    }
    this.transmit.borrow_mut().draining = false;
    if this.closing.get() {
        connection.closed();
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub(crate) struct EpollListener {
    core: Rc<Core>,
    listener: RefCell<Option<Listening>>,
}

impl EpollListener {
    pub(crate) fn new(core: &Rc<Core>, socket: socket2::Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let unix = socket.domain()? == socket2::Domain::UNIX;
        let socket: OwnedFd = socket.into();
        let listener = if unix {
            Listening::Unix(UnixListener::from_std(socket.into())?)
        } else {
            Listening::Tcp(TcpListener::from_std(socket.into())?)
        };
        Ok(Self { core: Rc::clone(core), listener: RefCell::new(Some(listener)) })
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Stream> {
        loop {
            if !self.core.may_accept() {
                self.core.wake_when_one_closes(cx.waker());
                return Poll::Pending;
            }
            let polled = match &*self.listener.borrow() {
                None => return Poll::Pending,
                Some(Listening::Tcp(listener)) => {
                    listener.poll_accept(cx).map_ok(|(stream, _)| Socket::Tcp(stream))
                }
                Some(Listening::Unix(listener)) => {
                    listener.poll_accept(cx).map_ok(|(stream, _)| Socket::Unix(stream))
                }
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(socket)) => {
                    match Connection::open(&self.core, Io::Epoll(EpollSocket::new(socket))) {
                        Some(stream) => return Poll::Ready(stream),
                        None => self.core.counters.refused.add(1),
                    }
                }
                // That client has gone; the next one need not wait.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {
                    self.core.counters.accept_errors.add(1);
                }
                Poll::Ready(Err(error)) => {
                    self.core.counters.accept_errors.add(1);
                    tracing::warn!(%error, "accept failed; it goes on in a moment");
                    self.core.wake_at_next_tick(cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }

    /// The next connection that has come already; `None` when that was all, or the table is full.
    pub(crate) fn accept_waiting(&self) -> Option<Stream> {
        if !self.core.has_room() {
            return None;
        }
        // Tokio may not have heard of it yet.
        let socket = match self.listener.borrow().as_ref()? {
            Listening::Tcp(listener) => accept_waiting(&SockRef::from(listener)),
            Listening::Unix(listener) => accept_waiting(&SockRef::from(listener)),
        }?;
        let socket = EpollSocket::connected(socket).ok()?;
        Connection::open(&self.core, Io::Epoll(socket))
    }

    pub(crate) fn close(&self) {
        self.listener.borrow_mut().take();
    }
}

/// Opens an outgoing connection.
pub(crate) async fn connect(socket: socket2::Socket, address: &socket2::SockAddr) -> io::Result<EpollSocket> {
    socket.set_nonblocking(true)?;
    let connecting = match socket.connect(address) {
        Ok(()) => return EpollSocket::connected(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => EpollSocket::connected(socket)?,
        Err(error) => return Err(error),
    };
    connecting.writable().await?;
    match connecting.with_descriptor(|descriptor| SockRef::from(&descriptor).take_error())? {
        Some(error) => Err(error),
        None => Ok(connecting),
    }
}
