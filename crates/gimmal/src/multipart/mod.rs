//! Forms with files: `multipart/form-data` (RFC 7578).

mod temp_file;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use gimmal_http::multipart::{Boundary, Decoded, MultipartDecoder, MultipartError, MultipartEvent, Part};
use gimmal_runtime::blocking;
use http::StatusCode;

use crate::body::Body;
use crate::error::Error;
use crate::extract::{FromRequest, check_media_type};
use crate::request::Request;

pub use gimmal_http::multipart::MultipartLimits;
pub use temp_file::TempFile;

/// Bytes that are collected before they are written to a file.
const WRITE_BYTES: usize = 256 * 1024;

/// A form whose fields are read one after the other as they arrive: 415 if the body is not said to be
/// `multipart/form-data`. All of it counts against the limit of the route, and each field against the limit that is
/// given where it is read.
///
/// A form that cannot be read without losing a part, a name or a file is refused, and the client is told why: a part
/// without a name, two names for one part, a name that ends in the middle, a last boundary that never comes.
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
    decoder: MultipartDecoder,
    boundary: Boundary,
    body: Body,
    /// What has come and is not read yet: a piece of the body at most, and what was left of the one before.
    input: BytesMut,
    /// The field that was begun last.
    part: Option<Part>,
    /// Its content goes on.
    is_open: bool,
    is_over: bool,
}

/// What comes next in a form.
enum Step {
    Part(Part),
    Data(Bytes),
    PartEnd,
    End,
}

impl FromRequest for Multipart {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let is_form = |essence: &str| essence.eq_ignore_ascii_case("multipart/form-data");
        check_media_type(request, is_form, "multipart/form-data")?;
        let content_type = request.header_bytes("content-type").unwrap_or_default();
        let boundary = Boundary::from_content_type(content_type).map_err(refuse)?;
        Ok(Self {
            decoder: MultipartDecoder::new(&boundary, MultipartLimits::default()),
            boundary,
            body: request.take_body(),
            input: BytesMut::new(),
            part: None,
            is_open: false,
            is_over: false,
        })
    }
}

impl Multipart {
    /// Sets how many parts the form may have, and how long their header sections may be. To be called before the first
    /// field is read.
    #[must_use]
    pub fn limits(mut self, limits: MultipartLimits) -> Self {
        self.decoder = MultipartDecoder::new(&self.boundary, limits);
        self
    }

    /// The next field; `None` at the end. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// 400 for a malformed form, 413 for too many fields, 431 for a header section that is too long, and whatever ends
    /// the body early.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next_field(&mut self) -> Result<Option<Field<'_>>, Error> {
        while !self.is_over {
            if let Step::Part(part) = self.step().await? {
                self.part = Some(part);
                return Ok(Some(Field { form: self }));
            }
        }
        Ok(None)
    }

    /// The next piece of the field that is being read.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.is_open {
            return Ok(None);
        }
        match self.step().await? {
            Step::Data(data) => Ok(Some(data)),
            Step::Part(_) | Step::PartEnd | Step::End => Ok(None),
        }
    }

    /// Reads on. Another piece of the body is asked for only where what has come says nothing more, so that a client
    /// cannot fill the memory by being quicker than the handler.
    async fn step(&mut self) -> Result<Step, Error> {
        loop {
            let Decoded { consumed, event } = self.decoder.decode(&self.input).map_err(refuse)?;
            let step = match event {
                Some(MultipartEvent::Data(_)) => {
                    return Ok(Step::Data(self.input.split_to(consumed).freeze()));
                }
                Some(MultipartEvent::Part(part)) => Some(Step::Part(part)),
                Some(MultipartEvent::PartEnd) => Some(Step::PartEnd),
                Some(MultipartEvent::End) => Some(Step::End),
                None => None,
            };
            self.input.advance(consumed);
            if let Some(step) = step {
                self.is_open = matches!(step, Step::Part(_));
                self.is_over = matches!(step, Step::End);
                return Ok(step);
            }
            let Some(chunk) = self.body.chunk().await.transpose()? else {
                self.decoder.finish().map_err(refuse)?;
                self.is_over = true;
                return Ok(Step::End);
            };
            self.input.extend_from_slice(&chunk);
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

/// A field that was saved to a file. The file goes with the value, and with the process, unless it is
/// [kept](TempFile::keep) or [persisted](TempFile::persist).
#[derive(Debug)]
pub struct SavedFile {
    /// The file, which has no name yet where the file system can do without.
    pub file: TempFile,
    /// Its length in bytes.
    pub length: u64,
}

impl Field<'_> {
    /// The name of the field, which each has: a part without one is refused.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.form.part.as_ref().map(Part::name)
    }

    /// The name of the file as the client has it; `None` for a field that is no file. It may be anything, such as
    /// `../../etc/passwd`, and may hold line breaks: show it, escaped, but never make a path of it. What is not UTF-8
    /// in it is shown as U+FFFD.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.form.part.as_ref()?.file_name()
    }

    /// The media type that the client says the content is of.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.form.part.as_ref()?.content_type()
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
    /// of it is in memory at any time. Disks are waited for off the core. The file has no name until it is kept, so that
    /// a process that is killed leaves nothing behind; on a file system without such files (`O_TMPFILE`) it has one.
    ///
    /// # Errors
    /// 413 beyond `limit` bytes, 500 if the file cannot be written, 503 if too much waits for disks, else as [`Multipart::next_field`]. What was
    /// written is removed.
    ///
    /// # Cancel safety
    /// What has been written is removed when the future is dropped.
    pub async fn save_in(&mut self, folder: impl AsRef<Path>, limit: u64) -> Result<SavedFile, Error> {
        let folder = folder.as_ref().to_owned();
        let mut file = off_the_core(move || TempFile::new_in(&folder)).await?;
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
                file = off_the_core(move || file.as_file().write_all(&bytes).map(|()| file)).await?;
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
fn refuse(error: MultipartError) -> Error {
    Error::new(error.status(), error.to_string())
}

/// Does what may wait for a disk on a thread for blocking work.
async fn off_the_core<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = blocking(work).await;
    Ok(done.map_err(|full| Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source(full))??)
}
