//! Chunk extensions (RFC 9112 section 7.1.1), which are checked and then ignored.

/// Where in the extensions of one chunk-size line the reader is:
/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChunkExtension {
    /// In white space that only another `;` may follow.
    Gap,
    /// After a `;`.
    NameStart,
    Name,
    /// In white space after a name.
    NameEnd,
    /// After a `=`.
    ValueStart,
    Value,
    Quoted,
    /// After a `\` in a quoted string.
    Escape,
    /// After the closing quotation mark.
    QuotedEnd,
}

impl ChunkExtension {
    /// Whether the line may end here.
    pub(crate) fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::QuotedEnd)
    }

    /// The place after one more byte, `None` if it may not stand here.
    pub(crate) fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Gap | Self::Name | Self::NameEnd | Self::Value | Self::QuotedEnd, b';') => Self::NameStart,
            (Self::Name | Self::NameEnd, b'=') => Self::ValueStart,
            (Self::Name | Self::NameEnd, b' ' | b'\t') => Self::NameEnd,
            (Self::Gap | Self::Value | Self::QuotedEnd, b' ' | b'\t') => Self::Gap,
            (Self::NameStart | Self::ValueStart, b' ' | b'\t') => self,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::NameStart | Self::Name, byte) if is_token(byte) => Self::Name,
            (Self::ValueStart | Self::Value, byte) if is_token(byte) => Self::Value,
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::Escape,
            (Self::Quoted | Self::Escape, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            _ => return None,
        })
    }
}

/// Whether a byte may be part of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
