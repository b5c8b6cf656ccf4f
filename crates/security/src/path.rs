//! Paths of requests, made safe to be looked up in a folder.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Why a path was refused: answer 400, or 404 so as to tell nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// Does not begin with `/`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A segment `.` or `..`, as it is or encoded. A client resolves these before it asks (RFC 3986 section 5.2.4).
    #[error("the path has a dot segment")]
    DotSegment,
    /// A `%` that begins no escape, or escapes that give no UTF-8.
    #[error("the path is not correctly percent-encoded")]
    Encoding,
    /// An escape of what was an escape before, as `%252e`.
    #[error("the path is percent-encoded twice")]
    EncodedTwice,
    /// A NUL, or another control character.
    #[error("the path has a control character")]
    Control,
    /// A `/` or `\` within a segment, which another system would take for a separator.
    #[error("the path has a slash or backslash within a segment")]
    Separator,
    /// A `:`, as in a drive letter or an alternate stream.
    #[error("the path has a colon, as in a drive letter")]
    Colon,
}

/// The path of a request, decoded once, that cannot lead out of a folder, however it was written.
///
/// ```
/// use std::path::Path;
///
/// use gimmal_security::path::{PathError, SafePath};
///
/// let path = SafePath::parse("/images/a%20cat.png")?;
/// assert_eq!(path.join(Path::new("/srv/www")), Path::new("/srv/www/images/a cat.png"));
///
/// assert_eq!(SafePath::parse("/../../etc/passwd"), Err(PathError::DotSegment));
/// assert_eq!(SafePath::parse("/%2e%2e/secret"), Err(PathError::DotSegment));
/// # Ok::<(), PathError>(())
/// ```
///
/// It guards against the path alone. Against symbolic links in the folder, open with `openat2` and `RESOLVE_BENEATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafePath {
    segments: Vec<String>,
    is_folder: bool,
}

impl SafePath {
    /// Takes the path of a request target, without the query, as it was sent. Empty segments are left out.
    ///
    /// # Errors
    /// [`PathError`] for all that would be read in two ways.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let path = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let mut segments = Vec::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            segments.push(decode(segment)?);
        }
        Ok(Self { segments, is_folder: path.is_empty() || path.ends_with('/') })
    }

    /// The segments, decoded.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(String::as_str)
    }

    /// Whether it ends in a slash.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// Whether a segment begins with a dot, as `.git` and `.env` do; `.well-known` (RFC 8615) does not count.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.segments().any(|segment| segment.starts_with('.') && segment != ".well-known")
    }

    /// The place below `root`.
    #[must_use]
    pub fn join(&self, root: &Path) -> PathBuf {
        let mut path = root.to_path_buf();
        path.extend(&self.segments);
        path
    }
}

/// The place of a request's path below `root`: [`SafePath::parse`] and [`SafePath::join`].
///
/// # Errors
/// As [`SafePath::parse`].
pub fn safe_join(root: &Path, path: &str) -> Result<PathBuf, PathError> {
    SafePath::parse(path).map(|path| path.join(root))
}

fn decode(segment: &str) -> Result<String, PathError> {
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| PathError::Encoding)?;
    // A `%` that begins no escape stays as it is.
    let escapes = segment.len() - decoded.len();
    if segment.matches('%').count() * 2 != escapes {
        return Err(PathError::Encoding);
    }
    if has_escape(&decoded) {
        return Err(PathError::EncodedTwice);
    }
    match decoded.as_ref() {
        "." | ".." => return Err(PathError::DotSegment),
        text if text.chars().any(char::is_control) => return Err(PathError::Control),
        text if text.contains(['/', '\\']) => return Err(PathError::Separator),
        text if text.contains(':') => return Err(PathError::Colon),
        _ => {}
    }
    // To some systems, a name with dots and spaces after it is the name without them.
    if decoded.trim_end_matches([' ', '.']).is_empty() {
        return Err(PathError::DotSegment);
    }
    Ok(decoded.into_owned())
}

/// Whether the text has an escape of a byte that means something in a path. A file may well be called `50%+1` or `100%`.
fn has_escape(text: &str) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes().windows(3).any(|window| match *window {
        [b'%', high, low] => digit(high).zip(digit(low)).is_some_and(|(high, low)| {
            let byte = (high * 16 + low) as u8;
            b"./\\%:".contains(&byte) || byte.is_ascii_control()
        }),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_in_a_name_is_no_escape() {
        for (path, name) in
            [("/50%25+1", "50%+1"), ("/%25-1", "%-1"), ("/100%25", "100%"), ("/%25%C3%A9", "%\u{e9}")]
        {
            let parsed = SafePath::parse(path).unwrap();
            assert!(parsed.segments().eq([name]), "{path}");
        }
    }
}
