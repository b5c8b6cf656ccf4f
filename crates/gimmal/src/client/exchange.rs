//! One request and the head of its response.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gimmal_http::{BodyFraming, Parsed, ResponseHeadParser, encode_request};
use gimmal_runtime::{Core, LocalFuture, OutBuf};
use http::{HeaderMap, Method, StatusCode, Version, header};

use super::Client;
use super::error::{ClientError, Phase};
use super::origin::Origin;
use super::response::ClientResponse;
use super::upload::upload;
use crate::body::{Body, Chunk};
use crate::fields;
use crate::incoming::is_bulk;
use crate::stream::Stream;

/// How long a body is held back for a server that was asked whether it wants it (RFC 9110, section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);
/// A body in memory up to this size goes out with the head, in one piece.
const WHOLE_BYTES_MAX: usize = 8 * 1024;
/// How long a response is waited for when the server takes no more of the request.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Interim responses that a server may send before the final one: each costs work, and the final one may never come.
const INTERIM_MAX: u32 = 32;

/// A connection to a server.
pub(crate) struct Link {
    stream: Stream,
    origin: Origin,
    /// Received, and not read yet.
    input: RefCell<Chunk>,
}

impl Link {
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The error for a connection that has ended.
    pub(super) fn closed(&self, source: io::Error) -> ClientError {
        ClientError::Closed { server: self.origin.name(), source }
    }

    pub(super) fn take_input(&self) -> Chunk {
        self.input.take()
    }

    pub(super) fn set_input(&self, input: Chunk) {
        self.input.replace(input);
    }

    pub(super) fn has_input(&self) -> bool {
        !self.input.borrow().is_empty()
    }

    pub(super) fn queue(&self, out: &mut OutBuf) {
        if !out.is_empty() {
            self.stream.queue(std::mem::replace(out, OutBuf::take()));
        }
    }

    /// The stream for who speaks another protocol on it, with what was received and not read in front.
    pub(super) fn give_over(&self) -> Stream {
        self.stream.unrecv(self.input.take());
        self.stream.set_deadline(None);
        self.stream.share()
    }
}

/// What time there is for the parts of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) pause: Duration,
    /// When all must be over.
    whole: Option<Instant>,
}

impl Clock {
    /// Lets waiting on `stream` fail after `time`, or when all must be over.
    pub(super) fn grant(self, stream: &Stream, time: Option<Duration>) {
        let whole = self.whole.map(|at| at.saturating_duration_since(Instant::now()));
        stream.set_deadline(match (time, whole) {
            (Some(time), Some(whole)) => Some(time.min(whole)),
            (time, whole) => time.or(whole),
        });
    }

    pub(super) fn is_over(self) -> bool {
        self.whole.is_some_and(|at| at <= Instant::now())
    }

    /// What of `time` is granted before all must be over.
    pub(super) fn limit(self, time: Duration) -> Duration {
        self.whole.map_or(time, |at| time.min(at.saturating_duration_since(Instant::now())))
    }
}

/// A request as it is to go out.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// The request target (RFC 9112, section 3.2).
    pub(crate) target: String,
    /// With a `Host`. The fields of framing are made from the body.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// When all of it must be over.
    pub(crate) until: Option<Instant>,
}

impl Outgoing {
    /// The body once more, if the request may be sent a second time (RFC 9110, section 9.2.2) and can be.
    fn spare_body(&mut self) -> Option<Body> {
        if !is_idempotent(&self.method) {
            return None;
        }
        match std::mem::take(&mut self.body).try_into_chunk() {
            Ok(chunk) => {
                self.body = chunk.clone().into();
                Some(chunk.into())
            }
            Err(streaming) => {
                self.body = streaming;
                None
            }
        }
    }
}

/// Whether a request of this method has the same effect when it is sent twice (RFC 9110, section 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// What a failure says of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nothing: the fault is on this side, or a kept connection had been closed.
    Nothing,
    /// It cannot be connected to.
    Away,
    /// It gave no response that makes sense, which may be due to the request.
    BadResponse,
}

