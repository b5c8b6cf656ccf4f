//! PEM texts that can be loaded again, and whether their files have changed.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificate::Sha256;
use super::config_error::{Origin, TlsConfigError};
use super::pem;

/// A PEM text: a file, which is read again on every reload, or bytes.
#[derive(Clone, Debug)]
pub(super) enum PemSource {
    File(PathBuf),
    Memory { what: &'static str, text: Arc<[u8]> },
}

impl PemSource {
    pub(super) fn read(&self) -> Result<Vec<u8>, TlsConfigError> {
        match self {
            Self::File(path) => pem::read(path),
            Self::Memory { text, .. } => Ok(text.to_vec()),
        }
    }

    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::File(path) => Origin::File(path.clone()),
            Self::Memory { what, .. } => Origin::Memory(what),
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory { .. } => None,
        }
    }
}

/// The state in which a file was last seen. A new time of modification alone is no change: its content decides.
#[derive(Debug)]
pub(super) struct FileRevision {
    path: PathBuf,
    stamp: Option<Stamp>,
    content: Option<Sha256>,
}

/// What tells, without reading it, that a file may have changed. The inode is among it, since tools that renew
/// certificates put a new file, or a symbolic link to one, in the old one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    inode: u64,
    bytes: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
            bytes: metadata.len(),
        }
    }
}

impl FileRevision {
    /// The file as it is now. One that is missing has a state too: its coming back is a change.
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), stamp: stamp(path), content: content(path) }
    }

    /// Whether its content has changed since it was last seen, which is now.
    pub(super) fn changed(&mut self) -> bool {
        let stamp = stamp(&self.path);
        if stamp == self.stamp {
            return false;
        }
        let content = content(&self.path);
        let changed = content != self.content;
        (self.stamp, self.content) = (stamp, content);
        changed
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().as_ref().map(Stamp::of)
}

fn content(path: &Path) -> Option<Sha256> {
    fs::read(path).ok().map(|bytes| Sha256::of(&bytes))
}
