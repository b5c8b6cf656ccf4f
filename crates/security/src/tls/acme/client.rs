//! The course of an order.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use secrecy::ExposeSecret;

use super::bridge::with_client;
use super::config::{AcmeChallenge, AcmeConfig};
use super::error::{AcmeError, words};
use super::renewal::renewal_time;
use super::responder::{AcmeResponder, Presented};
use super::storage::Storage;
use crate::tls::{CertifiedKey, SubjectAltName, TlsClientConfig, TlsConfigError, pem};
use crate::{BlockingPool, HttpFetch};

/// How the server is asked whether it is done: often at first, and for five minutes.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(300));

/// Obtains and keeps one certificate. Clones are the same client.
#[derive(Clone)]
pub struct AcmeClient {
    config: Arc<AcmeConfig>,
    storage: Arc<Storage>,
}

impl AcmeClient {
    /// A client with its storage.
    ///
    /// # Errors
    /// [`AcmeError::Config`] if the terms of service are not agreed to; [`AcmeError::Storage`] if the folder cannot be
    /// made.
    pub fn new(config: AcmeConfig) -> Result<Self, AcmeError> {
        if !config.are_terms_agreed() {
            return Err(AcmeError::Config(
                "an ACME account needs agreement to the server's terms of service: read them, and call \
                 agree_to_terms_of_service",
            ));
        }
        Ok(Self { storage: Arc::new(Storage::open(&config)?), config: Arc::new(config) })
    }