impl Sign {
    fn of(error: &ClientError) -> Self {
        match error {
            // This side holds as many connections as it may.
            ClientError::Connect { source, .. } | ClientError::Resolve { source, .. }
                if source.kind() == io::ErrorKind::ResourceBusy =>
            {
                Self::Nothing
            }
            ClientError::Resolve { .. }
            | ClientError::Connect { .. }
            | ClientError::Handshake { .. }
            | ClientError::TimedOut(Phase::Connect | Phase::Handshake) => Self::Away,
            ClientError::Closed { .. }
            | ClientError::TimedOut(Phase::Send | Phase::Head)
            | ClientError::Malformed(_)
            | ClientError::UnaskedUpgrade
            | ClientError::TooManyInterim => Self::BadResponse,
            ClientError::NoCore
            | ClientError::Url(_)
            | ClientError::Request(_)
            | ClientError::Roots(_)
            | ClientError::Body(_)
            | ClientError::Redirect(_) => Self::Nothing,
        }
    }
}

/// An exchange that has no response.
pub(crate) struct Failed {
    pub(crate) error: ClientError,
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "the proxy alone judges servers"))]
    pub(crate) sign: Sign,
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self { sign: Sign::of(&error), error }
    }
}

/// Who hears of interim responses: their status, their version and their fields.
pub(crate) type OnInterim<'a> = &'a mut dyn FnMut(StatusCode, Version, HeaderMap);

/// Sends a request to `origin` and waits for the head of the response. The body stays in `request` if an error
/// [comes before sending](ClientError::is_before_sending).
pub(crate) async fn exchange(
    client: &Client,
    origin: &Origin,
    request: &mut Outgoing,
    on_interim: OnInterim<'_>,
) -> Result<ClientResponse, Failed> {
    let core = Core::current().ok_or(ClientError::NoCore)?;
    let options = client.options();
    let clock = Clock { pause: options.pause, whole: request.until };
    if clock.is_over() {
        return Err(Failed { error: ClientError::TimedOut(Phase::Connect), sign: Sign::Nothing });
    }
    let mut broken = None;
    if let Some(link) = client.pool.take(origin).await {
        let spare = request.spare_body();
        let mut attempt = Attempt::new(client, link, request, clock);
        match (attempt.run(request, on_interim).await, spare) {
            (Err(error @ ClientError::Closed { .. }), Some(body)) if !attempt.began => {
                tracing::debug!(%error, "a pooled connection had been closed; the request is sent on a new one");
                request.body = body;
                broken = Some(error);
            }
            // That a server closes what it has kept for long is no fault of it.
            (Err(error @ ClientError::Closed { .. }), None) if !attempt.began => {
                return Err(Failed { error, sign: Sign::Nothing });
            }
            (result, _) => return result.map_err(|error| attempt.failed(error)),
        }
    }
    let stream = match origin.connect(&core, options, clock).await {
        Ok(stream) => stream,
        Err(error) => {
            let sign = Sign::of(&error);
            // The server may have seen the request on the connection that broke.
            return Err(Failed { error: broken.unwrap_or(error), sign });
        }
    };
    let link = Rc::new(Link { stream, origin: origin.clone(), input: RefCell::default() });
    let mut attempt = Attempt::new(client, link, request, clock);
    attempt.run(request, on_interim).await.map_err(|error| attempt.failed(error))
}

pub(super) type Upload = LocalFuture<Result<(), ClientError>>;

/// One try on one connection.
struct Attempt<'a> {
    client: &'a Client,
    link: Rc<Link>,
    clock: Clock,
    /// What is still to be sent.
    upload: Option<Upload>,
    /// The server was asked whether it wants the body, and has not said so yet.
    is_held: bool,
    /// The server takes no more of the request.
    is_refused: bool,
    /// Something of a response has come.
    began: bool,
}

