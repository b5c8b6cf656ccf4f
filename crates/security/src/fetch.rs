//! The one way in which this crate asks another server something: the caller's HTTP client.

use std::future::Future;

use http::{HeaderMap, Request, Response, Uri, header};
use thiserror::Error;

/// An HTTP client, as far as this crate needs one: key sets, introspection, discovery and token requests go
/// through it. It is handed to each call, as the time is, so nothing here holds a socket.
///
/// An implementation
/// - verifies certificates (every address that this crate asks is `https`, except on loopback),
/// - follows no redirect: a key set that moved is a fault to see, and a redirect can lead into the inner network,
/// - gives up after a few seconds, and refuses a body that is longer than [`RESPONSE_BYTES_MAX`].
///
/// The future need not be [`Send`], but may be.
///
/// ```
/// use gimmal_security::{FetchError, HttpFetch};
/// use http::{Request, Response};
///
/// /// Answers everything with the same document, for a test.
/// struct Fixed(&'static [u8]);
///
/// impl HttpFetch for Fixed {
///     async fn fetch(&self, _request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
///         Ok(Response::new(self.0.to_vec()))
///     }
/// }
/// ```
pub trait HttpFetch {
    /// Sends the request to the server that its absolute URI names, and gives the whole response.
    fn fetch(&self, request: Request<Vec<u8>>)
    -> impl Future<Output = Result<Response<Vec<u8>>, FetchError>>;
}

/// The longest response body that is taken, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 512 * 1024;

/// Why another server gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or it broke.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("the server did not answer in time")]
    TimedOut,
    /// Too many questions to that server wait for an answer; this one was not asked.
    #[error("too many requests wait for the server's answers")]
    Busy,
    /// A body longer than [`RESPONSE_BYTES_MAX`].
    #[error("the answer is longer than {RESPONSE_BYTES_MAX} bytes")]
    TooLarge,
    /// A status other than the one that was to come.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// A document that is not what it has to be.
    #[error("the server's document is not usable: {0}")]
    Document(&'static str),
    /// An address without TLS, off loopback.
    #[error("the address is not https: use https, or a loopback address while developing")]
    Insecure,
}

/// A GET for a JSON document, answered with 200 and a body of bearable length.
pub(crate) async fn get_json<F: HttpFetch>(fetch: &F, uri: &Uri) -> Result<(HeaderMap, Vec<u8>), FetchError> {
    let request = Request::get(uri.clone())
        .header(header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|_| FetchError::Document("the address makes no request"))?;
    let (parts, body) = send(fetch, request).await?.into_parts();
    if parts.status != http::StatusCode::OK {
        return Err(FetchError::Status(parts.status.as_u16()));
    }
    Ok((parts.headers, body))
}

/// Sends a request; its address must be safe and the body of its answer of bearable length.
pub(crate) async fn send<F: HttpFetch>(
    fetch: &F,
    request: Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, FetchError> {
    check_address(request.uri())?;
    let response = fetch.fetch(request).await?;
    if response.body().len() > RESPONSE_BYTES_MAX {
        return Err(FetchError::TooLarge);
    }
    Ok(response)
}

/// `https` with a host, or `http` on loopback.
pub(crate) fn check_address(uri: &Uri) -> Result<(), FetchError> {
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if is_loopback(host) => Ok(()),
        _ => Err(FetchError::Insecure),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_or_loopback() {
        for good in
            ["https://a.example/jwks", "http://127.0.0.1:9/x", "http://[::1]/x", "http://localhost:80/x"]
        {
            assert_eq!(check_address(&good.parse().unwrap()), Ok(()), "{good}");
        }
        for bad in ["http://a.example/jwks", "http://localhost.a.example/", "/jwks", "ftp://127.0.0.1/"] {
            assert_eq!(check_address(&bad.parse().unwrap()), Err(FetchError::Insecure), "{bad}");
        }
    }
}
