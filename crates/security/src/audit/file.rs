//! The log in a file.

use std::fs::{OpenOptions, TryLockError};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use secrecy::SecretSlice;
use thiserror::Error;

use super::chain::{ChainError, verify};
use super::log::AuditLog;

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

impl AuditLog {
    /// The log in a file, which is made if it is not there, for its owner alone to read. What is in it is
    /// [verified](super::verify) first, and its chain gone on with. The file is locked against other processes for as
    /// long as the log lives.
    ///
    /// It reads all of the file, so it belongs before the start of a server. To begin a new file, move the old one away
    /// while no server runs, and keep it: each file is a chain of its own.
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
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AuditOpenError::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let head = verify(BufReader::new(&file), key)?;
        Ok(Self::resume(file, key, head))
    }
}
