//! The way of a request through a proxy.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use gimmal_runtime::Core;
use http::{HeaderMap, Method, StatusCode, header};

use super::Plan;
use super::fields::{Origin, forward_request, forward_response};
use super::tunnel::tunnel;
use super::upstream::{Choice, Load, Upstream};
use crate::body::{Body, BodyError, Chunk, Incoming};
use crate::client::{Client, ClientError, ClientResponse, Outgoing, exchange};
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
    upstream: Arc<str>,
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
    fn status(&self) -> StatusCode {
        match &self.source {
            // The client's own fault.
            ClientError::Body(error) => error.status(),
            ClientError::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    fn into_error(self) -> Error {
        Error::status_only(self.status()).with_source(Box::new(self) as Box<dyn std::error::Error>)
    }

    /// Whether it speaks against the upstream.
    fn is_upstreams(&self) -> bool {
        let own_limit = matches!(&self.source, ClientError::Connect { source, .. }
            if source.kind() == io::ErrorKind::ResourceBusy);
        !own_limit
            && !matches!(self.source, ClientError::Body(_) | ClientError::NoCore | ClientError::Roots(_))
    }
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
            return Err(Error::status_only(StatusCode::METHOD_NOT_ALLOWED));
        }
        let peer = request.peer_addr().await.ok();
        let mut choice = Choice::new(&self.plan.balance, &request, peer.as_ref());
        let mut outgoing = self.outgoing(&mut request, peer.as_ref());
        // A request that is safe and has no body can be sent again when its connection breaks.
        let repeats = outgoing.method.is_safe() && outgoing.body.is_empty();
        let id = request.id();
        drop(request);

        let mut failure = None;
        while let Some(index) =
            choice.next(&self.plan.balance, &self.upstreams, &self.plan.health, &self.turn)
        {
            let upstream = &self.upstreams[index];
            if self.plan.upstream_host {
                outgoing.headers.insert(header::HOST, upstream.origin.authority().clone());
            }
            let load = upstream.load();
            match exchange(&self.client, &upstream.origin, &mut outgoing).await {
                Ok(response) => {
                    self.plan.health.succeeded(index);
                    return Ok(self.response(response, &outgoing.method, load));
                }
                Err(source) => {
                    let again = source.is_before_sending()
                        || (repeats && matches!(source, ClientError::Closed { .. }));
                    let failed = Failure { upstream: Arc::clone(&upstream.name), source };
                    if failed.is_upstreams() {
                        self.note_failure(index, &failed);
                    }
                    if !again {
                        return Err(failed.into_error());
                    }
                    tracing::debug!(request = %id, upstream = %upstream.name, error = %failed.source, "an upstream failed; the next one is asked");
                    failure = Some(failed);
                }
            }
        }
        Err(match failure {
            Some(failed) => failed.into_error(),
            None => Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source("no upstream is up"),
        })
    }

    fn note_failure(&self, index: usize, failed: &Failure) {
        if self.plan.health.failed(index) {
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
            trust_forwarded: self.plan.trust_forwarded,
        };
        forward_request(&mut headers, &origin);
        // An absolute target names its host itself (RFC 9112, section 3.2.2).
        if let Some(authority) = view.authority()
            && let Ok(host) = authority.parse()
        {
            headers.insert(header::HOST, host);
        }
        let target = match view.query() {
            Some(query) => format!("{}?{query}", view.path()),
            None => view.path().to_owned(),
        };
        let method = view.method().clone();
        Outgoing { method, target, headers, body: request.take_body(), whole: self.plan.client.whole }
    }

    fn response(&self, mut from: ClientResponse, method: &Method, load: Load) -> Response {
        let mut headers = std::mem::take(from.headers_mut());
        let upgraded = from.take_upgraded();
        forward_response(&mut headers, from.version(), upgraded.is_some());
        let status = from.status();
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
                let body = match fields::content_length(&headers) {
                    Some(length) if has_no_body => Body::announced(length),
                    _ => relay(from.into_body(), load),
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
