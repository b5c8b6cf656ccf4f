//! Messages to bytes (RFC 9112). Nothing here can be made to write a line break that its caller did not mean:
//! names and values are checked by their types, and a target is escaped.

use std::ops::Deref;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use crate::characters::{Class, prefix_len};
use crate::date::Date;
use crate::framing::{self, BodyFraming};
use crate::status::push_status_line;
use crate::trailers;

/// What is to be said at the start of a response.
///
/// ```
/// use gimmal_http::{BodyFraming, HeaderMap, HeaderValue, Method, ResponseHead, StatusCode, Version};
///
/// let mut out = Vec::new();
/// let head = ResponseHead {
///     version: Version::HTTP_11,
///     method: &Method::GET,
///     status: StatusCode::OK,
///     headers: &HeaderMap::new(),
///     content_type: Some(&HeaderValue::from_static("text/plain")),
///     body: BodyFraming::Length(5),
///     keep_alive: true,
///     date: None,
/// };
/// assert!(gimmal_http::encode_response(&head, &mut out).keep_alive);
/// assert_eq!(out, b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The version of the request. The response is always HTTP/1.1 (RFC 9110 section 6.2).
    pub version: Version,
    /// The method of the request: the response to a HEAD has the head of a GET and no body, and a tunnel follows the
    /// 2xx to a CONNECT. GET, if the request could not be read.
    pub method: &'a Method,
    /// The status.
    pub status: StatusCode,
    /// The fields. `Transfer-Encoding` is ignored, and so is `Content-Length`, but for a HEAD or 304 whose `body` is
    /// empty: the length that it would have had stands. `Connection: close` closes the connection.
    pub headers: &'a HeaderMap,
    /// The `Content-Type` if `headers` has none.
    pub content_type: Option<&'a HeaderValue>,
    /// How the body will be sent.
    pub body: BodyFraming,
    /// Whether the connection is to stay open.
    pub keep_alive: bool,
    /// The `Date` if `headers` has none.
    pub date: Option<&'a Date>,
}

/// How a response goes on after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Encoded {
    /// How the body must be sent: [`BodyFraming::None`] where the message may have none, and
    /// [`BodyFraming::UntilClose`] in place of chunks for an HTTP/1.0 client.
    pub framing: BodyFraming,
    /// Whether the connection stays open after the body.
    pub keep_alive: bool,
}

/// Appends a response head to `out`. Does not allocate but for growing `out`.
pub fn encode_response(head: &ResponseHead<'_>, out: &mut Vec<u8>) -> Encoded {
    let mut plan = Plan::of(head);
    push_status_line(head.status, out);
    let mut given = Given::default();
    if !head.headers.is_empty() {
        given = push_headers(head, &plan, out);
        plan.keep_alive &= !given.close;
    }
    if let (Some(content_type), false) = (head.content_type, given.content_type) {
        push_field(b"content-type: ", content_type.as_bytes(), out);
    }
    match plan.announced {
        BodyFraming::Length(length) if !given.length => push_length(length, out),
        BodyFraming::Chunked => out.extend_from_slice(CHUNKED),
        BodyFraming::Length(_) | BodyFraming::None | BodyFraming::UntilClose => {}
    }
    if let (Some(date), false) = (head.date, given.date) {
        out.extend_from_slice(date.line());
    }
    if !plan.keep_alive {
        // The connection of a switched protocol or a tunnel is no longer one of HTTP: it says itself when it ends.
        if !plan.hands_over {
            out.extend_from_slice(b"connection: close\r\n");
        }
    } else if head.version == Version::HTTP_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Encoded { framing: plan.sent, keep_alive: plan.keep_alive }
}

const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";

/// What status, version and method make of the body that is asked for.
struct Plan {
    /// What the head says.
    announced: BodyFraming,
    /// What follows the head.
    sent: BodyFraming,
    keep_alive: bool,
    /// Whether a Content-Length of the user stands, for want of a body to count.
    takes_length: bool,
    /// Whether another protocol, or a tunnel, follows the head.
    hands_over: bool,
}

