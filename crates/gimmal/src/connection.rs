//! One HTTP/1 connection, from its first byte to its last.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gimmal_http::{BodyFraming, Limits, Parsed, RequestError};
use gimmal_runtime::{Address, ConnectionId, LocalFuture, OutBuf};
use http::{Method, StatusCode, Version};
use tracing::Instrument;

use crate::access_log::AccessRecord;
use crate::body::{Body, Chunk};
use crate::config::Timeouts;
use crate::error::Error;
#[cfg(feature = "files")]
use crate::file_body::FileBody;
use crate::incoming::{IncomingBody, is_bulk};
use crate::outgoing::{self, Begun, Outcome};
use crate::request::{Head, Request};
use crate::response::{IntoResponse, Response};
use crate::router::Endpoint;
use crate::service::{Responding, Service};
use crate::stream::Stream;
use crate::upgrade::Upgrade;

/// Answers that are collected before they are queued for sending.
const OUT_BYTES: usize = 32 * 1024;
/// How long, and over how many bytes, what a client still sends is read after the last answer: closing at once
/// would reset the connection and take the answer away from it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the requests of one connection share.
pub(crate) struct Connection {
    service: Rc<Service>,
    /// `None` for requests that are made in memory.
    stream: Option<Stream>,
    peer: OnceCell<Address>,
    /// Received, and not read yet.
    input: RefCell<Chunk>,
    requests: Cell<u32>,
    /// Some of the head of the request under way came as early data of TLS.
    is_early: Cell<bool>,
    /// When the request under way must have been answered.
    request_deadline: Cell<Option<Instant>>,
}

impl Connection {
    pub(crate) fn new(service: Rc<Service>, stream: Option<Stream>) -> Rc<Self> {
        Rc::new(Self {
            service,
            stream,
            peer: OnceCell::new(),
            input: RefCell::default(),
            requests: Cell::new(0),
            is_early: Cell::new(false),
            request_deadline: Cell::new(None),
        })
    }

    pub(crate) fn service(&self) -> &Rc<Service> {
        &self.service
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.service.config.timeouts
    }

    /// # Panics
    /// For requests that are made in memory, whose bodies are in memory as well.
    pub(crate) fn stream(&self) -> &Stream {
        self.stream.as_ref().expect("a request that arrives has a stream")
    }

