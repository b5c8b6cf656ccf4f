//! Message bodies (RFC 9112 sections 6 and 7).

use std::ops::Range;

use http::HeaderMap;

use crate::chunk_extension::ChunkExtension;
use crate::error::BodyError;
use crate::framing::BodyFraming;
use crate::limits::Limits;
use crate::trailers;

/// Bytes that the chunk extensions of one body may have together. They mean nothing to us, and a peer could send
/// any number of them with one byte of data each.
const EXTENSION_BYTES_MAX: u32 = 16 * 1024;

/// What [`BodyDecoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The body's bytes at this range of the input, which is not empty. The input is used up to the range's end.
    Data(Range<usize>),
    /// All of the input is used up, and the body goes on.
    Partial,
    /// The body ends here, and so many bytes of the input are used up. The next message begins after them.
    End {
        /// Bytes of the input that belonged to the body.
        consumed: usize,
    },
}

/// Finds the data in the bytes of a body. It copies none of them, except for trailers.
///
/// ```
/// use gimmal_http::{BodyDecoder, BodyFraming, Decoded, Limits};
///
/// let input = b"5\r\nhello\r\n0\r\n\r\n";
/// let mut body = BodyDecoder::new(BodyFraming::Chunked, &Limits::default())?;
/// assert_eq!(body.decode(input)?, Decoded::Data(3..8));
/// assert_eq!(body.decode(&input[8..])?, Decoded::End { consumed: 7 });
/// assert!(body.is_complete());
/// # Ok::<(), gimmal_http::BodyError>(())
/// ```
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    received: u64,
    body_bytes_max: u64,
    line_bytes_max: u32,
    trailer_bytes_max: u32,
    headers_max: u16,
    /// Bytes of the current chunk-size line.
    line_bytes: u32,
    /// Bytes of all chunk extensions so far.
    extension_bytes: u32,
    trailer: Option<Box<Trailer>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of a body of known length are missing.
    Length(u64),
    UntilClose,
    /// In the digits of a chunk size.
    Size {
        size: u64,
        has_digits: bool,
    },
    /// In a chunk extension.
    Extension {
        size: u64,
        at: ChunkExtension,
    },
    /// After the CR of a size line.
    SizeLf {
        size: u64,
    },
    /// So many bytes of a chunk are missing.
    Chunk(u64),
    ChunkCr,
    ChunkLf,
    /// At the start of a trailer line.
    TrailerStart,
    /// In a trailer line.
    TrailerLine,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the last, empty line.
    EndLf,
    End,
    Failed(BodyError),
}

#[derive(Debug, Default)]
struct Trailer {
    section: Vec<u8>,
    fields: Option<HeaderMap>,
}

