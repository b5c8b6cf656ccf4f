//! What is written for a response and a request, by the sections of RFC 9110 and RFC 9112.

use gimmal_http::BodyFraming::{Chunked, Length, None, UntilClose};
use gimmal_http::{
    BodyFraming, Date, Encoded, HeaderMap, HeaderName, HeaderValue, Method, ResponseHead, StatusCode,
    Version, encode_chunk, encode_informational, encode_last_chunk, encode_request, encode_response,
};

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let mut map = HeaderMap::new();
    map.extend(pairs.iter().map(pair));
    map
}

/// A response to `method` in `version` whose other parts are the simplest there are.
struct Case {
    method: Method,
    version: Version,
    status: u16,
    headers: HeaderMap,
    body: BodyFraming,
    keep_alive: bool,
}

impl Case {
    fn new(status: u16, body: BodyFraming) -> Self {
        let (method, version) = (Method::GET, Version::HTTP_11);
        Self { method, version, status, headers: HeaderMap::new(), body, keep_alive: true }
    }

    fn to(self, method: Method) -> Self {
        Self { method, ..self }
    }

    fn in_1_0(self) -> Self {
        Self { version: Version::HTTP_10, ..self }
    }

    fn with(self, pairs: &[(&'static str, &'static str)]) -> Self {
        Self { headers: fields(pairs), ..self }
    }

    fn closing(self) -> Self {
        Self { keep_alive: false, ..self }
    }

    fn encode(&self) -> (String, Encoded) {
        let head = ResponseHead {
            version: self.version,
            method: &self.method,
            status: StatusCode::from_u16(self.status).unwrap(),
            headers: &self.headers,
            content_type: Option::None,
            body: self.body,
            keep_alive: self.keep_alive,
            date: Option::None,
        };
        let mut out = Vec::new();
        let encoded = encode_response(&head, &mut out);
        (String::from_utf8(out).unwrap(), encoded)
    }

    /// The lines after the status line, the framing of what follows, and whether the connection stays open.
    #[track_caller]
    fn gives(self, lines: &[&str], framing: BodyFraming, keep_alive: bool) {
        let (text, encoded) = self.encode();
        let (status_line, rest) = text.split_once("\r\n").unwrap();
        assert!(status_line.starts_with(&format!("HTTP/1.1 {} ", self.status)), "{status_line}");
        let expected: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        assert_eq!(rest, expected + "\r\n");
        assert_eq!(encoded, Encoded { framing, keep_alive });
    }
}

const CLOSE: &str = "connection: close";
const CHUNKED: &str = "transfer-encoding: chunked";

#[test]
fn rfc9112_6_2_a_known_length_is_announced() {
    Case::new(200, Length(13)).gives(&["content-length: 13"], Length(13), true);
    Case::new(200, Length(u64::MAX)).gives(&["content-length: 18446744073709551615"], Length(u64::MAX), true);
    Case::new(404, Length(0)).gives(&["content-length: 0"], Length(0), true);
}

#[test]
fn rfc9110_8_6_no_body_is_a_length_of_0() {
    Case::new(200, None).gives(&["content-length: 0"], None, true);
    Case::new(500, None).gives(&["content-length: 0"], None, true);
}

#[test]
fn rfc9112_6_1_an_unknown_length_is_chunked() {
    Case::new(200, Chunked).gives(&[CHUNKED], Chunked, true);
    Case::new(200, Chunked).closing().gives(&[CHUNKED, CLOSE], Chunked, false);
}

#[test]
fn rfc9112_6_1_an_http_1_0_client_gets_no_chunks() {
    Case::new(200, Chunked).in_1_0().gives(&[CLOSE], UntilClose, false);
    Case::new(200, Chunked).in_1_0().to(Method::HEAD).gives(&["connection: keep-alive"], None, true);
}

#[test]
fn rfc9112_6_3_a_body_until_close_closes() {
    Case::new(200, UntilClose).gives(&[CLOSE], UntilClose, false);
    Case::new(200, UntilClose).to(Method::HEAD).gives(&[], None, true);
}