    pub(crate) fn try_stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_tls)
    }

    pub(crate) fn id(&self) -> Option<ConnectionId> {
        self.stream.as_ref().map(Stream::id)
    }

    pub(crate) async fn peer_addr(&self) -> io::Result<Address> {
        if let Some(address) = self.peer.get() {
            return Ok(address.clone());
        }
        let address = match &self.stream {
            Some(stream) => stream.peer_addr().await?,
            None => Address::UnixUnnamed,
        };
        Ok(self.peer.get_or_init(|| address).clone())
    }

    pub(crate) fn take_input(&self) -> Chunk {
        self.input.take()
    }

    pub(crate) fn set_input(&self, input: Chunk) {
        self.input.replace(input);
    }

    /// The number of the request under way, from 1.
    pub(crate) fn number(&self) -> u32 {
        self.requests.get()
    }

    /// Ready once the client has ended its side, for who has nothing to say for long. What else arrives is kept for
    /// later, and ends the watch: there is room for one chunk.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut input = self.input.borrow_mut();
        if !input.is_empty() {
            return Poll::Pending;
        }
        match self.stream().poll_recv(cx) {
            Poll::Ready(Ok(bytes)) if !bytes.is_empty() => {
                *input = bytes;
                Poll::Pending
            }
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(crate) fn send_continue(&self) {
        self.stream().queue("HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Sets how long the client may let the server wait from now on, besides the deadline of the request.
    pub(crate) fn set_pace(&self, pace: Option<Duration>) {
        let request = self.request_deadline.get().map(|at| at.saturating_duration_since(Instant::now()));
        let deadline = match (pace, request) {
            (Some(pace), Some(request)) => Some(pace.min(request)),
            (pace, request) => pace.or(request),
        };
        self.stream().set_deadline(deadline);
    }

    /// Waits until little enough is unsent for more to be queued, if the client takes it quickly enough.
    pub(crate) async fn send_ready(&self) -> io::Result<()> {
        let stream = self.stream();
        if let Poll::Ready(ready) = poll_fn(|cx| Poll::Ready(stream.poll_send_ready(cx))).await {
            return ready;
        }
        self.set_pace(self.timeouts().for_bytes(stream.core().options().unsent_bytes_max as u64));
        let ready = poll_fn(|cx| stream.poll_send_ready(cx)).await;
        self.set_pace(None);
        ready
    }

    /// Sends `head`, and as much of a file behind it as the client takes at once, if it is quick enough.
    #[cfg(feature = "files")]
    pub(crate) async fn send_file(&self, head: OutBuf, file: &FileBody) -> io::Result<u64> {
        let stream = self.stream();
        self.set_pace(self.timeouts().for_bytes(stream.core().options().unsent_bytes_max as u64));
        let sent = stream.send_file(head, file.file(), file.position(), file.len()).await;
        self.set_pace(None);
        sent
    }

    /// Waits for a handler, for as long as a request may take.
    async fn wait_for(&self, responding: &mut Responding) -> io::Result<Response> {
        let stream = self.stream();
        self.request_deadline.set(Some(Instant::now() + self.timeouts().request));
        self.set_pace(None);
        let response = poll_fn(|cx| match Pin::new(&mut *responding).poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending => stream.poll_interrupted(cx).map(Err),
        })
        .await;
        self.request_deadline.set(None);
        stream.set_deadline(None);
        response
    }

    /// Queues what was collected, and leaves nothing.
    pub(crate) fn queue(&self, out: &mut OutBuf) {
        if !out.is_empty() {
            self.stream().queue(std::mem::take(out));
        }
    }

    /// Waits for the first bytes of a request; `false` when the connection has come to its end.
    async fn awaits_request(&self) -> bool {
        let stream = self.stream();
        let timeouts = self.timeouts();
        stream.set_deadline(Some(if self.requests.get() == 0 {
            timeouts.header_read
        } else {
            timeouts.idle
        }));
        stream.set_idle(true);
        let received = stream.recv().await;
        stream.set_idle(false);
        stream.set_deadline(None);
        match received {
            Ok(bytes) if !bytes.is_empty() => {
                self.set_input(bytes);
                true
            }
            _ => false,
        }
    }
}

/// How a connection goes on after the requests that had come.
pub(crate) enum After {
    /// It waits for the next request.
    Idle,
    /// It is closed once all is sent.
    Close,
    /// The same, after the client has been given time to read the answer: it may still be sending.
    Linger,
    /// The client must not take what it got for a whole response.
    Abort,
    Upgrade(Upgrade),
}

/// Serves a connection. While it is idle, all that it holds is a few words.
pub(crate) async fn serve(stream: Stream, service: Rc<Service>) {
    let connection = Connection::new(service, Some(stream));
    while connection.awaits_request().await {
        match LocalFuture::new(exchanges(Rc::clone(&connection))).await {
            After::Idle => {}
            After::Close => return,
            After::Linger => return LocalFuture::new(linger(Rc::clone(&connection))).await,
            After::Abort => return connection.stream().abort(),
            After::Upgrade(upgrade) => {
                let stream = connection.stream().share();
                stream.set_deadline(None);
                stream.unrecv(connection.take_input());
                drop(connection);
                return upgrade.run(stream).await;
            }
        }
    }
}

/// Lets the client read the last answer before the connection goes.
async fn linger(connection: Rc<Connection>) {
    let stream = connection.stream();
    stream.set_deadline(Some(LINGER));
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut left = LINGER_BYTES_MAX;
    while let Ok(bytes) = stream.recv().await
        && !bytes.is_empty()
        && left > bytes.len()
    {
        left -= bytes.len();
    }
}

/// What is needed of a request after its handler has had it.
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// The client asked for another protocol, or for a tunnel.
    pub(crate) may_upgrade: bool,
    /// Whether the connection stays open; at first, whether the client wants that.
    pub(crate) keep_alive: bool,
}

