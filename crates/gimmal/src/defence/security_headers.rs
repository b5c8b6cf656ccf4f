//! The security fields of responses, and the nonce of each.

use gimmal_security::csp::Nonce;
use gimmal_security::security_headers::SecurityHeaders;
use http::StatusCode;

use super::around::Around;
use super::client_address;
use crate::error::Error;
use crate::extract::FromRequest;
use crate::request::Request;
use crate::response::Response;

impl Around for SecurityHeaders {
    async fn around(&self, mut request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        let secure = client_address::is_secure(&request);
        let nonce = Nonce::random();
        request.extensions_mut().insert(nonce);
        let mut response = rest(request).await;
        self.apply(response.headers_mut(), &nonce, secure);
        response
    }

    fn complete(&self, response: &mut Response, is_tls: bool) {
        self.apply(response.headers_mut(), &Nonce::random(), is_tls);
    }
}

/// The nonce that the Content-Security-Policy of this response names: put it into the `nonce` attribute of the page's
/// own scripts and styles.
///
/// ```
/// use gimmal::defence::{Defences, Nonce};
/// use gimmal::{App, Html};
///
/// async fn page(nonce: Nonce) -> Html<String> {
///     Html(format!("<!doctype html><script nonce=\"{nonce}\">console.log('mine')</script>"))
/// }
/// let app = App::new().get("/", page).with(Defences::new());
/// ```
impl FromRequest for Nonce {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        request.extensions().get::<Self>().copied().ok_or_else(|| {
            Error::status_only(StatusCode::INTERNAL_SERVER_ERROR)
                .with_source("a handler takes a Nonce: put Defences with security headers around its route")
        })
    }
}
