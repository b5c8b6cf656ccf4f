//! Heads of messages from one world to the other.

use gimmal_http::{BodyFraming, Limits, Parsed, encode_request};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, Version, header};

use crate::body::{Body, BoxError};
use crate::error::Error;
use crate::fields;
use crate::request::{Head, Request, normalize_path};
use crate::response::Response;

/// The values that a service or a layer finds in the extensions of its `http::Request`.
///
/// ```
/// use gimmal::{App, Next, Request, Response};
///
/// #[derive(Clone)]
/// struct Tenant(u32);
///
/// async fn tenant(mut request: Request, next: Next) -> Response {
///     gimmal::tower::extensions(&mut request).insert(Tenant(7));
///     next.run(request).await
/// }
/// ```
pub fn extensions(request: &mut Request) -> &mut http::Extensions {
    let all = request.extensions_mut();
    if all.get::<http::Extensions>().is_none() {
        all.insert(http::Extensions::new());
    }
    all.get_mut().expect("it was inserted just now")
}

/// What an error of a service is answered with.
pub(super) fn failure(error: impl Into<BoxError>) -> Error {
    let error: Box<dyn std::error::Error> = error.into();
    Error::status_only(StatusCode::INTERNAL_SERVER_ERROR).with_source(error)
}

/// The head of a request, with this body, as a request of the `http` crate. Its target and its field values share one
/// copy of the bytes that were received.
pub(super) fn to_http<B>(request: &mut Request, body: B) -> Result<http::Request<B>, Error> {
    let head = request.head();
    let bytes = head.bytes.clone().into_bytes();
    let view = head.parsed.view(&bytes);
    let uri = Uri::from_maybe_shared(bytes.slice_ref(view.target().as_bytes())).map_err(|error| {
        Error::new(StatusCode::BAD_REQUEST, "the request target is malformed").with_source(error)
    })?;
    let mut http = http::Request::new(body);
    *http.method_mut() = view.method().clone();
    *http.version_mut() = view.version();
    *http.uri_mut() = uri;
    *http.headers_mut() = fields::to_header_map(view.headers(), &bytes);
    *http.extensions_mut() = request.extensions_mut().remove().unwrap_or_default();
    Ok(http)
}

/// Gives `request` what a layer has made of its header fields and its body. Method, target and route stay.
pub(super) fn update(request: &mut Request, headers: &HeaderMap, body: Body) -> Result<(), Error> {
    if !has_headers(request, headers) {
        let head = request.head();
        let framing = match body.length() {
            Some(0) if head.parsed.framing() == BodyFraming::None => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::Chunked,
        };
        let mut bytes = Vec::with_capacity(head.bytes.len() + 128);
        encode_request(request.method(), request.target(), headers, framing, &mut bytes);
        if request.version() == Version::HTTP_10
            && let Some(end) = bytes.iter().position(|byte| *byte == b'\r')
        {
            bytes[end - 1] = b'0';
        }
        parse_again(request.head_mut(), bytes)?;
    }
    *request.body_mut() = body;
    Ok(())
}

/// Whether a request has these header fields and no others.
fn has_headers(request: &Request, headers: &HeaderMap) -> bool {
    headers.len() == request.headers().len()
        && request.headers().all(|(name, value)| {
            let mut given = headers.get_all(name).iter();
            match (given.next(), given.next()) {
                (Some(only), None) => only.as_bytes() == value,
                (None, _) => false,
                _ => headers.get_all(name).iter().map(HeaderValue::as_bytes).eq(request.header_all(name)),
            }
        })
}

/// The server's limits were kept when the request came; what a layer adds is not the client's.
const NO_LIMITS: Limits = Limits {
    request_line_bytes: usize::MAX,
    headers: usize::MAX,
    header_bytes: usize::MAX,
    body_bytes: u64::MAX,
    chunk_line_bytes: usize::MAX,
    trailer_bytes: usize::MAX,
};

fn parse_again(head: &mut Head, bytes: Vec<u8>) -> Result<(), Error> {
    head.parsed.reset();
    match head.parsed.parse(&bytes, &NO_LIMITS)? {
        Parsed::Complete(_) => head.bytes = bytes.into(),
        Parsed::Partial => return Err(Error::status_only(StatusCode::INTERNAL_SERVER_ERROR)),
    }
    // The parameters of the route are places in the path.
    head.normalized = normalize_path(head.view().path());
    Ok(())
}

/// A request of Gimmal with the head of one of the `http` crate. It has yet to arrive.
pub(super) fn to_request(parts: &mut http::request::Parts, body: &Body) -> Result<Request, Error> {
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    let target = match parts.uri.path_and_query() {
        Some(path) if parts.method != http::Method::CONNECT => path.as_str(),
        _ => authority,
    };
    if !parts.headers.contains_key(header::HOST) {
        // As a test may write it: `/path` and no more.
        let host = if authority.is_empty() { "localhost" } else { authority };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        parts.headers.insert(header::HOST, HeaderValue::from_str(host)?);
    }
    let framing = match body.length() {
        Some(0) => BodyFraming::None,
        Some(length) => BodyFraming::Length(length),
        None => BodyFraming::Chunked,
    };
    let mut bytes = Vec::with_capacity(512);
    encode_request(&parts.method, target, &parts.headers, framing, &mut bytes);
    let mut request = Request::blank();
    let head = request.head_mut();
    match head.parsed.parse(&bytes, &NO_LIMITS) {
        Ok(Parsed::Complete(_)) => {}
        Ok(Parsed::Partial) => return Err(Error::status_only(StatusCode::BAD_REQUEST)),
        Err(error) => return Err(Error::new(error.status(), error.to_string())),
    }
    head.bytes = bytes.into();
    Ok(request)
}

/// The head and the body of a response as one of the `http` crate; what else belongs to it stays behind.
pub(super) fn response_to_http(response: &mut Response) -> http::Response<Body> {
    let body = response.take_body();
    if let Some(media_type) = body.media_type() {
        let field = response.headers_mut().entry(header::CONTENT_TYPE);
        field.or_insert_with(|| media_type.clone());
    }
    let mut http = http::Response::new(body);
    *http.status_mut() = response.status();
    *http.headers_mut() = std::mem::take(response.headers_mut());
    if response.extensions().is_some()
        && let Some(extensions) = response.extensions_mut().remove()
    {
        *http.extensions_mut() = extensions;
    }
    http
}

/// Returns the length to tell of a body that is not there, if a response has none by its nature: that of a HEAD, or a 304.
/// A service says by an empty body nothing of what a GET would have, so the length is not known unless a field tells it
/// (RFC 9110, section 8.6).
pub(super) fn length_of_absent(is_head: bool, parts: &http::response::Parts) -> Option<Option<u64>> {
    let is_absent = is_head || parts.status == StatusCode::NOT_MODIFIED;
    is_absent.then(|| fields::content_length(&parts.headers))
}

/// Puts the head of a response of the `http` crate in place of that of `response`.
pub(super) fn set_head(response: &mut Response, parts: http::response::Parts) {
    response.set_status(parts.status);
    *response.headers_mut() = parts.headers;
    if !parts.extensions.is_empty() {
        response.extensions_mut().insert(parts.extensions);
    }
}
