//! A strict, sans-I/O HTTP/1.0 and HTTP/1.1 codec on [`httparse`].
//!
//! Bytes go in, facts come out; facts go in, bytes come out. Nothing here knows a socket, a task or a clock, and
//! nothing here holds a received byte: a [`RequestHead`] keeps positions only, so the caller's buffer is the one
//! copy of a request.
//!
//! The strict layer refuses every message that two parsers could read in two ways: a bare CR or LF, folded lines,
//! white space before a colon, several or signed lengths, a length next to a transfer coding, a doubled `Host`.
//! A caller answers a [`RequestError`] or a [`BodyError`] with its `status()` and closes the connection.
//!
//! ```
//! use gimmal_http::{Limits, Parsed, RequestHead};
//!
//! let bytes = b"GET /hello?to=you HTTP/1.1\r\nHost: example.org\r\n\r\n";
//! let mut head = RequestHead::new();
//! assert_eq!(head.parse(bytes, &Limits::default())?, Parsed::Complete(bytes.len()));
//! let view = head.view(bytes);
//! assert_eq!((view.path(), view.query()), ("/hello", Some("to=you")));
//! assert_eq!(view.header("host"), Some(&b"example.org"[..]));
//! # Ok::<(), gimmal_http::RequestError>(())
//! ```
//!
//! The module [`multipart`] does the same for forms with files (RFC 7578), and with the feature `websocket` the module
//! `websocket` for RFC 6455 and RFC 7692.
#![forbid(unsafe_code)]

mod accept_encoding;
mod body;
mod characters;
mod chunk_extension;
mod conditional;
mod date;
mod encode;
mod error;
mod fields;
mod framing;
mod host;
mod limits;
pub mod multipart;
mod range;
mod request;
mod response;
mod status;
mod target;
mod trailers;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use accept_encoding::AcceptEncoding;
pub use body::{BodyDecoder, Decoded};
pub use conditional::{EntityTag, Precondition, Validators};
pub use date::Date;
pub use encode::{
    ChunkPrefix, Encoded, ResponseHead, chunk_prefix, encode_chunk, encode_informational, encode_last_chunk,
    encode_request, encode_response,
};
pub use error::{BodyError, HeadError, RequestError, ResponseError};
pub use fields::{HeaderAll, Headers};
pub use framing::BodyFraming;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
pub use limits::Limits;
pub use range::{RANGES_MAX, Ranges, content_range, unsatisfied_range};
pub use request::{Parsed, RequestHead, RequestView};
pub use response::{ResponseHeadParser, ResponseView};
pub use target::TargetForm;
