//! What all defences have in common: they run around the rest of the way.

use crate::request::Request;
use crate::response::Response;

/// Middleware that can stand around any rest of the way, so that several can be one.
pub(super) trait Around {
    async fn around(&self, request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response;
}

/// What is left out lets everything through.
impl<T: Around> Around for Option<T> {
    async fn around(&self, request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        match self {
            Some(defence) => defence.around(request, rest).await,
            None => rest(request).await,
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
        }
    };
}

pub(super) use middleware;
