//! Tokens that a form or a script sends back, and another site cannot know.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;
use thiserror::Error;

use crate::random;

/// The name of the cookie that the token is compared with. The prefix keeps sibling hosts and plain HTTP from setting
/// it.
pub const CSRF_COOKIE: &str = "__Host-csrf";

const EXPIRY_LEN: usize = 8;
const MAC_LEN: usize = 32;
const BODY_LEN: usize = EXPIRY_LEN + MAC_LEN;
const KEY_LEN_MIN: usize = 32;

/// What a token is bound to: it is of no use with another session, or in another browser.
#[derive(Clone, Copy)]
pub struct CsrfBinding<'a> {
    /// The session's identifier; empty before a login.
    pub session: &'a str,
    /// The value of the [`CSRF_COOKIE`], as [`CsrfTokens::new_cookie`] made it.
    pub cookie: &'a str,
}

impl fmt::Debug for CsrfBinding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfBinding([REDACTED])")
    }
}

/// Why a token was refused: answer 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CsrfTokenError {
    /// Not a token at all, or not one of ours, or bound to another session or cookie.
    #[error("the CSRF token is not valid: load the page again")]
    Invalid,
    /// Ours, and too old.
    #[error("the CSRF token has expired: load the page again")]
    Expired,
    /// The request has no [`CSRF_COOKIE`].
    #[error("the CSRF cookie is missing: allow cookies and load the page again")]
    CookieMissing,
    /// A key of fewer than 32 bytes.
    #[error("a key for CSRF tokens must have at least 32 random bytes")]
    KeyTooShort,
}

/// Issues and verifies CSRF tokens: signed double submit, bound to the session, with an expiry, without state.
///
/// A token is an expiry and an HMAC-SHA256 over it, the session and the cookie. It is masked with fresh random bytes
/// each time it is issued, so that compressed pages do not give it away bit by bit (BREACH).
///
/// ```
/// use gimmal_security::csrf::{CsrfBinding, CsrfTokenError, CsrfTokens};
///
/// let key = vec![7; 32].into(); // from a secret store
/// let tokens = CsrfTokens::new(&key)?.with_lifetime_seconds(3600);
///
/// let cookie = tokens.new_cookie(); // sent as `tokens.set_cookie(&cookie)`
/// let binding = CsrfBinding { session: "the session's identifier", cookie: &cookie };
/// let token = tokens.issue(binding, 1_700_000_000); // put into the form
///
/// assert_eq!(tokens.verify(&token, binding, 1_700_000_010), Ok(()));
/// assert_eq!(tokens.verify(&token, binding, 1_700_003_601), Err(CsrfTokenError::Expired));
/// let other = CsrfBinding { session: "another", ..binding };
/// assert_eq!(tokens.verify(&token, other, 1_700_000_010), Err(CsrfTokenError::Invalid));
/// # Ok::<(), CsrfTokenError>(())
/// ```
#[derive(Clone)]
pub struct CsrfTokens {
    mac: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
    lifetime_seconds: u64,
}

impl fmt::Debug for CsrfTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfTokens").field("lifetime_seconds", &self.lifetime_seconds).finish_non_exhaustive()
    }
}

impl CsrfTokens {
    /// Tokens under this key, which all machines behind one name share. They live for twelve hours.
    ///
    /// # Errors
    /// [`CsrfTokenError::KeyTooShort`] for fewer than 32 bytes.
    pub fn new(key: &SecretSlice<u8>) -> Result<Self, CsrfTokenError> {
        Ok(Self { mac: mac(key)?, previous: None, lifetime_seconds: 12 * 3600 })
    }

    /// Tokens under a new key that this process alone knows: a page from before a restart has to be loaded again.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn random() -> Self {
        let key = random::bytes::<KEY_LEN_MIN>().to_vec().into();
        Self::new(&key).expect("the key is as long as it has to be")
    }

    /// Goes on to accept tokens that were issued under an earlier key, while keys are rotated.
    ///
    /// # Errors
    /// [`CsrfTokenError::KeyTooShort`] for fewer than 32 bytes.
    pub fn with_previous_key(mut self, key: &SecretSlice<u8>) -> Result<Self, CsrfTokenError> {
        self.previous = Some(mac(key)?);
        Ok(self)
    }

    /// How long a token is good for.
    #[must_use]
    pub fn with_lifetime_seconds(mut self, lifetime_seconds: u64) -> Self {
        self.lifetime_seconds = lifetime_seconds;
        self
    }

    /// A fresh value for the [`CSRF_COOKIE`], of 128 random bits. Make a new one at login.
    #[must_use]
    pub fn new_cookie(&self) -> String {
        URL_SAFE_NO_PAD.encode(random::bytes::<16>())
    }

    /// The value of the `Set-Cookie` field for it.
    #[must_use]
    pub fn set_cookie(&self, cookie: &str) -> String {
        format!("{CSRF_COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Strict")
    }

    /// A token that is good for `binding` from `now`, in seconds since 1970. No two are alike.
    #[must_use]
    pub fn issue(&self, binding: CsrfBinding<'_>, now: u64) -> String {
        let expiry = now.saturating_add(self.lifetime_seconds).to_be_bytes();
        let mut token = [0; 2 * BODY_LEN];
        let (mask, body) = token.split_at_mut(BODY_LEN);
        mask.copy_from_slice(&random::bytes::<BODY_LEN>());
        body[..EXPIRY_LEN].copy_from_slice(&expiry);
        body[EXPIRY_LEN..].copy_from_slice(&bound(&self.mac, binding, expiry).finalize().into_bytes());
        body.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= *mask);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether a token from a form or a header is good for `binding` at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// [`CsrfTokenError`]: answer 403.
    pub fn verify(&self, token: &str, binding: CsrfBinding<'_>, now: u64) -> Result<(), CsrfTokenError> {
        if binding.cookie.is_empty() {
            return Err(CsrfTokenError::CookieMissing);
        }
        let mut bytes = [0; 2 * BODY_LEN];
        match URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) {
            Ok(len) if len == bytes.len() => {}
            _ => return Err(CsrfTokenError::Invalid),
        }
        let (mask, body) = bytes.split_at_mut(BODY_LEN);
        body.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= *mask);
        let (expiry, tag) = body.split_first_chunk::<EXPIRY_LEN>().ok_or(CsrfTokenError::Invalid)?;
        let is_ours = |mac: &Hmac<Sha256>| bound(mac, binding, *expiry).verify_slice(tag).is_ok();
        if !is_ours(&self.mac) && !self.previous.as_ref().is_some_and(is_ours) {
            return Err(CsrfTokenError::Invalid);
        }
        if u64::from_be_bytes(*expiry) < now { Err(CsrfTokenError::Expired) } else { Ok(()) }
    }
}

fn mac(key: &SecretSlice<u8>) -> Result<Hmac<Sha256>, CsrfTokenError> {
    let key = key.expose_secret();
    if key.len() < KEY_LEN_MIN {
        return Err(CsrfTokenError::KeyTooShort);
    }
    Hmac::new_from_slice(key).map_err(|_| CsrfTokenError::KeyTooShort)
}

/// The lengths keep the end of one part from being read as the beginning of the next; the label keeps a key that is
/// used elsewhere too from signing tokens there.
fn bound(mac: &Hmac<Sha256>, binding: CsrfBinding<'_>, expiry: [u8; EXPIRY_LEN]) -> Hmac<Sha256> {
    let mut mac = mac.clone();
    mac.update(b"gimmal csrf token\0");
    mac.update(&expiry);
    for part in [binding.session, binding.cookie] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac
}
