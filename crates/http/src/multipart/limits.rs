//! The bounds that the parser of forms keeps.

/// Bounds what a form may hold. Each value is a maximum and inclusive.
///
/// ```
/// use gimmal_http::multipart::MultipartLimits;
///
/// let limits = MultipartLimits { parts: 20, ..MultipartLimits::default() };
/// assert_eq!(limits.header_bytes, 16 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultipartLimits {
    /// Bytes of the header section of one part, 16 KiB by default; beyond it 431.
    pub header_bytes: usize,
    /// Number of parts, 10,000 by default; beyond it 413.
    pub parts: usize,
    /// Bytes before the first boundary, 16 KiB by default; beyond it 431.
    pub preamble_bytes: usize,
}

impl Default for MultipartLimits {
    fn default() -> Self {
        Self { header_bytes: 16 * 1024, parts: 10_000, preamble_bytes: 16 * 1024 }
    }
}
