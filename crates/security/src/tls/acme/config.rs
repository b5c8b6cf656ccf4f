//! What to ask an ACME server for.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::DnsName;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::error::AcmeError;
use crate::tls::TlsClientConfig;

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The directory of Let's Encrypt for tests: nobody trusts its certificates, and its limits are wide.
pub const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Which ACME server to ask, for which names, and where to keep what it gives.
///
/// ```
/// use gimmal_security::tls::acme::{AcmeConfig, LETS_ENCRYPT_STAGING};
///
/// let config = AcmeConfig::new(LETS_ENCRYPT_STAGING, &["example.org"], "/var/lib/site/acme")?
///     .contact("mailto:admin@example.org")
///     .agree_to_terms_of_service();
/// // A wildcard needs a challenge in the DNS, which is none of a server's business.
/// assert!(AcmeConfig::new(LETS_ENCRYPT_STAGING, &["*.example.org"], "/var/lib/site/acme").is_err());
/// # Ok::<(), gimmal_security::tls::acme::AcmeError>(())
/// ```
#[derive(Clone)]
pub struct AcmeConfig {
    directory_url: String,
    names: Vec<String>,
    storage: PathBuf,
    contacts: Vec<String>,
    terms_agreed: bool,
    external_account: Option<ExternalAccount>,
    challenge: Option<AcmeChallenge>,
    server_tls: Option<TlsClientConfig>,
}

/// A way to prove to an ACME server that a name leads to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcmeChallenge {
    /// In a TLS handshake on port 443 (RFC 8737). Nothing else is needed.
    TlsAlpn01,
    /// By plain HTTP on port 80 (RFC 8555 section 8.3): what remains where something before this server ends TLS.
    Http01,
}

#[derive(Clone)]
pub(super) struct ExternalAccount {
    pub(super) key_id: String,
    pub(super) hmac_key: SecretSlice<u8>,
}

impl AcmeConfig {
    /// One certificate for `names` from the server with this directory. The account's key and the certificate with
    /// its key are kept in the folder `storage`, which is made if need be; nobody else should be able to read it.
    ///
    /// # Errors
    /// [`AcmeError::Name`] for a name that is no DNS name, or is a wildcard; [`AcmeError::Config`] for none at all.
    pub fn new(
        directory_url: impl Into<String>,
        names: &[&str],
        storage: impl Into<PathBuf>,
    ) -> Result<Self, AcmeError> {
        for name in names {
            let reason = if name.starts_with("*.") {
                "wildcards are verified in the DNS, which is not offered here: list the names one by one"
            } else if DnsName::try_from(*name).is_err() {
                "this is no DNS name"
            } else {
                continue;
            };
            return Err(AcmeError::Name { name: (*name).to_owned(), reason });
        }
        if names.is_empty() {
            return Err(AcmeError::Config("no names to get a certificate for"));
        }
        Ok(Self {
            directory_url: directory_url.into(),
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            storage: storage.into(),
            contacts: Vec::new(),
            terms_agreed: false,
            external_account: None,
            challenge: None,
            server_tls: None,
        })
    }

    /// An address for notices, as a URL: `mailto:admin@example.org`.
    #[must_use]
    pub fn contact(mut self, url: impl Into<String>) -> Self {
        self.contacts.push(url.into());
        self
    }

    /// Agrees to the ACME server's terms of service. Without that there is no account.
    #[must_use]
    pub fn agree_to_terms_of_service(mut self) -> Self {
        self.terms_agreed = true;
        self
    }

    /// Binds the new account to one that exists outside of ACME (RFC 8555 section 7.3.4), as some authorities
    /// demand. `hmac_key` is base64url, as they hand it out.
    ///
    /// # Errors
    /// [`AcmeError::Config`] if the key is not base64url.
    pub fn external_account(
        mut self,
        key_id: impl Into<String>,
        hmac_key: &SecretString,
    ) -> Result<Self, AcmeError> {
        let hmac_key = URL_SAFE_NO_PAD
            .decode(hmac_key.expose_secret().trim_end_matches('='))
            .map_err(|_| AcmeError::Config("the external account's key is not base64url"))?;
        self.external_account = Some(ExternalAccount { key_id: key_id.into(), hmac_key: hmac_key.into() });
        Ok(self)
    }

    /// Proves names by this challenge alone. By default it is the responder that is used that says which.
    #[must_use]
    pub fn challenge(mut self, challenge: AcmeChallenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// How to speak TLS with the ACME server itself: one of your own has a certificate that the platform does not trust.
    /// By default the platform's roots are trusted.
    #[must_use]
    pub fn server_tls(mut self, tls: TlsClientConfig) -> Self {
        self.server_tls = Some(tls);
        self
    }

    pub(super) fn directory_url(&self) -> &str {
        &self.directory_url
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn storage(&self) -> &Path {
        &self.storage
    }

    pub(super) fn contacts(&self) -> &[String] {
        &self.contacts
    }

    pub(super) fn are_terms_agreed(&self) -> bool {
        self.terms_agreed
    }

    pub(super) fn only_challenge(&self) -> Option<AcmeChallenge> {
        self.challenge
    }

    pub(super) fn tls_with_server(&self) -> Option<&TlsClientConfig> {
        self.server_tls.as_ref()
    }

    pub(super) fn bound_to(&self) -> Option<&ExternalAccount> {
        self.external_account.as_ref()
    }
}

impl fmt::Debug for AcmeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeConfig")
            .field("directory_url", &self.directory_url)
            .field("names", &self.names)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}
