//! Forms with files: `multipart/form-data` (RFC 7578).

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use gimmal_runtime::blocking;
use http::StatusCode;
use send_wrapper::SendWrapper;
use tempfile::NamedTempFile;

use crate::body::{Body, BodyError};
use crate::error::Error;
use crate::extract::{FromRequest, check_media_type};
use crate::request::Request;

/// Bytes that may come before a field's content: its header section, and what precedes the first boundary.
const HEADER_BYTES_MAX: u64 = 64 * 1024;
/// Bytes that are collected before they are written to a file.
const WRITE_BYTES: usize = 256 * 1024;

/// A form whose fields are read one after the other as they arrive: 415 if the body is not said to be
/// `multipart/form-data`. All of it counts against the limit of the route, and each field against the limit that is
/// given where it is read.
///
/// ```
/// use gimmal::multipart::Multipart;
/// use gimmal::{App, Error, post};
///
/// async fn upload(mut form: Multipart) -> Result<String, Error> {
///     let (mut title, mut bytes) = (String::new(), 0);
///     while let Some(mut field) = form.next_field().await? {
///         match field.name() {
///             Some("title") => title = field.text(1000).await?,
///             Some("file") => bytes = field.save_in("/srv/uploads", 1 << 30).await?.length,
///             _ => {} // what is not read is skipped
///         }
///     }
///     Ok(format!("{title}: {bytes} bytes"))
/// }
/// let app = App::new().route("/upload", post(upload).body_limit(2 << 30));
/// ```
pub struct Multipart {
    parser: multer::Multipart<'static>,
    gate: Rc<Gate>,
    /// The field that is being read.
    current: Option<multer::Field<'static>>,
}

impl FromRequest for Multipart {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let is_form = |essence: &str| essence.eq_ignore_ascii_case("multipart/form-data");
        check_media_type(request, is_form, "multipart/form-data")?;
        let boundary =
            multer::parse_boundary(request.header("content-type").unwrap_or_default()).map_err(refuse)?;
        let gate = Rc::<Gate>::default();
        let pieces = Pieces { body: request.take_body(), gate: Rc::clone(&gate) };
        let parser = multer::Multipart::new(SendPieces(SendWrapper::new(pieces)), boundary);
        Ok(Self { parser, gate, current: None })
    }
}

impl Multipart {
    /// The next field; `None` at the end. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// 400 for a malformed form, 413 for a header section that is too long, and whatever ends the body early.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next_field(&mut self) -> Result<Option<Field<'_>>, Error> {
        while self.current.is_some() {
            self.chunk().await?;
        }
        let (parser, gate) = (&mut self.parser, &self.gate);
        gate.passed.set(0);
        self.current = poll_fn(|cx| gate.drive(cx, |cx| parser.poll_next_field(cx))).await.map_err(refuse)?;
        Ok(self.current.is_some().then_some(Field { form: self }))
    }

    /// The next piece of the field that is being read.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(field) = &mut self.current else { return Ok(None) };
            let gate = &self.gate;
            gate.passed.set(0);
            match poll_fn(|cx| gate.drive(cx, |cx| Pin::new(&mut *field).poll_next(cx))).await {
                Some(chunk) => {
                    let chunk = chunk.map_err(refuse)?;
                    if !chunk.is_empty() {
                        return Ok(Some(chunk));
                    }
                }
                None => self.current = None,
            }
        }
    }
}

impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart").finish_non_exhaustive()
    }
}

/// A field of a form.
pub struct Field<'a> {
    form: &'a mut Multipart,
}

/// A field that was saved to a file. The file is removed when the value is dropped, unless it is
/// [persisted](NamedTempFile::persist).
#[derive(Debug)]
pub struct SavedFile {
    /// The file, with a name that the server made up.
    pub file: NamedTempFile,
    /// Its length in bytes.
    pub length: u64,
}

