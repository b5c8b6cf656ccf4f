//! What a certificate says (RFC 5280).

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::{distinguished_name, pem};
use crate::client_certificate::{self, SubjectAltName};

/// A SHA-256 digest of a certificate (its fingerprint) or of a public key (a pin).
///
/// ```
/// use gimmal_security::tls::Sha256;
/// let digest = Sha256([0xab; 32]);
/// assert_eq!(digest.to_string().len(), 64);
/// assert_eq!("ab:".repeat(31).to_uppercase() + "AB", digest.with_colons());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut value = [0; 32];
        value.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(value)
    }

    /// Upper-case hexadecimal with colons, as browsers and `openssl x509 -fingerprint -sha256` show it.
    #[must_use]
    pub fn with_colons(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

/// The kind of public key that a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// ECDSA, with the size of its curve in bits.
    Ecdsa {
        /// Bits.
        bits: usize,
    },
    /// RSA, with the size of its modulus in bits.
    Rsa {
        /// Bits.
        bits: usize,
    },
    /// Ed25519.
    Ed25519,
    /// Another one.
    Other,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecdsa { bits } => write!(f, "ECDSA P-{bits}"),
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other => f.write_str("another algorithm"),
        }
    }
}

/// What one certificate says. It says it on its own word: only a handshake proves that the peer holds its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    subject: String,
    common_name: Option<String>,
    issuer: String,
    self_issued: bool,
    serial: String,
    names: Vec<SubjectAltName>,
    not_before: u64,
    not_after: u64,
    key_algorithm: KeyAlgorithm,
    public_key: Sha256,
}

impl Certificate {
    /// Reads a certificate in DER; `None` if it is malformed.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let names = match parsed.subject_alternative_name().ok()? {
            Some(extension) => extension.value.general_names.iter().filter_map(subject_alt_name).collect(),
            None => Vec::new(),
        };
        Some(Self {
            der: CertificateDer::from(der.to_vec()),
            subject: distinguished_name::to_string(parsed.subject()),
            common_name: parsed
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok())
                .map(ToOwned::to_owned),
            issuer: distinguished_name::to_string(parsed.issuer()),
            self_issued: parsed.subject() == parsed.issuer(),
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            names,
            not_before: u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0),
            not_after: u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0),
            key_algorithm: match parsed.public_key().parsed() {
                Ok(PublicKey::EC(point)) => KeyAlgorithm::Ecdsa { bits: curve_bits(point.key_size()) },
                Ok(PublicKey::RSA(key)) => KeyAlgorithm::Rsa { bits: key.key_size() },
                // id-Ed25519 (RFC 8410 section 3).
                _ if parsed.public_key().algorithm.algorithm.to_id_string() == "1.3.101.112" => {
                    KeyAlgorithm::Ed25519
                }
                _ => KeyAlgorithm::Other,
            },
            public_key: Sha256::of(parsed.public_key().raw),
        })
    }

    /// The certificate itself, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate itself, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// The distinguished name of whom it is for, in the form of RFC 4514: `CN=alice,O=Example,C=NZ`. Unique only among
    /// the certificates of one issuer.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The common name in the subject. Servers are named by [`names`](Self::names) alone (RFC 9525 section 2).
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The distinguished name of who issued it, in the form of RFC 4514.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether issuer and subject are the same.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.self_issued
    }

    /// The serial number in lower-case hexadecimal, unique for its issuer.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The names that it is for.
    #[must_use]
    pub fn names(&self) -> &[SubjectAltName] {
        &self.names
    }

    /// The DNS names among [`names`](Self::names).
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| match name {
            SubjectAltName::Dns(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether it is for this host: a DNS name, of which `*.` in the certificate stands for the first label, or an
    /// address (RFC 9525 section 6.3).
    #[must_use]
    pub fn is_for_host(&self, host: &str) -> bool {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return self.names.contains(&SubjectAltName::Ip(address));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.dns_names().any(|name| match name.strip_prefix("*.") {
            Some(domain) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(domain)),
            None => name.eq_ignore_ascii_case(host),
        })
    }

    /// When it begins to be valid, in seconds since 1970.
    #[must_use]
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// When it ends to be valid, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// The kind of its public key.
    #[must_use]
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.key_algorithm
    }

    /// SHA-256 over the whole certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.der)
    }

    /// SHA-256 over its SubjectPublicKeyInfo: what is pinned, and stays the same when it is renewed with the same
    /// key.
    #[must_use]
    pub fn public_key_fingerprint(&self) -> Sha256 {
        self.public_key
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("names", &self.names)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

fn subject_alt_name(name: &GeneralName<'_>) -> Option<SubjectAltName> {
    Some(match name {
        GeneralName::DNSName(name) => SubjectAltName::Dns(name.to_ascii_lowercase()),
        GeneralName::RFC822Name(address) => SubjectAltName::Email((*address).to_owned()),
        GeneralName::URI(uri) => SubjectAltName::Uri((*uri).to_owned()),
        GeneralName::IPAddress(bytes) => SubjectAltName::Ip(match bytes.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
            _ => return None,
        }),
        _ => return None,
    })
}

/// The parser counts the bits of a coordinate in whole octets; P-521's has 521 in 66 octets.
fn curve_bits(coordinate_bits: usize) -> usize {
    if coordinate_bits > 512 { 521 } else { coordinate_bits }
}

/// The certificate of a client that proved to hold its key, verified up to a trusted root, not revoked as far as
/// the lists say, and in time.
///
/// That its issuer is trusted does not say who may do what: a
/// [`CertificateMap`](client_certificate::CertificateMap) does.
///
/// ```
/// use gimmal_security::Principal;
/// use gimmal_security::client_certificate::CertificateMap;
/// use gimmal_security::tls::TlsSession;
///
/// fn who(session: &TlsSession, map: &CertificateMap, now: u64) -> Option<Principal> {
///     let client = session.client_certificate()?;
///     println!("{} with {}", client.certificate().subject(), client.certificate().fingerprint());
///     map.principal(&client.identity(), now)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate(Certificate);

impl ClientCertificate {
    /// Only the session makes one, from a chain that was verified.
    pub(super) fn verified(certificate: Certificate) -> Self {
        Self(certificate)
    }

    /// What it says.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.0
    }

    /// What a [`CertificateMap`](client_certificate::CertificateMap) needs to tell who this is.
    #[must_use]
    pub fn identity(&self) -> client_certificate::ClientCertificate<'_> {
        client_certificate::ClientCertificate {
            subject: self.0.subject(),
            subject_alt_names: self.0.names(),
            fingerprint: self.0.fingerprint().0,
        }
    }
}
