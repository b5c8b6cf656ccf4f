//! TLS between a socket and its stream.

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use gimmal_runtime::{OutBuf, SendBuf, Stream as Socket};
use gimmal_security::tls::{
    ClientCertificate, TlsClientConfig, TlsError, TlsServerConfig, TlsSession, TlsState, TlsVersion,
};

use crate::body::Chunk;

/// Plaintext that is encrypted at once where no pinned buffer is free for it.
const PIECE_BYTES: usize = 32 * 1024;
/// From this much on, plaintext is encrypted into a pinned buffer.
const PINNED_BYTES_MIN: usize = 8 * 1024;

/// The TLS session of a stream. Ciphertext is decrypted in the buffer in which it was received.
pub(super) struct Tls {
    session: RefCell<TlsSession>,
    /// Plaintext that is to be received next, the last one first.
    ready: RefCell<Vec<Chunk>>,
    /// Bytes of early data (RFC 8446, section 2.3) that are still to be received. They come before all else.
    early_bytes: Cell<usize>,
    /// What was received last was early data.
    is_early: Cell<bool>,
    client_certificate: OnceCell<Option<Rc<ClientCertificate>>>,
    is_server: bool,
    /// A server has answered the hello: what comes next from it, at the end of the handshake, are tickets.
    has_answered: Cell<bool>,
    /// A server's tickets (RFC 8446, section 4.6.1). Nobody waits for them: they go out with whatever is sent first.
    tickets: RefCell<Vec<u8>>,
}

