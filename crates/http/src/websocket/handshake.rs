//! The opening handshake (RFC 6455 section 4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use sha1::{Digest, Sha1};
use thiserror::Error;

use super::extension::{Deflate, DeflateConfig, check_grammar, is_token};
use crate::framing::list;
use crate::host::Authority;
use crate::target;

/// What is appended to a key before it is hashed (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The version of RFC 6455, which is the only one.
const VERSION: HeaderValue = HeaderValue::from_static("13");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Not a GET (RFC 6455 section 4.1).
    #[error("a WebSocket handshake is a GET request")]
    Method,
    /// Not HTTP/1.1 (RFC 6455 section 4.1).
    #[error("a WebSocket handshake needs HTTP/1.1")]
    HttpVersion,
    /// No `websocket` in Upgrade, or no `Upgrade` in Connection (RFC 6455 sections 4.1 and 4.2.1).
    #[error("the connection is not upgraded to websocket")]
    Upgrade,
    /// A Sec-WebSocket-Version other than 13 (RFC 6455 section 4.4).
    #[error("the WebSocket version is not supported: use 13")]
    Version,
    /// A Sec-WebSocket-Key that is not sixteen bytes in base64, or not given once (RFC 6455 section 4.2.1).
    #[error("Sec-WebSocket-Key is malformed")]
    Key,
    /// A subprotocol that is no token, or not given once in an answer (RFC 6455 section 4.1).
    #[error("Sec-WebSocket-Protocol is malformed")]
    Protocol,
    /// A subprotocol in the answer that the client did not offer (RFC 6455 sections 4.1 and 4.2.2).
    #[error("the subprotocol was not offered")]
    ProtocolNotOffered,
    /// Extensions that are malformed, or in an answer other than offered (RFC 6455 section 9.1).
    #[error("Sec-WebSocket-Extensions is malformed, or not what was offered")]
    Extensions,
    /// An answer other than 101 (RFC 6455 section 4.1).
    #[error("the server did not switch to websocket")]
    Status,
    /// A Sec-WebSocket-Accept that does not fit the key (RFC 6455 section 4.1).
    #[error("Sec-WebSocket-Accept does not fit the key")]
    Accept,
}

impl HandshakeError {
    /// The status that a server answers with: 400, 405 or 426.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Upgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The fields that this status wants (RFC 9110 sections 15.5.6 and 15.5.22, RFC 6455 section 4.4).
    #[must_use]
    pub fn headers(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match self {
            Self::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            Self::Upgrade | Self::Version => {
                headers.insert(header::UPGRADE, WEBSOCKET);
                headers.insert(header::CONNECTION, UPGRADE);
                headers.insert(header::SEC_WEBSOCKET_VERSION, VERSION);
            }
            _ => {}
        }
        headers
    }
}

/// A client's handshake that was found valid (RFC 6455 section 4.2).
///
/// ```
/// use gimmal_http::websocket::ServerHandshake;
/// use gimmal_http::{HeaderMap, HeaderValue, Method, Version};
///
/// let mut request = HeaderMap::new();
/// for (name, value) in [
///     ("host", "example.org"),
///     ("upgrade", "websocket"),
///     ("connection", "Upgrade"),
///     ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
///     ("sec-websocket-version", "13"),
///     ("sec-websocket-protocol", "chat, superchat"),
/// ] {
///     request.insert(name, HeaderValue::from_static(value));
/// }
/// let handshake = ServerHandshake::read(&Method::GET, Version::HTTP_11, &request)?;
/// let accepted = handshake.accept(Some("chat"), None)?;
/// // Answer with 101 and these fields.
/// assert_eq!(accepted.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// # Ok::<(), gimmal_http::websocket::HandshakeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ServerHandshake<'a> {
    headers: &'a HeaderMap,
    key: &'a HeaderValue,
}

/// What a server agrees to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The fields of the 101 response.
    pub headers: HeaderMap,
    /// The compression, for [`Decoder`](super::Decoder) and [`Encoder`](super::Encoder).
    pub deflate: Option<Deflate>,
}

