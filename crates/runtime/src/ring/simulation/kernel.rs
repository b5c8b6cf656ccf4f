//! A kernel with direct descriptors, provided buffers and clients, that takes its time.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;

use io_uring::types::BufRingEntry;
use io_uring::{opcode, squeue};

use super::super::{BULK_GROUP, Completion};
use super::Pending;
use super::random::{Random, byte_of};
use crate::provided_ring::ProvidedRing;

const MORE: u32 = 1 << 1;
const BUFFER: u32 = 1;
const NOTIFICATION: u32 = 1 << 3;
const SKIP_SUCCESS: u8 = 1 << 6;
const FIXED_FILE: u8 = 1;
const BUFFER_SELECT: u8 = 1 << 5;
const MULTISHOT: u16 = 1 << 1;
const ACCEPT_MULTISHOT: u16 = 1;
const CANCEL_ALL: u32 = 1;
const CANCEL_FD: u32 = 1 << 1;
const CANCEL_ANY: u32 = 1 << 2;
/// Few, so that the ring's backlog is used as well.
const SUBMISSIONS: usize = 16;

/// `struct io_uring_sqe`, as far as it is looked at.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Sqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    offset: u64,
    address: u64,
    len: u32,
    operation_flags: u32,
    user_data: u64,
    buffer_group: u16,
    personality: u16,
    file_index: u32,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<Sqe>() == size_of::<squeue::Entry>());

/// A connection as the kernel and its client see it.
pub(super) struct Socket {
    /// What the server may send begins with byte 0 of this stream.
    pub(super) marker: u64,
    /// What the client has received.
    received: usize,
    /// Bytes that the client has sent.
    sent: usize,
    /// Packets of the client's that nobody has received.
    packets: VecDeque<usize>,
    /// Bytes received by the server.
    taken: usize,
    room: usize,
    ended: bool,
    is_reset: bool,
    /// Times that its descriptor was closed.
    pub(super) closed: usize,
    pub(super) accepted: bool,
    shut: bool,
}

struct Request {
    sqe: Sqe,
    /// Whose descriptor it named when it was queued.
    named: Option<usize>,
    cancelled: bool,
    sent: usize,
}

/// Memory that a zero-copy send has handed over, with what was in it.
struct Notification {
    user_data: u64,
    address: u64,
    bytes: Vec<u8>,
}

struct Buffers {
    address: u64,
    entries: u16,
    head: u16,
}

impl Buffers {
    fn of(ring: &ProvidedRing) -> Self {
        Self { address: ring.address(), entries: ring.entries(), head: 0 }
    }

    /// The next buffer that is listed: its address, length and index.
    fn take(&mut self) -> Option<(u64, u32, u16)> {
        let base = self.address as *const BufRingEntry;
        // SAFETY: the ring's memory is alive as long as the ring that this kernel belongs to, and one thread uses both.
        let tail = unsafe { *BufRingEntry::tail(base) };
        if self.head == tail {
            return None;
        }
        // SAFETY: as above; the masked index lies within the ring.
        let entry = unsafe { &*base.add(usize::from(self.head & (self.entries - 1))) };
        self.head = self.head.wrapping_add(1);
        Some((entry.addr(), entry.len(), entry.bid()))
    }
}

/// See the [module](super).
pub(in crate::ring) struct SimulatedKernel {
    random: Random,
    queue: VecDeque<Request>,
    requests: Vec<Request>,
    notifications: Vec<Notification>,
    completions: VecDeque<(u64, i32, u32)>,
    files: Vec<Option<usize>>,
    pub(super) sockets: Vec<Socket>,
    waiting: VecDeque<usize>,
    receive: Buffers,
    bulk: Buffers,
    /// What the descriptors that are installed are duplicates of, and the end that sees when all are closed.
    installed: (Option<UnixStream>, UnixStream),
    /// What must not happen, and has.
    pub(super) faults: Vec<String>,
    pub(super) entries: usize,
    /// It refuses nothing any more, and lets everything go out.
    pub(super) calm: bool,
    /// It does nothing any more, for good.
    pub(super) broken: bool,
}

impl SimulatedKernel {
    pub(super) fn new(seed: u64, files: usize, receive: &ProvidedRing, bulk: &ProvidedRing) -> Self {
        let (original, other_end) = UnixStream::pair().unwrap();
        other_end.set_nonblocking(true).unwrap();
        Self {
            installed: (Some(original), other_end),
            random: Random::new(seed ^ 0x6b65_726e),
            queue: VecDeque::new(),
            requests: Vec::new(),
            notifications: Vec::new(),
            completions: VecDeque::new(),
            files: vec![None; files],
            sockets: Vec::new(),
            waiting: VecDeque::new(),
            receive: Buffers::of(receive),
            bulk: Buffers::of(bulk),
            faults: Vec::new(),
            entries: 0,
            calm: false,
            broken: false,
        }
    }

