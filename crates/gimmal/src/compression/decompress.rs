//! The middleware that unpacks the bodies of requests.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use gimmal_runtime::LocalFuture;
use gimmal_security::audit::AuditEvent;
use gimmal_security::decompression::{DecompressionGuard, DecompressionLimits, DecompressionRefused};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Coding;
use super::decoder::{Decoder, Step};
use crate::audit::Recorder;
use crate::body::{Body, BodyError, Chunk, Incoming};
use crate::error::Error;
use crate::middleware::{Middleware, Next};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Bytes that are unpacked at once.
const OUTPUT_BYTES: usize = 32 * 1024;

/// Middleware that unpacks the bodies of requests whose `Content-Encoding` is gzip, br or zstd; any other gets 415 with
/// the codings that would do (RFC 9110, sections 8.4 and 15.5.16).
///
/// A body that unpacks to more than the limits, or than the route accepts, gets 413 as soon as it does, so that a small
/// one cannot fill the memory. Handlers see the unpacked body; the header fields stay as they were sent.
///
/// ```
/// use gimmal::{App, compression::Decompression};
///
/// let app = App::new().post("/", async |text: String| text.len().to_string()).with(Decompression::new());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Decompression {
    limits: DecompressionLimits,
}

impl Decompression {
    /// Decompression with the default limits: 8 MiB, and a hundred bytes for each one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: DecompressionLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// Marks a request whose body is unpacked.
struct Unpacked;

impl Middleware for Decompression {
    fn handle(self: Rc<Self>, mut request: Request, next: Next) -> LocalFuture<Response> {
        let coding = match coding(&request) {
            Ok(Some(coding)) if request.extensions().get::<Unpacked>().is_none() => coding,
            Ok(_) => return next.run(request),
            Err(Unsupported) => {
                let accepted = HeaderValue::from_static("br, zstd, gzip");
                let refused = StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
                let refused = refused.with_header(header::ACCEPT_ENCODING, accepted);
                return LocalFuture::new(async move { refused });
            }
        };
        LocalFuture::new(async move {
            let (limit, recorder) = (request.body_limit(), Recorder::of(&request).await);
            match unpacked(request.take_body(), coding, self.limits, limit, recorder) {
                Ok(body) => *request.body_mut() = body,
                Err(error) => return Error::from(error).into_response(),
            }
            request.extensions_mut().insert(Unpacked);
            next.run(request).await
        })
    }
}

/// A coding that is not spoken, or several.
struct Unsupported;

fn coding(request: &Request) -> Result<Option<Coding>, Unsupported> {
    if request.body().is_empty() {
        return Ok(None);
    }
    let mut coding = None;
    for field in request.header_all("content-encoding") {
        for name in field.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            let name = std::str::from_utf8(name).map_err(|_| Unsupported)?;
            if coding.replace(Coding::of(name).ok_or(Unsupported)?).is_some() {
                return Err(Unsupported);
            }
        }
    }
    Ok(coding)
}

fn unpacked(
    packed: Body,
    coding: Coding,
    limits: DecompressionLimits,
    limit: u64,
    recorder: Recorder,
) -> std::io::Result<Body> {
    let unpacking = Unpacking {
        packed,
        coding,
        decoder: Decoder::new(coding)?,
        input: Chunk::new(),
        state: State::Begins,
        guard: DecompressionGuard::new(limits),
        recorder,
    };
    let mut body = Body::incoming(Rc::new(UnpackedBody(RefCell::new(unpacking))));
    body.set_limit(limit);
    Ok(body)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been read.
    Begins,
    /// In the middle of the data.
    Within,
    /// The decoder has room for more output than there was.
    Fills,
    /// The data has come to its end; with gzip and zstd, more may follow (RFC 1952, section 2.2).
    Ended,
}

struct Unpacking {
    packed: Body,
    coding: Coding,
    decoder: Decoder,
    input: Chunk,
    state: State,
    guard: DecompressionGuard,
    recorder: Recorder,
}

impl Unpacking {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        loop {
            if !self.input.is_empty() || self.state == State::Fills {
                match self.step() {
                    Ok(output) if output.is_empty() => {}
                    Ok(output) => return Poll::Ready(Some(Ok(output.into()))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
                continue;
            }
            match ready!(self.packed.poll_chunk(cx)) {
                Some(Ok(chunk)) => {
                    self.guard.packed(chunk.len());
                    self.input = chunk;
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if matches!(self.state, State::Begins | State::Ended) => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(BodyError::Coding))),
            }
        }
    }

    /// Records what looks like a bomb.
    fn refuse(&self, refused: DecompressionRefused) -> BodyError {
        let reason = refused.to_string();
        self.recorder.record(AuditEvent::AttackRefused { guard: "decompression", reason: &reason }, None);
        BodyError::Unpacked(refused)
    }

    fn step(&mut self) -> Result<Vec<u8>, BodyError> {
        if self.state == State::Ended {
            if self.coding == Coding::Brotli {
                return Err(BodyError::Coding);
            }
            self.decoder = Decoder::new(self.coding).map_err(|error| BodyError::Stream(error.into()))?;
        }
        let mut output = vec![0; OUTPUT_BYTES];
        let Step { read, written, ended } =
            self.decoder.step(&self.input, &mut output).map_err(|_| BodyError::Coding)?;
        self.guard.unpacked(written).map_err(|refused| self.refuse(refused))?;
        if read == 0 && written == 0 && !ended && !self.input.is_empty() {
            return Err(BodyError::Coding);
        }
        self.input.advance(read);
        self.state = match ended {
            true => State::Ended,
            false if written == output.len() => State::Fills,
            false => State::Within,
        };
        output.truncate(written);
        Ok(output)
    }
}

struct UnpackedBody(RefCell<Unpacking>);

impl Incoming for UnpackedBody {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        self.0.borrow_mut().poll_chunk(cx)
    }

    fn length(&self) -> Option<u64> {
        None
    }

    fn take_trailers(&self) -> Option<HeaderMap> {
        self.0.borrow_mut().packed.take_trailers()
    }
}
