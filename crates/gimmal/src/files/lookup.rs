//! Finding files beneath a folder, out of which no name and no symbolic link leads.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fcntl_setfl, fstat, open, openat2};
use rustix::io::Errno;

use super::coding::{CODINGS, Coding};
use super::folder::Folder;
use super::listing::{self, Listing};

/// How a name is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// From memory alone, which takes microseconds.
    Cached,
    /// As long as it takes.
    Disk,
}

/// What there is under a name.
pub(super) enum Found {
    File(OpenFile),
    /// A folder without an index file.
    Listing(Listing),
    /// A folder, asked for without a slash at its end.
    Folder,
    Nothing,
}

/// A file, and what lies beside it compressed.
pub(super) struct OpenFile {
    /// Its path below the folder: that of the index file where that is the answer.
    pub(super) path: String,
    pub(super) file: File,
    pub(super) compressed: Vec<(Coding, File)>,
}

/// Opens the folder itself.
pub(super) fn open_root(root: &Path, effort: Effort) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, root, flags, Mode::empty(), effort.resolve(ResolveFlags::empty()))
}

impl Effort {
    fn resolve(self, flags: ResolveFlags) -> ResolveFlags {
        match self {
            Self::Cached => flags | ResolveFlags::CACHED,
            Self::Disk => flags,
        }
    }
}

/// To read. A pipe that nobody writes to must not hold whoever opens it.
pub(super) const READ: OFlags = OFlags::RDONLY.union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

/// Opens what lies beneath `root`; `None` if there is nothing, or nothing that may be seen.
pub(super) fn open_beneath(
    root: impl AsFd,
    path: &str,
    flags: OFlags,
    effort: Effort,
) -> Result<Option<(OwnedFd, Stat)>, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let flags = flags | OFlags::CLOEXEC;
    let resolve = effort.resolve(ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS);
    let descriptor = match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(descriptor) => descriptor,
        Err(error) if is_absence(error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = fstat(&descriptor)?;
    Ok(Some((descriptor, stat)))
}

/// Whether an error means that for the client there is no such file. `XDEV` is a link that leads out.
fn is_absence(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::XDEV
            | Errno::LOOP
            | Errno::ACCESS
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV
    )
}

pub(super) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

pub(super) fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Opens a path that the server has chosen; `None` if it is no regular file.
pub(super) fn open_regular(path: &Path, effort: Effort) -> io::Result<Option<File>> {
    let descriptor = match effort {
        Effort::Cached => {
            openat2(CWD, path, READ | OFlags::CLOEXEC, Mode::empty(), effort.resolve(ResolveFlags::empty()))
        }
        Effort::Disk => open(path, READ | OFlags::CLOEXEC, Mode::empty()),
    };
    let descriptor = match descriptor {
        // A socket, or a device that is not there.
        Err(Errno::NXIO | Errno::NODEV) => return Ok(None),
        opened => opened?,
    };
    if is_file(&fstat(&descriptor)?) { Ok(Some(blocking_file(descriptor)?)) } else { Ok(None) }
}

/// A regular file, to be read at leisure.
fn open_file(root: &OwnedFd, path: &str, effort: Effort) -> Result<Option<(File, Stat)>, Errno> {
    match open_beneath(root, path, READ, effort)? {
        Some((descriptor, stat)) if is_file(&stat) => Ok(Some((blocking_file(descriptor)?, stat))),
        _ => Ok(None),
    }
}

/// Reads of a file that was opened not to wait may fail where they would have to.
fn blocking_file(descriptor: OwnedFd) -> Result<File, Errno> {
    fcntl_setfl(&descriptor, OFlags::empty())?;
    Ok(File::from(descriptor))
}

impl Folder {
    /// Looks up a path below the folder.
    ///
    /// # Errors
    /// `WouldBlock` if a cached lookup does not know.
    pub(super) fn look_up(&self, path: &str, wants_folder: bool, effort: Effort) -> io::Result<Found> {
        let root = open_root(&self.root, effort)?;
        let Some((descriptor, stat)) = open_beneath(&root, path, READ, effort)? else {
            return Ok(Found::Nothing);
        };
        if is_file(&stat) && !wants_folder {
            let file = blocking_file(descriptor)?;
            return Ok(Found::File(self.with_compressed(&root, path.to_owned(), file, &stat, effort)?));
        }
        if !is_folder(&stat) {
            return Ok(Found::Nothing);
        }
        match self.look_in(&root, path, &descriptor, effort)? {
            Found::Nothing => Ok(Found::Nothing),
            _ if !wants_folder => Ok(Found::Folder),
            found => Ok(found),
        }
    }

    /// The index file of a folder, or what is in it.
    fn look_in(&self, root: &OwnedFd, path: &str, folder: &OwnedFd, effort: Effort) -> io::Result<Found> {
        for index in &self.index_files {
            let path = join(path, index);
            if let Some((file, stat)) = open_file(root, &path, effort)? {
                return Ok(Found::File(self.with_compressed(root, path, file, &stat, effort)?));
            }
        }
        if !self.lists_folders {
            return Ok(Found::Nothing);
        }
        match effort {
            Effort::Cached => Err(io::ErrorKind::WouldBlock.into()),
            Effort::Disk => Ok(Found::Listing(listing::read(root, path, folder)?)),
        }
    }

    /// Adds the compressed siblings of a file. One that is older than the file is what an earlier state of it was.
    fn with_compressed(
        &self,
        root: &OwnedFd,
        path: String,
        file: File,
        stat: &Stat,
        effort: Effort,
    ) -> io::Result<OpenFile> {
        let mut compressed = Vec::new();
        let changed = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        for coding in CODINGS.into_iter().filter(|_| self.precompressed) {
            let sibling = open_file(root, &format!("{path}{}", coding.extension), effort)?;
            if let Some((sibling, own)) = sibling
                && changed(&own) >= changed(stat)
            {
                compressed.push((coding, sibling));
            }
        }
        Ok(OpenFile { path, file, compressed })
    }
}

pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
