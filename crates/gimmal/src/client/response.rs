//! Responses, and their bodies as they arrive.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use gimmal_http::{BodyDecoder, BodyFraming, Decoded};
use http::{HeaderMap, StatusCode, Version};
use serde::de::DeserializeOwned;

use super::exchange::{Clock, Facts, Link, Remainder, Upload};
use super::pool::Pool;
use crate::body::{Body, BodyError, Chunk, Incoming, ResponseBodyError};
use crate::stream::Stream;

/// A response: its head, and its body as it arrives.
pub struct ClientResponse {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Body,
    upgraded: Option<Stream>,
}

impl ClientResponse {
    pub(super) fn new(pool: &Rc<Pool>, facts: Facts, link: Rc<Link>, mut remainder: Remainder<'_>) -> Self {
        let Facts { status, version, headers } = facts;
        let (mut body, mut upgraded) = (Body::empty(), None);
        if remainder.is_upgrade {
            drop(remainder.upload.take());
            upgraded = Some(link.give_over());
        } else if let Some(whole) = whole_body(&link, &remainder) {
            if remainder.keep_alive && !link.has_input() {
                pool.put(&Rc::clone(link.stream().core()), link);
            }
            body = Body::from(whole).untyped();
        } else {
            body = Body::incoming(Rc::new(ResponseBody::new(pool, link, remainder)));
        }
        Self { status, version, headers, body, upgraded }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The version of HTTP that the server speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The header fields, to be taken or changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Borrows the body, to be read in place. What fails in it is a [`BodyError::Response`].
    pub fn body_mut(&mut self) -> &mut Body {
        self.body.mark_response();
        &mut self.body
    }

    /// Takes the body out. What fails in it is a [`BodyError::Response`].
    #[must_use]
    pub fn into_body(mut self) -> Body {
        self.body.mark_response();
        self.body
    }

    /// Takes the body out as it is, for a proxy that reads it without a limit.
    #[cfg(feature = "proxy")]
    pub(crate) fn into_raw_body(self) -> Body {
        self.body
    }

    /// Reads all of the body, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// [`BodyError::Response`], which a handler that fails with it answers by 502 or 504.
    pub async fn bytes(self, limit: u64) -> Result<Bytes, BodyError> {
        self.into_body().collect(limit).await
    }

    /// Reads the body as JSON, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes); [`ResponseBodyError::Json`] for what is not JSON, or does not fit `T`.
    pub async fn json<T: DeserializeOwned>(self, limit: u64) -> Result<T, BodyError> {
        let bytes = self.bytes(limit).await?;
        serde_json::from_slice(&bytes).map_err(|error| ResponseBodyError::Json(error).into())
    }

    /// The connection, after a `101 Switching Protocols` or the 200 of a CONNECT (RFC 9110, sections 7.8 and 9.3.6).
    pub fn take_upgraded(&mut self) -> Option<Stream> {
        self.upgraded.take()
    }
}

impl fmt::Debug for ClientResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientResponse")
            .field("status", &self.status)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// The body if it is there already, and the request has gone out.
fn whole_body(link: &Link, remainder: &Remainder<'_>) -> Option<Chunk> {
    let length = match remainder.framing {
        BodyFraming::None => 0,
        BodyFraming::Length(length) if length <= remainder.limits.body_bytes => length,
        _ => return None,
    };
    let length = usize::try_from(length).ok().filter(|_| remainder.upload.is_none())?;
    let mut input = link.take_input();
    let whole = (input.len() >= length).then(|| input.split_to(length));
    link.set_input(input);
    whole
}

/// A body that is read from the connection as it is asked for. The connection goes back to the pool at its end.
struct ResponseBody {
    /// Until the end.
    link: RefCell<Option<Rc<Link>>>,
    pool: Weak<Pool>,
    decoder: RefCell<Result<BodyDecoder, gimmal_http::BodyError>>,
    /// What is still to be sent of the request.
    upload: RefCell<Option<Upload>>,
    length: Option<u64>,
    limit: u64,
    keep_alive: bool,
    clock: Clock,
    waits: Cell<bool>,
}

impl ResponseBody {
    fn new(pool: &Rc<Pool>, link: Rc<Link>, remainder: Remainder<'_>) -> Self {
        let length = match remainder.framing {
            BodyFraming::None => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::UntilClose => None,
        };
        Self {
            link: RefCell::new(Some(link)),
            pool: Rc::downgrade(pool),
            decoder: RefCell::new(BodyDecoder::new(remainder.framing, remainder.limits)),
            upload: RefCell::new(remainder.upload),
            length,
            limit: remainder.limits.body_bytes,
            keep_alive: remainder.keep_alive,
            clock: remainder.clock,
            waits: Cell::new(false),
        }
    }

