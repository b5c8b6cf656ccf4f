//! Forms with files, `multipart/form-data` (RFC 7578), without I/O.
//!
//! A [`MultipartDecoder`] makes events of bytes. It reads what RFC 2046, RFC 2183 and RFC 8187 allow and what browsers
//! send, and refuses what it cannot read without losing a part, a name or a file.
//!
//! ```
//! use gimmal_http::multipart::{Boundary, MultipartDecoder, MultipartError, MultipartEvent, MultipartLimits};
//!
//! /// The name and the content of each part.
//! fn parts(media_type: &[u8], mut body: &[u8]) -> Result<Vec<(String, Vec<u8>)>, MultipartError> {
//!     let boundary = Boundary::from_content_type(media_type)?;
//!     let mut decoder = MultipartDecoder::new(&boundary, MultipartLimits::default());
//!     let mut parts = Vec::new();
//!     loop {
//!         let decoded = decoder.decode(body)?;
//!         body = &body[decoded.consumed..];
//!         match decoded.event {
//!             Some(MultipartEvent::Part(part)) => parts.push((part.name().to_owned(), Vec::new())),
//!             Some(MultipartEvent::Data(data)) => parts.last_mut().unwrap().1.extend_from_slice(data),
//!             Some(MultipartEvent::PartEnd) => {}
//!             // A caller that reads from a socket asks for more bytes where there is no event.
//!             Some(MultipartEvent::End) | None => return decoder.finish().map(|()| parts),
//!         }
//!     }
//! }
//!
//! let body = b"--b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nHello\r\n--b--\r\n";
//! assert_eq!(parts(b"multipart/form-data; boundary=b", body)?, [("title".to_owned(), b"Hello".to_vec())]);
//! # Ok::<(), MultipartError>(())
//! ```

mod boundary;
mod decoder;
mod error;
mod limits;
mod parameters;
mod part;

pub use boundary::Boundary;
pub use decoder::{Decoded, MultipartDecoder, MultipartEvent};
pub use error::MultipartError;
pub use limits::MultipartLimits;
pub use part::Part;
