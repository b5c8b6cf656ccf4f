//! Tower services as handlers.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use gimmal_runtime::{Address, LocalFuture};
use http::Method;
#[cfg(feature = "tower-upgrade")]
use http::StatusCode;
use tower_service::Service;

use super::body::into_body;
use super::message;
use super::send_body::{Fed, Feed, SendBody};
#[cfg(feature = "tower-upgrade")]
use super::upgrade::Offer;
use crate::body::{Body, BoxError};
use crate::error::Error;
use crate::handler::{Handler, Needs};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// A Tower service as a handler, such as an axum `Router`.
///
/// It is cloned once for each core, and then once for each request, as Tower wants it. Its future need not be `Send`.
/// It sees the whole path, under whichever route it stands. An error of the service becomes a 500, and is logged.
///
/// The server's limit of the body holds, whatever the service says of it: lift it with
/// [`App::body_limit`](crate::App::body_limit) where the service has one of its own.
///
/// ```
/// use gimmal::{App, Server};
/// use http::Response;
/// use tower::service_fn;
///
/// let service = service_fn(async |request: http::Request<gimmal::tower::SendBody>| {
///     Ok::<_, std::convert::Infallible>(Response::new(format!("You asked for {}\n", request.uri())))
/// });
/// let app = App::new().get("/native", async || "no Tower here\n").fallback(gimmal::tower::service(service));
/// let server = Server::new(app).bind("127.0.0.1:0");
/// ```
pub fn service<S>(service: S) -> TowerService<S> {
    TowerService { service, peer: None }
}

/// What [`service`] makes: a handler that asks a Tower service.
#[derive(Clone)]
pub struct TowerService<S> {
    service: S,
    peer: Option<Arc<NotePeer>>,
}

type NotePeer = dyn Fn(&Address, &mut http::Extensions) + Send + Sync;

impl<S> TowerService<S> {
    /// Puts what `make` makes of the client's address into the extensions of each request. With axum:
    /// `.with_peer(|peer| ConnectInfo(peer.clone()))`, for handlers that take a `ConnectInfo<gimmal::Address>`.
    #[must_use]
    pub fn with_peer<T>(mut self, make: impl Fn(&Address) -> T + Send + Sync + 'static) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        self.peer = Some(Arc::new(move |peer, extensions| {
            extensions.insert(make(peer));
        }));
        self
    }
}

impl<S: fmt::Debug> fmt::Debug for TowerService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerService").field("service", &self.service).finish_non_exhaustive()
    }
}

/// The argument of [`TowerService`] as a handler: a request of the `http` crate.
#[derive(Debug)]
pub struct HttpRequest(());

impl<S, B> Handler<HttpRequest> for TowerService<S>
where
    S: Service<http::Request<SendBody>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    fn call(self: Rc<Self>, request: Request) -> LocalFuture<Response> {
        LocalFuture::new(async move { self.answer(request).await.into_response() })
    }

    fn needs(_: &mut Needs) {}
}

impl<S> TowerService<S> {
    async fn answer<B>(&self, mut request: Request) -> Result<Response, Error>
    where
        S: Service<http::Request<SendBody>, Response = http::Response<B>> + Clone,
        S::Error: Into<BoxError>,
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        let (body, mut feed) = SendBody::new(request.take_body());
        let mut http = message::to_http(&mut request, body)?;
        if let Some(note) = &self.peer
            && let Ok(peer) = request.peer_addr().await
        {
            note(&peer, http.extensions_mut());
        }
        #[cfg(feature = "tower-upgrade")]
        let offer = Offer::make(&request, http.extensions_mut()).await;
        let is_head = *request.method() == Method::HEAD;
        #[cfg(feature = "tower-upgrade")]
        let is_connect = *request.method() == Method::CONNECT;
        drop(request);

        let mut service = self.service.clone();
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(message::failure)?;
        let answered = while_feeding(service.call(http), &mut feed).await;
        let (parts, body) = answered.map_err(message::failure)?.into_parts();

        let mut response = Response::default();
        #[cfg(feature = "tower-upgrade")]
        {
            let opens_tunnel =
                parts.status == StatusCode::SWITCHING_PROTOCOLS || (is_connect && parts.status.is_success());
            if let Some(offer) = offer.filter(|_| opens_tunnel) {
                response = Response::tunnel(move |stream| offer.take_over(stream));
            }
        }
        let length = message::length_of_absent(is_head, &parts);
        message::set_head(&mut response, parts);
        response.set_body(match length {
            Some(length) if body.is_end_stream() => Body::announced(length),
            _ => into_body(body, feed).await,
        });
        Ok(response)
    }
}

/// Drives a future, and feeds the body of the request to it as it asks.
async fn while_feeding<F: Future>(future: F, feed: &mut Option<Feed>) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            // What was fed now is taken now.
            match feed.as_mut().map_or(Fed::Finished, |feed| feed.poll(cx)) {
                Fed::Frame => {}
                Fed::Nothing | Fed::Finished => return Poll::Pending,
            }
        }
    })
    .await
}
