//! The loop on `io_uring`.

use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, RawFd};
use std::{io, mem, ptr};

use io_uring::types::{Fd, Fixed};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};

use crate::answers::{Answers, BURST};
use crate::buffers::{self, Buffers};
use crate::requests::{Asked, Requests, Unexpected};

const CONNECTIONS_MAX: usize = 16_384;
const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;

pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)?;
    let (mut submitter, submissions, completions) = ring.split();
    submitter.register_ring_fd()?;
    let slots = CONNECTIONS_MAX.min(open_files_max()?);
    submitter.register_files_sparse(slots as u32)?;
    let buffers = Buffers::register(&submitter)?;
    Core {
        submitter,
        submissions,
        completions,
        listener: listener.as_raw_fd(),
        buffers,
        connections: (0..slots).map(|_| Connection::default()).collect(),
        ready: Vec::new(),
        deaf: Vec::new(),
        answers: Answers::new(),
    }
    .run()
}

/// The kernel lets a ring have as many direct descriptors as the process may have open files.
fn open_files_max() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur as usize)
}

/// One thread's ring and all that lives on it.
struct Core<'ring> {
    submitter: Submitter<'ring>,
    submissions: SubmissionQueue<'ring>,
    completions: CompletionQueue<'ring>,
    listener: RawFd,
    buffers: Buffers,
    /// Indexed by direct descriptor.
    connections: Vec<Connection>,
    /// Connections that may have something to send or to close, each named once.
    ready: Vec<u32>,
    /// Connections whose receive has ended while they are open.
    deaf: Vec<u32>,
    answers: Answers,
}

#[derive(Default)]
struct Connection {
    requests: Requests,
    /// Plain answers that have not gone out.
    owed: u32,
    /// Whether the answer that announces the close has to go out after them.
    last_owed: bool,
    echo: Option<Box<Echo>>,
    /// Named in `Core::ready`.
    ready: bool,
    receiving: bool,
    sending: bool,
    /// Named in `Core::deaf`.
    deaf: bool,
    /// To be closed when all has gone out.
    closing: bool,
    closed: bool,
}

/// An echo on its way: the bytes go out from the very buffers that they came in.
struct Echo {
    head: Vec<u8>,
    body: Vec<Piece>,
    in_flight: Message,
}

/// A piece of a body, in a receive buffer that is given back after it.
struct Piece {
    bytes: *const u8,
    len: usize,
    buffer: u16,
}

/// What one send refers to; it stays as it is until that has completed.
struct Message {
    head: Vec<u8>,
    parts: Vec<libc::iovec>,
    buffers: Vec<u16>,
    header: libc::msghdr,
}

/// What an operation was; the upper half of its user data. The lower half is the connection's slot.
mod operation {
    pub(crate) const ACCEPT: u64 = 0 << 32;
    pub(crate) const RECEIVE: u64 = 1 << 32;
    pub(crate) const SEND: u64 = 2 << 32;
    pub(crate) const CANCEL: u64 = 3 << 32;
    pub(crate) const CLOSE: u64 = 4 << 32;
}

impl Core<'_> {
    fn run(mut self) -> io::Result<()> {
        self.accept()?;
        loop {
            self.submissions.sync();
            match self.submitter.submit_and_wait(1) {
                Ok(_) => {}
                // Interrupted, or the kernel wants its completions taken first.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
                Err(error) => return Err(error),
            }
            self.submissions.sync();
            self.answers.tell_time();
            self.completions.sync();
            while let Some(completion) = self.completions.next() {
                self.complete(&completion)?;
            }
            self.completions.sync();
            while let Some(slot) = self.ready.pop() {
                self.settle(slot)?;
            }
            while self.buffers.are_available()
                && let Some(slot) = self.deaf.pop()
            {
                if mem::take(&mut self.connections[slot as usize].deaf) {
                    self.receive(slot)?;
                }
            }
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let slot = completion.user_data() as u32;
        let (result, more) = (completion.result(), cqueue::more(completion.flags()));
        match completion.user_data() & !u64::from(u32::MAX) {
            operation::ACCEPT => {
                // An error is a client that has gone already or a full table: the kernel has closed it.
                if let Ok(slot) = u32::try_from(result) {
                    self.connections[slot as usize] = Connection::default();
                    self.receive(slot)?;
                }
                if !more {
                    self.accept()?;
                }
            }
            operation::RECEIVE => {
                if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                    self.received(slot, buffer, result.max(0) as usize);
                }
                if !more {
                    self.receive_ended(slot, result);
                }
            }
            operation::SEND => {
                let connection = &mut self.connections[slot as usize];
                connection.sending = false;
                if let Some(echo) = &mut connection.echo {
                    echo.sent(&mut self.buffers);
                }
                if result < 0 {
                    connection.abandon(&mut self.buffers);
                }
                self.make_ready(slot);
            }
            _ => {}
        }
        Ok(())
    }

    fn received(&mut self, slot: u32, buffer: u16, len: usize) {
        let connection = &mut self.connections[slot as usize];
        match connection.read(buffer, self.buffers.take(buffer, len), &self.answers) {
            Ok(Kept(true)) => {}
            Ok(Kept(false)) => self.buffers.give_back(buffer),
            Err(Unexpected) => {
                self.buffers.give_back(buffer);
                connection.abandon(&mut self.buffers);
            }
        }
        self.make_ready(slot);
    }

    /// A receive ends at the end of the stream, by an error or a cancel, or when no buffer was left.
    fn receive_ended(&mut self, slot: u32, result: i32) {
        let connection = &mut self.connections[slot as usize];
        connection.receiving = false;
        if !connection.closing && (result > 0 || result == -libc::ENOBUFS) {
            connection.deaf = true;
            self.deaf.push(slot);
        } else {
            connection.closing = true;
            self.make_ready(slot);
        }
    }

    fn make_ready(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.ready {
            connection.ready = true;
            self.ready.push(slot);
        }
    }

    /// Starts what the connection needs next. One send is in flight at a time, since two could overtake each
    /// other; a slot is closed when nothing is in flight on it, so that no completion can come late.
    fn settle(&mut self, slot: u32) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        connection.ready = false;
        if connection.sending || connection.closed {
            return Ok(());
        }
        let fd = Fixed(slot);
        let bytes = if connection.owed > 0 {
            let count = connection.owed.min(BURST);
            connection.owed -= count;
            Some(self.answers.plain(count))
        } else if mem::take(&mut connection.last_owed) {
            connection.closing = true;
            Some(self.answers.last())
        } else {
            None
        };
        let entry = if let Some(bytes) = bytes {
            connection.sending = true;
            opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_WAITALL)
                .build()
                .user_data(operation::SEND | u64::from(slot))
        } else if let Some(message) = connection.echo.as_mut().and_then(|echo| echo.next_message()) {
            connection.sending = true;
            opcode::SendMsg::new(fd, message)
                .flags(libc::MSG_WAITALL as u32)
                .build()
                .user_data(operation::SEND | u64::from(slot))
        } else if !connection.closing {
            return Ok(());
        } else if connection.receiving {
            opcode::AsyncCancel::new(operation::RECEIVE | u64::from(slot))
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(operation::CANCEL)
        } else {
            connection.closed = true;
            connection.deaf = false;
            opcode::Close::new(fd).build().flags(squeue::Flags::SKIP_SUCCESS).user_data(operation::CLOSE)
        };
        self.push(&entry)
    }

    fn accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(self.listener)).allocate_file_index(true).build();
        self.push(&entry.user_data(operation::ACCEPT))
    }

    fn receive(&mut self, slot: u32) -> io::Result<()> {
        self.connections[slot as usize].receiving = true;
        let entry = opcode::RecvMulti::new(Fixed(slot), buffers::GROUP).build();
        self.push(&entry.user_data(operation::RECEIVE | u64::from(slot)))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what an entry points to is the answers or the message of a connection's echo, with its head
        // and buffers. All of it stays in place while the ring lives, and the message is not touched before its
        // completion has come.
        while unsafe { self.submissions.push(entry) }.is_err() {
            self.submissions.sync();
            self.submitter.submit()?;
            self.submissions.sync();
        }
        Ok(())
    }
}

