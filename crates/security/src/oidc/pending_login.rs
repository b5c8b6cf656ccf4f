//! Logins that a browser has begun, remembered in a sealed cookie of that browser.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A browser may have begun as many logins at once, each in a tab of its own. The bound keeps whoever can send a browser
/// to the login page from filling it with cookies.
const PENDING_MAX: usize = 3;
/// As long may a user take at the provider, in seconds.
pub(super) const PENDING_SECONDS: u64 = 15 * 60;
const RETURN_TO_BYTES_MAX: usize = 256;

/// A login that was begun.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct PendingLogin {
    pub(super) state: String,
    pub(super) nonce: String,
    /// RFC 7636 section 4.1.
    pub(super) code_verifier: String,
    pub(super) return_to: String,
    pub(super) max_age_seconds: Option<u64>,
    started_at: u64,
}

impl PendingLogin {
    pub(super) fn start(return_to: &str, max_age_seconds: Option<u64>, now: u64) -> Self {
        Self {
            state: random_text(),
            nonce: random_text(),
            code_verifier: random_text(),
            return_to: local_path(return_to).to_owned(),
            max_age_seconds,
            started_at: now,
        }
    }

    /// RFC 7636 section 4.2.
    pub(super) fn code_challenge(&self) -> String {
        code_challenge(&self.code_verifier)
    }
}

fn code_challenge(code_verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, code_verifier.as_bytes()))
}

/// 256 random bits in 43 characters.
fn random_text() -> String {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system gives randomness");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The logins of one browser, the last one last.
#[derive(Default)]
pub(super) struct PendingLogins(Vec<PendingLogin>);

impl PendingLogins {
    /// Reads the opened cookie.
    pub(super) fn parse(json: &str, now: u64) -> Self {
        let mut logins: Vec<PendingLogin> = serde_json::from_str(json).unwrap_or_default();
        logins.retain(|login| now < login.started_at.saturating_add(PENDING_SECONDS));
        Self(logins)
    }

    /// What is to be sealed.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    pub(super) fn push(&mut self, login: PendingLogin) {
        self.0.push(login);
        let surplus = self.0.len().saturating_sub(PENDING_MAX);
        self.0.drain(..surplus);
    }

    /// Takes out the login with that `state`.
    pub(super) fn take(&mut self, state: &str) -> Option<PendingLogin> {
        let is_same =
            |login: &PendingLogin| verify_slices_are_equal(login.state.as_bytes(), state.as_bytes()).is_ok();
        let at = self.0.iter().position(is_same)?;
        Some(self.0.remove(at))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `target` if it is a path on this server, and `/` if a browser could read it as another server's address.
fn local_path(target: &str) -> &str {
    let is_local = target.starts_with('/')
        && !target.starts_with("//")
        && target.len() <= RETURN_TO_BYTES_MAX
        && target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'\\');
    if is_local { target } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_redirect() {
        for good in ["/", "/articles?page=2#top", "/a//b", "/%2f/evil.example"] {
            assert_eq!(local_path(good), good);
        }
        for bad in [
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            " /a",
            "/a b",
            "/a\r\nSet-Cookie: x=y",
            "javascript:alert(1)",
            "",
            "a",
            "/\u{e9}",
            &format!("/{}", "a".repeat(RETURN_TO_BYTES_MAX)),
        ] {
            assert_eq!(local_path(bad), "/", "{bad}");
        }
    }

    /// RFC 7636 appendix B.
    #[test]
    fn the_challenge_of_the_rfc() {
        assert_eq!(
            code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn cookie_flood() {
        let mut logins = PendingLogins::default();
        let longest = format!("/{}", "a".repeat(RETURN_TO_BYTES_MAX - 1));
        for _ in 0..100 {
            logins.push(PendingLogin::start(&longest, Some(u64::MAX), u64::MAX));
        }
        assert_eq!(logins.0.len(), PENDING_MAX);
        // Sealed and in base64 it still fits a cookie.
        assert!((logins.to_json().len() + 64) * 4 / 3 < crate::cookies::COOKIE_BYTES_MAX);
    }

    #[test]
    fn a_login_is_taken_once_and_in_time() {
        let mut logins = PendingLogins::default();
        let login = PendingLogin::start("/a", None, 100);
        let state = login.state.clone();
        logins.push(login);
        let json = logins.to_json();
        assert!(PendingLogins::parse(&json, 100 + PENDING_SECONDS).take(&state).is_none());
        let mut logins = PendingLogins::parse(&json, 99 + PENDING_SECONDS);
        assert!(logins.take("").is_none() && logins.take(&state[1..]).is_none());
        assert_eq!(logins.take(&state).unwrap().return_to, "/a");
        assert!(logins.take(&state).is_none() && logins.is_empty());
        assert!(PendingLogins::parse("junk", 0).is_empty());
    }
}
