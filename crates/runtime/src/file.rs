//! Files: out of the page cache where what is wanted lies there; else through tokio-uring on the ring back end, and on
//! blocking threads on the other.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_uring::buf::{BoundedBuf, IoBuf, IoBufMut};

use crate::backend::BackendKind;
use crate::blocking::blocking;
use crate::clock::Tick;
use crate::core::{Core, FILE_PIECE_BYTES};
use crate::pinned::{PinnedBuf, PinnedBytes};

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Its length in bytes.
    pub len: u64,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// When its content was last changed, as whoever changed it may have set it.
    pub modified: SystemTime,
    /// When its content, its name or its owner was last changed, as the kernel has noted it.
    pub changed: SystemTime,
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
pub struct File {
    inner: Inner,
    /// What was found in the page cache last, and when.
    cached: Cell<Option<(u64, u64, Tick)>>,
}

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
    fn new(inner: Inner) -> Self {
        Self { inner, cached: Cell::new(None) }
    }

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
        Ok(Self::new(inner))
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
            Some(BackendKind::IoUring) => Self::new(Inner::Ring(tokio_uring::fs::File::from_std(file))),
            Some(BackendKind::Epoll) | None => Self::new(Inner::Blocking(Arc::new(file))),
        }
    }

    /// The file's length, kind and time of change. They are in memory for as long as the file is open, so nothing is
    /// waited for.
    ///
    /// # Errors
    /// What `fstat(2)` fails with.
    pub fn metadata(&self) -> io::Result<Metadata> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the descriptor is open, and the kernel fills in the structure, which lives through the call.
        let stat = unsafe {
            if libc::fstat(self.as_fd().as_raw_fd(), stat.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            stat.assume_init()
        };
        Ok(Metadata {
            len: stat.st_size as u64,
            is_file: stat.st_mode & libc::S_IFMT == libc::S_IFREG,
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
        })
    }

    /// Reads up to 64 KiB from `position` into a pinned buffer; empty at the end of the file. What lies in the page
    /// cache is taken from there at once; for the rest the disk is waited for, and the core goes on.
    ///
    /// # Errors
    /// What `pread(2)` fails with.
    pub async fn read_at(&self, position: u64) -> io::Result<PinnedBytes> {
        let Some(mut buffer) = Core::current().and_then(|core| core.take_buffer()) else {
            return self.read_at_heap(position).await;
        };
        if let Ok(read) = read_cached(self.as_fd(), &mut buffer[..FILE_PIECE_BYTES], position) {
            return Ok(buffer.freeze(read));
        }
        match &self.inner {
            Inner::Ring(file) => {
                let (read, buffer) = file.read_at(buffer.slice(..FILE_PIECE_BYTES), position).await;
                Ok(buffer.into_inner().freeze(read?))
            }
            // A pinned buffer belongs to this thread, so a blocking thread reads into memory of its own.
            Inner::Blocking(_) => self.read_at_heap(position).await,
        }
    }

    async fn read_at_heap(&self, position: u64) -> io::Result<PinnedBytes> {
        let memory = vec![0; FILE_PIECE_BYTES];
        let (mut memory, read) = match &self.inner {
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

    /// Whether a range can be read without waiting for the disk, as far as a look at every [`STRIDE`] bytes tells: the
    /// page cache is filled in larger pieces, and what is used is the last to be dropped from it. What was found there is
    /// not looked for again before the next tick.
    pub(crate) fn is_cached(&self, range: &Range<u64>, now: Tick) -> bool {
        let known =
            self.cached.get().filter(|(start, end, at)| (*start..=*end).contains(&range.start) && *at == now);
        let (start, from) = known.map_or((range.start, range.start), |(start, end, _)| (start, end));
        if from >= range.end {
            return true;
        }
        let strides = from / STRIDE + 1..range.end.div_ceil(STRIDE);
        let places = [from].into_iter().chain(strides.map(|stride| stride * STRIDE)).chain([range.end - 1]);
        let cached = places.into_iter().all(|place| read_cached(self.as_fd(), &mut [0], place).is_ok());
        if cached {
            self.cached.set(Some((start, range.end, now)));
        }
        cached
    }
}

/// Bytes between the places at which the page cache is looked at: as many as the kernel reads ahead at once.
const STRIDE: u64 = 128 * 1024;

/// Reads what lies in the page cache; an error where that is not the first of it, or the file system cannot tell.
fn read_cached(file: BorrowedFd<'_>, memory: &mut [u8], position: u64) -> io::Result<usize> {
    let vector = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() };
    let position = libc::off_t::try_from(position).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel writes to the memory that the vector names and no other.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, position, libc::RWF_NOWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let since = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH - since } else { UNIX_EPOCH + since };
    whole + Duration::from_nanos(nanoseconds.unsigned_abs())
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner {
            // SAFETY: the descriptor is open for as long as the file is, which is borrowed.
            Inner::Ring(file) => unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) },
            Inner::Blocking(file) => file.as_fd(),
        }
    }
}