/// Whether a connection has kept the buffer that it read.
struct Kept(bool);

impl Connection {
    fn read(&mut self, buffer: u16, mut received: &[u8], answers: &Answers) -> Result<Kept, Unexpected> {
        let mut kept = false;
        while !self.last_owed && !self.closing {
            let echo_waits = self.echo.as_ref().is_some_and(|echo| echo.waits());
            match self.requests.next(&mut received)? {
                None => break,
                Some(Asked::Plain) if !echo_waits => self.owed += 1,
                Some(Asked::Last) if !echo_waits => self.last_owed = true,
                Some(Asked::Echo(bytes)) if !echo_waits && self.owed == 0 => {
                    answers.echo_head(bytes, &mut self.echo.get_or_insert_default().head);
                }
                Some(Asked::Body(piece)) if !kept => {
                    kept = true;
                    let piece = Piece { bytes: piece.as_ptr(), len: piece.len(), buffer };
                    self.echo.get_or_insert_default().body.push(piece);
                }
                // Pipelining across kinds is not as expected.
                Some(_) => {
                    if kept {
                        self.echo.as_mut().and_then(|echo| echo.body.pop());
                    }
                    return Err(Unexpected);
                }
            }
        }
        Ok(Kept(kept))
    }

    /// Gives up what has not gone out, to be closed.
    fn abandon(&mut self, buffers: &mut Buffers) {
        self.owed = 0;
        self.last_owed = false;
        self.closing = true;
        if let Some(echo) = &mut self.echo {
            echo.head.clear();
            echo.body.drain(..).for_each(|piece| buffers.give_back(piece.buffer));
        }
    }
}

impl Default for Echo {
    fn default() -> Self {
        // SAFETY: an all-zero msghdr is an empty one.
        let header = unsafe { mem::zeroed() };
        let in_flight = Message { head: Vec::new(), parts: Vec::new(), buffers: Vec::new(), header };
        Self { head: Vec::new(), body: Vec::new(), in_flight }
    }
}

impl Echo {
    /// Whether there is something that no send carries yet.
    fn waits(&self) -> bool {
        !self.head.is_empty() || !self.body.is_empty()
    }

    /// One message of all that waits. Nothing may be in flight.
    fn next_message(&mut self) -> Option<*const libc::msghdr> {
        if !self.waits() {
            return None;
        }
        let message = &mut self.in_flight;
        mem::swap(&mut self.head, &mut message.head);
        self.head.clear();
        message.parts.clear();
        if !message.head.is_empty() {
            let head = &message.head;
            message
                .parts
                .push(libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: head.len() });
        }
        for piece in self.body.drain(..) {
            message.parts.push(libc::iovec { iov_base: piece.bytes.cast_mut().cast(), iov_len: piece.len });
            message.buffers.push(piece.buffer);
        }
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = message.parts.len();
        Some(ptr::from_ref(&message.header))
    }

    /// The send in flight has completed.
    fn sent(&mut self, buffers: &mut Buffers) {
        self.in_flight.buffers.drain(..).for_each(|buffer| buffers.give_back(buffer));
    }
}
