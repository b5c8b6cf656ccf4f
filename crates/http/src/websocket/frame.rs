//! Frame heads (RFC 6455 section 5.2).

use super::error::WebSocketError;

/// Bytes of the longest head: two, a length of eight, and a masking key of four.
pub(super) const HEAD_BYTES_MAX: usize = 14;

/// Bytes of the payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASK: u8 = 0x80;

/// What a frame is (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) is_last: bool,
    /// RSV1, which RFC 7692 section 6 gives its meaning.
    pub(super) is_compressed: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) len: u64,
}

impl FrameHead {
    /// Reads the head at the start of `bytes`, and says how long it is; `None` if it is not there in full.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, WebSocketError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & RSV2_AND_3 != 0 {
            return Err(WebSocketError::ReservedBit);
        }
        let opcode = Opcode::new(first & 15).ok_or(WebSocketError::Opcode)?;
        let (is_last, short_len) = (first & FIN != 0, second & 127);
        if opcode.is_control() && !is_last {
            return Err(WebSocketError::ControlFragmented);
        }
        if opcode.is_control() && usize::from(short_len) > CONTROL_BYTES_MAX {
            return Err(WebSocketError::ControlTooLong);
        }
        let Some((len, rest)) = parse_len(short_len, rest)? else { return Ok(None) };
        let (mask, rest) = match rest.split_first_chunk() {
            _ if second & MASK == 0 => (None, rest),
            Some((key, rest)) => (Some(*key), rest),
            None => return Ok(None),
        };
        let head = Self { is_last, is_compressed: first & RSV1 != 0, opcode, mask, len };
        Ok(Some((head, bytes.len() - rest.len())))
    }

    /// Appends the head.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let first = bit(self.is_last, FIN) | bit(self.is_compressed, RSV1) | self.opcode as u8;
        let mask = bit(self.mask.is_some(), MASK);
        match self.len {
            0..=125 => out.extend_from_slice(&[first, mask | self.len as u8]),
            126..=0xffff => {
                let [high, low] = (self.len as u16).to_be_bytes();
                out.extend_from_slice(&[first, mask | 126, high, low]);
            }
            _ => {
                out.extend_from_slice(&[first, mask | 127]);
                out.extend_from_slice(&self.len.to_be_bytes());
            }
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }
}

/// The whole payload length and what follows it. Only the shortest form of a length is one.
fn parse_len(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, WebSocketError> {
    let (len, rest) = match short {
        126 => match rest.split_first_chunk() {
            Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((len, rest)) => (u64::from_be_bytes(*len), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    let is_shortest = match short {
        126 => len > 125,
        127 => len > 0xffff && len <= i64::MAX as u64,
        _ => true,
    };
    if is_shortest { Ok(Some((len, rest))) } else { Err(WebSocketError::Length) }
}
