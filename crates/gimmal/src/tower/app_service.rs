//! Apps as Tower services.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use gimmal_runtime::LocalFuture;
use tower_service::Service as TowerService;

use super::body::into_body;
use super::message;
use crate::app::App;
use crate::body::{Body, BoxError};
use crate::connection::Connection;
use crate::response::{IntoResponse, Response};
use crate::router::{AppError, Blueprint};
use crate::service::{Config, Responding, Service};

/// An [`App`] as a Tower service of requests of the `http` crate, for other servers, for layers around the whole of
/// it, and for tests that speak Tower.
///
/// It belongs to one thread, as a core does, and so do its futures; clones share it. Requests have no peer address,
/// and an upgrade that a handler answers with goes nowhere.
///
/// ```
/// use gimmal::{App, tower::AppService};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = AppService::new(App::new().get("/", async || "Hello, World!"))?;
/// let response = service.oneshot(http::Request::get("/").body(gimmal::Body::empty())?).await?;
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.into_body().collect(1024).await?, "Hello, World!");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct AppService {
    service: Rc<Service>,
}

impl AppService {
    /// The service of an app.
    ///
    /// # Errors
    /// [`AppError`], as a server of it would fail with at its start.
    pub fn new(app: App) -> Result<Self, AppError> {
        let blueprint = Arc::new(Blueprint::new(app)?);
        Ok(Self { service: Service::new(&blueprint, Config::default()) })
    }
}

impl<B> TowerService<http::Request<B>> for AppService
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
        let service = Rc::clone(&self.service);
        LocalFuture::new(async move {
            let (parts, body) = http.into_parts();
            let mut response = respond(service, parts, into_body(body, None).await).await;
            Ok(message::response_to_http(&mut response))
        })
    }
}

async fn respond(service: Rc<Service>, mut parts: http::request::Parts, mut body: Body) -> Response {
    let mut request = match message::to_request(&mut parts, &body) {
        Ok(request) => request,
        Err(error) => return error.into_response(),
    };
    let endpoint = Rc::clone(service.router.find(request.head_mut(), false));
    body.set_limit(endpoint.body_limit.unwrap_or(service.config.limits.body_bytes));
    request.arrive(Connection::new(service, None), Rc::clone(&endpoint), body);
    if !parts.extensions.is_empty() {
        request.extensions_mut().insert(parts.extensions);
    }
    Responding::new(endpoint, request).await
}
