//! The body of a request for those who may move it to another thread.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::body::{Body, BodyError};

/// The body of a request as a Tower service gets it. It is `Send`, while the connection that it comes from is not:
/// what has not arrived yet is fetched on the connection's core, when it is asked for.
///
/// It ends with [`BodyError::Incomplete`] if it is kept until the request has been answered to the end.
pub struct SendBody(Source);

enum Source {
    /// All of it, unless it was taken.
    Bytes(Bytes),
    Mailbox {
        mailbox: Arc<Mailbox>,
        /// What is left of it, if that is known.
        left: Option<u64>,
        ended: bool,
    },
}

impl SendBody {
    /// The body, and what feeds it if it is still arriving.
    pub(super) fn new(body: Body) -> (Self, Option<Feed>) {
        let body = match body.try_into_chunk() {
            Ok(chunk) => return (Self(Source::Bytes(chunk.into_bytes())), None),
            Err(arriving) => arriving,
        };
        let mailbox = Arc::new(Mailbox::default());
        let source = Source::Mailbox { mailbox: Arc::clone(&mailbox), left: body.length(), ended: false };
        (Self(source), Some(Feed { body, mailbox, ended: false }))
    }
}

impl http_body::Body for SendBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Source::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(mem::take(bytes))))),
            Source::Mailbox { ended: true, .. } => Poll::Ready(None),
            Source::Mailbox { mailbox, left, ended } => {
                let next = ready!(mailbox.poll_take(cx));
                match &next {
                    Some(Ok(frame)) => {
                        if let (Some(left), Some(data)) = (left, frame.data_ref()) {
                            *left = left.saturating_sub(data.len() as u64);
                        }
                    }
                    Some(Err(_)) | None => *ended = true,
                }
                Poll::Ready(next)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Bytes(bytes) => bytes.is_empty(),
            // A body of known length has no trailers.
            Source::Mailbox { left, ended, .. } => *ended || *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Mailbox { ended: true, .. } => SizeHint::with_exact(0),
            Source::Mailbox { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Drop for SendBody {
    fn drop(&mut self) {
        if let Source::Mailbox { mailbox, .. } = &self.0 {
            let feeder = {
                let mut contents = mailbox.lock();
                contents.reader_gone = true;
                contents.feeder.take()
            };
            wake(feeder);
        }
    }
}

impl fmt::Debug for SendBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBody").field("length", &http_body::Body::size_hint(self).exact()).finish()
    }
}

/// Outside of the lock: what is woken may run at once and look at the mailbox.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

type Item = Option<Result<Frame<Bytes>, BodyError>>;

/// Room for one frame, between the core and whoever reads the body.
#[derive(Default)]
struct Mailbox(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    /// The reader waits: nothing is read from the connection before it does.
    wanted: bool,
    item: Option<Item>,
    reader: Option<Waker>,
    feeder: Option<Waker>,
    reader_gone: bool,
    feeder_gone: bool,
}

impl Mailbox {
    /// Nothing that runs under the lock can panic.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Item> {
        let mut contents = self.lock();
        if let Some(item) = contents.item.take() {
            return Poll::Ready(item);
        }
        if contents.feeder_gone {
            return Poll::Ready(Some(Err(BodyError::Incomplete)));
        }
        contents.wanted = true;
        contents.reader = Some(cx.waker().clone());
        let feeder = contents.feeder.take();
        drop(contents);
        wake(feeder);
        Poll::Pending
    }

    fn put(&self, item: Item) {
        let reader = {
            let mut contents = self.lock();
            contents.wanted = false;
            contents.item = Some(item);
            contents.reader.take()
        };
        wake(reader);
    }
}

/// What a [`Feed`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// There is a frame for the reader.
    Frame,
    /// Nothing is wanted, or nothing has come.
    Nothing,
    /// The reader has all of it, or has gone.
    Finished,
}

