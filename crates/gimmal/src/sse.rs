//! Server-sent events (HTML Standard, section 9.2): a response that goes on for as long as there is something to tell.
//!
//! ```
//! use std::time::Duration;
//!
//! use futures_util::{Stream, StreamExt, stream};
//! use gimmal::App;
//! use gimmal::sse::{Event, Events, LastEventId};
//!
//! /// Counts from where the client has left off.
//! async fn count(LastEventId(last): LastEventId) -> Events {
//!     let next = last.and_then(|last| last.parse::<u64>().ok()).map_or(0, |last| last + 1);
//!     Events::new(stream::iter(next..).then(async |number| {
//!         tokio::time::sleep(Duration::from_secs(1)).await;
//!         Ok(Event::data(format!("tick {number}")).with_id(number.to_string()))
//!     }))
//! }
//! let app = App::new().get("/ticks", count);
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use gimmal_runtime::{Core, LocalFuture};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use tokio::time::Sleep;

use crate::body::{Body, BoxError, Chunk};
use crate::error::Error;
use crate::extract::FromRequest;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// How long nothing may be sent before a comment is, so that proxies see a connection that lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What does nothing in a browser.
const COMMENT: &str = ":\n\n";

static EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// One event.
///
/// ```
/// use gimmal::sse::Event;
///
/// let event = Event::data("two\nlines").with_id("7").with_name("message");
/// assert_eq!(event.as_str(), "event: message\nid: 7\ndata: two\ndata: lines\n\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    text: String,
}

impl Event {
    /// An event that carries a text, of as many lines as it has.
    #[must_use]
    pub fn data(data: impl AsRef<str>) -> Self {
        let mut text = String::with_capacity(data.as_ref().len() + 16);
        // A browser takes CR, LF and both together as the end of a line.
        for line in data.as_ref().replace("\r\n", "\n").split(['\n', '\r']) {
            text.push_str("data: ");
            text.push_str(line);
            text.push('\n');
        }
        text.push('\n');
        Self { text }
    }

    /// An event that carries a value as JSON.
    ///
    /// # Errors
    /// If the value cannot be serialised.
    pub fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self::data)
    }

    /// Sets how long the client waits before it connects again, from now on. The event itself need carry nothing.
    #[must_use]
    pub fn with_retry(self, retry: Duration) -> Self {
        self.with_field("retry", &retry.as_millis().to_string())
    }

    /// Sets what the client sends as `Last-Event-ID` when it connects again. Line breaks and NUL are left out, as an id
    /// cannot hold them.
    #[must_use]
    pub fn with_id(self, id: impl AsRef<str>) -> Self {
        self.with_field("id", id.as_ref())
    }

    /// Sets the type under which a script listens for it: `message` if not set. Line breaks are left out.
    #[must_use]
    pub fn with_name(self, name: impl AsRef<str>) -> Self {
        self.with_field("event", name.as_ref())
    }

    fn with_field(mut self, name: &str, value: &str) -> Self {
        let value = value.replace(['\r', '\n', '\0'], "");
        self.text.insert_str(0, &format!("{name}: {value}\n"));
        self
    }

    /// The event as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A response of events.
///
/// It ends with the stream, when the client goes, and when the server is about to stop, so that clients connect to
/// another one. Every 15 seconds without an event a comment is sent.
pub struct Events {
    events: Pin<Box<dyn Stream<Item = Result<Event, BoxError>>>>,
    keep_alive: Duration,
}

impl Events {
    /// The events of a stream, which need not be `Send`. An error ends the connection, after which a browser connects
    /// again.
    #[must_use]
    pub fn new(events: impl Stream<Item = Result<Event, BoxError>> + 'static) -> Self {
        Self { events: Box::pin(events), keep_alive: KEEP_ALIVE }
    }

    /// Sets how long nothing may be sent before a comment is: 15 seconds if not set.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("keep_alive", &self.keep_alive).finish_non_exhaustive()
    }
}

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        let draining = Core::current().map(|core| LocalFuture::new(async move { core.draining().await }));
        let sleep = Box::pin(tokio::time::sleep(self.keep_alive));
        let chunks = Chunks { events: self.events, keep_alive: self.keep_alive, sleep, draining };
        Response::new(Body::stream(chunks).with_media_type(&EVENT_STREAM))
            .with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
            // nginx would collect what is to be seen at once.
            .with_header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))
    }
}

/// The events as they are sent, with comments in between.
struct Chunks {
    events: Pin<Box<dyn Stream<Item = Result<Event, BoxError>>>>,
    keep_alive: Duration,
    sleep: Pin<Box<Sleep>>,
    /// Ready when the server is about to stop.
    draining: Option<LocalFuture<()>>,
}

impl Stream for Chunks {
    type Item = Result<Chunk, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(draining) = &mut self.draining
            && Pin::new(draining).poll(cx).is_ready()
        {
            return Poll::Ready(None);
        }
        let next = match self.events.as_mut().poll_next(cx) {
            Poll::Ready(next) => next.map(|next| next.map(|event| Chunk::from(event.text))),
            Poll::Pending if self.sleep.as_mut().poll(cx).is_ready() => Some(Ok(Chunk::from(COMMENT))),
            Poll::Pending => return Poll::Pending,
        };
        let at = tokio::time::Instant::now() + self.keep_alive;
        self.sleep.as_mut().reset(at);
        Poll::Ready(next)
    }
}

/// The id of the last event that the client has seen, when it connects again; `None` the first time. It comes from the
/// client, so it may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastEventId(
    /// The id.
    pub Option<String>,
);

impl FromRequest for LastEventId {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let id = request.header_bytes("last-event-id").and_then(|id| std::str::from_utf8(id).ok());
        Ok(Self(id.filter(|id| !id.is_empty()).map(str::to_owned)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTML Standard, section 9.2.6: the examples of a stream.
    #[test]
    fn fields_and_lines() {
        assert_eq!(Event::data("").as_str(), "data: \n\n");
        assert_eq!(Event::data("YHOO\n+2\n10").as_str(), "data: YHOO\ndata: +2\ndata: 10\n\n");
        assert_eq!(Event::data("a\r\nb\rc\n").as_str(), "data: a\ndata: b\ndata: c\ndata: \n\n");
        let event = Event::data("x").with_retry(Duration::from_millis(2500)).with_id("1").with_name("add");
        assert_eq!(event.as_str(), "event: add\nid: 1\nretry: 2500\ndata: x\n\n");
        assert_eq!(Event::json(&[1, 2]).unwrap().as_str(), "data: [1,2]\n\n");
    }

    #[test]
    fn event_injection_through_id_or_name() {
        let event = Event::data("x").with_id("1\ndata: evil\n\n").with_name("a\rretry: 1\0");
        assert_eq!(event.as_str(), "event: aretry: 1\nid: 1data: evil\ndata: x\n\n");
    }
}
