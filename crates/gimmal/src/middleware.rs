//! Middleware: what runs around handlers.

use std::any::{Any, TypeId};
use std::rc::Rc;
use std::sync::Arc;

use gimmal_runtime::LocalFuture;
use gimmal_security::Finding;
use gimmal_security::allowed_hosts::AllowedHosts;

use crate::defence::Defences;
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::router::Endpoint;

/// What runs around a handler: an `async fn(request, next)`, or a type of its own.
///
/// It may look at the request and change it, answer in place of the handler, run `next` or not, and change the
/// response. What was added first runs first.
///
/// ```
/// use gimmal::{App, HeaderValue, Next, Request, Response};
///
/// async fn no_store(request: Request, next: Next) -> Response {
///     let mut response = next.run(request).await;
///     response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
///     response
/// }
/// let app = App::new().get("/secret", async || "42").with(no_store);
/// ```
pub trait Middleware: Clone + Send + Sync + 'static {
    /// Answers a request, usually by way of `next`.
    fn handle(self: Rc<Self>, request: Request, next: Next) -> LocalFuture<Response>;

    /// What is unsafe in its configuration, or worth knowing: [`Server::check`](crate::Server::check) tells it.
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}

impl<F, Output> Middleware for F
where
    F: AsyncFn(Request, Next) -> Output + Clone + Send + Sync + 'static,
    Output: IntoResponse + 'static,
{
    fn handle(self: Rc<Self>, request: Request, next: Next) -> LocalFuture<Response> {
        LocalFuture::new(async move { (*self)(request, next).await.into_response() })
    }
}

/// A middleware of a type known to itself alone.
pub(crate) trait DynMiddleware {
    fn handle(self: Rc<Self>, request: Request, next: Next) -> LocalFuture<Response>;
}

struct Erased<M>(Rc<M>);

impl<M: Middleware> DynMiddleware for Erased<M> {
    fn handle(self: Rc<Self>, request: Request, next: Next) -> LocalFuture<Response> {
        Rc::clone(&self.0).handle(request, next)
    }
}

/// Makes a middleware on each core, as handlers are made.
#[derive(Clone)]
pub(crate) struct MakeMiddleware {
    make: Arc<dyn Fn() -> Rc<dyn DynMiddleware> + Send + Sync>,
    pub(crate) of: TypeId,
    pub(crate) findings: Arc<[Finding]>,
    /// The hosts that it lets through, if it cares.
    pub(crate) allowed_hosts: Option<AllowedHosts>,
}

impl MakeMiddleware {
    pub(crate) fn new<M: Middleware>(middleware: M) -> Self {
        let findings = middleware.findings().into();
        let defences = (&middleware as &dyn Any).downcast_ref::<Defences>();
        let allowed_hosts = defences.and_then(Defences::hosts).cloned();
        let make = move || -> Rc<dyn DynMiddleware> { Rc::new(Erased(Rc::new(middleware.clone()))) };
        Self { make: Arc::new(make), of: TypeId::of::<M>(), findings, allowed_hosts }
    }

    pub(crate) fn make(&self) -> Rc<dyn DynMiddleware> {
        (self.make)()
    }
}

/// The rest of the way to the handler.
#[derive(Debug)]
pub struct Next {
    endpoint: Rc<Endpoint>,
    /// How many layers have been entered.
    entered: usize,
}

impl Next {
    pub(crate) fn new(endpoint: Rc<Endpoint>) -> Self {
        Self { endpoint, entered: 0 }
    }

    /// Goes on to the next middleware, or to the handler.
    ///
    /// # Cancel safety
    /// Dropping the future drops whatever it has come to.
    #[must_use]
    pub fn run(mut self, request: Request) -> LocalFuture<Response> {
        match self.endpoint.middleware.get(self.entered) {
            Some(middleware) => {
                self.entered += 1;
                Rc::clone(middleware).handle(request, self)
            }
            None => Rc::clone(&self.endpoint.handler).call(request),
        }
    }
}
