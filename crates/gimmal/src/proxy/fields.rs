//! What becomes of header fields on the way through a proxy.

use std::fmt::Write as _;
use std::net::IpAddr;

use gimmal_runtime::Address;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

const FORWARDED: HeaderName = header::FORWARDED;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether a field is meant for the connection that it came on, whether or not `Connection` names it (RFC 9110,
/// section 7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "proxy-connection"
            | "keep-alive"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            // They are between a client and a proxy of its own.
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
    )
}

/// Whether a field tells of a client what the proxy alone should tell.
fn is_told_by_proxies(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-forwarded-port"
            | "x-forwarded-prefix"
            | "x-real-ip"
    )
}

/// Removes the fields whose names are of this kind. Few messages have any, and a look costs less than a removal.
fn remove(headers: &mut HeaderMap, is_of_kind: impl Fn(&HeaderName) -> bool) {
    let names: Vec<_> = headers.keys().filter(|name| is_of_kind(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The elements of all fields of a name that holds a list (RFC 9110, section 5.6.1).
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let elements =
        values.flat_map(|value| value.split(',').map(|element| element.trim().to_ascii_lowercase()));
    elements.filter(|element| !element.is_empty()).collect()
}

/// Removes what was meant for the connection alone; `trusted` stays, whatever `Connection` says.
fn remove_hop_by_hop(headers: &mut HeaderMap, trusted: impl Fn(&HeaderName) -> bool) {
    let named = list(headers, &header::CONNECTION);
    // A request without Host would be another request.
    let is_named = |name: &HeaderName| {
        *name != header::HOST && !trusted(name) && named.iter().any(|named| named == name.as_str())
    };
    remove(headers, |name| is_hop_by_hop(name) || is_named(name));
}

/// The protocol that a request may switch to on the way through, if it asks for one.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    let asks = list(headers, &header::CONNECTION).iter().any(|option| option == "upgrade");
    let protocols = list(headers, &header::UPGRADE);
    // Requests of HTTP/2 would pass unseen.
    let is_http =
        protocols.iter().any(|protocol| protocol.starts_with("h2c") || protocol.starts_with("http"));
    (asks && !is_http && !protocols.is_empty()).then(|| upgrade.clone())
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
    if origin.trust_forwarded {
        remove_hop_by_hop(headers, is_told_by_proxies);
    } else {
        remove_hop_by_hop(headers, |_| false);
        remove(headers, is_told_by_proxies);
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
    remove_hop_by_hop(headers, |_| false);
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
