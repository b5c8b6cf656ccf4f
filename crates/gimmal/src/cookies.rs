//! Cookies of requests and responses (RFC 6265bis).
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use gimmal::cookies::{CookieKeys, Cookies, sealed_cookie};
//! use gimmal::{App, Error, Response, State};
//! use gimmal_security::SecretSlice;
//!
//! async fn visit(cookies: Cookies, keys: State<Arc<CookieKeys>>) -> Result<Response, Error> {
//!     let visits: u64 = cookies.sealed(&keys, "__Host-visits").and_then(|text| text.parse().ok()).unwrap_or(0);
//!     let cookie = sealed_cookie(&keys, "__Host-visits", &(visits + 1).to_string(), Duration::from_secs(3600));
//!     Ok(Response::new(format!("visit {visits}")).with_cookie(&cookie)?)
//! }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = CookieKeys::new(&SecretSlice::from(vec![7; 32]))?; // random bytes, kept as other secrets are
//! let app = App::new().state(Arc::new(keys)).get("/", visit);
//! # Ok(()) }
//! ```

use std::fmt;
use std::time::Duration;

use http::header;

use crate::clock::unix_seconds;
use crate::error::Error;
use crate::extract::FromRequest;
use crate::request::Request;
use crate::response::Response;

pub use gimmal_security::cookies::{
    COOKIE_BYTES_MAX, Cookie, CookieError, CookieKeys, SameSite, WeakCookieKey, removal, secure_cookie, time,
};

/// The cookies that a request brings.
///
/// ```
/// use gimmal::{App, cookies::Cookies};
///
/// async fn theme(cookies: Cookies) -> String {
///     cookies.get("theme").unwrap_or("light").to_owned()
/// }
/// let app = App::new().get("/", theme);
/// ```
#[derive(Clone, Default)]
pub struct Cookies(Vec<(String, String)>);

impl Cookies {
    /// The value of the first cookie of that name, which is the one with the most specific path.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// The value of the only cookie of that name: `None` if there are several, because one of them may have been put
    /// there by another host of the domain.
    #[must_use]
    pub fn get_unique(&self, name: &str) -> Option<&str> {
        let mut values = self.iter().filter(|(own, _)| *own == name).map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    }

    /// Names and values, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a [`signed_cookie`], if nobody changed it and its time has not run out.
    #[must_use]
    pub fn signed(&self, keys: &CookieKeys, name: &str) -> Option<String> {
        self.open(name, |value| keys.verify(name, value, unix_seconds()))
    }

    /// The value of a [`sealed_cookie`], if nobody changed it and its time has not run out.
    #[must_use]
    pub fn sealed(&self, keys: &CookieKeys, name: &str) -> Option<String> {
        self.open(name, |value| keys.open(name, value, unix_seconds()))
    }

    /// Of several cookies of the name, the first that opens: one that another host has put there does not.
    fn open(&self, name: &str, open: impl Fn(&str) -> Option<String>) -> Option<String> {
        self.iter().filter(|(own, _)| *own == name).find_map(|(_, value)| open(value))
    }
}

impl fmt::Debug for Cookies {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl FromRequest for Cookies {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let cookies = gimmal_security::cookies::Cookies::parse(request.header_all("cookie"));
        Ok(Self(cookies.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

/// A cookie that the client can read but not change, for as long as `max_age`; otherwise as [`secure_cookie`].
#[must_use]
pub fn signed_cookie(keys: &CookieKeys, name: &str, value: &str, max_age: Duration) -> Cookie<'static> {
    lasting(name, keys.sign(name, value, unix_seconds().saturating_add(max_age.as_secs())), max_age)
}

/// A cookie that the client can neither read nor change, for as long as `max_age`; otherwise as [`secure_cookie`].
#[must_use]
pub fn sealed_cookie(keys: &CookieKeys, name: &str, value: &str, max_age: Duration) -> Cookie<'static> {
    lasting(name, keys.seal(name, value, unix_seconds().saturating_add(max_age.as_secs())), max_age)
}

fn lasting(name: &str, value: String, max_age: Duration) -> Cookie<'static> {
    let mut cookie = secure_cookie(name, value);
    cookie.set_max_age(time::Duration::seconds(i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX)));
    cookie
}

impl Response {
    /// Adds a cookie to be set; [`removal`] makes one that removes another.
    ///
    /// ```
    /// use gimmal::{Response, cookies::secure_cookie};
    ///
    /// let response = Response::new("Hello").with_cookie(&secure_cookie("__Host-theme", "dark"))?;
    /// # Ok::<(), gimmal::cookies::CookieError>(())
    /// ```
    ///
    /// # Errors
    /// [`CookieError`] if the cookie is not well-formed, or would not be taken by a browser as it stands.
    pub fn with_cookie(mut self, cookie: &Cookie<'_>) -> Result<Self, CookieError> {
        let value = gimmal_security::cookies::set_cookie(cookie)?;
        self.headers_mut().append(header::SET_COOKIE, value);
        Ok(self)
    }
}