impl<'a> ServerHandshake<'a> {
    /// Checks the request of a client. A body, which it may not have, is the caller's to refuse.
    ///
    /// # Errors
    /// A [`HandshakeError`] with the status to answer with.
    pub fn read(method: &Method, version: Version, headers: &'a HeaderMap) -> Result<Self, HandshakeError> {
        if *method != Method::GET {
            return Err(HandshakeError::Method);
        }
        if version != Version::HTTP_11 {
            return Err(HandshakeError::HttpVersion);
        }
        if !names(headers, &header::UPGRADE, b"websocket") || !names(headers, &header::CONNECTION, b"upgrade")
        {
            return Err(HandshakeError::Upgrade);
        }
        if single(headers, &header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            return Err(HandshakeError::Version);
        }
        let key = single(headers, &header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
        let mut nonce = [0; 18];
        if STANDARD.decode_slice(key, &mut nonce) != Ok(16) {
            return Err(HandshakeError::Key);
        }
        let handshake = Self { headers, key };
        let is_text = |field: &HeaderValue| field.to_str().is_ok();
        if !headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().all(is_text)
            || !handshake.protocols().all(|protocol| protocol.chars().all(is_token))
        {
            return Err(HandshakeError::Protocol);
        }
        check_grammar(headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter())
            .map_err(|_| HandshakeError::Extensions)?;
        Ok(handshake)
    }

    /// The subprotocols that the client offers, the best first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        let fields = self.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let elements = fields.flat_map(|field| field.to_str().unwrap_or_default().split(','));
        elements.map(str::trim_ascii).filter(|protocol| !protocol.is_empty())
    }

    /// Whether the page that opens the connection was served by the same host and port as this handshake asks for, or
    /// there is no page: programs other than browsers send no Origin. Where this is false the page of another site
    /// uses the cookies of its visitor (RFC 6455 section 10.2).
    #[must_use]
    pub fn is_same_origin(&self) -> bool {
        if !self.headers.contains_key(header::ORIGIN) {
            return true;
        }
        let (Some(origin), Some(host)) =
            (single(self.headers, &header::ORIGIN), single(self.headers, &header::HOST))
        else {
            return false;
        };
        let Some((default_port, start)) = target::scheme(origin.as_bytes()) else { return false };
        match (Authority::parse(&origin.as_bytes()[start..]), Authority::parse(host.as_bytes())) {
            (Some(origin), Some(host)) => origin.is_same(&host, default_port),
            _ => false,
        }
    }

    /// Accepts the connection with one of its [`protocols`](Self::protocols) or none, and with compression if the
    /// client offers a kind that fits `deflate`.
    ///
    /// # Errors
    /// [`HandshakeError::ProtocolNotOffered`] for a protocol that is none of them.
    pub fn accept(
        &self,
        protocol: Option<&str>,
        deflate: Option<&DeflateConfig>,
    ) -> Result<Accepted, HandshakeError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, WEBSOCKET);
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_value(self.key));
        if let Some(protocol) = protocol {
            if !self.protocols().any(|offered| offered == protocol) {
                return Err(HandshakeError::ProtocolNotOffered);
            }
            let value = HeaderValue::from_str(protocol).map_err(|_| HandshakeError::Protocol)?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        let offers = self.headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
        let agreed = match deflate {
            Some(config) => Deflate::accept(offers, config).map_err(|_| HandshakeError::Extensions)?,
            None => None,
        };
        let deflate = agreed.map(|(deflate, answer)| {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
            deflate
        });
        Ok(Accepted { headers, deflate })
    }
}

/// The handshake that a client begins (RFC 6455 section 4.1).
///
/// ```
/// use gimmal_http::websocket::ClientHandshake;
///
/// let handshake = ClientHandshake::new(&["chat"], None)?;
/// // Send a GET with a Host and these fields, then give the answer to `confirm`.
/// let headers = handshake.headers();
/// assert_eq!(headers["sec-websocket-protocol"], "chat");
/// assert_eq!(headers["sec-websocket-key"].len(), 24);
/// # Ok::<(), gimmal_http::websocket::HandshakeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    key: HeaderValue,
    protocols: Vec<HeaderValue>,
    deflate: Option<DeflateConfig>,
}

