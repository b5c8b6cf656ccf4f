//! The client that needs no socket.

use std::rc::Rc;
use std::sync::Arc;

use gimmal_http::Parsed;

use super::message::{TestRequest, TestResponse, methods};
use crate::app::App;
use crate::body::{Body, Chunk};
use crate::connection::Connection;
use crate::request::Request;
use crate::router::{AppError, Blueprint};
use crate::service::{Config, Responding, Service};

/// Asks an app in memory: requests go through parser, router, middleware and handler, and through no socket.
///
/// It belongs to one thread, as a core does.
#[derive(Debug)]
pub struct TestClient {
    service: Rc<Service>,
}

methods!(TestClient: get GET, head HEAD, post POST, put PUT, patch PATCH, delete DELETE, options OPTIONS);

impl TestClient {
    /// A client of `app`.
    ///
    /// # Errors
    /// [`AppError`], as a server of it would fail with at its start.
    pub fn new(app: App) -> Result<Self, AppError> {
        let blueprint = Arc::new(Blueprint::new(app)?);
        Ok(Self { service: Service::new(&blueprint, Config::default()) })
    }
}

impl TestRequest<&TestClient> {
    /// Sends the request and waits for the whole response.
    ///
    /// # Panics
    /// If the request is one that the server would refuse to read, or the body of the response fails.
    pub async fn send(self) -> TestResponse {
        let service = Rc::clone(&self.client.service);
        let mut bytes = Chunk::from(self.encoded());
        let mut request = Request::blank();
        let head = request.head_mut();
        let parsed = head.parsed.parse(&bytes, &service.config.limits);
        let Ok(Parsed::Complete(len)) = parsed else { panic!("the request is malformed: {parsed:?}") };
        head.bytes = bytes.split_to(len);

        let endpoint = Rc::clone(service.router.find(head, false));
        let mut body = if bytes.is_empty() { Body::empty() } else { Body::from(bytes).untyped() };
        body.set_limit(endpoint.body_limit.unwrap_or(service.config.limits.body_bytes));
        request.arrive(Connection::new(service, None), Rc::clone(&endpoint), body);
        let mut response = Responding::new(endpoint, request).await;

        let mut body = response.take_body();
        if let Some(media_type) = body.media_type() {
            let field = response.headers_mut().entry(http::header::CONTENT_TYPE);
            field.or_insert_with(|| media_type.clone());
        }
        let mut bytes = Vec::new();
        if self.method != http::Method::HEAD {
            while let Some(chunk) = body.chunk().await {
                bytes.extend_from_slice(&chunk.expect("the body of the response is whole"));
            }
        }
        TestResponse {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: bytes.into(),
            trailers: body.take_trailers(),
        }
    }
}
