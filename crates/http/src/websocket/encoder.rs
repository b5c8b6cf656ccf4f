//! Messages to frames (RFC 6455 section 6.1).

use bytes::Bytes;

use super::close::CloseFrame;
use super::deflate::{Compressor, Kind};
use super::error::SendError;
use super::frame::{CONTROL_BYTES_MAX, FrameHead, HEAD_BYTES_MAX, Opcode};
use super::message::{Message, MessageKind};
use super::{Deflate, Role, mask};

/// Writes messages as frames, in the order in which they must be sent.
///
/// ```
/// use gimmal_http::websocket::{Encoder, Role};
///
/// let (mut encoder, mut out) = (Encoder::new(Role::Server, None), Vec::new());
/// encoder.message("Hello".into(), &mut out)?;
/// encoder.ping(b"", &mut out)?;
/// assert_eq!(out, b"\x81\x05Hello\x89\x00");
/// # Ok::<(), gimmal_http::websocket::SendError>(())
/// ```
#[derive(Debug)]
pub struct Encoder {
    deflate: Option<Deflate>,
    compressor: Option<Compressor>,
    /// Masking keys, if it is a client.
    keys: Option<Box<Keys>>,
    /// The message that is being sent in parts.
    open: Option<OpenMessage>,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct OpenMessage {
    kind: MessageKind,
    is_compressed: bool,
}

impl Encoder {
    /// An encoder for `role`, with the compression that the handshake gave.
    #[must_use]
    pub fn new(role: Role, deflate: Option<Deflate>) -> Self {
        Self {
            deflate,
            compressor: deflate.and_then(|deflate| deflate.compressor(role)),
            keys: (role == Role::Client).then(Box::default),
            open: None,
            is_closed: false,
        }
    }

    /// Appends a whole message as one frame, compressed if that was agreed on and it is long enough.
    ///
    /// # Errors
    /// [`SendError::Closed`] after a Close, [`SendError::MessageOpen`] within a message in parts.
    pub fn message(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), SendError> {
        self.check_idle()?;
        let is_compressed = self.compresses(message.bytes().len());
        self.data_frame(opcode(message.kind()), is_compressed, message.bytes(), true, out);
        Ok(())
    }

    /// Appends the head of a message whose `len` bytes follow from where they lie, so that they are not copied. `false`,
    /// and nothing is appended, if they cannot go out as they are: a client masks them, and some are compressed.
    ///
    /// # Errors
    /// As for [`message`](Self::message).
    ///
    /// ```
    /// use gimmal_http::websocket::{Encoder, MessageKind, Role};
    ///
    /// let (mut encoder, mut out) = (Encoder::new(Role::Server, None), Vec::new());
    /// assert!(encoder.head(MessageKind::Binary, 65_536, &mut out)?);
    /// assert_eq!(out, b"\x82\x7f\0\0\0\0\0\x01\0\0");
    /// # Ok::<(), gimmal_http::websocket::SendError>(())
    /// ```
    pub fn head(&mut self, kind: MessageKind, len: usize, out: &mut Vec<u8>) -> Result<bool, SendError> {
        self.check_idle()?;
        let goes_as_it_is = self.keys.is_none() && !self.compresses(len);
        if goes_as_it_is {
            let (opcode, len) = (opcode(kind), len as u64);
            FrameHead { is_last: true, is_compressed: false, opcode, mask: None, len }.encode(out);
        }
        Ok(goes_as_it_is)
    }

    /// Appends the next part of a message whose length is not known yet, as a frame of its own. The message is over with
    /// the part that `is_last`. Only control frames may come between parts.
    ///
    /// # Errors
    /// [`SendError::Closed`] after a Close, [`SendError::MessageOpen`] for a part of another kind than the first one.
    pub fn part(&mut self, part: Message<'_>, is_last: bool, out: &mut Vec<u8>) -> Result<(), SendError> {
        let kind = part.kind();
        let (opcode, is_compressed) = match self.open {
            _ if self.is_closed => return Err(SendError::Closed),
            Some(open) if open.kind != kind => return Err(SendError::MessageOpen),
            Some(open) => (Opcode::Continuation, open.is_compressed),
            None => (opcode(kind), self.compressor.is_some()),
        };
        self.open = (!is_last).then_some(OpenMessage { kind, is_compressed });
        self.data_frame(opcode, is_compressed, part.bytes(), is_last, out);
        Ok(())
    }

    /// The bytes of a message that many connections send. For a server nothing is copied.
    ///
    /// # Errors
    /// As for [`message`](Self::message).
    pub fn prepared(&mut self, message: &PreparedMessage) -> Result<Bytes, SendError> {
        self.check_idle()?;
        if self.keys.is_some() {
            let mut out = Vec::with_capacity(message.payload().len() + HEAD_BYTES_MAX);
            self.data_frame(opcode(message.kind), false, message.payload(), true, &mut out);
            return Ok(out.into());
        }
        let compressed = self
            .deflate
            .filter(|deflate| self.compressor.is_some() && deflate.takes_largest_window())
            .and(message.compressed.clone());
        Ok(match compressed {
            Some(frame) => {
                // The peer's window holds this message now, and ours does not: what comes next must not refer to it.
                self.compressor.iter_mut().for_each(Compressor::forget);
                frame
            }
            None => message.plain.clone(),
        })
    }

    /// Appends a Ping of at most 125 bytes.
    ///
    /// # Errors
    /// [`SendError::Closed`] after a Close, [`SendError::ControlTooLong`] for more bytes.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), SendError> {
        self.control_frame(Opcode::Ping, payload, out)
    }

