//! Cookies (RFC 6265bis): those that a request brings, and those that a response sets.
//!
//! The `cookie` crate holds a cookie and its attributes; what is added here is what it leaves to the caller: that no
//! value can add an attribute or a header line, that name prefixes keep their promises, and that values which the
//! client must not change or read are signed or sealed under keys that can be rotated.

mod keys;

use http::HeaderValue;
use thiserror::Error;

pub use cookie::{Cookie, SameSite, time};
pub use keys::{CookieKeys, WeakCookieKey};

/// The longest name and value of a cookie together, in bytes (RFC 6265bis section 5.6).
pub const COOKIE_BYTES_MAX: usize = 4096;

/// The cookies of a request.
///
/// ```
/// use gimmal_security::cookies::Cookies;
///
/// let cookies = Cookies::parse([&b"theme=dark; lang=en"[..]]);
/// assert_eq!(cookies.get("lang"), Some("en"));
/// assert_eq!(cookies.get("LANG"), None);
/// ```
#[derive(Clone)]
pub struct Cookies<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Cookies<'a> {
    /// Reads the values of the `Cookie` fields: HTTP/1 has one, HTTP/2 may have several. Pairs without `=`, and pairs
    /// that are not UTF-8, are left out, so that a strange cookie of another application does no harm.
    #[must_use]
    pub fn parse(fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let pairs = fields.into_iter().flat_map(|field| field.split(|&byte| byte == b';'));
        let pairs = pairs.filter_map(|pair| {
            let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
            let trim = |text: &'a str| text.trim_matches([' ', '\t']);
            Some((trim(name), trim(value))).filter(|(name, _)| !name.is_empty())
        });
        Self(pairs.collect())
    }

    /// The value of the first cookie of that name, which is the one with the most specific path.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.get_all(name).next()
    }

    /// The value of the only cookie of that name: `None` if there are several, because one of them may have been put
    /// there by another host of the domain.
    #[must_use]
    pub fn get_unique(&self, name: &str) -> Option<&'a str> {
        let mut values = self.get_all(name);
        values.next().filter(|_| values.next().is_none())
    }

    fn get_all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| *own == name).map(|&(_, value)| value)
    }

    /// Names and values, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

impl std::fmt::Debug for Cookies<'_> {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A cookie with the attributes that are right unless there is a reason: `Secure`, `HttpOnly`, `SameSite=Lax`,
/// `Path=/`, no domain, until the browser is closed.
///
/// ```
/// use gimmal_security::cookies::{secure_cookie, set_cookie, time::Duration};
///
/// let mut cookie = secure_cookie("__Host-theme", "dark");
/// cookie.set_max_age(Duration::days(30));
/// assert_eq!(
///     set_cookie(&cookie)?,
///     "__Host-theme=dark; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000"
/// );
/// # Ok::<(), gimmal_security::cookies::CookieError>(())
/// ```
#[must_use]
pub fn secure_cookie(name: impl Into<String>, value: impl Into<String>) -> Cookie<'static> {
    Cookie::build((name.into(), value.into()))
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .path("/")
        .build()
}

/// The cookie that removes `cookie` from the browser: same name, path and domain, no value, expired.
#[must_use]
pub fn removal(cookie: &Cookie<'_>) -> Cookie<'static> {
    let mut removal = cookie.clone().into_owned();
    removal.set_value("");
    removal.set_expires(None);
    removal.set_max_age(time::Duration::ZERO);
    removal
}

/// The value of the `Set-Cookie` field for a cookie (RFC 6265bis section 4.1).
///
/// # Errors
/// [`CookieError`] if the cookie is not well-formed, or would not be taken by a browser as it stands.
pub fn set_cookie(cookie: &Cookie<'_>) -> Result<HeaderValue, CookieError> {
    let (name, value) = cookie.name_value();
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err(CookieError::Name);
    }
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    if !unquoted.bytes().all(is_cookie_octet) {
        return Err(CookieError::Value);
    }
    if name.len() + value.len() > COOKIE_BYTES_MAX {
        return Err(CookieError::TooLarge);
    }
    let is_attribute = |text: &str| {
        text.len() <= 1024 && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b';')
    };
    if !cookie.path().is_none_or(|path| path.starts_with('/') && is_attribute(path))
        || !cookie.domain().is_none_or(is_attribute)
    {
        return Err(CookieError::Attribute);
    }
    let is_secure = cookie.secure() == Some(true);
    let needs_secure = has_prefix(name, "__Secure-")
        || has_prefix(name, "__Host-")
        || cookie.partitioned() == Some(true)
        || cookie.same_site() == Some(SameSite::None);
    let is_host_only = cookie.domain().is_none() && cookie.path() == Some("/");
    if needs_secure && !is_secure || has_prefix(name, "__Host-") && !is_host_only {
        return Err(CookieError::Prefix);
    }
    HeaderValue::try_from(cookie.to_string()).map_err(|_| CookieError::Value)
}

