//! Cookie values that the client cannot change, or not even read.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretSlice};
use thiserror::Error;

use crate::random;

/// Bytes that a secret has at least.
const SECRET_LEN_MIN: usize = 32;

/// The secrets under which cookies are signed or sealed: one current, and older ones that still open what they closed.
///
/// The name of the cookie and the time until which the value holds are part of what is protected: no value can be moved
/// to another cookie, and none outlives its time in the hands of a thief. The `cookie` crate's own signed jar protects
/// neither, which is why it is not used for this.
///
/// ```
/// use gimmal_security::{SecretSlice, cookies::CookieKeys};
///
/// let now = 1_800_000_000;
/// let old = SecretSlice::from(vec![1; 32]);
/// let value = CookieKeys::new(&old)?.seal("cart", "3 apples", now + 60);
///
/// let keys = CookieKeys::new(&SecretSlice::from(vec![2; 32]))?.with_previous(&old)?;
/// assert_eq!(keys.open("cart", &value, now).as_deref(), Some("3 apples"));
/// assert_eq!(keys.open("role", &value, now), None);
/// assert_eq!(keys.open("cart", &value, now + 60), None);
/// # Ok::<(), gimmal_security::cookies::WeakCookieKey>(())
/// ```
pub struct CookieKeys {
    /// The current one first.
    keys: Vec<Key>,
}

struct Key {
    signing: hmac::Key,
    sealing: RandomizedNonceKey,
}

impl CookieKeys {
    /// Signs and seals under `secret`: at least 32 random bytes, kept where other secrets are kept.
    ///
    /// # Errors
    /// [`WeakCookieKey`] if it is shorter.
    pub fn new(secret: &SecretSlice<u8>) -> Result<Self, WeakCookieKey> {
        Ok(Self { keys: vec![Key::derive(secret)?] })
    }

    /// Signs and seals under a new secret that this process alone knows: its cookies are worth nothing after a restart.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn random() -> Self {
        let secret = random::bytes::<SECRET_LEN_MIN>().to_vec().into();
        Self::new(&secret).expect("the secret is as long as it has to be")
    }

    /// Still takes what was signed or sealed under `secret`. To rotate, make the current secret a previous one, and
    /// drop it once the longest-lived cookie has run out.
    ///
    /// # Errors
    /// [`WeakCookieKey`] if it is shorter than 32 bytes.
    pub fn with_previous(mut self, secret: &SecretSlice<u8>) -> Result<Self, WeakCookieKey> {
        self.keys.push(Key::derive(secret)?);
        Ok(self)
    }

    /// A value for the cookie `name` that the client can read but not change (HMAC-SHA-256), until `expires_at`, in
    /// seconds since 1970.
    #[must_use]
    pub fn sign(&self, name: &str, value: &str, expires_at: u64) -> String {
        let payload = format!("{expires_at}.{}", URL_SAFE_NO_PAD.encode(value));
        let tag = hmac::sign(&self.current().signing, signed(name, &payload).as_bytes());
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The value that was signed for the cookie `name`, if nobody changed it and its time has not come by `now`.
    #[must_use]
    pub fn verify(&self, name: &str, signed_value: &str, now: u64) -> Option<String> {
        let (payload, tag) = signed_value.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let message = signed(name, payload);
        self.keys.iter().find(|key| hmac::verify(&key.signing, message.as_bytes(), &tag).is_ok())?;
        let (expires_at, value) = payload.split_once('.')?;
        if expires_at.parse::<u64>().ok()? <= now {
            return None;
        }
        String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()
    }

    /// A value for the cookie `name` that the client can neither read nor change (AES-256-GCM-SIV), until
    /// `expires_at`, in seconds since 1970.
    ///
    /// # Panics
    /// If the value is longer than 2^36 bytes.
    #[must_use]
    pub fn seal(&self, name: &str, value: &str, expires_at: u64) -> String {
        let mut bytes = [&expires_at.to_be_bytes(), value.as_bytes()].concat();
        let nonce = self
            .current()
            .sealing
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut bytes)
            .expect("the value is not too long for AES-GCM-SIV");
        URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &bytes].concat())
    }

    /// The value that was sealed for the cookie `name`, if nobody changed it and its time has not come by `now`.
    #[must_use]
    pub fn open(&self, name: &str, sealed_value: &str, now: u64) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed_value).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>()?;
        let opened = self.keys.iter().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = key.sealing.open_in_place(nonce, Aad::from(name.as_bytes()), &mut sealed).ok()?;
            Some(opened.to_vec())
        })?;
        let (expires_at, value) = opened.split_first_chunk::<8>()?;
        if u64::from_be_bytes(*expires_at) <= now {
            return None;
        }
        String::from_utf8(value.to_vec()).ok()
    }

    fn current(&self) -> &Key {
        &self.keys[0]
    }
}

