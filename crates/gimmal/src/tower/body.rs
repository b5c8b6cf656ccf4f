//! Bodies of the `http-body` crate as bodies of Gimmal, and the other way round.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Buf;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::send_body::{Fed, Feed};
use crate::body::{Body, BodyError, BoxError, Chunk, Incoming};

/// A body up to this size that is there at once is sent as one piece.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// Requires the feature `tower`.
impl http_body::Body for Body {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let body = self.get_mut();
        body.poll_chunk(cx).map(|next| match next {
            Some(chunk) => Some(chunk.map(Frame::data)),
            None => body.take_trailers().map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_spent()
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The value as another type, if it is of that type.
fn cast<T: 'static, U: 'static>(value: T) -> Result<U, T> {
    let mut value = Some(value);
    match (&mut value as &mut dyn Any).downcast_mut::<Option<U>>().and_then(Option::take) {
        Some(other) => Ok(other),
        None => Err(value.expect("it was not taken")),
    }
}

/// A body of any kind as one of Gimmal's, which has the same bytes and trailers. One that is Gimmal's already is
/// itself again. `feed` goes on with the body of the request while the response is sent.
pub(super) async fn into_body<B>(body: B, feed: Option<Feed>) -> Body
where
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    let body = match (cast::<B, Body>(body), &feed) {
        (Ok(own), None) => return own,
        (Ok(own), Some(_)) => return Body::incoming(Rc::new(Foreign::new(own, None, feed))),
        (Err(foreign), _) => foreign,
    };
    let feed = match feed {
        Some(mut feed) => poll_fn(|cx| Poll::Ready(feed.poll(cx) != Fed::Finished)).await.then_some(feed),
        None => None,
    };
    if feed.is_none() && body.is_end_stream() {
        return Body::empty();
    }
    let length = body.size_hint().exact();
    let mut body = Box::pin(body);
    let mut first = None;
    if feed.is_none() && length.is_some_and(|length| length <= WHOLE_BYTES_MAX) {
        first = poll_fn(|cx| {
            Poll::Ready(match body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => Some(frame.map(convert)),
                Poll::Pending => None,
            })
        })
        .await;
        if let Some(Some(Ok(Piece::Data(chunk)))) = &mut first
            && Some(chunk.len() as u64) == length
            && body.is_end_stream()
        {
            return Body::from(std::mem::take(chunk)).untyped();
        }
    }
    let foreign = Foreign::pinned(body, length, feed);
    foreign.first.set(first);
    Body::incoming(Rc::new(foreign))
}

enum Piece {
    Data(Chunk),
    Trailers(HeaderMap),
    /// Of a kind that is not known.
    Other,
}

fn convert<D: Buf + 'static, E: Into<BoxError>>(frame: Result<Frame<D>, E>) -> Result<Piece, BodyError> {
    let frame = frame.map_err(|error| match error.into().downcast::<BodyError>() {
        Ok(own) => *own,
        Err(other) => BodyError::Stream(other),
    })?;
    Ok(match frame.into_data() {
        Ok(data) => {
            Piece::Data(cast(data).unwrap_or_else(|mut data| data.copy_to_bytes(data.remaining()).into()))
        }
        Err(frame) => frame.into_trailers().map_or(Piece::Other, Piece::Trailers),
    })
}

/// A body of another world on its way out.
struct Foreign<B> {
    body: RefCell<Pin<Box<B>>>,
    /// What it gave when it was first asked.
    first: Cell<Option<Option<Result<Piece, BodyError>>>>,
    length: Option<u64>,
    trailers: Cell<Option<HeaderMap>>,
    feed: RefCell<Option<Feed>>,
    ended: Cell<bool>,
}

impl<B: http_body::Body> Foreign<B> {
    fn new(body: B, first: Option<Option<Result<Piece, BodyError>>>, feed: Option<Feed>) -> Self {
        let length = body.size_hint().exact();
        let foreign = Self::pinned(Box::pin(body), length, feed);
        foreign.first.set(first);
        foreign
    }

    fn pinned(body: Pin<Box<B>>, length: Option<u64>, feed: Option<Feed>) -> Self {
        Self {
            body: RefCell::new(body),
            first: Cell::new(None),
            length,
            trailers: Cell::new(None),
            feed: RefCell::new(feed),
            ended: Cell::new(false),
        }
    }
}

impl<B> Foreign<B>
where
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        if self.ended.get() {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        self.body.borrow_mut().as_mut().poll_frame(cx).map(|next| next.map(convert))
    }

    /// Goes on with the body of the request; whether there is something new for its reader.
    fn poll_feed(&self, cx: &mut Context<'_>) -> Fed {
        let mut feed = self.feed.borrow_mut();
        let fed = feed.as_mut().map_or(Fed::Finished, |feed| feed.poll(cx));
        if fed == Fed::Finished {
            *feed = None;
        }
        fed
    }
}

impl<B> Incoming for Foreign<B>
where
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        loop {
            match self.poll_piece(cx) {
                Poll::Ready(Some(Ok(Piece::Data(chunk)))) => return Poll::Ready(Some(Ok(chunk))),
                Poll::Ready(Some(Ok(Piece::Trailers(trailers)))) => self.trailers.set(Some(trailers)),
                Poll::Ready(Some(Ok(Piece::Other))) => {}
                Poll::Ready(Some(Err(error))) => {
                    self.ended.set(true);
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    self.ended.set(true);
                    // All has gone out, yet a task of the service may still be reading the request.
                    match self.poll_feed(cx) {
                        Fed::Finished => return Poll::Ready(None),
                        Fed::Frame => {}
                        Fed::Nothing => return Poll::Pending,
                    }
                }
                Poll::Pending => {
                    if self.poll_feed(cx) != Fed::Frame {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn length(&self) -> Option<u64> {
        self.length
    }

    fn take_trailers(&self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}
