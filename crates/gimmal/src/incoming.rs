//! The body of a request while it arrives.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gimmal_http::{BodyDecoder, BodyFraming, Decoded, Limits};
use http::HeaderMap;

use crate::body::{BodyError, Chunk, Incoming};
use crate::connection::Connection;

/// Bytes of a body that nobody wants which are read for the sake of the connection.
const UNWANTED_BYTES_MAX: u64 = 256 * 1024;

/// From this much on, what comes is received in bulk.
pub(crate) const BULK_BYTES_MIN: u64 = 32 * 1024;

/// Whether a body of this framing is known to be large.
pub(crate) fn is_bulk(framing: BodyFraming) -> bool {
    matches!(framing, BodyFraming::Length(length) if length >= BULK_BYTES_MIN)
}

/// A body that is read from the connection as it is asked for: who does not read stops the client from sending.
pub(crate) struct IncomingBody {
    connection: Rc<Connection>,
    decoder: RefCell<Result<BodyDecoder, gimmal_http::BodyError>>,
    length: Option<u64>,
    limit: u64,
    /// The client waits for `100 Continue` before it sends.
    awaits_continue: Cell<bool>,
    /// How long was waited for bytes that had not come.
    waited: Cell<Duration>,
    waiting_since: Cell<Option<Instant>>,
    /// It came to a bad end, after which nothing on the connection can be made sense of.
    failed: Cell<bool>,
    /// The response has been sent: what is left of the body is the connection's.
    over: Cell<bool>,
    /// The user's task that waits for more of it.
    reader: Cell<Option<Waker>>,
    /// The connection's task, which receives as soon as nobody waits for the body.
    watcher: Cell<Option<Waker>>,
}

impl IncomingBody {
    pub(crate) fn new(
        connection: &Rc<Connection>,
        framing: BodyFraming,
        limits: &Limits,
        awaits_continue: bool,
    ) -> Rc<Self> {
        let length = match framing {
            BodyFraming::Length(length) => Some(length),
            _ => None,
        };
        Rc::new(Self {
            connection: Rc::clone(connection),
            decoder: RefCell::new(BodyDecoder::new(framing, limits)),
            length,
            limit: limits.body_bytes,
            awaits_continue: Cell::new(awaits_continue),
            waited: Cell::new(Duration::ZERO),
            waiting_since: Cell::new(None),
            failed: Cell::new(false),
            over: Cell::new(false),
            reader: Cell::new(None),
            watcher: Cell::new(None),
        })
    }

    /// Whether the next request can follow on the connection: all of the body has come, somebody is still there to read
    /// it, as a response that is made of it, or the rest can be read at little cost.
    pub(crate) fn may_be_finished(self: &Rc<Self>) -> bool {
        match &*self.decoder.borrow() {
            _ if self.failed.get() => false,
            Err(_) => false,
            Ok(decoder) if decoder.is_complete() => true,
            // A client that was not told to go on may send the body all the same, or the next request.
            Ok(_) if self.awaits_continue.get() => false,
            Ok(_) if self.has_reader() => true,
            Ok(decoder) => {
                let left = self.length.map_or(0, |length| length - decoder.received());
                left <= UNWANTED_BYTES_MAX
            }
        }
    }

    /// Somebody else holds the body, and may read it.
    fn has_reader(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1
    }

