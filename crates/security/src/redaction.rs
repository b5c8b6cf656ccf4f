//! Requests and responses as a log may show them: without what would let its readers in.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::log_text::{LogText, escape_json};

/// What stands in place of a secret.
pub const REDACTED: &str = "[REDACTED]";

const HEADERS: [&str; 14] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-access-token",
    "x-csrf-token",
    "x-xsrf-token",
    "x-amz-security-token",
    "x-forwarded-client-cert",
    "authentication-info",
    "sec-websocket-protocol",
];

/// Headers whose value is an address, which may have secrets in its query.
const ADDRESS_HEADERS: [&str; 5] =
    ["referer", "location", "content-location", "x-original-url", "x-forwarded-uri"];

/// Names of parameters and members, without their `_`, `-` and case.
const NAMES: [&str; 30] = [
    "pass",
    "passwd",
    "passphrase",
    "pwd",
    "pin",
    "otp",
    "totp",
    "apikey",
    "key",
    "privatekey",
    "auth",
    "authorization",
    "code",
    "codeverifier",
    "assertion",
    "clientassertion",
    "samlresponse",
    "samlrequest",
    "sig",
    "signature",
    "session",
    "sessionid",
    "sid",
    "jwt",
    "bearer",
    "csrf",
    "xsrf",
    "credential",
    "credentials",
    "ticket",
];

/// Ends of names, in the same form.
const NAME_ENDS: [&str; 4] = ["password", "secret", "token", "tokenhint"];

/// The rules by which secrets are left out of logs.
///
/// The default knows the fields and names that bear secrets in HTTP, OAuth 2 and common APIs. A name is compared
/// decoded, without regard to case, `_` and `-`; one that ends in `password`, `secret` or `token` always bears one.
///
/// ```
/// use gimmal_security::redaction::Redaction;
///
/// let redaction = Redaction::default().header("x-tenant-pass").name("card_number");
/// assert_eq!(redaction.header_value("Authorization", b"Basic YWxhZGRpbjpvcGVu").to_string(), "Basic [REDACTED]");
/// assert_eq!(redaction.target("/reset?user=bob&token=s3cret").to_string(), "/reset?user=bob&token=[REDACTED]");
/// assert_eq!(
///     redaction.json(br#"{"login": {"Card-Number": 4111}, "user": "bob"}"#),
///     r#"{"login":{"Card-Number":"[REDACTED]"},"user":"bob"}"#
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Redaction {
    headers: HashSet<String>,
    names: HashSet<String>,
}

impl Default for Redaction {
    fn default() -> Self {
        Self {
            headers: HEADERS.iter().map(|&name| name.to_owned()).collect(),
            names: NAMES.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

impl Redaction {
    /// Leaves out the value of one more header field.
    #[must_use]
    pub fn header(mut self, name: &str) -> Self {
        self.headers.insert(name.to_ascii_lowercase());
        self
    }

    /// Leaves out the value of one more parameter of queries and forms, and member of JSON objects.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.names.insert(normal(name));
        self
    }

    /// The value of a header field: of credentials no more than the scheme, of cookies no more than the names.
    #[must_use]
    pub fn header_value<'a>(&'a self, name: &str, value: &'a [u8]) -> RedactedHeader<'a> {
        let name = name.to_ascii_lowercase();
        let text = String::from_utf8_lossy(value);
        let shown = match name.as_str() {
            "authorization" | "proxy-authorization" => Shown::Scheme,
            "cookie" => Shown::CookieNames,
            "set-cookie" => Shown::CookieAttributes,
            name if self.headers.contains(name) => Shown::Nothing,
            name if ADDRESS_HEADERS.contains(&name) => Shown::Target,
            _ => Shown::All,
        };
        RedactedHeader { redaction: self, text, shown }
    }

    /// A request target, or an address: the query's secrets and a password before the host are left out.
    #[must_use]
    pub fn target<'a>(&'a self, target: &'a str) -> RedactedTarget<'a> {
        RedactedTarget { redaction: self, target }
    }

    /// The body of a form (`application/x-www-form-urlencoded`).
    #[must_use]
    pub fn form<'a>(&'a self, form: &'a str) -> RedactedForm<'a> {
        RedactedForm { redaction: self, form }
    }

    /// JSON: the members whose names bear secrets are left out, whatever they hold. Of what is no JSON, only the length
    /// is given.
    #[must_use]
    pub fn json(&self, text: &[u8]) -> String {
        match serde_json::from_slice::<Value>(text) {
            Ok(mut value) => {
                self.redact_value(&mut value);
                escape_json(&value.to_string())
            }
            Err(_) => format!("[{} bytes that are no JSON]", text.len()),
        }
    }

    /// Recurses no deeper than serde_json does, which stops at 128.
    fn redact_value(&self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if self.is_secret(name) {
                        *member = REDACTED.into();
                    } else {
                        self.redact_value(member);
                    }
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.redact_value(element)),
            _ => {}
        }
    }