impl<'a> Attempt<'a> {
    /// Queues the head, and the body if it is small and at hand.
    fn new(client: &'a Client, link: Rc<Link>, request: &mut Outgoing, clock: Clock) -> Self {
        let body = std::mem::take(&mut request.body);
        let framing = match body.length() {
            Some(0) => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::Chunked,
        };
        let mut out = OutBuf::take();
        encode_request(&request.method, &request.target, &request.headers, framing, &mut out);
        let is_held = framing != BodyFraming::None && request.headers.contains_key(header::EXPECT);
        let mut attempt =
            Self { client, link, clock, upload: None, is_held, is_refused: false, began: false };
        let body = match body.try_into_chunk() {
            Ok(chunk) if chunk.len() <= WHOLE_BYTES_MAX && !is_held => {
                out.extend_from_slice(&chunk);
                attempt.link.queue(&mut out);
                return attempt;
            }
            Ok(chunk) => chunk.into(),
            Err(streaming) => streaming,
        };
        if is_held {
            attempt.link.queue(&mut out);
        }
        attempt.upload = Some(LocalFuture::new(upload(Rc::clone(&attempt.link), out, body, framing, clock)));
        attempt
    }

    /// Tells what a failure says of the server.
    fn failed(&self, error: ClientError) -> Failed {
        let sign = match error {
            // It may have waited for long enough for a body that did not come: whose fault that is cannot be told.
            ClientError::Closed { .. } if self.is_refused || (self.upload.is_some() && !self.is_held) => {
                Sign::Nothing
            }
            _ => Sign::of(&error),
        };
        Failed { error, sign }
    }

    async fn run(
        &mut self,
        request: &Outgoing,
        on_interim: OnInterim<'_>,
    ) -> Result<ClientResponse, ClientError> {
        let mut head = ResponseHeadParser::new();
        let bytes = self.receive_head(&mut head, &request.method, on_interim).await?;
        self.clock.grant(&self.link.stream, None);
        self.link.stream.set_bulk(is_bulk(head.framing()));
        let is_tunnel = request.method == Method::CONNECT && head.status().is_success();
        let is_switch = head.status() == StatusCode::SWITCHING_PROTOCOLS;
        if is_switch && !(head.upgrade() && was_asked_for(&head, &bytes, &request.headers)) {
            return Err(ClientError::UnaskedUpgrade);
        }
        // A body that the server has not asked for stays here, but it may still wait for it.
        let upload = self.upload.take().filter(|_| !self.is_held);
        let facts = Facts {
            status: head.status(),
            version: head.version(),
            headers: fields::to_header_map(head.view(&bytes).headers(), &bytes),
        };
        let remainder = Remainder {
            framing: head.framing(),
            limits: &self.client.options.limits,
            keep_alive: head.keep_alive() && !self.is_held && !self.is_refused,
            is_upgrade: is_tunnel || is_switch,
            upload,
            clock: self.clock,
        };
        Ok(ClientResponse::new(&self.client.pool, facts, Rc::clone(&self.link), remainder))
    }

    /// Reads up to the final head, whose bytes are returned.
    async fn receive_head(
        &mut self,
        head: &mut ResponseHeadParser,
        method: &Method,
        on_interim: OnInterim<'_>,
    ) -> Result<Bytes, ClientError> {
        let mut partial = Vec::new();
        let mut waiting = Waiting::new(self);
        let mut interim_left = INTERIM_MAX;
        loop {
            match self.read_head(head, method, &mut partial)? {
                Some(bytes) if is_interim(head.status()) => {
                    interim_left = interim_left.checked_sub(1).ok_or(ClientError::TooManyInterim)?;
                    if head.status() == StatusCode::CONTINUE {
                        self.is_held = false;
                    } else {
                        // A client of ours that is answered in turn has its earlier responses sent by then.
                        yield_once().await;
                        let headers = fields::to_header_map(head.view(&bytes).headers(), &bytes);
                        on_interim(head.status(), head.version(), headers);
                    }
                    head.reset();
                }
                Some(bytes) => return Ok(bytes),
                None => {
                    let received = poll_fn(|cx| waiting.poll(self, cx)).await?;
                    self.began = true;
                    self.link.set_input(received);
                }
            }
        }
    }

