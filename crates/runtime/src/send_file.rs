//! Sending a file out of the page cache: `sendfile(2)`, called by the core itself.
//!
//! The ring has an operation for it, `IORING_OP_SPLICE`, which always goes to a thread of the kernel's and holds that for as
//! long as the peer takes. A call costs less, and with a socket that does not block it waits for nothing but the disk: so it
//! is made by a thread for blocking work where the page cache does not have what is to be sent.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use socket2::SockRef;

use crate::blocking::{BlockingError, blocking};
use crate::connection::{Connection, Io};
use crate::epoll::EpollSocket;
use crate::file::File;
use crate::ring::{OneshotFuture, Yields, writable_entry};
use crate::send_buf::SendBuf;
use crate::stream::Stream;

/// Bytes that one call sends at most, so that other connections have their turn.
const PIECE_BYTES_MAX: u64 = 1024 * 1024;

impl Stream {
    /// Sends `head`, and behind it up to `len` bytes of `file` from `position` on, which go from the page cache to the
    /// socket and are never copied into the process. Returns how many bytes of the file the kernel has taken: as many as
    /// the socket had room for and at most 1 MiB; 0 if the file ends at `position` or before, or if `len` is 0.
    ///
    /// Waits until all that was queued before has gone and the socket takes some of the file; if it took no more than a
    /// part, also until it has room again.
    ///
    /// While the disk is waited for the core goes on. Only bytes that were dropped from the page cache between two that are
    /// in it, less than 128 KiB apart, may hold the core until they are read.
    ///
    /// Bytes that are not taken yet are those of the file as it is when they are: who changes a file in place changes
    /// what is sent. Replace a file by renaming another over it instead.
    ///
    /// # Errors
    /// `InvalidInput` if the file is of a kind that cannot be sent so, or the process may open no more descriptors: read
    /// it instead; `head` has gone then. Else as [`send`](Self::send).
    ///
    /// # Cancel safety
    /// None: how much has gone is not known if the future is dropped, so [`abort`](Self::abort) the connection then.
    ///
    /// ```
    /// use gimmal_runtime::{File, Stream};
    ///
    /// async fn send_whole(stream: &Stream, file: &File) -> std::io::Result<()> {
    ///     let (mut at, end) = (0, file.metadata()?.len);
    ///     while at < end {
    ///         match stream.send_file("", file, at, end - at).await? {
    ///             0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
    ///             sent => at += sent,
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn send_file(
        &self,
        head: impl Into<SendBuf>,
        file: &File,
        position: u64,
        len: u64,
    ) -> io::Result<u64> {
        let connection = self.connection();
        self.flush().await?;
        let socket = match Descriptor::of(connection).await {
            Ok(socket) => socket,
            Err(error) => {
                self.queue(head.into());
                return Err(to_be_read(error));
            }
        };
        // The program may have aborted the connection while the descriptor was made.
        connection.check()?;
        self.send_head(&socket, head.into(), len > 0).await?;
        if len == 0 {
            return Ok(0);
        }
        let piece = len.min(PIECE_BYTES_MAX);
        let sent = loop {
            match send_piece(connection, &socket, file, position, piece).await {
                Ok(sent) => break sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(connection).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(to_be_read(error)),
            }
        };
        // It may have been aborted while the disk was waited for.
        connection.check()?;
        connection.core.counters.file_sends.add(1);
        connection.core.count_sent(connection, sent as usize);
        if (1..piece).contains(&sent) {
            // The socket is full: to try again at once would be in vain.
            writable(connection).await?;
        } else if sent < len {
            // All else that is ready has its turn.
            pause(Waker::wake_by_ref).await;
        }
        Ok(sent)
    }

    /// Sends what comes before the file, in one segment with its beginning where both fit.
    async fn send_head(&self, socket: &Descriptor<'_>, head: SendBuf, more: bool) -> io::Result<()> {
        if head.is_empty() {
            return Ok(());
        }
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | if more { libc::MSG_MORE } else { 0 };
        let sent = socket.with(|socket| SockRef::from(&socket).send_with_flags(&head, flags)).unwrap_or(0);
        self.connection().core.count_sent(self.connection(), sent);
        if sent < head.len() {
            self.queue(Bytes::copy_from_slice(&head[sent..]));
            self.flush().await?;
        }
        Ok(())
    }
}

