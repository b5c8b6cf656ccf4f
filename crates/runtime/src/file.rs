//! Files: through tokio-uring on the ring back end, on blocking threads on the other.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_uring::buf::{IoBuf, IoBufMut};

use crate::backend::BackendKind;
use crate::blocking::blocking;
use crate::core::{Core, FILE_BUFFER_BYTES};
use crate::pinned::{PinnedBuf, PinnedBytes};

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Its length in bytes.
    pub len: u64,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// When it was last changed.
    pub modified: SystemTime,
    /// Its number, which no other file of the same file system has at the same time.
    pub inode: u64,
}

/// A file that is open for reading.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("greeting.txt");
/// std::fs::write(&path, "hello from a file")?;
/// let text = gimmal_runtime::Cores::builder().count(1).run(move |core| {
///     let path = path.clone();
///     async move {
///         let file = gimmal_runtime::File::open(&core, &path).await?;
///         Ok::<_, std::io::Error>(file.read_at(11).await?.to_vec())
///     }
/// })?;
/// assert_eq!(text[0].as_deref().unwrap(), b"a file");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct File(Inner);

enum Inner {
    Ring(tokio_uring::fs::File),
    Blocking(Arc<std::fs::File>),
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ring(_) => "Ring",
            Self::Blocking(_) => "Blocking",
        })
    }
}

// SAFETY: a pinned buffer stays where it is, and initialised, for as long as it is owned, wherever the handle is
// moved; tokio-uring owns it until the operation has completed.
unsafe impl IoBuf for PinnedBuf {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; the handle is the buffer's only one, so writing to it aliases nothing. The whole buffer is
// initialised from the start, so there is nothing to note.
unsafe impl IoBufMut for PinnedBuf {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// What `open(2)` fails with.
    pub async fn open(core: &Rc<Core>, path: impl AsRef<Path>) -> io::Result<Self> {
        let inner = match core.backend() {
            BackendKind::IoUring => Inner::Ring(tokio_uring::fs::File::open(path).await?),
            BackendKind::Epoll => {
                let path = path.as_ref().to_owned();
                let file = blocking(move || std::fs::File::open(path)).await.map_err(io::Error::other)??;
                Inner::Blocking(Arc::new(file))
            }
        };
        Ok(Self(inner))
    }

    /// Takes a file that was opened by other means, for reading on the core that the calling thread runs. Outside of
    /// a core it is read on blocking threads.
    ///
    /// ```
    /// # let path = tempfile::NamedTempFile::new()?;
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let file = gimmal_runtime::File::from_std(std::fs::File::open(&path)?);
    /// assert!(file.read_at(0).await?.is_empty());
    /// # Ok::<(), std::io::Error>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn from_std(file: std::fs::File) -> Self {
        match Core::current().map(|core| core.backend()) {
            Some(BackendKind::IoUring) => Self(Inner::Ring(tokio_uring::fs::File::from_std(file))),
            Some(BackendKind::Epoll) | None => Self(Inner::Blocking(Arc::new(file))),
        }
    }

    /// The file's length, kind and time of change.
    ///
    /// # Errors
    /// What `statx(2)` fails with.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let metadata = match &self.0 {
            // A stat of an open file is answered from memory: no thread is worth it.
            Inner::Ring(file) => {
                let copy = std::mem::ManuallyDrop::new(borrowed(file));
                copy.metadata()?
            }
            Inner::Blocking(file) => file.metadata()?,
        };
        Ok(Metadata {
            len: metadata.len(),
            is_file: metadata.is_file(),
            modified: metadata.modified()?,
            inode: metadata.ino(),
        })
    }

    /// Reads up to 64 KiB from `position` into a pinned buffer; empty at the end of the file.
    ///
    /// # Errors
    /// What `pread(2)` fails with.
    pub async fn read_at(&self, position: u64) -> io::Result<PinnedBytes> {
        // A pinned buffer belongs to this thread, so a blocking thread reads into memory of its own.
        let buffer = Core::current().and_then(|core| core.take_buffer());
        match (&self.0, buffer) {
            (Inner::Ring(file), Some(buffer)) => {
                let (read, buffer) = file.read_at(buffer, position).await;
                Ok(buffer.freeze(read?))
            }
            _ => self.read_at_heap(position).await,
        }
    }

    async fn read_at_heap(&self, position: u64) -> io::Result<PinnedBytes> {
        let memory = vec![0; FILE_BUFFER_BYTES as usize];
        let (mut memory, read) = match &self.0 {
            Inner::Ring(file) => {
                let (read, memory) = file.read_at(memory, position).await;
                (memory, read?)
            }
            Inner::Blocking(file) => {
                let file = Arc::clone(file);
                let read = move || {
                    let mut memory = memory;
                    file.read_at(&mut memory, position).map(|read| (memory, read))
                };
                blocking(read).await.map_err(io::Error::other)??
            }
        };
        memory.truncate(read);
        Ok(memory.into())
    }
}

/// A second handle to the same descriptor, which must not be closed.
fn borrowed(file: &tokio_uring::fs::File) -> std::fs::File {
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the caller never drops the copy.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(file.as_raw_fd()) }
}
