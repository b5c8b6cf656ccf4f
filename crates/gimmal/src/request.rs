//! Requests, as a handler sees them.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::thread::LocalKey;

use bytes::Bytes;
use gimmal_http::{HeaderAll, Headers, RequestHead, RequestView, TargetForm};
use gimmal_runtime::{Address, ConnectionId};
use gimmal_security::tls::ClientCertificate;
use http::{HeaderMap, Method, Version};

use crate::body::{Body, BodyError, Chunk};
use crate::connection::Connection;
use crate::extensions::Extensions;
use crate::recycled::{Free, Recycle, Recycled};
use crate::router::Endpoint;
use crate::stream::{Stream, TlsInfo};

/// Names one request of this process: its connection, and its number on it.
///
/// As text: `CORE.SLOT.GENERATION-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    connection: Option<ConnectionId>,
    number: u32,
}

impl RequestId {
    pub(crate) fn new(connection: Option<ConnectionId>, number: u32) -> Self {
        Self { connection, number }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connection {
            Some(connection) => write!(f, "{connection}-{}", self.number),
            None => write!(f, "memory-{}", self.number),
        }
    }
}

/// Where a path parameter lies in the path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// What is known of a request from its head.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) parsed: RequestHead,
    /// The bytes in which `parsed` lies.
    pub(crate) bytes: Chunk,
    /// The path with its needless escapes undone, if it has any.
    pub(crate) normalized: Option<String>,
    pub(crate) parameters: Vec<Parameter>,
}

impl Head {
    /// Forgets everything but the storage, also how far a head that never came to its end had come.
    fn clear(&mut self) {
        let Self { parsed, bytes, normalized, parameters } = self;
        parsed.reset();
        *bytes = Chunk::new();
        *normalized = None;
        parameters.clear();
    }

    /// Copies `source` into the storage that this one has; the bytes are shared.
    fn copy_from(&mut self, source: &Self) {
        let Self { parsed, bytes, normalized, parameters } = source;
        self.parsed.clone_from(parsed);
        self.bytes = bytes.clone();
        self.normalized.clone_from(normalized);
        self.parameters.clone_from(parameters);
    }

    pub(crate) fn view(&self) -> RequestView<'_> {
        self.parsed.view(&self.bytes)
    }

    /// The path that routes are matched against.
    pub(crate) fn path(&self) -> &str {
        match &self.normalized {
            Some(path) => path,
            None => self.view().path(),
        }
    }

    pub(crate) fn parameter(&self, index: usize) -> &str {
        let Some(parameter) = self.parameters.get(index) else { return "" };
        let start = parameter.start as usize;
        self.path().get(start..start + parameter.len as usize).unwrap_or_default()
    }
}

/// A request: its head, and its body as it arrives.
///
/// What it returns borrows from the bytes that were received; nothing is copied or allocated for it. It never
/// leaves its core.
pub struct Request(Recycled<Parts>);

/// What a request consists of.
#[derive(Default)]
struct Parts {
    head: Head,
    body: Body,
    extensions: Extensions,
    number: u32,
    /// `None` until the head is complete.
    connection: Option<Rc<Connection>>,
    endpoint: Option<Rc<Endpoint>>,
}

thread_local! {
    static FREE: Free<Parts> = const { RefCell::new(Vec::new()) };
}

impl Recycle for Parts {
    const FREE: &'static LocalKey<Free<Self>> = &FREE;

    fn clear(&mut self) {
        let Self { head, body, extensions, number, connection, endpoint } = self;
        head.clear();
        body.clear();
        *extensions = Extensions::new();
        *number = 0;
        *connection = None;
        *endpoint = None;
    }
}

impl Request {
    /// A place for a request, whose head is to be parsed.
    pub(crate) fn blank() -> Self {
        Self(Recycled::take())
    }

    /// Makes it the request that came last on `connection`, now that its head is complete.
    pub(crate) fn arrive(&mut self, connection: Rc<Connection>, endpoint: Rc<Endpoint>, body: Body) {
        let parts = &mut *self.0;
        parts.body = body;
        parts.number = connection.number();
        parts.connection = Some(connection);
        parts.endpoint = Some(endpoint);
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        self.0.connection.as_ref().expect("a request that is handed out has arrived on a connection")
    }

    /// Its number on its connection, from 1.
    #[cfg(feature = "proxy")]
    pub(crate) fn number(&self) -> u32 {
        self.0.number
    }

    fn endpoint(&self) -> Option<&Rc<Endpoint>> {
        self.0.endpoint.as_ref()
    }

    pub(crate) fn head(&self) -> &Head {
        &self.0.head
    }

    pub(crate) fn head_mut(&mut self) -> &mut Head {
        &mut self.0.head
    }

