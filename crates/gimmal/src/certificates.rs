//! Keeping certificates fresh while the server runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gimmal_runtime::blocking;
use gimmal_security::Severity;
use gimmal_security::tls::{Exposure, TlsConfigError, TlsServerConfig};

use crate::clock::unix_seconds;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often certificates that grow old are warned of, in looks.
const WARN_EVERY_LOOKS: u32 = 24 * 3600 / LOOK_EVERY.as_secs() as u32;

/// The TLS configurations of a server.
#[derive(Clone)]
pub(crate) struct Certificates(Arc<[TlsServerConfig]>);

impl Certificates {
    pub(crate) fn new(configs: Vec<TlsServerConfig>) -> Self {
        Self(configs.into())
    }

    pub(crate) fn reload(&self) -> Result<(), Vec<TlsConfigError>> {
        let errors: Vec<_> = self.0.iter().filter_map(|config| config.reload().err()).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    pub(crate) fn expire_at(&self) -> Option<u64> {
        self.0.iter().filter_map(TlsServerConfig::not_after).min()
    }

    /// Reads everything again on a thread for blocking work, and logs what came of it.
    pub(crate) async fn reload_off_core(&self, cause: &'static str) {
        let this = self.clone();
        match blocking(move || this.reload()).await {
            Ok(Ok(())) => tracing::info!(cause, "certificates were read again"),
            Ok(Err(errors)) => errors.iter().for_each(log_failure),
            Err(error) => tracing::error!(%error, "certificates could not be read again"),
        }
    }

    /// Reads again what has changed, for as long as the server runs, and warns once a day of what expires soon.
    pub(crate) async fn watch(self) {
        if self.0.is_empty() {
            return;
        }
        let mut looks = 0_u32;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let this = self.clone();
            // Refused only under a flood of blocking work: the next look comes soon.
            let _ = blocking(move || this.reload_changed()).await;
            looks += 1;
            if looks.is_multiple_of(WARN_EVERY_LOOKS) {
                self.warn();
            }
        }
    }

    fn reload_changed(&self) {
        for config in &*self.0 {
            match config.reload_if_changed() {
                Ok(false) => {}
                Ok(true) => tracing::info!(cause = "a file has changed", "certificates were read again"),
                Err(error) => log_failure(&error),
            }
        }
    }

    fn warn(&self) {
        let now = unix_seconds();
        for finding in self.0.iter().flat_map(|config| config.check(Exposure::Network, now)) {
            if finding.severity > Severity::Info {
                tracing::warn!(code = finding.code, cure = finding.cure, "{}", finding.what);
            }
        }
    }
}

fn log_failure(error: &TlsConfigError) {
    tracing::error!(%error, "certificates could not be read again; the server goes on with those that it has");
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({} configurations)", self.0.len())
    }
}
