//! A body that is a part of a file.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use gimmal_runtime::{File, LocalFuture};

use crate::body::{BodyError, Chunk};

/// The file is shorter than was promised.
#[derive(Debug, thiserror::Error)]
#[error("the file has become shorter while it was sent")]
pub(crate) struct Shrunk;

impl From<Shrunk> for BodyError {
    fn from(shrunk: Shrunk) -> Self {
        Self::Stream(shrunk.into())
    }
}

/// What is left of a part of an open file. One that has been replaced since is sent to its end all the same.
pub(crate) struct FileBody {
    file: Rc<File>,
    left: Range<u64>,
    reading: Option<LocalFuture<io::Result<Chunk>>>,
}

impl FileBody {
    pub(crate) fn new(file: Rc<File>, range: Range<u64>) -> Self {
        Self { file, left: range, reading: None }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where the next byte lies in the file.
    pub(crate) fn position(&self) -> u64 {
        self.left.start
    }

    pub(crate) fn len(&self) -> u64 {
        self.left.end - self.left.start
    }

    /// Notes that so many bytes have gone.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.left.start += bytes;
    }

    /// Reads the next piece.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        if self.len() == 0 {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (file, position) = (Rc::clone(&self.file), self.left.start);
            LocalFuture::new(async move { file.read_at(position).await })
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(Some(match read {
            Ok(chunk) if chunk.is_empty() => Err(Shrunk.into()),
            Ok(mut chunk) => {
                chunk.truncate(usize::try_from(self.len()).unwrap_or(usize::MAX));
                self.advance(chunk.len() as u64);
                Ok(chunk)
            }
            Err(error) => Err(BodyError::Stream(error.into())),
        }))
    }
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody").field("left", &self.left).finish_non_exhaustive()
    }
}