impl Facts {
    fn of(head: &Head) -> Self {
        let parsed = &head.parsed;
        Self {
            version: parsed.version(),
            method: parsed.method().clone(),
            may_upgrade: parsed.upgrade() || *parsed.method() == Method::CONNECT,
            keep_alive: parsed.keep_alive(),
        }
    }

    /// For an answer to what is no request.
    fn of_nothing() -> Self {
        Self { version: Version::HTTP_11, method: Method::GET, may_upgrade: false, keep_alive: false }
    }
}

/// Answers the requests that have come, one after the other.
async fn exchanges(connection: Rc<Connection>) -> After {
    let mut out = OutBuf::default();
    loop {
        let head = match next_head(&connection, &mut out).await {
            Next::Request(head) => head,
            Next::None => return After::Idle,
            Next::Gone => return After::Close,
            Next::Refused(error) => {
                let mut response = error.into_response();
                connection.service.router.root().complete(&mut response, connection.is_tls());
                // Its text is short: it is collected at once.
                let _ = outgoing::begin(&connection, &mut out, response, &Facts::of_nothing());
                connection.queue(&mut out);
                return After::Linger;
            }
        };
        let after = exchange(&connection, head, &mut out).await;
        if after.is_some() || out.len() >= OUT_BYTES {
            connection.queue(&mut out);
        }
        if let Some(after) = after {
            return after;
        }
        if connection.send_ready().await.is_err() {
            return After::Abort;
        }
    }
}

/// What comes next on a connection.
enum Next {
    Request(Box<Head>),
    /// Nothing has come.
    None,
    /// The client has gone in the middle of a head.
    Gone,
    Refused(Error),
}

/// Reads the next head. What was answered before goes out before more is waited for.
async fn next_head(connection: &Connection, out: &mut OutBuf) -> Next {
    let stream = connection.stream();
    let mut head = Head::take();
    let mut partial = Vec::new();
    let mut waits = false;
    connection.is_early.set(false);
    loop {
        connection.is_early.set(connection.is_early.get() || stream.is_early());
        match read_head(connection, &mut head, &mut partial) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "a malformed request was refused");
                return Next::Refused(Error::new(error.status(), error.to_string()));
            }
        }
        if let Some(more) = stream.try_recv() {
            connection.set_input(more);
            continue;
        }
        connection.queue(out);
        if partial.is_empty() {
            head.recycle();
            return Next::None;
        }
        if !waits {
            waits = true;
            stream.set_deadline(Some(connection.timeouts().header_read));
        }
        match stream.recv().await {
            Ok(more) if !more.is_empty() => connection.set_input(more),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Next::Refused(Error::status_only(StatusCode::REQUEST_TIMEOUT));
            }
            _ => return Next::Gone,
        }
    }
    if waits {
        stream.set_deadline(None);
    }
    Next::Request(head)
}

/// Reads one head off what was received; `false` if it is not all there. What is there of it then lies in `partial`.
fn read_head(connection: &Connection, head: &mut Head, partial: &mut Vec<u8>) -> Result<bool, RequestError> {
    let limits = &connection.service.config.limits;
    let mut input = connection.take_input();
    if input.is_empty() {
        return Ok(false);
    }
    if partial.is_empty() {
        match head.parsed.parse(&input, limits)? {
            Parsed::Complete(len) => head.bytes = input.split_to(len).unpin_if_scarce(),
            Parsed::Partial => {
                partial.extend_from_slice(&input);
                return Ok(false);
            }
        }
    } else {
        let before = partial.len();
        partial.extend_from_slice(&input);
        match head.parsed.parse(partial, limits)? {
            Parsed::Complete(len) => {
                input.advance(len - before);
                partial.truncate(len);
                head.bytes = std::mem::take(partial).into();
            }
            Parsed::Partial => return Ok(false),
        }
    }
    connection.set_input(input);
    Ok(true)
}

