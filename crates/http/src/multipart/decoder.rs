//! From bytes to events.

use std::fmt;

use memchr::memmem::Finder;

use super::boundary::Boundary;
use super::error::MultipartError;
use super::limits::MultipartLimits;
use super::part::Part;

/// Blanks that may stand between a boundary and the end of its line.
const PADDING_BYTES_MAX: usize = 64;

/// What one step found.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes of the input that are done with. The next step wants what comes after them, and only that.
    pub consumed: usize,
    /// What they say; `None` if more bytes are wanted.
    pub event: Option<MultipartEvent<'a>>,
}

/// What a form is made of, in the order in which it comes.
#[derive(Debug, PartialEq, Eq)]
pub enum MultipartEvent<'a> {
    /// A part begins.
    Part(Part),
    /// A piece of the content of the part, which is not empty. It is all that the step has consumed.
    Data(&'a [u8]),
    /// The content of the part has ended.
    PartEnd,
    /// The form has ended. What follows means nothing (RFC 2046 section 5.1.1).
    End,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble {
        skipped: usize,
    },
    /// In the header section of a part, whose end is not among so many bytes.
    Headers {
        searched: usize,
    },
    Content,
    /// On the line of the last boundary.
    Closing,
    Epilogue,
}

/// What stands at the beginning of the input.
enum Found {
    /// So many bytes belong to no boundary. None: more bytes are wanted.
    Text(usize),
    /// The line of a boundary, so many bytes long; of the last one without what follows its hyphens.
    Boundary { len: usize, is_last: bool },
}

/// What follows the characters of a boundary.
enum LineEnd {
    Unknown,
    /// It is the line of a boundary, which goes on for so many bytes.
    Here {
        len: usize,
        is_last: bool,
    },
    TooLong,
    /// The line goes on with something else: it is no boundary.
    Text,
}

/// A parser of forms that takes bytes as they come and gives events.
///
/// A boundary stands at the beginning of a line, with nothing but blanks after it. Lines end in CRLF.
pub struct MultipartDecoder {
    /// Finds CRLF, two hyphens and the boundary.
    finder: Finder<'static>,
    limits: MultipartLimits,
    state: State,
    /// The next byte begins a line.
    is_line_start: bool,
    parts: usize,
}

impl MultipartDecoder {
    /// Begins at the first byte of a body.
    #[must_use]
    pub fn new(boundary: &Boundary, limits: MultipartLimits) -> Self {
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        Self {
            finder: Finder::new(&delimiter).into_owned(),
            limits,
            state: State::Preamble { skipped: 0 },
            is_line_start: true,
            parts: 0,
        }
    }

