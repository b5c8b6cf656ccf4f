//! A certificate chain with its private key.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, InconsistentKeys, sign};

use super::certificate::Certificate;
use super::config_error::{Origin, TlsConfigError};
use super::pem;
use super::provider::provider;

/// How long a development certificate is valid.
const DEVELOPMENT_VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// A certificate, its issuers', and its private key: what a server or a client proves itself with.
///
/// It is checked when it is made: the chain parses, the key can be used, and the two belong together.
/// `Debug` shows the certificate, never the key.
///
/// ```
/// use gimmal_security::tls::CertifiedKey;
///
/// let key = CertifiedKey::self_signed_for_development(&["localhost", "127.0.0.1"])?;
/// assert_eq!(key.certificate().dns_names().collect::<Vec<_>>(), ["localhost"]);
/// assert!(key.is_for_development());
/// # Ok::<(), gimmal_security::tls::TlsConfigError>(())
/// ```
#[derive(Clone)]
pub struct CertifiedKey {
    rustls: Arc<sign::CertifiedKey>,
    certificate: Arc<Certificate>,
    development: bool,
    loose_key_file: Option<Arc<(PathBuf, u32)>>,
}

impl CertifiedKey {
    /// Reads a PEM file with the certificate followed by its issuers', and one with the private key. Both may be
    /// the same file.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file, and what to do.
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let (chain_origin, key_origin) = (Origin::File(chain.to_owned()), Origin::File(key.to_owned()));
        let chain_der = pem::certificates(&pem::read(chain)?, &chain_origin)?;
        let key_der = pem::private_key(&pem::read(key)?, &key_origin)?;
        let mut this = Self::new(chain_der, &key_der, &chain_origin, &key_origin)?;
        let mode = fs::metadata(key).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
        this.loose_key_file = (mode & 0o077 != 0).then(|| Arc::new((key.to_owned(), mode)));
        Ok(this)
    }

    /// Reads PEM texts: the certificate followed by its issuers', and the private key.
    ///
    /// # Errors
    /// [`TlsConfigError`] says what is wrong, and at which line.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsConfigError> {
        let (chain_origin, key_origin) = (Origin::Memory("certificate chain"), Origin::Memory("private key"));
        let chain = pem::certificates(chain, &chain_origin)?;
        Self::new(chain, &pem::private_key(key, &key_origin)?, &chain_origin, &key_origin)
    }

    /// Makes a certificate that nobody trusts, **for development only**: signed by itself, valid for 30 days, with
    /// a key that exists only in this process. `names` are DNS names, wildcards (`*.app.localhost`) and addresses.
    ///
    /// A client has to be told to trust [`Certificate::pem`] (`curl --cacert`).
    ///
    /// # Errors
    /// [`TlsConfigError::BadName`] for something that is no name.
    pub fn self_signed_for_development(names: &[&str]) -> Result<Self, TlsConfigError> {
        let mut parameters = CertificateParams::default();
        for name in names {
            let one = CertificateParams::new([(*name).to_owned()]);
            let one = one.map_err(|_| TlsConfigError::BadName((*name).to_owned()))?;
            parameters.subject_alt_names.extend(one.subject_alt_names);
        }
        parameters.distinguished_name = DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "Gimmal development certificate, do not trust");
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        // An hour in hand for a client whose clock is behind.
        parameters.not_before = epoch + now.saturating_sub(Duration::from_secs(3600));
        parameters.not_after = epoch + now + DEVELOPMENT_VALIDITY;

        let refused = |error: rcgen::Error| TlsConfigError::Refused(error.to_string());
        let key = KeyPair::generate().map_err(refused)?;
        let certificate = parameters.self_signed(&key).map_err(refused)?;
        let mut this = Self::of_own_making(&certificate, &key)?;
        this.development = true;
        Ok(this)
    }

    /// A certificate that was made here, with its key. Nothing need be checked, and a critical extension may be in it.
    pub(super) fn of_own_making(
        certificate: &rcgen::Certificate,
        key: &KeyPair,
    ) -> Result<Self, TlsConfigError> {
        let origin = Origin::Memory("certificate of own making");
        let parsed = Certificate::from_der(certificate.der())
            .ok_or_else(|| TlsConfigError::BadCertificate { origin: origin.clone(), number: 1 })?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = load_private_key(&key, &origin)?;
        Ok(Self {
            rustls: Arc::new(sign::CertifiedKey::new(vec![certificate.der().clone()], key)),
            certificate: Arc::new(parsed),
            development: false,
            loose_key_file: None,
        })
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        chain_origin: &Origin,
        key_origin: &Origin,
    ) -> Result<Self, TlsConfigError> {
        let mut parsed = Vec::with_capacity(chain.len());
        for (index, der) in chain.iter().enumerate() {
            let bad = || TlsConfigError::BadCertificate { origin: chain_origin.clone(), number: index + 1 };
            parsed.push(Certificate::from_der(der).ok_or_else(bad)?);
        }
        let signing_key = load_private_key(key, key_origin)?;
        let key_is_of_an_issuer = parsed.iter().skip(1).any(|issuer| {
            signing_key
                .public_key()
                .is_some_and(|spki| super::certificate::Sha256::of(&spki) == issuer.public_key_fingerprint())
        });
        let certified = sign::CertifiedKey::new(chain, signing_key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) if key_is_of_an_issuer => {
                return Err(TlsConfigError::ChainOrder(chain_origin.clone()));
            }
            Err(Error::InconsistentKeys(_)) => {
                return Err(TlsConfigError::KeyMismatch {
                    certificate: chain_origin.clone(),
                    key: key_origin.clone(),
                    subject: parsed[0].dns_names().next().unwrap_or(parsed[0].subject()).to_owned(),
                });
            }
            Err(_) => return Err(TlsConfigError::BadCertificate { origin: chain_origin.clone(), number: 1 }),
        }
        Ok(Self {
            rustls: Arc::new(certified),
            certificate: Arc::new(parsed.swap_remove(0)),
            development: false,
            loose_key_file: None,
        })
    }

    /// The certificate itself, without its issuers'.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The certificate followed by its issuers', in PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.rustls.cert.iter().map(|der| pem::encode("CERTIFICATE", der)).collect()
    }

    /// Whether [`self_signed_for_development`](Self::self_signed_for_development) made it.
    #[must_use]
    pub fn is_for_development(&self) -> bool {
        self.development
    }

    /// The private key's file and its mode, if others than its owner may read, write or run it.
    #[must_use]
    pub fn loose_key_file(&self) -> Option<(&Path, u32)> {
        self.loose_key_file.as_deref().map(|(path, mode)| (path.as_path(), *mode))
    }

    pub(super) fn rustls(&self) -> &Arc<sign::CertifiedKey> {
        &self.rustls
    }
}

fn load_private_key(
    key: &PrivateKeyDer<'static>,
    origin: &Origin,
) -> Result<Arc<dyn sign::SigningKey>, TlsConfigError> {
    provider()
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| TlsConfigError::BadPrivateKey { origin: origin.clone(), reason: error.to_string() })
}

impl fmt::Debug for CertifiedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedKey")
            .field("certificate", &self.certificate)
            .field("issuers", &(self.rustls.cert.len() - 1))
            .field("development", &self.development)
            .finish_non_exhaustive()
    }
}
