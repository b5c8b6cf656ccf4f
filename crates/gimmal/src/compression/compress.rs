//! The middleware that compresses responses.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use futures_util::stream;
use gimmal_http::{AcceptEncoding, EntityTag};
use gimmal_runtime::{LocalFuture, blocking};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::Coding;
use super::encoder::Encoder;
use crate::body::{Body, BoxError, Chunk};
use crate::error::Error;
use crate::middleware::{Middleware, Next};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Bytes that are compressed on the core itself; more go to a thread for blocking work.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// Middleware that compresses responses with the coding that the client likes best: br, zstd or gzip.
///
/// What is compressed: texts, scripts, JSON, XML, SVG, WebAssembly and what was added, of at least 1 KiB if the length
/// is known. What is not: what has a coding already, a part of a range, and what says `Cache-Control: no-transform`. A
/// response that is made while it is sent goes out as it is made. Large pieces are compressed off the core. A strong
/// `ETag` becomes a weak one, since the bytes are others; a 304 and a 206 have the `ETag` and `Vary` of the 200 to the
/// same request. One that does not tell its media type is taken for compressible.
///
/// # BREACH
/// Where a response holds a secret beside what an attacker may choose, its compressed length tells the secret bit by
/// bit. So what answers a request with `Cookie` or `Authorization`, or sets a cookie, is not compressed, unless it says
/// `Cache-Control: public` and so can hold no secret. [`Compression::despite_breach`] lifts that.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use gimmal::{App, compression::Compression, test::TestClient};
///
/// let app = App::new().get("/", async || "Hello, World! ".repeat(1000)).with(Compression::new());
/// let client = TestClient::new(app).unwrap();
/// let response = client.get("/").header("accept-encoding", "gzip, br;q=0.5").send().await;
/// assert_eq!(response.header("content-encoding"), Some("gzip"));
/// assert!(response.bytes().len() < 200);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Compression {
    bytes_min: u64,
    media_types: Vec<String>,
    despite_breach: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self { bytes_min: 1024, media_types: Vec::new(), despite_breach: false }
    }
}

impl Compression {
    /// Compression as described above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves a response alone that is known to be shorter: 1024 bytes if not set.
    #[must_use]
    pub fn bytes_min(mut self, bytes: u64) -> Self {
        self.bytes_min = bytes;
        self
    }

    /// Compresses this media type as well, which is given without parameters.
    #[must_use]
    pub fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_types.push(media_type.into());
        self
    }

    /// Compresses what answers a request with credentials, too. Only where no response holds a secret and what a client
    /// has sent side by side, or where its secrets are masked anew each time, as those of
    /// [`CsrfTokens`](gimmal_security::csrf::CsrfTokens) are.
    #[must_use]
    pub fn despite_breach(mut self) -> Self {
        self.despite_breach = true;
        self
    }

    /// Whether what a response is of would be compressed for a client that takes it.
    fn is_compressible(&self, headers: &HeaderMap, of: &Selected<'_>) -> bool {
        let is_final =
            of.is_encoded || headers.contains_key("content-digest") || has_directive(headers, "no-transform");
        let is_short = of.length.is_some_and(|length| length < self.bytes_min);
        !is_final && !is_short && of.media_type.is_none_or(|given| self.has_media_type(given))
    }

    fn has_media_type(&self, given: &HeaderValue) -> bool {
        let Ok(given) = given.to_str() else { return false };
        let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        is_text(&essence) || self.media_types.iter().any(|own| own.eq_ignore_ascii_case(&essence))
    }

    /// Whether the length of the response could tell a secret.
    fn may_leak(&self, has_credentials: bool, headers: &HeaderMap) -> bool {
        let is_private = has_credentials && !has_directive(headers, "public");
        !self.despite_breach && (is_private || headers.contains_key(header::SET_COOKIE))
    }
}

/// What is known of the representation that a response is of: all of it, a part, or only that it has not changed.
struct Selected<'a> {
    /// `None` where the response does not say.
    media_type: Option<&'a HeaderValue>,
    length: Option<u64>,
    is_encoded: bool,
    is_whole: bool,
}

