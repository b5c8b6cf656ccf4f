//! Frames to messages (RFC 6455 section 6.2).

use std::borrow::Cow;
use std::ops::Range;

use super::close::CloseFrame;
use super::deflate::Decompressor;
use super::error::WebSocketError;
use super::frame::{FrameHead, HEAD_BYTES_MAX, Opcode};
use super::message::{MessageKind, OpenMessage};
use super::{Deflate, Role, WebSocketLimits, mask};

/// What was received. What lies whole in the caller's bytes is borrowed from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// A part of a message, in place of the two above, from a decoder that is [`in_parts`](Decoder::in_parts).
    Part {
        /// What the message is. All parts of a text together are UTF-8; one alone may end within a character.
        kind: MessageKind,
        /// The bytes of this part. Only the last one may be empty.
        data: Cow<'a, [u8]>,
        /// Whether the message ends with it.
        is_last: bool,
    },
    /// A Ping; answer with a Pong of the same bytes (RFC 6455 section 5.5.2).
    Ping(&'a [u8]),
    /// A Pong, asked for or not.
    Pong(&'a [u8]),
    /// A Close. Nothing is read after it. Answer with the same, unless a Close was sent, then end the connection (RFC
    /// 6455 section 5.5.1).
    Close(Option<CloseFrame<'a>>),
}

/// What [`Decoder::decode`] made of its input.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes of the input that are used up.
    pub consumed: usize,
    /// What was found; `None` if all of the input is used up and more is wanted.
    pub event: Option<Event<'a>>,
}

/// Finds messages in the bytes of a connection. It allocates for a message only if that does not come in one piece.
///
/// ```
/// use gimmal_http::websocket::{Decoder, Event, Role, WebSocketLimits};
///
/// let mut decoder = Decoder::new(Role::Client, WebSocketLimits::default(), None);
/// let mut bytes = *b"\x81\x05Hello\x89\x00";
/// let text = decoder.decode(&mut bytes)?;
/// assert_eq!((text.consumed, text.event), (7, Some(Event::Text("Hello".into()))));
/// let ping = decoder.decode(&mut bytes[7..])?;
/// assert_eq!(ping.event, Some(Event::Ping(b"")));
/// # Ok::<(), gimmal_http::websocket::WebSocketError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    limits: WebSocketLimits,
    in_parts: bool,
    decompressor: Option<Decompressor>,
    state: State,
    /// The beginning of a head that is not there in full.
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    /// The payload of a control frame that did not come in one piece.
    control: Vec<u8>,
    message: Option<Box<OpenMessage>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At or in the head of a frame.
    Head,
    /// In a payload, of which `missing` bytes have not come. The key of `head` is turned to the next of them.
    Payload {
        head: FrameHead,
        missing: u64,
    },
    Closed,
    Failed(WebSocketError),
}

/// An event whose payload may lie in the input.
enum Found {
    /// A control frame, with its payload in the input or in [`Decoder::control`].
    Control(Opcode, Option<Range<usize>>),
    /// A message of one frame that lies whole in the input.
    Message(MessageKind, Range<usize>),
    /// A message that came in pieces.
    Gathered(Box<OpenMessage>),
    /// A part of a message.
    Part { kind: MessageKind, data: PartData, is_last: bool },
}

enum PartData {
    Input(Range<usize>),
    Decompressed(Vec<u8>),
}

impl Decoder {
    /// A decoder for `role`, with the compression that the handshake gave. Does not allocate.
    #[must_use]
    pub fn new(role: Role, limits: WebSocketLimits, deflate: Option<Deflate>) -> Self {
        Self {
            role,
            limits,
            in_parts: false,
            decompressor: deflate.map(|deflate| deflate.decompressor(role)),
            state: State::Head,
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            control: Vec::new(),
            message: None,
        }
    }

    /// The same decoder that hands messages on in parts, as they come. [`WebSocketLimits::message_bytes`] still counts
    /// the whole of a message.
    #[must_use]
    pub fn in_parts(self) -> Self {
        Self { in_parts: true, ..self }
    }

