//! The configuration of TLS clients.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, sign,
};

use super::certificate::{Certificate, Sha256};
use super::certified_key::CertifiedKey;
use super::config_error::TlsConfigError;
use super::provider::{provider, versions};
use super::roots;
use super::source::PemSource;

/// How clients speak TLS: whom they trust, and what they prove themselves with. One value serves all cores and all
/// servers; clones share everything.
///
/// ```no_run
/// use gimmal_security::tls::{CertifiedKey, TlsClientConfig};
///
/// // The roots that the system trusts.
/// let public = TlsClientConfig::platform()?;
/// // One authority of our own and nobody else, with a certificate of the client's.
/// let internal = TlsClientConfig::builder()
///     .roots_file("internal-ca.pem")
///     .certificate(CertifiedKey::from_pem_files("client.pem", "client.key")?)
///     .build()?;
/// # Ok::<(), gimmal_security::tls::TlsConfigError>(())
/// ```
#[derive(Clone)]
pub struct TlsClientConfig {
    rustls: Arc<ClientConfig>,
}

impl TlsClientConfig {
    /// Trusts the roots that the system trusts, and speaks `http/1.1`.
    ///
    /// # Errors
    /// [`TlsConfigError::NoRoots`] if the system has none.
    pub fn platform() -> Result<Self, TlsConfigError> {
        Self::builder().platform_roots().build()
    }

    /// A client to be configured in detail. It trusts nobody until told so.
    pub fn builder() -> TlsClientConfigBuilder {
        TlsClientConfigBuilder {
            platform_roots: false,
            roots: Vec::new(),
            pins: Vec::new(),
            certificate: None,
            alpn: vec![b"http/1.1".to_vec()],
            only_tls13: false,
        }
    }

    pub(super) fn rustls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.rustls)
    }
}

impl fmt::Debug for TlsClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClientConfig").finish_non_exhaustive()
    }
}

/// Builds a [`TlsClientConfig`].
#[must_use]
#[derive(Debug)]
pub struct TlsClientConfigBuilder {
    platform_roots: bool,
    roots: Vec<PemSource>,
    pins: Vec<Sha256>,
    certificate: Option<CertifiedKey>,
    alpn: Vec<Vec<u8>>,
    only_tls13: bool,
}

impl TlsClientConfigBuilder {
    /// Trusts the roots that the system trusts: the files of its certificate package, or those that the environment
    /// variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name. They are read once.
    pub fn platform_roots(mut self) -> Self {
        self.platform_roots = true;
        self
    }

    /// Trusts the authorities, or self-signed servers, in a PEM file.
    pub fn roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(PemSource::File(path.into()));
        self
    }

    /// Trusts the authorities, or self-signed servers, in a PEM text.
    pub fn roots_pem(mut self, text: &[u8]) -> Self {
        self.roots.push(PemSource::Memory { what: "server roots", text: text.into() });
        self
    }

    /// Takes a server only if its own public key is this one, or another that is pinned; all other checks stay.
    /// Pin a second key that lies in a safe, or losing the first cuts the client off.
    ///
    /// [`Certificate::public_key_fingerprint`] gives it; so does [`pin_from_base64`](Self::pin_from_base64)'s form.
    pub fn pin(mut self, public_key: Sha256) -> Self {
        self.pins.push(public_key);
        self
    }

    /// [`pin`](Self::pin) in the form of `pin-sha256` (RFC 7469 section 2.4): base64 of the SHA-256 of the
    /// SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`TlsConfigError::BadPin`] if it is not that.
    pub fn pin_from_base64(self, pin: &str) -> Result<Self, TlsConfigError> {
        let digest = STANDARD.decode(pin).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        Ok(self.pin(Sha256(digest.ok_or_else(|| TlsConfigError::BadPin(pin.to_owned()))?)))
    }

    /// Presents a certificate to servers that ask for one (mutual TLS).
    pub fn certificate(mut self, key: CertifiedKey) -> Self {
        self.certificate = Some(key);
        self
    }

    /// The application protocols offered, the preferred first; `["http/1.1"]` by default, none with an empty list.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Speaks TLS 1.3 alone.
    pub fn only_tls13(mut self) -> Self {
        self.only_tls13 = true;
        self
    }

    /// Reads all files and checks everything.
    ///
    /// # Errors
    /// [`TlsConfigError`] names the file, and what to do.
    pub fn build(self) -> Result<TlsClientConfig, TlsConfigError> {
        let mut store = RootCertStore::empty();
        for source in &self.roots {
            roots::add(&mut store, source, |_| ())?;
        }
        if self.platform_roots {
            // A damaged certificate among the system's is left out, as every other program does.
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(TlsConfigError::NoRoots(
                    "the system has none: install its package ca-certificates, or set SSL_CERT_FILE",
                ));
            }
        }
        if store.is_empty() {
            return Err(TlsConfigError::NoRoots(
                "say whom to trust: platform_roots, roots_file or roots_pem",
            ));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
            .build()
            .map_err(|error| TlsConfigError::Refused(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(self.only_tls13))?;
        let builder = if self.pins.is_empty() {
            builder.with_webpki_verifier(verifier)
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(PinnedVerifier { verifier, pins: self.pins }))
        };
        let mut rustls = match self.certificate {
            Some(key) => builder
                .with_client_cert_resolver(Arc::new(sign::SingleCertAndKey::from(Arc::clone(key.rustls())))),
            None => builder.with_no_client_auth(),
        };
        rustls.alpn_protocols = self.alpn;
        Ok(TlsClientConfig { rustls: Arc::new(rustls) })
    }
}

/// Every check of webpki, and then that the server's own key is a pinned one. The key of a certificate further up
/// would be no check: a server sends what it likes there.
#[derive(Debug)]
struct PinnedVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    pins: Vec<Sha256>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let certificate = Certificate::from_der(end_entity).ok_or(CertificateError::BadEncoding)?;
        if self.pins.contains(&certificate.public_key_fingerprint()) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
