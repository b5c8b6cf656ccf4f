//! Content codings (RFC 9110, section 8.4.1): responses are compressed by [`Compression`], and the bodies of requests
//! unpacked by [`Decompression`].
//!
//! ```
//! use gimmal::App;
//! use gimmal::compression::{Compression, Decompression};
//!
//! let app = App::new()
//!     .get("/", async || "Hello, World!".repeat(100))
//!     .post("/", async |text: String| text.len().to_string())
//!     .with(Compression::new())
//!     .with(Decompression::new());
//! ```

mod compress;
mod decoder;
mod decompress;
mod encoder;

pub use compress::Compression;
pub use decompress::Decompression;

/// The content codings that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// In the order in which they are preferred where a client likes several alike.
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    fn of(name: &str) -> Option<Self> {
        // RFC 9110, section 8.4.1.3.
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }
}
