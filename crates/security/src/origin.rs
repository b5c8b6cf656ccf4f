//! Origins of the web (RFC 6454), and the hosts in them.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is no [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an origin: write scheme://host or scheme://host:port, without a path")]
pub struct OriginError;

/// A scheme, a host and a port, in normal form: lower case, and without the port that the scheme implies.
///
/// ```
/// use gimmal_security::Origin;
///
/// let origin: Origin = "HTTPS://Example.org:443".parse()?;
/// assert_eq!(origin.to_string(), "https://example.org");
/// assert!("https://example.org/path".parse::<Origin>().is_err());
/// assert!("null".parse::<Origin>().is_err());
/// # Ok::<(), gimmal_security::OriginError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    text: String,
    scheme_len: usize,
}

impl Origin {
    /// Takes the value of an `Origin` field, or the origin of a configuration.
    ///
    /// # Errors
    /// [`OriginError`] for all else, `null` included.
    pub fn parse(value: &[u8]) -> Result<Self, OriginError> {
        let text = std::str::from_utf8(value).map_err(|_| OriginError)?;
        let (scheme, authority) = text.split_once("://").ok_or(OriginError)?;
        let authority = HostPort::parse(authority).ok_or(OriginError)?;
        if !is_scheme(scheme) {
            return Err(OriginError);
        }
        let scheme = scheme.to_ascii_lowercase();
        let host = authority.host.to_ascii_lowercase();
        let text = match authority.port {
            Some(port) if Some(port) != default_port(&scheme) => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        };
        Ok(Self { text, scheme_len: scheme.len() })
    }

    /// The scheme, in lower case.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.text[..self.scheme_len]
    }

    /// The host, and the port if it is not the one that the scheme implies.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.text[self.scheme_len + 3..]
    }

    /// The whole, as a browser writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a `Host` field names the host and port of this origin.
    #[must_use]
    pub fn is_host(&self, host: &[u8]) -> bool {
        let parse = |text| HostPort::parse(text).map(|host| (host.host, host.port));
        let Some((host, port)) = std::str::from_utf8(host).ok().and_then(parse) else { return false };
        let Some((own_host, own_port)) = parse(self.authority()) else { return false };
        let default = default_port(self.scheme());
        own_host.eq_ignore_ascii_case(host) && own_port.or(default) == port.or(default)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        Self::parse(text.as_bytes())
    }
}

impl TryFrom<String> for Origin {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.text
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// `host [":" port]` (RFC 9110 section 7.2), where the host is a name of letters, digits, `-`, `_` and `.`, an IPv4
/// address, or an IPv6 address in brackets. Narrower than RFC 3986: what an attacker puts into a host is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostPort<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
}

impl<'a> HostPort<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let host_len = if text.starts_with('[') {
            let close = text.find(']')?;
            text[1..close].parse::<Ipv6Addr>().ok()?;
            close + 1
        } else {
            let len = text.find(':').unwrap_or(text.len());
            is_name(&text[..len]).then_some(len)?
        };
        let (host, rest) = text.split_at(host_len);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some(digits) => Some(parse_port(digits)?),
            None => return None,
        };
        Some(Self { host, port })
    }
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn parse_port(digits: &str) -> Option<u16> {
    // `parse` alone would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form_has_lower_case_and_no_default_port() {
        for (text, normal) in [
            ("https://example.org", "https://example.org"),
            ("HTTP://EXAMPLE.org:80", "http://example.org"),
            ("https://example.org:8443", "https://example.org:8443"),
            ("http://[2001:DB8::1]:80", "http://[2001:db8::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_str(), normal);
        }
    }

    #[test]
    fn refuses_what_is_more_or_less_than_an_origin() {
        for bad in [
            "",
            "null",
            "*",
            "example.org",
            "https://",
            "https://a/",
            "https://a?b",
            "https://u@a",
            "https://a:b",
            "https://a:+1",
            "https://a:",
            "https://a:65536",
            "https://a b",
            "https://a,https://b",
            "://a",
            "1http://a",
            "https://[::1",
            "https://a\\b",
            "https://a%2eb",
            "https://é",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_matches_with_the_implied_port_or_without() {
        let origin: Origin = "https://example.org".parse().unwrap();
        assert!(origin.is_host(b"example.org") && origin.is_host(b"EXAMPLE.ORG:443"));
        assert!(!origin.is_host(b"example.org:80") && !origin.is_host(b"example.org.evil.net"));
        assert!(!origin.is_host(b"") && !origin.is_host(b"\xff"));
    }
}