    pub(super) fn push(&mut self, entry: &squeue::Entry) -> bool {
        if self.queue.len() == SUBMISSIONS {
            return false;
        }
        // SAFETY: an entry is the 64 bytes of the kernel's own structure, for which every value is valid.
        let sqe = unsafe { std::ptr::from_ref(entry).cast::<Sqe>().read() };
        self.entries += 1;
        let named = self.named(&sqe);
        if self.slot(&sqe).is_some() && named.is_none() {
            self.faults.push(format!("an entry names a free descriptor: {sqe:?}"));
        }
        self.queue.push_back(Request { sqe, named, cancelled: false, sent: 0 });
        true
    }

    pub(super) fn pending(&self) -> Pending {
        Pending { queued: self.queue.len() as u32, deferred: true, overflow: false }
    }

    /// Keys of the operations that the kernel holds.
    pub(super) fn holds(&self) -> impl Iterator<Item = u64> {
        let requests = self.queue.iter().chain(&self.requests).map(|request| request.sqe.user_data);
        requests
            .chain(self.notifications.iter().map(|notification| notification.user_data))
            .chain(self.completions.iter().map(|completion| completion.0))
            .filter(|key| *key != 0)
    }

    pub(super) fn collect(&mut self, completions: &mut Vec<Completion>) {
        let all = self.completions.drain(..);
        completions.extend(all.filter_map(|(key, result, flags)| Completion::new(key, result, flags)));
    }

