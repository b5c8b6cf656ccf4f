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

use crate::config::Timeouts;
use crate::error::Chain;
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
    future: LocalFuture<Response>,
    id: RequestId,
    panicked: bool,
}

impl Responding {
    pub(crate) fn new(endpoint: &Rc<Endpoint>, request: Request) -> Self {
        let id = request.id();
        Self { future: endpoint.call(request), id, panicked: false }
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// Whether the response is that to a panic, which came through no middleware.
    pub(crate) fn panicked(&self) -> bool {
        self.panicked
    }

    /// Wraps what is at work, as for a span.
    pub(crate) fn map(self, wrap: impl FnOnce(LocalFuture<Response>) -> LocalFuture<Response>) -> Self {
        Self { future: wrap(self.future), ..self }
    }
}

impl Future for Responding {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.future).poll(cx)));
        let response = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(response)) => response,
            Err(panic) => {
                self.panicked = true;
                tracing::error!(request = %self.id, panic = panic_message(&*panic), "a handler panicked");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        };
        if let Some(error) = response.error() {
            let status = response.status().as_u16();
            if response.status().is_server_error() {
                tracing::error!(request = %self.id, status, error = %Chain(error), "a handler failed");
            } else {
                tracing::debug!(request = %self.id, status, error = %Chain(error), "a handler refused");
            }
        }
        Poll::Ready(response)
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
