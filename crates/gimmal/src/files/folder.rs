//! A folder that is served.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gimmal_runtime::blocking;
use http::{HeaderValue, StatusCode, header};
use rustix::io::Errno;

use super::cache::{Cache, CacheId, Entry, making_room};
use super::coding::{Coding, choose};
use super::headers::HeaderRules;
use super::lookup::{Effort, Found, OpenFile, open_root};
use super::variant::Variant;
use super::{Wanted, redirect_to_folder};
use crate::app::{Route, get};
use crate::error::Error;
use crate::request::Request;
use crate::response::{Html, IntoResponse, Response};

/// The files of a folder, served with [`App::files`](crate::App::files).
///
/// What lies outside of the folder is never served: paths are decoded once and refused if they hold a dot segment, a
/// backslash, a colon or a control character, and the kernel itself keeps the lookup beneath the folder
/// (`openat2(2)` with `RESOLVE_BENEATH`), so that no symbolic link leads out. Names that begin with a dot are hidden,
/// but for `.well-known`. Whatever is refused gets 404.
///
/// Each core keeps what it has opened for a second, so a file that is replaced by renaming another one over it is
/// noticed within that time, and whoever is being sent the old one gets the old one to its end. A file that becomes
/// shorter while it is sent ends the connection.
///
/// ```no_run
/// use gimmal::{App, files::Files};
///
/// # fn main() -> std::io::Result<()> {
/// let site = Files::open("public")?
///     .precompressed()
///     .cache_control("assets/*", "public, max-age=31536000, immutable")
///     .cache_control("*", "no-cache")
///     .fallback_file("index.html");
/// let app = App::new().get("/api/time", async || "now").files("/", site);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Files(Folder);

#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) index_files: Vec<String>,
    pub(super) lists_folders: bool,
    pub(super) precompressed: bool,
    fallback_file: Option<String>,
    headers: HeaderRules,
    stale_after: Duration,
    cache: CacheId,
}

impl Files {
    /// The files beneath `root`, with `index.html` as the index of each folder.
    ///
    /// The path is followed anew whenever a file is opened, so that it may be a symbolic link to the current release.
    ///
    /// # Errors
    /// What opening the folder fails with; `Unsupported` on a Linux older than 5.12.
    pub fn open(root: impl AsRef<Path>) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        if let Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) = open_root(&root, Effort::Cached) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel or its seccomp profile refuses openat2(2) with RESOLVE_CACHED; Linux 5.12 has it",
            ));
        }
        open_root(&root, Effort::Disk)?;
        Ok(Self(Folder {
            root,
            index_files: vec!["index.html".to_owned()],
            lists_folders: false,
            precompressed: false,
            fallback_file: None,
            headers: HeaderRules::default(),
            stale_after: Duration::from_secs(1),
            cache: CacheId::new(),
        }))
    }

    /// Sets the files that stand for a folder; the first that is there is taken. None: a folder is 404.
    #[must_use]
    pub fn index_files<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.0.index_files = names.into_iter().map(Into::into).collect();
        self
    }

    /// Shows what is in a folder that has no index file: all that would be served, and nothing else, up to 10,000 names.
    #[must_use]
    pub fn list_folders(mut self) -> Self {
        self.0.lists_folders = true;
        self
    }

    /// Sends `app.js.br`, `app.js.zst` or `app.js.gz` in place of `app.js` to clients that take it, if it is there and
    /// not older.
    #[must_use]
    pub fn precompressed(mut self) -> Self {
        self.0.precompressed = true;
        self
    }

    /// Answers with this file where there is no other and the client asks for HTML: an application of one page, whose
    /// script reads the path.
    #[must_use]
    pub fn fallback_file(mut self, path: impl Into<String>) -> Self {
        self.0.fallback_file = Some(path.into());
        self
    }

    /// Sets `Cache-Control` for files whose path below the folder has the form of a pattern, in which `*` stands for
    /// any text. The first pattern that fits counts.
    ///
    /// # Panics
    /// If `value` is no field value.
    #[must_use]
    pub fn cache_control(mut self, pattern: &str, value: &'static str) -> Self {
        self.0.headers.add_cache_control(pattern, value);
        self
    }

    /// Sets the media type of files with this extension, which is given without its dot.
    ///
    /// # Panics
    /// If `media_type` is no field value.
    #[must_use]
    pub fn media_type(mut self, extension: &str, media_type: &'static str) -> Self {
        self.0.headers.add_media_type(extension, media_type);
        self
    }

    /// How long it may take until a file that was replaced, removed or added beside its compressed sibling is noticed:
    /// a second, if not set. Zero opens a file anew for each request.
    #[must_use]
    pub fn stale_after(mut self, stale_after: Duration) -> Self {
        self.0.stale_after = stale_after;
        self
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Files").field(&self.0.root).finish()
    }
}

