//! What asks other servers: for keys, for the state of tokens, for logins.

use std::time::Duration;

use gimmal_http::Limits;
use gimmal_runtime::blocking;
use gimmal_security::tls::TlsClientConfig;
use gimmal_security::{BlockingPool, FetchError, HttpFetch, RESPONSE_BYTES_MAX};
use http::{Request, Response};

use crate::body::{Body, BodyError, ResponseBodyError};
use crate::client::{Client, ClientError, ClientOptions};

/// How long an answer may take, names and handshakes included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the servers of keys and tokens, by a [`Client`] on the core that wants to know: over a connection of its own
/// each time, within 10 seconds, for at most 512 KiB, and without following redirects. Certificates are verified.
///
/// ```
/// use gimmal::auth::Fetcher;
/// use gimmal::tls::TlsClientConfig;
///
/// # fn fetcher() -> Result<Fetcher, gimmal::tls::TlsConfigError> {
/// let fetcher = Fetcher::with_tls(TlsClientConfig::builder().roots_file("own-ca.pem").build()?);
/// # Ok(fetcher) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Fetcher {
    tls: Option<TlsClientConfig>,
}

impl Fetcher {
    /// Trusts the roots of the platform, which are read when they are first needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks over TLS with this configuration.
    #[must_use]
    pub fn with_tls(tls: TlsClientConfig) -> Self {
        Self { tls: Some(tls) }
    }

    fn client(&self) -> Client {
        Client::with_options(ClientOptions {
            whole: Some(PATIENCE),
            idle_per_origin: 0,
            redirects_max: 0,
            limits: Limits { body_bytes: RESPONSE_BYTES_MAX as u64, ..Limits::default() },
            tls: self.tls.clone(),
            ..ClientOptions::default()
        })
    }
}

impl HttpFetch for Fetcher {
    async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        let (parts, body) = request.into_parts();
        let mut request = self.client().request(parts.method, parts.uri.to_string());
        *request.headers_mut() = parts.headers;
        let mut received = request.with_body(Body::from(body).untyped()).send().await.map_err(no_response)?;
        let mut response = Response::default();
        *response.status_mut() = received.status();
        *response.headers_mut() = std::mem::take(received.headers_mut());
        *response.body_mut() = received.bytes(RESPONSE_BYTES_MAX as u64).await.map_err(no_body)?.into();
        Ok(response)
    }
}

fn no_response(error: ClientError) -> FetchError {
    match error {
        ClientError::TimedOut(_) => FetchError::TimedOut,
        ClientError::Malformed(_) => FetchError::Document("no HTTP response"),
        error => FetchError::Unreachable(error.to_string()),
    }
}

fn no_body(error: BodyError) -> FetchError {
    match error {
        BodyError::Response(ResponseBodyError::TimedOut) => FetchError::TimedOut,
        BodyError::Response(ResponseBodyError::TooLarge { .. }) => FetchError::TooLarge,
        BodyError::Response(ResponseBodyError::Incomplete | ResponseBodyError::Malformed(_)) => {
            FetchError::Document("no HTTP response body")
        }
        error => FetchError::Unreachable(error.to_string()),
    }
}

/// The threads for blocking work of [`gimmal::blocking`](crate::blocking), for the stores that need them, such as
/// sessions in an SQLite file.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingThreads;

impl BlockingPool for BlockingThreads {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        blocking(work).await.ok()
    }
}