#[test]
fn rfc9110_9_3_2_head_has_the_head_of_a_get() {
    let head = |body| Case::new(200, body).to(Method::HEAD);
    head(Length(13)).gives(&["content-length: 13"], None, true);
    head(Chunked).gives(&[CHUNKED], None, true);
    // Without a body to count, the length that the user gives stands.
    head(None).gives(&[], None, true);
    head(None).with(&[("content-length", "7")]).gives(&["content-length: 7"], None, true);
    head(Length(0)).gives(&["content-length: 0"], None, true);
    head(Length(0)).with(&[("content-length", "7")]).gives(&["content-length: 7"], None, true);
    head(Length(13)).with(&[("content-length", "7")]).gives(&["content-length: 13"], None, true);
    head(Chunked).with(&[("content-length", "7")]).gives(&[CHUNKED], None, true);
    // Only a number is a length, and only once.
    head(None).with(&[("content-length", "+7")]).gives(&[], None, true);
    head(Length(0)).with(&[("content-length", "x")]).gives(&["content-length: 0"], None, true);
    let mut twice = head(None).with(&[("content-length", "7")]);
    twice.headers.append("content-length", HeaderValue::from_static("8"));
    twice.gives(&["content-length: 7"], None, true);
}

#[test]
fn rfc9110_8_6_1xx_and_204_have_neither_length_nor_coding() {
    for status in [100, 101, 103, 199, 204] {
        for body in [None, Length(0), Length(13), Chunked, UntilClose] {
            for method in [Method::GET, Method::HEAD] {
                let case = Case::new(status, body).to(method);
                case.with(&[("content-length", "7")]).gives(&[], None, true);
            }
        }
    }
}

#[test]
fn rfc9110_15_3_6_205_says_that_it_is_empty() {
    for body in [None, Length(13), Chunked, UntilClose] {
        for method in [Method::GET, Method::HEAD] {
            let case = Case::new(205, body).to(method);
            case.with(&[("content-length", "7")]).gives(&["content-length: 0"], None, true);
        }
    }
}

#[test]
fn rfc9110_15_4_5_304_announces_what_a_200_would_have() {
    Case::new(304, None).gives(&[], None, true);
    Case::new(304, Chunked).gives(&[], None, true);
    Case::new(304, UntilClose).gives(&[], None, true);
    Case::new(304, Length(13)).gives(&["content-length: 13"], None, true);
    Case::new(304, Length(13)).with(&[("content-length", "7")]).gives(&["content-length: 13"], None, true);
    // The body of a 304 is empty; that of the 200 need not be.
    Case::new(304, Length(0)).gives(&[], None, true);
    Case::new(304, Length(0)).with(&[("content-length", "7")]).gives(&["content-length: 7"], None, true);
    Case::new(304, None).with(&[("content-length", "7"), ("etag", "\"x\"")]).gives(
        &["content-length: 7", "etag: \"x\""],
        None,
        true,
    );
}

#[test]
fn rfc9110_9_3_6_a_tunnel_has_no_framing() {
    Case::new(200, None).to(Method::CONNECT).gives(&[], None, true);
    Case::new(200, Chunked).to(Method::CONNECT).gives(&[], None, true);
    Case::new(200, None).to(Method::CONNECT).closing().gives(&[], None, false);
    Case::new(405, None).to(Method::CONNECT).gives(&["content-length: 0"], None, true);
}

