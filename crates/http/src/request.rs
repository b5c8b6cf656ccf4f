//! Request heads (RFC 9112 sections 2 to 6).

use http::{HeaderMap, Method, Version};

use crate::error::{HeadError, RequestError};
use crate::fields::{self, EndSearch, Fields, HeaderAll, Headers, Slots, Span};
use crate::framing::{BodyFraming, FramingFields};
use crate::host::Authority;
use crate::limits::Limits;
use crate::target::{self, Target, TargetForm};

/// How far the parsing of a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head has not been received in full: call again with the same bytes and more.
    Partial,
    /// The head is complete and this many bytes long; the body, or the next message, follows.
    Complete(usize),
}

/// The head of a request, as positions in the caller's bytes.
///
/// One value serves any number of requests one after the other, and does not allocate once its storage has grown
/// to the number of fields that requests have.
///
/// ```
/// use gimmal_http::{BodyFraming, Limits, Method, Parsed, RequestHead};
///
/// let (mut head, limits) = (RequestHead::new(), Limits::default());
/// let bytes = b"POST /items HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
/// assert_eq!(head.parse(&bytes[..30], &limits)?, Parsed::Partial);
/// assert_eq!(head.parse(bytes, &limits)?, Parsed::Complete(52));
/// assert_eq!(head.method(), Method::POST);
/// assert_eq!(head.framing(), BodyFraming::Length(2));
/// # Ok::<(), gimmal_http::RequestError>(())
/// ```
#[derive(Debug)]
pub struct RequestHead {
    end: EndSearch,
    method: Method,
    version: Version,
    framing: BodyFraming,
    keep_alive: bool,
    expects_continue: bool,
    upgrade: bool,
    form: TargetForm,
    target: Span,
    path: Span,
    query: Option<Span>,
    authority: Option<Span>,
    fields: Fields,
}

