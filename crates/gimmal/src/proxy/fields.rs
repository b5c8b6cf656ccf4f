//! What becomes of header fields on the way through a proxy.

use std::fmt::Write as _;
use std::net::IpAddr;

use gimmal_runtime::Address;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

/// Fields that are meant for the connection that they came on, whether or not `Connection` names them (RFC 9110,
/// section 7.6.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    // They are between a client and a proxy of its own.
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
];

const FORWARDED: HeaderName = header::FORWARDED;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that tell of a client what the proxy alone should tell.
const TOLD_BY_PROXIES: [HeaderName; 7] = [
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-real-ip"),
];

/// The elements of all fields of a name that holds a list (RFC 9110, section 5.6.1).
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let elements =
        values.flat_map(|value| value.split(',').map(|element| element.trim().to_ascii_lowercase()));
    elements.filter(|element| !element.is_empty()).collect()
}

/// Removes what was meant for the connection alone.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for name in list(headers, &header::CONNECTION) {
            // A request without Host would be another request.
            if name != "host" {
                headers.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The protocol that a request may switch to on the way through, if it asks for one.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = list(headers, &header::CONNECTION).iter().any(|option| option == "upgrade");
    let protocols = list(headers, &header::UPGRADE);
    // Requests of HTTP/2 would pass unseen.
    let is_http =
        protocols.iter().any(|protocol| protocol.starts_with("h2c") || protocol.starts_with("http"));
    let upgrade = headers.get(header::UPGRADE).filter(|_| asks && !is_http && !protocols.is_empty());
    upgrade.cloned()
}

/// What is known of a request that its fields do not say.
pub(super) struct Origin<'a> {
    pub(super) peer: Option<&'a Address>,
    pub(super) authority: Option<&'a str>,
    pub(super) scheme: &'static str,
    pub(super) version: Version,
    pub(super) trust_forwarded: bool,
}

