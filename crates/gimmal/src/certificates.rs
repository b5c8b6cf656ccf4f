//! Keeping certificates fresh while the server runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gimmal_runtime::blocking;
use gimmal_security::Severity;
use gimmal_security::audit::{AuditEvent, AuditLog};
use gimmal_security::tls::{Exposure, TlsConfigError, TlsServerConfig};

use crate::audit::record_of_server;
use crate::clock::unix_seconds;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often certificates that grow old are warned of, in looks.
const WARN_EVERY_LOOKS: u32 = 24 * 3600 / LOOK_EVERY.as_secs() as u32;

/// The TLS configurations of a server, and the log that is told when they are read again.
#[derive(Clone)]
pub(crate) struct Certificates {
    configs: Arc<[TlsServerConfig]>,
    audit_log: Option<Arc<AuditLog>>,
}

impl Certificates {
    pub(crate) fn new(configs: Vec<TlsServerConfig>, audit_log: Option<Arc<AuditLog>>) -> Self {
        Self { configs: configs.into(), audit_log }
    }

    pub(crate) fn reload(&self) -> Result<(), Vec<TlsConfigError>> {
        let mut errors = Vec::new();
        for config in &*self.configs {
            let reloaded = config.reload();
            self.record(config, reloaded.as_ref());
            errors.extend(reloaded.err());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn record(&self, config: &TlsServerConfig, reloaded: Result<&(), &TlsConfigError>) {
        let log = self.audit_log.as_ref();
        match reloaded {
            Ok(()) => {
                for key in config.certificates() {
                    let certificate = key.certificate();
                    let names: Vec<_> = certificate.dns_names().map(str::to_owned).collect();
                    let not_after = certificate.not_after();
                    record_of_server(log, AuditEvent::CertificateReloaded { names: &names, not_after });
                }
            }
            Err(error) => {
                let reason = error.to_string();
                record_of_server(log, AuditEvent::CertificateReloadFailed { reason: &reason });
            }
        }
    }

    pub(crate) fn expire_at(&self) -> Option<u64> {
        self.configs.iter().filter_map(TlsServerConfig::not_after).min()
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
        if self.configs.is_empty() {
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
        for config in &*self.configs {
            match config.reload_if_changed() {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(cause = "a file has changed", "certificates were read again");
                    self.record(config, Ok(&()));
                }
                Err(error) => {
                    log_failure(&error);
                    self.record(config, Err(&error));
                }
            }
        }
    }

    fn warn(&self) {
        let now = unix_seconds();
        for finding in self.configs.iter().flat_map(|config| config.check(Exposure::Network, now)) {
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
        write!(f, "Certificates({} configurations)", self.configs.len())
    }
}
