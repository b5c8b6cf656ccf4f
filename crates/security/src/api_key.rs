//! API keys: a secret of 256 bits for a program, in a form that scanners for leaked secrets find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::credentials::Credentials;
use crate::principal::{Mechanism, Principal};
use crate::random;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Letters and digits of an id: 95 bits, so that ids never meet.
const ID_CHARS: usize = 16;
/// Letters and digits of a secret: the fewest that hold 256 bits.
const SECRET_CHARS: usize = 43;
/// Letters and digits of a checksum: the fewest that hold 32 bits.
const CHECKSUM_CHARS: usize = 6;
const PREFIX_CHARS_MAX: usize = 16;
/// Seconds that pass before another use of a key is worth a write to the store.
const USE_RECORDED_EVERY_SECS: u64 = 60;

/// Why a key was refused. To a client all but the first are one: 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ApiKeyError {
    /// A prefix for keys that scanners could not find, or that would not fit into a header.
    #[error(
        "a prefix of API keys is 1 to {PREFIX_CHARS_MAX} lower-case letters and digits, and begins with a letter"
    )]
    Prefix,
    /// Not of the form of a key, or mistyped: the checksum is wrong. There is no need to look into the store.
    #[error("this is no API key of this service, or it was mistyped")]
    Malformed,
    /// Another secret than that of the stored key.
    #[error("the API key is wrong")]
    Wrong,
    /// The key, or the secret before its rotation, is past its time.
    #[error("the API key has expired")]
    Expired,
    /// The key was revoked.
    #[error("the API key was revoked")]
    Revoked,
}

/// A key as its owner has it: `prefix_id_secret`, with a checksum at the end. It is shown once, when it is made.
///
/// The prefix names the service, and what the key is for if you like, so that a scanner finds keys in code and logs:
/// `prefix_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}`. The id finds the [`StoredApiKey`], and may be shown and logged.
///
/// `Debug` shows no more than that.
///
/// ```
/// use gimmal_security::api_key::{ApiKey, StoredApiKey};
/// use gimmal_security::{ExposeSecret, Mechanism};
///
/// let now = 1_700_000_000;
/// let key = ApiKey::generate("acme")?;
/// // Shown to the owner, once.
/// let text = key.expose().expose_secret().to_owned();
/// assert!(text.starts_with("acme_"));
/// // Stored in its place.
/// let stored = StoredApiKey::new(&key, "alice", now).with_scope("articles:read");
///
/// // With a request comes `Authorization: Bearer acme_...` or `X-API-Key: acme_...`.
/// let key = ApiKey::parse("acme", text.as_bytes())?;
/// assert_eq!(key.id(), stored.id());
/// let principal = stored.verify(&key, now)?;
/// assert_eq!((principal.id(), principal.mechanism()), ("alice", Mechanism::ApiKey));
/// assert!(principal.has_scope("articles:read"));
/// # Ok::<(), gimmal_security::api_key::ApiKeyError>(())
/// ```
#[derive(Clone)]
pub struct ApiKey {
    prefix: String,
    id: String,
    text: SecretString,
}