impl<'a> Selected<'a> {
    /// `None` for a response that is of none that could be compressed.
    fn of(response: &'a Response) -> Option<Self> {
        let (headers, body, status) = (response.headers(), response.body(), response.status());
        let media_type = headers.get(header::CONTENT_TYPE);
        let is_encoded = headers.contains_key(header::CONTENT_ENCODING);
        #[cfg(feature = "files")]
        if let Some(whole) =
            response.extensions().and_then(|extensions| extensions.get::<crate::files::Whole>())
        {
            let crate::files::Whole { content_type, is_encoded, length } = whole;
            let (media_type, length) = (content_type.as_ref(), Some(*length));
            return Some(Self { media_type, length, is_encoded: *is_encoded, is_whole: false });
        }
        match status {
            StatusCode::NOT_MODIFIED => Some(Self { media_type, length: None, is_encoded, is_whole: false }),
            StatusCode::PARTIAL_CONTENT => {
                let is_of_parts =
                    |given: &&HeaderValue| given.as_bytes().starts_with(b"multipart/byteranges");
                let media_type = media_type.or(body.media_type()).filter(|given| !is_of_parts(given));
                Some(Self { media_type, length: complete_length(headers), is_encoded, is_whole: false })
            }
            StatusCode::NO_CONTENT => None,
            _ if status.is_informational() || headers.contains_key(header::CONTENT_RANGE) => None,
            _ => {
                // Without a media type it is no text.
                let media_type = Some(media_type.or(body.media_type())?);
                Some(Self { media_type, length: body.length(), is_encoded, is_whole: true })
            }
        }
    }
}

/// The length of the whole, as `Content-Range` has it (RFC 9110, section 14.4).
fn complete_length(headers: &HeaderMap) -> Option<u64> {
    let (_, length) = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?;
    length.parse().ok()
}

/// Media types of texts, and of others that shrink as they do.
fn is_text(essence: &str) -> bool {
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence,
            "application/json"
                | "application/javascript"
                | "application/manifest+json"
                | "application/x-ndjson"
                | "application/xml"
                | "application/wasm"
                | "image/bmp"
                | "image/x-icon"
                | "font/otf"
                | "font/ttf"
        )
}

/// Whether `Cache-Control` has a directive (RFC 9111, section 5.2).
fn has_directive(headers: &HeaderMap, directive: &str) -> bool {
    let fields = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|own| own.trim().eq_ignore_ascii_case(directive))
}

impl Middleware for Compression {
    fn handle(self: Rc<Self>, request: Request, next: Next) -> LocalFuture<Response> {
        LocalFuture::new(async move {
            // A tunnel has no content.
            if *request.method() == Method::CONNECT {
                return next.run(request).await;
            }
            let names = Coding::ALL.map(Coding::name);
            let coding = AcceptEncoding::parse(request.header_all("accept-encoding"))
                .best(&names)
                .and_then(Coding::of);
            let has_credentials =
                ["cookie", "authorization"].iter().any(|name| request.header_bytes(name).is_some());
            let mut response = next.run(request).await;
            let Some(selected) = Selected::of(&response) else { return response };
            let headers = response.headers();
            if !self.is_compressible(headers, &selected) || self.may_leak(has_credentials, headers) {
                return response;
            }
            let is_whole = selected.is_whole;
            add_vary(response.headers_mut());
            match coding {
                Some(coding) if is_whole => compress(response, coding).await,
                // RFC 9110, sections 15.3.7 and 15.4.5: the tag is that of the 200 to the same request.
                Some(_) => {
                    weaken_tag(response.headers_mut());
                    response
                }
                None => response,
            }
        })
    }
}

