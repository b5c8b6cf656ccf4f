//! Certificates from ACME servers: obtained, renewed in time, and put to use while the server runs.

use std::rc::Rc;
use std::time::Duration;

use gimmal_runtime::{Core, blocking};
use gimmal_security::tls::acme::{
    AcmeChallenge, AcmeClient, AcmeError, AcmeResponder, HttpChallenges, renewal_time, retry_after,
};
use gimmal_security::tls::{CertifiedKey, TlsConfigError, TlsServerConfig};

use crate::auth::{BlockingThreads, Fetcher};
use crate::clock::unix_seconds;
use crate::server::{Binding, Protocol};

/// How long a wait lasts at most before the clock is looked at again: clocks are set, and machines sleep.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
const DAY: u64 = 24 * 3600;

/// The certificates that the bindings of a server want from ACME servers.
#[derive(Clone)]
pub(crate) struct Acme {
    certificates: Vec<AcmeCertificate>,
    /// Answered where plain HTTP is spoken.
    challenges: Option<HttpChallenges>,
}

/// One certificate, who obtains it, and where it is used.
#[derive(Clone)]
struct AcmeCertificate {
    client: AcmeClient,
    used_by: Vec<TlsServerConfig>,
    responders: Vec<AcmeResponder>,
    fetcher: Fetcher,
}

impl Acme {
    pub(crate) fn of(bindings: &[Binding]) -> Self {
        let mut certificates: Vec<AcmeCertificate> = Vec::new();
        for tls in bindings.iter().filter_map(|binding| binding.tls.as_ref()) {
            for client in tls.acme_clients() {
                match certificates.iter_mut().find(|known| known.client.is_same(&client)) {
                    Some(known) => known.used_by.push(tls.clone()),
                    None => certificates.push(AcmeCertificate::new(client, tls.clone())),
                }
            }
        }
        let answers_http = !certificates.is_empty() && bindings.iter().any(speaks_plain_http);
        let challenges = answers_http.then(HttpChallenges::default);
        for certificate in &mut certificates {
            certificate.find_responders(challenges.as_ref());
        }
        Self { certificates, challenges }
    }

    /// What is to be answered by plain HTTP.
    pub(crate) fn challenges(&self) -> Option<&HttpChallenges> {
        self.challenges.as_ref()
    }

    /// Names of certificates that cannot be had: they want HTTP-01, and nobody speaks plain HTTP.
    pub(crate) fn unanswerable(&self) -> impl Iterator<Item = String> {
        let unanswerable = self.certificates.iter().filter(|certificate| certificate.responders.is_empty());
        unanswerable.map(|certificate| certificate.client.names().join(", "))
    }

    /// Keeps all certificates valid until the core begins to stop, which no ACME server holds up.
    pub(crate) fn keep(&self, core: &Rc<Core>) {
        for certificate in self.certificates.iter().filter(|certificate| !certificate.responders.is_empty()) {
            let (certificate, stopping) = (certificate.clone(), Rc::clone(core));
            core.spawn(async move {
                tokio::select! {
                    () = stopping.draining() => {}
                    () = certificate.keep() => {}
                }
            });
        }
    }
}

/// Whether an ACME server's question by HTTP can be answered there.
fn speaks_plain_http(binding: &Binding) -> bool {
    binding.tls.is_none() && matches!(binding.protocol, Protocol::Http | Protocol::RedirectToHttps(_))
}

impl AcmeCertificate {
    fn new(client: AcmeClient, tls: TlsServerConfig) -> Self {
        let fetcher = client.server_tls().map_or_else(Fetcher::new, |tls| Fetcher::with_tls(tls.clone()));
        Self { client, used_by: vec![tls], responders: Vec::new(), fetcher }
    }

    fn find_responders(&mut self, challenges: Option<&HttpChallenges>) {
        let by_tls = AcmeResponder::TlsAlpn01(self.used_by.clone());
        let by_http = challenges.cloned().map(AcmeResponder::Http01);
        self.responders = match self.client.only_challenge() {
            Some(AcmeChallenge::TlsAlpn01) => vec![by_tls],
            Some(AcmeChallenge::Http01) => by_http.into_iter().collect(),
            _ => [by_tls].into_iter().chain(by_http).collect(),
        };
    }

    /// Renews it whenever that is due, for ever.
    async fn keep(self) {
        let names = self.client.names().join(", ");
        let mut failures = 0;
        loop {
            let wait = match self.renew_if_due(&names, failures).await {
                Ok(renew_at) => {
                    failures = 0;
                    Duration::from_secs(renew_at.saturating_sub(unix_seconds())).min(LOOK_EVERY)
                }
                Err(error) => {
                    failures += 1;
                    let wait = retry_after(failures);
                    tracing::error!(
                        names,
                        %error,
                        failures,
                        retry_in_seconds = wait.as_secs(),
                        "no certificate was issued; what was in use stays in use"
                    );
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Gives when the next renewal is due. After each failure the next challenge has its turn.
    async fn renew_if_due(&self, names: &str, failures: u32) -> Result<u64, AcmeError> {
        let client = self.client.clone();
        let stored = blocking(move || client.stored()).await.unwrap_or(Err(AcmeError::Busy))?;
        if let Some(certificate) = stored.as_ref().map(CertifiedKey::certificate) {
            let renew_at = renewal_time(certificate.not_before(), certificate.not_after());
            if renew_at > unix_seconds() {
                return Ok(renew_at);
            }
        }
        let directory = self.client.directory_url();
        let responder = &self.responders[failures as usize % self.responders.len()];
        tracing::info!(
            names,
            directory,
            challenge = responder.challenge_name(),
            "asking for a certificate{}",
            if stored.is_some() { "" } else { "; until it is there, TLS handshakes for these names fail" }
        );
        let key = self.client.obtain(&self.fetcher, &BlockingThreads, responder).await?;
        self.put_to_use().await?;
        let (from, to) = (key.certificate().not_before(), key.certificate().not_after());
        let (now, renew_at) = (unix_seconds(), renewal_time(from, to));
        tracing::info!(names, valid_for_days = to.saturating_sub(now) / DAY, "a new certificate is in use");
        if renew_at > now { Ok(renew_at) } else { Err(AcmeError::DueAtOnce) }
    }

    /// New handshakes, on all cores, use what has been stored.
    async fn put_to_use(&self) -> Result<(), AcmeError> {
        let used_by = self.used_by.clone();
        let reload = move || used_by.iter().try_for_each(TlsServerConfig::reload);
        let reloaded: Result<(), TlsConfigError> = blocking(reload).await.map_err(|_| AcmeError::Busy)?;
        Ok(reloaded?)
    }
}
