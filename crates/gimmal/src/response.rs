//! Responses, and all that turns into one.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::rc::Rc;
use std::sync::LazyLock;
use std::thread::LocalKey;

use bytes::Bytes;
use gimmal_security::redirect::RedirectTargets;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::body::{Body, BodyError, Chunk};
use crate::error::Error;
use crate::extensions::Extensions;
use crate::recycled::{Free, Recycle, Recycled};
use crate::upgrade::Upgrade;

/// A response: status, header fields and body.
///
/// ```
/// use gimmal::{Response, StatusCode};
///
/// let response = Response::new("made").with_status(StatusCode::CREATED);
/// assert_eq!(response.status(), 201);
/// ```
#[derive(Debug, Default)]
pub struct Response(Recycled<Parts>);

/// What a response consists of.
#[derive(Debug, Default)]
struct Parts {
    status: StatusCode,
    /// Shared with other responses until they are changed.
    headers: Option<Rc<HeaderMap>>,
    body: Body,
    extra: Option<Box<Extra>>,
}

thread_local! {
    static FREE: Free<Parts> = const { RefCell::new(Vec::new()) };
}

impl Recycle for Parts {
    const FREE: &'static LocalKey<Free<Self>> = &FREE;

    fn clear(&mut self) {
        let Self { status, headers, body, extra } = self;
        *status = StatusCode::OK;
        *headers = None;
        body.clear();
        *extra = None;
    }
}

/// The fields of a response that has none.
static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

/// What few responses have.
#[derive(Debug, Default)]
struct Extra {
    extensions: Extensions,
    error: Option<Box<dyn StdError>>,
    upgrade: Option<Upgrade>,
}

impl Response {
    /// A 200 with this body.
    #[must_use]
    pub fn new(body: impl Into<Body>) -> Self {
        let mut response = Self::default();
        response.set_body(body);
        response
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Sets the status.
    pub fn set_status(&mut self, status: StatusCode) {
        self.0.status = status;
    }

    /// Sets the status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// The header fields. `Date`, `Content-Length`, `Transfer-Encoding` and `Connection` are the server's to add.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers.as_deref().unwrap_or_else(|| &NO_HEADERS)
    }

    /// The header fields, to be changed. A value can never hold a line break: [`HeaderValue`] refuses it.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        Rc::make_mut(self.0.headers.get_or_insert_default())
    }

    /// Sets the header fields to those that other responses have as well.
    #[cfg(feature = "files")]
    pub(crate) fn with_shared_headers(mut self, headers: &Rc<HeaderMap>) -> Self {
        self.0.headers = Some(Rc::clone(headers));
        self
    }

    /// Sets a header field, in place of all of its name.
    ///
    /// ```
    /// use gimmal::{HeaderValue, Response, header};
    /// let response = Response::new("a,b").with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/csv"));
    /// ```
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers_mut().insert(name, value);
        self
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.0.body
    }

    /// Replaces the body.
    pub fn set_body(&mut self, body: impl Into<Body>) {
        self.0.body = body.into();
    }

    /// Takes the body out, leaving an empty one.
    pub fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.0.body)
    }

    /// Values that travel with the response, from a handler to the middleware around it.
    #[must_use]
    pub fn extensions(&self) -> Option<&Extensions> {
        self.0.extra.as_ref().map(|extra| &extra.extensions)
    }

    /// The same, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.0.extra.get_or_insert_default().extensions
    }

    /// What the handler failed with, for the log.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.extra.as_ref()?.error.as_deref()
    }

    /// Sets what is logged as the cause of this response.
    #[must_use]
    pub fn with_error(mut self, error: impl Into<Box<dyn StdError>>) -> Self {
        self.0.extra.get_or_insert_default().error = Some(error.into());
        self
    }

    pub(crate) fn set_upgrade(&mut self, upgrade: Upgrade) {
        self.0.extra.get_or_insert_default().upgrade = Some(upgrade);
    }

    pub(crate) fn take_upgrade(&mut self) -> Option<Upgrade> {
        self.0.extra.as_mut()?.upgrade.take()
    }
}

/// Whatever a handler may return.
///
/// ```
/// use gimmal::{IntoResponse, Response, StatusCode};
///
/// enum Outcome { Made, Known }
/// impl IntoResponse for Outcome {
///     fn into_response(self) -> Response {
///         match self {
///             Self::Made => StatusCode::CREATED.into_response(),
///             Self::Known => (StatusCode::CONFLICT, "it is there already").into_response(),
///         }
///     }
/// }
/// ```
pub trait IntoResponse {
    /// Makes the response.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for StatusCode {
    /// The status, with its reason as the body where there may be one.
    fn into_response(self) -> Response {
        let body = match self.canonical_reason() {
            Some(reason) if self.is_client_error() || self.is_server_error() => Body::from(reason),
            _ => Body::empty(),
        };
        Response::new(body).with_status(self)
    }
}

/// Whatever turns into a body is a response of 200.
macro_rules! bodies {
    ($($type:ty),+) => {
        $(impl IntoResponse for $type {
            fn into_response(self) -> Response {
                Response::new(self)
            }
        })+
    };
}

