//! How a server authenticates clients by certificate (mutual TLS).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::config_error::TlsConfigError;
use super::pem;
use super::provider::provider;
use super::resumption::Policy;
use super::roots;
use super::source::PemSource;

/// Client authentication: which roots a client's certificate must come from, and which were revoked.
///
/// With revocation lists, the whole chain is checked, and a certificate that no list speaks for, or only an
/// outdated one, is refused. Lists in files are read again on each
/// [reload](super::TlsServerConfig::reload); sessions that began under other roots or lists do not resume.
///
/// ```no_run
/// use gimmal_security::tls::{ClientAuth, TlsServerConfig};
///
/// let tls = TlsServerConfig::builder()
///     .pem_files("server.pem", "server.key")
///     .client_auth(ClientAuth::required().roots_file("clients-ca.pem").revocation_list_file("clients.crl"))
///     .build()?;
/// # Ok::<(), gimmal_security::tls::TlsConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientAuth {
    required: bool,
    roots: Vec<PemSource>,
    revocation_lists: Vec<PemSource>,
    unknown_revocation_allowed: bool,
}

impl ClientAuth {
    /// Every client must have a certificate; a handshake without one fails.
    #[must_use]
    pub fn required() -> Self {
        Self {
            required: true,
            roots: Vec::new(),
            revocation_lists: Vec::new(),
            unknown_revocation_allowed: false,
        }
    }

    /// A client may have a certificate. One that is presented must be good; without one the handshake goes on, and
    /// **the handler decides**: see [`TlsSession::client_certificate`](super::TlsSession::client_certificate).
    #[must_use]
    pub fn optional() -> Self {
        Self { required: false, ..Self::required() }
    }

    /// Trusts the authorities in a PEM file. Give those that issue client certificates and no others: whoever they
    /// certify comes in.
    #[must_use]
    pub fn roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(PemSource::File(path.into()));
        self
    }

    /// Trusts the authorities in a PEM text.
    #[must_use]
    pub fn roots_pem(mut self, text: &[u8]) -> Self {
        self.roots.push(PemSource::Memory { what: "client roots", text: text.into() });
        self
    }

    /// Refuses what the lists in a PEM file (`X509 CRL`) revoke.
    #[must_use]
    pub fn revocation_list_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.revocation_lists.push(PemSource::File(path.into()));
        self
    }

    /// Refuses what the lists in a PEM text revoke.
    #[must_use]
    pub fn revocation_list_pem(mut self, text: &[u8]) -> Self {
        self.revocation_lists.push(PemSource::Memory { what: "revocation list", text: text.into() });
        self
    }

    /// Lets a certificate in that no revocation list speaks for, such as one from an intermediate authority without
    /// a list.
    #[must_use]
    pub fn allow_unknown_revocation(mut self) -> Self {
        self.unknown_revocation_allowed = true;
        self
    }

    pub(super) fn is_required(&self) -> bool {
        self.required
    }

    pub(super) fn has_revocation_lists(&self) -> bool {
        !self.revocation_lists.is_empty()
    }

    pub(super) fn is_unknown_revocation_allowed(&self) -> bool {
        self.unknown_revocation_allowed
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().chain(&self.revocation_lists).filter_map(PemSource::path)
    }

    pub(super) fn load(&self) -> Result<LoadedClientAuth, TlsConfigError> {
        let mut digest = Context::new(&SHA256);
        digest.update(&[u8::from(self.required), u8::from(self.unknown_revocation_allowed)]);

        let mut store = RootCertStore::empty();
        for source in &self.roots {
            roots::add(&mut store, source, |der| digest.update(der))?;
        }
        if store.is_empty() {
            return Err(TlsConfigError::NoRoots(
                "client authentication needs the authorities that issue client certificates",
            ));
        }

        let store = Arc::new(store);
        let builder = || WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), provider());
        let mut verifier = builder().enforce_revocation_expiration();
        let mut lists_end_at = None;
        for source in &self.revocation_lists {
            let origin = source.origin();
            for der in pem::revocation_lists(&source.read()?, &origin)? {
                digest.update(&der);
                let bad =
                    |reason: String| TlsConfigError::BadRevocationList { origin: origin.clone(), reason };
                let (_, list) = CertificateRevocationList::from_der(&der)
                    .map_err(|_| bad("it is malformed".to_owned()))?;
                let ends_at = list.next_update().and_then(|time| u64::try_from(time.timestamp()).ok());
                lists_end_at = earlier(lists_end_at, ends_at);
                // On its own first, so that the error can name its file.
                builder().with_crls([der.clone()]).build().map_err(|error| bad(error.to_string()))?;
                verifier = verifier.with_crls([der]);
            }
        }
        if self.unknown_revocation_allowed {
            verifier = verifier.allow_unknown_revocation_status();
        }
        if !self.required {
            verifier = verifier.allow_unauthenticated();
        }
        let mut policy = Policy([0; 16]);
        policy.0.copy_from_slice(&digest.finish().as_ref()[..16]);
        let verifier = verifier.build().map_err(|error| TlsConfigError::Refused(error.to_string()))?;
        Ok(LoadedClientAuth { verifier, policy, lists_end_at })
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What [`ClientAuth::load`] made of files and texts.
#[derive(Debug)]
pub(super) struct LoadedClientAuth {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) policy: Policy,
    /// When the first revocation list goes out of date, in seconds since 1970.
    pub(super) lists_end_at: Option<u64>,
}
