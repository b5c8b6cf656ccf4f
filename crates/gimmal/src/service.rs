//! What the connections of one core share.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use gimmal_http::{Date, Limits};
use gimmal_runtime::LocalFuture;
use http::StatusCode;
use tracing::Instrument;

use crate::config::Timeouts;
use crate::error::{Chain, Error};
use crate::request::{Request, RequestId};
use crate::response::{IntoResponse, Response};
use crate::router::{Blueprint, Endpoint, Router};

/// How the connections of a server behave.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) access_log: bool,
    pub(crate) handshakes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            access_log: false,
            handshakes_max: 256,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) config: Config,
    pub(crate) date: RefCell<Date>,
}

impl Service {
    pub(crate) fn new(blueprint: &Arc<Blueprint>, config: Config) -> Rc<Self> {
        Rc::new(Self { router: Router::new(blueprint), config, date: RefCell::new(Date::at(0)) })
    }

    pub(crate) fn state<T: 'static>(&self) -> Option<Rc<T>> {
        self.router.state()
    }
}

/// A handler at work on a request. A panic in it becomes a 500, and what it failed with is logged.
pub(crate) struct Responding {
    /// `None` once it has come to its end: what it holds goes before the response is sent.
    future: Option<LocalFuture<Response>>,
    endpoint: Rc<Endpoint>,
    id: RequestId,
    is_tls: bool,
}

impl Responding {
    /// Starts the handler, in a span of its own if somebody wants to see it.
    pub(crate) fn new(endpoint: Rc<Endpoint>, request: Request) -> Self {
        let (id, is_tls) = (request.id(), request.is_tls());
        let span = tracing::debug_span!(
            "request",
            %id,
            method = %request.method(),
            path = request.path(),
            route = request.route(),
        );
        let mut future = endpoint.call(request);
        if !span.is_disabled() {
            future = LocalFuture::new(future.instrument(span));
        }
        Self { future: Some(future), endpoint, id, is_tls }
    }

    /// The answer in place of one that took too long.
    pub(crate) fn overdue(&mut self) -> Response {
        self.future = None;
        tracing::warn!(request = %self.id, "a handler took too long and was dropped");
        self.complete(Error::new(StatusCode::SERVICE_UNAVAILABLE, "the request took too long"))
    }

    /// An answer that came through no middleware, with what each of them has every response have.
    pub(crate) fn complete(&self, response: impl IntoResponse) -> Response {
        let mut response = response.into_response();
        self.endpoint.complete(&mut response, self.is_tls);
        response
    }
}

impl Future for Responding {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let future = self.future.as_mut().expect("it is not polled after its end");
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(cx)));
        let response = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(response)) => response,
            Err(panic) => {
                tracing::error!(request = %self.id, panic = panic_message(&*panic), "a handler panicked");
                self.complete(StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        self.future = None;
        if let Some(error) = response.error() {
            self.log(response.status(), error);
        }
        Poll::Ready(response)
    }
}

impl Responding {
    /// Tells of what a handler failed with.
    #[cold]
    fn log(&self, status: StatusCode, error: &(dyn std::error::Error + 'static)) {
        let (code, error) = (status.as_u16(), Chain(error));
        if status.is_server_error() {
            tracing::error!(request = %self.id, status = code, %error, "a handler failed");
        } else {
            tracing::debug!(request = %self.id, status = code, %error, "a handler refused");
        }
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
