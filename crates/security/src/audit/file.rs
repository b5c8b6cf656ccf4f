//! The log in a file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use secrecy::SecretSlice;
use thiserror::Error;

use super::chain::{ChainError, LINE_LEN_MAX, verify};
use super::event::{AuditEvent, AuditRecord};
use super::log::{AuditLog, AuditSink};

/// Why an audit log cannot be gone on with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuditOpenError {
    /// The file cannot be opened or made.
    #[error("the audit log cannot be opened: {0}")]
    Open(#[from] io::Error),
    /// Another process, or another log of this one, writes to it: two would make two chains.
    #[error("the audit log is in use: give each process a file of its own")]
    InUse,
    /// What is there is not whole. It may be evidence.
    #[error("{0}: keep the file aside, and begin a new one")]
    Broken(#[from] ChainError),
}

/// When records are forced from the system's memory to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditSync {
    /// When the system does it of itself, within half a minute or so. A crash of the process loses nothing; a loss of
    /// power may lose the last records.
    #[default]
    BySystem,
    /// Before each record counts as written. It outlives a loss of power, and holds up its core for as long as the disk
    /// takes: some milliseconds.
    EachRecord,
}

impl AuditLog {
    /// Opens the log in a file with [`AuditSync::BySystem`]; see [`open_with`](Self::open_with).
    ///
    /// # Errors
    /// [`AuditOpenError`].
    ///
    /// ```
    /// use gimmal_security::audit::AuditLog;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("audit.jsonl");
    /// let log = AuditLog::open(path, None)?;
    /// assert_eq!(log.head().sequence, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>, key: Option<&SecretSlice<u8>>) -> Result<Self, AuditOpenError> {
        Self::open_with(path, key, AuditSync::default())
    }

    /// Opens the log in a file, which is made for its owner alone to read if it is not there.
    ///
    /// What is in it is [verified](super::verify) first, and its chain gone on with. The file is locked against other
    /// processes for as long as the log lives.
    ///
    /// A last line without its line end is the torn beginning of a record, as a loss of power leaves it. It is moved to
    /// the end of a file beside the log, whose name has `.torn` added, and the log records that. Anything else that is
    /// not as it was written is an error. A record that cannot be written whole, as on a full disk, is taken back.
    ///
    /// It reads all of the file, so it belongs before the start of a server. To begin a new file, move the old one away
    /// while no server runs, and keep it: each file is a chain of its own.
    ///
    /// # Errors
    /// [`AuditOpenError`].
    pub fn open_with(
        path: impl AsRef<Path>,
        key: Option<&SecretSlice<u8>>,
        sync: AuditSync,
    ) -> Result<Self, AuditOpenError> {
        let path = path.as_ref();
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AuditOpenError::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let torn = torn_tail(&file)?;
        let whole = file.metadata()?.len() - torn.len() as u64;
        (&file).rewind()?;
        // Nothing is moved unless all before it is as it was written.
        let head = verify(BufReader::new((&file).take(whole)), key)?;
        let aside = torn_path(path);
        if !torn.is_empty() {
            move_aside(&file, whole, &torn, &aside)?;
        }
        let log = Self::resume(AuditFile { file, sync, is_torn: false }, key, head);
        if !torn.is_empty() {
            let kept_in = aside.to_string_lossy();
            let event = AuditEvent::AuditLogRepaired { bytes: torn.len() as u64, kept_in: &kept_in };
            // Like any other record, it must not keep a service from its work where there is no room for it.
            if let Err(error) = log.record(&AuditRecord::new(event), SystemTime::now()) {
                tracing::error!(%error, "the repair of the audit log was not recorded");
            }
        }
        Ok(log)
    }
}

/// What stands behind the last line end: nothing, or the beginning of a record. What is too long for one is left to
/// the verification.
fn torn_tail(mut file: &File) -> io::Result<Vec<u8>> {
    let len = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(len.saturating_sub(LINE_LEN_MAX)))?;
    let mut end = Vec::new();
    file.take(LINE_LEN_MAX).read_to_end(&mut end)?;
    Ok(match end.iter().rposition(|&byte| byte == b'\n') {
        Some(line_end) => end.split_off(line_end + 1),
        None if len < LINE_LEN_MAX => end,
        None => Vec::new(),
    })
}

/// The file in which torn records are kept.
fn torn_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".torn");
    name.into()
}

/// Keeps the torn end of the log in another file, and only then cuts it off.
fn move_aside(file: &File, whole: u64, torn: &[u8], aside: &Path) -> io::Result<()> {
    let mut kept = OpenOptions::new().create(true).append(true).mode(0o600).open(aside)?;
    kept.write_all(&[torn, b"\n"].concat())?;
    kept.sync_all()?;
    file.set_len(whole)?;
    file.sync_all()
}

/// A file in which each record is whole.
struct AuditFile {
    file: File,
    sync: AuditSync,
    /// Whether a part of a record is at the end and could not be taken back, as where a file may only grow.
    is_torn: bool,
}

impl AuditSink for AuditFile {
    fn write_record(&mut self, line: &[u8]) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        // A new line keeps what is torn from taking this record with it.
        let separator: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let written = self.file.write_all(separator).and_then(|()| self.file.write_all(line));
        let written = written.and_then(|()| match self.sync {
            AuditSync::BySystem => Ok(()),
            AuditSync::EachRecord => self.file.sync_data(),
        });
        match written {
            Ok(()) => self.is_torn = false,
            Err(_) => self.is_torn |= self.file.set_len(before).is_err(),
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_after_one_that_stays_torn_has_a_line_of_its_own() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"{\"seq").unwrap();
        let mut log =
            AuditFile { file: file.try_clone().unwrap(), sync: AuditSync::EachRecord, is_torn: true };
        log.write_record(b"{1}\n").unwrap();
        log.write_record(b"{2}\n").unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"seq\n{1}\n{2}\n");
    }

    /// A pipe takes what is written and cannot be forced to a disk.
    #[test]
    fn a_record_that_did_not_reach_the_disk_does_not_count_where_it_must() {
        for (sync, is_written) in [(AuditSync::BySystem, true), (AuditSync::EachRecord, false)] {
            let (_reader, writer) = io::pipe().unwrap();
            let file = File::from(std::os::fd::OwnedFd::from(writer));
            let mut log = AuditFile { file, sync, is_torn: false };
            assert_eq!(log.write_record(b"{1}\n").is_ok(), is_written);
        }
    }
}