impl fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieKeys").field("previous", &(self.keys.len() - 1)).finish_non_exhaustive()
    }
}

/// What is signed. A cookie's name has no `=`.
fn signed(name: &str, payload: &str) -> String {
    format!("{name}={payload}")
}

impl Key {
    /// Two keys of one secret, so that neither can stand in for the other (RFC 5869).
    fn derive(secret: &SecretSlice<u8>) -> Result<Self, WeakCookieKey> {
        let secret = secret.expose_secret();
        if secret.len() < SECRET_LEN_MIN {
            return Err(WeakCookieKey);
        }
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"gimmal cookies").extract(secret);
        let expand = |label: &'static [u8]| {
            let mut key = [0; 32];
            extracted
                .expand(&[label], hkdf::HKDF_SHA256)
                .and_then(|material| material.fill(&mut key))
                .expect("32 bytes are within what HKDF gives");
            key
        };
        Ok(Self {
            signing: hmac::Key::new(hmac::HMAC_SHA256, &expand(b"sign")),
            sealing: RandomizedNonceKey::new(&AES_256_GCM_SIV, &expand(b"seal"))
                .expect("32 bytes are a key of AES-256"),
        })
    }
}

/// A secret shorter than 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a secret for cookies needs at least 32 random bytes")]
pub struct WeakCookieKey;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn keys(byte: u8) -> CookieKeys {
        CookieKeys::new(&SecretSlice::from(vec![byte; 32])).unwrap()
    }

    #[test]
    fn what_is_closed_opens() {
        for value in ["", "alice", "a; b\r\n\u{e9}"] {
            let (signed, sealed) = (keys(1).sign("a", value, NOW + 1), keys(1).seal("a", value, NOW + 1));
            assert_eq!(keys(1).verify("a", &signed, NOW).as_deref(), Some(value));
            assert_eq!(keys(1).open("a", &sealed, NOW).as_deref(), Some(value));
            for text in [signed, sealed] {
                assert!(super::super::set_cookie(&super::super::secure_cookie("a", text)).is_ok());
            }
        }
    }

    #[test]
    fn tampered_values() {
        let (signed, sealed) = (keys(1).sign("a", "user", NOW + 1), keys(1).seal("a", "user", NOW + 1));
        for at in 0..signed.len() {
            let mut changed = signed.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(keys(1).verify("a", &changed, NOW), None, "{changed}");
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(keys(1).open("a", &changed, NOW), None, "{changed}");
        }
        for junk in ["", ".", "..", "AAAA", "9999999999.dXNlcg.", "\u{e9}"] {
            assert_eq!(keys(1).verify("a", junk, NOW), None);
            assert_eq!(keys(1).open("a", junk, NOW), None);
        }
    }

    /// A value of one cookie does not pass for another, nor a signed one for a sealed one.
    #[test]
    fn swapped_values() {
        let (signed, sealed) = (keys(1).sign("a", "user", NOW + 1), keys(1).seal("a", "user", NOW + 1));
        assert_eq!(keys(1).verify("b", &signed, NOW), None);
        assert_eq!(keys(1).open("b", &sealed, NOW), None);
        assert_eq!(keys(1).open("a", &signed, NOW), None);
        assert_eq!(keys(1).verify("a", &sealed, NOW), None);
    }

    #[test]
    fn replay_after_expiry() {
        let (signed, sealed) = (keys(1).sign("a", "user", NOW), keys(1).seal("a", "user", NOW));
        assert!(keys(1).verify("a", &signed, NOW - 1).is_some());
        assert!(keys(1).open("a", &sealed, NOW - 1).is_some());
        assert_eq!(keys(1).verify("a", &signed, NOW), None);
        assert_eq!(keys(1).open("a", &sealed, NOW), None);
    }

    #[test]
    fn rotation() {
        let secret = |byte| SecretSlice::from(vec![byte; 32]);
        let rotated = keys(2).with_previous(&secret(1)).unwrap();
        let (signed, sealed) = (keys(1).sign("a", "v", NOW + 1), keys(1).seal("a", "v", NOW + 1));
        assert!(rotated.verify("a", &signed, NOW).is_some() && rotated.open("a", &sealed, NOW).is_some());
        assert!(keys(2).verify("a", &signed, NOW).is_none() && keys(2).open("a", &sealed, NOW).is_none());
        assert!(keys(2).open("a", &rotated.seal("a", "v", NOW + 1), NOW).is_some());
    }

    #[test]
    fn weak_secret() {
        assert_eq!(CookieKeys::new(&SecretSlice::from(vec![1; 31])).err(), Some(WeakCookieKey));
        assert!(!format!("{:?}", keys(77)).contains("77"));
    }
}
