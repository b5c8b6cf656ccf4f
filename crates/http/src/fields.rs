//! The positions of header fields in the caller's bytes, found by `httparse` and checked more strictly.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Header;
use memchr::memchr_iter;

use crate::error::HeadError;
use crate::limits::Limits;

/// Header fields that a head may hold, whatever the limits say: the parser's scratch space lies on the stack.
const SLOTS: usize = 256;

/// A run of bytes in the caller's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(crate) const EMPTY: Self = Self { start: 0, len: 0 };

    /// The position of `part` in `whole`, of which it is a slice. Both are bounded by the head limit, which
    /// [`check_size`] keeps under `u32::MAX`.
    pub(crate) fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Self { start: start as u32, len: part.len() as u32 }
    }

    /// The bytes at this position, none if `bytes` is shorter than what was parsed.
    pub(crate) fn bytes(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }

    /// The same as text, empty if `bytes` is not what was parsed.
    pub(crate) fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.bytes(bytes)).unwrap_or_default()
    }

    pub(crate) fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

impl Field {
    fn is_named(&self, bytes: &[u8], name: &str) -> bool {
        self.name.len as usize == name.len() && self.name.bytes(bytes).eq_ignore_ascii_case(name.as_bytes())
    }
}

/// All header fields of one head. Keeps its storage from head to head.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<Field>);

impl Fields {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Copies `other` into the storage that this one has.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.0.clone_from(&other.0);
    }

    /// Takes over the fields of a complete head, and checks that every line ends in CRLF, as `httparse` also takes a
    /// bare LF. A value cannot hold an LF, so it is enough to look at the bytes before each name and at the end.
    pub(crate) fn fill(&mut self, headers: &[Header<'_>], head: &[u8]) -> Result<(), HeadError> {
        self.0.clear();
        let mut is_strict = head.ends_with(b"\r\n\r\n");
        self.0.extend(headers.iter().map(|header| {
            let name = Span::of(header.name.as_bytes(), head);
            is_strict &= head[..name.start as usize].ends_with(b"\r\n");
            Field { name, value: Span::of(header.value, head) }
        }));
        if is_strict { Ok(()) } else { Err(HeadError::LineEnd) }
    }

    pub(crate) fn iter<'a>(&'a self, bytes: &'a [u8]) -> Headers<'a> {
        Headers { fields: self.0.iter(), bytes }
    }

    pub(crate) fn all<'a>(&'a self, bytes: &'a [u8], name: &'a str) -> HeaderAll<'a> {
        HeaderAll { fields: self.0.iter(), bytes, name }
    }

    pub(crate) fn first<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|field| field.is_named(bytes, name)).map(|field| field.value.bytes(bytes))
    }

    pub(crate) fn to_header_map(&self, bytes: &[u8]) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.0.len());
        for (name, value) in self.iter(bytes) {
            // Both were checked by the parser with the same rules, so neither conversion fails.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
            {
                map.append(name, value);
            }
        }
        map
    }
}

/// The header fields of a head in the order in which they were received: name as it was spelled, and value.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    fields: std::slice::Iter<'a, Field>,
    bytes: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.fields.next()?;
        Some((field.name.text(self.bytes), field.value.bytes(self.bytes)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.fields.size_hint()
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// The values of all header fields of one name, in the order in which they were received.
#[derive(Clone, Debug)]
pub struct HeaderAll<'a> {
    fields: std::slice::Iter<'a, Field>,
    bytes: &'a [u8],
    name: &'a str,
}

impl<'a> Iterator for HeaderAll<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (bytes, name) = (self.bytes, self.name);
        self.fields.find(|field| field.is_named(bytes, name)).map(|field| field.value.bytes(bytes))
    }
}

/// Space for the parser's result.
pub(crate) struct Slots<'a>([MaybeUninit<Header<'a>>; SLOTS]);

impl<'a> Slots<'a> {
    pub(crate) fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; SLOTS])
    }

    pub(crate) fn limited(&mut self, limits: &Limits) -> &mut [MaybeUninit<Header<'a>>] {
        &mut self.0[..limits.headers.min(SLOTS)]
    }
}

/// Refuses a head, or the part of one, that is longer than the limits allow.
pub(crate) fn check_size(len: usize, limits: &Limits) -> Result<(), HeadError> {
    if len > limits.header_bytes.min(u32::MAX as usize) { Err(HeadError::TooLarge) } else { Ok(()) }
}

/// The search for the end of a head that comes in pieces. No byte is looked at twice, however small they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EndSearch {
    /// Where the search stopped, `None` if the head has not been looked at.
    searched: Option<usize>,
}

impl EndSearch {
    pub(crate) const fn new() -> Self {
        Self { searched: None }
    }

    /// Whether it is worth parsing: at first sight always, and then only when the end is there.
    pub(crate) fn is_due(&mut self, bytes: &[u8]) -> Result<bool, HeadError> {
        match self.searched {
            None => Ok(true),
            Some(from) => self.search(bytes, from),
        }
    }

    /// Takes note that `bytes` do not hold all of the head, which begins at `start`. Refuses a bare LF at once: the
    /// peer may take it for the end and wait for an answer.
    pub(crate) fn note_partial(&mut self, bytes: &[u8], start: usize) -> Result<(), HeadError> {
        self.search(bytes, self.searched.unwrap_or(start)).map(drop)
    }

    fn search(&mut self, bytes: &[u8], from: usize) -> Result<bool, HeadError> {
        self.searched = Some(bytes.len());
        for at in memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()) {
            let before = &bytes[..from + at];
            if !before.ends_with(b"\r") {
                return Err(HeadError::LineEnd);
            }
            if before.ends_with(b"\r\n\r") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What `httparse` found wrong with the fields of `bytes`.
pub(crate) fn field_error(error: httparse::Error, bytes: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::HeaderValue => HeadError::HeaderValue,
        httparse::Error::HeaderName if is_folded(bytes) => HeadError::ObsFold,
        httparse::Error::HeaderName => HeadError::HeaderName,
        _ => HeadError::LineEnd,
    }
}

fn is_folded(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| matches!(pair, [b'\n', b' ' | b'\t']))
}