impl From<Files> for Route {
    fn from(files: Files) -> Self {
        let folder = Arc::new(files.0);
        get(async move |request: Request| folder.answer(&request).await).replay_safe()
    }
}

/// What a path leads to.
enum Answer {
    File(Rc<Entry>),
    Page(String),
    Redirect,
    Nothing,
}

impl Folder {
    async fn answer(self: &Arc<Self>, request: &Request) -> Result<Response, Error> {
        let cache = Cache::of(self.cache, self.stale_after);
        let below = request.parameter("path").or_else(|| request.path().ends_with('/').then_some(""));
        if let Some(entry) = below.and_then(|below| cache.get(below)) {
            return self.send(request, &entry).await;
        }
        let mut answer = match Wanted::of(request) {
            Wanted::Path(path) => {
                let name = path.segments().collect::<Vec<_>>().join("/");
                self.find(&cache, below.unwrap_or_default().to_owned(), name, path.is_folder()).await?
            }
            Wanted::Mount => Answer::Redirect,
            Wanted::Nothing => return Ok(StatusCode::NOT_FOUND.into_response()),
        };
        if let (Answer::Nothing, Some(fallback)) = (&answer, &self.fallback_file)
            && request.header("accept").is_some_and(|accepted| accepted.contains("text/html"))
        {
            let key = format!(" {fallback}");
            answer = match cache.get(&key) {
                Some(entry) => Answer::File(entry),
                None => self.find(&cache, key, fallback.clone(), false).await?,
            };
        }
        match answer {
            Answer::File(entry) => self.send(request, &entry).await,
            Answer::Page(html) => Ok(Html(html).into_response()),
            Answer::Redirect => Ok(redirect_to_folder(request)),
            Answer::Nothing => Ok(StatusCode::NOT_FOUND.into_response()),
        }
    }

    /// Finds what a path below the folder leads to: in the kernel's cache, else on the disk. A file is kept under `key`.
    async fn find(
        self: &Arc<Self>,
        cache: &Rc<Cache>,
        key: String,
        path: String,
        wants_folder: bool,
    ) -> Result<Answer, Error> {
        let found = making_room(async || self.look_up_anywhere(&path, wants_folder).await).await?;
        Ok(match found {
            Found::File(open) => {
                let entry = Rc::new(self.entry(open));
                cache.put(key, &entry);
                Answer::File(entry)
            }
            Found::Listing(listing) => Answer::Page(listing.to_html()),
            Found::Folder => Answer::Redirect,
            Found::Nothing => Answer::Nothing,
        })
    }

    /// Looks up a path in the kernel's cache, else on the disk, which is waited for off the core.
    async fn look_up_anywhere(self: &Arc<Self>, path: &str, wants_folder: bool) -> Result<Found, Error> {
        match self.look_up(path, wants_folder, Effort::Cached) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            found => return Ok(found?),
        }
        let (folder, path) = (Arc::clone(self), path.to_owned());
        let found = blocking(move || folder.look_up(&path, wants_folder, Effort::Disk)).await;
        Ok(found.map_err(|full| Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source(full))??)
    }

    fn entry(&self, open: OpenFile) -> Entry {
        let mut headers = self.headers.of(&open.path);
        if self.precompressed {
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        let compressed = |(coding, file): (Coding, std::fs::File)| {
            let mut headers = headers.clone();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name));
            (coding, Variant::new(file, headers))
        };
        Entry {
            compressed: open.compressed.into_iter().map(compressed).collect(),
            plain: Variant::new(open.file, headers),
        }
    }

    async fn send(&self, request: &Request, entry: &Entry) -> Result<Response, Error> {
        let chosen = choose(request, entry.compressed.iter().map(|(coding, _)| *coding));
        let compressed = entry.compressed.iter().find(|(coding, _)| Some(coding.name) == chosen);
        let variant = compressed.map_or(&entry.plain, |(_, variant)| variant);
        Ok(variant.current().await?.answer(request))
    }
}