impl Field<'_> {
    /// The name of the field.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.form.current.as_ref()?.name()
    }

    /// The name of the file as the client has it. It may be anything, such as `../../etc/passwd`: show it, escaped, but
    /// never make a path of it.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.form.current.as_ref()?.file_name()
    }

    /// The media type that the client says the content is of.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.form.current.as_ref()?.content_type().map(AsRef::as_ref)
    }

    /// The next piece of the content; `None` at the end.
    ///
    /// # Errors
    /// As [`Multipart::next_field`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.form.chunk().await
    }

    /// All of the content, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// 413 beyond the limit; else as [`Multipart::next_field`].
    ///
    /// # Cancel safety
    /// What has been read is lost when the future is dropped.
    pub async fn bytes(&mut self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut left = limit;
        while let Some(chunk) = self.chunk().await? {
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| too_large(limit))?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// All of the content as text, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// 400 if it is not UTF-8; else as [`bytes`](Self::bytes).
    ///
    /// # Cancel safety
    /// What has been read is lost when the future is dropped.
    pub async fn text(&mut self, limit: u64) -> Result<String, Error> {
        let bytes = self.bytes(limit).await?;
        String::from_utf8(bytes)
            .map_err(|_| Error::new(StatusCode::BAD_REQUEST, "a field of the form is not UTF-8"))
    }

    /// Saves the content to a new file in `folder`, which only this user may read, as it arrives: no more than a piece
    /// of it is in memory at any time. Disks are waited for off the core.
    ///
    /// # Errors
    /// 413 beyond `limit` bytes, 500 if the file cannot be written, else as [`Multipart::next_field`]. What was
    /// written is removed.
    ///
    /// # Cancel safety
    /// What has been written is removed when the future is dropped.
    pub async fn save_in(&mut self, folder: impl AsRef<Path>, limit: u64) -> Result<SavedFile, Error> {
        let folder = folder.as_ref().to_owned();
        let mut file = blocking(move || NamedTempFile::new_in(folder)).await??;
        let (mut collected, mut length) = (Vec::new(), 0);
        loop {
            let chunk = self.chunk().await?;
            if let Some(chunk) = &chunk {
                length += chunk.len() as u64;
                if length > limit {
                    return Err(too_large(limit));
                }
                collected.extend_from_slice(chunk);
            }
            if chunk.is_none() || collected.len() >= WRITE_BYTES {
                let bytes = std::mem::take(&mut collected);
                let write = move || file.write_all(&bytes).map(|()| file);
                file = blocking(write).await??;
            }
            if chunk.is_none() {
                return Ok(SavedFile { file, length });
            }
        }
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field").field("name", &self.name()).finish_non_exhaustive()
    }
}

fn too_large(limit: u64) -> Error {
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a field of the form is longer than {limit} bytes"))
}

/// What the client is told of a form that cannot be read.
fn refuse(error: multer::Error) -> Error {
    match error {
        multer::Error::StreamReadFailed(error) => match error.downcast::<BodyError>() {
            Ok(error) => Error::from(*error),
            Err(error) => match error.downcast::<HeadersTooLong>() {
                Ok(error) => Error::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, error.to_string()),
                Err(error) => {
                    let error: Box<dyn std::error::Error> = error;
                    Error::status_only(StatusCode::INTERNAL_SERVER_ERROR).with_source(error)
                }
            },
        },
        error => Error::new(StatusCode::BAD_REQUEST, "the form is malformed").with_source(error),
    }
}

/// The parser takes in whatever a stream will give it. The gate lets one piece through at a time, and only when the
/// parser can do nothing with what it has, so that a client cannot fill the memory by being quicker than the handler.
#[derive(Debug, Default)]
struct Gate {
    open: Cell<bool>,
    /// Bytes that were let through since the last field or piece.
    passed: Cell<u64>,
}

impl Gate {
    fn drive<T>(&self, cx: &mut Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        loop {
            if let Poll::Ready(ready) = poll(cx) {
                return Poll::Ready(ready);
            }
            // It was open, and nothing came: the body will wake who waits.
            if self.open.replace(true) {
                return Poll::Pending;
            }
        }
    }
}

/// Why no more is read.
#[derive(Debug, thiserror::Error)]
#[error("the header section of a field has more than {HEADER_BYTES_MAX} bytes")]
struct HeadersTooLong;

/// The body, through the gate.
struct Pieces {
    body: Body,
    gate: Rc<Gate>,
}

/// The parser asks for what is `Send`; it stays on its core all the same.
struct SendPieces(SendWrapper<Pieces>);

impl Stream for SendPieces {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let pieces = &mut *self.0;
        if !pieces.gate.open.get() {
            return Poll::Pending;
        }
        let next = ready!(pieces.body.poll_chunk(cx));
        pieces.gate.open.set(false);
        Poll::Ready(match next {
            Some(Ok(chunk)) => {
                let passed = pieces.gate.passed.get() + chunk.len() as u64;
                pieces.gate.passed.set(passed);
                // The piece that ends a long header section may be long itself.
                if passed > HEADER_BYTES_MAX + chunk.len() as u64 {
                    Some(Err(HeadersTooLong.into()))
                } else {
                    Some(Ok(chunk.into_bytes()))
                }
            }
            Some(Err(error)) => Some(Err(error.into())),
            None => None,
        })
    }
}
