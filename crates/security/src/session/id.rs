//! Session ids, and the hashes by which stores know them.

use std::fmt;

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The secret that a client's cookie holds: 256 random bits. No store ever sees it.
#[derive(Clone)]
pub(super) struct SessionId([u8; 32]);

impl SessionId {
    /// A new id.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub(super) fn generate() -> Self {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("the system gives randomness");
        Self(bytes)
    }

    /// Reads a cookie's value.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }

    /// A cookie's value.
    pub(super) fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(super) fn key(&self) -> SessionKey {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        SessionKey(key)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId([redacted])")
    }
}

/// What a store knows a session by: the SHA-256 of its id. Whoever reads a store cannot make the id of it. It may be
/// shown to the session's owner, to name a session in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key with that hash.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }
}

impl fmt::Display for SessionKey {
    /// Base64url, 43 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_cookie_and_nothing_else_is_one() {
        let id = SessionId::generate();
        assert_eq!(id.to_text().len(), 43);
        assert_eq!(SessionId::parse(&id.to_text()).unwrap().key(), id.key());
        assert_ne!(SessionId::generate().key(), id.key());
        for bad in ["", "x", &"A".repeat(42), &"A".repeat(44), &format!("{}=", id.to_text())] {
            assert!(SessionId::parse(bad).is_none(), "{bad}");
        }
        assert!(!format!("{id:?}").contains(&id.to_text()));
        assert_eq!(SessionKey::parse(&id.key().to_string()), Some(id.key()));
    }
}
