//! The audit log: who logged in, who was refused and why, and what changed in the configuration of security.
//!
//! Each record goes two ways: as a `tracing` event on the target `gimmal::audit`, and as a line of JSON to an
//! [`AuditSink`]. The lines form a chain: each has the hash of the one before it, so [`verify`] shows a line that was
//! changed, removed, put in or moved. With a key, the hashes are HMACs, and whoever can write to the file but does not
//! have the key cannot forge a chain. What no chain can show is that its last lines were cut off: for that, compare the
//! [`ChainHead`] with one that was kept elsewhere. The `tracing` events carry it.
//!
//! Records have no place for a secret, and their text is the peer's only where that is said: cut to 512 bytes, with
//! control characters escaped, so that no record can look like two.
//!
//! ```
//! use std::time::SystemTime;
//!
//! use gimmal_security::Mechanism;
//! use gimmal_security::audit::{AuditEvent, AuditLog, AuditRecord, verify};
//!
//! let file = tempfile::tempfile()?;
//! let log = AuditLog::new(file.try_clone()?, None);
//! let event = AuditEvent::LoginSucceeded { mechanism: Mechanism::Password };
//! log.record(&AuditRecord::new(event).principal("alice"), SystemTime::now())?;
//!
//! use std::io::{BufReader, Seek};
//! let mut file = file;
//! file.rewind()?;
//! assert_eq!(verify(BufReader::new(file), None)?.sequence, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod event;
mod file;
mod log;
mod time;

pub use chain::{ChainError, ChainFault, ChainHead, ChainVerifier, verify, verify_since};
pub use event::{AuditEvent, AuditRecord};
pub use file::{AuditOpenError, AuditSync};
pub use log::{AuditLog, AuditSink};
