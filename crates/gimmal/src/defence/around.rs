//! What all defences have in common: they run around the rest of the way.

use crate::request::Request;
use crate::response::Response;

/// Middleware that can stand around any rest of the way, so that several can be one.
pub(super) trait Around {
    async fn around(&self, request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response;

    /// Adds what every response has to have to one that did not come by this way.
    fn complete(&self, response: &mut Response, is_tls: bool) {
        let _ = (response, is_tls);
    }
}

/// What is left out lets everything through.
impl<T: Around> Around for Option<T> {
    async fn around(&self, request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        match self {
            Some(defence) => defence.around(request, rest).await,
            None => rest(request).await,
        }
    }

    fn complete(&self, response: &mut Response, is_tls: bool) {
        if let Some(defence) = self {
            defence.complete(response, is_tls);
        }
    }
}

/// Makes a defence a middleware. Its method `check` tells its findings.
macro_rules! middleware {
    ($defence:ty) => {
        impl crate::middleware::Middleware for $defence {
            fn handle(
                self: std::rc::Rc<Self>,
                request: crate::request::Request,
                next: crate::middleware::Next,
            ) -> gimmal_runtime::LocalFuture<crate::response::Response> {
                gimmal_runtime::LocalFuture::new(async move {
                    self.around(request, async move |request| next.run(request).await).await
                })
            }
            fn findings(&self) -> Vec<gimmal_security::Finding> {
                self.check()
            }
            fn complete(&self, response: &mut crate::response::Response, is_tls: bool) {
                Around::complete(self, response, is_tls);
            }
        }
    };
}

pub(super) use middleware;
