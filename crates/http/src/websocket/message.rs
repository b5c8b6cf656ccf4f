//! Messages, whole and in the making (RFC 6455 sections 5.4 and 5.6).

use std::borrow::Cow;

use super::decoder::Event;
use super::error::WebSocketError;
use super::utf8::Utf8;

/// What the payload of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// A message, or a part of one, to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// What its payload is.
    #[must_use]
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::Text(_) => MessageKind::Text,
            Self::Binary(_) => MessageKind::Binary,
        }
    }

    /// Its payload.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

/// A message that is being received.
#[derive(Debug)]
pub(super) struct OpenMessage {
    pub(super) is_compressed: bool,
    check: Check,
    content: Content,
}

/// What every byte of a message must pass.
#[derive(Debug)]
struct Check {
    kind: MessageKind,
    /// Bytes so far, after decompression.
    len: u64,
    max: u64,
    utf8: Utf8,
}

#[derive(Debug)]
enum Content {
    Text(String),
    /// Binary, or of any kind if it is handed on in parts.
    Bytes(Vec<u8>),
}

impl OpenMessage {
    /// An empty message of at most `max` bytes.
    pub(super) fn new(kind: MessageKind, is_compressed: bool, max: u64, in_parts: bool) -> Self {
        let content = match kind {
            MessageKind::Text if !in_parts => Content::Text(String::new()),
            _ => Content::Bytes(Vec::new()),
        };
        Self { is_compressed, check: Check { kind, len: 0, max, utf8: Utf8::default() }, content }
    }

    pub(super) fn kind(&self) -> MessageKind {
        self.check.kind
    }

    /// Refuses a frame of `len` more bytes if they are too many.
    pub(super) fn check_len(&self, len: u64) -> Result<(), WebSocketError> {
        if len > self.check.max - self.check.len { Err(WebSocketError::MessageTooLarge) } else { Ok(()) }
    }

    /// Checks the next bytes, which are not kept.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(), WebSocketError> {
        self.check.push(bytes, |_| ())
    }

    /// Checks the next bytes and keeps them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), WebSocketError> {
        match &mut self.content {
            Content::Text(text) => self.check.push(bytes, |part| text.push_str(part)),
            Content::Bytes(content) => {
                self.check.push(bytes, |_| ())?;
                content.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Makes room for `missing` bytes, the next `coming` of which are at hand, so that a large message is not moved
    /// again and again as it grows. A peer that announces much and sends little gets little: so many times what it has
    /// sent.
    pub(super) fn reserve(&mut self, coming: usize, missing: u64) {
        const TIMES: usize = 16;
        let (len, capacity) = match &self.content {
            Content::Text(text) => (text.len(), text.capacity()),
            Content::Bytes(content) => (content.len(), content.capacity()),
        };
        if capacity - len >= coming {
            return;
        }
        let earned = TIMES * (len + coming);
        let room = usize::try_from(missing).map_or(earned, |missing| missing.min(earned));
        match &mut self.content {
            Content::Text(text) => text.reserve_exact(room),
            Content::Bytes(content) => content.reserve_exact(room),
        }
    }

    /// Checks that the message may end here.
    pub(super) fn end(&self) -> Result<(), WebSocketError> {
        if self.check.utf8.is_at_end() { Ok(()) } else { Err(WebSocketError::Utf8) }
    }

    /// What was kept since the last time, of a message that is handed on in parts.
    pub(super) fn take_part(&mut self) -> Vec<u8> {
        match &mut self.content {
            Content::Bytes(part) => std::mem::take(part),
            Content::Text(_) => Vec::new(),
        }
    }

    /// The whole message.
    pub(super) fn into_event(self) -> Event<'static> {
        match self.content {
            Content::Text(text) => Event::Text(Cow::Owned(text)),
            Content::Bytes(bytes) => Event::Binary(Cow::Owned(bytes)),
        }
    }
}

impl Check {
    fn push(&mut self, bytes: &[u8], take: impl FnMut(&str)) -> Result<(), WebSocketError> {
        let len = bytes.len() as u64;
        if len > self.max - self.len {
            return Err(WebSocketError::MessageTooLarge);
        }
        self.len += len;
        match self.kind {
            MessageKind::Text => self.utf8.push(bytes, take).map_err(|_| WebSocketError::Utf8),
            MessageKind::Binary => Ok(()),
        }
    }
}