    /// Whether somebody waits for more of the body, and alone may receive from the stream meanwhile.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting_since.get().is_some()
    }

    /// Ready when nobody waits for more of the body, so that the task that asks may receive from the stream.
    pub(crate) fn poll_unawaited(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Another task may begin to wait at any time.
        self.watcher.set(Some(cx.waker().clone()));
        if self.is_awaited() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Forgets who has waited for more and was told that the time is over, or asks no longer.
    pub(crate) fn give_up_waiting(&self) {
        self.waited();
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether it came to a bad end, which is the client's doing.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Prepares for the response, whose head is about to go out: `100 Continue` may not follow it (RFC 9110, section
    /// 15.2). The client is told to go on now if the response may be made of the body, and never if it is not.
    pub(crate) fn response_begins(self: &Rc<Self>) {
        if self.awaits_continue.get() && self.decoder.borrow().is_ok() && self.has_reader() {
            self.awaits_continue.set(false);
            self.connection.send_continue();
        }
        // Who waits for more from now on says so by asking again.
        self.give_up_waiting();
    }

    /// Takes the body back from whoever reads it still, such as a task that the handler has left behind: a stream has
    /// room for one who waits.
    pub(crate) fn take_back(&self) {
        self.over.set(true);
        self.give_up_waiting();
    }

    /// Reads the rest of a body that nobody wants; `false` if it is too long or does not come.
    pub(crate) async fn finish(&self) -> bool {
        if self.failed.get() {
            return false;
        }
        let mut left = UNWANTED_BYTES_MAX;
        loop {
            match std::future::poll_fn(|cx| self.poll_next(cx)).await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(chunk)) => match left.checked_sub(chunk.len() as u64) {
                    Some(rest) => left = rest,
                    None => return false,
                },
            }
        }
    }

    fn fail(&self, error: gimmal_http::BodyError) -> BodyError {
        match error {
            gimmal_http::BodyError::TooLarge => BodyError::TooLarge { limit: self.limit },
            gimmal_http::BodyError::Incomplete => BodyError::Incomplete,
            error => BodyError::Malformed(error),
        }
    }

    /// Notes that bytes are waited for, and ends the wait when the client is too slow; `false` if it is so already.
    fn wait(&self, received: u64) -> bool {
        let now = Instant::now();
        let since = self.waiting_since.get().unwrap_or(now);
        self.waiting_since.set(Some(since));
        let Some(allowed) = self.connection.timeouts().for_bytes(received) else { return true };
        let left = allowed.saturating_sub(self.waited.get() + (now - since));
        self.connection.expect_body(Some(now + left));
        !left.is_zero()
    }

    fn waited(&self) {
        if let Some(since) = self.waiting_since.take() {
            self.waited.set(self.waited.get() + since.elapsed());
            self.connection.expect_body(None);
            let reader = self.reader.take();
            // Another task has waited in its place, and may never ask again.
            if let Some(watcher) = self.watcher.take()
                && !reader.as_ref().is_some_and(|reader| reader.will_wake(&watcher))
            {
                watcher.wake();
            }
            self.reader.set(reader);
        }
    }
}

impl IncomingBody {
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        let mut decoder = self.decoder.borrow_mut();
        let decoder = match &mut *decoder {
            Ok(decoder) => decoder,
            Err(error) => return Poll::Ready(Some(Err(self.fail(*error)))),
        };
        loop {
            let mut input = self.connection.take_input();
            let decoded = decoder.decode(&input);
            match decoded {
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
                Ok(Decoded::Data(range)) => {
                    let end = range.end;
                    let chunk = input.slice(range);
                    input.advance(end);
                    self.connection.set_input(input);
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Ok(Decoded::End { consumed }) => {
                    input.advance(consumed);
                    self.connection.set_input(input);
                    return Poll::Ready(None);
                }
                // All of it is used up.
                Ok(Decoded::Partial) => drop(input),
            }
            if decoder.received() >= BULK_BYTES_MIN {
                self.connection.stream().set_bulk(true);
            }
            if self.awaits_continue.take() {
                self.connection.send_continue();
            }
            let received = match self.connection.stream().poll_recv(cx) {
                Poll::Pending if self.wait(decoder.received()) => return Poll::Pending,
                Poll::Pending => Err(io::ErrorKind::TimedOut.into()),
                Poll::Ready(received) => received,
            };
            self.waited();
            match received {
                Ok(bytes) if bytes.is_empty() => {
                    // The decoder goes on to say that bytes are missing.
                    let error = decoder.finish().err().unwrap_or(gimmal_http::BodyError::Incomplete);
                    return Poll::Ready(Some(Err(self.fail(error))));
                }
                Ok(bytes) => self.connection.set_input(bytes),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
                Err(_) => return Poll::Ready(Some(Err(BodyError::Incomplete))),
            }
        }
    }
}

impl Incoming for IncomingBody {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        if self.over.get() {
            return Poll::Ready(Some(Err(BodyError::Taken)));
        }
        let polled = self.poll_next(cx);
        match &polled {
            Poll::Ready(Some(Err(_))) => self.failed.set(true),
            Poll::Ready(_) => {}
            Poll::Pending => self.reader.set(Some(cx.waker().clone())),
        }
        polled
    }

    fn length(&self) -> Option<u64> {
        self.length
    }

    fn take_trailers(&self) -> Option<HeaderMap> {
        self.decoder.borrow_mut().as_mut().ok()?.take_trailers()
    }
}
