//! Cookies by which a device is known again that an account was logged in on.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::mac_key::MacKey;
use crate::random;

const ID_BYTES: usize = 16;
const BODY_BYTES: usize = ID_BYTES + 8;
const TAG_BYTES: usize = 32;

/// A device on which someone logged in to an account before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(pub(super) [u8; ID_BYTES]);

/// Makes and checks the cookies of known devices. A cookie lets nobody in: with it, attempts are counted apart
/// from everyone else's, so that an attack on the account does not slow down its owner.
///
/// Set it after a login, as a cookie of its own that outlives the session: `__Host-device`, `Secure`, `HttpOnly`,
/// `SameSite=Lax`, with `Max-Age` as the lifetime.
///
/// ```
/// use gimmal_security::MacKey;
/// use gimmal_security::attempts::DeviceCookies;
///
/// let cookies = DeviceCookies::new(MacKey::random());
/// let now = 1_700_000_000;
/// let value = cookies.issue("alice", now);
/// assert!(cookies.check(&value, "alice", now).is_some());
/// assert!(cookies.check(&value, "bob", now).is_none());
/// ```
#[derive(Clone, Debug)]
pub struct DeviceCookies {
    key: MacKey,
    lifetime_secs: u64,
}

impl DeviceCookies {
    /// Seconds for which a device is known, unless [`with_lifetime_secs`](Self::with_lifetime_secs) says otherwise: 90
    /// days.
    pub const LIFETIME_SECS: u64 = 90 * 86_400;

    /// Cookies under `key`, which has to outlive a restart if devices are to be known after it.
    #[must_use]
    pub fn new(key: MacKey) -> Self {
        Self { key, lifetime_secs: Self::LIFETIME_SECS }
    }

    /// Sets for how many seconds a device is known.
    #[must_use]
    pub fn with_lifetime_secs(mut self, secs: u64) -> Self {
        self.lifetime_secs = secs;
        self
    }

    /// The value of the cookie for a device on which `account` was logged in at `now` (seconds since 1970): letters,
    /// digits, `-` and `_`.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn issue(&self, account: &str, now: u64) -> String {
        let mut bytes = [0; BODY_BYTES + TAG_BYTES];
        bytes[..ID_BYTES].copy_from_slice(&random::bytes::<ID_BYTES>());
        bytes[ID_BYTES..BODY_BYTES].copy_from_slice(&now.saturating_add(self.lifetime_secs).to_be_bytes());
        let tag = self.tag(account, &bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The device behind a cookie that was issued for `account` and is not past its time at `now` (seconds since
    /// 1970).
    #[must_use]
    pub fn check(&self, value: &str, account: &str, now: u64) -> Option<DeviceId> {
        let bytes: [u8; BODY_BYTES + TAG_BYTES] = URL_SAFE_NO_PAD.decode(value).ok()?.try_into().ok()?;
        let (body, tag) = bytes.split_at(BODY_BYTES);
        let genuine: bool = self.tag(account, body).ct_eq(tag).into();
        let (id, expires_at) = body.split_at(ID_BYTES);
        let expires_at = u64::from_be_bytes(expires_at.try_into().ok()?);
        (genuine && now < expires_at).then_some(DeviceId(id.try_into().ok()?))
    }

    fn tag(&self, account: &str, body: &[u8]) -> [u8; TAG_BYTES] {
        self.key.tag("device cookie", &[account.as_bytes(), body])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn device_cookie_forged() {
        let cookies = DeviceCookies::new(MacKey::random()).with_lifetime_secs(10);
        let value = cookies.issue("alice", 100);
        assert_eq!(cookies.check(&value, "alice", 109), cookies.check(&value, "alice", 100));
        assert!(cookies.check(&value, "alice", 109).is_some());
        assert_eq!(cookies.check(&value, "alice", 110), None);
        assert_eq!(cookies.check(&value, "alic", 100), None);
        assert_eq!(DeviceCookies::new(MacKey::random()).check(&value, "alice", 100), None);
        assert_ne!(
            cookies.check(&value, "alice", 100),
            cookies.check(&cookies.issue("alice", 100), "alice", 100)
        );
        let bytes = URL_SAFE_NO_PAD.decode(&value).unwrap();
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert_eq!(cookies.check(&URL_SAFE_NO_PAD.encode(forged), "alice", 100), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_cookies_never_panic(value in "\\PC{0,90}") {
            prop_assert_eq!(DeviceCookies::new(MacKey::random()).check(&value, "alice", 0), None);
        }
    }
}
