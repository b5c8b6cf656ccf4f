//! Files that lie there compressed already.

use gimmal_http::AcceptEncoding;

use crate::request::Request;

/// A content coding and what is added to a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    pub(super) name: &'static str,
    pub(super) extension: &'static str,
}

/// In the order in which they are preferred where a client likes several alike.
pub(super) const CODINGS: [Coding; 3] = [
    Coding { name: "br", extension: ".br" },
    Coding { name: "zstd", extension: ".zst" },
    Coding { name: "gzip", extension: ".gz" },
];

/// The coding of those that are there which the client likes best; `None` for the file as it is.
pub(super) fn choose(request: &Request, there: impl Iterator<Item = Coding>) -> Option<&'static str> {
    let names: Vec<_> = there.map(|coding| coding.name).collect();
    if names.is_empty() {
        return None;
    }
    AcceptEncoding::parse(request.header_all("accept-encoding")).best(&names)
}
