//! A byte stream between this core and a peer.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockAddr, SockRef};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::address::Address;
use crate::connection::{Connection, Io};
use crate::core::Core;
use crate::pinned::PinnedBytes;
use crate::ring::OneshotFuture;
use crate::send_buf::{OutBuf, SendBuf};
use crate::table::ConnectionId;

/// A TCP or Unix stream, bound to the core that accepted or opened it.
///
/// It has two faces. The native one receives [`PinnedBytes`] (the kernel chose the buffer, nothing is copied)
/// and sends anything that is a [`SendBuf`]; sends are queued and go out with the core's next submission, so a
/// send that fits costs no system call of its own and is not waited for. The other is Tokio's [`AsyncRead`] and
/// [`AsyncWrite`], which copy, for everything in that world.
///
/// All methods take `&self`: one task may receive while another sends. Each direction has room for one waiter.
///
/// Dropping it closes the connection once everything that was queued has gone out, at most
/// [`Options::linger`](crate::Options::linger) later; [`abort`](Self::abort) does not wait.
///
/// # Cancel safety
/// Every future of a stream can be dropped at any time without losing data: bytes that arrive later are
/// received by the next call, and `send` has either queued all of its data or nothing.
pub struct Stream {
    connection: Rc<Connection>,
}

impl Stream {
    pub(crate) fn new(connection: Rc<Connection>) -> Self {
        Self { connection }
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// The id under which the core's connection table lists it.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.connection.id
    }

