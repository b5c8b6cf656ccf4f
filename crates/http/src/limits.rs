//! The bounds that every parser of this crate keeps.

/// How much a peer may send before it is refused.
///
/// Every value is a maximum and inclusive. A head may never be longer than `u32::MAX` bytes and never hold more
/// than 256 header fields, whatever is set here.
///
/// ```
/// use gimmal_http::Limits;
///
/// let limits = Limits { body_bytes: 64 << 20, ..Limits::default() };
/// assert_eq!(limits.headers, 100);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request line without its CRLF, 8192 by default; beyond it 414 (RFC 9112 section 3).
    pub request_line_bytes: usize,
    /// Number of header fields in a head, and of fields in a trailer section, 100 by default and 256 at most;
    /// beyond it 431 (RFC 6585 section 5).
    pub headers: usize,
    /// Bytes of a whole head, from its first line to the empty line, 32 KiB by default; beyond it 431.
    pub header_bytes: usize,
    /// Bytes of a body after the transfer coding is removed, 2 MiB by default; beyond it 413.
    pub body_bytes: u64,
    /// Bytes of one chunk-size line with its extensions and without its CRLF, 256 by default; beyond it 400. All
    /// extensions of one body together may not be longer than 16 KiB (RFC 9112 section 7.1.1).
    pub chunk_line_bytes: usize,
    /// Bytes of a whole trailer section, 8192 by default; beyond it 431.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes: 8192,
            headers: 100,
            header_bytes: 32 * 1024,
            body_bytes: 2 * 1024 * 1024,
            chunk_line_bytes: 256,
            trailer_bytes: 8192,
        }
    }
}
