//! Files in the binary.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use gimmal_http::{EntityTag, Validators};
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use super::coding::{CODINGS, choose};
use super::headers::HeaderRules;
use super::representation::{Representation, Source};
use super::{Wanted, redirect_to_folder};
use crate::app::{Route, get};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Files that were put into the binary when it was built, served with [`App::files`](crate::App::files). Their tags
/// come from their bytes, so they are the same on all servers of one build.
///
/// A file beside which there is one of the same name and `.br`, `.zst` or `.gz` is sent as that to clients that take it.
///
/// ```
/// use gimmal::{App, files::Embedded};
///
/// let site = Embedded::new()
///     .file("index.html", b"<!doctype html><title>Hello</title>") // include_bytes!("index.html")
///     .file("assets/app.css", b"body { margin: 0 }")
///     .cache_control("assets/*", "public, max-age=31536000, immutable");
/// let app = App::new().files("/", site);
/// ```
#[derive(Clone, Default)]
pub struct Embedded {
    files: HashMap<&'static str, Asset>,
    fallback_file: Option<&'static str>,
    headers: HeaderRules,
}

#[derive(Clone)]
struct Asset {
    bytes: &'static [u8],
    tag: Option<EntityTag>,
}

impl Embedded {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file under a path, which begins with no slash. `index.html` stands for its folder.
    #[must_use]
    pub fn file(mut self, path: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let tag = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.files.insert(path, Asset { bytes, tag: EntityTag::strong(&tag) });
        self
    }

    /// As [`Files::fallback_file`](super::Files::fallback_file).
    #[must_use]
    pub fn fallback_file(mut self, path: &'static str) -> Self {
        self.fallback_file = Some(path);
        self
    }

    /// As [`Files::cache_control`](super::Files::cache_control).
    ///
    /// # Panics
    /// If `value` is no field value.
    #[must_use]
    pub fn cache_control(mut self, pattern: &str, value: &'static str) -> Self {
        self.headers.add_cache_control(pattern, value);
        self
    }

    /// As [`Files::media_type`](super::Files::media_type).
    ///
    /// # Panics
    /// If `media_type` is no field value.
    #[must_use]
    pub fn media_type(mut self, extension: &str, media_type: &'static str) -> Self {
        self.headers.add_media_type(extension, media_type);
        self
    }

    fn answer(&self, request: &Request) -> Response {
        let path = match Wanted::of(request) {
            Wanted::Path(path) => path,
            Wanted::Mount => return redirect_to_folder(request),
            Wanted::Nothing => return StatusCode::NOT_FOUND.into_response(),
        };
        let mut name = path.segments().collect::<Vec<_>>().join("/");
        let index = if name.is_empty() { "index.html".to_owned() } else { format!("{name}/index.html") };
        if path.is_folder() {
            name = index;
        } else if self.files.contains_key(index.as_str()) {
            return redirect_to_folder(request);
        }
        if self.files.contains_key(name.as_str()) {
            return self.send(request, &name);
        }
        match self.fallback_file {
            Some(fallback)
                if self.files.contains_key(fallback)
                    && request.header("accept").is_some_and(|accepted| accepted.contains("text/html")) =>
            {
                self.send(request, fallback)
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    /// Sends a file that is there.
    fn send(&self, request: &Request, name: &str) -> Response {
        let compressed = |extension: &str| self.files.get(format!("{name}{extension}").as_str());
        let there: Vec<_> =
            CODINGS.into_iter().filter(|coding| compressed(coding.extension).is_some()).collect();
        let mut headers = self.headers.of(name);
        if !there.is_empty() {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        let chosen = choose(request, there.iter().copied());
        let chosen = there.iter().find(|coding| Some(coding.name) == chosen);
        if let Some(coding) = chosen {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name));
        }
        let asset = chosen.and_then(|coding| compressed(coding.extension)).unwrap_or(&self.files[name]);
        let validators = Validators { entity_tag: asset.tag.clone(), last_modified_unix_secs: None };
        let source = Source::Bytes(Bytes::from_static(asset.bytes));
        Representation::new(source, asset.bytes.len() as u64, validators, headers).answer(request)
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.files.keys()).finish()
    }
}

impl From<Embedded> for Route {
    fn from(embedded: Embedded) -> Self {
        let embedded = Arc::new(embedded);
        get(async move |request: Request| embedded.answer(&request)).replay_safe()
    }
}
