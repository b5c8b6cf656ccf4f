//! The opening handshake by RFC 6455 section 4 and RFC 7692 section 7.1.

use gimmal_http::websocket::{
    Accepted, ClientHandshake, Confirmed, Deflate, DeflateConfig, HandshakeError, ServerHandshake,
};
use gimmal_http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

/// The example of RFC 6455 section 1.2 without its subprotocols.
const REQUEST: &[(&str, &str)] = &[
    ("host", "server.example.com"),
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("origin", "http://example.com"),
    ("sec-websocket-version", "13"),
];

/// The fields with some replaced by others of the same name; an empty value takes a field away.
fn fields(base: &[(&str, &str)], changes: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    let kept = base.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    for (name, value) in kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn read(changes: &[(&str, &str)]) -> Result<HeaderMap, HandshakeError> {
    let headers = fields(REQUEST, changes);
    ServerHandshake::read(&Method::GET, Version::HTTP_11, &headers)?;
    Ok(headers)
}

fn accept(
    changes: &[(&str, &str)],
    protocol: Option<&str>,
    deflate: Option<&DeflateConfig>,
) -> Result<Accepted, HandshakeError> {
    let headers = fields(REQUEST, changes);
    ServerHandshake::read(&Method::GET, Version::HTTP_11, &headers)?.accept(protocol, deflate)
}

#[test]
fn rfc6455_4_2_2_what_a_server_answers() {
    let accepted = accept(&[], None, None).unwrap();
    assert_eq!(accepted.deflate, None);
    let expected = fields(
        &[
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ],
        &[],
    );
    assert_eq!(accepted.headers, expected);
}

#[test]
fn rfc6455_4_2_1_what_a_client_must_send() {
    use HandshakeError::{Extensions, Key, Protocol, Upgrade, Version as WebSocketVersion};
    let refused: &[(HandshakeError, &[(&str, &str)])] = &[
        (Upgrade, &[("upgrade", "")]),
        (Upgrade, &[("upgrade", "h2c")]),
        (Upgrade, &[("upgrade", "xwebsocket")]),
        (Upgrade, &[("connection", "")]),
        (Upgrade, &[("connection", "keep-alive")]),
        (WebSocketVersion, &[("sec-websocket-version", "")]),
        (WebSocketVersion, &[("sec-websocket-version", "8")]),
        (WebSocketVersion, &[("sec-websocket-version", "13, 8")]),
        (WebSocketVersion, &[("sec-websocket-version", "13"), ("sec-websocket-version", "13")]),
        (Key, &[("sec-websocket-key", "")]),
        (Key, &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==="), ("x", "y")]),
        (Key, &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")]),
        (Key, &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25j")]),
        (Key, &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZTE=")]),
        (Key, &[("sec-websocket-key", "not base64 at all, no...")]),
        (
            Key,
            &[
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
        ),
        (Protocol, &[("sec-websocket-protocol", "a b")]),
        (Protocol, &[("sec-websocket-protocol", "a/b")]),
        (Protocol, &[("sec-websocket-protocol", "\u{e9}")]),
        (Extensions, &[("sec-websocket-extensions", "a b")]),
        (Extensions, &[("sec-websocket-extensions", "permessage-deflate; =")]),
    ];
    for (error, changes) in refused {
        assert_eq!(read(changes).expect_err(changes[0].1), *error, "{changes:?}");
    }
    let taken: &[&[(&str, &str)]] = &[
        &[("upgrade", "WebSocket")],
        &[("upgrade", "h2c, websocket")],
        &[("connection", "keep-alive, upgrade")],
        &[("connection", "keep-alive"), ("connection", "Upgrade")],
        &[("origin", "")],
        &[("sec-websocket-protocol", "chat, superchat")],
        &[("sec-websocket-protocol", ", chat ,")],
        &[("sec-websocket-extensions", "foo, bar; baz=2, permessage-deflate; client_max_window_bits")],
    ];
    for changes in taken {
        assert!(read(changes).is_ok(), "{changes:?}");
    }
    let headers = fields(REQUEST, &[]);
    let error = |method, version| ServerHandshake::read(&method, version, &headers).unwrap_err();
    assert_eq!(error(Method::POST, Version::HTTP_11), HandshakeError::Method);
    assert_eq!(error(Method::GET, Version::HTTP_10), HandshakeError::HttpVersion);
}

#[test]
fn rfc6455_4_4_a_refusal_names_the_version() {
    let error = HandshakeError::Version;
    assert_eq!(error.status(), 426);
    assert_eq!(error.headers()["sec-websocket-version"], "13");
    assert_eq!(error.headers()["upgrade"], "websocket");
    assert_eq!((HandshakeError::Method.status().as_u16(), HandshakeError::Key.status().as_u16()), (405, 400));
    assert_eq!(HandshakeError::Method.headers()["allow"], "GET");
    assert!(HandshakeError::Key.headers().is_empty());
}

#[test]
fn rfc6455_1_9_subprotocols() {
    let offer = [("sec-websocket-protocol", "chat, superchat"), ("sec-websocket-protocol", "third")];
    let headers = read(&offer).unwrap();
    let handshake = ServerHandshake::read(&Method::GET, Version::HTTP_11, &headers).unwrap();
    assert_eq!(handshake.protocols().collect::<Vec<_>>(), ["chat", "superchat", "third"]);
    assert_eq!(handshake.accept(Some("third"), None).unwrap().headers["sec-websocket-protocol"], "third");
    assert!(!handshake.accept(None, None).unwrap().headers.contains_key("sec-websocket-protocol"));
    let other = handshake.accept(Some("Chat"), None);
    assert_eq!(other, Err(HandshakeError::ProtocolNotOffered), "names are compared as they are");
}

#[test]
fn cross_site_websocket_hijacking() {
    let is_same = |origin: &str, host: &str| {
        let headers = fields(REQUEST, &[("origin", origin), ("host", host)]);
        ServerHandshake::read(&Method::GET, Version::HTTP_11, &headers).unwrap().is_same_origin()
    };
    assert!(is_same("", "a.example"), "no browser");
    assert!(is_same("https://a.example", "a.example"));
    assert!(is_same("http://A.example:80", "a.example"));
    assert!(is_same("https://a.example", "a.example:443"));
    assert!(is_same("https://[::1]:8443", "[::1]:8443"));
    for (origin, host) in [
        ("https://evil.example", "a.example"),
        ("https://a.example.evil.example", "a.example"),
        ("https://a.example:8443", "a.example"),
        ("http://a.example", "a.example:443"),
        ("null", "a.example"),
        ("a.example", "a.example"),
        ("file://", "a.example"),
        ("https://a.example/x", "a.example"),
        ("https://user@a.example", "a.example"),
    ] {
        assert!(!is_same(origin, host), "{origin} {host}");
    }
    let twice = [("origin", "https://a"), ("origin", "https://a"), ("host", "a")];
    let headers = fields(REQUEST, &twice);
    assert!(!ServerHandshake::read(&Method::GET, Version::HTTP_11, &headers).unwrap().is_same_origin());
}

/// What a server answers to an offer, if it accepts it.
fn negotiate(offer: &str, config: &DeflateConfig) -> Option<String> {
    let accepted = accept(&[("sec-websocket-extensions", offer)], None, Some(config)).unwrap();
    let answer = accepted.headers.get("sec-websocket-extensions");
    assert_eq!(answer.is_some(), accepted.deflate.is_some());
    answer.map(|answer| answer.to_str().unwrap().to_owned())
}

const KEEPING: DeflateConfig = DeflateConfig {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
    level: 3,
    threshold_bytes: 0,
};

#[test]
fn rfc7692_7_1_what_a_server_accepts() {
    let small = DeflateConfig { server_max_window_bits: 10, client_max_window_bits: 11, ..KEEPING };
    let cases = [
        (&KEEPING, "permessage-deflate", Some("")),
        (&KEEPING, "permessage-deflate; server_no_context_takeover", Some("; server_no_context_takeover")),
        (&KEEPING, "permessage-deflate; client_no_context_takeover", Some("; client_no_context_takeover")),
        (&KEEPING, "permessage-deflate; client_max_window_bits", Some("")),
        (&KEEPING, "permessage-deflate; client_max_window_bits=10", Some("; client_max_window_bits=10")),
        (&KEEPING, "permessage-deflate; client_max_window_bits=8", Some("; client_max_window_bits=8")),
        (&KEEPING, "permessage-deflate; server_max_window_bits=12", Some("; server_max_window_bits=12")),
        (&KEEPING, "permessage-deflate; server_max_window_bits=\"12\"", Some("; server_max_window_bits=12")),
        (&KEEPING, "permessage-deflate; server_max_window_bits=15", Some("; server_max_window_bits=15")),
        (&small, "permessage-deflate", Some("; server_max_window_bits=10")),
        (
            &small,
            "permessage-deflate; client_max_window_bits",
            Some("; server_max_window_bits=10; client_max_window_bits=11"),
        ),
        (
            &small,
            "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
            Some("; server_max_window_bits=9; client_max_window_bits=9"),
        ),
        (
            &DeflateConfig::default(),
            "permessage-deflate; client_max_window_bits",
            Some("; server_no_context_takeover; client_no_context_takeover"),
        ),
        // Declined: zlib has no window of 8 bits, so a later offer may do.
        (&KEEPING, "permessage-deflate; server_max_window_bits=8", None),
        (&KEEPING, "permessage-deflate; server_max_window_bits=8, permessage-deflate", Some("")),
        // Section 7.1: unknown, doubled, missing and bad values decline an offer.
        (&KEEPING, "permessage-deflate; foo", None),
        (&KEEPING, "permessage-deflate; foo, permessage-deflate", Some("")),
        (&KEEPING, "permessage-deflate; server_no_context_takeover=1", None),
        (&KEEPING, "permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        (&KEEPING, "permessage-deflate; server_max_window_bits", None),
        (&KEEPING, "permessage-deflate; server_max_window_bits=7", None),
        (&KEEPING, "permessage-deflate; server_max_window_bits=16", None),
        (&KEEPING, "permessage-deflate; server_max_window_bits=09", None),
        (&KEEPING, "permessage-deflate; client_max_window_bits=x", None),
        (&KEEPING, "permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        (&KEEPING, "x-webkit-deflate-frame", None),
        (&KEEPING, "", None),
    ];
    for (config, offer, answer) in cases {
        let answer = answer.map(|answer| format!("permessage-deflate{answer}"));
        assert_eq!(negotiate(offer, config), answer, "{offer}");
    }
    let without = accept(&[("sec-websocket-extensions", "permessage-deflate")], None, None).unwrap();
    assert_eq!((without.deflate, without.headers.len()), (None, 3));
}

/// What a client makes of an answer with these changes.
fn confirm(
    deflate: Option<DeflateConfig>,
    status: u16,
    changes: &[(&str, &str)],
) -> Result<Confirmed, HandshakeError> {
    let handshake = ClientHandshake::new(&["chat", "superchat"], deflate).unwrap();
    let mut request = handshake.headers();
    request.remove("sec-websocket-extensions");
    let server = ServerHandshake::read(&Method::GET, Version::HTTP_11, &request).unwrap();
    let answer = server.accept(None, None).unwrap().headers;
    let base: Vec<_> = answer.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    handshake.confirm(StatusCode::from_u16(status).unwrap(), &fields(&base, changes))
}

#[test]
fn rfc6455_4_1_what_a_client_takes() {
    let confirmed = confirm(None, 101, &[]).unwrap();
    assert_eq!((confirmed.protocol, confirmed.deflate), (None, None));
    let confirmed = confirm(None, 101, &[("sec-websocket-protocol", "superchat")]).unwrap();
    assert_eq!(confirmed.protocol.unwrap(), "superchat");
    assert!(confirm(None, 101, &[("upgrade", "WEBSOCKET"), ("connection", "upgrade")]).is_ok());
    use HandshakeError::{Accept, Extensions, Protocol, ProtocolNotOffered, Status, Upgrade};
    type Changes = &'static [(&'static str, &'static str)];
    let refused: &[(HandshakeError, u16, Changes)] = &[
        (Status, 200, &[]),
        (Status, 426, &[]),
        (Upgrade, 101, &[("upgrade", "")]),
        (Upgrade, 101, &[("connection", "")]),
        (Accept, 101, &[("sec-websocket-accept", "")]),
        (Accept, 101, &[("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]),
        (ProtocolNotOffered, 101, &[("sec-websocket-protocol", "other")]),
        (Protocol, 101, &[("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "superchat")]),
        (Extensions, 101, &[("sec-websocket-extensions", "permessage-deflate")]),
    ];
    for (error, status, changes) in refused {
        assert_eq!(confirm(None, *status, changes), Err(*error), "{changes:?}");
    }
}

#[test]
fn rfc6455_4_1_what_a_client_sends() {
    let handshake = ClientHandshake::new(&["chat", "superchat"], Some(KEEPING)).unwrap();
    let headers = handshake.headers();
    assert_eq!(headers["sec-websocket-version"], "13");
    assert_eq!(headers["sec-websocket-extensions"], "permessage-deflate; client_max_window_bits");
    let another = ClientHandshake::new(&[], None).unwrap().headers();
    assert_ne!(headers["sec-websocket-key"], another["sec-websocket-key"]);
    for bad in ["", "a b", "a,b", "\u{e9}", "a\r\nb"] {
        assert_eq!(ClientHandshake::new(&[bad], None).unwrap_err(), HandshakeError::Protocol, "{bad:?}");
    }
}

#[test]
fn rfc7692_7_1_what_a_client_takes() {
    let answer = |config: DeflateConfig, answer: &str| {
        confirm(Some(config), 101, &[("sec-websocket-extensions", answer)]).map(|confirmed| confirmed.deflate)
    };
    let is_taken = |config, text: &str| matches!(answer(config, text), Ok(Some(Deflate { .. })));
    let small = DeflateConfig { server_max_window_bits: 10, client_max_window_bits: 11, ..KEEPING };
    let defaults = DeflateConfig::default();
    assert_eq!(answer(KEEPING, ""), Ok(None));
    assert!(is_taken(KEEPING, "permessage-deflate"));
    assert!(is_taken(KEEPING, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"));
    assert!(is_taken(KEEPING, "permessage-deflate; server_max_window_bits=8; client_max_window_bits=8"));
    assert!(is_taken(small, "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9"));
    assert!(is_taken(small, "permessage-deflate; server_max_window_bits=9"));
    assert!(is_taken(defaults, "permessage-deflate; server_no_context_takeover"));
    for (config, text) in [
        // What was asked for must be in the answer.
        (defaults, "permessage-deflate"),
        (small, "permessage-deflate"),
        (small, "permessage-deflate; server_max_window_bits=11"),
        (small, "permessage-deflate; server_max_window_bits=10; client_max_window_bits=12"),
        (KEEPING, "permessage-deflate; client_max_window_bits"),
        (KEEPING, "permessage-deflate; server_max_window_bits=7"),
        (KEEPING, "permessage-deflate; unknown"),
        (KEEPING, "permessage-deflate, permessage-deflate"),
        (KEEPING, "other"),
        (KEEPING, "permessage-deflate; ="),
    ] {
        assert_eq!(answer(config, text), Err(HandshakeError::Extensions), "{text}");
    }
}

#[test]
fn a_client_and_a_server_of_ours_agree_on_every_configuration() {
    for server_takeover in [true, false] {
        for client_takeover in [true, false] {
            for (server_bits, client_bits) in [(15, 15), (9, 15), (15, 9), (10, 12)] {
                for server_config in [KEEPING, DeflateConfig::default()] {
                    let config = DeflateConfig {
                        server_no_context_takeover: !server_takeover,
                        client_no_context_takeover: !client_takeover,
                        server_max_window_bits: server_bits,
                        client_max_window_bits: client_bits,
                        ..KEEPING
                    };
                    let client = ClientHandshake::new(&[], Some(config)).unwrap();
                    let request = client.headers();
                    let server = ServerHandshake::read(&Method::GET, Version::HTTP_11, &request).unwrap();
                    let accepted = server.accept(None, Some(&server_config)).unwrap();
                    let confirmed =
                        client.confirm(StatusCode::SWITCHING_PROTOCOLS, &accepted.headers).unwrap();
                    assert!(accepted.deflate.is_some() && confirmed.deflate.is_some(), "{config:?}");
                }
            }
        }
    }
}