/// How system calls name a socket. It does not block.
enum Descriptor<'a> {
    Ring(Rc<OwnedFd>),
    Epoll(&'a EpollSocket),
}

impl<'a> Descriptor<'a> {
    async fn of(connection: &'a Rc<Connection>) -> io::Result<Self> {
        let socket = match connection.io() {
            Io::Epoll(socket) => return Ok(Self::Epoll(socket)),
            Io::Ring(socket) => socket,
        };
        if let Some(kept) = connection.installed() {
            return Ok(Self::Ring(kept));
        }
        let descriptor = OneshotFuture::install(connection, socket).await?;
        // The ring looks at the flags of its operations, and not at those of the socket.
        SockRef::from(&descriptor).set_nonblocking(true)?;
        let descriptor = Rc::new(descriptor);
        connection.keep_installed(&descriptor);
        Ok(Self::Ring(descriptor))
    }

    fn with<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Ring(descriptor) => f(descriptor.as_fd()),
            Self::Epoll(socket) => socket.with_descriptor(f),
        }
    }
}

/// `InvalidInput` where no descriptor is left, as the kernel says it of files that cannot be sent.
fn to_be_read(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => io::Error::new(io::ErrorKind::InvalidInput, error),
        _ => error,
    }
}

/// Sends what the socket has room for, and waits for nothing but the disk.
async fn send_piece(
    connection: &Connection,
    socket: &Descriptor<'_>,
    file: &File,
    position: u64,
    len: u64,
) -> io::Result<u64> {
    let end = position.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
    if file.is_cached(&(position..end), connection.core.clock.now()) {
        return socket.with(|socket| send(socket, file.as_fd(), position, len));
    }
    // The thread has handles of its own, so that what it uses outlives it whatever is dropped here.
    let socket = socket.with(|socket| socket.try_clone_to_owned())?;
    let file = file.as_fd().try_clone_to_owned()?;
    connection.core.counters.file_sends_from_disk.add(1);
    match blocking(move || send(socket.as_fd(), file.as_fd(), position, len)).await {
        Ok(sent) => sent,
        Err(BlockingError::Full) => {
            pause(|waker| connection.core.wake_at_next_tick(waker)).await;
            Err(io::ErrorKind::Interrupted.into())
        }
        Err(failed) => Err(io::Error::other(failed)),
    }
}

fn send(socket: BorrowedFd<'_>, file: BorrowedFd<'_>, position: u64, len: u64) -> io::Result<u64> {
    let mut position = libc::off64_t::try_from(position).map_err(io::Error::other)?;
    // SAFETY: both descriptors are open, and the kernel reads and writes the position, which lives through the call.
    let sent =
        unsafe { libc::sendfile64(socket.as_raw_fd(), file.as_raw_fd(), &raw mut position, len as usize) };
    u64::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Waits until the socket takes more.
async fn writable(connection: &Rc<Connection>) -> io::Result<()> {
    let interrupted = || match connection.interruption() {
        None if connection.is_closed() => Some(io::ErrorKind::ConnectionAborted.into()),
        interruption => interruption,
    };
    match connection.io() {
        Io::Epoll(socket) => {
            poll_fn(|cx| {
                connection.wait_to_send(cx);
                interrupted().map_or_else(|| socket.poll_takes_more(cx), |error| Poll::Ready(Err(error)))
            })
            .await
        }
        Io::Ring(socket) => {
            let takes_more = OneshotFuture::on_socket(connection, socket, writable_entry, Yields::Nothing)?;
            let mut takes_more = pin!(takes_more);
            poll_fn(|cx| {
                connection.wait_to_send(cx);
                let error = interrupted();
                error.map_or_else(
                    || takes_more.as_mut().poll(cx).map_ok(drop),
                    |error| Poll::Ready(Err(error)),
                )
            })
            .await
        }
    }
}

/// Waits once, until what `wakes` hands the waker to uses it.
async fn pause(wakes: impl Fn(&Waker)) {
    let mut paused = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        wakes(cx.waker());
        Poll::Pending
    })
    .await;
}