impl Plan {
    fn of(head: &ResponseHead<'_>) -> Self {
        use BodyFraming::{Chunked, Length, None, UntilClose};
        let framing = match head.body {
            // RFC 9112 section 6.1: no transfer coding for a client that may not know it.
            Chunked if head.version != Version::HTTP_11 => UntilClose,
            framing => framing,
        };
        let is_tunnel = *head.method == Method::CONNECT && head.status.is_success();
        let (announced, sent, takes_length) = match head.status {
            // RFC 9110 sections 8.6 and 9.3.6, RFC 9112 section 6.1.
            status if is_tunnel || status.is_informational() || status == StatusCode::NO_CONTENT => {
                (None, None, false)
            }
            // RFC 9110 section 15.4.5: the length is that of the 200, of which an empty body says nothing.
            StatusCode::NOT_MODIFIED => match framing {
                Length(1..) => (framing, None, false),
                _ => (None, None, true),
            },
            // RFC 9110 section 15.3.6.
            StatusCode::RESET_CONTENT => (Length(0), None, false),
            _ if *head.method == Method::HEAD => (framing, None, framing.is_empty()),
            _ if framing == None => (Length(0), None, false),
            _ => (framing, framing, false),
        };
        Self {
            announced,
            sent,
            keep_alive: head.keep_alive && sent != UntilClose,
            takes_length,
            hands_over: is_tunnel || head.status == StatusCode::SWITCHING_PROTOCOLS,
        }
    }
}

/// What was found among the user's fields.
#[derive(Default)]
struct Given {
    content_type: bool,
    date: bool,
    length: bool,
    close: bool,
}

fn push_headers(head: &ResponseHead<'_>, plan: &Plan, out: &mut Vec<u8>) -> Given {
    let mut given = Given::default();
    let mut takes_length = plan.takes_length;
    for (name, value) in head.headers {
        if *name == header::TRANSFER_ENCODING {
            continue;
        }
        if *name == header::CONTENT_LENGTH {
            // The first one alone, and only if it is one.
            let is_number = framing::parse_decimal(value.as_bytes()).is_some();
            if !std::mem::take(&mut takes_length) || !is_number {
                continue;
            }
            given.length = true;
        } else if *name == header::CONNECTION {
            given.close |= push_connection(value.as_bytes(), out);
            continue;
        } else if *name == header::CONTENT_TYPE {
            given.content_type = true;
        } else if *name == header::DATE {
            given.date = true;
        }
        push_header(name, value, out);
    }
    given
}

/// Writes the options of a Connection field, but for those that say whether the connection stays open: these are
/// said once, at the end. Returns whether `close` was one of them.
fn push_connection(value: &[u8], out: &mut Vec<u8>) -> bool {
    let mut close = false;
    let mut others = 0;
    for option in framing::list(value) {
        if option.eq_ignore_ascii_case(b"close") {
            close = true;
        } else if !option.is_empty() && !option.eq_ignore_ascii_case(b"keep-alive") {
            out.extend_from_slice(if others == 0 { b"connection: " } else { b", " });
            out.extend_from_slice(option);
            others += 1;
        }
    }
    if others > 0 {
        out.extend_from_slice(b"\r\n");
    }
    close
}