/// Answers one request; `None` if the next one can follow.
async fn exchange(connection: &Rc<Connection>, mut head: Box<Head>, out: &mut OutBuf) -> Option<After> {
    connection.requests.set(connection.number().wrapping_add(1));
    let facts = Facts::of(&head);
    let endpoint = Rc::clone(connection.service.router.find(&mut head, connection.is_early.get()));
    let (body, incoming) = body_of(connection, &head, endpoint.body_limit);
    if incoming.is_some() {
        // What was answered before goes out before a `100 Continue`.
        connection.queue(out);
    }
    let record = connection.service.config.access_log.then(|| Box::new(AccessRecord::new(connection, &head)));
    let request = Request::new(head, body, Rc::clone(connection), Rc::clone(&endpoint));
    let mut responding = responding(&endpoint, request);
    let mut response = match poll_fn(|cx| Poll::Ready(Pin::new(&mut responding).poll(cx))).await {
        Poll::Ready(response) => response,
        Poll::Pending => {
            connection.queue(out);
            match connection.wait_for(&mut responding).await {
                Ok(response) => response,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    tracing::warn!(request = %responding.id(), "a handler took too long and was dropped");
                    let message = "the request took too long";
                    let mut response = Error::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response();
                    endpoint.complete(&mut response, connection.is_tls());
                    response
                }
                Err(_) => return Some(After::Abort),
            }
        }
    };
    let router = &connection.service.router;
    if responding.panicked() {
        endpoint.complete(&mut response, connection.is_tls());
    } else if connection.is_early.get() && router.is_too_early(&endpoint) {
        router.root().complete(&mut response, connection.is_tls());
    }
    drop(responding);

    let status = response.status();
    let may_follow = incoming.as_ref().is_none_or(IncomingBody::may_be_finished);
    let keep_alive = facts.keep_alive && may_follow && !connection.stream().core().is_draining();
    let outcome = match outgoing::begin(connection, out, response, &Facts { keep_alive, ..facts }) {
        Begun::Done(outcome) => outcome,
        // Boxed, so that it takes no room in what every request needs.
        Begun::Rest(rest) => Box::pin(outgoing::finish(connection, out, rest)).await,
    };
    if let Some(record) = record {
        let bytes = if let Outcome::Sent { bytes, .. } = outcome { Some(bytes) } else { None };
        record.write(connection, status, bytes).await;
    }
    if let Some(incoming) = &incoming {
        incoming.take_back();
    }
    match outcome {
        Outcome::Failed => Some(After::Abort),
        Outcome::Upgrade(upgrade) => Some(After::Upgrade(upgrade)),
        Outcome::Sent { keep_alive, .. } => {
            if let Some(incoming) = incoming {
                connection.queue(out);
                if !may_follow || !incoming.finish().await {
                    return Some(After::Linger);
                }
            }
            if keep_alive {
                return None;
            }
            // A client that has sent more than it should may be sending still.
            Some(if connection.input.borrow().is_empty() { After::Close } else { After::Linger })
        }
    }
}

/// Starts the handler, in a span of its own if somebody wants to see it.
fn responding(endpoint: &Rc<Endpoint>, request: Request) -> Responding {
    let span = tracing::debug_span!(
        "request",
        id = %request.id(),
        method = %request.method(),
        path = request.path(),
        route = request.route(),
    );
    if span.is_disabled() {
        return Responding::new(endpoint, request);
    }
    Responding::new(endpoint, request).map(|future| LocalFuture::new(future.instrument(span)))
}

/// The body of a request: what has come in full already needs no more than a slice.
fn body_of(connection: &Rc<Connection>, head: &Head, limit: Option<u64>) -> (Body, Option<Rc<IncomingBody>>) {
    let parsed = &head.parsed;
    let framing = parsed.framing();
    // For the next request as well, which is likely to be like this one.
    connection.stream().set_bulk(is_bulk(framing));
    if framing.is_empty() {
        return (Body::empty(), None);
    }
    let limits = &connection.service.config.limits;
    let limits = Limits { body_bytes: limit.unwrap_or(limits.body_bytes), ..*limits };
    if let BodyFraming::Length(length) = framing
        && length <= limits.body_bytes
    {
        let mut input = connection.input.borrow_mut();
        if let Some(length) = usize::try_from(length).ok().filter(|length| *length <= input.len()) {
            return (Body::from(input.split_to(length)).untyped(), None);
        }
    }
    let incoming = IncomingBody::new(connection, framing, &limits, parsed.expects_continue());
    (Body::incoming(Rc::clone(&incoming) as _), Some(incoming))
}