/// Makes of the fields that came those that go to an upstream; whether an upgrade is asked for.
pub(super) fn forward_request(headers: &mut HeaderMap, origin: &Origin<'_>) -> bool {
    let upgrade = upgrade_of(headers);
    let takes_trailers = list(headers, &header::TE).iter().any(|coding| coding == "trailers");
    // `Connection` must not take away what a trusted proxy has told.
    let told: Vec<_> = TOLD_BY_PROXIES
        .into_iter()
        .filter_map(|name| {
            let values: Vec<_> = headers.get_all(&name).iter().cloned().collect();
            headers.remove(&name);
            (origin.trust_forwarded && !values.is_empty()).then_some((name, values))
        })
        .collect();
    remove_hop_by_hop(headers);
    for (name, values) in told {
        for value in values {
            headers.append(name.clone(), value);
        }
    }
    tell_origin(headers, origin);
    append_via(headers, origin.version);
    match upgrade {
        Some(upgrade) => {
            headers.insert(header::UPGRADE, upgrade);
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            true
        }
        None => {
            if takes_trailers {
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
            false
        }
    }
}

/// Makes of the fields that an upstream sent those that go to the client.
pub(super) fn forward_response(headers: &mut HeaderMap, version: Version, switches: bool) {
    let upgrade = headers.get(header::UPGRADE).cloned().filter(|_| switches);
    remove_hop_by_hop(headers);
    append_via(headers, version);
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// RFC 9110, section 7.6.3.
fn append_via(headers: &mut HeaderMap, version: Version) {
    let via = if version == Version::HTTP_10 { "1.0 gimmal" } else { "1.1 gimmal" };
    headers.append(header::VIA, HeaderValue::from_static(via));
}

/// `Forwarded` (RFC 7239), and the fields that were in use before it.
fn tell_origin(headers: &mut HeaderMap, origin: &Origin<'_>) {
    let ip = origin.peer.and_then(Address::as_tcp).map(|address| address.ip().to_canonical());
    let mut forwarded = match ip {
        Some(IpAddr::V4(ip)) => format!("for={ip}"),
        Some(IpAddr::V6(ip)) => format!("for=\"[{ip}]\""),
        None => "for=unknown".to_owned(),
    };
    if let Some(host) = origin.authority {
        // A host and a port hold no characters that need an escape in quotes.
        let _ = write!(forwarded, ";host=\"{host}\"");
        if !headers.contains_key(X_FORWARDED_HOST)
            && let Ok(host) = HeaderValue::from_str(host)
        {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }
    let _ = write!(forwarded, ";proto={}", origin.scheme);
    append(headers, &FORWARDED, &forwarded);
    if let Some(ip) = ip {
        append(headers, &X_FORWARDED_FOR, &ip.to_string());
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(origin.scheme));
}

/// Adds an element to the list in a field, which becomes one line.
fn append(headers: &mut HeaderMap, name: &HeaderName, element: &str) {
    let mut all = String::new();
    for value in headers.get_all(name) {
        all.push_str(value.to_str().unwrap_or("unknown"));
        all.push_str(", ");
    }
    all.push_str(element);
    if let Ok(value) = HeaderValue::try_from(all) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut map: HeaderMap, (name, value): (HeaderName, _)| {
                map.append(name, value);
                map
            },
        )
    }

    fn forwarded(fields: &[(&'static str, &'static str)], peer: &str, trust_forwarded: bool) -> HeaderMap {
        let mut headers = map(fields);
        let peer = peer.parse().unwrap();
        let origin = Origin {
            peer: Some(&peer),
            authority: Some("a.example:8080"),
            scheme: "http",
            version: Version::HTTP_11,
            trust_forwarded,
        };
        forward_request(&mut headers, &origin);
        headers
    }

    #[test]
    fn hop_by_hop_fields_stay_here_with_those_that_connection_names() {
        let headers = forwarded(
            &[
                ("host", "a"),
                ("connection", "close, X-Private"),
                ("connection", "other, host"),
                ("x-private", "1"),
                ("other", "2"),
                ("keep-alive", "timeout=5"),
                ("proxy-authorization", "Basic x"),
                ("te", "gzip"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("kept", "3"),
            ],
            "192.0.2.1:1",
            false,
        );
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected =
            ["forwarded", "host", "kept", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_a_client_says_of_itself_is_dropped_unless_it_is_trusted() {
        let said = [
            ("x-forwarded-for", "10.9.9.9"),
            ("forwarded", "for=10.9.9.9"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "10.9.9.9"),
            ("connection", "x-forwarded-for"),
        ];
        let headers = forwarded(&said, "192.0.2.1:1", false);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["forwarded"], "for=192.0.2.1;host=\"a.example:8080\";proto=http");
        assert_eq!(headers["x-forwarded-host"], "a.example:8080");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert!(!headers.contains_key("x-real-ip"));

        let headers = forwarded(&said, "[2001:db8::1]:1", true);
        assert_eq!(headers["x-forwarded-for"], "10.9.9.9, 2001:db8::1");
        assert_eq!(
            headers["forwarded"],
            "for=10.9.9.9, for=\"[2001:db8::1]\";host=\"a.example:8080\";proto=http"
        );
        assert_eq!(
            (&headers["x-forwarded-host"], &headers["x-forwarded-proto"]),
            (&"evil".parse().unwrap(), &"https".parse().unwrap())
        );
    }

    #[test]
    fn upgrades_go_through_but_not_to_http_2() {
        let asks =
            |protocol| forwarded(&[("connection", "Upgrade"), ("upgrade", protocol)], "192.0.2.1:1", false);
        assert_eq!(asks("websocket")["connection"], "upgrade");
        for protocol in ["h2c", "websocket, H2C", "HTTP/2.0"] {
            let headers = asks(protocol);
            assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"), "{protocol}");
        }
        let settings =
            [("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "x")];
        assert!(!forwarded(&settings, "192.0.2.1:1", false).contains_key("http2-settings"));
    }

    #[test]
    fn a_client_that_takes_trailers_says_so_on_the_next_connection() {
        let headers = forwarded(&[("te", "trailers, gzip"), ("connection", "te")], "unix:/x", false);
        assert_eq!(
            (&headers["te"], &headers["connection"]),
            (&"trailers".parse().unwrap(), &"te".parse().unwrap())
        );
        assert!(headers["forwarded"].to_str().unwrap().starts_with("for=unknown"));
        assert!(!headers.contains_key("x-forwarded-for"));
    }
}