    /// Finds the next event in `input`, which begins where the last call stopped. Payloads are unmasked in place, so
    /// that the bytes that are used up are of no further use.
    ///
    /// # Errors
    /// A [`WebSocketError`] for what breaks the protocol or the limits; every later call gives the same one.
    pub fn decode<'a>(&'a mut self, input: &'a mut [u8]) -> Result<Decoded<'a>, WebSocketError> {
        let (consumed, found) =
            self.advance(input).inspect_err(|error| self.state = State::Failed(*error))?;
        let input = &*input;
        let event = match found {
            None => None,
            Some(Found::Control(opcode, range)) => {
                let payload = range.map_or(&self.control[..], |range| &input[range]);
                Some(match opcode {
                    Opcode::Ping => Event::Ping(payload),
                    Opcode::Pong => Event::Pong(payload),
                    _ => match CloseFrame::parse(payload) {
                        Ok(frame) => {
                            self.state = State::Closed;
                            Event::Close(frame)
                        }
                        Err(error) => {
                            self.state = State::Failed(error);
                            return Err(error);
                        }
                    },
                })
            }
            Some(Found::Message(MessageKind::Text, range)) => match simdutf8::basic::from_utf8(&input[range])
            {
                Ok(text) => Some(Event::Text(Cow::Borrowed(text))),
                Err(_) => {
                    self.state = State::Failed(WebSocketError::Utf8);
                    return Err(WebSocketError::Utf8);
                }
            },
            Some(Found::Message(MessageKind::Binary, range)) => {
                Some(Event::Binary(Cow::Borrowed(&input[range])))
            }
            Some(Found::Gathered(message)) => Some(message.into_event()),
            Some(Found::Part { kind, data, is_last }) => {
                let data = match data {
                    PartData::Input(range) => Cow::Borrowed(&input[range]),
                    PartData::Decompressed(bytes) => Cow::Owned(bytes),
                };
                Some(Event::Part { kind, data, is_last })
            }
        };
        Ok(Decoded { consumed, event })
    }

