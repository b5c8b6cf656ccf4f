//! Files that go with their process, however it ends.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use tempfile::{Builder, NamedTempFile, TempPath};

/// A file that is gone when the value is dropped, unless it is kept.
///
/// Where the file system can do without a name (`O_TMPFILE`, as ext4, XFS, Btrfs and tmpfs do) the file has none until it
/// is kept, so that nothing is left even of a process that is killed.
///
/// Its methods call the file system, and may wait for a disk.
#[derive(Debug)]
pub struct TempFile {
    file: File,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// It has no name, and lies in the file system of this folder.
    Unnamed(PathBuf),
    Named(TempPath),
}

impl TempFile {
    /// Makes an empty file in a folder, which only this user may read and write.
    pub(super) fn new_in(folder: &Path) -> io::Result<Self> {
        if let Ok(file) = open_unnamed(folder) {
            return Ok(Self { file, place: Place::Unnamed(folder.to_owned()) });
        }
        // The file system cannot, or the folder is not there, which is told here.
        let (file, path) = NamedTempFile::new_in(folder)?.into_parts();
        Ok(Self { file, place: Place::Named(path) })
    }

    /// The open file. Its position is at its end.
    #[must_use]
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// A path by which this process can open the file for as long as the value lives. It means nothing afterwards, nor
    /// to another process: [`keep`](Self::keep) and [`persist`](Self::persist) give the file a name that does.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &self.place {
            Place::Unnamed(_) => name_in_proc(&self.file),
            Place::Named(path) => path.to_path_buf(),
        }
    }

    /// Keeps the file in its folder, under a name that is made up.
    ///
    /// # Errors
    /// What linking the file fails with. It is gone then.
    pub fn keep(self) -> io::Result<(File, PathBuf)> {
        let path = match self.place {
            Place::Unnamed(folder) => link_somewhere(&self.file, &folder)?,
            Place::Named(path) => path,
        };
        Ok((self.file, path.keep()?))
    }

    /// Keeps the file under a path of the same file system, in place of what is there.
    ///
    /// # Errors
    /// What linking or renaming the file fails with. It is gone then.
    pub fn persist(self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let named = match self.place {
            Place::Named(named) => named,
            Place::Unnamed(_) => match link(&self.file, path) {
                // A link replaces nothing, and a rename does.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    link_somewhere(&self.file, folder_of(path))?
                }
                linked => return linked.map(|()| self.file),
            },
        };
        named.persist(path)?;
        Ok(self.file)
    }

    /// Keeps the file under a path of the same file system, where there is nothing yet.
    ///
    /// # Errors
    /// `AlreadyExists`, and what linking or renaming the file fails with. It is gone then.
    pub fn persist_noclobber(self, path: impl AsRef<Path>) -> io::Result<File> {
        match self.place {
            Place::Unnamed(_) => link(&self.file, path.as_ref())?,
            Place::Named(named) => named.persist_noclobber(path)?,
        }
        Ok(self.file)
    }
}

/// A file without a name, which can be given one later.
fn open_unnamed(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(open(folder, flags, Mode::RUSR | Mode::WUSR)?);
    // Without /proc it could never be given a name.
    std::fs::symlink_metadata(name_in_proc(&file))?;
    Ok(file)
}

fn name_in_proc(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    Ok(linkat(CWD, name_in_proc(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Links the file under a name that is made up, and that is removed again unless it is kept.
fn link_somewhere(file: &File, folder: &Path) -> io::Result<TempPath> {
    Ok(Builder::new().make_in(folder, |path| link(file, path))?.into_temp_path())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    /// With and without a name.
    fn both(folder: &Path) -> [TempFile; 2] {
        let (file, path) = NamedTempFile::new_in(folder).unwrap().into_parts();
        let files = [TempFile::new_in(folder).unwrap(), TempFile { file, place: Place::Named(path) }];
        files.map(|file| {
            file.as_file().write_all(b"content").unwrap();
            file
        })
    }

    #[test]
    fn a_file_is_gone_unless_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        for file in both(folder.path()) {
            assert_eq!(fs::read(file.path()).unwrap(), b"content");
        }
        assert_eq!(names(folder.path()), 0);
        for file in both(folder.path()) {
            let (_, path) = file.keep().unwrap();
            assert_eq!((fs::read(&path).unwrap().as_slice(), path.parent()), (&b"content"[..], Some(folder.path())));
        }
        assert_eq!(names(folder.path()), 2);
        assert!(TempFile::new_in(&folder.path().join("none")).is_err());
    }

    #[test]
    fn a_file_takes_the_place_of_another_only_where_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        for file in both(folder.path()) {
            file.persist_noclobber(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"content");
            fs::write(&path, "another").unwrap();
            for file in both(folder.path()) {
                let refused = file.persist_noclobber(&path).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            }
            assert_eq!(fs::read(&path).unwrap(), b"another");
            for file in both(folder.path()) {
                fs::write(&path, "another").unwrap();
                file.persist(&path).unwrap();
                assert_eq!(fs::read(&path).unwrap(), b"content");
            }
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(names(folder.path()), 0);
    }
}