/// What is sent depends on `Accept-Encoding`, whatever it was this time (RFC 9110, section 12.5.5).
fn add_vary(headers: &mut HeaderMap) {
    let fields = headers.get_all(header::VARY).iter().filter_map(|field| field.to_str().ok());
    let mut members = fields.flat_map(|field| field.split(',')).map(str::trim);
    if !members.any(|member| member == "*" || member.eq_ignore_ascii_case("accept-encoding")) {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

async fn compress(mut response: Response, coding: Coding) -> Response {
    let media_type = response.body().media_type();
    let compressed = match response.body().in_memory() {
        Some(_) => all(coding, response.take_body()).await.map(Body::from),
        None => Encoder::new(coding)
            .map(|encoder| streamed(response.take_body(), encoder))
            .map_err(BoxError::from),
    };
    let body = match compressed {
        Ok(body) => body,
        Err(error) => {
            let error: Box<dyn std::error::Error> = error;
            return Error::status_only(StatusCode::INTERNAL_SERVER_ERROR).with_source(error).into_response();
        }
    };
    response.set_body(match media_type {
        Some(media_type) => body.with_media_type(media_type),
        None => body,
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    weaken_tag(headers);
    response
}

/// A compressed response has other bytes than the one that was tagged.
fn weaken_tag(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(header::ETAG).and_then(EntityTag::parse) {
        headers.insert(header::ETAG, tag.to_weak().value().clone());
    }
}

/// Compresses what is in memory.
async fn all(coding: Coding, body: Body) -> Result<Vec<u8>, BoxError> {
    let bytes = body.collect(u64::MAX).await?;
    let is_small = bytes.len() <= INLINE_BYTES_MAX;
    let work = move || -> io::Result<Vec<u8>> {
        let mut encoder = Encoder::new(coding)?;
        let mut compressed = encoder.write(&bytes)?;
        compressed.append(&mut encoder.finish()?);
        Ok(compressed)
    };
    Ok(if is_small { work()? } else { blocking(work).await?? })
}

/// A body that is compressed while it is sent.
struct Streamed {
    body: Body,
    /// `None` once it has given its last byte.
    encoder: Option<Encoder>,
    /// The encoder may hold bytes back.
    unflushed: bool,
    trailers: Rc<RefCell<Option<HeaderMap>>>,
}

fn streamed(body: Body, encoder: Encoder) -> Body {
    let trailers = Rc::new(RefCell::new(None));
    let streamed =
        Streamed { body, encoder: Some(encoder), unflushed: false, trailers: Rc::clone(&trailers) };
    let chunks = stream::try_unfold(streamed, |mut streamed| async move {
        let chunk = streamed.next().await?;
        Ok(chunk.map(|chunk| (chunk, streamed)))
    });
    Body::stream(chunks).with_trailers(move || trailers.take().unwrap_or_default())
}

impl Streamed {
    /// The next piece of the output. What was taken in goes out before more of it is waited for.
    async fn next(&mut self) -> Result<Option<Chunk>, BoxError> {
        loop {
            let Some(encoder) = &mut self.encoder else { return Ok(None) };
            let ready = poll_fn(|cx| Poll::Ready(self.body.poll_chunk(cx))).await;
            let next = match ready {
                Poll::Ready(next) => next,
                Poll::Pending if self.unflushed => {
                    self.unflushed = false;
                    let flushed = encoder.flush()?;
                    if !flushed.is_empty() {
                        return Ok(Some(flushed.into()));
                    }
                    continue;
                }
                Poll::Pending => self.body.chunk().await,
            };
            let output = match next.transpose()? {
                Some(chunk) => {
                    self.unflushed = true;
                    self.write(chunk).await?
                }
                None => {
                    *self.trailers.borrow_mut() = self.body.take_trailers();
                    self.encoder.take().map(Encoder::finish).transpose()?.unwrap_or_default()
                }
            };
            if !output.is_empty() {
                return Ok(Some(output.into()));
            }
        }
    }

    async fn write(&mut self, chunk: Chunk) -> Result<Vec<u8>, BoxError> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(Vec::new()) };
        if chunk.len() <= INLINE_BYTES_MAX {
            let output = encoder.write(&chunk)?;
            self.encoder = Some(encoder);
            return Ok(output);
        }
        let bytes = chunk.into_bytes();
        let work = move || encoder.write(&bytes).map(|output| (output, encoder));
        let (output, encoder) = blocking(work).await??;
        self.encoder = Some(encoder);
        Ok(output)
    }
}
