//! How a server proves to an ACME server that it answers for a name.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use instant_acme::{ChallengeType, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::error::AcmeError;
use crate::tls::{CertifiedKey, TlsConfigError, TlsServerConfig};

/// The answers to HTTP-01 challenges (RFC 8555 section 8.3) that are open now. Clones share them.
///
/// The ACME server asks by plain HTTP on port 80: serve what [`respond`](Self::respond) gives there, before any
/// redirect to HTTPS.
///
/// ```
/// use gimmal_security::tls::acme::HttpChallenges;
///
/// let challenges = HttpChallenges::default();
/// assert_eq!(challenges.respond("/.well-known/acme-challenge/unknown"), None);
/// ```
#[derive(Clone, Default)]
pub struct HttpChallenges(Arc<RwLock<HashMap<String, String>>>);

impl HttpChallenges {
    /// The body to answer a GET of `path` with, status 200 and type `application/octet-stream`; `None` if no
    /// challenge is there.
    #[must_use]
    pub fn respond(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix("/.well-known/acme-challenge/")?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    fn insert(&self, token: &str, key_authorization: &str) {
        let mut challenges = self.0.write().unwrap_or_else(PoisonError::into_inner);
        challenges.insert(token.to_owned(), key_authorization.to_owned());
    }

    fn remove(&self, token: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(token);
    }
}

impl fmt::Debug for HttpChallenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpChallenges").finish_non_exhaustive()
    }
}

/// Who answers challenges.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AcmeResponder {
    /// A plain HTTP server on port 80.
    Http01(HttpChallenges),
    /// The TLS server on port 443 itself, built with [`acme`](crate::tls::TlsServerConfigBuilder::acme) or
    /// [`acme_challenges`](crate::tls::TlsServerConfigBuilder::acme_challenges) (RFC 8737). If there are several
    /// configurations, all of them, since any may be the one on that port.
    TlsAlpn01(Vec<TlsServerConfig>),
}

impl AcmeResponder {
    pub(super) fn challenge_type(&self) -> ChallengeType {
        match self {
            Self::Http01(_) => ChallengeType::Http01,
            Self::TlsAlpn01(_) => ChallengeType::TlsAlpn01,
        }
    }

    /// The challenge's name in speech.
    #[must_use]
    pub fn challenge_name(&self) -> &'static str {
        match self {
            Self::Http01(_) => "HTTP-01",
            Self::TlsAlpn01(_) => "TLS-ALPN-01",
        }
    }

    /// Answers a challenge until what is returned is dropped.
    pub(super) fn present(
        &self,
        name: &str,
        token: &str,
        key_authorization: &KeyAuthorization,
    ) -> Result<Presented<'_>, AcmeError> {
        let key = match self {
            Self::Http01(challenges) => {
                challenges.insert(token, key_authorization.as_str());
                token
            }
            Self::TlsAlpn01(tls) => {
                let key = challenge_certificate(name, key_authorization)?;
                tls.iter().for_each(|tls| tls.insert_challenge(name, key.clone()));
                name
            }
        };
        Ok(Presented { responder: self, key: key.to_owned() })
    }
}

/// The certificate of RFC 8737 section 3: for the name, with the digest of the key authorization in an extension,
/// signed by itself.
fn challenge_certificate(
    name: &str,
    key_authorization: &KeyAuthorization,
) -> Result<CertifiedKey, AcmeError> {
    let refused = |error: rcgen::Error| TlsConfigError::Refused(error.to_string());
    let mut parameters = CertificateParams::new([name.to_owned()]).map_err(refused)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.custom_extensions =
        vec![CustomExtension::new_acme_identifier(key_authorization.digest().as_ref())];
    let key = KeyPair::generate().map_err(refused)?;
    let certificate = parameters.self_signed(&key).map_err(refused)?;
    Ok(CertifiedKey::of_own_making(&certificate, &key)?)
}

/// A challenge that is being answered.
pub(super) struct Presented<'a> {
    responder: &'a AcmeResponder,
    key: String,
}

impl Drop for Presented<'_> {
    fn drop(&mut self) {
        match self.responder {
            AcmeResponder::Http01(challenges) => challenges.remove(&self.key),
            AcmeResponder::TlsAlpn01(tls) => tls.iter().for_each(|tls| tls.remove_challenge(&self.key)),
        }
    }
}
