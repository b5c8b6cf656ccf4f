//! Middleware of an app's own that finds out who asks.

use std::rc::Rc;

use gimmal_runtime::LocalFuture;
use gimmal_security::Finding;

use crate::middleware::{Middleware, Next};
use crate::request::Request;
use crate::response::Response;

/// Says of a middleware that it finds out who asks, where neither an [`Authenticator`](super::Authenticator) nor
/// [`Sessions`](super::Sessions) do: it puts a [`Principal`](super::Principal) into the request.
///
/// ```
/// use gimmal::auth::{Authenticates, Mechanism, Principal, Requirement};
/// use gimmal::{App, Next, Request, Response};
///
/// /// A proxy that alone can reach this server says who asks.
/// async fn by_proxy(mut request: Request, next: Next) -> Response {
///     if let Some(user) = request.header("x-verified-user").map(str::to_owned) {
///         request.extensions_mut().insert(Principal::new(user, Mechanism::External, 0));
///     }
///     next.run(request).await
/// }
/// let app = App::new()
///     .get("/", async |principal: Principal| principal.id().to_owned())
///     .require(Requirement::Authenticated)
///     .with(Authenticates(by_proxy));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Authenticates<M>(
    /// The middleware.
    pub M,
);

impl<M: Middleware> Middleware for Authenticates<M> {
    fn handle(self: Rc<Self>, request: Request, next: Next) -> LocalFuture<Response> {
        Rc::new(self.0.clone()).handle(request, next)
    }

    fn findings(&self) -> Vec<Finding> {
        self.0.findings()
    }

    fn authenticates(&self) -> bool {
        true
    }

    fn complete(&self, response: &mut Response, is_tls: bool) {
        self.0.complete(response, is_tls);
    }
}
