//! JSON lines (`application/x-ndjson`): a value on each line, read and written one by one.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::{Body, BoxError, Chunk};
use crate::error::Error;
use crate::extract::{FromRequest, check_media_type};
use crate::request::Request;
use crate::response::Response;

/// Bytes of a line that is received.
const LINE_BYTES_MAX: usize = 1 << 20;

static JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The values of a body, as they arrive: 415 if it is not said to be JSON lines. Empty lines are skipped, and a line may
/// have 1 MiB.
///
/// ```
/// use gimmal::{App, Error, JsonLines};
///
/// async fn sum(mut numbers: JsonLines<i64>) -> Result<String, Error> {
///     let mut sum = 0;
///     while let Some(number) = numbers.next().await? {
///         sum += number;
///     }
///     Ok(sum.to_string())
/// }
/// let app = App::new().post("/sum", sum);
/// ```
#[derive(Debug)]
pub struct JsonLines<T> {
    body: Body,
    /// Received, and not read yet.
    received: Vec<u8>,
    /// Where in it no end of a line is.
    searched: usize,
    line: u64,
    ended: bool,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> FromRequest for JsonLines<T> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let is_lines = |essence: &str| {
            ["application/x-ndjson", "application/jsonl", "application/x-jsonlines", "application/json-lines"]
                .iter()
                .any(|known| essence.eq_ignore_ascii_case(known))
        };
        check_media_type(request, is_lines, "application/x-ndjson")?;
        let body = request.take_body();
        Ok(Self { body, received: Vec::new(), searched: 0, line: 0, ended: false, value: PhantomData })
    }
}

impl<T: DeserializeOwned> JsonLines<T> {
    /// The next value; `None` at the end.
    ///
    /// # Errors
    /// 400 for a line that is no JSON, 422 for one that does not fit `T`, 413 for one that is too long, and whatever
    /// ends the body early.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(at) = self.received[self.searched..].iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=self.searched + at).collect();
                self.searched = 0;
                if let Some(value) = self.read(&line)? {
                    return Ok(Some(value));
                }
                continue;
            }
            self.searched = self.received.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, "a line of the body is too long"));
            }
            if self.ended {
                self.searched = 0;
                let line = std::mem::take(&mut self.received);
                return self.read(&line);
            }
            match self.body.chunk().await.transpose()? {
                Some(chunk) => self.received.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    fn read(&mut self, line: &[u8]) -> Result<Option<T>, Error> {
        self.line += u64::from(!line.is_empty());
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(line).map(Some).map_err(|error| {
            let status = match error.classify() {
                serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_REQUEST,
            };
            Error::new(status, format!("line {} of the body is refused: {error}", self.line))
        })
    }
}

/// A response whose body has a value on each line, written as they come. An error ends the connection.
///
/// ```
/// use futures_util::stream;
/// use gimmal::{App, Response, json_lines};
///
/// async fn squares() -> Response {
///     json_lines(stream::iter((0..10).map(|number| Ok(number * number))))
/// }
/// let app = App::new().get("/squares", squares);
/// ```
pub fn json_lines<T: Serialize>(values: impl Stream<Item = Result<T, BoxError>> + 'static) -> Response {
    Response::new(Body::stream(Lines(Box::pin(values))).with_media_type(&JSON_LINES))
}

/// Values as lines.
struct Lines<S>(Pin<Box<S>>);

impl<T: Serialize, S: Stream<Item = Result<T, BoxError>>> Stream for Lines<S> {
    type Item = Result<Chunk, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.0.as_mut().poll_next(cx));
        Poll::Ready(next.map(|next| {
            let mut line = serde_json::to_vec(&next?)?;
            line.push(b'\n');
            Ok(Chunk::from(line))
        }))
    }
}