    /// Receives what has arrived, at most one [buffer](Self::set_bulk); empty when the peer has ended its side.
    ///
    /// # Errors
    /// `TimedOut` once the [deadline](Self::set_deadline) has passed, `ConnectionAborted` when the connection
    /// was asked to close, and whatever the socket reports, such as `ConnectionReset`.
    pub async fn recv(&self) -> io::Result<PinnedBytes> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv) as a poll function.
    ///
    /// # Errors
    /// As `recv`.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<PinnedBytes>> {
        self.connection.poll_receive(cx)
    }

    /// What has arrived already, if anything.
    #[must_use]
    pub fn try_recv(&self) -> Option<PinnedBytes> {
        self.connection.try_receive()
    }

    /// Asks an outgoing connection's socket whether it holds bytes or an end that nobody has received.
    ///
    /// It costs a system call. What has been received already is not looked at: [`try_recv`](Self::try_recv) tells that. An
    /// accepted connection, and one that has ended, answer true.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        let look = |socket: SockRef<'_>| {
            let mut byte = [MaybeUninit::uninit()];
            let looked = socket.recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
            !looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        match self.connection.io() {
            Io::Epoll(socket) => socket.with_descriptor(|descriptor| Ok(look(SockRef::from(&descriptor)))),
            Io::Ring(socket) => socket
                .with_descriptor(|descriptor| look(SockRef::from(descriptor)))
                .map(|looked| looked.unwrap_or(true)),
        }
        .unwrap_or(true)
    }

    /// Puts bytes back: the next [`recv`](Self::recv) gets them first.
    pub fn unrecv(&self, bytes: PinnedBytes) {
        if !bytes.is_empty() {
            self.connection.unreceive(bytes);
        }
    }

    /// Tells whether much is about to come, as a large body. What comes then is received in pieces of up to 128 KiB, in
    /// memory of their own, instead of in pinned buffers: large messages come in fewer pieces, often in one, and are
    /// not copied on their way. A stream that waits holds no memory either way.
    pub fn set_bulk(&self, bulk: bool) {
        self.connection.set_bulk(bulk);
    }

    /// Queues `data` as soon as at most [`Options::unsent_bytes_max`](crate::Options::unsent_bytes_max) bytes
    /// are waiting to go out.
    ///
    /// # Errors
    /// What an earlier send failed with, `TimedOut` once the deadline has passed. Use [`flush`](Self::flush) to
    /// learn that the kernel has taken everything.
    pub async fn send(&self, data: impl Into<SendBuf>) -> io::Result<()> {
        poll_fn(|cx| self.poll_send_ready(cx)).await?;
        self.connection.send(data.into());
        Ok(())
    }

    /// Ready when little enough is waiting to go out for more to be queued.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_send_ready(cx)
    }

    /// Queues `data` whatever is waiting already. Pieces that wait together go out as one vectored send.
    ///
    /// Await [`poll_send_ready`](Self::poll_send_ready) before queueing more than a bounded amount. If an
    /// earlier send has failed, `data` is dropped, and the next `send` or `flush` tells.
    pub fn queue(&self, data: impl Into<SendBuf>) {
        self.connection.send(data.into());
    }

    /// Queues several pieces that go out together: in one operation, but for a large one that is sent without copying.
    pub fn queue_all<const N: usize>(&self, pieces: [SendBuf; N]) {
        self.connection.send_all(pieces);
    }

    /// Waits until the kernel has taken all that was queued.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.connection.poll_flush(cx)).await
    }

    /// Flushes, then ends the sending side (`SHUT_WR`): the peer reads to the end, and may go on sending.
    ///
    /// # Errors
    /// As [`send`](Self::send); `NotConnected` if the peer has gone.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.flush().await?;
        match self.connection.io() {
            Io::Ring(socket) => socket.shutdown(&self.connection)?.await.map(drop),
            Io::Epoll(socket) => socket.shutdown(),
        }
    }

    /// Ends the connection at once: what is queued is dropped, and the peer sees a reset.
    ///
    /// Whatever waits for the stream is woken, and every later call fails with `ConnectionAborted`; what is queued then is
    /// dropped.
    pub fn abort(&self) {
        self.connection.reset();
    }

    /// Lets `recv`, `send` and `flush` fail with `TimedOut` from `after` now on, until it is called again;
    /// `None` for never. It costs one store. The resolution is that of the core's coarse clock, 50 ms; a
    /// deadline never passes early.
    pub fn set_deadline(&self, after: Option<Duration>) {
        self.connection.set_deadline(after);
    }

    /// Ready once the deadline has passed or the connection was asked to close, with the error that `recv` and
    /// `send` fail with; for whoever waits for something else than the stream meanwhile.
    pub fn poll_interrupted(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.connection.poll_interrupted(cx)
    }

    /// Tells whether closing now would lose nothing, as between two requests. A graceful shutdown gives idle
    /// connections only [`Options::drain_idle`](crate::Options::drain_idle) to say more, and those that become idle
    /// while it is under way as well: set a deadline of your own before this, not after it.
    pub fn set_idle(&self, idle: bool) {
        self.connection.set_idle(idle);
    }

    /// The core that the stream is bound to.
    #[must_use]
    pub fn core(&self) -> &Rc<Core> {
        &self.connection.core
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` if the peer has gone already.
    pub async fn peer_addr(&self) -> io::Result<Address> {
        self.address(|socket| socket.peer_addr()).await
    }

    /// This side's address.
    ///
    /// # Errors
    /// What `getsockname(2)` fails with.
    pub async fn local_addr(&self) -> io::Result<Address> {
        self.address(|socket| socket.local_addr()).await
    }

    async fn address(&self, of: impl Fn(SockRef<'_>) -> io::Result<SockAddr>) -> io::Result<Address> {
        self.connection.check()?;
        let address = match self.connection.io() {
            Io::Epoll(socket) => socket.with_descriptor(|descriptor| of(SockRef::from(&descriptor)))?,
            Io::Ring(socket) => match socket.with_descriptor(|descriptor| of(SockRef::from(descriptor)))? {
                Some(address) => address?,
                // A direct descriptor is unknown to ordinary system calls: borrow one for the question.
                None => of(SockRef::from(&OneshotFuture::install(&self.connection, socket).await?))?,
            },
        };
        Address::try_from(address)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.release();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Reads and writes need no exclusive access.
impl AsyncRead for &Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = ready!(self.poll_recv(cx))?;
        let taken = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..taken]);
        bytes.advance(taken);
        self.unrecv(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for &Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send_ready(cx))?;
        let taken = data.len().min(self.connection.core.options.unsent_bytes_max);
        let mut out = OutBuf::take();
        out.extend_from_slice(&data[..taken]);
        self.queue(out);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.connection.poll_flush(cx))?;
        match self.connection.io() {
            Io::Ring(socket) => {
                // Nobody needs its result: the entry is handed over with the core's next turn.
                socket.shutdown_unwatched(&self.connection);
                Poll::Ready(Ok(()))
            }
            Io::Epoll(socket) => Poll::Ready(socket.shutdown()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_shutdown(cx)
    }
}