impl RequestHead {
    /// An empty head. Does not allocate.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            end: EndSearch::new(),
            method: Method::GET,
            version: Version::HTTP_11,
            framing: BodyFraming::None,
            keep_alive: false,
            expects_continue: false,
            upgrade: false,
            form: TargetForm::Origin,
            target: Span::EMPTY,
            path: Span::EMPTY,
            query: None,
            authority: None,
            fields: Fields::new(),
        }
    }

    /// Forgets everything but the storage. Needed only to give up an incomplete head: after a complete one, or an
    /// error, the next call of [`parse`](Self::parse) begins anew by itself.
    pub fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::new() };
    }

    /// Parses the head at the start of `bytes`. After [`Parsed::Partial`] it wants the same bytes with more after
    /// them; it then looks only for the end of the head in what is new, and parses once more when that is there.
    ///
    /// # Errors
    /// A [`RequestError`] for every request that is malformed, ambiguous, over the limits or not supported. The
    /// connection cannot be used for another request after it.
    pub fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed, RequestError> {
        let parsed = self.advance(bytes, limits);
        if parsed != Ok(Parsed::Partial) {
            self.end = EndSearch::new();
        }
        parsed
    }

    fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed, RequestError> {
        // RFC 9112 section 2.2: a server ignores at least one empty line before the request line. We take one.
        let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
        match bytes[start..] {
            [] | [b'\r'] if start == 0 => return Ok(Parsed::Partial),
            [b'\r', ..] if start == 0 => return Err(HeadError::LineEnd.into()),
            [b'\r' | b'\n', ..] => return Err(HeadError::LeadingEmptyLines.into()),
            _ => {}
        }
        let line_limit = start.saturating_add(limits.request_line_bytes).saturating_add(2);
        if bytes.get(start..line_limit).is_some_and(|line| memchr::memchr(b'\n', line).is_none()) {
            return Err(RequestError::RequestLineTooLong);
        }
        if self.end.is_due(bytes)?
            && let done @ Parsed::Complete(_) = self.parse_whole(bytes, start, limits)?
        {
            return Ok(done);
        }
        fields::check_size(bytes.len(), limits)?;
        self.end.note_partial(bytes, start)?;
        Ok(Parsed::Partial)
    }

    /// Reads the head at `bytes[start..]`, which does not begin with an empty line.
    fn parse_whole(&mut self, bytes: &[u8], start: usize, limits: &Limits) -> Result<Parsed, RequestError> {
        let mut slots = Slots::new();
        let mut request = httparse::Request::new(&mut []);
        let len = match request.parse_with_uninit_headers(&bytes[start..], slots.limited(limits)) {
            Ok(httparse::Status::Complete(len)) => start + len,
            Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
            Err(httparse::Error::Version) => {
                return match later_minor(&bytes[start..]) {
                    Some(at) => self.parse_as_http_11(bytes, start, start + at, limits),
                    None => version_error(&bytes[start..]),
                };
            }
            Err(httparse::Error::Token) => return Err(RequestError::RequestLine),
            Err(error) => return Err(fields::field_error(error, &bytes[start..]).into()),
        };
        fields::check_size(len, limits)?;
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(RequestError::RequestLine);
        };
        // A request line that ends in LF alone is one byte short of where the first field begins.
        let head = &bytes[..len];
        let line_end = Span::of(target.as_bytes(), head).end() + " HTTP/1.1".len();
        if !head[line_end..].starts_with(b"\r\n") {
            return Err(HeadError::LineEnd.into());
        }
        self.fields.fill(request.headers, head)?;
        self.method = parse_method(method)?;
        self.version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        self.read(target.as_bytes(), request.headers, head)?;
        Ok(Parsed::Complete(len))
    }

    /// Reads a head whose minor version, at `minor`, is a later one: as HTTP/1.1, which it is to be served as (RFC 9110
    /// section 2.5). This happens so rarely that the head is copied for it.
    fn parse_as_http_11(
        &mut self,
        bytes: &[u8],
        start: usize,
        minor: usize,
        limits: &Limits,
    ) -> Result<Parsed, RequestError> {
        let longest = limits.header_bytes.saturating_add(1).min(bytes.len()).max(minor + 1);
        let mut copy = bytes[..longest].to_vec();
        copy[minor] = b'1';
        self.parse_whole(&copy, start, limits)
    }

    /// Takes over target and fields, which lie in `head`.
    fn read(
        &mut self,
        target: &[u8],
        headers: &[httparse::Header<'_>],
        head: &[u8],
    ) -> Result<(), RequestError> {
        let parts = Target::parse(target, &self.method)?;
        let mut framing = FramingFields::default();
        let (mut host, mut expects_continue) = (None, false);
        for header in headers {
            let (name, value) = (header.name.as_bytes(), header.value);
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => {
                    if host.replace(value).is_some() {
                        return Err(RequestError::HostRepeated);
                    }
                }
                6 if name.eq_ignore_ascii_case(b"expect") && self.version == Version::HTTP_11 => {
                    // A list, of which empty elements say nothing (RFC 9110 section 5.6.1).
                    let expected = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    for expected in expected.filter(|expected| !expected.is_empty()) {
                        if !expected.eq_ignore_ascii_case(b"100-continue") {
                            return Err(RequestError::Expectation);
                        }
                        expects_continue = true;
                    }
                }
                _ => framing.note(name, value),
            }
        }
        let authority = self.check_host(host, &parts, target)?;
        self.framing = framing.framing(self.version)?.unwrap_or(BodyFraming::None);
        if parts.form == TargetForm::Authority && !self.framing.is_empty() {
            return Err(RequestError::ConnectBody);
        }
        self.keep_alive = framing.keep_alive(self.version);
        // RFC 9110 section 7.8: with a body it is not clear where the new protocol begins, so there is none.
        self.upgrade = framing.upgrade(self.version) && self.framing.is_empty();
        self.expects_continue = expects_continue && !self.framing.is_empty();
        self.form = parts.form;
        self.target = Span::of(target, head);
        self.path = Span::of(parts.path, head);
        self.query = parts.query.map(|query| Span::of(query, head));
        self.authority = authority.map(|authority| Span::of(authority, head));
        Ok(())
    }

    /// The authority that the request is for (RFC 9112 sections 3.2 and 3.3).
    fn check_host<'a>(
        &self,
        host: Option<&'a [u8]>,
        target: &Target<'a>,
        whole_target: &[u8],
    ) -> Result<Option<&'a [u8]>, RequestError> {
        match host {
            None if self.version == Version::HTTP_11 => Err(RequestError::HostMissing),
            None => Ok(target.authority),
            Some(host) => {
                let parsed = Authority::parse(host).ok_or(RequestError::Host)?;
                if target.form == TargetForm::Absolute && !target.is_at(&parsed, whole_target) {
                    return Err(RequestError::HostMismatch);
                }
                Ok(target.authority.or(Some(host)))
            }
        }
    }

    /// The request as text and bytes, where `bytes` is what [`parse`](Self::parse) found complete. With other
    /// bytes the answers are empty or without meaning, but nothing panics.
    #[must_use]
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> RequestView<'a> {
        RequestView { head: self, bytes }
    }

    /// The method: any token of up to 32 bytes but TRACE.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// [`Version::HTTP_10`] or [`Version::HTTP_11`].
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the body ends; never [`BodyFraming::UntilClose`].
    #[must_use]
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the client wants the connection to stay open (RFC 9112 section 9.3).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the client asks for another protocol: HTTP/1.1, without a body, `Upgrade` named in `Connection`
    /// (RFC 9110 section 7.8).
    #[must_use]
    pub fn upgrade(&self) -> bool {
        self.upgrade
    }
}

impl Clone for RequestHead {
    fn clone(&self) -> Self {
        let mut clone = Self::new();
        clone.clone_from(self);
        clone
    }

    /// Copies `source` into the storage that this one has.
    fn clone_from(&mut self, source: &Self) {
        let Self {
            end,
            method,
            version,
            framing,
            keep_alive,
            expects_continue,
            upgrade,
            form,
            target,
            path,
            query,
            authority,
            fields,
        } = source;
        let mut copied = std::mem::take(&mut self.fields);
        copied.copy_from(fields);
        *self = Self {
            end: *end,
            method: method.clone(),
            version: *version,
            framing: *framing,
            keep_alive: *keep_alive,
            expects_continue: *expects_continue,
            upgrade: *upgrade,
            form: *form,
            target: *target,
            path: *path,
            query: *query,
            authority: *authority,
            fields: copied,
        };
    }
}