    fn is_secret(&self, name: &str) -> bool {
        let name = normal(name);
        self.names.contains(&name) || NAME_ENDS.iter().any(|end| name.ends_with(end))
    }

    fn write_pairs(&self, pairs: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pair) in pairs.split('&').enumerate() {
            if index > 0 {
                f.write_str("&")?;
            }
            match pair.split_once('=') {
                Some((name, _)) if self.is_secret(&percent_decode_str(name).decode_utf8_lossy()) => {
                    write!(f, "{}={REDACTED}", LogText::new(name))?;
                }
                _ => write!(f, "{}", LogText::new(pair))?,
            }
        }
        Ok(())
    }
}

/// A name in lower case, without `_`, `-`, and the brackets by which forms group names (`user[password]`).
fn normal(name: &str) -> String {
    let letters = name.chars().filter(|character| character.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

enum Shown {
    All,
    Target,
    Scheme,
    CookieNames,
    CookieAttributes,
    Nothing,
}

/// A header field's value as a log may show it.
pub struct RedactedHeader<'a> {
    redaction: &'a Redaction,
    text: Cow<'a, str>,
    shown: Shown,
}

impl fmt::Display for RedactedHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_ref();
        match self.shown {
            Shown::All => write!(f, "{}", LogText::new(text)),
            Shown::Target => write!(f, "{}", self.redaction.target(text)),
            Shown::Nothing => f.write_str(REDACTED),
            Shown::Scheme => match text.split_once(' ') {
                Some((scheme, _))
                    if scheme.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') =>
                {
                    write!(f, "{} {REDACTED}", LogText::new(scheme))
                }
                _ => f.write_str(REDACTED),
            },
            Shown::CookieNames => {
                for (index, cookie) in text.split(';').enumerate() {
                    write_cookie(f, if index > 0 { "; " } else { "" }, cookie)?;
                }
                Ok(())
            }
            Shown::CookieAttributes => {
                let (cookie, attributes) = text.split_at(text.find(';').unwrap_or(text.len()));
                write_cookie(f, "", cookie)?;
                write!(f, "{}", LogText::new(attributes))
            }
        }
    }
}

/// A cookie without a `=` has a value and no name (RFC 6265bis section 5.6).
fn write_cookie(f: &mut fmt::Formatter<'_>, before: &str, cookie: &str) -> fmt::Result {
    match cookie.split_once('=') {
        Some((name, _)) => write!(f, "{before}{}={REDACTED}", LogText::new(name.trim())),
        None => write!(f, "{before}{REDACTED}"),
    }
}

/// A request target as a log may show it.
pub struct RedactedTarget<'a> {
    redaction: &'a Redaction,
    target: &'a str,
}

impl fmt::Display for RedactedTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, fragment) = match self.target.split_once('#') {
            Some((before, fragment)) => (before, Some(fragment)),
            None => (self.target, None),
        };
        let (path, query) = match before.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (before, None),
        };
        write_path(path, f)?;
        if let Some(query) = query {
            f.write_str("?")?;
            self.redaction.write_pairs(query, f)?;
        }
        // OAuth 2's implicit flow puts tokens here.
        if let Some(fragment) = fragment {
            f.write_str("#")?;
            self.redaction.write_pairs(fragment, f)?;
        }
        Ok(())
    }
}

/// A path, or an address up to its query, without the user name and password that may stand before its host.
fn write_path(path: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some((scheme, rest)) = path.split_once("://")
        && let Some((_, host)) = rest[..rest.find('/').unwrap_or(rest.len())].rsplit_once('@')
    {
        let after = &rest[rest.find('/').unwrap_or(rest.len())..];
        return write!(
            f,
            "{}://{REDACTED}@{}{}",
            LogText::new(scheme),
            LogText::new(host),
            LogText::new(after)
        );
    }
    write!(f, "{}", LogText::new(path))
}

/// A form as a log may show it.
pub struct RedactedForm<'a> {
    redaction: &'a Redaction,
    form: &'a str,
}

impl fmt::Display for RedactedForm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.redaction.write_pairs(self.form, f)
    }
}

macro_rules! debug_as_display {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(RedactedHeader, RedactedTarget, RedactedForm);
