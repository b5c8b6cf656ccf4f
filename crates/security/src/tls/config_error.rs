//! Why a configuration cannot be used.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where a certificate, key or list came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// Bytes in memory; the text says what they are for.
    Memory(&'static str),
}

impl Origin {
    /// The file, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Memory(what) => write!(f, "the {what} in memory"),
        }
    }
}

/// Why a TLS configuration cannot be built or reloaded. A reload that fails leaves what was there in use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}: check the path, and that the server's user may read it", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Text that should be PEM is not.
    #[error("{origin}, line {line}: {reason}")]
    BadPem {
        /// Where it came from.
        origin: Origin,
        /// The line at which the damaged block starts, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something is not where it was to be.
    #[error("{origin} holds no {expected}: {cure}")]
    Missing {
        /// Where it was to be.
        origin: Origin,
        /// What was to be there.
        expected: &'static str,
        /// What to do.
        cure: &'static str,
    },
    /// The private key is encrypted with a password.
    #[error("{0}: the private key is encrypted: decrypt it with `openssl pkey -in FILE -out FILE.decrypted`")]
    EncryptedPrivateKey(Origin),
    /// A certificate that cannot be parsed.
    #[error("{origin}: certificate {number} of the chain is malformed: get it anew from its issuer")]
    BadCertificate {
        /// Where it came from.
        origin: Origin,
        /// Which one, from 1.
        number: usize,
    },
    /// A private key of a kind that cannot be used.
    #[error(
        "{origin}: the private key cannot be used ({reason}): RSA from 2,048 bits on, ECDSA on P-256, P-384 and \
         P-521, and Ed25519 can"
    )]
    BadPrivateKey {
        /// Where it came from.
        origin: Origin,
        /// What the cryptography said.
        reason: String,
    },
    /// The private key belongs to another certificate.
    #[error(
        "the private key in {key} does not belong to the certificate in {certificate} (for {subject}): put the two \
         that were made together side by side"
    )]
    KeyMismatch {
        /// Where the certificate came from.
        certificate: Origin,
        /// Where the key came from.
        key: Origin,
        /// Whom the certificate is for.
        subject: String,
    },
    /// The private key belongs to a later certificate of the chain.
    #[error(
        "{0}: the chain is in the wrong order: the server's own certificate comes first, its issuer next"
    )]
    ChainOrder(Origin),
    /// A root that cannot be used as one.
    #[error("{origin}: root {number} cannot be used ({reason}): give certificates of authorities")]
    BadRoot {
        /// Where it came from.
        origin: Origin,
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// No roots at all.
    #[error("no trusted roots: {0}")]
    NoRoots(&'static str),
    /// A revocation list that cannot be used.
    #[error("{origin}: the revocation list cannot be used ({reason}): get it anew from its issuer")]
    BadRevocationList {
        /// Where it came from.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// A server without a certificate.
    #[error("no certificate: give one, or say that the ACME server will")]
    NoCertificates,
    /// Two settings that are not safe together.
    #[error("{0}")]
    Conflict(&'static str),
    /// The settings or the folder of an ACME client.
    #[cfg(feature = "acme")]
    #[error(transparent)]
    Acme(Box<super::acme::AcmeError>),
    /// A name that no certificate can be made for.
    #[error("{0:?} is no DNS name and no address")]
    BadName(String),
    /// A pin that is none.
    #[error("{0:?} is no pin: give base64 of the 32 bytes of a SHA-256")]
    BadPin(String),
    /// The cryptography refused.
    #[error("the TLS library refused the configuration: {0}")]
    Refused(String),
}

#[cfg(feature = "acme")]
impl From<super::acme::AcmeError> for TlsConfigError {
    fn from(error: super::acme::AcmeError) -> Self {
        match error {
            super::acme::AcmeError::Certificate(error) => error,
            error => Self::Acme(Box::new(error)),
        }
    }
}

impl From<rustls::Error> for TlsConfigError {
    fn from(error: rustls::Error) -> Self {
        Self::Refused(error.to_string())
    }
}