#[test]
fn rfc9110_7_8_a_switch_of_protocols_keeps_its_connection() {
    let switch = || Case::new(101, None).with(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
    let lines = ["connection: Upgrade", "upgrade: websocket"];
    switch().gives(&lines, None, true);
    switch().closing().gives(&lines, None, false);
}

#[test]
fn rfc9112_9_6_close_is_said_once() {
    Case::new(200, Length(1)).closing().gives(&["content-length: 1", CLOSE], Length(1), false);
    for connection in ["close", "Close", "keep-alive, close", " close ,"] {
        let case = Case::new(200, Length(1)).with(&[("connection", connection)]);
        case.gives(&["content-length: 1", CLOSE], Length(1), false);
    }
}

#[test]
fn rfc9112_9_3_connection_options_of_the_user_stay() {
    let case = |connection| Case::new(200, Length(1)).with(&[("connection", connection)]);
    case("keep-alive").gives(&["content-length: 1"], Length(1), true);
    case("x-hop, keep-alive ,y").gives(&["connection: x-hop, y", "content-length: 1"], Length(1), true);
    case("x, close, y").gives(&["connection: x, y", "content-length: 1", CLOSE], Length(1), false);
    case("").gives(&["content-length: 1"], Length(1), true);
}

#[test]
fn rfc9112_c_2_2_an_http_1_0_client_is_told_that_the_connection_stays() {
    let lines = ["content-length: 1", "connection: keep-alive"];
    Case::new(200, Length(1)).in_1_0().gives(&lines, Length(1), true);
    let lines = ["content-length: 1", CLOSE];
    Case::new(200, Length(1)).in_1_0().closing().gives(&lines, Length(1), false);
}

#[test]
fn rfc9112_6_1_framing_of_the_user_is_left_out() {
    let framing = [("transfer-encoding", "gzip, chunked"), ("content-length", "9"), ("x", "1")];
    Case::new(200, Length(1)).with(&framing).gives(&["x: 1", "content-length: 1"], Length(1), true);
    Case::new(200, Chunked).with(&framing).gives(&["x: 1", CHUNKED], Chunked, true);
    Case::new(200, None).with(&framing).gives(&["x: 1", "content-length: 0"], None, true);
}

#[test]
fn rfc9110_6_6_1_date_and_content_type_yield_to_the_users() {
    let (date, text) = (Date::at(784_111_777), HeaderValue::from_static("text/plain"));
    let encode = |headers: &HeaderMap| {
        let head = ResponseHead {
            version: Version::HTTP_11,
            method: &Method::GET,
            status: StatusCode::OK,
            headers,
            content_type: Some(&text),
            body: Length(0),
            keep_alive: true,
            date: Some(&date),
        };
        let mut out = b"before".to_vec();
        let _ = encode_response(&head, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        encode(&HeaderMap::new()),
        "beforeHTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\
         date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
    );
    assert_eq!(
        encode(&fields(&[("date", "d"), ("content-type", "t"), ("set-cookie", "a"), ("set-cookie", "b")])),
        "beforeHTTP/1.1 200 OK\r\ndate: d\r\ncontent-type: t\r\nset-cookie: a\r\nset-cookie: b\r\n\
         content-length: 0\r\n\r\n"
    );
}

#[test]
fn rfc9110_15_2_interim_responses() {
    let mut out = Vec::new();
    let headers = fields(&[("link", "</a.css>"), ("content-length", "1"), ("transfer-encoding", "chunked")]);
    encode_informational(StatusCode::EARLY_HINTS, &headers, &mut out);
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
}

#[test]
fn rfc9112_7_1_chunks_and_trailers() {
    let mut out = Vec::new();
    encode_chunk(b"", &mut out);
    assert_eq!(out, b"", "an empty chunk would be the last");
    encode_chunk(&[b'x'; 16], &mut out);
    encode_last_chunk(
        Some(&fields(&[
            ("digest", "1"),
            ("content-length", "1"),
            ("transfer-encoding", "x"),
            ("host", "h"),
            ("authorization", "a"),
            ("set-cookie", "c"),
            ("content-type", "t"),
            ("x-forwarded-for", "f"),
            ("if-match", "m"),
        ])),
        &mut out,
    );
    assert_eq!(out, b"10\r\nxxxxxxxxxxxxxxxx\r\n0\r\ndigest: 1\r\n\r\n");
}

fn request(method: &Method, target: &str, framing: BodyFraming) -> String {
    let mut out = Vec::new();
    let headers = fields(&[("host", "h"), ("content-length", "9"), ("transfer-encoding", "x")]);
    encode_request(method, target, &headers, framing, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn rfc9112_6_the_framing_of_a_request() {
    let cases = [
        (Method::GET, None, ""),
        (Method::DELETE, None, ""),
        (Method::POST, None, "content-length: 0\r\n"),
        (Method::PUT, None, "content-length: 0\r\n"),
        (Method::PATCH, None, "content-length: 0\r\n"),
        (Method::GET, Length(0), "content-length: 0\r\n"),
        (Method::POST, Length(5), "content-length: 5\r\n"),
        (Method::POST, Chunked, "transfer-encoding: chunked\r\n"),
        (Method::POST, UntilClose, "transfer-encoding: chunked\r\n"),
    ];
    for (method, framing, field) in cases {
        let expected = format!("{method} / HTTP/1.1\r\nhost: h\r\n{field}\r\n");
        assert_eq!(request(&method, "/", framing), expected);
    }
}

#[test]
fn rfc9112_3_2_a_target_cannot_split_a_request() {
    let cases = [
        ("", "/"),
        ("?a", "/?a"),
        ("/a b", "/a%20b"),
        ("/\r\nHost: evil\r\n\r\n", "/%0D%0AHost:%20evil%0D%0A%0D%0A"),
        ("/#f", "/%23f"),
        ("/\u{e9}\0\u{7f}", "/%C3%A9%00%7F"),
        ("/a%20b", "/a%20b"),
        ("/100%", "/100%25"),
        ("/%zz?%4", "/%25zz?%254"),
        ("/\"<>\\^`{}", "/%22%3C%3E%5C%5E%60%7B%7D"),
        ("/a?\"<>\\^`{}?", "/a?%22%3C%3E\\^`{}?"),
        ("http://h:1/a?b", "http://h:1/a?b"),
        ("*", "*"),
    ];
    for (target, written) in cases {
        let line = format!("OPTIONS {written} HTTP/1.1\r\n");
        assert!(request(&Method::OPTIONS, target, None).starts_with(&line), "{target:?}");
    }
}