impl Default for RequestHead {
    fn default() -> Self {
        Self::new()
    }
}

/// A request head together with the bytes in which it lies.
///
/// ```
/// use gimmal_http::{Limits, RequestHead, TargetForm};
///
/// let bytes = b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
/// let mut head = RequestHead::new();
/// head.parse(bytes, &Limits::default())?;
/// let view = head.view(bytes);
/// assert_eq!(view.form(), TargetForm::Absolute);
/// assert_eq!((view.authority(), view.path(), view.query()), (Some("a"), "/b", Some("c")));
/// assert_eq!(view.header("ACCEPT"), Some(&b"*/*"[..]));
/// # Ok::<(), gimmal_http::RequestError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
}

impl<'a> RequestView<'a> {
    /// See [`RequestHead::method`].
    #[must_use]
    pub fn method(&self) -> &'a Method {
        &self.head.method
    }

    /// See [`RequestHead::version`].
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The target as it was sent, in ASCII.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.head.target.text(self.bytes)
    }

    /// The form of the target.
    #[must_use]
    pub fn form(&self) -> TargetForm {
        self.head.form
    }

    /// The scheme of a target in absolute form, in lower case. It ought to be that of the connection (RFC 9110 section
    /// 7.4): see [`RequestError::Misdirected`].
    #[must_use]
    pub fn scheme(&self) -> Option<&'static str> {
        if self.head.form != TargetForm::Absolute {
            return None;
        }
        match target::scheme(self.head.target.bytes(self.bytes))? {
            (443, _) => Some("https"),
            _ => Some("http"),
        }
    }

    /// The path with its escapes: it begins with `/`, or is `*` in asterisk form and empty in authority form.
    #[must_use]
    pub fn path(&self) -> &'a str {
        std::str::from_utf8(self.path_bytes()).unwrap_or_default()
    }

    /// The same as bytes, which take no look at each of them.
    #[must_use]
    pub fn path_bytes(&self) -> &'a [u8] {
        // RFC 9110 section 4.2.3: an empty path of an http URI is the same as `/`.
        if self.head.form == TargetForm::Absolute && self.head.path.is_empty() {
            return b"/";
        }
        self.head.path.bytes(self.bytes)
    }

    /// The query with its escapes and without its `?`; `Some("")` if there is nothing after the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.head.query.map(|query| query.text(self.bytes))
    }

    /// Host and port that the request is for: of the target if it has them, else of Host. `None` only for
    /// HTTP/1.0.
    #[must_use]
    pub fn authority(&self) -> Option<&'a str> {
        self.head.authority.map(|authority| authority.text(self.bytes))
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

/// The longest method that is read. The longest that is registered has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// A method of any name: who routes requests knows which of them there are. TRACE is known, and refused.
fn parse_method(name: &str) -> Result<Method, RequestError> {
    match name {
        "GET" => Ok(Method::GET),
        "TRACE" => Err(RequestError::MethodRefused),
        _ if name.len() > METHOD_BYTES_MAX => Err(RequestError::MethodTooLong),
        _ => Method::from_bytes(name.as_bytes()).map_err(|_| RequestError::RequestLine),
    }
}

/// Where the digit of a minor version later than 1 lies, in a request line that is otherwise one of HTTP/1.
fn later_minor(bytes: &[u8]) -> Option<usize> {
    let line = &bytes[..memchr::memchr(b'\n', bytes)?];
    let (target_end, minor) = (line.len().checked_sub(" HTTP/1.x\r".len())?, line.len() - 2);
    let is_later = line[target_end..].starts_with(b" HTTP/1.") && matches!(line[minor], b'2'..=b'9');
    // The parser has stopped at the version, so it is the third part.
    let has_three_parts = line.iter().filter(|byte| **byte == b' ').count() == 2;
    (is_later && line.ends_with(b"\r") && has_three_parts).then_some(minor)
}

/// A version that the parser did not take: 505 if it is one of HTTP, 400 if it is none, and no error yet if it is
/// not there in full, so that the answer does not depend on how the bytes were cut.
fn version_error(bytes: &[u8]) -> Result<Parsed, RequestError> {
    let line = memchr::memchr(b'\n', bytes).map_or(bytes, |end| &bytes[..end]);
    let version = line.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    let pattern = b"HTTP/d.d\r";
    let fits =
        |(byte, wanted): (&u8, &u8)| if *wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted };
    if version.len() > pattern.len() || !version.iter().zip(pattern).all(fits) {
        return Err(RequestError::RequestLine);
    }
    let is_whole = line.len() < bytes.len();
    match version {
        // A later minor version is known as one by the end of its line.
        _ if !is_whole && (version.len() < pattern.len() || version.starts_with(b"HTTP/1.")) => {
            Ok(Parsed::Partial)
        }
        _ if version.len() < pattern.len() => Err(HeadError::LineEnd.into()),
        _ => Err(RequestError::Version),
    }
}