impl ApiKey {
    /// Makes a new key from 256 random bits.
    ///
    /// # Errors
    /// [`ApiKeyError::Prefix`] unless `prefix` is 1 to 16 lower-case letters and digits and begins with a letter.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    pub fn generate(prefix: &str) -> Result<Self, ApiKeyError> {
        Ok(Self::with_id(check_prefix(prefix)?, &random_base62(ID_CHARS)))
    }

    /// A key with a new secret.
    fn with_id(prefix: &str, id: &str) -> Self {
        let body = format!("{prefix}_{id}_{}", random_base62(SECRET_CHARS));
        let text = format!("{body}{}", checksum(&body));
        Self { prefix: prefix.to_owned(), id: id.to_owned(), text: text.into() }
    }

    /// Reads a key as it comes in a header such as `X-API-Key`, and checks its form and its checksum: a key that
    /// was mistyped costs no look into the store.
    ///
    /// # Errors
    /// [`ApiKeyError::Malformed`].
    pub fn parse(prefix: &str, value: &[u8]) -> Result<Self, ApiKeyError> {
        let text = std::str::from_utf8(value).map_err(|_| ApiKeyError::Malformed)?;
        let rest = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
        let (id, secret) = rest.and_then(|rest| rest.split_once('_')).ok_or(ApiKeyError::Malformed)?;
        let is_base62 = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if id.len() != ID_CHARS
            || secret.len() != SECRET_CHARS + CHECKSUM_CHARS
            || !is_base62(id)
            || !is_base62(secret)
        {
            return Err(ApiKeyError::Malformed);
        }
        let (body, sum) = text.split_at(text.len() - CHECKSUM_CHARS);
        if sum != checksum(body) {
            return Err(ApiKeyError::Malformed);
        }
        Ok(Self { prefix: prefix.to_owned(), id: id.to_owned(), text: text.into() })
    }

    /// Reads a key that is sent as a Bearer token (RFC 6750 section 2.1).
    ///
    /// # Errors
    /// [`ApiKeyError::Malformed`], for another scheme, too.
    pub fn from_bearer(prefix: &str, credentials: &Credentials<'_>) -> Result<Self, ApiKeyError> {
        let token =
            credentials.token68().filter(|_| credentials.is("Bearer")).ok_or(ApiKeyError::Malformed)?;
        Self::parse(prefix, token.as_bytes())
    }

    /// What finds the stored key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole key, to be shown to its owner when it is new.
    #[must_use]
    pub fn expose(&self) -> &SecretString {
        &self.text
    }

    /// With 256 random bits in it, a plain hash is as good as a slow one.
    fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.text.expose_secret()).into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The SHA-256 hash of a key.
#[derive(Clone)]
struct KeyHash([u8; 32]);

impl KeyHash {
    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("the hash of an API key has 32 bytes in base64url"))
    }
}

/// The secret that a key had before its rotation.
#[derive(Clone, Serialize, Deserialize)]
struct Previous {
    hash: KeyHash,
    expires_at: u64,
}

/// What is stored of a key: the hash, whose it is, and what it may do. It has a serialised form to put into whatever
/// store there is.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredApiKey {
    prefix: String,
    id: String,
    hash: KeyHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Previous>,
    owner: String,
    #[serde(default)]
    roles: BTreeSet<String>,
    #[serde(default)]
    scopes: BTreeSet<String>,
    #[serde(default)]
    attributes: BTreeMap<String, Value>,
    created_at: u64,
    #[serde(default)]
    expires_at: Option<u64>,
    #[serde(default)]
    last_used_at: Option<u64>,
    #[serde(default)]
    revoked: bool,
}

impl StoredApiKey {
    /// A key for `owner`, who is the principal that it proves, made at `now` (seconds since 1970). It has no roles
    /// and scopes yet, and does not expire.
    #[must_use]
    pub fn new(key: &ApiKey, owner: impl Into<String>, now: u64) -> Self {
        Self {
            prefix: key.prefix.clone(),
            id: key.id.clone(),
            hash: key.hash(),
            previous: None,
            owner: owner.into(),
            roles: BTreeSet::new(),
            scopes: BTreeSet::new(),
            attributes: BTreeMap::new(),
            created_at: now,
            expires_at: None,
            last_used_at: None,
            revoked: false,
        }
    }

