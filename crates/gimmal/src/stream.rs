//! The byte stream that a connection gives to those who speak another protocol than HTTP on it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use gimmal_runtime::{Address, ConnectionId, Core, SendBuf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::Chunk;

/// A byte stream between a service and a client: what a raw TCP service serves, and what is left of a connection
/// after an upgrade.
///
/// It has two faces. The native one receives [`Chunk`]s without a copy, and queues what it sends for the core's next
/// submission. The other is Tokio's [`AsyncRead`] and [`AsyncWrite`], for everything in that world. All methods take
/// `&self`: one future may receive while another sends. Dropping it closes the connection once all that was queued
/// has gone out.
///
/// # Cancel safety
/// Every future of a stream can be dropped at any time without losing data.
pub struct Stream(Rc<gimmal_runtime::Stream>);

impl Stream {
    pub(crate) fn plain(stream: gimmal_runtime::Stream) -> Self {
        Self(Rc::new(stream))
    }

    /// A second handle, for the parts of one connection.
    pub(crate) fn share(&self) -> Self {
        Self(Rc::clone(&self.0))
    }

    /// The id under which the core's connection table lists it.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.0.id()
    }

    /// The core that it is bound to.
    #[must_use]
    pub fn core(&self) -> &Rc<Core> {
        self.0.core()
    }

    /// Receives what has arrived; empty when the peer has ended its side.
    ///
    /// # Errors
    /// `TimedOut` once the [deadline](Self::set_deadline) has passed, `ConnectionAborted` when the connection was
    /// asked to close, and whatever the socket reports.
    pub async fn recv(&self) -> io::Result<Chunk> {
        self.0.recv().await
    }

    /// [`recv`](Self::recv) as a poll function.
    ///
    /// # Errors
    /// As `recv`.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.0.poll_recv(cx)
    }

    /// What has arrived already, if anything.
    #[must_use]
    pub fn try_recv(&self) -> Option<Chunk> {
        self.0.try_recv()
    }

    /// Puts bytes back: the next [`recv`](Self::recv) gets them first.
    pub fn unrecv(&self, bytes: Chunk) {
        self.0.unrecv(bytes);
    }

    /// Queues `data` as soon as little enough is waiting to go out.
    ///
    /// # Errors
    /// What an earlier send failed with; `TimedOut` once the deadline has passed.
    pub async fn send(&self, data: impl Into<SendBuf>) -> io::Result<()> {
        self.0.send(data).await
    }

    /// Queues `data` whatever is waiting already; see [`poll_send_ready`](Self::poll_send_ready).
    pub fn queue(&self, data: impl Into<SendBuf>) {
        self.0.queue(data);
    }

    /// Ready when little enough is waiting to go out for more to be queued.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send_ready(cx)
    }

    /// Waits until the kernel has taken all that was queued.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn flush(&self) -> io::Result<()> {
        self.0.flush().await
    }

    /// Flushes, then ends the sending side.
    ///
    /// # Errors
    /// As [`send`](Self::send); `NotConnected` if the peer has gone.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.0.shutdown().await
    }

    /// Ends the connection at once: what is queued is dropped, and the peer sees a reset.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Lets `recv`, `send` and `flush` fail with `TimedOut` from `after` now on, until it is called again; `None` for
    /// never. It costs one store, and is exact to 50 ms.
    pub fn set_deadline(&self, after: Option<Duration>) {
        self.0.set_deadline(after);
    }

    /// Ready once the deadline has passed or the connection was asked to close.
    pub fn poll_interrupted(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.0.poll_interrupted(cx)
    }

    /// Tells whether closing now would lose nothing; a graceful shutdown ends idle connections soon.
    pub fn set_idle(&self, idle: bool) {
        self.0.set_idle(idle);
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` if the peer has gone already.
    pub async fn peer_addr(&self) -> io::Result<Address> {
        self.0.peer_addr().await
    }

    /// This side's address.
    ///
    /// # Errors
    /// What `getsockname(2)` fails with.
    pub async fn local_addr(&self) -> io::Result<Address> {
        self.0.local_addr().await
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.0).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.0).poll_shutdown(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).finish_non_exhaustive()
    }
}
