//! The chain of hashes, and its verification.

use std::io::{self, BufRead, Read};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The text between what is hashed and the hash.
const HASH_FIELD: &str = ",\"hash\":\"";
const LINE_END: &str = "\"}";
const HASH_LEN: usize = 64;

/// No record comes near this; a longer line is not one.
pub(super) const LINE_LEN_MAX: u64 = 64 << 10;

/// Where a chain ends: the number of its last record, and that record's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of the last record; the first has 1.
    pub sequence: u64,
    /// Its hash, in 64 hexadecimal digits.
    pub hash: String,
}

impl Default for ChainHead {
    /// The head of a chain without records.
    fn default() -> Self {
        Self { sequence: 0, hash: "0".repeat(HASH_LEN) }
    }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// Not a record, or the torn beginning of one.
    #[error("it is no whole record")]
    Malformed,
    /// The record does not have the hash that it bears: it was changed, or written under another key.
    #[error("it was changed, or written under another key")]
    Hash,
    /// The record does not follow the one before it: one was removed, put in or moved.
    #[error("it does not follow the line before it: a record was removed, put in or moved")]
    Link,
}

/// Why a chain is not whole.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A line is not as it was written.
    #[error("line {line} of the audit log: {fault}")]
    Line {
        /// Its number; the first is 1.
        line: u64,
        /// What is wrong.
        fault: ChainFault,
    },
    /// A record that was known is not there, or is another than it was.
    #[error(
        "record {sequence} is gone or another: lines were cut off at the end, or the log was written anew"
    )]
    Head {
        /// The number of the record.
        sequence: u64,
    },
    /// The log cannot be read.
    #[error("the audit log cannot be read")]
    Read(#[from] io::Error),
}

/// How records are hashed.
#[derive(Clone)]
pub(super) enum ChainHash {
    Plain,
    Keyed(Box<Hmac<Sha256>>),
}

impl ChainHash {
    pub(super) fn new(key: Option<&SecretSlice<u8>>) -> Self {
        match key {
            None => Self::Plain,
            Some(key) => Self::Keyed(Box::new(
                Hmac::new_from_slice(key.expose_secret()).expect("HMAC takes a key of any length"),
            )),
        }
    }

    fn hash(&self, text: &[u8]) -> String {
        let hash = match self {
            Self::Plain => Sha256::digest(text),
            Self::Keyed(mac) => {
                let mut mac = mac.as_ref().clone();
                mac.update(text);
                mac.finalize().into_bytes()
            }
        };
        let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
    }

    /// Makes a record, which is a JSON object, the next of the chain: adds its hash to it, and returns the hash.
    pub(super) fn seal(&self, record: &mut String) -> String {
        record.truncate(record.len() - 1);
        let hash = self.hash(record.as_bytes());
        record.extend([HASH_FIELD, &hash, LINE_END]);
        hash
    }
}

/// Verifies a chain line by line, over several files if need be.
///
/// ```no_run
/// use std::fs::File;
/// use std::io::{BufRead, BufReader};
///
/// use gimmal_security::audit::{ChainHead, ChainVerifier};
///
/// let mut verifier = ChainVerifier::new(ChainHead::default(), None);
/// for file in ["audit.1.jsonl", "audit.2.jsonl"] {
///     for line in BufReader::new(File::open(file)?).lines() {
///         verifier.line(line?.as_bytes())?;
///     }
/// }
/// println!("{} records are whole", verifier.head().sequence);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChainVerifier {
    head: ChainHead,
    hash: ChainHash,
}

impl std::fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainVerifier").field("head", &self.head).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Link {
    sequence: u64,
    previous: String,
}

impl ChainVerifier {
    /// Verifies what follows `head`, under the key with which it was written.
    #[must_use]
    pub fn new(head: ChainHead, key: Option<&SecretSlice<u8>>) -> Self {
        Self { head, hash: ChainHash::new(key) }
    }

    /// Verifies the next line, without its line end.
    ///
    /// # Errors
    /// [`ChainFault`] if it is not the record that was written after the one before it.
    pub fn line(&mut self, line: &[u8]) -> Result<(), ChainFault> {
        let body = line.strip_suffix(LINE_END.as_bytes()).ok_or(ChainFault::Malformed)?;
        let hash_at = body.len().checked_sub(HASH_LEN).ok_or(ChainFault::Malformed)?;
        let (body, sent) = body.split_at(hash_at);
        let text = body.strip_suffix(HASH_FIELD.as_bytes()).ok_or(ChainFault::Malformed)?;
        let hash = self.hash.hash(text);
        if !bool::from(hash.as_bytes().ct_eq(sent)) {
            return Err(ChainFault::Hash);
        }
        let link: Link = serde_json::from_slice(line).map_err(|_| ChainFault::Malformed)?;
        if link.sequence != self.head.sequence + 1 || link.previous != self.head.hash {
            return Err(ChainFault::Link);
        }
        self.head = ChainHead { sequence: link.sequence, hash };
        Ok(())
    }

    /// The last record that was found whole.
    #[must_use]
    pub fn head(&self) -> &ChainHead {
        &self.head
    }
}

/// Verifies a whole log, from its first record on, and returns where it ends: to compare with a head that was kept
/// elsewhere, or to go on from with [`AuditLog::resume`](super::AuditLog::resume).
///
/// # Errors
/// [`ChainError`] names the first line that is not as it was written.
pub fn verify(log: impl BufRead, key: Option<&SecretSlice<u8>>) -> Result<ChainHead, ChainError> {
    verify_since(log, key, &ChainHead::default())
}

/// Verifies a whole log, and that it still has the record that was its last one when it was looked at before: lines that
/// were cut off at the end show in no other way.
///
/// # Errors
/// [`ChainError`] names the first line that is not as it was written, or the record that is missed.
pub fn verify_since(
    mut log: impl BufRead,
    key: Option<&SecretSlice<u8>>,
    known: &ChainHead,
) -> Result<ChainHead, ChainError> {
    let mut verifier = ChainVerifier::new(ChainHead::default(), key);
    let mut is_found = verifier.head() == known;
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if log.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let record = bytes.strip_suffix(b"\n").ok_or(ChainFault::Malformed);
        record.and_then(|record| verifier.line(record)).map_err(|fault| ChainError::Line { line, fault })?;
        is_found |= verifier.head() == known;
    }
    if is_found { Ok(verifier.head) } else { Err(ChainError::Head { sequence: known.sequence }) }
}
