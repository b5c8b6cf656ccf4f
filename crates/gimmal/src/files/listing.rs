//! The page that shows what is in a folder.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use gimmal_security::path::SafePath;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{Dir, OFlags};
use rustix::io::Errno;

use super::lookup::{Effort, READ, is_file, is_folder, join, open_beneath};

/// What is shown of a folder at most.
const ENTRIES_MAX: usize = 10_000;

/// What needs no escape in a segment of a path (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Debug)]
pub(super) struct Listing {
    path: String,
    entries: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Folders come first.
    is_file: bool,
    name: String,
    bytes: u64,
    changed_unix_secs: u64,
}

/// Reads a folder: all in it that would be served, and nothing else.
pub(super) fn read(root: &OwnedFd, path: &str, folder: &OwnedFd) -> Result<Listing, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !is_served(name) {
            continue;
        }
        let beneath = join(path, name);
        let Some((_, stat)) = open_beneath(root, &beneath, OFlags::PATH, Effort::Disk)? else {
            continue;
        };
        // What may not be read is not shown. A pipe is not opened: whoever writes to it would find a reader.
        let is_shown = (is_file(&stat) || is_folder(&stat))
            && open_beneath(root, &beneath, READ, Effort::Disk)?.is_some();
        if is_shown {
            entries.push(Entry {
                is_file: is_file(&stat),
                name: name.to_owned(),
                bytes: u64::try_from(stat.st_size).unwrap_or(0),
                changed_unix_secs: u64::try_from(stat.st_mtime).unwrap_or(0),
            });
        }
        if entries.len() == ENTRIES_MAX {
            break;
        }
    }
    entries.sort_unstable();
    Ok(Listing { path: path.to_owned(), entries })
}

/// Whether a request can ask for a file of this name. Names that a path may not hold are served to nobody.
fn is_served(name: &str) -> bool {
    let link = utf8_percent_encode(name, ESCAPED);
    SafePath::parse(&format!("/{link}")).is_ok_and(|path| !path.is_hidden() && path.segments().eq([name]))
}

impl Listing {
    /// The page. Names are escaped: whoever may put a file there may not put script there.
    pub(super) fn to_html(&self) -> String {
        let title = escape(&format!("/{}", self.path));
        let mut page = format!(
            "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{title}</title>\n<h1>{title}</h1>\n<table>\n"
        );
        if !self.path.is_empty() {
            page.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
        }
        for Entry { is_file, name, bytes, changed_unix_secs } in &self.entries {
            let slash = if *is_file { "" } else { "/" };
            let size = if *is_file { bytes.to_string() } else { String::new() };
            let date = gimmal_http::Date::at(*changed_unix_secs);
            let date = String::from_utf8_lossy(date.as_bytes()).into_owned();
            // A name such as `a:b` would be an absolute URL by itself.
            let link = utf8_percent_encode(name, ESCAPED);
            let name = escape(name);
            let written = writeln!(
                page,
                "<tr><td><a href=\"./{link}{slash}\">{name}{slash}</a><td align=\"right\">{size}<td>{date}"
            );
            written.expect("a String takes all");
        }
        page.push_str("</table>\n");
        page
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
