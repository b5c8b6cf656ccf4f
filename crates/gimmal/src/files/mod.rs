//! Files: a folder, a single file, and files in the binary.
//!
//! All three answer GET and HEAD with `ETag`, `Content-Length` and the media type, obey the conditions of RFC 9110
//! section 13 in their order of precedence, and send one range or several (section 14).
//!
//! ```no_run
//! use gimmal::{App, Request, files};
//! use gimmal::files::{Embedded, Files};
//!
//! # fn main() -> std::io::Result<()> {
//! let public = Files::open("public")?.precompressed().cache_control("assets/*", "public, max-age=31536000, immutable");
//! let inside = Embedded::new().file("app.css", b"body { margin: 0 }");
//! let app = App::new()
//!     .files("/", public)
//!     .files("/inside", inside)
//!     .get("/report", async |request: Request| files::file(&request, "/srv/report.pdf").await);
//! # Ok(()) }
//! ```

mod cache;
mod coding;
mod embedded;
mod folder;
mod headers;
mod listing;
mod lookup;
mod representation;
mod single;
mod variant;

use gimmal_security::path::SafePath;
#[cfg(feature = "compression")]
use http::HeaderValue;

use crate::app::{App, Route};
use crate::request::Request;
use crate::response::{IntoResponse, Redirect, Response};

pub use embedded::Embedded;
pub use folder::Files;
pub use single::file;

impl App {
    /// Serves files below a path: `/` for all paths that no other route takes.
    ///
    /// ```
    /// use gimmal::{App, files::Embedded};
    ///
    /// let app = App::new().get("/api/time", async || "now").files("/", Embedded::new().file("index.html", b"Hello"));
    /// ```
    #[must_use]
    pub fn files(mut self, prefix: &str, files: impl Into<Route>) -> Self {
        self.files.push((prefix.to_owned(), files.into()));
        self
    }
}

/// What a 304 or a 206 leaves out of what the 200 says, for the middleware that would change the 200.
#[cfg(feature = "compression")]
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) is_encoded: bool,
    pub(crate) length: u64,
}

/// What a request asks for below the place where files are mounted.
enum Wanted {
    Path(SafePath),
    /// The folder itself, without the slash at its end.
    Mount,
    /// What no file can be called, or what is hidden.
    Nothing,
}

impl Wanted {
    fn of(request: &Request) -> Self {
        let path = match request.parameter("path") {
            // To the router `//a` is not `/a`, and middleware of `/a` is not asked.
            Some(rest) if rest.starts_with('/') || rest.contains("//") => return Self::Nothing,
            Some(rest) => SafePath::parse(&format!("/{rest}")),
            None if request.path().ends_with('/') => SafePath::parse("/"),
            None => return Self::Mount,
        };
        path.ok().filter(|path| !path.is_hidden()).map_or(Self::Nothing, Self::Path)
    }
}

/// Sends the client to the same path with a slash at its end, so that links in the page lead into the folder. The
/// target is relative: a path such as `//host` must not become the name of another site.
fn redirect_to_folder(request: &Request) -> Response {
    let last = request.path().rsplit('/').next().unwrap_or_default();
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    Redirect::temporary(format!("./{last}/{query}")).into_response()
}
