//! The file of the audit log: a chain that shows whether anybody has changed it.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gimmal::audit::{AuditLog, AuditOpenError};
use gimmal::security::audit::verify;
use serde::Deserialize;

/// Records that a page shows.
const SHOWN: usize = 50;

#[derive(Clone)]
pub(crate) struct AuditFile(Arc<Path>);

impl AuditFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path.into())
    }

    /// Goes on with the log. One that was changed keeps the server from starting.
    pub(crate) fn open(&self) -> Result<AuditLog, AuditOpenError> {
        AuditLog::open(&self.0, None)
    }

    pub(crate) fn report(&self) -> io::Result<Report> {
        let fault = verify(BufReader::new(File::open(&self.0)?), None).err().map(|error| error.to_string());
        let text = std::fs::read_to_string(&self.0)?;
        let last = text.lines().rev().take(SHOWN);
        Ok(Report { fault, records: last.filter_map(|line| serde_json::from_str(line).ok()).collect() })
    }
}

/// The last records, the newest first, and what is wrong with the chain.
pub(crate) struct Report {
    pub(crate) fault: Option<String>,
    pub(crate) records: Vec<Record>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) time: String,
    pub(crate) event: String,
    pub(crate) client: String,
    pub(crate) principal: String,
    pub(crate) account: String,
    pub(crate) path: String,
    pub(crate) reason: String,
}
