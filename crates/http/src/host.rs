//! `host [":" port]`, as in Host and in a target (RFC 3986 section 3.2, without user information).

use std::net::Ipv6Addr;

use crate::characters::{Class, prefix_len};

/// An authority in two parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    host: &'a [u8],
    /// `None` if absent or empty.
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// The parts of a well-formed authority. The host may not be empty, and may be a name, an IPv4 address or an
    /// IPv6 address in brackets.
    pub(crate) fn parse(value: &'a [u8]) -> Option<Self> {
        let host_len = if value.first() == Some(&b'[') {
            let close = memchr::memchr(b']', value)?;
            std::str::from_utf8(&value[1..close]).ok()?.parse::<Ipv6Addr>().ok()?;
            close + 1
        } else {
            match prefix_len(value, Class::Host) {
                0 => return None,
                len => len,
            }
        };
        let (host, rest) = value.split_at(host_len);
        let port = match rest {
            [] | [b':'] => None,
            [b':', digits @ ..] => Some(parse_port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    pub(crate) fn has_port(&self) -> bool {
        self.port.is_some()
    }

    /// Whether both name the same host and port, where `default_port` stands for an absent one.
    pub(crate) fn is_same(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    crate::framing::parse_decimal(digits).and_then(|port| u16::try_from(port).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_addresses_and_ports() {
        for good in [
            "a",
            "example.org",
            "example.org:",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8443",
            "a%20b",
            "A_b~",
        ] {
            assert!(Authority::parse(good.as_bytes()).is_some(), "{good}");
        }
    }

    #[test]
    fn refuses_what_is_no_authority() {
        let bad = [
            "", ":80", "a b", "a,b", "user@a", "a/b", "a?b", "a#b", "a:b", "a:1:2", "a:65536", "a:+1",
            "[::1", "[::g]", "[]", "[::1]x", "::1", "a%2", "a%zz", "a\\b", "http://a", "\u{e9}",
        ];
        for bad in bad {
            assert!(Authority::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn comparison_knows_case_and_default_port() {
        let same = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| Authority::parse(text.as_bytes()).unwrap());
            a.is_same(&b, 80)
        };
        assert!(same("Example.org", "example.ORG:80"));
        assert!(same("a:", "a"));
        assert!(!same("a:81", "a"));
        assert!(!same("a", "b"));
    }
}
