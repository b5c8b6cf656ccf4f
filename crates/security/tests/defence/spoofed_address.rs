//! Spoofed addresses: fields that claim another client.

use std::net::{IpAddr, SocketAddr};

use gimmal_security::Severity;
use gimmal_security::forwarded::{Client, ForwardedError, Scheme, TrustedProxies};
use http::HeaderMap;
use proptest::prelude::*;

const PROXY: &str = "10.0.0.1:40000";

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for &(name, value) in lines {
        headers.append(name, value.parse().unwrap());
    }
    headers
}

fn networks() -> [ipnet::IpNet; 2] {
    ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
}

fn x_forwarded(peer: &str, lines: &[(&'static str, &str)]) -> Client {
    TrustedProxies::x_forwarded(networks()).client(peer.parse().unwrap(), &headers(lines)).unwrap()
}

fn forwarded(peer: &str, lines: &[(&'static str, &str)]) -> Client {
    TrustedProxies::forwarded(networks()).client(peer.parse().unwrap(), &headers(lines)).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn spoofed_fields_of_an_untrusted_peer_mean_nothing() {
    let lines = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=1.2.3.4;proto=https;host=evil.example"),
    ];
    let expected = Client { address: address("198.51.100.7"), scheme: None, host: None };
    assert_eq!(x_forwarded("198.51.100.7:1", &lines), expected);
    assert_eq!(forwarded("198.51.100.7:1", &lines), expected);
}

#[test]
fn spoofed_address_on_the_left_is_not_believed() {
    for (value, client) in [
        ("203.0.113.9", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1,203.0.113.9", "203.0.113.9"),
        ("10.9.9.9, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9, 10.0.0.3, 10.0.0.2", "203.0.113.9"),
        // All are proxies: the client is the first of them.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.9:5000", "203.0.113.9"),
        ("[2001:db8::9]:5000", "2001:db8::9"),
        ("2001:db8::9", "2001:db8::9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, fd00::2", "203.0.113.9"),
        ("", "10.0.0.1"),
        (",,", "10.0.0.1"),
    ] {
        assert_eq!(x_forwarded(PROXY, &[("x-forwarded-for", value)]).address, address(client), "{value}");
    }
}

#[test]
fn spoofed_address_in_another_line_is_not_believed() {
    let lines = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "203.0.113.9, 10.0.0.2")];
    assert_eq!(x_forwarded(PROXY, &lines).address, address("203.0.113.9"));
}

#[test]
fn spoofed_address_in_the_field_that_the_proxy_does_not_write_is_not_believed() {
    let lines = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=1.2.3.4"), ("x-real-ip", "1.2.3.4")];
    assert_eq!(x_forwarded(PROXY, &lines).address, address("203.0.113.9"));
    let lines =
        [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=203.0.113.9"), ("x-forwarded-host", "evil")];
    let client = forwarded(PROXY, &lines);
    assert_eq!((client.address, client.host), (address("203.0.113.9"), None));
}

#[test]
fn what_cannot_be_read_ends_the_chain() {
    for value in
        ["203.0.113.9, unknown", "203.0.113.9, x, 10.0.0.2", "203.0.113.9, 999.1.1.1", "1.2.3.4 5.6.7.8"]
    {
        let client = x_forwarded(PROXY, &[("x-forwarded-for", value)]);
        assert!(["10.0.0.1", "10.0.0.2"].map(address).contains(&client.address), "{value}");
    }
}

#[test]
fn spoofed_address_behind_an_unknown_one_is_not_believed() {
    // A trusted proxy that did not know its client, or did not say, passed on what that client had sent.
    for value in
        ["1.2.3.4, ", "1.2.3.4,,", "1.2.3.4, unix:", "1.2.3.4, _hidden", "1.2.3.4, unknown, 10.0.0.2"]
    {
        let client = x_forwarded(PROXY, &[("x-forwarded-for", value)]);
        assert_ne!(client.address, address("1.2.3.4"), "{value}");
    }
    for value in [
        "for=1.2.3.4, by=10.0.0.1",
        "for=1.2.3.4, proto=https",
        "for=1.2.3.4, for=_hidden",
        "for=1.2.3.4, x=y",
    ] {
        assert_eq!(forwarded(PROXY, &[("forwarded", value)]).address, address("10.0.0.1"), "{value}");
    }
    // Empty members of the list are no elements (RFC 9110 section 5.6.1).
    assert_eq!(forwarded(PROXY, &[("forwarded", "for=203.0.113.9, ,")]).address, address("203.0.113.9"));
}

#[test]
fn spoofed_scheme_and_host_are_not_believed() {
    let lines = [
        ("x-forwarded-for", "1.2.3.4, 203.0.113.9"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-host", "evil.example"),
    ];
    let client = x_forwarded(PROXY, &lines);
    assert_eq!((client.scheme, client.host), (Some(Scheme::Http), None));
    // By name, and well-formed alone.
    let proxies = TrustedProxies::x_forwarded(networks()).with_forwarded_host();
    let host = |value| {
        let lines = headers(&[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-host", value)]);
        proxies.client(PROXY.parse().unwrap(), &lines).unwrap().host
    };
    assert_eq!(host("Shop.example:443").as_deref(), Some("shop.example:443"));
    assert_eq!(host("evil.example/../x"), None);
    for proto in ["ftp", "https://", "", "javascript"] {
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", proto)];
        assert_eq!(x_forwarded(PROXY, &lines).scheme, None, "{proto}");
    }
}

// As Traefik says of WebSockets (RFC 6455 section 3).
#[test]
fn a_websocket_through_a_proxy_is_as_confidential_as_its_scheme_says() {
    for (proto, scheme) in [("wss", Scheme::Https), ("WSS", Scheme::Https), ("ws", Scheme::Http)] {
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", proto)];
        assert_eq!(x_forwarded(PROXY, &lines).scheme, Some(scheme), "{proto}");
        let value = format!("for=203.0.113.9;proto={proto}");
        assert_eq!(forwarded(PROXY, &[("forwarded", &value)]).scheme, Some(scheme), "{proto}");
    }
}

#[test]
fn rfc_7239_section_4_examples() {
    // Each is read as from a trusted proxy.
    for (value, client, scheme) in [
        ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17", None),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60", Some(Scheme::Http)),
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17", None),
        // Obfuscated: section 6.3.
        ("for=\"_gazonk\"", "10.0.0.1", None),
        ("for=unknown", "10.0.0.1", None),
    ] {
        let client_seen = forwarded(PROXY, &[("forwarded", value)]);
        assert_eq!((client_seen.address, client_seen.scheme), (address(client), scheme), "{value}");
    }
    // Section 7.1: several lines and several elements are the same.
    let lines = [("forwarded", "for=192.0.2.43"), ("forwarded", "for=\"[2001:db8:cafe::17]\", for=10.0.0.5")];
    assert_eq!(forwarded(PROXY, &lines).address, address("2001:db8:cafe::17"));
}

#[test]
fn forwarded_takes_scheme_and_host_from_the_element_of_the_client() {
    let value = "for=1.2.3.4;proto=http;host=evil.example, For=203.0.113.9;Proto=HTTPS;Host=\"shop.example:443\";by=10.0.0.2, \
                 for=10.0.0.2;proto=http;host=inner";
    let client = forwarded(PROXY, &[("forwarded", value)]);
    let expected = Client {
        address: address("203.0.113.9"),
        scheme: Some(Scheme::Https),
        host: Some("shop.example:443".to_owned()),
    };
    assert_eq!(client, expected);
}

#[test]
fn malformed_forwarded_is_refused() {
    let proxies = TrustedProxies::forwarded(networks());
    for value in [
        "for=\"1.2.3.4",
        "for 1.2.3.4",
        "for==1.2.3.4",
        "for=1.2.3.4;for=5.6.7.8",
        "=1.2.3.4",
        "for=1.2.3.4 x",
        "for=\"1\\",
        // What a client sent, and what the proxy added behind it: the client would pass for the proxy.
        "for=\"x, for=203.0.113.9",
    ] {
        let lines = headers(&[("forwarded", value), ("forwarded", "for=203.0.113.9")]);
        assert_eq!(proxies.client(PROXY.parse().unwrap(), &lines), Err(ForwardedError), "{value}");
        // Of an untrusted peer it is not looked at.
        assert!(proxies.client("198.51.100.7:1".parse().unwrap(), &lines).is_ok());
    }
    // A comma within quotes is no boundary.
    let quoted = "for=203.0.113.9;secret=\"a, for=1.2.3.4\"";
    assert_eq!(forwarded(PROXY, &[("forwarded", quoted)]).address, address("203.0.113.9"));
}

#[test]
fn a_list_of_proxies_comes_from_a_file() {
    let proxies: TrustedProxies =
        serde_json::from_str(r#"{"networks": ["10.0.0.0/8", "fd00::/8"], "field": "x_forwarded"}"#).unwrap();
    assert_eq!(proxies, TrustedProxies::x_forwarded(networks()));
    assert!(proxies.trusts(address("10.1.2.3")) && proxies.trusts(address("::ffff:10.1.2.3")));
    assert!(!proxies.trusts(address("11.1.2.3")));
    assert!(
        serde_json::from_str::<TrustedProxies>(r#"{"networks": ["10.0.0.0/33"], "field": "forwarded"}"#)
            .is_err()
    );
}

#[test]
fn trust_in_the_whole_internet_is_found() {
    assert!(TrustedProxies::forwarded(networks()).check().is_empty());
    for wide in ["0.0.0.0/0", "::/0", "128.0.0.0/1"] {
        let findings = TrustedProxies::forwarded([wide.parse().unwrap()]).check();
        assert_eq!(findings[0].severity, Severity::Danger);
    }
}

proptest! {
    /// Whatever a client sends, the address that a trusted proxy saw and appended wins.
    #[test]
    fn spoofed_address_by_any_text_is_not_believed(sent in "[ -~]{0,60}") {
        let client = address("203.0.113.9");
        let lines = headers(&[("x-forwarded-for", &format!("{sent}, 203.0.113.9"))]);
        let peer: SocketAddr = PROXY.parse().unwrap();
        prop_assert_eq!(TrustedProxies::x_forwarded(networks()).client(peer, &lines).unwrap().address, client);
        let lines = headers(&[("forwarded", &format!("{sent}, for=203.0.113.9"))]);
        // Refused, or right.
        if let Ok(seen) = TrustedProxies::forwarded(networks()).client(peer, &lines) {
            prop_assert_eq!(seen.address, client);
        }
    }
}