    /// Adds a role to what the key may do.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.roles.insert(role.into());
        self
    }

    /// Adds a scope to what the key may do.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.insert(scope.into());
        self
    }

    /// Sets an attribute of the principal, for policies.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Sets when the key ceases to be valid, in seconds since 1970.
    #[must_use]
    pub fn with_expiry(mut self, expires_at: u64) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    /// Checks a key at `now` (seconds since 1970), and gives the principal that it proves.
    ///
    /// # Errors
    /// [`ApiKeyError::Wrong`], and for a right key [`ApiKeyError::Revoked`] or [`ApiKeyError::Expired`].
    pub fn verify(&self, key: &ApiKey, now: u64) -> Result<Principal, ApiKeyError> {
        let hash = key.hash();
        let is_current = self.hash.is(&hash);
        let previous = self.previous.as_ref().filter(|previous| previous.hash.is(&hash));
        if self.id != key.id || !(is_current || previous.is_some()) {
            return Err(ApiKeyError::Wrong);
        }
        if self.revoked {
            return Err(ApiKeyError::Revoked);
        }
        let ends = [self.expires_at, previous.filter(|_| !is_current).map(|previous| previous.expires_at)];
        if ends.into_iter().flatten().any(|end| now >= end) {
            return Err(ApiKeyError::Expired);
        }
        let principal = Principal::new(&self.owner, Mechanism::ApiKey, now);
        let principal = self
            .attributes
            .iter()
            .fold(principal, |principal, (name, value)| principal.with_attribute(name, value.clone()));
        let principal = principal.with_attribute("api_key", &*self.id);
        let principal = self.roles.iter().fold(principal, Principal::with_role);
        Ok(self.scopes.iter().fold(principal, Principal::with_scope))
    }

    /// Gives the key a new secret. The one before stays valid for `overlap_secs` more, so that programs can be
    /// moved to the new one; an older one still is invalid from now on.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use = "this is the only time that the new key can be seen"]
    pub fn rotate(&mut self, now: u64, overlap_secs: u64) -> ApiKey {
        let new = ApiKey::with_id(&self.prefix, &self.id);
        let hash = std::mem::replace(&mut self.hash, new.hash());
        self.previous = Some(Previous { hash, expires_at: now.saturating_add(overlap_secs) });
        new
    }

    /// Makes the key invalid for good.
    pub fn revoke(&mut self) {
        self.revoked = true;
    }

    /// Tells whether the key was revoked.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revoked
    }

    /// Takes note of a use at `now`, and tells whether that is worth a write to the store: once a minute at most, so
    /// that a busy key does not make every request a write.
    #[must_use]
    pub fn record_use(&mut self, now: u64) -> bool {
        let is_worth =
            self.last_used_at.is_none_or(|last| now >= last.saturating_add(USE_RECORDED_EVERY_SECS));
        if is_worth {
            self.last_used_at = Some(now);
        }
        is_worth
    }

    /// What finds the key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whose key it is.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub fn created_at(&self) -> u64 {
        self.created_at
    }

    /// When it ceases to be valid, in seconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// When it was used last, to the minute, in seconds since 1970.
    #[must_use]
    pub fn last_used_at(&self) -> Option<u64> {
        self.last_used_at
    }
}

impl fmt::Debug for StoredApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredApiKey")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

fn check_prefix(prefix: &str) -> Result<&str, ApiKeyError> {
    let is_right = (1..=PREFIX_CHARS_MAX).contains(&prefix.len())
        && prefix.starts_with(|first: char| first.is_ascii_lowercase())
        && prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_right.then_some(prefix).ok_or(ApiKeyError::Prefix)
}

/// Random letters and digits, each as likely as any other.
fn random_base62(chars: usize) -> String {
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let sixes = random::bytes::<64>().map(|byte| usize::from(byte & 63));
        let digits = sixes.into_iter().filter_map(|six| BASE62.get(six).copied().map(char::from));
        text.extend(digits.take(chars - text.len()));
    }
    text
}

