//! What asks other servers: for keys, for the state of tokens, for logins.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use gimmal_http::{BodyDecoder, BodyFraming, Decoded, Limits, Parsed, ResponseHeadParser, encode_request};
use gimmal_runtime::{Address, blocking};
use gimmal_security::tls::{TlsClientConfig, TlsConfigError};
use gimmal_security::{BlockingPool, FetchError, HttpFetch, RESPONSE_BYTES_MAX};
use http::{HeaderValue, Request, Response, Uri, header};

use crate::stream::Stream;

/// How long an answer may take, names and handshakes included.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that the head of an answer may have.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Asks the servers of keys and tokens, on the core that wants to know: over a connection of its own each time, within
/// 10 seconds, for at most 512 KiB, and without following redirects. Certificates are verified.
///
/// ```
/// use gimmal::auth::Fetcher;
/// use gimmal::tls::TlsClientConfig;
///
/// # fn fetcher() -> Result<Fetcher, gimmal::tls::TlsConfigError> {
/// let fetcher = Fetcher::with_tls(TlsClientConfig::builder().roots_file("own-ca.pem").build()?);
/// # Ok(fetcher) }
/// ```
#[derive(Clone, Default)]
pub struct Fetcher {
    /// Without one, the roots of the platform, which are read when they are first needed.
    tls: Arc<OnceLock<TlsClientConfig>>,
}

impl Fetcher {
    /// Trusts the roots of the platform.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks over TLS with this configuration.
    #[must_use]
    pub fn with_tls(tls: TlsClientConfig) -> Self {
        Self { tls: Arc::new(OnceLock::from(tls)) }
    }

    async fn tls(&self) -> Result<TlsClientConfig, FetchError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let read = blocking(TlsClientConfig::platform).await.map_err(unreachable)?;
        let read = read.map_err(|error: TlsConfigError| unreachable(error))?;
        Ok(self.tls.get_or_init(|| read).clone())
    }

    async fn connect(&self, uri: &Uri) -> Result<Stream, FetchError> {
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let name = host.clone();
        let looked_up = blocking(move || (name, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>));
        let addresses = looked_up.await.map_err(unreachable)?.map_err(unreachable)?;
        let mut error = FetchError::Unreachable("the name has no address".to_owned());
        for address in addresses.into_iter().map(Address::from) {
            let connected = if is_tls {
                Stream::connect_tls(&address, &host, &self.tls().await?).await
            } else {
                Stream::connect(&address).await
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(failed) => error = unreachable(failed),
            }
        }
        Err(error)
    }

    async fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        let stream = self.connect(request.uri()).await?;
        let method = request.method().clone();
        stream.send(encoded(request)?).await.map_err(unreachable)?;
        receive(&stream, &method).await
    }
}

impl HttpFetch for Fetcher {
    async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        tokio::time::timeout(PATIENCE, self.exchange(request)).await.unwrap_or(Err(FetchError::TimedOut))
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

fn unreachable(error: impl fmt::Display) -> FetchError {
    FetchError::Unreachable(error.to_string())
}

/// The request as it goes over the wire.
fn encoded(request: Request<Vec<u8>>) -> Result<Vec<u8>, FetchError> {
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    // What stands before an `@` is for the client alone (RFC 9110, section 4.2.4).
    let host = authority.rsplit('@').next().unwrap_or_default();
    let mut headers = parts.headers;
    headers.insert(header::HOST, HeaderValue::try_from(host).map_err(unreachable)?);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let framing = match body.len() {
        0 => BodyFraming::None,
        len => BodyFraming::Length(len as u64),
    };
    let mut bytes = Vec::new();
    encode_request(&parts.method, target, &headers, framing, &mut bytes);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads the final response to a request of this method.
async fn receive(stream: &Stream, method: &http::Method) -> Result<Response<Vec<u8>>, FetchError> {
    const MALFORMED: FetchError = FetchError::Document("no HTTP response");
    let limits = Limits { body_bytes: RESPONSE_BYTES_MAX as u64, ..Limits::default() };
    let mut head = ResponseHeadParser::new();
    let mut bytes = Vec::new();
    loop {
        match head.parse(&bytes, method, &limits).map_err(|_| MALFORMED)? {
            Parsed::Complete(len) if head.status().is_informational() => {
                bytes.drain(..len);
                head = ResponseHeadParser::new();
            }
            Parsed::Complete(len) => {
                let (status, headers) = (head.status(), head.view(&bytes).to_header_map());
                bytes.drain(..len);
                // A length beyond the limit is refused before any of the body is read.
                let decoder = BodyDecoder::new(head.framing(), &limits).map_err(|_| FetchError::TooLarge)?;
                let mut response = Response::new(receive_body(stream, bytes, decoder).await?);
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                return Ok(response);
            }
            Parsed::Partial if bytes.len() > HEAD_BYTES_MAX => return Err(FetchError::TooLarge),
            Parsed::Partial => {
                let more = receive_some(stream).await?;
                if more.is_empty() {
                    return Err(unreachable(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                bytes.extend_from_slice(&more);
            }
        }
    }
}

async fn receive_body(
    stream: &Stream,
    mut bytes: Vec<u8>,
    mut decoder: BodyDecoder,
) -> Result<Vec<u8>, FetchError> {
    const MALFORMED: FetchError = FetchError::Document("no HTTP response body");
    let mut body = Vec::new();
    loop {
        match decoder.decode(&bytes).map_err(|_| MALFORMED)? {
            Decoded::Data(range) => {
                body.extend_from_slice(&bytes[range.clone()]);
                bytes.drain(..range.end);
                if body.len() > RESPONSE_BYTES_MAX {
                    return Err(FetchError::TooLarge);
                }
            }
            Decoded::End { .. } => return Ok(body),
            Decoded::Partial => {
                let more = receive_some(stream).await?;
                bytes.clear();
                if more.is_empty() {
                    decoder.finish().map_err(|_| MALFORMED)?;
                    return Ok(body);
                }
                bytes.extend_from_slice(&more);
            }
        }
    }
}

async fn receive_some(stream: &Stream) -> Result<Bytes, FetchError> {
    let chunk = stream.recv().await.map_err(unreachable)?;
    Ok(Bytes::copy_from_slice(&chunk))
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
