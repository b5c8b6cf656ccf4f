//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692).
//!
//! ```
//! use gimmal::{App, Response};
//! use gimmal::websocket::{WebSocket, WebSocketUpgrade};
//!
//! async fn echo(upgrade: WebSocketUpgrade) -> Response {
//!     upgrade.serve(|socket: WebSocket| async move {
//!         while let Some(Ok(message)) = socket.recv().await {
//!             if socket.send(message).await.is_err() {
//!                 break;
//!             }
//!         }
//!     })
//! }
//! let app = App::new().get("/echo", echo);
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use gimmal_http::websocket::{self, Decoder, Encoder, Event, HandshakeError, Role, ServerHandshake};
use gimmal_runtime::OutBuf;
use http::{HeaderMap, StatusCode};

use crate::body::Chunk;
use crate::error::Error;
use crate::extract::FromRequest;
use crate::incoming::BULK_BYTES_MIN;
use crate::request::Request;
use crate::reset::{Reading, until_reset};
use crate::response::{IntoResponse, Response};
use crate::stream::Stream;

pub use gimmal_http::websocket::{
    CloseCode, CloseFrame, DeflateConfig, PreparedMessage, SendError, WebSocketError, WebSocketLimits,
};

/// A message from this size on goes out from where it lies; a shorter one is copied behind its head.
const COPIED_BYTES_MAX: usize = 8 * 1024;
/// What is collected before it goes out, while more messages are at hand.
const OUT_BYTES: usize = 32 * 1024;
/// How long a peer has to answer a Close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    fn as_codec(&self) -> websocket::Message<'_> {
        match self {
            Self::Text(text) => websocket::Message::Text(text),
            Self::Binary(bytes) => websocket::Message::Binary(bytes),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// Why a WebSocket ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The peer broke the protocol or a limit, and was told so.
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[from] WebSocketError),
    /// The connection ended without a Close (1006).
    #[error("the connection ended without a Close frame")]
    Disconnected,
    /// The peer answered no Ping in time.
    #[error("the peer is silent")]
    Silent,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// It cannot be sent.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// A request that asks for a WebSocket: 400, 405 or 426 if it does not, 403 if the page of another site asks for it.
///
/// Browsers send cookies along with the handshake whatever page opens it, so a page of another origin is refused unless
/// [`any_origin`](WebSocketUpgrade::any_origin) is called.
pub struct WebSocketUpgrade {
    headers: HeaderMap,
    protocol: Option<String>,
    limits: WebSocketLimits,
    deflate: Option<DeflateConfig>,
    keep_alive: Duration,
    any_origin: bool,
}

fn refused(error: HandshakeError) -> Error {
    error.headers().iter().fold(Error::new(error.status(), error.to_string()), |refused, (name, value)| {
        refused.with_header(name.clone(), value.clone())
    })
}

impl FromRequest for WebSocketUpgrade {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let headers = request.to_header_map();
        ServerHandshake::read(request.method(), request.version(), &headers).map_err(refused)?;
        // RFC 9110, section 7.8: with a body it is not clear where the new protocol begins.
        if !request.head().parsed.framing().is_empty() {
            return Err(Error::new(StatusCode::BAD_REQUEST, "the handshake of a WebSocket has no body"));
        }
        Ok(Self {
            headers,
            protocol: None,
            limits: WebSocketLimits::default(),
            deflate: Some(DeflateConfig::default()),
            keep_alive: Duration::from_secs(30),
            any_origin: false,
        })
    }
}

