//! The key behind what this server hands out and must know again: nonces, device cookies.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::random;

/// A key is shorter than [`MacKey::BYTES_MIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a MAC key has at least {} random bytes", MacKey::BYTES_MIN)]
pub struct MacKeyTooShort;

/// A key for HMAC-SHA-256. Machines that serve one site behind a load balancer are given the same key, so that
/// each knows what the others handed out; a single machine takes a random one at start.
///
/// Prints nothing of the key.
///
/// ```
/// use gimmal_security::MacKey;
///
/// assert!(MacKey::new(b"short").is_err());
/// assert_eq!(format!("{:?}", MacKey::random()), "MacKey(..)");
/// ```
#[derive(Clone)]
pub struct MacKey(Zeroizing<Vec<u8>>);

impl MacKey {
    /// Bytes that a key has at least, as many as the hash has (RFC 2104 section 3).
    pub const BYTES_MIN: usize = 32;

    /// A key from random bytes that were made elsewhere.
    ///
    /// # Errors
    /// [`MacKeyTooShort`] below [`BYTES_MIN`](Self::BYTES_MIN).
    pub fn new(bytes: &[u8]) -> Result<Self, MacKeyTooShort> {
        if bytes.len() < Self::BYTES_MIN { Err(MacKeyTooShort) } else { Ok(Self(bytes.to_vec().into())) }
    }

    /// A new key that this process alone knows.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn random() -> Self {
        Self(random::bytes::<{ Self::BYTES_MIN }>().to_vec().into())
    }

    /// The tag of `parts`, which are told apart by their lengths, and of `purpose`, so that a tag made for one use
    /// is worth nothing in another.
    pub(crate) fn tag(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_depends_on_key_purpose_and_the_cut_of_the_parts() {
        let key = MacKey::new(&[7; 32]).unwrap();
        let tag = key.tag("a", &[b"bc", b"d"]);
        assert_eq!(tag, key.clone().tag("a", &[b"bc", b"d"]));
        assert_ne!(tag, MacKey::new(&[8; 32]).unwrap().tag("a", &[b"bc", b"d"]));
        assert_ne!(tag, key.tag("ab", &[b"c", b"d"]));
        assert_ne!(tag, key.tag("a", &[b"b", b"cd"]));
    }
}
