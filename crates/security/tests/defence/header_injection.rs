//! Header injection: line ends in a value begin another field, or another response.

use gimmal_security::redirect::RedirectTargets;
use gimmal_security::security_headers::PermissionsPolicy;
use http::{HeaderName, HeaderValue};

/// All values of this crate are `http::HeaderValue`s, which cannot hold a line end; so no field can be begun in one.
#[test]
fn header_injection_is_refused_by_the_type_of_values() {
    for bad in ["a\r\nSet-Cookie: x=y", "a\nb", "a\rb", "\0", "a\u{7f}", "\u{1b}[0m"] {
        assert!(HeaderValue::from_str(bad).is_err(), "{bad:?}");
        assert!(HeaderValue::from_bytes(bad.as_bytes()).is_err(), "{bad:?}");
    }
    for bad in ["a b", "a:", "a\r\n", "", "é"] {
        assert!(HeaderName::from_bytes(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn header_injection_through_what_makes_values_is_refused() {
    assert!(RedirectTargets::new().location("/a\r\nSet-Cookie: x=y").is_err());
    assert!(PermissionsPolicy::deny_all().allow_self("camera\r\nx").is_err());
    assert!("https://a\r\nx: y".parse::<gimmal_security::Origin>().is_err());
}