    /// Appends a Pong of at most 125 bytes: the answer to a Ping has the same.
    ///
    /// # Errors
    /// As for [`ping`](Self::ping).
    pub fn pong(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), SendError> {
        self.control_frame(Opcode::Pong, payload, out)
    }

    /// Appends a Close, after which nothing can be sent. To begin the closing handshake, or as the answer to
    /// [`Event::Close`](super::Event::Close) with the same frame.
    ///
    /// # Errors
    /// [`SendError::Closed`] if one was sent, [`SendError::ControlTooLong`] for a reason of more than 123 bytes.
    pub fn close(&mut self, frame: Option<CloseFrame<'_>>, out: &mut Vec<u8>) -> Result<(), SendError> {
        let mut payload = Vec::new();
        if let Some(CloseFrame { code, reason }) = frame {
            payload.extend_from_slice(&code.get().to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        self.control_frame(Opcode::Close, &payload, out)?;
        self.is_closed = true;
        Ok(())
    }

    /// Whether a Close was sent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn check_idle(&self) -> Result<(), SendError> {
        match self.open {
            _ if self.is_closed => Err(SendError::Closed),
            Some(_) => Err(SendError::MessageOpen),
            None => Ok(()),
        }
    }

    fn compresses(&self, len: usize) -> bool {
        self.compressor.is_some() && self.deflate.is_some_and(|deflate| len >= deflate.threshold_bytes())
    }

    fn data_frame(
        &mut self,
        opcode: Opcode,
        is_compressed: bool,
        payload: &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
    ) {
        let mask = self.keys.as_mut().map(|keys| keys.next());
        let has_bit = is_compressed && opcode != Opcode::Continuation;
        let head = |len| FrameHead { is_last, is_compressed: has_bit, opcode, mask, len };
        match &mut self.compressor {
            Some(compressor) if is_compressed => {
                let mut compressed = Vec::new();
                compressor.push(payload, is_last, &mut compressed);
                push_frame(&head(compressed.len() as u64), &compressed, out);
            }
            _ => push_frame(&head(payload.len() as u64), payload, out),
        }
    }

    fn control_frame(&mut self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) -> Result<(), SendError> {
        if self.is_closed {
            return Err(SendError::Closed);
        }
        if payload.len() > CONTROL_BYTES_MAX {
            return Err(SendError::ControlTooLong);
        }
        let mask = self.keys.as_mut().map(|keys| keys.next());
        let len = payload.len() as u64;
        push_frame(&FrameHead { is_last: true, is_compressed: false, opcode, mask, len }, payload, out);
        Ok(())
    }
}

fn opcode(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

fn push_frame(head: &FrameHead, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEAD_BYTES_MAX + payload.len());
    head.encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = head.mask {
        mask::apply(&mut out[start..], key);
    }
}

/// Masking keys that no one can foretell (RFC 6455 section 5.3), from the kernel in batches.
#[derive(Debug)]
struct Keys {
    random: [u8; 256],
    used: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Self { random: [0; 256], used: 256 }
    }
}

impl Keys {
    fn next(&mut self) -> [u8; 4] {
        if self.used == self.random.len() {
            getrandom::fill(&mut self.random).expect("the kernel gives random bytes");
            self.used = 0;
        }
        let key = std::array::from_fn(|i| self.random[self.used + i]);
        self.used += 4;
        key
    }
}

/// A message that is framed, and compressed, once for any number of connections. A clone shares its bytes.
///
/// ```
/// use gimmal_http::websocket::{Encoder, PreparedMessage, Role};
///
/// let message = PreparedMessage::new("to all".into());
/// let mut connections = [Encoder::new(Role::Server, None), Encoder::new(Role::Server, None)];
/// for connection in &mut connections {
///     assert_eq!(connection.prepared(&message)?, &b"\x81\x06to all"[..]);
/// }
/// # Ok::<(), gimmal_http::websocket::SendError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PreparedMessage {
    kind: MessageKind,
    plain: Bytes,
    payload_len: usize,
    compressed: Option<Bytes>,
}

impl PreparedMessage {
    /// Frames a message. It is not compressed for anyone.
    #[must_use]
    pub fn new(message: Message<'_>) -> Self {
        let payload = message.bytes();
        let plain = frame(message.kind(), false, payload);
        Self { kind: message.kind(), plain, payload_len: payload.len(), compressed: None }
    }

    /// Frames a message and compresses it at `level`, from 1 for quick to 9 for small, for those connections that
    /// agreed on compression with a window of 15 bits. The others send it as it is.
    #[must_use]
    pub fn compressed(message: Message<'_>, level: u8) -> Self {
        let mut compressed = Vec::new();
        let kind = Kind { level: level.clamp(1, 9), window_bits: 15 };
        Compressor::new(kind, false).push(message.bytes(), true, &mut compressed);
        let compressed = frame(message.kind(), true, &compressed);
        Self { compressed: Some(compressed), ..Self::new(message) }
    }

    fn payload(&self) -> &[u8] {
        &self.plain[self.plain.len() - self.payload_len..]
    }
}

/// A frame of a server.
fn frame(kind: MessageKind, is_compressed: bool, payload: &[u8]) -> Bytes {
    let mut out = Vec::new();
    let len = payload.len() as u64;
    push_frame(
        &FrameHead { is_last: true, is_compressed, opcode: opcode(kind), mask: None, len },
        payload,
        &mut out,
    );
    out.into()
}