    /// The names that the certificate is for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        self.config.names()
    }

    /// Where the ACME server's directory is.
    #[must_use]
    pub fn directory_url(&self) -> &str {
        self.config.directory_url()
    }

    /// The one challenge that may be used, if not every one may.
    #[must_use]
    pub fn only_challenge(&self) -> Option<AcmeChallenge> {
        self.config.only_challenge()
    }

    /// How to speak TLS with the ACME server, if not by the platform's roots.
    #[must_use]
    pub fn server_tls(&self) -> Option<&TlsClientConfig> {
        self.config.tls_with_server()
    }

    /// The certificate that was obtained last, if there is one; it may have expired.
    ///
    /// # Errors
    /// [`AcmeError::Storage`] and [`AcmeError::Certificate`] name the file.
    pub fn stored(&self) -> Result<Option<CertifiedKey>, AcmeError> {
        self.storage.load_certificate()
    }

    /// Where that is.
    pub(in crate::tls) fn certificate_path(&self) -> &Path {
        self.storage.certificate_path()
    }

    /// Whether both are clones of one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }

    /// When to call [`obtain`](Self::obtain) next, in seconds since 1970: at once if nothing is stored, else at the
    /// stored certificate's [`renewal_time`].
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn renew_at(&self) -> Result<u64, AcmeError> {
        Ok(self.stored()?.map_or(0, |key| {
            let certificate = key.certificate();
            renewal_time(certificate.not_before(), certificate.not_after())
        }))
    }

    /// Gets a new certificate, with a new key, and stores it. The first time, this opens an account.
    ///
    /// The responder has to be reachable by all names, by HTTP on port 80 or by TLS on port 443, while this runs. It
    /// needs Tokio's timer, and takes seconds to minutes. Files are written on threads of `pool`.
    ///
    /// # Errors
    /// [`AcmeError`] says what the server said. What was stored before stays; after
    /// [`retry_after`](super::retry_after), try again.
    ///
    /// # Cancel safety
    /// Dropped, it takes its challenges back; the next call begins anew.
    pub async fn obtain<F: HttpFetch, P: BlockingPool>(
        &self,
        fetch: &F,
        pool: &P,
        responder: &AcmeResponder,
    ) -> Result<CertifiedKey, AcmeError> {
        let (key_pem, chain_pem) = with_client(fetch, async |http| {
            let account = self.account(http, pool).await?;
            self.order(&account, responder).await
        })
        .await?;
        let key = CertifiedKey::from_pem(chain_pem.as_bytes(), key_pem.as_bytes())?;
        let issued = key.certificate().names();
        if !self.config.names().iter().all(|name| issued.contains(&SubjectAltName::Dns(name.clone()))) {
            return Err(AcmeError::WrongNames);
        }
        self.with_storage(pool, move |storage| storage.save_certificate(&key_pem, &chain_pem)).await?;
        Ok(key)
    }

    /// Reads or writes files, on a thread for such work.
    async fn with_storage<T: Send + 'static>(
        &self,
        pool: &impl BlockingPool,
        work: impl FnOnce(&Storage) -> Result<T, AcmeError> + Send + 'static,
    ) -> Result<T, AcmeError> {
        let storage = Arc::clone(&self.storage);
        pool.run(move || work(&storage)).await.unwrap_or(Err(AcmeError::Busy))
    }

    /// The stored account, or a new one (RFC 8555 section 7.3).
    async fn account(
        &self,
        http: Box<dyn HttpClient>,
        pool: &impl BlockingPool,
    ) -> Result<Account, AcmeError> {
        let builder = Account::builder_with_http(http);
        if let Some(credentials) = self.with_storage(pool, Storage::load_account).await? {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contacts: Vec<_> = self.config.contacts().iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contacts,
            terms_of_service_agreed: self.config.are_terms_agreed(),
            only_return_existing: false,
        };
        let bound_to = self.config.bound_to().map(|external| {
            ExternalAccountKey::new(external.key_id.clone(), external.hmac_key.expose_secret())
        });
        let url = self.config.directory_url().to_owned();
        let (account, credentials) = builder.create(&account, url, bound_to.as_ref()).await?;
        self.with_storage(pool, move |storage| storage.save_account(&credentials)).await?;
        Ok(account)
    }

    /// Private key and chain in PEM (RFC 8555 section 7.4).
    async fn order(
        &self,
        account: &Account,
        responder: &AcmeResponder,
    ) -> Result<(String, String), AcmeError> {
        let names: Vec<_> = self.config.names().iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let presented = present_all(&mut order, responder).await?;
        match order.poll_ready(&POLLING).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(failed_challenge(&mut order).await.unwrap_or(AcmeError::TimedOut)),
            Err(error) => return Err(failed_challenge(&mut order).await.unwrap_or_else(|| error.into())),
        }
        drop(presented);

        let refused = |error: rcgen::Error| TlsConfigError::Refused(error.to_string());
        let mut parameters = CertificateParams::new(self.config.names()).map_err(refused)?;
        parameters.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate().map_err(refused)?;
        let request = parameters.serialize_request(&key).map_err(refused)?;
        order.finalize_csr(request.der()).await?;
        let chain_pem = order.poll_certificate(&POLLING).await?;
        Ok((pem::encode("PRIVATE KEY", &key.serialize_der()), chain_pem))
    }
}

/// Answers the challenges of all names that the server has not verified before (RFC 8555 section 7.5).
async fn present_all<'r>(
    order: &mut Order,
    responder: &'r AcmeResponder,
) -> Result<Vec<Presented<'r>>, AcmeError> {
    let mut presented = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let mut challenge = authorization.challenge(responder.challenge_type()).ok_or_else(|| {
            AcmeError::ChallengeNotOffered { name: name.clone(), challenge: responder.challenge_name() }
        })?;
        presented.push(responder.present(&name, &challenge.token, &challenge.key_authorization())?);
        challenge.set_ready().await?;
    }
    Ok(presented)
}

/// Which name could not be verified, and why: the order itself does not tell.
async fn failed_challenge(order: &mut Order) -> Option<AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            let (kind, detail) = words(problem);
            return Some(AcmeError::ChallengeFailed { name: state.identifier().to_string(), kind, detail });
        }
    }
    None
}

impl fmt::Debug for AcmeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeClient").field("config", &self.config).finish_non_exhaustive()
    }
}