impl BodyDecoder {
    /// A decoder for a body that ends as `framing` says.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] if the length is known and over the limit, so that it can be refused before any of
    /// it is read.
    pub fn new(framing: BodyFraming, limits: &Limits) -> Result<Self, BodyError> {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::End,
            BodyFraming::Length(length) if length > limits.body_bytes => return Err(BodyError::TooLarge),
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Size { size: 0, has_digits: false },
            BodyFraming::UntilClose => State::UntilClose,
        };
        Ok(Self {
            state,
            received: 0,
            body_bytes_max: limits.body_bytes,
            line_bytes_max: u32::try_from(limits.chunk_line_bytes).unwrap_or(u32::MAX),
            trailer_bytes_max: u32::try_from(limits.trailer_bytes).unwrap_or(u32::MAX),
            headers_max: u16::try_from(limits.headers).unwrap_or(u16::MAX),
            line_bytes: 0,
            extension_bytes: 0,
            trailer: None,
        })
    }

    /// Finds the next data in `input`, which begins where the last call stopped.
    ///
    /// # Errors
    /// A [`BodyError`] for a body that is malformed or over the limits; every later call gives the same one.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let decoded = self.advance(input);
        if let Err(error) = decoded {
            self.state = State::Failed(error);
        }
        decoded
    }

    fn advance(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let mut at = 0;
        loop {
            match self.state {
                State::End => return Ok(Decoded::End { consumed: at }),
                State::Failed(error) => return Err(error),
                _ if at == input.len() => return Ok(Decoded::Partial),
                State::Length(missing) => {
                    let data = self.take(input, at, missing)?;
                    let missing = missing - data.len() as u64;
                    self.state = if missing == 0 { State::End } else { State::Length(missing) };
                    return Ok(Decoded::Data(data));
                }
                State::Chunk(missing) => {
                    let data = self.take(input, at, missing)?;
                    let missing = missing - data.len() as u64;
                    self.state = if missing == 0 { State::ChunkCr } else { State::Chunk(missing) };
                    return Ok(Decoded::Data(data));
                }
                State::UntilClose => return self.take(input, at, u64::MAX).map(Decoded::Data),
                state => {
                    self.state = self.step(state, input[at])?;
                    at += 1;
                }
            }
        }
    }

    /// At most `max` bytes of data from `at` on.
    fn take(&mut self, input: &[u8], at: usize, max: u64) -> Result<Range<usize>, BodyError> {
        let available = input.len() - at;
        let len = usize::try_from(max).map_or(available, |max| max.min(available));
        let received = self.received.saturating_add(len as u64);
        if received > self.body_bytes_max {
            return Err(BodyError::TooLarge);
        }
        self.received = received;
        Ok(at..at + len)
    }

    /// The state after one byte of chunked framing (RFC 9112 section 7.1).
    fn step(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        match (state, byte) {
            (State::Size { size, has_digits: true }, b'\r') => Ok(State::SizeLf { size }),
            (State::Size { size, has_digits: true }, b';') => {
                self.count_extension_byte()?;
                Ok(State::Extension { size, at: ChunkExtension::NameStart })
            }
            // RFC 9112 section 7.1.1: white space may stand before a `;`, which has to follow.
            (State::Size { size, has_digits: true }, b' ' | b'\t') => {
                self.count_extension_byte()?;
                Ok(State::Extension { size, at: ChunkExtension::Gap })
            }
            (State::Size { size, .. }, _) => {
                self.count_line_byte()?;
                let digit = (byte as char).to_digit(16).ok_or(BodyError::ChunkSize)?;
                let size = size.checked_mul(16).ok_or(BodyError::ChunkSize)? | u64::from(digit);
                Ok(State::Size { size, has_digits: true })
            }
            (State::Extension { size, at }, b'\r') if at.may_end() => Ok(State::SizeLf { size }),
            (State::Extension { .. }, b'\n') => Err(BodyError::LineEnd),
            (State::Extension { size, at }, _) => {
                self.count_extension_byte()?;
                let at = at.step(byte).ok_or(BodyError::ChunkExtension)?;
                Ok(State::Extension { size, at })
            }
            (State::SizeLf { size }, b'\n') => self.begin_chunk(size),
            (State::ChunkCr, b'\r') => Ok(State::ChunkLf),
            (State::ChunkLf, b'\n') => Ok(State::Size { size: 0, has_digits: false }),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerLine, b'\n') => Err(BodyError::LineEnd),
            (State::TrailerLine, b'\r') => Ok(State::TrailerLf),
            (State::TrailerStart | State::TrailerLine, _) => {
                self.push_trailer(&[byte])?;
                Ok(State::TrailerLine)
            }
            (State::TrailerLf, b'\n') => {
                self.push_trailer(b"\r\n")?;
                Ok(State::TrailerStart)
            }
            (State::EndLf, b'\n') => {
                self.end_trailer()?;
                Ok(State::End)
            }
            _ => Err(BodyError::LineEnd),
        }
    }

    fn begin_chunk(&mut self, size: u64) -> Result<State, BodyError> {
        self.line_bytes = 0;
        // Refused before the data comes, not after.
        if size > self.body_bytes_max - self.received {
            return Err(BodyError::TooLarge);
        }
        Ok(if size == 0 { State::TrailerStart } else { State::Chunk(size) })
    }

    fn count_line_byte(&mut self) -> Result<(), BodyError> {
        self.line_bytes += 1;
        if self.line_bytes > self.line_bytes_max { Err(BodyError::ChunkLineTooLong) } else { Ok(()) }
    }

    fn count_extension_byte(&mut self) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(BodyError::ChunkLineTooLong);
        }
        self.count_line_byte()
    }

    fn push_trailer(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let trailer = self.trailer.get_or_insert_default();
        trailer.section.extend_from_slice(bytes);
        if trailer.section.len() > self.trailer_bytes_max as usize {
            return Err(BodyError::TrailerTooLarge);
        }
        Ok(())
    }

    fn end_trailer(&mut self) -> Result<(), BodyError> {
        if let Some(trailer) = &mut self.trailer {
            trailer.section.extend_from_slice(b"\r\n");
            trailer.fields = Some(trailers::parse(&trailer.section, usize::from(self.headers_max))?);
            trailer.section = Vec::new();
        }
        Ok(())
    }

    /// Says that the connection ended. It is the end of a body of [`BodyFraming::UntilClose`], and no fault after
    /// the end of any other.
    ///
    /// # Errors
    /// [`BodyError::Incomplete`] if bytes are missing, or the error that [`decode`](Self::decode) gave.
    pub fn finish(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose | State::End => {
                self.state = State::End;
                Ok(())
            }
            State::Failed(error) => Err(error),
            _ => Err(BodyError::Incomplete),
        }
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// The trailer fields, once, after the end of a chunked body that had any. Fields that could change framing,
    /// routing or authentication are dropped (RFC 9110 section 6.5.1), so the map may be empty.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailer.take_if(|trailer| trailer.fields.is_some())?.fields
    }

    /// Bytes of data so far, without the framing.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }
}
