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

use crate::access_log::AccessRecord;
use crate::body::{Body, Chunk};
use crate::config::Timeouts;
use crate::error::Error;
#[cfg(feature = "files")]
use crate::file_body::FileBody;
use crate::incoming::{IncomingBody, is_bulk};
use crate::outgoing::{self, Begun, Outcome};
use crate::request::{Head, Request};
use crate::reset::is_reset;
use crate::response::{IntoResponse, Response};
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
    /// A chunk was received while nobody asked for one.
    is_full: Cell<bool>,
    requests: Cell<u32>,
    /// The number of the last request whose final response has begun.
    #[cfg(feature = "proxy")]
    answered: Cell<u32>,
    /// Some of the head of the request under way came as early data of TLS.
    is_early: Cell<bool>,
    deadlines: Cell<Deadlines>,
}

/// Until when what is waited for must have come. The nearest is the stream's deadline.
#[derive(Clone, Copy, Default)]
struct Deadlines {
    /// The answer of the request under way.
    request: Option<Instant>,
    /// More of its body, while somebody waits for that.
    body: Option<Instant>,
    /// Room for more of the response.
    room: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(service: Rc<Service>, stream: Option<Stream>) -> Rc<Self> {
        Rc::new(Self {
            service,
            stream,
            peer: OnceCell::new(),
            input: RefCell::default(),
            is_full: Cell::new(false),
            requests: Cell::new(0),
            #[cfg(feature = "proxy")]
            answered: Cell::new(0),
            is_early: Cell::new(false),
            deadlines: Cell::default(),
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

    fn has_input(&self) -> bool {
        !self.input.borrow().is_empty()
    }

    pub(crate) fn set_input(&self, input: Chunk) {
        self.is_full.set(false);
        self.input.replace(input);
    }

    /// The number of the request under way, from 1.
    pub(crate) fn number(&self) -> u32 {
        self.requests.get()
    }

    /// Tells whether a request is under way whose final response has not begun.
    #[cfg(feature = "proxy")]
    pub(crate) fn awaits_response(&self, number: u32) -> bool {
        self.number() == number && self.answered.get() != number
    }

    /// Ready once the client has let the server wait for too long, or the server stops. More of a body that was due, and
    /// is not asked for any more, is nothing to wait for: whoever asks for it still is told so.
    pub(crate) fn poll_interrupted(
        &self,
        incoming: Option<&Rc<IncomingBody>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        let interrupted = self.stream().poll_interrupted(cx);
        let is_body_due =
            matches!(&interrupted, Poll::Ready(error) if error.kind() == io::ErrorKind::TimedOut);
        match incoming.filter(|incoming| is_body_due && incoming.is_awaited()) {
            Some(incoming) if self.deadlines.get().request.is_none_or(|until| Instant::now() < until) => {
                incoming.give_up_waiting();
                self.stream().poll_interrupted(cx)
            }
            _ => interrupted,
        }
    }

    /// Receives while nobody else does, so that the end of the connection is noticed; ready with what it ended by, or
    /// with nothing if the client has ended its side alone. What comes is kept: there is room for one chunk, and
    /// nothing more is received until something has been taken.
    ///
    /// Only one at a time may receive: whoever waits for more of a body, and this while nobody does.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Option<io::Error>> {
        let mut input = self.input.borrow_mut();
        let stream = self.stream();
        // What follows early data would have that taken for its like.
        if self.is_full.get() || (!input.is_empty() && stream.is_early()) {
            return Poll::Pending;
        }
        match stream.poll_recv(cx) {
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => Poll::Ready(None),
            Poll::Ready(Ok(bytes)) => {
                self.is_full.set(true);
                if input.is_empty() {
                    *input = bytes;
                } else {
                    stream.unrecv(bytes);
                }
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Some(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready once the client has ended its side, or gone, for a response that takes its time.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_end(cx).map(drop)
    }

    /// Ready once the client has gone: one that has ended its side alone may wait for its answer.
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.poll_end(cx) {
            Poll::Ready(Some(error)) if is_reset(&error) => Poll::Ready(error),
            _ => Poll::Pending,
        }
    }

    pub(crate) fn send_continue(&self) {
        self.stream().queue("HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Sets until when more of the request's body must have come.
    pub(crate) fn expect_body(&self, until: Option<Instant>) {
        self.keep_deadlines(Deadlines { body: until, ..self.deadlines.get() });
    }

    /// Sets how long the client may take to make room for `bytes` of the response.
    fn expect_room(&self, bytes: Option<usize>) {
        let after = bytes.and_then(|bytes| self.timeouts().for_bytes(bytes as u64));
        self.keep_deadlines(Deadlines {
            room: after.map(|after| Instant::now() + after),
            ..self.deadlines.get()
        });
    }

    fn keep_deadlines(&self, deadlines: Deadlines) {
        self.deadlines.set(deadlines);
        let Deadlines { request, body, room } = deadlines;
        let nearest = [request, body, room].into_iter().flatten().min();
        self.stream().set_deadline(nearest.map(|at| at.saturating_duration_since(Instant::now())));
    }

    /// Waits until little enough is unsent for more to be queued, if the client takes it quickly enough.
    pub(crate) async fn send_ready(&self) -> io::Result<()> {
        let stream = self.stream();
        if let Poll::Ready(ready) = poll_fn(|cx| Poll::Ready(stream.poll_send_ready(cx))).await {
            return ready;
        }
        self.expect_room(Some(stream.core().options().unsent_bytes_max));
        let ready = poll_fn(|cx| stream.poll_send_ready(cx)).await;
        self.expect_room(None);
        ready
    }

    /// Sends `head`, and as much of a file behind it as the client takes at once, if it is quick enough.
    #[cfg(feature = "files")]
    pub(crate) async fn send_file(&self, head: OutBuf, file: &FileBody) -> io::Result<u64> {
        let stream = self.stream();
        self.expect_room(Some(stream.core().options().unsent_bytes_max));
        let sent = stream.send_file(head, file.file(), file.position(), file.len()).await;
        self.expect_room(None);
        sent
    }

    /// Waits for a handler, for as long as a request may take. An error says that the client has gone.
    async fn wait_for(
        &self,
        responding: &mut Responding,
        incoming: Option<&Rc<IncomingBody>>,
    ) -> io::Result<Response> {
        let until = Instant::now() + self.timeouts().request;
        self.keep_deadlines(Deadlines { request: Some(until), ..self.deadlines.get() });
        let response = poll_fn(|cx| {
            if let Poll::Ready(response) = Pin::new(&mut *responding).poll(cx) {
                return Poll::Ready(Ok(response));
            }
            if let Poll::Ready(error) = self.poll_interrupted(incoming, cx) {
                return Poll::Ready(Err(error));
            }
            if incoming.is_some_and(|incoming| incoming.poll_unawaited(cx).is_pending()) {
                return Poll::Pending;
            }
            self.poll_reset(cx).map(Err)
        })
        .await;
        self.keep_deadlines(Deadlines { request: None, ..self.deadlines.get() });
        match response {
            Err(error) if !is_reset(&error) && error.kind() == io::ErrorKind::TimedOut => {
                Ok(responding.overdue())
            }
            response => response,
        }
    }

    /// Adds what the app's own middleware has every response have to one that came by no way through it.
    pub(crate) fn complete(&self, response: &mut Response) {
        self.service.router.root().complete(response, self.is_tls());
    }

    /// Queues what was collected, and leaves nothing.
    pub(crate) fn queue(&self, out: &mut OutBuf) {
        if !out.is_empty() {
            self.stream().queue(std::mem::take(out));
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
    connection.stream().set_deadline(Some(connection.timeouts().header_read));
    while let Some(rest) = answer(&connection).await {
        match rest.await {
            After::Idle => connection.stream().set_deadline(Some(connection.timeouts().idle)),
            After::Close => break,
            After::Linger => {
                LocalFuture::new(linger(Rc::clone(&connection))).await;
                break;
            }
            After::Abort => return connection.stream().abort(),
            After::Upgrade(upgrade) => {
                let stream = connection.stream().share();
                stream.unrecv(connection.take_input());
                drop(connection);
                return upgrade.run(stream).await;
            }
        }
    }
    // A task that a handler has left behind may keep its request for as long as it likes, and not the connection.
    if Rc::strong_count(&connection) > 1 {
        LocalFuture::new(part(connection)).await;
    }
}

/// Answers requests as they come, as long as nothing has to be waited for but the next one. What is left to do then is
/// a future of its own; `None` when the connection has come to its end.
async fn answer(connection: &Rc<Connection>) -> Option<LocalFuture<After>> {
    let stream = connection.stream();
    stream.set_idle(true);
    let rest = poll_fn(|cx| {
        let mut out = OutBuf::default();
        loop {
            match stream.poll_recv(cx) {
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => connection.set_input(bytes),
                ended => return ended.map(|_| None),
            }
            // Until the request after those that have come.
            stream.set_deadline(Some(connection.timeouts().idle));
            if let Some(wait) = answer_at_hand(connection, &mut out, cx) {
                let rest = finish_waiting(Rc::clone(connection), std::mem::take(&mut out), wait);
                return Poll::Ready(Some(LocalFuture::new(rest)));
            }
            // Before more is asked for: what comes may be the end of the session.
            connection.queue(&mut out);
        }
    })
    .await;
    stream.set_idle(false);
    rest
}

/// Ends a connection that others hold on to, once the client has taken what is unsent.
async fn part(connection: Rc<Connection>) {
    connection.expect_room(Some(connection.stream().core().options().unsent_bytes_max));
    if connection.stream().shutdown().await.is_ok() {
        linger(Rc::clone(&connection)).await;
    }
    connection.stream().abort();
}

/// Lets the client read the last answer before the connection goes.
async fn linger(connection: Rc<Connection>) {
    let stream = connection.stream();
    stream.set_deadline(Some(LINGER));
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut left = LINGER_BYTES_MAX;
    while let Ok(bytes) = stream.recv_unread().await
        && bytes > 0
        && left > bytes
    {
        left -= bytes;
    }
}

/// What is needed of a request after its handler has had it.
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// The client asked for another protocol, or for a tunnel.
    pub(crate) may_upgrade: bool,
}

impl Facts {
    fn of(head: &Head) -> Self {
        let parsed = &head.parsed;
        Self {
            version: parsed.version(),
            method: parsed.method().clone(),
            may_upgrade: parsed.upgrade() || *parsed.method() == Method::CONNECT,
        }
    }

    /// For an answer to what is no request.
    fn of_nothing() -> Self {
        Self { version: Version::HTTP_11, method: Method::GET, may_upgrade: false }
    }
}

/// What has to be waited for before a connection can go on.
enum Wait {
    /// The rest of a head, of which this much has come.
    Head(Request, Vec<u8>),
    Handler(Exchange),
    /// The body of a response to be made, or to be taken by the client, and whatever else may follow it.
    Response(Exchange, Answer),
    /// The client, to take what is unsent.
    Client,
    /// Nothing any more.
    Over(After),
}

/// Answers the requests that have come, until there are no more of them or one has to be waited for.
fn answer_at_hand(connection: &Rc<Connection>, out: &mut OutBuf, cx: &mut Context<'_>) -> Option<Wait> {
    while connection.has_input() {
        let mut request = Request::blank();
        let mut partial = Vec::new();
        connection.is_early.set(connection.stream().is_early());
        match read_head(connection, request.head_mut(), &mut partial) {
            Ok(true) => {}
            Ok(false) => return Some(Wait::Head(request, partial)),
            Err(error) => return Some(Wait::Over(refuse(connection, out, malformed(error)))),
        }
        let mut exchange = Exchange::begin(connection, request, out);
        let Poll::Ready(response) = Pin::new(&mut exchange.responding).poll(cx) else {
            return Some(Wait::Handler(exchange));
        };
        let answer = exchange.answer(connection, out, response);
        if !exchange.is_over_with(&answer) {
            return Some(Wait::Response(exchange, answer));
        }
        if out.len() >= OUT_BYTES {
            connection.queue(out);
        }
        match connection.stream().poll_send_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Some(Wait::Over(After::Abort)),
            Poll::Pending => return Some(Wait::Client),
        }
    }
    None
}

/// Goes on from where something had to be waited for, until all requests that have come are answered.
async fn finish_waiting(connection: Rc<Connection>, mut out: OutBuf, mut wait: Wait) -> After {
    // The time until the next request has not begun, and that of a body may have.
    connection.keep_deadlines(connection.deadlines.get());
    loop {
        let after = match wait {
            Wait::Head(request, partial) => match rest_of_head(&connection, &mut out, request, partial).await
            {
                Ok(request) => {
                    let exchange = Exchange::begin(&connection, request, &mut out);
                    exchange.respond(&connection, &mut out).await
                }
                Err(after) => Some(after),
            },
            Wait::Handler(exchange) => exchange.respond(&connection, &mut out).await,
            Wait::Response(exchange, answer) => exchange.finish(&connection, &mut out, answer).await,
            Wait::Client => None,
            Wait::Over(after) => Some(after),
        };
        if after.is_some() || !connection.has_input() || out.len() >= OUT_BYTES {
            connection.queue(&mut out);
        }
        if let Some(after) = after {
            return after;
        }
        if connection.send_ready().await.is_err() {
            return After::Abort;
        }
        let next = poll_fn(|cx| Poll::Ready(answer_at_hand(&connection, &mut out, cx))).await;
        let Some(next) = next else {
            connection.queue(&mut out);
            return After::Idle;
        };
        wait = next;
    }
}

fn malformed(error: RequestError) -> Error {
    tracing::debug!(%error, "a malformed request was refused");
    Error::new(error.status(), error.to_string())
}

/// Answers what is no request.
fn refuse(connection: &Connection, out: &mut OutBuf, error: Error) -> After {
    let mut response = error.into_response();
    connection.complete(&mut response);
    // Its text is short: it is collected at once.
    let _ = outgoing::begin(connection, out, response, &Facts::of_nothing(), false);
    After::Linger
}

/// Waits for the rest of a head. What was answered before goes out first.
async fn rest_of_head(
    connection: &Connection,
    out: &mut OutBuf,
    mut request: Request,
    mut partial: Vec<u8>,
) -> Result<Request, After> {
    let stream = connection.stream();
    connection.queue(out);
    stream.set_deadline(Some(connection.timeouts().header_read));
    loop {
        match stream.recv().await {
            Ok(more) if !more.is_empty() => connection.set_input(more),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(refuse(connection, out, Error::status_only(StatusCode::REQUEST_TIMEOUT)));
            }
            _ => return Err(After::Close),
        }
        connection.is_early.set(connection.is_early.get() || stream.is_early());
        match read_head(connection, request.head_mut(), &mut partial) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => return Err(refuse(connection, out, malformed(error))),
        }
    }
    stream.set_deadline(None);
    Ok(request)
}

/// Refuses a target of another scheme than the connection's: what was asked for over TLS is not told in plain text (RFC
/// 9110, section 7.4).
fn check_scheme(connection: &Connection, head: &Head) -> Result<(), RequestError> {
    match head.view().scheme() {
        Some(scheme) if (scheme == "https") != connection.is_tls() => Err(RequestError::Misdirected),
        _ => Ok(()),
    }
}

/// Reads one head off what was received; `false` if it is not all there. What is there of it then lies in `partial`.
fn read_head(connection: &Connection, head: &mut Head, partial: &mut Vec<u8>) -> Result<bool, RequestError> {
    let limits = &connection.service.config.limits;
    let mut input = connection.input.borrow_mut();
    if partial.is_empty() {
        match head.parsed.parse(&input, limits)? {
            Parsed::Complete(len) => head.bytes = input.split_to(len).unpin_if_scarce(),
            Parsed::Partial => {
                partial.extend_from_slice(&input);
                *input = Chunk::new();
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
            Parsed::Partial => {
                *input = Chunk::new();
                return Ok(false);
            }
        }
    }
    check_scheme(connection, head)?;
    Ok(true)
}

/// A request that is being answered.
struct Exchange {
    facts: Facts,
    /// The client wants the connection to stay open.
    wants_keep_alive: bool,
    responding: Responding,
    /// The body, if not all of it had come with the head.
    incoming: Option<Rc<IncomingBody>>,
    record: Option<Box<AccessRecord>>,
    /// Not even middleware has seen the request, which came as early data of TLS to a route that is not safe to replay.
    is_too_early: bool,
}

/// A response that has begun to go out.
struct Answer {
    status: StatusCode,
    begun: Begun,
    /// Whether the next request can follow on the connection.
    may_follow: bool,
}

impl Exchange {
    /// Finds the handler of a request, and starts it.
    fn begin(connection: &Rc<Connection>, mut request: Request, out: &mut OutBuf) -> Self {
        connection.requests.set(connection.number().wrapping_add(1));
        connection.is_full.set(false);
        let head = request.head_mut();
        let router = &connection.service.router;
        let endpoint = Rc::clone(router.find(head, connection.is_early.get()));
        let (body, incoming) = body_of(connection, head, endpoint.body_limit);
        if incoming.is_some() {
            // What was answered before goes out before a `100 Continue`.
            connection.queue(out);
        }
        let (facts, wants_keep_alive) = (Facts::of(head), head.parsed.keep_alive());
        let access_log = connection.service.config.access_log;
        let record = access_log.then(|| Box::new(AccessRecord::new(connection, head)));
        let is_too_early = connection.is_early.get() && router.is_too_early(&endpoint);
        request.arrive(Rc::clone(connection), Rc::clone(&endpoint), body);
        let responding = Responding::new(endpoint, request);
        Self { facts, wants_keep_alive, responding, incoming, record, is_too_early }
    }

    /// Begins to send the response.
    fn answer(&self, connection: &Connection, out: &mut OutBuf, mut response: Response) -> Answer {
        #[cfg(feature = "proxy")]
        connection.answered.set(connection.number());
        if self.is_too_early {
            connection.complete(&mut response);
        }
        if let Some(incoming) = &self.incoming {
            incoming.response_begins();
        }
        let may_follow = self.incoming.as_ref().is_none_or(IncomingBody::may_be_finished);
        let keep_alive = self.wants_keep_alive && may_follow && !connection.stream().core().is_draining();
        let status = response.status();
        let begun = outgoing::begin(connection, out, response, &self.facts, keep_alive);
        Answer { status, begun, may_follow }
    }

    /// Whether nothing is left to do but to answer the next request.
    fn is_over_with(&self, answer: &Answer) -> bool {
        let is_sent = matches!(answer.begun, Begun::Done(Outcome::Sent { keep_alive: true, .. }));
        is_sent && self.incoming.is_none() && self.record.is_none()
    }

    /// Waits for the handler, and sends its response; `None` if the next request can follow.
    async fn respond(mut self, connection: &Connection, out: &mut OutBuf) -> Option<After> {
        connection.queue(out);
        let Ok(response) = connection.wait_for(&mut self.responding, self.incoming.as_ref()).await else {
            return Some(After::Abort);
        };
        let answer = self.answer(connection, out, response);
        self.finish(connection, out, answer).await
    }

    /// Sends the rest of a response, and reads the rest of its request; `None` if the next request can follow.
    async fn finish(self, connection: &Connection, out: &mut OutBuf, answer: Answer) -> Option<After> {
        let mut status = answer.status;
        let mut outcome = match answer.begun {
            Begun::Done(outcome) => outcome,
            Begun::Rest(rest) => outgoing::finish(connection, out, rest, self.incoming.as_ref()).await,
        };
        if let Outcome::Unsent(refused) = outcome {
            let response = self.responding.complete(refused);
            status = response.status();
            // Its text is short: it is collected at once.
            outcome = match outgoing::begin(connection, out, response, &self.facts, false) {
                Begun::Done(outcome) => outcome,
                Begun::Rest(_) => Outcome::Failed,
            };
        }
        if let Some(record) = self.record {
            let bytes = if let Outcome::Sent { bytes, .. } = outcome { Some(bytes) } else { None };
            record.write(connection, status, bytes).await;
        }
        if let Some(incoming) = &self.incoming {
            incoming.take_back();
        }
        match outcome {
            Outcome::Failed | Outcome::Unsent(_) => Some(After::Abort),
            Outcome::Upgrade(upgrade) => Some(After::Upgrade(upgrade)),
            Outcome::Sent { keep_alive, .. } => {
                if let Some(incoming) = self.incoming {
                    connection.queue(out);
                    if !answer.may_follow || !incoming.finish().await {
                        return Some(After::Linger);
                    }
                }
                if keep_alive {
                    return None;
                }
                // A client that has sent more than it should may be sending still.
                Some(if connection.has_input() { After::Linger } else { After::Close })
            }
        }
    }
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