    pub(super) fn enter(&mut self) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::from_raw_os_error(libc::EBADFD));
        }
        if !self.calm && self.random.chance(3) {
            let refusals = [libc::EAGAIN, libc::EBUSY, libc::EINTR, libc::ENOMEM];
            return Err(io::Error::from_raw_os_error(refusals[self.random.below(4)]));
        }
        let mut submitted = 0;
        while let Some(request) = self.queue.pop_front() {
            self.issue(request);
            submitted += 1;
            if !self.calm && self.random.chance(2) {
                break;
            }
        }
        self.progress();
        Ok(submitted)
    }

    // What the scenario's clients do.

    pub(super) fn connect(&mut self) -> usize {
        let index = self.sockets.len();
        self.sockets.push(Socket {
            marker: index as u64 + 1,
            received: 0,
            sent: 0,
            packets: VecDeque::new(),
            taken: 0,
            room: 2000,
            ended: false,
            is_reset: false,
            closed: 0,
            accepted: false,
            shut: false,
        });
        self.waiting.push_back(index);
        index
    }

    /// A random client does something.
    pub(super) fn clients(&mut self) {
        if self.sockets.is_empty() {
            return;
        }
        let from = self.sockets.len().saturating_sub(12);
        let index = from + self.random.below(self.sockets.len() - from);
        let action = self.random.below(100);
        let bytes = match self.random.below(3) {
            0 => 1,
            1 => 1 + self.random.below(300),
            _ => 1 + self.random.below(20_000),
        };
        let socket = &mut self.sockets[index];
        match action {
            0..60 if !socket.ended && !socket.is_reset && socket.packets.len() < 40 => {
                socket.sent += bytes;
                socket.packets.push_back(bytes);
            }
            60..90 => socket.room += bytes * 3,
            90..95 => socket.ended = true,
            95..98 => socket.is_reset = true,
            _ => {}
        }
    }

    /// Whatever waits in the clients goes on.
    pub(super) fn calm(&mut self) {
        self.calm = true;
        for socket in &mut self.sockets {
            socket.ended = true;
            socket.room = usize::MAX;
        }
    }

    /// Whether a descriptor that was installed is open still. None can be installed any more.
    pub(super) fn has_installed(&mut self) -> bool {
        self.installed.0 = None;
        self.installed.1.read(&mut [0]).is_err()
    }

    fn slot(&self, sqe: &Sqe) -> Option<usize> {
        let names = match sqe.opcode {
            opcode::Close::CODE => return (sqe.file_index > 0).then(|| sqe.file_index as usize - 1),
            opcode::AcceptMulti::CODE => false,
            opcode::AsyncCancel2::CODE => sqe.operation_flags & CANCEL_FD != 0,
            _ => sqe.flags & FIXED_FILE != 0,
        };
        names.then_some(sqe.fd as usize)
    }

    fn named(&self, sqe: &Sqe) -> Option<usize> {
        self.slot(sqe).and_then(|slot| self.files[slot])
    }

    fn issue(&mut self, request: Request) {
        match request.sqe.opcode {
            // A thread of the kernel's looks up the descriptor, whenever it gets to it.
            opcode::Shutdown::CODE => self.requests.push(request),
            opcode::AsyncCancel2::CODE => self.cancel(&request),
            opcode::Close::CODE | opcode::SetSockOpt::CODE | opcode::FixedFdInstall::CODE => {
                self.carry_out(&request);
            }
            _ if !self.calm && self.random.chance(40) => self.requests.push(request),
            _ => self.try_now(request),
        }
    }

    /// Lets some of what waits go on, in any order.
    fn progress(&mut self) {
        let waiting = std::mem::take(&mut self.requests);
        for request in waiting {
            if self.calm || self.random.chance(50) {
                self.try_now(request);
            } else {
                self.requests.push(request);
            }
        }
        for notification in std::mem::take(&mut self.notifications) {
            if !self.calm && self.random.chance(70) {
                self.notifications.push(notification);
                continue;
            }
            // SAFETY: the ring keeps the memory of a zero-copy send until it is notified. That is what is tested here, as
            // far as memory that was let go of has other contents.
            let now = unsafe { bytes_at(notification.address, notification.bytes.len()) };
            if now != notification.bytes {
                self.faults.push("the memory of a zero-copy send has changed before its notification".into());
            }
            let copied = if self.random.chance(10) { i32::MIN } else { 0 };
            self.completions.push_back((notification.user_data, copied, NOTIFICATION));
        }
    }

    fn cancel(&mut self, cancel: &Request) {
        let sqe = &cancel.sqe;
        let file = self.named(sqe);
        self.check_file(cancel);
        let mut found = 0;
        let mut requests = std::mem::take(&mut self.requests);
        for request in &mut requests {
            let hit = if sqe.operation_flags & CANCEL_ANY != 0 {
                true
            } else if sqe.operation_flags & CANCEL_FD != 0 {
                request.named.is_some() && request.named == file
            } else {
                request.sqe.user_data == sqe.address
            };
            if hit {
                request.cancelled = true;
                found += 1;
                if sqe.operation_flags & (CANCEL_ALL | CANCEL_ANY) == 0 {
                    break;
                }
            }
        }
        self.requests = requests;
        let result = if found == 0 { -libc::ENOENT } else { found };
        self.complete(sqe, result, 0);
    }

    fn complete(&mut self, sqe: &Sqe, result: i32, flags: u32) {
        if result < 0 || sqe.flags & SKIP_SUCCESS == 0 {
            self.completions.push_back((sqe.user_data, result, flags));
        }
    }

    /// The descriptor that a request named must still be the same connection's when it is carried out.
    fn check_file(&mut self, request: &Request) {
        if self.slot(&request.sqe).is_some() && self.named(&request.sqe) != request.named {
            let (was, is) = (request.named, self.named(&request.sqe));
            self.faults
                .push(format!("an entry meant for {was:?} is carried out on {is:?}: {:?}", request.sqe));
        }
    }

    fn try_now(&mut self, request: Request) {
        self.check_file(&request);
        if request.cancelled {
            let result = if request.sent > 0 { request.sent as i32 } else { -libc::ECANCELED };
            let sqe = request.sqe;
            return self.complete(&sqe, result, 0);
        }
        match request.sqe.opcode {
            opcode::AcceptMulti::CODE => self.accept(request),
            opcode::RecvMulti::CODE => self.receive(request),
            opcode::Send::CODE | opcode::SendZc::CODE | opcode::SendMsg::CODE => self.send(request),
            opcode::PollAdd::CODE => match self.named(&request.sqe) {
                Some(socket) if self.sockets[socket].room == 0 && !self.sockets[socket].is_reset => {
                    self.requests.push(request);
                }
                _ => self.complete(&request.sqe, libc::POLLOUT.into(), 0),
            },
            opcode::Shutdown::CODE => self.carry_out(&request),
            other => self.faults.push(format!("operation {other} is not expected")),
        }
    }

    fn carry_out(&mut self, request: &Request) {
        self.check_file(request);
        let sqe = request.sqe;
        let (slot, socket) = (self.slot(&sqe), self.named(&sqe));
        let result = match (sqe.opcode, socket) {
            (_, None) => -libc::EBADF,
            (opcode::Close::CODE, Some(socket)) => {
                self.sockets[socket].closed += 1;
                self.files[slot.unwrap_or_default()] = None;
                // What is still under way on it belongs to the descriptor that has gone.
                if self.requests.iter().any(|other| other.named == Some(socket)) {
                    self.faults
                        .push("a descriptor is closed while an operation that names it is pending".into());
                }
                0
            }
            (opcode::Shutdown::CODE, Some(socket)) => {
                self.sockets[socket].shut = true;
                0
            }
            (opcode::FixedFdInstall::CODE, Some(_)) => {
                let original = self.installed.0.as_ref().unwrap();
                original.try_clone().unwrap().into_raw_fd()
            }
            (_, Some(_)) => 0,
        };
        self.complete(&sqe, result, 0);
    }

    fn accept(&mut self, request: Request) {
        let sqe = request.sqe;
        let multishot = sqe.ioprio & ACCEPT_MULTISHOT != 0;
        loop {
            let Some(client) = self.waiting.pop_front() else { return self.requests.push(request) };
            let Some(slot) = self.files.iter().position(Option::is_none) else {
                self.waiting.push_front(client);
                return self.complete(&sqe, -libc::ENFILE, 0);
            };
            self.files[slot] = Some(client);
            self.sockets[client].accepted = true;
            let goes_on = multishot && !self.random.chance(5);
            self.complete(&sqe, slot as i32, if goes_on { MORE } else { 0 });
            if !goes_on {
                return;
            }
        }
    }

    fn receive(&mut self, request: Request) {
        let sqe = request.sqe;
        let Some(index) = self.named(&sqe) else { return self.complete(&sqe, -libc::EBADF, 0) };
        let multishot = sqe.ioprio & MULTISHOT != 0;
        loop {
            let socket = &mut self.sockets[index];
            if socket.is_reset && socket.packets.is_empty() {
                return self.complete(&sqe, -libc::ECONNRESET, 0);
            }
            let Some(packet) = socket.packets.front().copied() else {
                if socket.ended {
                    return self.complete(&sqe, 0, 0);
                }
                return self.requests.push(request);
            };
            let (address, room, flags) = if sqe.flags & BUFFER_SELECT != 0 {
                let buffers = if sqe.buffer_group == BULK_GROUP { &mut self.bulk } else { &mut self.receive };
                let Some((address, len, id)) = buffers.take() else {
                    return self.complete(&sqe, -libc::ENOBUFS, 0);
                };
                (address, len as usize, BUFFER | u32::from(id) << 16)
            } else {
                (sqe.address, sqe.len as usize, 0)
            };
            let len = packet.min(room);
            match packet - len {
                0 => drop(socket.packets.pop_front()),
                rest => socket.packets[0] = rest,
            }
            let marker = !socket.marker;
            for position in 0..len {
                // SAFETY: the ring gave this memory away, for at least `room` bytes, until this completion.
                unsafe {
                    (address as *mut u8).add(position).write(byte_of(marker, socket.taken + position));
                }
            }
            socket.taken += len;
            let goes_on = multishot && !self.random.chance(5);
            self.complete(&sqe, len as i32, flags | if goes_on { MORE } else { 0 });
            if !goes_on {
                return;
            }
        }
    }

    fn send(&mut self, mut request: Request) {
        let sqe = request.sqe;
        let Some(index) = self.named(&sqe) else { return self.complete(&sqe, -libc::EBADF, 0) };
        // SAFETY: the ring keeps what an entry points to until its completion.
        let bytes = unsafe { bytes_to_send(&sqe) };
        let socket = &mut self.sockets[index];
        if socket.is_reset || socket.shut {
            return self.complete(&sqe, -libc::ECONNRESET, 0);
        }
        let len = (bytes.len() - request.sent).min(socket.room);
        for (position, byte) in bytes[request.sent..][..len].iter().enumerate() {
            if *byte != byte_of(socket.marker, socket.received + position) {
                self.faults.push(format!("client {index} received what was not meant for it: {sqe:?}"));
                break;
            }
        }
        socket.received += len;
        socket.room -= len;
        request.sent += len;
        let is_short = !self.calm && self.random.chance(5) && request.sent > 0;
        if request.sent < bytes.len() && !is_short {
            return self.requests.push(request);
        }
        if sqe.opcode == opcode::SendZc::CODE {
            self.complete(&sqe, request.sent as i32, MORE);
            self.notifications.push(Notification { user_data: sqe.user_data, address: sqe.address, bytes });
        } else {
            self.complete(&sqe, request.sent as i32, 0);
        }
    }
}

/// What a send is to send.
///
/// # Safety
/// The entry points to live memory.
unsafe fn bytes_to_send(sqe: &Sqe) -> Vec<u8> {
    if sqe.opcode != opcode::SendMsg::CODE {
        // SAFETY: by the caller.
        return unsafe { bytes_at(sqe.address, sqe.len as usize) };
    }
    // SAFETY: by the caller; the message lists as many vectors as it says.
    let vectors = unsafe {
        let message = &*(sqe.address as *const libc::msghdr);
        std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen)
    };
    let piece = |vector: &libc::iovec| {
        // SAFETY: by the caller.
        unsafe { bytes_at(vector.iov_base as u64, vector.iov_len) }
    };
    vectors.iter().flat_map(piece).collect()
}

/// # Safety
/// There are `len` live bytes at `address`.
unsafe fn bytes_at(address: u64, len: usize) -> Vec<u8> {
    // SAFETY: by the caller.
    unsafe { std::slice::from_raw_parts(address as *const u8, len).to_vec() }
}