    /// Reads one head off what was received; `None` if it is not all there. What is there of it then lies in
    /// `partial`.
    fn read_head(
        &self,
        head: &mut ResponseHeadParser,
        method: &Method,
        partial: &mut Vec<u8>,
    ) -> Result<Option<Bytes>, ClientError> {
        let mut input = self.link.take_input();
        if input.is_empty() {
            return Ok(None);
        }
        let before = partial.len();
        let whole = if before == 0 {
            &input[..]
        } else {
            partial.extend_from_slice(&input);
            &partial[..]
        };
        match head.parse(whole, method, &self.client.options.limits).map_err(ClientError::Malformed)? {
            Parsed::Complete(len) if before == 0 => {
                // A copy, since fields that somebody keeps would keep the whole buffer.
                let bytes = Bytes::copy_from_slice(&input.split_to(len));
                self.link.set_input(input);
                Ok(Some(bytes))
            }
            Parsed::Complete(len) => {
                input.advance(len - before);
                self.link.set_input(input);
                partial.truncate(len);
                Ok(Some(std::mem::take(partial).into()))
            }
            Parsed::Partial => {
                if before == 0 {
                    partial.extend_from_slice(&input);
                }
                Ok(None)
            }
        }
    }
}

/// Tells whether a server switches to protocols that were all asked for (RFC 9110, section 7.8).
fn was_asked_for(head: &ResponseHeadParser, bytes: &[u8], asked: &HeaderMap) -> bool {
    let view = head.view(bytes);
    let mut taken = view.header_all("upgrade").flat_map(protocols);
    taken.all(|taken| {
        let mut asked = asked.get_all(header::UPGRADE).iter().flat_map(|value| protocols(value.as_bytes()));
        asked.any(|asked| asked.eq_ignore_ascii_case(taken))
    })
}

/// The protocols that a value of `Upgrade` lists.
fn protocols(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|protocol| !protocol.is_empty())
}

/// Lets the task be polled once more.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether another head follows this one (RFC 9110, section 15.2).
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Waits for bytes of a head while the request goes out.
struct Waiting {
    continue_wait: Option<Pin<Box<tokio::time::Sleep>>>,
    /// The server has the whole request, and the time for its head runs.
    is_timed: bool,
    /// The server takes no more of the request, for this reason.
    refused: Option<io::Error>,
}

impl Waiting {
    fn new(attempt: &Attempt<'_>) -> Self {
        let continue_wait = attempt.is_held.then(|| Box::pin(tokio::time::sleep(CONTINUE_WAIT)));
        Self { continue_wait, is_timed: false, refused: None }
    }

    fn poll(&mut self, attempt: &mut Attempt<'_>, cx: &mut Context<'_>) -> Poll<Result<Chunk, ClientError>> {
        if attempt.is_held
            && let Some(wait) = &mut self.continue_wait
            && wait.as_mut().poll(cx).is_ready()
        {
            attempt.is_held = false;
        }
        if !attempt.is_held
            && let Some(upload) = &mut attempt.upload
            && let Poll::Ready(uploaded) = Pin::new(upload).poll(cx)
        {
            attempt.upload = None;
            match uploaded {
                Ok(()) => {}
                // What it has to say may have come before it closed.
                Err(ClientError::Closed { source, .. }) => {
                    attempt.is_refused = true;
                    self.refused = Some(source);
                    self.is_timed = true;
                    attempt.clock.grant(&attempt.link.stream, Some(LAST_WORDS));
                }
                Err(error) => {
                    attempt.link.stream.abort();
                    return Poll::Ready(Err(error));
                }
            }
        }
        if attempt.upload.is_none() && !self.is_timed {
            self.is_timed = true;
            attempt.clock.grant(&attempt.link.stream, Some(attempt.client.options.head));
        }
        attempt.link.stream.poll_recv(cx).map(|received| match received {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            Ok(_) => Err(attempt.link.closed(self.refused.take().unwrap_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the server has closed it")
            }))),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(match self.refused.take() {
                Some(error) => attempt.link.closed(error),
                None if attempt.upload.is_some() => ClientError::TimedOut(Phase::Send),
                None => ClientError::TimedOut(Phase::Head),
            }),
            Err(error) => Err(attempt.link.closed(self.refused.take().unwrap_or(error))),
        })
    }
}

/// What the head of a response says.
pub(super) struct Facts {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
}

/// What is left of an exchange after the head of the response.
pub(super) struct Remainder<'a> {
    pub(super) framing: BodyFraming,
    pub(super) limits: &'a gimmal_http::Limits,
    pub(super) keep_alive: bool,
    pub(super) is_upgrade: bool,
    pub(super) upload: Option<Upload>,
    pub(super) clock: Clock,
}
