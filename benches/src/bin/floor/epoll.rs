//! The same loop on epoll: the control.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use crate::answers::{Answers, BURST};
use crate::requests::{Asked, Requests};

const EVENTS: usize = 1024;
const RECEIVE_BYTES: usize = 128 * 1024;

struct Connection {
    stream: TcpStream,
    requests: Requests,
    /// What the socket did not take; nothing is read before it is gone.
    unsent: Vec<u8>,
    closing: bool,
}

/// How a turn of a connection ended.
enum Turn {
    Open,
    /// There is something unsent.
    Blocked,
    Closed,
}

pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    let epoll = Epoll::new()?;
    listener.set_nonblocking(true)?;
    epoll.control(libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN)?;
    let mut answers = Answers::new();
    let mut received = vec![0; RECEIVE_BYTES];
    // Indexed by descriptor.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        epoll.wait(&mut events)?;
        answers.tell_time();
        for event in &events {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                accept(listener, &epoll, &mut connections)?;
                continue;
            }
            let place = &mut connections[fd as usize];
            let Some(connection) = place else { continue };
            let was_blocked = !connection.unsent.is_empty();
            let turn =
                if was_blocked { connection.send_rest() } else { connection.answer(&answers, &mut received) };
            match (was_blocked, turn) {
                (false, Turn::Open) | (true, Turn::Blocked) => {}
                (false, Turn::Blocked) => epoll.control(libc::EPOLL_CTL_MOD, fd, libc::EPOLLOUT)?,
                (true, Turn::Open) => epoll.control(libc::EPOLL_CTL_MOD, fd, libc::EPOLLIN)?,
                (_, Turn::Closed) => *place = None,
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        // SAFETY: no address is asked for, so no memory is written.
        let fd = unsafe {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), flags)
        };
        if fd < 0 {
            return Ok(());
        }
        // SAFETY: `fd` was just opened, and nothing else owns it.
        let stream = unsafe { TcpStream::from_raw_fd(fd) };
        epoll.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN)?;
        if connections.len() <= fd as usize {
            connections.resize_with(fd as usize + 1, || None);
        }
        let connection =
            Connection { stream, requests: Requests::default(), unsent: Vec::new(), closing: false };
        connections[fd as usize] = Some(connection);
    }
}

impl Connection {
    /// Reads once and answers with one write all that was asked.
    fn answer(&mut self, answers: &Answers, received: &mut [u8]) -> Turn {
        let len = match self.stream.read(received) {
            Ok(0) => return Turn::Closed,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Open,
            Err(_) => return Turn::Closed,
        };
        let mut rest = &received[..len];
        let (mut head, mut plain, mut body) = (Vec::new(), 0, &[][..]);
        while !self.closing {
            match self.requests.next(&mut rest) {
                Ok(Some(Asked::Plain)) if plain < BURST && head.is_empty() && body.is_empty() => plain += 1,
                Ok(Some(Asked::Last)) => self.closing = true,
                Ok(Some(Asked::Echo(bytes))) if plain == 0 && body.is_empty() => {
                    answers.echo_head(bytes, &mut head);
                }
                Ok(Some(Asked::Body(piece))) => body = piece,
                Ok(None) => break,
                // Pipelining across kinds is not as expected.
                Ok(Some(_)) | Err(_) => return Turn::Closed,
            }
        }
        let last = if self.closing { answers.last() } else { &[] };
        self.send([&head, answers.plain(plain), body, last])
    }

    fn send(&mut self, parts: [&[u8]; 4]) -> Turn {
        let mut filled = parts.iter().filter(|part| !part.is_empty());
        let sent = match (filled.next(), filled.next()) {
            (None, _) => return Turn::Open,
            (Some(only), None) => self.stream.write(only),
            _ => self.stream.write_vectored(&parts.map(IoSlice::new)),
        };
        let mut sent = match sent {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return Turn::Closed,
        };
        for part in parts {
            let skip = sent.min(part.len());
            sent -= skip;
            self.unsent.extend_from_slice(&part[skip..]);
        }
        self.turn()
    }

    fn send_rest(&mut self) -> Turn {
        match self.stream.write(&self.unsent) {
            Ok(sent) => drop(self.unsent.drain(..sent)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Turn::Closed,
        }
        self.turn()
    }

    fn turn(&self) -> Turn {
        match (self.unsent.is_empty(), self.closing) {
            (false, _) => Turn::Blocked,
            (true, true) => Turn::Closed,
            (true, false) => Turn::Open,
        }
    }
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Self> {
        // SAFETY: the call takes no memory.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn control(&self, operation: i32, fd: RawFd, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        // SAFETY: `event` is valid for the call.
        match unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Fills `events`, after waiting for the first.
    fn wait(&self, events: &mut Vec<libc::epoll_event>) -> io::Result<()> {
        events.clear();
        let room = events.spare_capacity_mut();
        // SAFETY: there is room for as many events as are asked for.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), room.as_mut_ptr().cast(), room.len() as i32, -1) };
        match usize::try_from(count) {
            // SAFETY: the kernel wrote `count` events.
            Ok(count) => unsafe { events.set_len(count) },
            Err(_) if io::Error::last_os_error().kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
        Ok(())
    }
}
