//! The way of a request through a proxy.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use gimmal_http::TargetForm;
use gimmal_runtime::Core;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::Plan;
use super::fields::{Forwards, Origin, count_forward, forward_request, forward_response};
use super::health::RESPONSES_PER_FAILURE;
use super::stable_hash::stable_hash;
use super::tunnel::tunnel;
use super::upstream::{Choice, Load, Upstream};
use crate::body::{Body, BodyError, Chunk, Incoming};
use crate::client::{Client, ClientError, ClientResponse, Outgoing, Sign, exchange};
use crate::error::Error;
use crate::fields;
use crate::request::Request;
use crate::response::Response;

/// A proxy on one core.
pub(super) struct PerCore {
    plan: Arc<Plan>,
    client: Client,
    upstreams: Rc<[Upstream]>,
    turn: Cell<usize>,
}

/// Why a request got no response of an upstream, for the log.
#[derive(Debug)]
struct Failure {
    index: usize,
    upstream: Arc<str>,
    sign: Sign,
    source: ClientError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upstream {}", self.upstream)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Failure {
    fn into_error(self) -> Error {
        Error::status_only(self.source.status()).with_source(Box::new(self) as Box<dyn std::error::Error>)
    }
}

/// Whether a path leads elsewhere once an upstream resolves it, past the guards of the routes that it names then. Clients
/// resolve such segments before they ask (RFC 3986, section 5.2.4).
fn has_dot_segment(path: &str) -> bool {
    let segments = path.split(['/', '\\']).flat_map(|segment| segment.split("%2F"));
    let segments = segments.flat_map(|segment| segment.split("%5C"));
    segments.into_iter().any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

/// The methods that most upstreams take, for answers that have to name some.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");

/// Refuses a method that is not forwarded.
fn not_forwarded() -> Error {
    Error::status_only(StatusCode::METHOD_NOT_ALLOWED).with_header(header::ALLOW, ALLOW)
}

impl PerCore {
    pub(super) fn new(plan: &Arc<Plan>) -> Rc<Self> {
        let upstreams: Rc<[Upstream]> = plan.places.iter().map(Upstream::new).collect();
        plan.health.start_check(&upstreams, &plan.client);
        Rc::new(Self {
            client: Client::with_options(plan.client.clone()),
            upstreams,
            // Cores begin with different upstreams.
            turn: Cell::new(Core::current().map_or(0, |core| core.index())),
            plan: Arc::clone(plan),
        })
    }

    pub(super) async fn forward(&self, mut request: Request) -> Result<Response, Error> {
        if *request.method() == Method::CONNECT {
            return Err(not_forwarded());
        }
        if has_dot_segment(request.path()) {
            let reason = "a path with the segments . or .. is not forwarded: resolve them before";
            return Err(Error::new(StatusCode::BAD_REQUEST, reason));
        }
        let peer = request.peer_addr().await.ok();
        let mut choice = Choice::new(&self.plan.balance, &request, peer.as_ref());
        let mut outgoing = self.outgoing(&mut request, peer.as_ref());
        match count_forward(&outgoing.method, &mut outgoing.headers) {
            Forwards::Go => {}
            Forwards::End if outgoing.method == Method::OPTIONS => {
                return Ok(Response::default().with_header(header::ALLOW, ALLOW));
            }
            // A TRACE would show what proxies before this one have added.
            Forwards::End => return Err(not_forwarded()),
            Forwards::Malformed => {
                return Err(Error::new(StatusCode::BAD_REQUEST, "Max-Forwards must be one number"));
            }
        }
        if self.comes_back(&request) {
            return Err(Error::status_only(StatusCode::LOOP_DETECTED).with_source(
                "the request has come through this proxy before: an upstream leads back to it",
            ));
        }
        let has_host = outgoing.headers.contains_key(header::HOST);
        // A request that is safe and has no body can be sent again when its connection breaks.
        let repeats = outgoing.method.is_safe() && outgoing.body.is_empty();
        let (id, interim) = (request.id(), request.interim());
        drop(request);

        let mut failures: Vec<Failure> = Vec::new();
        while let Some(index) =
            choice.next(&self.plan.balance, &self.upstreams, &self.plan.health, &self.turn)
        {
            let upstream = &self.upstreams[index];
            if self.plan.upstream_host || !has_host {
                outgoing.headers.insert(header::HOST, upstream.origin.authority().clone());
            }
            let load = upstream.load();
            let mut on_interim = |status, version, mut headers: HeaderMap| {
                if let Some(interim) = &interim {
                    forward_response(&mut headers, status, version, &self.plan.via);
                    interim.send(status, &headers);
                }
            };
            match exchange(&self.client, &upstream.origin, &mut outgoing, &mut on_interim).await {
                Ok(response) => {
                    self.plan.health.succeeded(index);
                    // The request can be answered, so it was hardly its fault.
                    for failed in failures.iter().filter(|failed| failed.sign == Sign::BadResponse) {
                        self.note_response(failed, &outgoing, RESPONSES_PER_FAILURE);
                    }
                    return Ok(self.response(response, &outgoing.method, load));
                }
                Err(failed) => {
                    let again = failed.error.is_before_sending()
                        || (repeats && matches!(failed.error, ClientError::Closed { .. }));
                    // That the attempts before took all the time is no fault of this upstream.
                    let is_late =
                        !failures.is_empty() && outgoing.until.is_some_and(|at| at <= Instant::now());
                    let sign = if is_late { Sign::Nothing } else { failed.sign };
                    let failed =
                        Failure { index, upstream: Arc::clone(&upstream.name), sign, source: failed.error };
                    if sign == Sign::Away {
                        self.note(&failed, self.plan.health.failed(index));
                    }
                    tracing::debug!(request = %id, upstream = %upstream.name, error = %failed.source, again, "an upstream failed");
                    failures.push(failed);
                    if !again {
                        break;
                    }
                }
            }
        }
        // All that failed in answering it are one failure, as it may be the request's own.
        if let Some(failed) = failures.iter().find(|failed| failed.sign == Sign::BadResponse) {
            self.note_response(failed, &outgoing, 1);
        }
        Err(match failures.pop() {
            Some(failed) => failed.into_error(),
            None => Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source("no upstream is up"),
        })
    }

    /// Tells whether a request has come through this proxy before (RFC 9110, section 7.6.3).
    fn comes_back(&self, request: &Request) -> bool {
        request.header_bytes("via").is_some() && self.plan.via.is_in(&request.to_header_map())
    }

    fn note_response(&self, failed: &Failure, request: &Outgoing, weight: u32) {
        // The query is the client's to vary.
        let path = request.target.split('?').next().unwrap_or_default();
        let path_hash = stable_hash(path.as_bytes());
        self.note(failed, self.plan.health.response_failed(failed.index, path_hash, weight));
    }

    fn note(&self, failed: &Failure, is_down: bool) {
        if is_down {
            tracing::warn!(
                upstream = %failed.upstream,
                reason = %failed.source,
                "an upstream has failed several times in a row and gets no requests for a while"
            );
        }
    }

    fn outgoing(&self, request: &mut Request, peer: Option<&gimmal_runtime::Address>) -> Outgoing {
        let is_tls = request.is_tls();
        let head = request.head();
        let bytes = head.bytes.clone().into_bytes();
        let view = head.parsed.view(&bytes);
        let mut headers = fields::to_header_map(view.headers(), &bytes);
        let origin = Origin {
            peer,
            authority: view.authority(),
            scheme: if is_tls { "https" } else { "http" },
            version: view.version(),
            may_upgrade: head.parsed.upgrade(),
            trust_forwarded: self.plan.trust_forwarded,
            via: &self.plan.via,
        };
        forward_request(&mut headers, &origin);
        // An absolute target names its host itself (RFC 9112, section 3.2.2).
        if let Some(authority) = view.authority()
            && let Ok(host) = authority.parse()
        {
            headers.insert(header::HOST, host);
        }
        let method = view.method().clone();
        let target = match view.query() {
            Some(query) => format!("{}?{query}", view.path()),
            // It is for the server as a whole (RFC 9112, section 3.2.4).
            None if method == Method::OPTIONS
                && view.form() == TargetForm::Absolute
                && has_no_path(view.target()) =>
            {
                "*".to_owned()
            }
            None => view.path().to_owned(),
        };
        let until = self.plan.client.whole.and_then(|whole| Instant::now().checked_add(whole));
        Outgoing { method, target, headers, body: request.take_body(), until }
    }

    fn response(&self, mut from: ClientResponse, method: &Method, load: Load) -> Response {
        let mut headers = std::mem::take(from.headers_mut());
        let upgraded = from.take_upgraded();
        let status = from.status();
        forward_response(&mut headers, status, from.version(), &self.plan.via);
        let mut response = match upgraded {
            Some(upstream) => {
                let idle = self.plan.tunnel_idle;
                Response::tunnel(move |client| async move {
                    let _load = load;
                    tunnel(client, upstream, idle).await;
                })
            }
            None => {
                let has_no_body = *method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
                // What a GET would have is the upstream's to know: a length that it does not tell is not 0.
                let body = if has_no_body {
                    Body::announced(fields::content_length(&headers))
                } else {
                    relay(from.into_raw_body(), load)
                };
                let mut response = Response::default();
                response.set_body(body);
                response
            }
        };
        response.set_status(status);
        *response.headers_mut() = headers;
        response
    }
}

/// Tells whether a URL ends with its host.
fn has_no_path(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'))
}

/// A body that counts as a request under way until its end.
fn relay(body: Body, load: Load) -> Body {
    match body.try_into_chunk() {
        Ok(chunk) => Body::from(chunk).untyped(),
        Err(arriving) => Body::incoming(Rc::new(Relayed {
            length: arriving.length(),
            body: RefCell::new(arriving),
            _load: load,
        })),
    }
}

struct Relayed {
    body: RefCell<Body>,
    length: Option<u64>,
    _load: Load,
}

impl Incoming for Relayed {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        self.body.borrow_mut().poll_chunk(cx)
    }

    fn length(&self) -> Option<u64> {
        self.length
    }

    fn take_trailers(&self) -> Option<HeaderMap> {
        self.body.borrow_mut().take_trailers()
    }
}