/// What a server agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed {
    /// The subprotocol, one of those that were offered.
    pub protocol: Option<HeaderValue>,
    /// The compression, for [`Decoder`](super::Decoder) and [`Encoder`](super::Encoder).
    pub deflate: Option<Deflate>,
}

impl ClientHandshake {
    /// A handshake with a new key that offers these subprotocols, the best first, and compression.
    ///
    /// # Errors
    /// [`HandshakeError::Protocol`] for a subprotocol that is no token.
    pub fn new(protocols: &[&str], deflate: Option<DeflateConfig>) -> Result<Self, HandshakeError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("the kernel gives random bytes");
        Self::with_nonce(nonce, protocols, deflate)
    }

    fn with_nonce(
        nonce: [u8; 16],
        protocols: &[&str],
        deflate: Option<DeflateConfig>,
    ) -> Result<Self, HandshakeError> {
        let value = |protocol: &&str| match HeaderValue::from_str(protocol) {
            Ok(value) if !protocol.is_empty() && protocol.chars().all(is_token) => Ok(value),
            _ => Err(HandshakeError::Protocol),
        };
        let protocols = protocols.iter().map(value).collect::<Result<_, _>>()?;
        Ok(Self { key: base64_value(&nonce), protocols, deflate })
    }

    /// The fields of the request, but for Host, and Origin if it is a browser's.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, WEBSOCKET);
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
        headers.insert(header::SEC_WEBSOCKET_VERSION, VERSION);
        for protocol in &self.protocols {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        if let Some(config) = &self.deflate {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, Deflate::offer(config));
        }
        headers
    }

    /// Checks the answer of the server.
    ///
    /// # Errors
    /// A [`HandshakeError`] if the server refused, or agreed to what was not offered: then the connection must be
    /// closed.
    pub fn confirm(&self, status: StatusCode, headers: &HeaderMap) -> Result<Confirmed, HandshakeError> {
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(HandshakeError::Status);
        }
        if !names(headers, &header::UPGRADE, b"websocket") || !names(headers, &header::CONNECTION, b"upgrade")
        {
            return Err(HandshakeError::Upgrade);
        }
        if single(headers, &header::SEC_WEBSOCKET_ACCEPT) != Some(&accept_value(&self.key)) {
            return Err(HandshakeError::Accept);
        }
        let protocol = match headers.get(header::SEC_WEBSOCKET_PROTOCOL) {
            None => None,
            Some(_) => {
                let one = single(headers, &header::SEC_WEBSOCKET_PROTOCOL).ok_or(HandshakeError::Protocol)?;
                if !self.protocols.contains(one) {
                    return Err(HandshakeError::ProtocolNotOffered);
                }
                Some(one.clone())
            }
        };
        let answers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
        let deflate = match &self.deflate {
            Some(config) => {
                Deflate::confirm(answers.iter(), config).map_err(|_| HandshakeError::Extensions)?
            }
            None if answers.iter().next().is_some() => return Err(HandshakeError::Extensions),
            None => None,
        };
        Ok(Confirmed { protocol, deflate })
    }
}

/// The value of Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2).
fn accept_value(key: &HeaderValue) -> HeaderValue {
    base64_value(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

fn base64_value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(bytes)).expect("base64 is a field value")
}

/// The value of a field that is given exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// Whether the lists of all fields of this name have `wanted`, whatever its case.
fn names(headers: &HeaderMap, name: &HeaderName, wanted: &[u8]) -> bool {
    let fields = headers.get_all(name).iter();
    fields.flat_map(|field| list(field.as_bytes())).any(|option| option.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6455_1_3_the_example_of_a_key() {
        let handshake = ClientHandshake::with_nonce(*b"the sample nonce", &[], None).unwrap();
        assert_eq!(handshake.headers()[header::SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_value(&handshake.key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