fn push_header(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn push_field(name_and_colon: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name_and_colon);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn push_length(length: u64, out: &mut Vec<u8>) {
    push_field(b"content-length: ", itoa::Buffer::new().format(length).as_bytes(), out);
}

/// Appends an interim response, such as `100 Continue` (RFC 9110 section 15.2). Fields of framing are left out.
/// A `status` that is not 1xx would end the exchange, so nothing is written for it.
///
/// ```
/// let mut out = Vec::new();
/// gimmal_http::encode_informational(gimmal_http::StatusCode::CONTINUE, &Default::default(), &mut out);
/// assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
/// ```
pub fn encode_informational(status: StatusCode, headers: &HeaderMap, out: &mut Vec<u8>) {
    debug_assert!(status.is_informational(), "an interim response has a status of 1xx");
    if status.is_informational() {
        push_status_line(status, out);
        push_unframed(headers, out);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_unframed(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        if *name != header::TRANSFER_ENCODING && *name != header::CONTENT_LENGTH {
            push_header(name, value, out);
        }
    }
}

/// The size line of a chunk, on the stack. Derefs to its bytes.
#[derive(Clone, Copy, Debug)]
pub struct ChunkPrefix {
    /// Sixteen digits at most, right-aligned, and CRLF.
    line: [u8; 18],
    start: u8,
}

impl Deref for ChunkPrefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.line[usize::from(self.start)..]
    }
}

/// What goes before a chunk of `len` bytes; CRLF goes after it (RFC 9112 section 7.1). A chunk of no bytes would end
/// the body, so nothing at all may be sent for it.
///
/// ```
/// assert_eq!(&*gimmal_http::chunk_prefix(4096), b"1000\r\n");
/// ```
#[must_use]
pub fn chunk_prefix(len: usize) -> ChunkPrefix {
    let mut line = *b"0000000000000000\r\n";
    let (mut start, mut rest) = (16, len);
    loop {
        start -= 1;
        line[start] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return ChunkPrefix { line, start: start as u8 };
        }
    }
}

/// Appends `data` as one chunk; nothing if it is empty, as an empty chunk would end the body.
///
/// ```
/// let mut out = Vec::new();
/// gimmal_http::encode_chunk(b"hello", &mut out);
/// gimmal_http::encode_last_chunk(None, &mut out);
/// assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
/// ```
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        out.extend_from_slice(&chunk_prefix(data.len()));
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the last chunk and the trailer fields. Fields that may not be trailers (RFC 9110 section 6.5.1) are left
/// out.
pub fn encode_last_chunk(trailer_fields: Option<&HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailer_fields.into_iter().flatten() {
        if trailers::is_allowed(name) {
            push_header(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of an HTTP/1.1 request. `headers` must have a `Host`; its `Content-Length` and
/// `Transfer-Encoding` are left out in favour of `framing`, of which [`BodyFraming::UntilClose`] stands for
/// [`BodyFraming::Chunked`], as a request cannot end with the connection. Every byte of `target` that may not stand in
/// a path or query, also a `%` that begins no escape, is written as `%XX`.
///
/// ```
/// use gimmal_http::{BodyFraming, HeaderMap, HeaderValue, Method, encode_request};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("host", HeaderValue::from_static("a"));
/// let mut out = Vec::new();
/// encode_request(&Method::PUT, "/x y", &headers, BodyFraming::Length(3), &mut out);
/// assert_eq!(out, b"PUT /x%20y HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n");
/// ```
pub fn encode_request(
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    framing: BodyFraming,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    push_target(target, out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    push_unframed(headers, out);
    // RFC 9110 section 8.6: a method that usually has a body says so when it has none.
    let expects_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match framing {
        BodyFraming::None if expects_body => push_length(0, out),
        BodyFraming::None => {}
        BodyFraming::Length(length) => push_length(length, out),
        BodyFraming::Chunked | BodyFraming::UntilClose => out.extend_from_slice(CHUNKED),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a target with every byte escaped that may not stand there, and `/` for an empty path.
fn push_target(target: &str, out: &mut Vec<u8>) {
    let mut rest = target.as_bytes();
    if matches!(rest, [] | [b'?', ..]) {
        out.push(b'/');
    }
    let mut class = Class::Path;
    loop {
        let (valid, tail) = rest.split_at(prefix_len(rest, class));
        out.extend_from_slice(valid);
        match tail {
            [] => return,
            [b'?', tail @ ..] => {
                out.push(b'?');
                (class, rest) = (Class::Query, tail);
            }
            [byte, tail @ ..] => {
                let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
                rest = tail;
            }
        }
    }
}
