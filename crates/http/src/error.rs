//! Why a message was refused. No text here repeats what the peer sent, so all of it may be shown to the peer.

use http::StatusCode;
use thiserror::Error;

/// What is wrong with the fields of a head, of a request as of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The head is longer than [`Limits::header_bytes`](crate::Limits::header_bytes).
    #[error("the message head is too large: send fewer or shorter header fields")]
    TooLarge,
    /// More fields than [`Limits::headers`](crate::Limits::headers).
    #[error("too many header fields: send fewer")]
    TooManyHeaders,
    /// An empty line where none may be (RFC 9112 section 2.2).
    #[error("empty lines before the message: at most one CRLF may come before a request")]
    LeadingEmptyLines,
    /// A line that ends in a bare LF, or a CR that is not followed by LF (RFC 9112 section 2.2).
    #[error("a line does not end in CRLF")]
    LineEnd,
    /// A field line that begins with white space (RFC 9112 sections 2.2 and 5.2).
    #[error("a header field is folded over several lines: send it on one line")]
    ObsFold,
    /// A name that is no token, or white space between name and colon (RFC 9112 section 5.1).
    #[error("a header field name is not a token directly followed by a colon")]
    HeaderName,
    /// A control character in a value (RFC 9110 section 5.5).
    #[error("a header field value holds a forbidden character")]
    HeaderValue,
    /// A Content-Length that is no plain decimal number, or does not fit 64 bits (RFC 9112 section 6.3).
    #[error("Content-Length is not a plain decimal number")]
    ContentLength,
    /// More than one Content-Length, equal or not (RFC 9112 section 6.3).
    #[error("Content-Length is given more than once")]
    ContentLengthRepeated,
    /// Content-Length next to Transfer-Encoding (RFC 9112 section 6.1).
    #[error("Content-Length and Transfer-Encoding are both given: send one of them")]
    LengthAndCoding,
    /// A Transfer-Encoding that does not end in a single `chunked` (RFC 9112 section 6.3).
    #[error("Transfer-Encoding is not chunked")]
    TransferEncoding,
    /// A coding other than `chunked` (RFC 9112 section 6.1).
    #[error("a transfer coding other than chunked is not supported")]
    TransferCodingUnknown,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1).
    #[error("Transfer-Encoding is not part of HTTP/1.0")]
    TransferEncodingVersion,
}

impl HeadError {
    /// The status that answers a request with this fault: 400, 431, or 501 for an unknown transfer coding.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TransferCodingUnknown => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Why a request head was refused. Answer with [`status`](Self::status) and close the connection: where the
/// next request begins is not known.
///
/// ```
/// use gimmal_http::{Limits, RequestHead};
///
/// let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n";
/// let error = RequestHead::new().parse(bytes, &Limits::default()).unwrap_err();
/// assert_eq!(error.status(), 400);
/// assert_eq!(error.to_string(), "Content-Length is not a plain decimal number");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The header fields are at fault.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Not `method SP target SP version CRLF` (RFC 9112 section 3).
    #[error("the request line is malformed")]
    RequestLine,
    /// Longer than [`Limits::request_line_bytes`](crate::Limits::request_line_bytes).
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// A method longer than 32 bytes (RFC 9112 section 3).
    #[error("the request method is too long to be one that is implemented")]
    MethodTooLong,
    /// TRACE, which shows a client's own secrets to scripts (RFC 9110 section 9.3.8).
    #[error("the request method TRACE is not implemented")]
    MethodRefused,
    /// A version other than 1.x (RFC 9110 section 2.5).
    #[error("the HTTP version is not supported: use HTTP/1.1")]
    Version,
    /// A target of no form that fits the method, or with a forbidden character or a bad `%` escape (RFC 9112
    /// section 3.2).
    #[error("the request target is malformed")]
    Target,
    /// No Host in an HTTP/1.1 request (RFC 9112 section 3.2).
    #[error("the Host header field is missing")]
    HostMissing,
    /// More than one Host (RFC 9112 section 3.2).
    #[error("the Host header field is given more than once")]
    HostRepeated,
    /// A Host that is not `host [":" port]` (RFC 9110 section 7.2).
    #[error("the Host header field is malformed")]
    Host,
    /// An absolute target of another scheme than the connection's (RFC 9110 section 7.4): `https` in plain text, or
    /// `http` over TLS. The codec leaves this to its caller.
    #[error("the scheme of the request target is not that of the connection")]
    Misdirected,
    /// An absolute target that names another authority than Host.
    #[error("the Host header field does not match the request target")]
    HostMismatch,
    /// An Expect other than `100-continue` (RFC 9110 section 10.1.1).
    #[error("the expectation cannot be met: only 100-continue is supported")]
    Expectation,
    /// A CONNECT with a body, which another server could take for the start of the tunnel (RFC 9110 section 9.3.6).
    #[error("a CONNECT request has no body: send the data after the answer")]
    ConnectBody,
}

impl RequestError {
    /// The status to answer with, just before the connection is closed.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Head(error) => error.status(),
            Self::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            // RFC 9110 section 15.6.2: no resource of this server supports it. A 405 would have to say what this one
            // supports instead, which the codec does not know.
            Self::MethodTooLong | Self::MethodRefused => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Why a response head was refused. The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The header fields are at fault.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Not `version SP status [SP reason] CRLF` with a status from 100 to 599 (RFC 9112 section 4).
    #[error("the status line is malformed")]
    StatusLine,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("the HTTP version of the response is not supported")]
    Version,
    /// A 1xx response that announces a body, which another client could take for the next response (RFC 9110
    /// section 15.2).
    #[error("an interim response announces a body")]
    InterimBody,
}

/// Why a body was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Longer than [`Limits::body_bytes`](crate::Limits::body_bytes).
    #[error("the body is too large")]
    TooLarge,
    /// A chunk size that is empty, no plain hexadecimal number, or does not fit 64 bits (RFC 9112 section 7.1).
    #[error("a chunk size is not a plain hexadecimal number")]
    ChunkSize,
    /// A size line longer than [`Limits::chunk_line_bytes`](crate::Limits::chunk_line_bytes), or too many
    /// extensions in all.
    #[error("a chunk-size line is too long")]
    ChunkLineTooLong,
    /// A chunk extension that is not `; name [= value]` (RFC 9112 section 7.1.1).
    #[error("a chunk extension is malformed")]
    ChunkExtension,
    /// A size line, the data of a chunk, or a trailer line that does not end in CRLF.
    #[error("a chunk does not end in CRLF")]
    LineEnd,
    /// A malformed trailer field (RFC 9112 section 7.1.2).
    #[error("a trailer field is malformed")]
    Trailer,
    /// More than [`Limits::trailer_bytes`](crate::Limits::trailer_bytes) or
    /// [`Limits::headers`](crate::Limits::headers) allow.
    #[error("the trailer section is too large")]
    TrailerTooLarge,
    /// The connection ended before the body did (RFC 9112 section 8).
    #[error("the connection ended before the body")]
    Incomplete,
}

impl BodyError {
    /// The status to answer with, just before the connection is closed: 400, 413 or 431.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TrailerTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
