//! Response heads, for clients and proxies (RFC 9112 sections 4 and 6).

use http::{HeaderMap, Method, StatusCode, Version};

use crate::error::{HeadError, ResponseError};
use crate::fields::{self, EndSearch, Fields, HeaderAll, Headers, Slots};
use crate::framing::{BodyFraming, FramingFields};
use crate::limits::Limits;
use crate::request::Parsed;

/// The head of a response, as positions in the caller's bytes: what [`RequestHead`](crate::RequestHead) is for
/// requests, and as strict.
///
/// ```
/// use gimmal_http::{BodyFraming, Limits, Method, Parsed, ResponseHeadParser};
///
/// let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
/// let mut head = ResponseHeadParser::new();
/// assert_eq!(head.parse(bytes, &Method::GET, &Limits::default())?, Parsed::Complete(38));
/// assert_eq!((head.status().as_u16(), head.framing()), (200, BodyFraming::Length(5)));
/// # Ok::<(), gimmal_http::ResponseError>(())
/// ```
#[derive(Debug)]
pub struct ResponseHeadParser {
    end: EndSearch,
    version: Version,
    status: StatusCode,
    framing: BodyFraming,
    keep_alive: bool,
    upgrade: bool,
    fields: Fields,
}

impl ResponseHeadParser {
    /// An empty head. Does not allocate.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            end: EndSearch::new(),
            version: Version::HTTP_11,
            status: StatusCode::OK,
            framing: BodyFraming::None,
            keep_alive: false,
            upgrade: false,
            fields: Fields::new(),
        }
    }

    /// Forgets everything but the storage, as [`RequestHead::reset`](crate::RequestHead::reset) does.
    pub fn reset(&mut self) {
        let fields = std::mem::take(&mut self.fields);
        *self = Self { fields, ..Self::new() };
        self.fields.clear();
    }

    /// Parses the head at the start of `bytes`, of a response to a request with the method `request`: the framing
    /// depends on it (RFC 9112 section 6.3). An interim response (1xx) is a head of its own without a body.
    ///
    /// # Errors
    /// A [`ResponseError`] for every response that is malformed, ambiguous or over the limits.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        request: &Method,
        limits: &Limits,
    ) -> Result<Parsed, ResponseError> {
        let parsed = self.advance(bytes, request, limits);
        if parsed != Ok(Parsed::Partial) {
            self.end = EndSearch::new();
        }
        parsed
    }

    fn advance(&mut self, bytes: &[u8], request: &Method, limits: &Limits) -> Result<Parsed, ResponseError> {
        if let [b'\r' | b'\n', ..] = bytes {
            return Err(HeadError::LeadingEmptyLines.into());
        }
        if self.end.is_due(bytes)?
            && let done @ Parsed::Complete(_) = self.parse_whole(bytes, request, limits)?
        {
            return Ok(done);
        }
        fields::check_size(bytes.len(), limits)?;
        self.end.note_partial(bytes, 0)?;
        Ok(Parsed::Partial)
    }

    fn parse_whole(
        &mut self,
        bytes: &[u8],
        request: &Method,
        limits: &Limits,
    ) -> Result<Parsed, ResponseError> {
        let mut slots = Slots::new();
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let len = match config.parse_response_with_uninit_headers(&mut response, bytes, slots.limited(limits))
        {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
            Err(httparse::Error::Version) => return Err(ResponseError::Version),
            Err(httparse::Error::Status) => return Err(ResponseError::StatusLine),
            Err(error) => return Err(fields::field_error(error, bytes).into()),
        };
        fields::check_size(len, limits)?;
        let head = &bytes[..len];
        // Without a field, and with one, the CRLF of the status line is the one that comes first.
        let line_end = memchr::memchr(b'\n', head).unwrap_or_default();
        if !head[..line_end].ends_with(b"\r") {
            return Err(HeadError::LineEnd.into());
        }
        self.fields.fill(response.headers, head)?;
        self.version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        self.status = response
            .code
            .filter(|code| (100..600).contains(code))
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or(ResponseError::StatusLine)?;
        let mut framing = FramingFields::default();
        for header in response.headers.iter() {
            framing.note(header.name.as_bytes(), header.value);
        }
        let given = framing.framing(self.version)?;
        // RFC 9110 section 8.6, RFC 9112 section 6.1: neither may announce a body, and none may be read.
        let announces_body = given.is_some_and(|framing| !framing.is_empty());
        if announces_body && self.status.is_informational() {
            return Err(ResponseError::InterimBody);
        }
        self.framing = if has_no_body(self.status, request) {
            BodyFraming::None
        } else {
            given.unwrap_or(BodyFraming::UntilClose)
        };
        self.keep_alive = framing.keep_alive(self.version)
            && self.framing != BodyFraming::UntilClose
            && !(announces_body && self.status == StatusCode::NO_CONTENT);
        self.upgrade = framing.upgrade(self.version) && self.status == StatusCode::SWITCHING_PROTOCOLS;
        Ok(Parsed::Complete(len))
    }

    /// The response as text and bytes, where `bytes` is what [`parse`](Self::parse) found complete. With other
    /// bytes the answers are empty or without meaning, but nothing panics.
    #[must_use]
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> ResponseView<'a> {
        ResponseView { head: self, bytes }
    }

    /// The status, from 100 to 599.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// [`Version::HTTP_10`] or [`Version::HTTP_11`].
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the body ends.
    #[must_use]
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the connection may be used for another request after the body. Not so after a 204 that announces a
    /// body against the rules: what follows it may be that body, or the next response.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the server switches to the protocol that `Upgrade` names, after 101 (RFC 9110 section 7.8).
    #[must_use]
    pub fn upgrade(&self) -> bool {
        self.upgrade
    }
}

impl Default for ResponseHeadParser {
    fn default() -> Self {
        Self::new()
    }
}

/// RFC 9112 section 6.3, rules 1 and 2.
fn has_no_body(status: StatusCode, request: &Method) -> bool {
    *request == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || (*request == Method::CONNECT && status.is_success())
}

/// A response head together with the bytes in which it lies.
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    head: &'a ResponseHeadParser,
    bytes: &'a [u8],
}

impl<'a> ResponseView<'a> {
    /// See [`ResponseHeadParser::status`].
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// See [`ResponseHeadParser::version`].
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The value of the first field of this name, whatever the case of either.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.head.fields.first(self.bytes, name)
    }

    /// The values of all fields of this name, whatever the case of either.
    #[must_use]
    pub fn header_all(&self, name: &'a str) -> HeaderAll<'a> {
        self.head.fields.all(self.bytes, name)
    }

    /// All fields in the order in which they were received.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.head.fields.iter(self.bytes)
    }

    /// All fields as a map of their own. Allocates.
    #[must_use]
    pub fn to_header_map(&self) -> HeaderMap {
        self.head.fields.to_header_map(self.bytes)
    }
}
