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

    /// Whether it finds out who asks, and puts the [`Principal`](crate::auth::Principal) into the request. A guard that
    /// nothing of the kind stands around is an error at start. A function that does so is put into
    /// [`Authenticates`](crate::auth::Authenticates).
    fn authenticates(&self) -> bool {
        false
    }

    /// Adds what every response has to have to one that came by no way through it: to the 500 of a panic within it, to
    /// the 503 of a handler that took too long, and, of an app's own middleware, to what refuses a malformed request.
    /// `is_tls` says whether the connection is.
    fn complete(&self, response: &mut Response, is_tls: bool) {
        let _ = (response, is_tls);
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
    fn complete(&self, response: &mut Response, is_tls: bool);
}

struct Erased<M>(Rc<M>);

impl<M: Middleware> DynMiddleware for Erased<M> {
    fn handle(self: Rc<Self>, request: Request, next: Next) -> LocalFuture<Response> {
        Rc::clone(&self.0).handle(request, next)
    }

    fn complete(&self, response: &mut Response, is_tls: bool) {
        self.0.complete(response, is_tls);
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
    pub(crate) authenticates: bool,
}

impl MakeMiddleware {
    pub(crate) fn new<M: Middleware>(middleware: M) -> Self {
        let (findings, authenticates) = (middleware.findings().into(), middleware.authenticates());
        let defences = (&middleware as &dyn Any).downcast_ref::<Defences>();
        let allowed_hosts = defences.and_then(Defences::hosts).cloned();
        let make = move || -> Rc<dyn DynMiddleware> { Rc::new(Erased(Rc::new(middleware.clone()))) };
        Self { make: Arc::new(make), of: TypeId::of::<M>(), findings, allowed_hosts, authenticates }
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
