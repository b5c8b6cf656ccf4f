//! Why a form was refused.

use http::StatusCode;
use thiserror::Error;

/// Says why a form was refused. No text repeats what the peer sent, so all of it may be shown to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MultipartError {
    /// A Content-Type whose parameters are malformed, or that names two boundaries (RFC 9110 section 5.6.6).
    #[error("the parameters of Content-Type are malformed")]
    ContentType,
    /// A Content-Type without a boundary (RFC 7578 section 4.1).
    #[error("Content-Type has no boundary parameter")]
    BoundaryMissing,
    /// A boundary that is not 1 to 70 of the characters that RFC 2046 section 5.1.1 allows.
    #[error("the boundary is not 1 to 70 characters of those that RFC 2046 allows")]
    Boundary,
    /// More bytes before the first boundary than
    /// [`MultipartLimits::preamble_bytes`](super::MultipartLimits::preamble_bytes).
    #[error("too much text comes before the first boundary")]
    PreambleTooLong,
    /// Text before the last boundary, and no part: it may be parts whose lines do not end in CRLF.
    #[error("text and no part comes before the last boundary: end each line of a boundary in CRLF")]
    PartMissing,
    /// A line of a boundary with text or too many blanks after it.
    #[error("a boundary is followed by something else on its line")]
    BoundaryLine,
    /// More parts than [`MultipartLimits::parts`](super::MultipartLimits::parts).
    #[error("the form has too many parts")]
    TooManyParts,
    /// More bytes than [`MultipartLimits::header_bytes`](super::MultipartLimits::header_bytes).
    #[error("the header section of a part is too long")]
    HeadersTooLong,
    /// A header field of a part that is no `name: value` in a line of its own that ends in CRLF.
    #[error("a header field of a part is malformed")]
    Header,
    /// Two fields of the same name that mean something to the form.
    #[error("a header field of a part is given more than once")]
    HeaderRepeated,
    /// A part without Content-Disposition (RFC 7578 section 4.2).
    #[error("a part has no Content-Disposition")]
    DispositionMissing,
    /// A Content-Disposition that is malformed, or other than `form-data` (RFC 7578 section 4.2).
    #[error("the Content-Disposition of a part is malformed or is not form-data")]
    Disposition,
    /// A part without a name (RFC 7578 section 4.2).
    #[error("a part has no name")]
    NameMissing,
    /// A parameter of Content-Disposition that is given twice, so that two readers could take different ones.
    #[error("a parameter of Content-Disposition is given more than once")]
    ParameterRepeated,
    /// A name in several pieces, as RFC 2231 section 3 has them.
    #[error("a name or file name is given in several pieces: send it in one")]
    ParameterContinued,
    /// A `name*` or `filename*` that is malformed, with no plain name beside it (RFC 8187 section 3.2).
    #[error("an extended name or file name is malformed: send it as UTF-8''percent-encoded")]
    ExtendedValue,
    /// A Content-Transfer-Encoding that changes the content (RFC 7578 section 4.7).
    #[error("a part has a Content-Transfer-Encoding: send its content as it is")]
    TransferEncoding,
    /// The body ended before the last boundary.
    #[error("the form ends before its last boundary")]
    Incomplete,
}

impl MultipartError {
    /// Gives the status that answers a form with this fault: 400, 413 or 431.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::PreambleTooLong | Self::HeadersTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooManyParts => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