/// Browsers compare prefixes without regard to case (RFC 6265bis section 5.6).
fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 6265bis section 4.1.1.
fn is_cookie_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// Why a cookie cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CookieError {
    /// The name is no token.
    #[error("the cookie's name is empty or has a character that a token may not have")]
    Name,
    /// The value has a space, a comma, a semicolon, a quote, a backslash, or what is no printable ASCII.
    #[error("the cookie's value has a character that it may not have: encode it, or sign or seal it")]
    Value,
    /// Longer than [`COOKIE_BYTES_MAX`].
    #[error("the cookie is longer than {COOKIE_BYTES_MAX} bytes: keep the data in a session")]
    TooLarge,
    /// A path or a domain with a character that it may not have.
    #[error("the cookie's path or domain is not well-formed")]
    Attribute,
    /// `__Secure-`, `__Host-`, `SameSite=None` or `Partitioned` without what they ask for.
    #[error(
        "the cookie would be dropped: __Secure-, __Host-, SameSite=None and Partitioned need Secure, and __Host- \
         needs Path=/ and no Domain"
    )]
    Prefix,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6265bis section 3.1.
    #[test]
    fn the_examples_of_the_rfc() {
        let cookies = Cookies::parse([&b"SID=31d4d96e407aad42; lang=en-US"[..]]);
        let pairs: Vec<_> = cookies.iter().collect();
        assert_eq!(pairs, [("SID", "31d4d96e407aad42"), ("lang", "en-US")]);
        let cookie = Cookie::build(("SID", "31d4d96e407aad42")).path("/").domain("site.example").build();
        assert_eq!(set_cookie(&cookie).unwrap(), "SID=31d4d96e407aad42; Path=/; Domain=site.example");
    }

    #[test]
    fn strange_pairs_do_no_harm() {
        let cookies = Cookies::parse([&b" a = 1 ;;=x; b; \xff=1; c=\"q\"; d=e=f;"[..], b"g="]);
        let pairs: Vec<_> = cookies.iter().collect();
        assert_eq!(pairs, [("a", "1"), ("c", "\"q\""), ("d", "e=f"), ("g", "")]);
        assert!(!format!("{cookies:?}").contains("e=f"));
    }

    /// A sibling host sets a cookie of the same name for the whole domain.
    #[test]
    fn cookie_tossing() {
        let cookies = Cookies::parse([&b"session=mallory; session=alice"[..]]);
        assert_eq!((cookies.get("session"), cookies.get_unique("session")), (Some("mallory"), None));
        assert_eq!(Cookies::parse([&b"session=alice"[..]]).get_unique("session"), Some("alice"));
    }

    #[test]
    fn header_injection_through_a_cookie() {
        for (name, value, error) in [
            ("a", "1; Domain=evil.example", CookieError::Value),
            ("a", "1\r\nSet-Cookie: b=2", CookieError::Value),
            ("a", "\u{e9}", CookieError::Value),
            ("a", "1,2", CookieError::Value),
            ("a", "\"1", CookieError::Value),
            ("a; Secure", "1", CookieError::Name),
            ("a=b", "1", CookieError::Name),
            ("", "1", CookieError::Name),
        ] {
            assert_eq!(set_cookie(&secure_cookie(name, value)), Err(error), "{name} {value}");
        }
        for path in ["/; Domain=evil.example", "/\r\nX: y", "relative", "/\u{e9}"] {
            let mut cookie = secure_cookie("a", "1");
            cookie.set_path(path);
            assert_eq!(set_cookie(&cookie), Err(CookieError::Attribute), "{path}");
        }
        let mut cookie = secure_cookie("a", "1");
        cookie.set_domain("a.example; HttpOnly");
        assert_eq!(set_cookie(&cookie), Err(CookieError::Attribute));
    }

    #[test]
    fn prefixes_keep_their_promises() {
        let build = |name: &'static str| Cookie::build((name, "1"));
        for good in [
            build("__Secure-a").secure(true).domain("a.example"),
            build("__Host-a").secure(true).path("/"),
            build("a").same_site(SameSite::None).secure(true),
        ] {
            assert!(set_cookie(&good.build()).is_ok());
        }
        for bad in [
            build("__Secure-a"),
            build("__SECURE-a"),
            build("__Host-a").path("/"),
            build("__Host-a").secure(true),
            build("__Host-a").secure(true).path("/x"),
            build("__host-a").secure(true).path("/").domain("a.example"),
            build("a").same_site(SameSite::None),
            build("a").partitioned(true).secure(false),
        ] {
            let bad = bad.build();
            assert_eq!(set_cookie(&bad), Err(CookieError::Prefix), "{bad}");
        }
    }

    #[test]
    fn too_large() {
        assert!(set_cookie(&secure_cookie("a", "x".repeat(COOKIE_BYTES_MAX - 1))).is_ok());
        let large = secure_cookie("a", "x".repeat(COOKIE_BYTES_MAX));
        assert_eq!(set_cookie(&large), Err(CookieError::TooLarge));
    }

    #[test]
    fn removal_keeps_what_identifies_the_cookie() {
        let mut cookie = secure_cookie("__Host-a", "1");
        cookie.set_max_age(time::Duration::days(1));
        assert_eq!(
            set_cookie(&removal(&cookie)).unwrap(),
            "__Host-a=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"
        );
    }

    proptest! {
        /// Whatever is set comes back, and never as more than one cookie.
        #[test]
        fn what_is_set_comes_back(name in "\\PC{0,8}", value in "\\PC{0,16}") {
            if let Ok(field) = set_cookie(&secure_cookie(name.as_str(), value.as_str())) {
                let pair = field.as_bytes().split(|&byte| byte == b';').next().unwrap();
                let cookies = Cookies::parse([pair]);
                prop_assert_eq!(cookies.iter().collect::<Vec<_>>(), [(name.as_str(), value.as_str())]);
            }
        }

        #[test]
        fn parsing_never_panics(field in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Cookies::parse([field.as_slice()]).iter().count();
        }
    }
}
