//! The name of a proxy in `Via` (RFC 9110, section 7.6.3).

use std::hash::{BuildHasher as _, RandomState};

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

/// What a proxy writes into `Via`.
#[derive(Clone, Debug)]
pub(super) struct Via {
    name: Box<str>,
    of_1_0: HeaderValue,
    of_1_1: HeaderValue,
}

impl Via {
    /// One of this name; `None` if it is no token.
    pub(super) fn new(name: &str) -> Option<Self> {
        // The names of fields are the tokens (RFC 9110, section 5.1).
        HeaderName::from_bytes(name.as_bytes()).ok()?;
        let element = |version| HeaderValue::try_from(format!("{version} {name}")).ok();
        Some(Self { name: name.into(), of_1_0: element("1.0")?, of_1_1: element("1.1")? })
    }

    /// One of a name that no other proxy has.
    pub(super) fn unique() -> Self {
        // Each hasher of this kind has keys of its own, which the process has drawn at random.
        let drawn = RandomState::new().hash_one("gimmal");
        Self::new(&format!("gimmal-{drawn:016x}")).expect("letters, digits and hyphens are a token")
    }

    /// The element for a message that came by this version.
    pub(super) fn element(&self, version: Version) -> HeaderValue {
        if version == Version::HTTP_10 { &self.of_1_0 } else { &self.of_1_1 }.clone()
    }

    /// Tells whether a message has come through this proxy before.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(header::VIA).iter();
        values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(|element| {
            // The protocol, the name, and perhaps a comment.
            let mut words = element.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(self.name.as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_knows_its_own_name_among_others() {
        let via = Via::new("edge-1").unwrap();
        let is_in = |values: &[&'static str]| {
            let fields = values.iter().map(|value| (header::VIA, HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, value);
            }
            via.is_in(&headers)
        };
        assert!(
            is_in(&["1.1 edge-1"])
                && is_in(&["1.0 a, HTTP/1.1\tEDGE-1 (nine)"])
                && is_in(&["1.1 a", "2 edge-1"])
        );
        for other in [&[][..], &["1.1 edge-10"], &["1.1 edge"], &["edge-1"], &["1.1 a (edge-1)"], &[", ,"]] {
            assert!(!is_in(other), "{other:?}");
        }
        assert_ne!(Via::unique().name, Via::unique().name);
        assert!(Via::new("a b").is_none() && Via::new("").is_none() && Via::new("a,b").is_none());
    }
}