impl WebSocketUpgrade {
    fn handshake(&self) -> Result<ServerHandshake<'_>, Error> {
        ServerHandshake::read(&http::Method::GET, http::Version::HTTP_11, &self.headers).map_err(refused)
    }

    /// Picks the first of the client's subprotocols that is one of `known`.
    #[must_use]
    pub fn protocols(mut self, known: &[&str]) -> Self {
        self.protocol = self.handshake().ok().and_then(|handshake| {
            handshake.protocols().find(|offered| known.contains(offered)).map(str::to_owned)
        });
        self
    }

    /// The subprotocol that was picked.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// How large frames and messages may be. Default 2 MiB.
    #[must_use]
    pub fn limits(mut self, limits: WebSocketLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How messages are compressed where the client can; `None` for not at all.
    #[must_use]
    pub fn deflate(mut self, config: Option<DeflateConfig>) -> Self {
        self.deflate = config;
        self
    }

    /// How long a peer may be silent before it is pinged, and then before it is given up. Default 30 s.
    #[must_use]
    pub fn keep_alive(mut self, after: Duration) -> Self {
        self.keep_alive = after;
        self
    }

    /// Lets pages of every site open it. Only for what needs no login, or proves the user by other means than cookies.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.any_origin = true;
        self
    }

    /// The response that opens the WebSocket, which `serve` then has. It is closed when the future ends.
    pub fn serve<F: Future<Output = ()> + 'static>(
        self,
        serve: impl FnOnce(WebSocket) -> F + 'static,
    ) -> Response {
        match self.open(serve) {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    }

    fn open<F: Future<Output = ()> + 'static>(
        self,
        serve: impl FnOnce(WebSocket) -> F + 'static,
    ) -> Result<Response, Error> {
        let handshake = self.handshake()?;
        if !self.any_origin && !handshake.is_same_origin() {
            return Err(Error::new(
                StatusCode::FORBIDDEN,
                "a page of another origin may not open this WebSocket",
            ));
        }
        let accepted = handshake.accept(self.protocol.as_deref(), self.deflate.as_ref()).map_err(refused)?;
        let (limits, keep_alive, deflate) = (self.limits, self.keep_alive, accepted.deflate);
        let protocol = http::HeaderValue::from_static("websocket");
        let mut response = Response::switching_protocols(protocol, move |stream| {
            let reading = Rc::new(Reading::default());
            let watched = (stream.share(), Rc::clone(&reading));
            let serving = serve(WebSocket {
                stream,
                decoder: RefCell::new(Decoder::new(Role::Server, limits, deflate)),
                encoder: RefCell::new(Encoder::new(Role::Server, deflate)),
                input: RefCell::default(),
                output: Rc::default(),
                owed: RefCell::default(),
                is_pong_owed: Cell::new(false),
                receiver: Cell::new(None),
                sender_waits: Cell::new(false),
                keep_alive,
                waits: Cell::new(false),
                reading,
                pinged: Cell::new(false),
                ended: Cell::new(false),
                close_code: Cell::new(None),
            });
            async move { until_reset(&watched.0, &watched.1, serving).await }
        });
        *response.headers_mut() = accepted.headers;
        Ok(response)
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// A WebSocket that is open.
///
/// All methods take `&self`: one future may receive while another sends, in one task or in two, without a lock. Pings
/// are answered, and a silent peer is pinged, while something is being received. Of Pings that come faster than their
/// answers can be sent, the latest is answered (RFC 6455, section 5.5.3). A peer that resets the connection ends the
/// handler, whatever it waits for.
///
/// Dropping it sends a Close and ends the connection once that has gone out; [`close`](Self::close) waits for the
/// peer's.
///
/// # Cancel safety
/// No message is lost by dropping a future of [`recv`](Self::recv); [`send`](Self::send) has either queued all of its
/// message or nothing.
pub struct WebSocket {
    stream: Stream,
    decoder: RefCell<Decoder>,
    encoder: RefCell<Encoder>,
    input: RefCell<Input>,
    output: Rc<RefCell<Output>>,
    /// The payload of the Pong that is owed: the answer to the latest Ping alone (RFC 6455, section 5.5.3).
    owed: RefCell<Vec<u8>>,
    is_pong_owed: Cell<bool>,
    /// The task that receives, while it waits for room for a Pong.
    receiver: Cell<Option<Waker>>,
    /// A future of `send` waits for room, and has taken the stream's place for one who waits.
    sender_waits: Cell<bool>,
    keep_alive: Duration,
    /// The peer's next bytes are waited for.
    waits: Cell<bool>,
    reading: Rc<Reading>,
    /// A Ping is on its way, and nothing has come since.
    pinged: Cell<bool>,
    /// Nothing more will be received.
    ended: Cell<bool>,
    close_code: Cell<Option<CloseCode>>,
}

/// Received, and not decoded yet. It is unmasked where it lies: in the buffer in which it came, or in a copy if others can
/// see that.
enum Input {
    Received(Chunk),
    /// From this place on.
    Copied(Vec<u8>, usize),
}

impl Default for Input {
    fn default() -> Self {
        Self::Received(Chunk::new())
    }
}

impl Input {
    fn is_empty(&self) -> bool {
        match self {
            Self::Received(chunk) => chunk.is_empty(),
            Self::Copied(bytes, at) => bytes.len() == *at,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        if let Self::Received(chunk) = self
            && chunk.try_mut().is_none()
        {
            *self = Self::Copied(chunk.to_vec(), 0);
        }
        match self {
            Self::Received(chunk) => chunk.try_mut().unwrap_or_default(),
            Self::Copied(bytes, at) => &mut bytes[*at..],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Received(chunk) => chunk.advance(count),
            Self::Copied(_, at) => *at += count,
        }
    }
}

/// Frames that wait for those of the messages that have been received already.
#[derive(Default)]
struct Output {
    frames: OutBuf,
    /// A task sees to it that they do not wait for long.
    is_seen_to: bool,
}

impl Output {
    fn flush(&mut self, stream: &Stream) {
        if !self.frames.is_empty() {
            stream.queue(std::mem::take(&mut self.frames));
        }
    }
}

impl WebSocket {
    /// The next message; `None` once the peer, or a shutdown of the server, has ended the WebSocket in order.
    ///
    /// # Errors
    /// [`SocketError`], after which there are no more messages.
    pub async fn recv(&self) -> Option<Result<Message, SocketError>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv) as a poll function.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, SocketError>>> {
        while !self.ended.get() {
            let decoded = self.decode();
            self.pay_pong(cx);
            match decoded {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) if self.ended.get() => break,
                Ok(None) => {}
                Err(error) => {
                    self.end(Some(CloseFrame { code: error.close_code(), reason: "" }));
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            self.output.borrow_mut().flush(&self.stream);
            match ready!(self.poll_bytes(cx)) {
                Ok(bytes) if !bytes.is_empty() => drop(self.input.replace(Input::Received(bytes))),
                Ok(_) => {
                    self.ended.set(true);
                    return Poll::Ready(Some(Err(SocketError::Disconnected)));
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    if self.stream.core().is_draining() {
                        self.end(Some(CloseFrame {
                            code: CloseCode::GOING_AWAY,
                            reason: "the server stops",
                        }));
                    } else if self.pinged.replace(true) {
                        self.ended.set(true);
                        return Poll::Ready(Some(Err(SocketError::Silent)));
                    } else if self.has_room(cx) {
                        self.queue(|encoder, out| encoder.ping(b"", out))?;
                    }
                }
                Err(error) => {
                    self.ended.set(true);
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
        Poll::Ready(None)
    }

    /// Waits for bytes, for as long as a peer may be silent. A connection that waits is idle: a shutdown of the server
    /// gives it a nearer deadline, which is left alone.
    fn poll_bytes(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let received = self.reading.poll_recv(&self.stream, cx);
        let waits = received.is_pending();
        self.reading.note(waits, cx.waker());
        if waits != self.waits.replace(waits) {
            self.stream.set_deadline(waits.then_some(self.keep_alive));
            self.stream.set_idle(waits);
        }
        if let Poll::Ready(Ok(_)) = received {
            self.pinged.set(false);
        }
        received
    }

    /// Works on what was received until a message is whole.
    fn decode(&self) -> Result<Option<Message>, WebSocketError> {
        let mut input = self.input.take();
        let mut decoder = self.decoder.borrow_mut();
        while !input.is_empty() {
            let decoded = decoder.decode(input.bytes())?;
            let message = match decoded.event {
                Some(Event::Text(text)) => Some(Message::Text(text.into_owned())),
                Some(Event::Binary(bytes)) => Some(Message::Binary(bytes.into_owned().into())),
                Some(Event::Ping(payload)) => {
                    let mut owed = self.owed.borrow_mut();
                    owed.clear();
                    owed.extend_from_slice(payload);
                    self.is_pong_owed.set(true);
                    None
                }
                Some(Event::Close(frame)) => {
                    self.close_code.set(frame.map(|frame| frame.code));
                    self.end(frame);
                    return Ok(None);
                }
                Some(Event::Pong(_) | Event::Part { .. }) | None => None,
            };
            let consumed = decoded.consumed;
            input.advance(consumed);
            if let Some(message) = message {
                // The next one is likely to be like it.
                self.stream.set_bulk(message.as_codec().bytes().len() as u64 >= BULK_BYTES_MIN);
                self.input.replace(input);
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Whether little enough is unsent for a control frame that nobody waits for. If not, the task that receives is
    /// woken when there is room, or the `send` that waits for room pays what is owed.
    fn has_room(&self, cx: &mut Context<'_>) -> bool {
        // An error is met by whoever receives or sends next.
        if !self.sender_waits.get() && matches!(self.stream.poll_send_ready(cx), Poll::Ready(Ok(()))) {
            return true;
        }
        self.receiver.set(Some(cx.waker().clone()));
        false
    }

    /// Sends the Pong that is owed as soon as there is room for it: however many Pings come meanwhile, one is kept.
    fn pay_pong(&self, cx: &mut Context<'_>) {
        if self.is_pong_owed.get() && self.has_room(cx) {
            self.queue_pong();
        }
    }

    fn queue_pong(&self) {
        if self.is_pong_owed.replace(false) {
            let payload = self.owed.take();
            // After a Close of this side nothing is owed any more.
            let _ = self.queue(|encoder, out| encoder.pong(&payload, out));
        }
    }

    fn queue(
        &self,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<(), SendError>,
    ) -> Result<(), SocketError> {
        let mut output = self.output.borrow_mut();
        output.frames.ensure();
        write(&mut self.encoder.borrow_mut(), &mut output.frames)?;
        // While there is more to receive, there will most likely be more to send.
        if self.input.borrow().is_empty() || output.frames.len() >= OUT_BYTES {
            output.flush(&self.stream);
        } else if !output.is_seen_to {
            output.is_seen_to = true;
            self.flush_soon();
        }
        Ok(())
    }

    /// Has what was collected go out as soon as this task waits for something, whatever that is.
    fn flush_soon(&self) {
        let (output, stream) = (Rc::clone(&self.output), self.stream.share());
        self.stream.core().spawn(async move {
            let mut output = output.borrow_mut();
            output.is_seen_to = false;
            output.flush(&stream);
        });
    }

    /// Receives nothing more, and sends a Close if none was sent.
    fn end(&self, frame: Option<CloseFrame<'_>>) {
        self.ended.set(true);
        if !self.encoder.borrow().is_closed() {
            // A reason that is too long was the peer's, and does not come back.
            let _ = self.queue(|encoder, out| encoder.close(frame, out));
        }
    }

    /// Sends a message, as soon as little enough is waiting to go out.
    ///
    /// # Errors
    /// [`SocketError`]; the connection is of no further use.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SocketError> {
        self.send_ready().await?;
        let message = message.into();
        let len = message.as_codec().bytes().len();
        if len > COPIED_BYTES_MAX {
            let mut output = self.output.borrow_mut();
            output.frames.ensure();
            if self.encoder.borrow_mut().head(message.as_codec().kind(), len, &mut output.frames)? {
                self.stream
                    .queue_all([std::mem::take(&mut output.frames).into(), message.into_bytes().into()]);
                return Ok(());
            }
        }
        self.queue(|encoder, out| encoder.message(message.as_codec(), out))
    }

    /// Sends a message that many connections are sent: its bytes are shared by all of them.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_prepared(&self, message: &PreparedMessage) -> Result<(), SocketError> {
        self.send_ready().await?;
        let frame = self.encoder.borrow_mut().prepared(message)?;
        self.output.borrow_mut().flush(&self.stream);
        self.stream.queue(frame);
        Ok(())
    }

    /// Sends a Ping, of at most 125 bytes.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn ping(&self, payload: &[u8]) -> Result<(), SocketError> {
        self.send_ready().await?;
        self.queue(|encoder, out| encoder.ping(payload, out))
    }

    /// Waits for room, and pays a Pong that is owed.
    async fn send_ready(&self) -> io::Result<()> {
        /// Lets the task that receives look for room itself, also when the `send` is given up.
        struct Waits<'a>(&'a WebSocket);

        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.sender_waits.set(false);
                if let Some(receiver) = self.0.receiver.take() {
                    receiver.wake();
                }
            }
        }

        if let Poll::Ready(ready) = poll_fn(|cx| Poll::Ready(self.stream.poll_send_ready(cx))).await {
            ready?;
        } else {
            self.sender_waits.set(true);
            let _waits = Waits(self);
            poll_fn(|cx| self.stream.poll_send_ready(cx)).await?;
        }
        self.queue_pong();
        Ok(())
    }

    /// Sends a Close and waits for the peer's, at most five seconds. Messages that are still on their way are dropped.
    pub async fn close(self, code: CloseCode, reason: &str) {
        if self.queue(|encoder, out| encoder.close(Some(CloseFrame { code, reason }), out)).is_err() {
            return;
        }
        let answered = async { while let Some(Ok(_)) = self.recv().await {} };
        // A peer that does not answer in time is not waited for.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, answered).await;
    }

    /// The code that the peer has closed with.
    #[must_use]
    pub fn close_code(&self) -> Option<CloseCode> {
        self.close_code.get()
    }

    /// The stream below, to ask it for addresses.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        if self.ended.get() {
            return;
        }
        // Whoever panics says so.
        let code = if std::thread::panicking() { CloseCode::INTERNAL_ERROR } else { CloseCode::NORMAL };
        // A panic here, while another one unwinds, would end the whole process.
        let end = || self.end(Some(CloseFrame { code, reason: "" }));
        if catch_unwind(AssertUnwindSafe(end)).is_err() {
            tracing::error!("a WebSocket could not be closed in order");
        }
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("stream", &self.stream).finish_non_exhaustive()
    }
}