/// Reads a body on its core for a [`SendBody`], wherever that is.
///
/// It must be polled by the task of the connection, which is the one that is woken when more arrives.
pub(super) struct Feed {
    body: Body,
    mailbox: Arc<Mailbox>,
    ended: bool,
}

impl Feed {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Fed {
        {
            let mut contents = self.mailbox.lock();
            if self.ended || contents.reader_gone {
                return Fed::Finished;
            }
            contents.feeder = Some(cx.waker().clone());
            if !contents.wanted {
                return Fed::Nothing;
            }
        }
        let item = match self.body.poll_chunk(cx) {
            Poll::Pending => return Fed::Nothing,
            Poll::Ready(Some(Ok(chunk))) => Some(Ok(Frame::data(chunk.into_bytes()))),
            Poll::Ready(Some(Err(error))) => {
                self.ended = true;
                Some(Err(error))
            }
            Poll::Ready(None) => match self.body.take_trailers() {
                Some(trailers) => Some(Ok(Frame::trailers(trailers))),
                None => {
                    self.ended = true;
                    None
                }
            },
        };
        self.mailbox.put(item);
        Fed::Frame
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let reader = {
            let mut contents = self.mailbox.lock();
            contents.feeder_gone = true;
            contents.reader.take()
        };
        wake(reader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Chunk;
    use http_body::Body as _;

    fn stream(pieces: &'static [&'static str]) -> Body {
        Body::stream(futures_util::stream::iter(pieces.iter().map(|piece| Ok(Chunk::from(*piece)))))
    }

    fn poll(body: &mut SendBody) -> Poll<Item> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn feed(feed: &mut Feed) -> Fed {
        feed.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn nothing_is_read_before_it_is_wanted() {
        let (mut body, mut feeding) = SendBody::new(stream(&["one", "two"]));
        let feeding = feeding.as_mut().unwrap();
        assert_eq!(feed(feeding), Fed::Nothing);
        assert!(poll(&mut body).is_pending());
        assert_eq!(feed(feeding), Fed::Frame);
        assert_eq!(feed(feeding), Fed::Nothing);
        let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else { panic!("a frame is there") };
        assert_eq!(frame.into_data().unwrap(), "one");
    }

    #[test]
    fn trailers_come_last() {
        let fields = || [("x".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
        let (mut body, feeding) = SendBody::new(stream(&["one"]).with_trailers(fields));
        let mut feeding = feeding.unwrap();
        let mut next = || {
            assert!(poll(&mut body).is_pending());
            assert_eq!(feed(&mut feeding), Fed::Frame);
            poll(&mut body)
        };
        assert!(matches!(next(), Poll::Ready(Some(Ok(frame))) if frame.is_data()));
        assert!(matches!(next(), Poll::Ready(Some(Ok(frame))) if frame.trailers_ref().unwrap()["x"] == "1"));
        assert!(matches!(next(), Poll::Ready(None)));
        assert_eq!(feed(&mut feeding), Fed::Finished);
        assert!(body.is_end_stream());
    }

    #[test]
    fn a_body_that_outlives_its_request_is_incomplete_and_never_seems_whole() {
        let (mut body, feeding) = SendBody::new(stream(&["one"]));
        drop(feeding);
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(BodyError::Incomplete)))));
    }

    #[test]
    fn a_body_can_be_read_on_another_thread() {
        let (mut body, feeding) = SendBody::new(stream(&["one", "two"]));
        let mut feeding = feeding.unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            loop {
                match poll(&mut body) {
                    Poll::Ready(Some(Ok(frame))) => all.extend_from_slice(frame.data_ref().unwrap()),
                    Poll::Ready(Some(Err(error))) => panic!("{error}"),
                    Poll::Ready(None) => return all,
                    Poll::Pending => std::thread::yield_now(),
                }
            }
        });
        while feed(&mut feeding) != Fed::Finished {
            std::thread::yield_now();
        }
        assert_eq!(reader.join().unwrap(), b"onetwo");
    }
}
