//! Message bodies: nothing, bytes, a stream, or what is still arriving from the peer.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use gimmal_runtime::PinnedBytes;
use gimmal_security::decompression::DecompressionRefused;
use http::{HeaderMap, HeaderValue, StatusCode};

#[cfg(feature = "files")]
use crate::file_body::FileBody;

/// Any error, as a stream of the user's may yield it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The media type of text bodies.
static TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// The media type of bodies of raw bytes.
static OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A piece of a body, as it came or as it goes. It may lie in a buffer that the kernel filled, so hold it no
/// longer than needed, or take it out with [`PinnedBytes::into_bytes`].
///
/// ```
/// let chunk = gimmal::Chunk::from("piece");
/// assert_eq!(&chunk[..], b"piece");
/// ```
pub type Chunk = PinnedBytes;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than the route allows.
    #[error("the body is longer than the {limit} bytes that this route accepts")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The peer closed the connection before the end of the body.
    #[error("the connection closed before the body was complete")]
    Incomplete,
    /// The framing of the body breaks RFC 9112, section 7.1.
    #[error("the body is malformed: {0}")]
    Malformed(#[source] gimmal_http::BodyError),
    /// The body is not what its `Content-Encoding` says (RFC 9110, section 8.4).
    #[error("the body is not what its content coding says")]
    Coding,
    /// It unpacks to more than is allowed.
    #[error(transparent)]
    Unpacked(DecompressionRefused),
    /// The body came slower than the server's minimum rate.
    #[error("the body came too slowly")]
    TimedOut,
    /// An extractor or a handler has already taken the body.
    #[error("the body was taken before")]
    Taken,
    /// A stream of the server's own failed.
    #[error("the stream of the body failed: {0}")]
    Stream(#[source] BoxError),
    /// It is the body of a response that another server gave to this one's client.
    #[error("the response of another server failed: {0}")]
    Response(#[from] ResponseBodyError),
}

/// Explains why the body of another server's response could not be read to its end.
///
/// It is no fault of whoever asked this server: a handler that fails with it answers 502 or 504.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseBodyError {
    /// It is longer than was allowed, by `ClientOptions::limits` or by the call that read it.
    #[error("its body is longer than the {limit} bytes that are read of it")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The server closed the connection before the end of the body.
    #[error("the connection closed before its body was complete")]
    Incomplete,
    /// The framing of the body breaks RFC 9112, section 7.1.
    #[error("its body is malformed: {0}")]
    Malformed(#[source] gimmal_http::BodyError),
    /// The server sent nothing for longer than the options allow.
    #[error("its body came too slowly")]
    TimedOut,
    /// It is not JSON, or not of the form that was asked for.
    #[error("its body is not the JSON that was expected: {0}")]
    Json(#[source] serde_json::Error),
}

impl ResponseBodyError {
    /// Returns the status that answers it: 504 after a time-out, else 502.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLarge { .. } | Self::Incomplete | Self::Malformed(_) | Self::Json(_) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }
}

impl BodyError {
    /// Returns the status that answers it.
    ///
    /// | Whose fault | Status |
    /// | --- | --- |
    /// | the client's | 413 for a body that is too long, 408 for one that is too slow, else 400 |
    /// | another server's, of which the body is a response | 504 for one that is too slow, else 502 |
    /// | this server's | 500 |
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } | Self::Unpacked(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Incomplete | Self::Coding => StatusCode::BAD_REQUEST,
            Self::Malformed(error) => error.status(),
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Taken | Self::Stream(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Response(error) => error.status(),
        }
    }
}

/// A source of chunks behind a shared pointer: how a connection gives its request body to a handler while it
/// goes on driving it, and how a proxy passes a body with its trailers on.
pub trait Incoming {
    /// The next chunk; `None` at the end, and again at every later call.
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>>;

    /// The length of the whole body in bytes, where its framing tells.
    fn length(&self) -> Option<u64>;

    /// The trailer section that came after the last chunk (RFC 9110, section 6.5), once.
    fn take_trailers(&self) -> Option<HeaderMap>;
}

/// The body of a request or a response.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), gimmal::BodyError> {
/// let body = gimmal::Body::from("Hello");
/// assert_eq!(body.length(), Some(5));
/// assert_eq!(body.collect(1024).await?, "Hello");
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct Body {
    source: Source,
    media_type: Option<&'static HeaderValue>,
    extra: Option<Box<Extra>>,
}

/// What few bodies have.
#[derive(Default)]
struct Extra {
    limit: Option<Limit>,
    trailers: Option<Box<dyn FnOnce() -> HeaderMap>>,
    /// It came from a server that was asked: if it is too long, that is no fault of this server's client.
    is_response: bool,
}

impl Extra {
    /// Whether it changes nothing of what is read.
    fn is_plain(&self) -> bool {
        self.limit.is_none() && self.trailers.is_none()
    }
}

#[derive(Default)]
enum Source {
    #[default]
    Empty,
    Chunk(Chunk),
    Stream {
        chunks: Pin<Box<dyn Stream<Item = Result<Chunk, BoxError>>>>,
        /// What is left of it, if that is known.
        left: Option<u64>,
    },
    Incoming(Rc<dyn Incoming>),
    #[cfg(feature = "files")]
    File(Box<FileBody>),
    Taken,
}

#[derive(Clone, Copy)]
struct Limit {
    limit: u64,
    left: u64,
}

impl Body {
    /// A body of no bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self::from_source(Source::Empty)
    }

    /// A body that is made while it is sent. It need not be `Send`. An error ends the connection: the client
    /// sees a body that is cut off, never one that seems complete.
    ///
    /// ```
    /// # use gimmal::{Body, Chunk};
    /// let chunks = ["one", "two"].map(|text| Ok(Chunk::from(text)));
    /// let body = Body::stream(futures_util::stream::iter(chunks));
    /// assert_eq!(body.length(), None);
    /// ```
    pub fn stream(chunks: impl Stream<Item = Result<Chunk, BoxError>> + 'static) -> Self {
        Self::of(Source::Stream { chunks: Box::pin(chunks), left: None }, &OCTETS)
    }

    /// A body that is made while it is sent, and whose length in bytes is known. If the chunks have another length
    /// together, the connection is ended.
    pub fn sized(length: u64, chunks: impl Stream<Item = Result<Chunk, BoxError>> + 'static) -> Self {
        Self::of(Source::Stream { chunks: Box::pin(chunks), left: Some(length) }, &OCTETS)
    }

    /// A body that comes from a connection, with its trailers.
    #[must_use]
    pub fn incoming(incoming: Rc<dyn Incoming>) -> Self {
        Self::from_source(Source::Incoming(incoming))
    }

    /// A body that is not there, of which the length is told all the same, or that it is not known: that of a response
    /// to HEAD, or of a 304 (RFC 9110, section 8.6).
    #[cfg(any(feature = "proxy", feature = "tower"))]
    pub(crate) fn announced(length: Option<u64>) -> Self {
        struct Announced(Option<u64>);

        impl Incoming for Announced {
            fn poll_chunk(&self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
                Poll::Ready(None)
            }

            fn length(&self) -> Option<u64> {
                self.0
            }

            fn take_trailers(&self) -> Option<HeaderMap> {
                None
            }
        }

        Self::incoming(Rc::new(Announced(length)))
    }

    /// Notes that it came from a server that was asked.
    pub(crate) fn mark_response(&mut self) {
        self.extra.get_or_insert_default().is_response = true;
    }

    fn too_large(&self, limit: u64) -> BodyError {
        if self.extra.as_ref().is_some_and(|extra| extra.is_response) {
            ResponseBodyError::TooLarge { limit }.into()
        } else {
            BodyError::TooLarge { limit }
        }
    }

    /// A body that is a part of a file, which need not be read where the kernel can send it by itself.
    #[cfg(feature = "files")]
    pub(crate) fn file(file: FileBody) -> Self {
        Self::of(if file.len() == 0 { Source::Empty } else { Source::File(Box::new(file)) }, &OCTETS)
    }

    /// What is left of the file, if that is all that the body is.
    #[cfg(feature = "files")]
    pub(crate) fn as_file(&mut self) -> Option<&mut FileBody> {
        match &mut self.source {
            Source::File(file) if self.extra.is_none() => Some(file),
            _ => None,
        }
    }

    /// Lets go of all that it holds.
    #[inline]
    pub(crate) fn clear(&mut self) {
        // Most are empty, and then there is nothing to drop.
        if matches!(self.source, Source::Empty) && self.extra.is_none() {
            self.media_type = None;
        } else {
            *self = Self::empty();
        }
    }

    pub(crate) fn taken() -> Self {
        Self::from_source(Source::Taken)
    }

    const fn from_source(source: Source) -> Self {
        Self { source, media_type: None, extra: None }
    }

    /// Without a media type, as a body that was received.
    pub(crate) fn untyped(mut self) -> Self {
        self.media_type = None;
        self
    }

    fn of(source: Source, media_type: &'static HeaderValue) -> Self {
        Self { media_type: Some(media_type), ..Self::from_source(source) }
    }

    /// Sets what makes the trailer section (RFC 9110, section 6.5), called after the last chunk. It is sent only
    /// where the message is framed in chunks.
    ///
    /// ```
    /// # use gimmal::{Body, Chunk};
    /// let chunks = ["one", "two"].map(|text| Ok(Chunk::from(text)));
    /// let body = Body::stream(futures_util::stream::iter(chunks))
    ///     .with_trailers(|| [(http::HeaderName::from_static("checksum"), "42".parse().unwrap())].into_iter().collect());
    /// ```
    #[must_use]
    pub fn with_trailers(mut self, trailers: impl FnOnce() -> HeaderMap + 'static) -> Self {
        self.extra.get_or_insert_default().trailers = Some(Box::new(trailers));
        self
    }

    /// Sets the media type that a response states when it has no `Content-Type` field of its own.
    ///
    /// ```
    /// # use gimmal::{Body, HeaderValue};
    /// static CSV: HeaderValue = HeaderValue::from_static("text/csv");
    /// let body = Body::from("a,b\n").with_media_type(&CSV);
    /// ```
    #[must_use]
    pub fn with_media_type(mut self, media_type: &'static HeaderValue) -> Self {
        self.media_type = Some(media_type);
        self
    }

    /// The media type to state when the message has no `Content-Type` field.
    #[must_use]
    pub fn media_type(&self) -> Option<&'static HeaderValue> {
        self.media_type
    }

    /// What is left of it in bytes, or the length that the peer's framing states; `None` if only its end will
    /// tell.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Empty | Source::Taken => Some(0),
            Source::Chunk(chunk) => Some(chunk.len() as u64),
            Source::Stream { left, .. } => *left,
            Source::Incoming(incoming) => incoming.length(),
            #[cfg(feature = "files")]
            Source::File(file) => Some(file.len()),
        }
    }

    /// Whether it is known to hold no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length() == Some(0)
    }

    /// Fails with [`BodyError::TooLarge`] beyond `limit` bytes from here on; at once if the peer has stated a
    /// greater length.
    pub fn set_limit(&mut self, limit: u64) {
        self.extra.get_or_insert_default().limit = Some(Limit { limit, left: limit });
    }

    fn limit(&self) -> Option<Limit> {
        self.extra.as_ref()?.limit
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`], after which there are no more chunks worth reading.
    ///
    /// # Cancel safety
    /// No chunk is lost when the future is dropped.
    pub async fn chunk(&mut self) -> Option<Result<Chunk, BodyError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The trailer section, after the last chunk, once.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        match (&self.source, self.extra.as_mut().and_then(|extra| extra.trailers.take())) {
            (_, Some(trailers)) => Some(trailers()),
            (Source::Incoming(incoming), None) => incoming.take_trailers(),
            _ => None,
        }
    }

    /// All of it, if it is at most `limit` bytes. Where the length is known, exactly one allocation of that
    /// size; none for a body that is in memory already.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] beyond the limit, and whatever ends the body early.
    ///
    /// # Cancel safety
    /// What has been read is lost when the future is dropped.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, BodyError> {
        let limit = self.limit().map_or(limit, |own| own.limit.min(limit));
        self.set_limit(limit);
        if let Some(length) = self.length()
            && length > limit
        {
            return Err(self.too_large(limit));
        }
        let Some(first) = self.chunk().await.transpose()? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await.transpose()? else { return Ok(first.into_bytes()) };
        let mut all = match self.length() {
            Some(length) => Vec::with_capacity(usize::try_from(length).unwrap_or(usize::MAX)),
            None => Vec::with_capacity(2 * (first.len() + second.len())),
        };
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        drop((first, second));
        while let Some(chunk) = self.chunk().await.transpose()? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }

    /// Polls for the next chunk; `None` at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        if let Some(Limit { limit, left }) = self.limit()
            && left == limit
            && self.length().is_some_and(|length| length > limit)
        {
            return Poll::Ready(Some(Err(self.too_large(limit))));
        }
        let next = match &mut self.source {
            Source::Empty => None,
            Source::Taken => Some(Err(BodyError::Taken)),
            Source::Chunk(chunk) => Some(Ok(std::mem::take(chunk))),
            Source::Stream { chunks, left } => {
                let next = ready!(chunks.as_mut().poll_next(cx));
                if let (Some(Ok(chunk)), Some(left)) = (&next, left) {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                next.map(|next| next.map_err(BodyError::Stream))
            }
            Source::Incoming(incoming) => ready!(incoming.poll_chunk(cx)),
            #[cfg(feature = "files")]
            Source::File(file) => ready!(file.poll_chunk(cx)),
        };
        // A stream that has ended may not be polled again.
        if matches!((&self.source, &next), (Source::Chunk(_), _) | (Source::Stream { .. }, None)) {
            self.source = Source::Empty;
        }
        Poll::Ready(next.map(|next| next.and_then(|chunk| self.count(chunk))))
    }

    /// Counts a chunk against the limit.
    fn count(&mut self, chunk: Chunk) -> Result<Chunk, BodyError> {
        if let Some(Limit { limit, left }) = self.extra.as_mut().and_then(|extra| extra.limit.as_mut()) {
            match left.checked_sub(chunk.len() as u64) {
                Some(rest) => *left = rest,
                None => {
                    let limit = *limit;
                    return Err(self.too_large(limit));
                }
            }
        }
        Ok(chunk)
    }

    /// Whether nothing follows any more, and no trailers either.
    #[cfg(feature = "tower")]
    pub(crate) fn is_spent(&self) -> bool {
        matches!(self.source, Source::Empty)
            && self.extra.as_ref().is_none_or(|extra| extra.trailers.is_none())
    }

    fn is_plain(&self) -> bool {
        self.extra.as_ref().is_none_or(|extra| extra.is_plain())
    }

    /// All that is left, if it is in memory: what needs no polling.
    pub(crate) fn try_into_chunk(self) -> Result<Chunk, Self> {
        match self {
            streaming if !streaming.is_plain() => Err(streaming),
            Self { source: Source::Empty | Source::Taken, .. } => Ok(Chunk::new()),
            Self { source: Source::Chunk(chunk), .. } => Ok(chunk),
            streaming => Err(streaming),
        }
    }

    /// All of it, if it is in memory and nothing follows it.
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        match &self.source {
            _ if !self.is_plain() => None,
            Source::Empty | Source::Taken => Some(&[]),
            Source::Chunk(chunk) => Some(chunk),
            _ => None,
        }
    }
}

impl Stream for Body {
    type Item = Result<Chunk, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_chunk(cx)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Empty => "empty",
            Source::Chunk(_) => "bytes",
            Source::Stream { .. } => "stream",
            Source::Incoming(_) => "incoming",
            #[cfg(feature = "files")]
            Source::File(_) => "file",
            Source::Taken => "taken",
        };
        f.debug_struct("Body")
            .field("source", &source)
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl From<Chunk> for Body {
    #[inline]
    fn from(chunk: Chunk) -> Self {
        Self::of(if chunk.is_empty() { Source::Empty } else { Source::Chunk(chunk) }, &OCTETS)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Chunk::from(bytes).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Chunk::from(bytes).into()
    }
}

impl From<&'static [u8]> for Body {
    #[inline]
    fn from(bytes: &'static [u8]) -> Self {
        Chunk::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Chunk::from(text)).with_media_type(&TEXT)
    }
}

impl From<&'static str> for Body {
    #[inline]
    fn from(text: &'static str) -> Self {
        Self::from(text.as_bytes()).with_media_type(&TEXT)
    }
}