    fn view(&self) -> RequestView<'_> {
        self.head().view()
    }

    /// Names the request in logs.
    #[must_use]
    pub fn id(&self) -> RequestId {
        RequestId::new(self.connection().id(), self.0.number)
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.view().method()
    }

    /// The version of HTTP that the client speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.view().version()
    }

    /// The request target as it was sent (RFC 9112, section 3.2).
    #[must_use]
    pub fn target(&self) -> &str {
        self.view().target()
    }

    /// The path with its escapes, but for those of characters that need none (RFC 3986, section 6.2.2.2): what
    /// routes are matched against. It begins with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head().path()
    }

    /// The query with its escapes and without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.view().query()
    }

    /// Host and port that the request is for, as the client says (RFC 9110, section 7.2). Do not build links from
    /// it unless it is one of your own names.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.view().authority()
    }

    /// Whether the request is for the server as a whole: `OPTIONS *`.
    #[must_use]
    pub fn is_asterisk(&self) -> bool {
        self.view().form() == TargetForm::Asterisk
    }

    /// The value of the first header field of this name, whatever the case of either; `None` also if it is not
    /// visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.header_bytes(name)?;
        let visible = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        std::str::from_utf8(value).ok().filter(|_| visible)
    }

    /// The value of the first header field of this name.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.view().header(name)
    }

    /// The values of all header fields of this name, in the order in which they came.
    #[must_use]
    pub fn header_all<'a>(&'a self, name: &'a str) -> HeaderAll<'a> {
        self.view().header_all(name)
    }

    /// All header fields, in the order in which they came.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.view().headers()
    }

    /// All header fields as a map of their own. Allocates.
    #[must_use]
    pub fn to_header_map(&self) -> HeaderMap {
        self.view().to_header_map()
    }

    /// The pattern of the route that was taken, such as `/users/{id}`; `None` if none matched.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.endpoint()?.pattern()
    }

    /// A parameter of the path with its escapes; [`Path`](crate::Path) decodes it.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All parameters of the path in order, with their escapes.
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let names = self.endpoint().map_or(&[][..], |endpoint| endpoint.parameter_names());
        let head = self.head();
        names.iter().enumerate().map(move |(index, name)| (&**name, head.parameter(index)))
    }

    /// Moves the request out. It leaves one with the same head, for extractors that follow, and without the body and
    /// the extensions.
    pub(crate) fn take(&mut self) -> Self {
        let mut left = Self::blank();
        let Parts { head, body, extensions: _, number, connection, endpoint } = &mut *left.0;
        head.copy_from(&self.0.head);
        *body = Body::taken();
        *number = self.0.number;
        connection.clone_from(&self.0.connection);
        endpoint.clone_from(&self.0.endpoint);
        std::mem::replace(self, left)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.0.body
    }

    /// The body, to be read in place.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.0.body
    }

    /// Takes the body out. Reading it a second time fails with [`BodyError::Taken`].
    pub fn take_body(&mut self) -> Body {
        std::mem::replace(self.body_mut(), Body::taken())
    }

    /// Bytes that the body may have on this route.
    #[cfg(feature = "compression")]
    pub(crate) fn body_limit(&self) -> u64 {
        let own = self.endpoint().and_then(|endpoint| endpoint.body_limit);
        own.unwrap_or(self.connection().service().config.limits.body_bytes)
    }

    /// All of the body, within the limit of the route.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn bytes(&mut self) -> Result<Bytes, BodyError> {
        self.take_body().collect(u64::MAX).await
    }

    /// Values that travel with the request, from middleware to handlers.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// The same, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.0.extensions
    }

    /// The address of the client, or of the proxy before it. It is asked of the kernel once a connection, when it
    /// is first wanted.
    ///
    /// # Errors
    /// `NotConnected` if the client has gone.
    pub async fn peer_addr(&self) -> io::Result<Address> {
        self.connection().peer_addr().await
    }

    /// What was agreed in the TLS handshake; `None` in plain text.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        self.connection().try_stream()?.tls()
    }

    /// Whether it came over TLS, on this very connection: what a proxy before it says does not count.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.connection().try_stream().is_some_and(Stream::is_tls)
    }

    /// The certificate by which the client has proved itself in the TLS handshake.
    #[must_use]
    pub fn client_certificate(&self) -> Option<Rc<ClientCertificate>> {
        self.connection().try_stream()?.client_certificate()
    }

    /// A value that the app was given with [`App::state`](crate::App::state).
    #[must_use]
    pub fn state<T: 'static>(&self) -> Option<Rc<T>> {
        self.connection().service().state()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &format_args!("{}", self.id()))
            .field("method", self.method())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// The path with the escapes of unreserved characters undone and the digits of others in upper case (RFC 3986, section
/// 6.2.2), so that `/%61` is the route `/a`; `None` if it has none. What else may come either way within a segment, such
/// as `@` and `+`, is undone too: to a file it is the same, and so it must be to the guard in front of it.
pub(crate) fn normalize_path(path: &str) -> Option<String> {
    if !path.contains('%') {
        return None;
    }
    let mut normalized = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let escape = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        normalized.push_str(&rest[..at]);
        match escape {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~|[]!$&'()*+,;=:@".contains(&byte) => {
                normalized.push(char::from(byte));
            }
            // The codec has seen to it that two hexadecimal digits follow.
            _ => normalized.push_str(&rest.get(at..at + 3).unwrap_or(&rest[at..]).to_ascii_uppercase()),
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    normalized.push_str(rest);
    Some(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needless_escapes_are_undone_and_others_stay() {
        assert_eq!(normalize_path("/plain/path"), None);
        assert_eq!(normalize_path("/%61%2D%7e/%2fx%20%c3%A9%7c").as_deref(), Some("/a-~/%2Fx%20%C3%A9|"));
        let within_segments = "%21%24%26%27%28%29%2a%2B%2c%3b%3D%3a%40";
        assert_eq!(normalize_path(within_segments).as_deref(), Some("!$&'()*+,;=:@"));
        assert_eq!(normalize_path("%25%3f%23%2F%5c").as_deref(), Some("%25%3F%23%2F%5C"));
    }
}
