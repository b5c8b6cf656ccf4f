//! The hashes of Digest, and what is stored of a password for them (RFC 7616 sections 3.2 to 3.4).

use std::fmt;

use md5::Md5;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256, Sha512_256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::credentials::Realm;
use crate::random;

/// A hash of RFC 7616 section 6.1. The `-sess` variants are not supported: no client asks for them of its own
/// accord, and they tie a password to the first nonce of a session, which a stateless server does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256, which every current client knows.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
    /// MD5, for clients that know nothing else. See [`DigestScheme::allow_md5`](super::DigestScheme::allow_md5).
    Md5,
}

impl DigestAlgorithm {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha512_256, Self::Md5];

    /// The name in a header, such as `SHA-256`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
            Self::Md5 => "MD5",
        }
    }

    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// What a client that hides its user name sends in its place: `H(user:realm)` in hexadecimal (RFC 7616 section
    /// 3.4.4). A store that serves such clients has an index of it.
    #[must_use]
    pub fn userhash(self, user: &str, realm: &Realm) -> String {
        self.hash(&[user.as_bytes(), realm.as_str().as_bytes()])
    }

    /// What is to be stored for a user: `H(user:realm:password)`.
    ///
    /// It is worth as much as the password at this realm, and is quick to try passwords against: keep it as you
    /// would keep a key. The password is hashed as it is, as the clients do.
    #[must_use]
    pub fn secret(self, user: &str, realm: &Realm, password: &SecretString) -> DigestSecret {
        let parts = [user, realm.as_str(), password.expose_secret()].map(str::as_bytes);
        DigestSecret { algorithm: self, hex: self.hash(&parts).into() }
    }

    /// The hash of `parts` with a colon between them, in lower-case hexadecimal.
    pub(super) fn hash(self, parts: &[&[u8]]) -> String {
        match self {
            Self::Sha256 => hash::<Sha256>(parts),
            Self::Sha512_256 => hash::<Sha512_256>(parts),
            Self::Md5 => hash::<Md5>(parts),
        }
    }

    /// Digits of a hash.
    pub(super) fn hex_len(self) -> usize {
        match self {
            Self::Sha256 | Self::Sha512_256 => 64,
            Self::Md5 => 32,
        }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn hash<D: Digest>(parts: &[&[u8]]) -> String {
    let mut digest = D::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            digest.update(b":");
        }
        digest.update(part);
    }
    digest.finalize().iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hex_digit).collect()
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(nibble)])
}

/// A stored text is not the hexadecimal form of a hash of its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a Digest secret for {algorithm} has {} hexadecimal digits", algorithm.hex_len())]
pub struct DigestSecretError {
    algorithm: DigestAlgorithm,
}

/// `H(user:realm:password)`, which a server keeps in place of the password.
///
/// Prints nothing, is wiped when it is dropped, and compares in constant time.
///
/// ```
/// use gimmal_security::SecretString;
/// use gimmal_security::credentials::Realm;
/// use gimmal_security::digest::{DigestAlgorithm, DigestSecret};
///
/// let realm = Realm::new("http-auth@example.org")?;
/// let secret = DigestAlgorithm::Sha256.secret("Mufasa", &realm, &SecretString::from("Circle of Life"));
/// let stored = secret.expose_hex().to_owned();
/// assert_eq!(DigestSecret::from_hex(DigestAlgorithm::Sha256, &stored)?, secret);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct DigestSecret {
    algorithm: DigestAlgorithm,
    hex: Zeroizing<String>,
}

impl DigestSecret {
    /// Takes the stored form: hexadecimal, as in the files of `htdigest`.
    ///
    /// # Errors
    /// [`DigestSecretError`] if it is no hash of `algorithm`.
    pub fn from_hex(algorithm: DigestAlgorithm, hex: &str) -> Result<Self, DigestSecretError> {
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DigestSecretError { algorithm });
        }
        Ok(Self { algorithm, hex: hex.to_ascii_lowercase().into() })
    }

    /// A secret that no password has.
    pub(super) fn of_nobody(algorithm: DigestAlgorithm) -> Self {
        Self { algorithm, hex: algorithm.hash(&[&random::bytes::<32>()]).into() }
    }

    /// The algorithm that it was made for.
    #[must_use]
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The stored form, in lower-case hexadecimal.
    #[must_use]
    pub fn expose_hex(&self) -> &str {
        &self.hex
    }
}

impl PartialEq for DigestSecret {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.hex.as_bytes().ct_eq(other.hex.as_bytes()).into()
    }
}

impl Eq for DigestSecret {}

impl fmt::Debug for DigestSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestSecret").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hashlib`.
    #[test]
    fn hashes() {
        let hash = |algorithm: DigestAlgorithm| algorithm.hash(&[b"a", b"", b"b"]);
        assert_eq!(
            hash(DigestAlgorithm::Sha256),
            "78f0be89237d77f7a70e94e0ce7a43935e8931af91b392a1e1917a7c7a6c00a4"
        );
        assert_eq!(
            hash(DigestAlgorithm::Sha512_256),
            "ffceec12844d527af47d65400be59384ed9eb2c7cf91b9d0ccac1dac3da2674c"
        );
        assert_eq!(hash(DigestAlgorithm::Md5), "bb0bcf9744a9101d171d607fdcc05134");
    }

    #[test]
    fn names_are_read_without_regard_to_case() {
        assert_eq!(DigestAlgorithm::from_name(b"sha-256"), Some(DigestAlgorithm::Sha256));
        assert_eq!(DigestAlgorithm::from_name(b"SHA-512-256"), Some(DigestAlgorithm::Sha512_256));
        assert_eq!(DigestAlgorithm::from_name(b"SHA-256-sess"), None);
    }

    #[test]
    fn stored_forms_of_another_algorithm_are_refused() {
        let md5 = "0".repeat(32);
        assert!(DigestSecret::from_hex(DigestAlgorithm::Md5, &md5).is_ok());
        let error = DigestSecret::from_hex(DigestAlgorithm::Sha256, &md5).unwrap_err();
        assert_eq!(error.to_string(), "a Digest secret for SHA-256 has 64 hexadecimal digits");
        assert!(DigestSecret::from_hex(DigestAlgorithm::Md5, &"g".repeat(32)).is_err());
    }

    #[test]
    fn debug_shows_no_hash() {
        let secret = DigestSecret::from_hex(DigestAlgorithm::Md5, &"ab".repeat(16)).unwrap();
        assert!(!format!("{secret:?}").contains("abab"));
    }
}