    fn advance(&mut self, input: &mut [u8]) -> Result<(usize, Option<Found>), WebSocketError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Closed => return Ok((input.len(), None)),
                State::Head => match self.read_head(&input[at..])? {
                    Some((head, used)) => {
                        at += used;
                        self.check_head(&head)?;
                        self.state = State::Payload { head, missing: head.len };
                    }
                    None => return Ok((input.len(), None)),
                },
                State::Payload { missing: 1.., .. } if at == input.len() => return Ok((at, None)),
                State::Payload { mut head, missing } => {
                    let available = input.len() - at;
                    let len = usize::try_from(missing).map_or(available, |missing| missing.min(available));
                    let piece = at..at + len;
                    at = piece.end;
                    if let Some(key) = &mut head.mask {
                        mask::apply(&mut input[piece.clone()], *key);
                        *key = mask::advance(*key, len);
                    }
                    let missing = missing - len as u64;
                    let is_end = missing == 0;
                    self.state = if is_end { State::Head } else { State::Payload { head, missing } };
                    let found = if head.opcode.is_control() {
                        self.read_control(head.opcode, piece, is_end, input)
                    } else {
                        self.read_data(&head, piece, missing, input)?
                    };
                    if found.is_some() {
                        return Ok((at, found));
                    }
                }
            }
        }
    }

    /// The next head and how many bytes of `input` it took; `None` if these are all kept, and more are wanted.
    fn read_head(&mut self, input: &[u8]) -> Result<Option<(FrameHead, usize)>, WebSocketError> {
        let kept = usize::from(self.head_len);
        if kept == 0
            && let Some(whole) = FrameHead::parse(input)?
        {
            return Ok(Some(whole));
        }
        let len = input.len().min(HEAD_BYTES_MAX - kept);
        self.head[kept..kept + len].copy_from_slice(&input[..len]);
        match FrameHead::parse(&self.head[..kept + len])? {
            Some((head, head_len)) => {
                self.head_len = 0;
                Ok(Some((head, head_len - kept)))
            }
            None => {
                self.head_len = (kept + len) as u8;
                Ok(None)
            }
        }
    }

    /// Checks what a head alone does not show.
    fn check_head(&mut self, head: &FrameHead) -> Result<(), WebSocketError> {
        match (self.role, head.mask) {
            (Role::Server, None) => return Err(WebSocketError::MaskMissing),
            (Role::Client, Some(_)) => return Err(WebSocketError::MaskForbidden),
            _ => {}
        }
        // RFC 7692 section 6.1: only the first frame of a message says that it is compressed.
        let may_be_compressed =
            self.decompressor.is_some() && matches!(head.opcode, Opcode::Text | Opcode::Binary);
        if head.is_compressed && !may_be_compressed {
            return Err(WebSocketError::ReservedBit);
        }
        match (head.opcode, &self.message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {
                self.control.clear();
                return Ok(());
            }
            (Opcode::Continuation, None) => return Err(WebSocketError::ContinuationUnexpected),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(WebSocketError::ContinuationMissing),
            (Opcode::Continuation, Some(message)) if !message.is_compressed => message.check_len(head.len)?,
            (Opcode::Text | Opcode::Binary, None)
                if !head.is_compressed && head.len > self.limits.message_bytes =>
            {
                return Err(WebSocketError::MessageTooLarge);
            }
            _ => {}
        }
        if head.len > self.limits.frame_bytes { Err(WebSocketError::FrameTooLarge) } else { Ok(()) }
    }

    /// Takes a piece of the payload of a control frame, the last one if `is_end`.
    fn read_control(
        &mut self,
        opcode: Opcode,
        piece: Range<usize>,
        is_end: bool,
        input: &[u8],
    ) -> Option<Found> {
        if is_end && self.control.is_empty() {
            return Some(Found::Control(opcode, Some(piece)));
        }
        self.control.extend_from_slice(&input[piece]);
        is_end.then_some(Found::Control(opcode, None))
    }

    /// Takes a piece of the payload of a data frame, of which `missing` bytes come after it.
    fn read_data(
        &mut self,
        head: &FrameHead,
        piece: Range<usize>,
        missing: u64,
        input: &[u8],
    ) -> Result<Option<Found>, WebSocketError> {
        let is_last = missing == 0 && head.is_last;
        let kind = if head.opcode == Opcode::Binary { MessageKind::Binary } else { MessageKind::Text };
        if self.message.is_none() && is_last && !head.is_compressed && !self.in_parts {
            return Ok(Some(Found::Message(kind, piece)));
        }
        let (max, in_parts) = (self.limits.message_bytes, self.in_parts);
        let message = self
            .message
            .get_or_insert_with(|| OpenMessage::new(kind, head.is_compressed, max, in_parts).into());
        let bytes = &input[piece.clone()];
        let is_compressed = message.is_compressed;
        match &mut self.decompressor {
            Some(decompressor) if is_compressed => {
                decompressor.push(bytes, |bytes| message.push(bytes))?;
                if is_last {
                    decompressor.finish(|bytes| message.push(bytes))?;
                }
            }
            _ if in_parts => message.pass(bytes)?,
            _ => {
                message.reserve(bytes.len(), bytes.len() as u64 + missing);
                message.push(bytes)?;
            }
        }
        if is_last {
            message.end()?;
        }
        if !in_parts {
            return Ok(self.message.take_if(|_| is_last).map(Found::Gathered));
        }
        let kind = message.kind();
        let data =
            if is_compressed { PartData::Decompressed(message.take_part()) } else { PartData::Input(piece) };
        let is_empty = match &data {
            PartData::Input(range) => range.is_empty(),
            PartData::Decompressed(bytes) => bytes.is_empty(),
        };
        if is_last {
            self.message = None;
        }
        Ok((is_last || !is_empty).then_some(Found::Part { kind, data, is_last }))
    }
}