fn failed(error: TlsError) -> io::Error {
    let kind = match error {
        TlsError::Truncated => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

impl Tls {
    fn new(session: TlsSession, is_server: bool) -> Self {
        Self {
            session: RefCell::new(session),
            ready: RefCell::default(),
            early_bytes: Cell::new(0),
            is_early: Cell::new(false),
            client_certificate: OnceCell::new(),
            is_server,
            has_answered: Cell::new(false),
            tickets: RefCell::default(),
        }
    }

    /// Takes a client in. What it is to be told is queued in any case.
    pub(super) async fn accept(socket: &Socket, config: &TlsServerConfig) -> Result<Self, TlsError> {
        let this = Self::new(TlsSession::server(config)?, true);
        this.handshake(socket).await?;
        Ok(this)
    }

    /// Introduces itself to the server `name`.
    pub(super) async fn connect(
        socket: &Socket,
        name: &str,
        config: &TlsClientConfig,
    ) -> Result<Self, TlsError> {
        let mut hello = OutBuf::take();
        let this = Self::new(TlsSession::client(config, name, &mut hello)?, false);
        socket.queue(hello);
        this.handshake(socket).await?;
        Ok(this)
    }

    async fn handshake(&self, socket: &Socket) -> Result<(), TlsError> {
        while self.session.borrow().state() == TlsState::Handshaking {
            match socket.recv().await {
                Ok(bytes) if bytes.is_empty() => self.session.borrow_mut().receive_end()?,
                Ok(bytes) => {
                    let plaintext = self.decrypt(socket, bytes)?;
                    self.unrecv(plaintext);
                }
                Err(_) => return Err(TlsError::HandshakeCutShort),
            }
        }
        Ok(())
    }

    /// Decrypts what was received, and queues what the peer is to be sent in answer.
    fn decrypt(&self, socket: &Socket, mut received: Chunk) -> Result<Chunk, TlsError> {
        let (mut plaintext, mut answer) = (OutBuf::take(), OutBuf::take());
        let mut session = self.session.borrow_mut();
        let was_handshaking = session.state() == TlsState::Handshaking;
        let result = match received.try_mut() {
            Some(bytes) => session.receive(bytes, &mut plaintext, &mut answer),
            None => session.receive(&mut received.to_vec(), &mut plaintext, &mut answer),
        };
        let is_done = was_handshaking && session.state() == TlsState::Open;
        if is_done && self.has_answered.get() && session.version() == Some(TlsVersion::Tls13) {
            self.tickets.replace(answer.to_vec());
        } else if !answer.is_empty() {
            self.has_answered.set(self.is_server);
            self.send_tickets(socket);
            socket.queue(answer);
        }
        let received_early = result?.early_bytes;
        self.early_bytes.set(self.early_bytes.get() + received_early);
        // Plaintext is mostly shorter than the ciphertext that it came in, and goes back to where that lay.
        match received.try_mut() {
            Some(bytes) if plaintext.len() <= bytes.len() => {
                bytes[..plaintext.len()].copy_from_slice(&plaintext);
                received.truncate(plaintext.len());
                Ok(received)
            }
            _ if plaintext.len() < plaintext.capacity() / 2 => Ok(Chunk::from(plaintext.to_vec())),
            // The end of a record that came in several pieces.
            _ => Ok(Chunk::from(std::mem::take(&mut *plaintext))),
        }
    }

    pub(super) fn poll_recv(&self, socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        loop {
            if let Some(chunk) = self.next_ready() {
                return Poll::Ready(Ok(chunk));
            }
            if self.session.borrow().is_peer_closed() {
                return Poll::Ready(Ok(Chunk::new()));
            }
            let bytes = ready!(socket.poll_recv(cx))?;
            if bytes.is_empty() {
                let end = self.session.borrow_mut().receive_end();
                return Poll::Ready(end.map(|()| Chunk::new()).map_err(failed));
            }
            let plaintext = self.decrypt(socket, bytes).map_err(failed)?;
            self.unrecv(plaintext);
        }
    }

    pub(super) fn try_recv(&self, socket: &Socket) -> Option<Chunk> {
        loop {
            if let Some(chunk) = self.next_ready() {
                return Some(chunk);
            }
            // What fails here fails again when it is waited for.
            let plaintext = self.decrypt(socket, socket.try_recv()?).ok()?;
            self.unrecv(plaintext);
        }
    }

    /// The next plaintext at hand. Early data never shares a chunk with what came after it.
    fn next_ready(&self) -> Option<Chunk> {
        let mut ready = self.ready.borrow_mut();
        let mut chunk = ready.pop()?;
        let early = self.early_bytes.get();
        self.is_early.set(early > 0);
        if early > 0 && early < chunk.len() {
            let early_part = chunk.split_to(early);
            ready.push(std::mem::replace(&mut chunk, early_part));
        }
        self.early_bytes.set(early.saturating_sub(chunk.len()));
        Some(chunk)
    }

    /// Whether what was received last may be a replay.
    pub(super) fn is_early(&self) -> bool {
        self.is_early.get()
    }

    pub(super) fn unrecv(&self, bytes: Chunk) {
        if !bytes.is_empty() {
            self.ready.borrow_mut().push(bytes);
        }
    }

    pub(super) fn check_may_send(&self) -> io::Result<()> {
        match self.session.borrow().state() {
            TlsState::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }

    /// Encrypts and queues. A session that is closed takes nothing: the next `send` or `flush` tells.
    pub(super) fn queue(&self, socket: &Socket, data: &SendBuf) {
        let mut session = self.session.borrow_mut();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let pinned = if rest.len() < PINNED_BYTES_MIN { None } else { socket.core().take_buffer() };
            if let Some(mut buffer) = pinned {
                match session.send_into(rest, &mut buffer) {
                    Ok(sent) if sent.taken > 0 => {
                        self.send_tickets(socket);
                        rest = &rest[sent.taken..];
                        socket.queue(buffer.freeze(sent.written));
                        continue;
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
            let piece;
            (piece, rest) = rest.split_at(rest.len().min(PIECE_BYTES));
            let mut out = self.take_tickets();
            let sent = session.send(piece, &mut out);
            socket.queue(out);
            if sent.is_err() {
                return;
            }
        }
    }

    /// Queues the end of this side's data (RFC 8446, section 6.1), once.
    pub(super) fn close(&self, socket: &Socket) {
        let mut out = self.take_tickets();
        self.session.borrow_mut().close(&mut out);
        if !out.is_empty() {
            socket.queue(out);
        }
    }

    /// What goes out before all that is encrypted from now on, to be added to.
    fn take_tickets(&self) -> OutBuf {
        let mut out = OutBuf::take();
        out.extend_from_slice(&self.tickets.take());
        out
    }

    fn send_tickets(&self, socket: &Socket) {
        let tickets = self.take_tickets();
        if !tickets.is_empty() {
            socket.queue(tickets);
        }
    }

    pub(super) fn session(&self) -> Ref<'_, TlsSession> {
        self.session.borrow()
    }

    pub(super) fn client_certificate(&self) -> Option<Rc<ClientCertificate>> {
        let read = || self.session.borrow().client_certificate().map(Rc::new);
        self.client_certificate.get_or_init(read).clone()
    }
}