bodies!((), &'static str, String, &'static [u8], Vec<u8>, Bytes, Chunk, Body);

impl IntoResponse for Infallible {
    fn into_response(self) -> Response {
        match self {}
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

/// `None` is a 404.
impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        match self {
            Some(value) => value.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

/// The fields replace those of the same name.
impl<T: IntoResponse> IntoResponse for (HeaderMap, T) {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        let headers = response.headers_mut();
        // A field that comes several times stays so: only what was there before it is replaced.
        for name in self.0.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.0 {
            headers.append(name, value.clone());
        }
        response
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, HeaderMap, T) {
    fn into_response(self) -> Response {
        (self.1, self.2).into_response().with_status(self.0)
    }
}

impl<T: IntoResponse, const N: usize> IntoResponse for ([(HeaderName, HeaderValue); N], T) {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        for (name, value) in self.0 {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl<T: IntoResponse, const N: usize> IntoResponse for (StatusCode, [(HeaderName, HeaderValue); N], T) {
    fn into_response(self) -> Response {
        (self.1, self.2).into_response().with_status(self.0)
    }
}

/// A value as JSON: as a response `application/json`, and as an extractor what was sent so.
///
/// ```
/// use gimmal::{App, Json};
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Point { x: i32, y: i32 }
///
/// async fn mirror(Json(point): Json<Point>) -> Json<Point> {
///     Json(Point { x: point.y, y: point.x })
/// }
/// let app = App::new().post("/mirror", mirror);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(
    /// The value.
    pub T,
);

/// The media type of JSON.
pub(crate) static JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of the fields of a form.
pub(crate) static FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
static HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Bytes that most JSON responses fit in.
const JSON_BYTES: usize = 256;

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut bytes = Vec::with_capacity(JSON_BYTES);
        match serde_json::to_writer(&mut bytes, &self.0) {
            Ok(()) => Response::new(Body::from(bytes).with_media_type(&JSON)),
            Err(error) => Error::from(error).into_response(),
        }
    }
}

/// A text that is an HTML document. Escape what comes from outside: a template engine does it for you.
///
/// ```
/// use gimmal::{Html, IntoResponse};
/// let response = Html("<!doctype html><title>hello</title>").into_response();
/// assert_eq!(response.body().media_type().unwrap(), "text/html; charset=utf-8");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Html<T>(
    /// The document.
    pub T,
);

impl<T: Into<Body>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        Response::new(self.0.into().with_media_type(&HTML))
    }
}

/// Sends the client elsewhere (RFC 9110, section 15.4).
///
/// Never redirect to what a client sent without a check, which [`local`](Self::local) makes: it is how phishing borrows
/// a good name.
///
/// ```
/// use gimmal::{IntoResponse, Redirect};
/// assert_eq!(Redirect::see_other("/items/7").into_response().status(), 303);
/// ```
#[derive(Clone, Debug)]
pub struct Redirect {
    status: StatusCode,
    location: String,
}

impl Redirect {
    /// 303: GET it from there, as after a form was sent.
    pub fn see_other(location: impl Into<String>) -> Self {
        Self { status: StatusCode::SEE_OTHER, location: location.into() }
    }

    /// 303 to a target that came with the request, as `?next=/account`, if it is a path on this host.
    ///
    /// # Errors
    /// 400 for what leads elsewhere, or what a browser could read so: `//evil.example`, `/\\evil.example`.
    ///
    /// ```
    /// use gimmal::{Error, Query, Redirect};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Next { next: String }
    ///
    /// async fn logged_in(Query(query): Query<Next>) -> Result<Redirect, Error> {
    ///     Redirect::local(&query.next)
    /// }
    /// ```
    pub fn local(target: &str) -> Result<Self, Error> {
        Self::within(&RedirectTargets::new(), target)
    }

    /// [`local`](Self::local), or to one of the origins that `targets` lists.
    ///
    /// # Errors
    /// As `local`.
    pub fn within(targets: &RedirectTargets, target: &str) -> Result<Self, Error> {
        match targets.location(target) {
            Ok(_) => Ok(Self::see_other(target)),
            Err(refused) => Err(Error::new(StatusCode::BAD_REQUEST, refused.to_string())),
        }
    }

    /// 307: send the same request there, this time.
    pub fn temporary(location: impl Into<String>) -> Self {
        Self { status: StatusCode::TEMPORARY_REDIRECT, location: location.into() }
    }

    /// 308: send the same request there, from now on.
    pub fn permanent(location: impl Into<String>) -> Self {
        Self { status: StatusCode::PERMANENT_REDIRECT, location: location.into() }
    }
}

impl IntoResponse for Redirect {
    fn into_response(self) -> Response {
        match HeaderValue::try_from(self.location) {
            Ok(location) => {
                Response::default().with_status(self.status).with_header(header::LOCATION, location)
            }
            Err(error) => Error::from(error).into_response(),
        }
    }
}
