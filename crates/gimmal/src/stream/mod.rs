//! The byte stream that a connection gives to those who speak another protocol than HTTP on it.

mod tls;

use std::cell::OnceCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

#[cfg(feature = "files")]
use gimmal_runtime::File;
use gimmal_runtime::{Address, ConnectionId, Core, OutBuf, SendBuf, Stream as Socket};
use gimmal_security::tls::{ClientCertificate, TlsClientConfig, TlsError, TlsServerConfig, TlsVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::Chunk;

use tls::Tls;

/// Bytes that one write of Tokio's kind takes.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// A byte stream between a service and a peer, in plain text or over TLS: what a raw TCP service serves, what is left
/// of a connection after an upgrade, and what is opened to elsewhere.
///
/// It has two faces. The native one receives [`Chunk`]s, and queues what it sends for the core's next submission. The
/// other is Tokio's [`AsyncRead`] and [`AsyncWrite`], for everything in that world. All methods take `&self`: one
/// future may receive while another sends. Dropping it closes the connection once all that was queued has gone out;
/// over TLS, a close_notify goes out last.
///
/// # Cancel safety
/// Every future of a stream can be dropped at any time without losing data.
pub struct Stream(Rc<Transport>);

struct Transport {
    socket: Socket,
    tls: Option<Box<Tls>>,
    /// Who a proxy says is at the other end.
    peer: OnceCell<Address>,
}

impl Drop for Transport {
    fn drop(&mut self) {
        if let Some(tls) = &self.tls {
            tls.close(&self.socket);
        }
    }
}

/// What was agreed in the handshake of a TLS session.
///
/// ```
/// use gimmal::{App, Request};
///
/// async fn cipher(request: Request) -> String {
///     match request.tls() {
///         Some(tls) => format!("{} {:?}", tls.version, tls.cipher_suite),
///         None => "plain text".to_owned(),
///     }
/// }
/// let app = App::new().get("/cipher", cipher);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The protocol version.
    pub version: TlsVersion,
    /// The cipher suite, by its name in IANA's registry.
    pub cipher_suite: Option<&'static str>,
    /// The group of the key exchange, by its name in IANA's registry.
    pub key_exchange_group: Option<&'static str>,
    /// The application protocol (RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// The server name that the client asked for, in lower case (RFC 6066, section 3).
    pub server_name: Option<String>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Stream {
    fn new(socket: Socket, tls: Option<Box<Tls>>) -> Self {
        Self(Rc::new(Transport { socket, tls, peer: OnceCell::new() }))
    }

    pub(crate) fn plain(socket: Socket) -> Self {
        Self::new(socket, None)
    }

    /// Sets what [`peer_addr`](Self::peer_addr) says, in place of the proxy's address.
    pub(crate) fn set_peer(&self, peer: Address) {
        // It is said once.
        let _ = self.0.peer.set(peer);
    }

    /// Takes a client in over TLS. After a failure the socket is given back, with what the client is to be told queued
    /// on it.
    pub(crate) async fn accept_tls(
        socket: Socket,
        config: &TlsServerConfig,
    ) -> Result<Self, (TlsError, Socket)> {
        match Tls::accept(&socket, config).await {
            Ok(tls) => Ok(Self::new(socket, Some(Box::new(tls)))),
            Err(error) => Err((error, socket)),
        }
    }

    /// Opens a connection in plain text.
    ///
    /// # Errors
    /// What connecting fails with; `ResourceBusy` when the core holds as many connections as it may.
    ///
    /// # Panics
    /// Outside of a core.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        let core = Core::current().expect("a stream is opened on a core");
        core.connect(address).await.map(Self::plain)
    }

    /// Opens a connection over TLS to `address`, whose server must prove to be `name`. Bound it in time with
    /// `tokio::time::timeout`.
    ///
    /// # Errors
    /// What connecting fails with; `InvalidData` with a [`TlsError`] inside if the handshake fails.
    ///
    /// # Panics
    /// Outside of a core.
    ///
    /// ```no_run
    /// use gimmal::{Stream, tls::TlsClientConfig};
    ///
    /// async fn greet() -> Result<(), Box<dyn std::error::Error>> {
    ///     let config = TlsClientConfig::platform()?;
    ///     let stream = Stream::connect_tls(&"example.org:443".parse()?, "example.org", &config).await?;
    ///     stream.send("GET / HTTP/1.0\r\n\r\n").await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn connect_tls(address: &Address, name: &str, config: &TlsClientConfig) -> io::Result<Self> {
        let core = Core::current().expect("a stream is opened on a core");
        let socket = core.connect(address).await?;
        let introduced = Self::introduce(socket, name, config).await;
        introduced.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Speaks TLS from now on, to a server that must prove to be `name`.
    pub(crate) async fn introduce(
        socket: Socket,
        name: &str,
        config: &TlsClientConfig,
    ) -> Result<Self, TlsError> {
        let tls = Tls::connect(&socket, name, config).await?;
        Ok(Self::new(socket, Some(Box::new(tls))))
    }

    /// Whether what was received last came as early data, and may be a replay.
    pub(crate) fn is_early(&self) -> bool {
        self.0.tls.as_ref().is_some_and(|tls| tls.is_early())
    }

    /// Whether the client is an ACME server, which has got what it wanted.
    pub(crate) fn is_acme_challenge(&self) -> bool {
        self.0.tls.as_ref().is_some_and(|tls| tls.session().is_acme_challenge())
    }

    /// A second handle, for the parts of one connection.
    pub(crate) fn share(&self) -> Self {
        Self(Rc::clone(&self.0))
    }

    /// Tells whether the socket holds bytes or an end that nobody has received.
    pub(crate) fn has_arrived(&self) -> bool {
        self.socket().has_arrived()
    }

    fn socket(&self) -> &Socket {
        &self.0.socket
    }

    /// What was agreed in the TLS handshake; `None` in plain text.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        let session = self.0.tls.as_ref()?.session();
        Some(TlsInfo {
            version: session.version()?,
            cipher_suite: session.cipher_suite(),
            key_exchange_group: session.key_exchange_group(),
            alpn: session.alpn().map(<[u8]>::to_vec),
            server_name: session.server_name().map(str::to_owned),
            resumed: session.is_resumed(),
        })
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.tls.is_some()
    }

    /// The certificate by which the client has proved itself in the TLS handshake.
    #[must_use]
    pub fn client_certificate(&self) -> Option<Rc<ClientCertificate>> {
        self.0.tls.as_ref()?.client_certificate()
    }

    /// The id under which the core's connection table lists it.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.socket().id()
    }

    /// The core that it is bound to.
    #[must_use]
    pub fn core(&self) -> &Rc<Core> {
        self.socket().core()
    }

    /// Receives what has arrived; empty when the peer has ended its side.
    ///
    /// # Errors
    /// `TimedOut` once the [deadline](Self::set_deadline) has passed, `ConnectionAborted` when the connection was
    /// asked to close, and whatever the socket reports.
    pub async fn recv(&self) -> io::Result<Chunk> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv) as a poll function.
    ///
    /// # Errors
    /// As `recv`.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        match &self.0.tls {
            None => self.socket().poll_recv(cx),
            Some(tls) => tls.poll_recv(self.socket(), cx),
        }
    }

    /// Receives bytes that nobody reads, and tells how many; over TLS they are not decrypted. rustls would answer bad ones
    /// by an alert, which has no place behind a close_notify.
    pub(crate) async fn recv_unread(&self) -> io::Result<usize> {
        self.socket().recv().await.map(|bytes| bytes.len())
    }

    /// Tells whether much is about to come, as a large body: it is received in fewer, larger pieces then.
    pub fn set_bulk(&self, bulk: bool) {
        self.socket().set_bulk(bulk);
    }

    /// What has arrived already, if anything.
    #[must_use]
    pub fn try_recv(&self) -> Option<Chunk> {
        match &self.0.tls {
            None => self.socket().try_recv(),
            Some(tls) => tls.try_recv(self.socket()),
        }
    }

    /// Puts bytes back: the next [`recv`](Self::recv) gets them first.
    pub fn unrecv(&self, bytes: Chunk) {
        match &self.0.tls {
            None => self.socket().unrecv(bytes),
            Some(tls) => tls.unrecv(bytes),
        }
    }

    /// Queues `data` as soon as little enough is waiting to go out.
    ///
    /// # Errors
    /// What an earlier send failed with; `TimedOut` once the deadline has passed.
    pub async fn send(&self, data: impl Into<SendBuf>) -> io::Result<()> {
        poll_fn(|cx| self.poll_send_ready(cx)).await?;
        self.queue(data);
        Ok(())
    }

    /// Queues `data` whatever is waiting already; see [`poll_send_ready`](Self::poll_send_ready).
    pub fn queue(&self, data: impl Into<SendBuf>) {
        match &self.0.tls {
            None => self.socket().queue(data),
            Some(tls) => tls.queue(self.socket(), &data.into()),
        }
    }

    /// Queues several pieces that go out together.
    pub fn queue_all<const N: usize>(&self, pieces: [SendBuf; N]) {
        match &self.0.tls {
            None => self.socket().queue_all(pieces),
            Some(tls) => pieces.iter().for_each(|piece| tls.queue(self.socket(), piece)),
        }
    }

    /// Ready when little enough is waiting to go out for more to be queued.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &self.0.tls {
            tls.check_may_send()?;
        }
        self.socket().poll_send_ready(cx)
    }

    /// Sends `head`, and behind it a part of a file that the kernel sends by itself, in plain text.
    #[cfg(feature = "files")]
    pub(crate) async fn send_file(
        &self,
        head: OutBuf,
        file: &File,
        position: u64,
        len: u64,
    ) -> io::Result<u64> {
        self.socket().send_file(head, file, position, len).await
    }

    /// Waits until the kernel has taken all that was queued.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn flush(&self) -> io::Result<()> {
        self.socket().flush().await
    }

    /// Flushes, then ends the sending side; over TLS with a close_notify.
    ///
    /// # Errors
    /// As [`send`](Self::send); `NotConnected` if the peer has gone.
    pub async fn shutdown(&self) -> io::Result<()> {
        if let Some(tls) = &self.0.tls {
            tls.close(self.socket());
        }
        self.socket().shutdown().await
    }

    /// Ends the connection at once: what is queued is dropped, and the peer sees a reset.
    pub fn abort(&self) {
        self.socket().abort();
    }

    /// Lets `recv`, `send` and `flush` fail with `TimedOut` from `after` now on, until it is called again; `None` for
    /// never. It costs one store, and is exact to 50 ms.
    pub fn set_deadline(&self, after: Option<Duration>) {
        self.socket().set_deadline(after);
    }

    /// Ready once the deadline has passed or the connection was asked to close.
    pub fn poll_interrupted(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.socket().poll_interrupted(cx)
    }

    /// Tells whether closing now would lose nothing; a graceful shutdown ends idle connections soon.
    pub fn set_idle(&self, idle: bool) {
        self.socket().set_idle(idle);
    }

    /// The peer's address; behind a proxy that speaks the PROXY protocol, the client's.
    ///
    /// # Errors
    /// `NotConnected` if the peer has gone already.
    pub async fn peer_addr(&self) -> io::Result<Address> {
        if let Some(peer) = self.0.peer.get() {
            return Ok(peer.clone());
        }
        self.socket().peer_addr().await
    }

    /// This side's address.
    ///
    /// # Errors
    /// What `getsockname(2)` fails with.
    pub async fn local_addr(&self) -> io::Result<Address> {
        self.socket().local_addr().await
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = ready!(self.poll_recv(cx))?;
        let taken = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes.split_to(taken));
        self.unrecv(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send_ready(cx))?;
        let taken = data.len().min(WRITE_BYTES_MAX);
        let mut out = OutBuf::take();
        out.extend_from_slice(&data[..taken]);
        self.queue(out);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &self.0.tls {
            tls.close(self.socket());
        }
        Pin::new(&mut self.socket()).poll_shutdown(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).finish_non_exhaustive()
    }
}