/// The first 32 bits of the SHA-256 hash, in base 62.
fn checksum(body: &str) -> String {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(body));
    let mut rest = u32::from_be_bytes([a, b, c, d]) as usize;
    let mut digits = [0; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % 62];
        rest /= 62;
    }
    digits.map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn text(key: &ApiKey) -> String {
        key.expose().expose_secret().to_owned()
    }

    fn verify(stored: &StoredApiKey, key: &ApiKey, now: u64) -> Result<(), ApiKeyError> {
        stored.verify(key, now).map(|_| ())
    }

    #[test]
    fn a_key_has_the_form_that_scanners_look_for() {
        let key = ApiKey::generate("acme1").unwrap();
        let parts: Vec<_> = text(&key).split('_').map(str::to_owned).collect();
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [5, 16, 49]);
        assert_eq!((parts[0].as_str(), parts[1].as_str()), ("acme1", key.id()));
        assert!(parts[2].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(text(&key), text(&ApiKey::generate("acme1").unwrap()));
        for bad in ["", "Acme", "1acme", "ac_me", "ac-me", "acme\r\n", "abcdefghijklmnopq"] {
            assert_eq!(ApiKey::generate(bad).unwrap_err(), ApiKeyError::Prefix, "{bad}");
        }
    }

    #[test]
    fn all_letters_are_equally_likely() {
        let sample = random_base62(62 * 400);
        for letter in BASE62 {
            let count = sample.bytes().filter(|byte| byte == letter).count();
            // 400 expected, with a deviation of 20.
            assert!((260..540).contains(&count), "{count} of {}", char::from(*letter));
        }
    }

    #[test]
    fn keys_come_in_two_headers() {
        let key = ApiKey::generate("acme").unwrap();
        let bearer = format!("Bearer {}", text(&key));
        let read = ApiKey::from_bearer("acme", &Credentials::parse(bearer.as_bytes()).unwrap()).unwrap();
        assert_eq!(text(&read), text(&key));
        assert_eq!(text(&ApiKey::parse("acme", text(&key).as_bytes()).unwrap()), text(&key));
        for other in [format!("Basic {}", text(&key)), "Bearer a=b".to_owned(), "Bearer".to_owned()] {
            let credentials = Credentials::parse(other.as_bytes()).unwrap();
            assert_eq!(ApiKey::from_bearer("acme", &credentials).unwrap_err(), ApiKeyError::Malformed);
        }
        assert_eq!(ApiKey::parse("other", text(&key).as_bytes()).unwrap_err(), ApiKeyError::Malformed);
    }

    #[test]
    fn a_mistyped_key_is_known_by_its_checksum() {
        let key = text(&ApiKey::generate("acme").unwrap());
        for at in 0..key.len() {
            let mut mistyped = key.clone();
            let new = if &key[at..=at] == "a" { "b" } else { "a" };
            mistyped.replace_range(at..=at, new);
            assert_eq!(
                ApiKey::parse("acme", mistyped.as_bytes()).unwrap_err(),
                ApiKeyError::Malformed,
                "{at}"
            );
        }
        for bad in [&key[1..], &key[..key.len() - 1], &format!("{key}a"), "", "acme_", "acme__", "acme_x_y"] {
            assert_eq!(ApiKey::parse("acme", bad.as_bytes()).unwrap_err(), ApiKeyError::Malformed);
        }
    }

    #[test]
    fn api_key_forged() {
        let key = ApiKey::generate("acme").unwrap();
        let stored = StoredApiKey::new(&key, "alice", NOW);
        // With the public id, and a right checksum.
        let forged = ApiKey::with_id("acme", key.id());
        assert!(ApiKey::parse("acme", text(&forged).as_bytes()).is_ok());
        assert_eq!(verify(&stored, &forged, NOW), Err(ApiKeyError::Wrong));
        assert_eq!(verify(&stored, &ApiKey::generate("acme").unwrap(), NOW), Err(ApiKeyError::Wrong));
        // With the key of another in the place of one's own.
        let other = StoredApiKey { id: "x".repeat(16), ..stored.clone() };
        assert_eq!(verify(&other, &key, NOW), Err(ApiKeyError::Wrong));
        assert_eq!(verify(&stored, &key, NOW), Ok(()));
    }

    #[test]
    fn expiry_and_revocation() {
        let key = ApiKey::generate("acme").unwrap();
        let mut stored = StoredApiKey::new(&key, "alice", NOW).with_expiry(NOW + 10);
        assert_eq!(verify(&stored, &key, NOW + 9), Ok(()));
        assert_eq!(verify(&stored, &key, NOW + 10), Err(ApiKeyError::Expired));
        stored.revoke();
        assert_eq!(verify(&stored, &key, NOW), Err(ApiKeyError::Revoked));
        let forged = ApiKey::with_id("acme", key.id());
        assert_eq!(verify(&stored, &forged, NOW), Err(ApiKeyError::Wrong), "nothing is told of the key");
    }

    #[test]
    fn rotation_has_two_valid_at_a_time() {
        let first = ApiKey::generate("acme").unwrap();
        let mut stored = StoredApiKey::new(&first, "alice", NOW);
        let second = stored.rotate(NOW, 100);
        assert_eq!(second.id(), first.id());
        assert!(ApiKey::parse("acme", text(&second).as_bytes()).is_ok());
        assert_eq!(verify(&stored, &first, NOW + 99), Ok(()));
        assert_eq!(verify(&stored, &first, NOW + 100), Err(ApiKeyError::Expired));
        assert_eq!(verify(&stored, &second, NOW + 100), Ok(()));
        let third = stored.rotate(NOW + 10, 100);
        assert_eq!(verify(&stored, &first, NOW + 10), Err(ApiKeyError::Wrong));
        assert_eq!(verify(&stored, &second, NOW + 10), Ok(()));
        assert_eq!(verify(&stored, &third, NOW + 1000), Ok(()));
    }

    #[test]
    fn the_principal_has_what_the_key_may_do() {
        let key = ApiKey::generate("acme").unwrap();
        let stored = StoredApiKey::new(&key, "alice", NOW).with_scope("read").with_role("robot");
        let stored = stored.with_attribute("department", "news").with_attribute("api_key", "another");
        let principal = stored.verify(&key, NOW + 5).unwrap();
        let expected = Principal::new("alice", Mechanism::ApiKey, NOW + 5)
            .with_scope("read")
            .with_role("robot")
            .with_attribute("department", "news")
            .with_attribute("api_key", key.id());
        assert_eq!(principal, expected);
    }

    #[test]
    fn uses_are_recorded_once_a_minute() {
        let key = ApiKey::generate("acme").unwrap();
        let mut stored = StoredApiKey::new(&key, "alice", NOW);
        assert_eq!(stored.last_used_at(), None);
        let worth: Vec<_> = [0, 1, 59, 60, 61, 119, 120].map(|secs| stored.record_use(NOW + secs)).into();
        assert_eq!(worth, [true, false, false, true, false, false, true]);
        assert_eq!(stored.last_used_at(), Some(NOW + 120));
    }

    #[test]
    fn what_is_stored_and_shown_holds_no_secret() {
        let key = ApiKey::generate("acme").unwrap();
        let mut stored = StoredApiKey::new(&key, "alice", NOW).with_scope("read").with_expiry(NOW + 100);
        let new = stored.rotate(NOW, 10);
        let json = serde_json::to_string(&stored).unwrap();
        let shown = format!("{key:?} {stored:?} {json}");
        for secret in [text(&key), text(&new)] {
            assert!(!shown.contains(secret.rsplit('_').next().unwrap()));
        }
        let read: StoredApiKey = serde_json::from_str(&json).unwrap();
        assert_eq!((verify(&read, &key, NOW), verify(&read, &new, NOW)), (Ok(()), Ok(())));
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
        let damaged = json.replace("\"hash\":\"", "\"hash\":\"A");
        assert!(serde_json::from_str::<StoredApiKey>(&damaged).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(value in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(ApiKey::parse("acme", &value).is_err());
        }

        #[test]
        fn arbitrary_keys_never_panic(value in "acme_\\PC{0,20}_\\PC{0,60}") {
            prop_assert!(ApiKey::parse("acme", value.as_bytes()).is_err());
        }
    }
}
