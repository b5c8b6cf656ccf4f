//! The log itself.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use secrecy::SecretSlice;
use serde::Serialize;

use super::chain::{ChainHash, ChainHead};
use super::event::AuditRecord;
use super::time::rfc3339;
use crate::log_text::{LogText, escape_json};

/// Where records go. A file that is opened for appending is one; so is all that can be written to.
pub trait AuditSink: Send {
    /// Writes one record: JSON, with a line feed at its end.
    ///
    /// Write all of it or none: after a part the chain no longer verifies. The file of [`AuditLog::open`] takes a part
    /// back; anything else that can be written to does what its own `write_all` does.
    ///
    /// # Errors
    /// Any that keeps it from being written.
    fn write_record(&mut self, line: &[u8]) -> io::Result<()>;
}

impl<W: io::Write + Send> AuditSink for W {
    fn write_record(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_all(line)?;
        self.flush()
    }
}

struct Chain {
    sink: Box<dyn AuditSink>,
    head: ChainHead,
}

/// An audit log, shared by all cores. See the [module](super) for an example.
///
/// A record is written before [`record`](Self::record) returns, under a lock: the order of the lines is the order of
/// the chain. A write to a file takes some microseconds; where that is too long for a core, give a sink that hands the
/// line to a thread.
pub struct AuditLog {
    chain: Mutex<Chain>,
    hash: ChainHash,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    time: String,
    #[serde(flatten)]
    record: &'a AuditRecord<'a>,
    previous: &'a str,
}

impl AuditLog {
    /// A new log. With a key of 32 random bytes that the log's readers have and its writers' thieves do not, the chain
    /// cannot be forged.
    pub fn new(sink: impl AuditSink + 'static, key: Option<&SecretSlice<u8>>) -> Self {
        Self::resume(sink, key, ChainHead::default())
    }

    /// Goes on with a log that [`verify`](super::verify) found whole.
    pub fn resume(sink: impl AuditSink + 'static, key: Option<&SecretSlice<u8>>, head: ChainHead) -> Self {
        Self { chain: Mutex::new(Chain { sink: Box::new(sink), head }), hash: ChainHash::new(key) }
    }

    /// Where the chain ends now.
    #[must_use]
    pub fn head(&self) -> ChainHead {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).head.clone()
    }

    /// Records what happened at `now`.
    ///
    /// # Errors
    /// The sink's: the record is then in the `tracing` event alone, and the chain goes on without it. If the sink wrote
    /// a part of it, which the file of [`open`](Self::open) does not, the log no longer verifies from there on.
    pub fn record(&self, record: &AuditRecord<'_>, now: SystemTime) -> io::Result<()> {
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let Chain { sink, head } = &mut *chain;
        let sequence = head.sequence + 1;
        let line = Line { sequence, time: rfc3339(now), record, previous: &head.hash };
        let mut line = escape_json(&serde_json::to_string(&line)?);
        let hash = self.hash.seal(&mut line);
        emit(record, sequence, &hash, &line);
        line.push('\n');
        sink.write_record(line.as_bytes())?;
        *head = ChainHead { sequence, hash };
        Ok(())
    }
}

/// The record as a `tracing` event: the fields by which one searches, and the whole of it.
fn emit(record: &AuditRecord<'_>, sequence: u64, hash: &str, line: &str) {
    let client = record.client.map(tracing::field::display);
    let principal = record.principal.map(|id| tracing::field::display(LogText::new(id)));
    let event = record.event.name();
    if record.event.is_alarming() {
        tracing::warn!(target: "gimmal::audit", event, principal, client, sequence, hash, record = line);
    } else {
        tracing::info!(target: "gimmal::audit", event, principal, client, sequence, hash, record = line);
    }
}