    /// Takes one step: reads from `input`, which begins where the last step has left off.
    ///
    /// Where it wants more, the caller keeps what is not consumed and calls again with more bytes behind it. That is
    /// less than 256 bytes, or a header section within its limit.
    ///
    /// # Errors
    /// [`MultipartError`] for a form that cannot be read. It is of no further use then.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, MultipartError> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let event = match self.state {
                State::Preamble { skipped } => match self.find(rest)? {
                    Found::Text(0) => None,
                    Found::Text(len) => {
                        let skipped = skipped + len;
                        if skipped > self.limits.preamble_bytes {
                            return Err(MultipartError::PreambleTooLong);
                        }
                        self.state = State::Preamble { skipped };
                        self.is_line_start = false;
                        consumed += len;
                        continue;
                    }
                    Found::Boundary { is_last: true, .. } if skipped > 0 => {
                        return Err(MultipartError::PartMissing);
                    }
                    Found::Boundary { len, is_last } => {
                        self.pass_boundary(is_last)?;
                        consumed += len;
                        continue;
                    }
                },
                State::Headers { searched } => self.headers(rest, searched)?.map(|(len, part)| {
                    consumed += len;
                    MultipartEvent::Part(part)
                }),
                State::Content => match self.find(rest)? {
                    Found::Text(0) => None,
                    // What was consumed before it is nothing: a part begins with a step of its own.
                    Found::Text(len) => {
                        self.is_line_start = false;
                        consumed += len;
                        Some(MultipartEvent::Data(&rest[..len]))
                    }
                    Found::Boundary { len, is_last } => {
                        self.pass_boundary(is_last)?;
                        consumed += len;
                        Some(MultipartEvent::PartEnd)
                    }
                },
                State::Closing => {
                    consumed += rest.iter().take_while(|&&byte| is_blank(byte)).count();
                    match &input[consumed..] {
                        [] | [b'\r'] => None,
                        [b'\r', b'\n', ..] => {
                            self.state = State::Epilogue;
                            consumed += 2;
                            Some(MultipartEvent::End)
                        }
                        _ => return Err(MultipartError::BoundaryLine),
                    }
                }
                State::Epilogue => {
                    consumed = input.len();
                    None
                }
            };
            return Ok(Decoded { consumed, event });
        }
    }

    /// Tells whether the form was whole, now that no more bytes come.
    ///
    /// # Errors
    /// [`MultipartError::Incomplete`] before the last boundary.
    pub fn finish(&self) -> Result<(), MultipartError> {
        match self.state {
            State::Closing | State::Epilogue => Ok(()),
            State::Preamble { .. } | State::Headers { .. } | State::Content => {
                Err(MultipartError::Incomplete)
            }
        }
    }

    fn pass_boundary(&mut self, is_last: bool) -> Result<(), MultipartError> {
        if is_last {
            self.state = State::Closing;
            return Ok(());
        }
        if self.parts == self.limits.parts {
            return Err(MultipartError::TooManyParts);
        }
        self.parts += 1;
        self.state = State::Headers { searched: 0 };
        Ok(())
    }

    /// The header section at the beginning of the input and its length, once all of it is there.
    fn headers(&mut self, input: &[u8], searched: usize) -> Result<Option<(usize, Part)>, MultipartError> {
        let from = searched.saturating_sub(3);
        let len = if input.starts_with(b"\r\n") {
            Some(2)
        } else {
            memchr::memmem::find(&input[from..], b"\r\n\r\n").map(|at| from + at + 4)
        };
        if len.unwrap_or(input.len()) > self.limits.header_bytes {
            return Err(MultipartError::HeadersTooLong);
        }
        let Some(len) = len else {
            self.state = State::Headers { searched: input.len() };
            return Ok(None);
        };
        let part = Part::parse(&input[..len])?;
        self.state = State::Content;
        self.is_line_start = true;
        Ok(Some((len, part)))
    }

    /// Finds the first boundary.
    fn find(&self, input: &[u8]) -> Result<Found, MultipartError> {
        let delimiter = self.finder.needle();
        if self.is_line_start {
            let at_start = &delimiter[2..];
            if let Some(after) = input.strip_prefix(at_start) {
                match line_end(after) {
                    LineEnd::Unknown => return Ok(Found::Text(0)),
                    LineEnd::Here { len, is_last } => {
                        return Ok(Found::Boundary { len: at_start.len() + len, is_last });
                    }
                    LineEnd::TooLong => return Err(MultipartError::BoundaryLine),
                    LineEnd::Text => {}
                }
            } else if at_start.starts_with(input) {
                return Ok(Found::Text(0));
            }
        }
        let mut from = 0;
        while let Some(at) = self.finder.find(&input[from..]).map(|at| from + at) {
            match line_end(&input[at + delimiter.len()..]) {
                LineEnd::Text => from = at + 2,
                // What comes before it goes first.
                LineEnd::Unknown | LineEnd::Here { .. } | LineEnd::TooLong if at > 0 => {
                    return Ok(Found::Text(at));
                }
                LineEnd::Unknown => return Ok(Found::Text(0)),
                LineEnd::Here { len, is_last } => {
                    return Ok(Found::Boundary { len: delimiter.len() + len, is_last });
                }
                LineEnd::TooLong => return Err(MultipartError::BoundaryLine),
            }
        }
        // The end may be the beginning of a boundary, which has one CR.
        let tail = from.max(input.len().saturating_sub(delimiter.len() - 1));
        let held = memchr::memrchr(b'\r', &input[tail..]).map(|at| tail + at);
        let held = held.filter(|&at| delimiter.starts_with(&input[at..]));
        Ok(Found::Text(held.unwrap_or(input.len())))
    }
}

impl fmt::Debug for MultipartDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultipartDecoder")
            .field("state", &self.state)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

/// Reads on after the characters of a boundary (RFC 2046 section 5.1.1).
fn line_end(after: &[u8]) -> LineEnd {
    if after.starts_with(b"--") {
        return LineEnd::Here { len: 2, is_last: true };
    }
    let padding = after.iter().take_while(|&&byte| is_blank(byte)).count();
    if padding > PADDING_BYTES_MAX {
        return LineEnd::TooLong;
    }
    match &after[padding..] {
        [b'\r', b'\n', ..] => LineEnd::Here { len: padding + 2, is_last: false },
        [] | [b'\r'] => LineEnd::Unknown,
        [b'-'] if padding == 0 => LineEnd::Unknown,
        _ => LineEnd::Text,
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
