//! What becomes of header fields on the way through a proxy.

use std::fmt::Write as _;
use std::net::IpAddr;

use gimmal_runtime::Address;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::via::Via;

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

/// The protocol that a request may switch to on the way through, of one whose version and framing allow it.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    let protocols = list(headers, &header::UPGRADE);
    // Requests of HTTP/2 would pass unseen.
    let is_http =
        protocols.iter().any(|protocol| protocol.starts_with("h2c") || protocol.starts_with("http"));
    (!is_http && !protocols.is_empty()).then(|| upgrade.clone())
}

/// What becomes of a request that says how often it may be forwarded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Forwards {
    Go,
    /// This server is the last to see it.
    End,
    /// It does not say how often.
    Malformed,
}

/// Counts this proxy in `Max-Forwards`, which only two methods have (RFC 9110, section 7.6.2).
pub(super) fn count_forward(method: &Method, headers: &mut HeaderMap) -> Forwards {
    if !matches!(*method, Method::OPTIONS | Method::TRACE) {
        return Forwards::Go;
    }
    let mut values = headers.get_all(header::MAX_FORWARDS).iter();
    let left = match (values.next(), values.next()) {
        (None, _) => return Forwards::Go,
        (Some(value), None) if !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit) => {
            // More than that is as much as that.
            value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
        }
        _ => return Forwards::Malformed,
    };
    let Some(left) = left.checked_sub(1) else { return Forwards::End };
    headers.insert(header::MAX_FORWARDS, left.into());
    Forwards::Go
}

/// What is known of a request that its fields do not say.
pub(super) struct Origin<'a> {
    pub(super) peer: Option<&'a Address>,
    pub(super) authority: Option<&'a str>,
    pub(super) scheme: &'static str,
    pub(super) version: Version,
    /// It asks for another protocol, and can have it: it is of HTTP/1.1 and has no body (RFC 9110, section 7.8).
    pub(super) may_upgrade: bool,
    pub(super) trust_forwarded: bool,
    pub(super) via: &'a Via,
}

/// Makes of the fields that came those that go to an upstream.
pub(super) fn forward_request(headers: &mut HeaderMap, origin: &Origin<'_>) {
    let upgrade = upgrade_of(headers).filter(|_| origin.may_upgrade);
    let takes_trailers = list(headers, &header::TE).iter().any(|coding| coding == "trailers");
    if origin.trust_forwarded {
        remove_hop_by_hop(headers, is_told_by_proxies);
    } else {
        remove_hop_by_hop(headers, |_| false);
        remove(headers, is_told_by_proxies);
    }
    tell_origin(headers, origin);
    headers.append(header::VIA, origin.via.element(origin.version));
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Makes of the fields that an upstream sent those that go to the client.
pub(super) fn forward_response(headers: &mut HeaderMap, status: StatusCode, version: Version, via: &Via) {
    // These two say by it what is switched to, or would have to be (RFC 9110, sections 15.2.2 and 15.5.22).
    let tells_upgrade = matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    let upgrades: Vec<_> = match tells_upgrade {
        true => headers.get_all(header::UPGRADE).iter().cloned().collect(),
        false => Vec::new(),
    };
    remove_hop_by_hop(headers, |_| false);
    headers.append(header::VIA, via.element(version));
    if !upgrades.is_empty() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    for upgrade in upgrades {
        headers.append(header::UPGRADE, upgrade);
    }
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
        let via = Via::new("p").unwrap();
        let origin = Origin {
            peer: Some(&peer),
            authority: Some("a.example:8080"),
            scheme: "http",
            version: Version::HTTP_11,
            may_upgrade: list(&headers, &header::CONNECTION).iter().any(|option| option == "upgrade"),
            trust_forwarded,
            via: &via,
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

    #[test]
    fn max_forwards_is_counted_down_for_the_two_methods_that_have_it() {
        let count = |method: &Method, values: &[&'static str]| {
            let fields: Vec<_> = values.iter().map(|value| ("max-forwards", *value)).collect();
            let mut headers = map(&fields);
            let forwards = count_forward(method, &mut headers);
            (forwards, headers.get("max-forwards").map(|value| value.to_str().unwrap().to_owned()))
        };
        for method in [Method::OPTIONS, Method::TRACE] {
            assert_eq!(count(&method, &[]), (Forwards::Go, None));
            assert_eq!(count(&method, &["5"]), (Forwards::Go, Some("4".into())));
            assert_eq!(count(&method, &["1"]), (Forwards::Go, Some("0".into())));
            assert_eq!(count(&method, &["00"]).0, Forwards::End);
            let beyond = count(&method, &["99999999999999999999999"]);
            assert_eq!(beyond, (Forwards::Go, Some((u64::MAX - 1).to_string())));
            for malformed in [&[""][..], &["-1"], &["+1"], &["1, 2"], &["1", "1"], &["x"]] {
                assert_eq!(count(&method, malformed).0, Forwards::Malformed, "{malformed:?}");
            }
        }
        assert_eq!(count(&Method::GET, &["0"]), (Forwards::Go, Some("0".into())));
    }
}
