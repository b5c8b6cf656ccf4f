//! What is unsafe in a TLS configuration.

#[cfg(feature = "acme")]
use super::acme::LETS_ENCRYPT_STAGING;
use super::certified_key::CertifiedKey;
use super::server::TlsServerConfig;
use crate::{Finding, Severity};

/// Who can reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Programs on the same machine.
    Loopback,
    /// Others too.
    Network,
}

const DAY: u64 = 24 * 3600;
/// A certificate is warned of this long before its end, or in the last quarter of its time if that is shorter.
const EXPIRES_SOON_SECONDS: u64 = 14 * DAY;
const REVOCATION_LIST_EXPIRES_SOON_SECONDS: u64 = 2 * DAY;

impl TlsServerConfig {
    /// All that is unsafe, or worth knowing, in what is in use now, each with its cure. `now` is in seconds since
    /// 1970. Call it at start and once a day: certificates grow old.
    ///
    /// ```
    /// use gimmal_security::Severity;
    /// use gimmal_security::tls::{Exposure, TlsServerConfig};
    ///
    /// let tls = TlsServerConfig::self_signed_for_development(&["localhost"])?;
    /// let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    /// let findings = tls.check(Exposure::Network, now);
    /// assert_eq!((findings[0].severity, findings[0].code), (Severity::Danger, "tls.development_certificate"));
    /// # Ok::<(), gimmal_security::tls::TlsConfigError>(())
    /// ```
    #[must_use]
    pub fn check(&self, exposure: Exposure, now: u64) -> Vec<Finding> {
        let loaded = self.loaded();
        let mut findings = Vec::new();
        if loaded.keys.is_empty() {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "tls.no_certificate",
                what: "there is no certificate yet, every handshake fails".to_owned(),
                cure: "let the ACME server issue one".to_owned(),
            });
        }
        for key in &loaded.keys {
            check_key(key, exposure, loaded.is_renewed(key), now, &mut findings);
        }
        #[cfg(feature = "acme")]
        self.check_acme(exposure, &mut findings);
        self.check_client_auth(loaded.revocation_lists_end_at, now, &mut findings);
        if self.accepts_early_data() {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "tls.early_data",
                what: "early data (0-RTT) is accepted, and can be replayed".to_owned(),
                cure: "act on it only in routes that are safe to repeat, or turn it off".to_owned(),
            });
        }
        if self.logs_keys() {
            findings.push(Finding {
                severity: Severity::Danger,
                code: "tls.key_log",
                what: "the keys of all sessions are written to SSLKEYLOGFILE".to_owned(),
                cure: "remove dangerous_key_log outside of debugging".to_owned(),
            });
        }
        findings
    }

    #[cfg(feature = "acme")]
    fn check_acme(&self, exposure: Exposure, findings: &mut Vec<Finding>) {
        if self.acme_clients().iter().any(|client| client.directory_url() == LETS_ENCRYPT_STAGING) {
            findings.push(Finding {
                severity: if exposure == Exposure::Network { Severity::Warning } else { Severity::Info },
                code: "tls.acme_staging",
                what: "certificates come from Let's Encrypt's server for tests, nobody trusts them"
                    .to_owned(),
                cure: "ask LETS_ENCRYPT in place of LETS_ENCRYPT_STAGING, once all works".to_owned(),
            });
        }
    }

    fn check_client_auth(&self, lists_end_at: Option<u64>, now: u64, findings: &mut Vec<Finding>) {
        let Some(client_auth) = self.client_auth() else { return };
        let mut add = |severity, code, what: &str, cure: &str| {
            findings.push(Finding { severity, code, what: what.to_owned(), cure: cure.to_owned() });
        };
        if !client_auth.is_required() {
            add(
                Severity::Info,
                "tls.client_auth_optional",
                "clients without a certificate are let in",
                "have each handler that needs one ask for it, or require it of all",
            );
        }
        if !client_auth.has_revocation_lists() {
            add(
                Severity::Warning,
                "tls.client_auth_no_revocation",
                "no revocation list: a client certificate whose key was stolen is good until it expires",
                "add revocation_list_file, or issue client certificates for days instead of years",
            );
        } else if client_auth.is_unknown_revocation_allowed() {
            add(
                Severity::Warning,
                "tls.client_auth_unknown_revocation",
                "client certificates that no revocation list speaks for are let in",
                "add the lists of all authorities in the chain",
            );
        }
        match lists_end_at.map(|end| end.checked_sub(now)) {
            Some(None) => add(
                Severity::Danger,
                "tls.revocation_list_expired",
                "a revocation list is out of date: clients that it speaks for are refused",
                "fetch a new one, and reload",
            ),
            Some(Some(left)) if left < REVOCATION_LIST_EXPIRES_SOON_SECONDS => add(
                Severity::Warning,
                "tls.revocation_list_expires_soon",
                &format!("a revocation list goes out of date in {} hours", left / 3600),
                "fetch a new one, and reload",
            ),
            _ => {}
        }
    }
}

/// `is_renewed` says that an ACME server issues the next one while the server runs.
fn check_key(
    key: &CertifiedKey,
    exposure: Exposure,
    is_renewed: bool,
    now: u64,
    findings: &mut Vec<Finding>,
) {
    let certificate = key.certificate();
    let subject = certificate.dns_names().next().unwrap_or(certificate.subject()).to_owned();
    let mut add = |severity, code, what: String, cure: &str| {
        findings.push(Finding { severity, code, what, cure: cure.to_owned() });
    };
    if key.is_for_development() {
        add(
            if exposure == Exposure::Network { Severity::Danger } else { Severity::Info },
            "tls.development_certificate",
            format!("the certificate for {subject} was made for development, nobody trusts it"),
            "get one from an authority, by ACME for instance",
        );
    } else if certificate.is_self_issued() {
        add(
            Severity::Warning,
            "tls.self_signed_certificate",
            format!("the certificate for {subject} is signed by itself"),
            "get one from an authority, or have every client trust this one",
        );
    }
    if certificate.names().is_empty() {
        add(
            Severity::Warning,
            "tls.certificate_without_names",
            format!(
                "the certificate of {subject} has no subject alternative names, today's clients refuse it"
            ),
            "have it issued with the server's DNS names",
        );
    }
    if now < certificate.not_before() {
        add(
            Severity::Danger,
            "tls.certificate_not_yet_valid",
            format!("the certificate for {subject} is not valid yet"),
            "set this machine's clock, or wait",
        );
    }
    let cure = if is_renewed {
        "the ACME server is asked for the next one: see in the log why it has none yet"
    } else {
        "renew it, and reload"
    };
    let lifetime = certificate.not_after().saturating_sub(certificate.not_before());
    match certificate.not_after().checked_sub(now) {
        None => add(
            if is_renewed { Severity::Warning } else { Severity::Danger },
            "tls.certificate_expired",
            format!(
                "the certificate for {subject} expired {} days ago",
                (now - certificate.not_after()) / DAY
            ),
            cure,
        ),
        Some(left) if left < EXPIRES_SOON_SECONDS.min(lifetime / 4) => add(
            Severity::Warning,
            "tls.certificate_expires_soon",
            format!("the certificate for {subject} expires in {} days", left / DAY),
            cure,
        ),
        Some(_) => {}
    }
    if let Some((path, mode)) = key.loose_key_file() {
        add(
            Severity::Warning,
            "tls.private_key_readable",
            format!(
                "the private key in {} can be used by others than its owner (mode {mode:03o})",
                path.display()
            ),
            "chmod 600 it, and make another if others may have read it",
        );
    }
}
