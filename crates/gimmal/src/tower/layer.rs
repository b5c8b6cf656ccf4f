//! Tower layers as middleware.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use gimmal_runtime::LocalFuture;
use http::{Method, StatusCode};
use send_wrapper::SendWrapper;
use tower_layer::Layer;
use tower_service::Service;

use super::body::into_body;
use super::message;
use crate::body::{Body, BoxError};
use crate::error::Error;
use crate::middleware::{Middleware, Next};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// A Tower layer as middleware, such as those of `tower-http`.
///
/// As in axum, each route has a service of its own, here on each core, made when its first request comes; what is to
/// be counted over all of them belongs into an `Arc` in the layer, as `GlobalConcurrencyLimitLayer` does it. The
/// service is cloned for each request. An error of it becomes a 500, and is logged.
///
/// The layer sees the request as an `http::Request` of a [`Body`], and what it makes of the header fields, the body and
/// the extensions is what the handler gets. Method and target stay, since the route was taken already: to change these,
/// wrap an [`AppService`](super::AppService). Upgrades pass through.
///
/// ```
/// use gimmal::App;
/// use tower_http::cors::CorsLayer;
///
/// let app = App::new().get("/", async || "Hello, World!").with(gimmal::tower::layer(CorsLayer::permissive()));
/// ```
pub fn layer<L: Layer<NextService>>(layer: L) -> Layered<L> {
    Layered { layer, core: OnceLock::new() }
}

/// What [`layer`] makes: middleware that runs the service of a Tower layer.
pub struct Layered<L: Layer<NextService>> {
    layer: L,
    /// Empty in every copy until its first request; from then on the copy belongs to one core.
    core: OnceLock<SendWrapper<PerCore<L::Service>>>,
}

struct PerCore<S> {
    service: S,
    parked: Rc<Parked>,
}

/// A copy has made no service yet.
impl<L: Layer<NextService> + Clone> Clone for Layered<L> {
    fn clone(&self) -> Self {
        layer(self.layer.clone())
    }
}

impl<L: Layer<NextService> + fmt::Debug> fmt::Debug for Layered<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl<L: Layer<NextService>> Layered<L> {
    fn core(&self) -> &PerCore<L::Service> {
        self.core.get_or_init(|| {
            let parked = Rc::new(Parked::default());
            let service = self.layer.layer(NextService { parked: Rc::clone(&parked) });
            SendWrapper::new(PerCore { service, parked })
        })
    }
}

impl<L, B> Middleware for Layered<L>
where
    L: Layer<NextService> + Clone + Send + Sync + 'static,
    L::Service: Service<http::Request<Body>, Response = http::Response<B>> + Clone + 'static,
    <L::Service as Service<http::Request<Body>>>::Error: Into<BoxError>,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    fn handle(self: Rc<Self>, mut request: Request, next: Next) -> LocalFuture<Response> {
        LocalFuture::new(async move {
            let core = self.core();
            let is_head = *request.method() == Method::HEAD;
            let body = request.take_body();
            let mut http = match message::to_http(&mut request, body) {
                Ok(http) => http,
                Err(error) => return error.into_response(),
            };
            let place = core.parked.park(request, next);
            http.extensions_mut().insert(place.ticket);
            let mut service = core.service.clone();
            let called = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(http).await
            };
            match called.await {
                Ok(http) => {
                    let (parts, body) = http.into_parts();
                    // It is the handler's own unless the layer has answered in its place.
                    let mut response = place.take_response().unwrap_or_default();
                    let length = message::length_of_absent(is_head, &parts);
                    message::set_head(&mut response, parts);
                    response.set_body(match length {
                        Some(length) if body.is_end_stream() => Body::announced(length),
                        _ => into_body(body, None).await,
                    });
                    response
                }
                Err(error) => message::failure(error).into_response(),
            }
        })
    }
}

/// Names what is parked for a request that is on its way through a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ticket(u64);

/// What belongs to the requests that are on their way through a layer and cannot go through it: an `http::Request`
/// has no place for what is not `Send`.
#[derive(Default)]
struct Parked {
    parked: RefCell<HashMap<Ticket, Item>>,
    tickets: Cell<u64>,
}

enum Item {
    Request(Box<(Request, Next)>),
    /// The handler has the request.
    Taken,
    Response(Box<Response>),
}

impl Parked {
    fn park(self: &Rc<Self>, request: Request, next: Next) -> Place {
        let ticket = Ticket(self.tickets.get());
        self.tickets.set(ticket.0 + 1);
        self.parked.borrow_mut().insert(ticket, Item::Request(Box::new((request, next))));
        Place { parked: Rc::clone(self), ticket }
    }

    /// `None` for a ticket that is not of this layer, or was used before.
    fn take_request(&self, ticket: Ticket) -> Option<(Request, Next)> {
        let mut parked = self.parked.borrow_mut();
        let item = parked.get_mut(&ticket)?;
        match std::mem::replace(item, Item::Taken) {
            Item::Request(request) => Some(*request),
            other => {
                *item = other;
                None
            }
        }
    }

    fn put_response(&self, ticket: Ticket, response: Response) {
        if let Some(item) = self.parked.borrow_mut().get_mut(&ticket) {
            *item = Item::Response(Box::new(response));
        }
    }
}

/// The place of one request, for as long as its answer is awaited.
struct Place {
    parked: Rc<Parked>,
    ticket: Ticket,
}

impl Place {
    fn take_response(&self) -> Option<Response> {
        match self.parked.parked.borrow_mut().remove(&self.ticket)? {
            Item::Response(response) => Some(*response),
            _ => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let item = self.parked.parked.borrow_mut().remove(&self.ticket);
        drop(item);
    }
}

/// The rest of the way to the handler, as the service that a layer wraps.
#[derive(Clone)]
pub struct NextService {
    parked: Rc<Parked>,
}

impl<B> Service<http::Request<B>> for NextService
where
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = LocalFuture<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, http: http::Request<B>) -> Self::Future {
        let parked = Rc::clone(&self.parked);
        LocalFuture::new(async move {
            let (mut parts, body) = http.into_parts();
            let ticket = parts.extensions.remove::<Ticket>();
            let taken = ticket.and_then(|ticket| Some((ticket, parked.take_request(ticket)?)));
            let Some((ticket, (mut request, next))) = taken else {
                let mut response = Error::status_only(StatusCode::INTERNAL_SERVER_ERROR)
                    .with_source("a layer has sent a request on that it did not get, or one a second time")
                    .into_response();
                return Ok(message::response_to_http(&mut response));
            };
            let mut response =
                match message::update(&mut request, &parts.headers, into_body(body, None).await) {
                    Ok(()) => {
                        if !parts.extensions.is_empty() {
                            request.extensions_mut().insert(parts.extensions);
                        }
                        next.run(request).await
                    }
                    Err(error) => error.into_response(),
                };
            let http = message::response_to_http(&mut response);
            parked.put_response(ticket, response);
            Ok(http)
        })
    }
}

impl fmt::Debug for NextService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextService").finish_non_exhaustive()
    }
}