    /// Sends more of the request. If that fails, the response may still be whole, but the connection has had its day.
    fn poll_upload(&self, cx: &mut Context<'_>) {
        let mut upload = self.upload.borrow_mut();
        if let Some(uploading) = &mut *upload
            && let Poll::Ready(uploaded) = Pin::new(uploading).poll(cx)
        {
            match uploaded {
                Ok(()) => *upload = None,
                Err(error) => {
                    tracing::debug!(%error, "the body of a request was cut off after the response had begun");
                    *upload = Some(Upload::new(std::future::pending()));
                }
            }
        }
    }

    /// The connection is free, or of no use any more.
    fn finish(&self, link: Rc<Link>) {
        self.link.take();
        let uploaded = self.upload.take().is_none();
        if let Some(pool) = self.pool.upgrade()
            && self.keep_alive
            && uploaded
            && !link.has_input()
        {
            pool.put(&Rc::clone(link.stream().core()), link);
        }
    }

    fn fail(&self, error: gimmal_http::BodyError) -> BodyError {
        self.close();
        BodyError::Response(match error {
            gimmal_http::BodyError::TooLarge => ResponseBodyError::TooLarge { limit: self.limit },
            gimmal_http::BodyError::Incomplete => ResponseBodyError::Incomplete,
            error => ResponseBodyError::Malformed(error),
        })
    }

    fn close(&self) {
        self.upload.take();
        if let Some(link) = self.link.take() {
            link.stream().abort();
        }
    }

    fn poll_receive(&self, link: &Link, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let received = link.stream().poll_recv(cx);
        // The time that the server may take begins when it is waited for.
        if self.waits.replace(received.is_pending()) != received.is_pending() {
            self.clock.grant(link.stream(), received.is_pending().then_some(self.clock.pause));
        }
        received
    }
}

impl Incoming for ResponseBody {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        self.poll_upload(cx);
        let mut decoder = self.decoder.borrow_mut();
        let decoder = match &mut *decoder {
            Ok(decoder) => decoder,
            Err(error) => return Poll::Ready(Some(Err(self.fail(*error)))),
        };
        let Some(link) = self.link.borrow().clone() else {
            return Poll::Ready(if decoder.is_complete() {
                None
            } else {
                Some(Err(ResponseBodyError::Incomplete.into()))
            });
        };
        loop {
            let mut input = link.take_input();
            match decoder.decode(&input) {
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
                Ok(Decoded::Data(range)) => {
                    let end = range.end;
                    let chunk = input.slice(range);
                    input.advance(end);
                    link.set_input(input);
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Ok(Decoded::End { consumed }) => {
                    input.advance(consumed);
                    link.set_input(input);
                    self.finish(link);
                    return Poll::Ready(None);
                }
                // All of it is used up.
                Ok(Decoded::Partial) => drop(input),
            }
            match self.poll_receive(&link, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                    return Poll::Ready(match decoder.finish() {
                        Ok(()) => {
                            self.finish(link);
                            None
                        }
                        Err(error) => Some(Err(self.fail(error))),
                    });
                }
                Poll::Ready(Ok(bytes)) => link.set_input(bytes),
                Poll::Ready(Err(error)) => {
                    self.close();
                    return Poll::Ready(Some(Err(BodyError::Response(match error.kind() {
                        io::ErrorKind::TimedOut => ResponseBodyError::TimedOut,
                        _ => ResponseBodyError::Incomplete,
                    }))));
                }
            }
        }
    }

    fn length(&self) -> Option<u64> {
        self.length
    }

    fn take_trailers(&self) -> Option<HeaderMap> {
        self.decoder.borrow_mut().as_mut().ok()?.take_trailers()
    }
}
