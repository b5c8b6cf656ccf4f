//! Requests to be sent, and responses that were received, of both test clients.

use bytes::Bytes;
use gimmal_http::{BodyFraming, encode_request};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request of a test, sent by `send`, whose form depends on the client.
#[derive(Debug)]
#[must_use = "it is sent by `send`"]
pub struct TestRequest<C> {
    pub(super) client: C,
    pub(super) method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl<C> TestRequest<C> {
    pub(super) fn new(client: C, method: Method, target: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        Self { client, method, target: target.to_owned(), headers, body: Bytes::new() }
    }

    /// Sets a header field, in place of all of its name.
    ///
    /// # Panics
    /// If name or value is malformed.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header name is a token");
        self.headers.insert(name, value.parse().expect("a header value holds no control characters"));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a value as JSON, with its content type.
    ///
    /// # Panics
    /// If the value cannot be serialised.
    pub fn json(self, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("the value of a test can be serialised");
        self.header("content-type", "application/json").body(body)
    }

    /// Sets the body to the fields of a form, with its content type.
    ///
    /// # Panics
    /// If the value cannot be serialised.
    pub fn form(self, value: &impl Serialize) -> Self {
        let body = serde_html_form::to_string(value).expect("the value of a test can be serialised");
        self.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// The request as it goes over the wire.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let framing = match self.body.len() {
            0 => BodyFraming::None,
            len => BodyFraming::Length(len as u64),
        };
        let mut bytes = Vec::new();
        encode_request(&self.method, &self.target, &self.headers, framing, &mut bytes);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A response with all of its body.
#[derive(Clone, Debug)]
pub struct TestResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl TestResponse {
    /// The status, which compares to a number.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// All header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The value of a header field, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.body
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body from JSON.
    ///
    /// # Panics
    /// If it is not JSON, or does not fit `T`.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).expect("the body is JSON of the type")
    }

    /// The trailer fields, if there are any.
    #[must_use]
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }
}

/// The short names of the methods, on either client.
macro_rules! methods {
    ($client:ident: $($name:ident $method:ident),+) => {
        impl $client {
            $(
                #[doc = concat!("A ", stringify!($method), " request for a target such as `/path?query`.")]
                pub fn $name(&self, target: &str) -> TestRequest<&Self> {
                    self.request(http::Method::$method, target)
                }
            )+

            /// A request of any method for a target such as `/path?query`.
            pub fn request(&self, method: http::Method, target: &str) -> TestRequest<&Self> {
                TestRequest::new(self, method, target)
            }
        }
    };
}

pub(super) use methods;
