//! Responses as a client or a proxy reads them, by the sections of RFC 9110 and RFC 9112.

use gimmal_http::BodyFraming::{Chunked, Length, None, UntilClose};
use gimmal_http::{
    BodyFraming, HeadError, Limits, Method, Parsed, ResponseError, ResponseHeadParser, StatusCode, Version,
};

fn parse(request: &Method, bytes: &[u8]) -> Result<ResponseHeadParser, ResponseError> {
    let mut head = ResponseHeadParser::new();
    assert_eq!(head.parse(bytes, request, &Limits::default())?, Parsed::Complete(bytes.len()));
    Ok(head)
}

fn framing_and_keep_alive(request: &Method, status: &str, fields: &str) -> (BodyFraming, bool) {
    let bytes = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
    let head = parse(request, bytes.as_bytes()).expect(&bytes);
    (head.framing(), head.keep_alive())
}

const CL: &str = "Content-Length: 5\r\n";
const TE: &str = "Transfer-Encoding: chunked\r\n";

#[test]
fn rfc9112_6_3_where_a_body_ends() {
    let get = |status, fields| framing_and_keep_alive(&Method::GET, status, fields);
    assert_eq!(get("200 OK", CL), (Length(5), true));
    assert_eq!(get("200 OK", "content-length: 0\r\n"), (Length(0), true));
    assert_eq!(get("200 OK", TE), (Chunked, true));
    assert_eq!(get("200 OK", ""), (UntilClose, false));
    assert_eq!(get("200 OK", "Connection: keep-alive\r\n"), (UntilClose, false));
    assert_eq!(get("200 OK", "Connection: close\r\nContent-Length: 5\r\n"), (Length(5), false));
    assert_eq!(get("404 Not Found", CL), (Length(5), true));
}

#[test]
fn rfc9112_6_3_rule_1_head_1xx_204_and_304_have_no_body() {
    for fields in [CL, TE, "Content-Length: 0\r\n", ""] {
        assert_eq!(framing_and_keep_alive(&Method::HEAD, "200 OK", fields), (None, true), "{fields}");
        assert_eq!(
            framing_and_keep_alive(&Method::GET, "304 Not Modified", fields),
            (None, true),
            "{fields}"
        );
        assert_eq!(framing_and_keep_alive(&Method::HEAD, "404 x", fields), (None, true), "{fields}");
    }
    for status in ["100 Continue", "103 Early Hints", "199 x", "204 No Content"] {
        assert_eq!(framing_and_keep_alive(&Method::POST, status, ""), (None, true), "{status}");
        let zero = "Content-Length: 0\r\n";
        assert_eq!(framing_and_keep_alive(&Method::POST, status, zero), (None, true), "{status}");
    }
}

#[test]
fn rfc9112_6_3_rule_2_a_tunnel_has_no_body() {
    for fields in [CL, TE, ""] {
        assert_eq!(framing_and_keep_alive(&Method::CONNECT, "200 OK", fields), (None, true), "{fields}");
    }
    assert_eq!(framing_and_keep_alive(&Method::CONNECT, "407 x", CL), (Length(5), true));
    assert_eq!(framing_and_keep_alive(&Method::CONNECT, "502 x", ""), (UntilClose, false));
}

#[test]
fn response_desync_by_a_204_with_a_body_ends_the_connection() {
    for fields in [CL, TE] {
        assert_eq!(framing_and_keep_alive(&Method::GET, "204 No Content", fields), (None, false), "{fields}");
    }
}

#[test]
fn rfc9110_15_2_each_interim_response_is_a_head_of_its_own() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let (mut head, limits) = (ResponseHeadParser::new(), Limits::default());
    let mut at = 0;
    for status in [100, 103, 200] {
        let Ok(Parsed::Complete(len)) = head.parse(&bytes[at..], &Method::GET, &limits) else { panic!() };
        assert_eq!(head.status(), status);
        at += len;
    }
    assert_eq!(at, bytes.len());
}

#[test]
fn rfc9110_7_8_a_switch_needs_101_and_both_fields() {
    let upgrade = |status: &str, fields: &str| {
        let bytes = format!("{status}\r\n{fields}\r\n");
        parse(&Method::GET, bytes.as_bytes()).unwrap().upgrade()
    };
    let both = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert!(upgrade("HTTP/1.1 101 Switching Protocols", both));
    assert!(!upgrade("HTTP/1.1 200 OK", both));
    assert!(!upgrade("HTTP/1.1 101 x", "Upgrade: websocket\r\n"));
    assert!(!upgrade("HTTP/1.1 101 x", "Connection: upgrade\r\n"));
    assert!(!upgrade("HTTP/1.0 101 x", both));
}

#[test]
fn rfc9112_9_3_http_1_0_stays_open_only_when_it_says_so() {
    let keep_alive = |fields: &str| {
        let bytes = format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n{fields}\r\n");
        let head = parse(&Method::GET, bytes.as_bytes()).unwrap();
        assert_eq!((head.version(), head.framing()), (Version::HTTP_10, Length(1)));
        head.keep_alive()
    };
    assert!(!keep_alive(""));
    assert!(keep_alive("Connection: Keep-Alive\r\n"));
    assert!(!keep_alive("Connection: keep-alive, close\r\n"));
}

#[test]
fn rfc9112_4_the_reason_may_be_anything_or_nothing() {
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 a\tb  c", "HTTP/1.1 200 \u{e9}t\u{e9}"] {
        let bytes = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(parse(&Method::GET, bytes.as_bytes()).expect(line).status(), 200, "{line}");
    }
    for status in [100, 299, 599] {
        let bytes = format!("HTTP/1.1 {status} x\r\n\r\n");
        assert_eq!(parse(&Method::GET, bytes.as_bytes()).unwrap().status(), status);
    }
}

#[test]
fn fields_keep_order_spelling_and_bytes() {
    let bytes = b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie:b \t\r\nX:\r\nY: caf\xe9\r\n\r\n";
    let head = parse(&Method::GET, bytes).unwrap();
    let view = head.view(bytes);
    assert_eq!((view.status(), view.version()), (StatusCode::OK, Version::HTTP_11));
    let all: Vec<_> = view.headers().collect();
    assert_eq!(all, [("Set-Cookie", &b"a"[..]), ("set-cookie", b"b"), ("X", b""), ("Y", b"caf\xe9")]);
    assert_eq!(view.header_all("SET-COOKIE").collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!((view.header("x"), view.header("z")), (Some(&b""[..]), Option::None));
    assert_eq!(view.to_header_map().get_all("set-cookie").iter().count(), 2);
    let elsewhere = head.view(b"short");
    assert_eq!((elsewhere.header("x"), elsewhere.headers().count()), (Option::None, 4));
}

/// RFC and section, error, response.
const REFUSED: &[(&str, ResponseError, &str)] = &[
    ("9112-2.2 bare LF", line_end(), "HTTP/1.1 200 OK\nA: 1\r\n\r\n"),
    ("9112-2.2 bare LF without reason", line_end(), "HTTP/1.1 200\nA: 1\r\n\r\n"),
    ("9112-2.2 bare LF after a field", line_end(), "HTTP/1.1 200 OK\r\nA: 1\n\r\n"),
    ("9112-2.2 bare LF as the empty line", line_end(), "HTTP/1.1 200 OK\r\nA: 1\r\n\n"),
    ("9112-2.2 bare LF after an empty value", line_end(), "HTTP/1.1 200 OK\r\nA:\nB: 1\r\n\r\n"),
    ("9112-2.2 bare LF throughout", line_end(), "HTTP/1.1 200 OK\n\n"),
    ("9112-2.2 bare CR in the reason", ResponseError::StatusLine, "HTTP/1.1 200 O\rK\r\n\r\n"),
    ("9112-2.2 bare CR in a value", head(HeadError::HeaderValue), "HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n\r\n"),
    ("9112-2.2 leading CRLF", head(HeadError::LeadingEmptyLines), "\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ("9112-2.2 leading LF", head(HeadError::LeadingEmptyLines), "\nHTTP/1.1 200 OK\r\n\r\n"),
    ("9112-2.3 another version", ResponseError::Version, "HTTP/1.2 200 OK\r\n\r\n"),
    ("9112-2.3 HTTP/2.0", ResponseError::Version, "HTTP/2.0 200 OK\r\n\r\n"),
    ("9112-2.3 lower case", ResponseError::Version, "http/1.1 200 OK\r\n\r\n"),
    ("9112-2.3 no HTTP at all", ResponseError::Version, "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    ("9112-4 two spaces", ResponseError::StatusLine, "HTTP/1.1  200 OK\r\n\r\n"),
    ("9112-4 two digits", ResponseError::StatusLine, "HTTP/1.1 20 OK\r\n\r\n"),
    ("9112-4 four digits", ResponseError::StatusLine, "HTTP/1.1 2000 OK\r\n\r\n"),
    ("9112-4 no number", ResponseError::StatusLine, "HTTP/1.1 abc OK\r\n\r\n"),
    ("9110-15 below 100", ResponseError::StatusLine, "HTTP/1.1 099 x\r\n\r\n"),
    ("9110-15 000", ResponseError::StatusLine, "HTTP/1.1 000 x\r\n\r\n"),
    ("9110-15 600", ResponseError::StatusLine, "HTTP/1.1 600 x\r\n\r\n"),
    ("9112-4 NUL in the reason", ResponseError::StatusLine, "HTTP/1.1 200 \0\r\n\r\n"),
    ("9112-5.1 space before the colon", head(HeadError::HeaderName), "HTTP/1.1 200 OK\r\nA : 1\r\n\r\n"),
    ("9112-5.2 obs-fold", head(HeadError::ObsFold), "HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\n\r\n"),
    ("9112-2.2 space before the first field", head(HeadError::ObsFold), "HTTP/1.1 200 OK\r\n A: 1\r\n\r\n"),
    ("9110-5.1 no name", head(HeadError::HeaderName), "HTTP/1.1 200 OK\r\n: 1\r\n\r\n"),
    ("9110-5.1 no colon", head(HeadError::HeaderName), "HTTP/1.1 200 OK\r\nA\r\n\r\n"),
    ("9110-5.5 NUL in a value", head(HeadError::HeaderValue), "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n"),
    (
        "9112-6.3 two equal lengths",
        head(HeadError::ContentLengthRepeated),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    ),
    (
        "9112-6.3 list of lengths",
        head(HeadError::ContentLength),
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
    ),
    ("9112-6.2 sign", head(HeadError::ContentLength), "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n"),
    (
        "9112-6.2 overflow",
        head(HeadError::ContentLength),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ),
    (
        "9112-6.1 length and coding",
        head(HeadError::LengthAndCoding),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    ),
    (
        "9112-6.1 coding in HTTP/1.0",
        head(HeadError::TransferEncodingVersion),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "9112-6.1 unknown coding",
        head(HeadError::TransferCodingUnknown),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ),
    (
        "9112-6.3 no chunked at the end",
        head(HeadError::TransferEncoding),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    ),
    (
        "9112-6.1 two codings",
        head(HeadError::TransferEncoding),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "9112-6.1 vertical tab",
        head(HeadError::HeaderValue),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n",
    ),
    ("9110-15.2 interim length", ResponseError::InterimBody, "HTTP/1.1 100 x\r\nContent-Length: 1\r\n\r\n"),
    (
        "9110-15.2 interim coding",
        ResponseError::InterimBody,
        "HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
];

const fn head(error: HeadError) -> ResponseError {
    ResponseError::Head(error)
}

const fn line_end() -> ResponseError {
    head(HeadError::LineEnd)
}

#[test]
fn every_form_is_refused_however_it_is_cut() {
    let limits = Limits::default();
    for (rule, expected, bytes) in REFUSED {
        let bytes = bytes.as_bytes();
        assert_eq!(parse(&Method::GET, bytes).expect_err(rule), *expected, "{rule}");
        for cut in 0..bytes.len() {
            let mut head = ResponseHeadParser::new();
            let answer = match head.parse(&bytes[..cut], &Method::GET, &limits) {
                Ok(Parsed::Partial) => head.parse(bytes, &Method::GET, &limits),
                early => early,
            };
            assert!(answer.is_err(), "{rule}, cut at {cut}: {answer:?}");
        }
        let mut head = ResponseHeadParser::new();
        let answer = (0..=bytes.len())
            .map(|len| head.parse(&bytes[..len], &Method::GET, &limits))
            .find(|answer| *answer != Ok(Parsed::Partial));
        assert!(matches!(answer, Some(Err(_))), "{rule}, byte by byte: {answer:?}");
    }
}

#[test]
fn split_at_every_byte_equals_whole() {
    let bytes = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\nX:\r\nEtag: \"a\"\r\n\r\nhiHTTP";
    let end = bytes.len() - 6;
    let limits = Limits::default();
    let mut head = ResponseHeadParser::new();
    for cut in 0..end {
        assert_eq!(head.parse(&bytes[..cut], &Method::GET, &limits), Ok(Parsed::Partial), "{cut}");
        assert_eq!(head.parse(bytes, &Method::GET, &limits), Ok(Parsed::Complete(end)), "{cut}");
        assert_eq!((head.status().as_u16(), head.framing()), (206, Length(2)));
        assert_eq!(head.view(bytes).header("etag"), Some(&b"\"a\""[..]));
    }
    assert!((0..end).all(|len| head.parse(&bytes[..len], &Method::GET, &limits) == Ok(Parsed::Partial)));
    assert_eq!(head.parse(&bytes[..end], &Method::GET, &limits), Ok(Parsed::Complete(end)));
}

#[test]
fn reset_gives_up_an_incomplete_head() {
    let limits = Limits::default();
    let mut head = ResponseHeadParser::new();
    assert_eq!(
        head.parse(b"HTTP/1.1 200 aaaaaaaaaaaaaaaaaaaaaaaaaa", &Method::GET, &limits),
        Ok(Parsed::Partial)
    );
    head.reset();
    let bytes = b"HTTP/1.1 201 x\r\n\r\n";
    assert_eq!(head.parse(bytes, &Method::GET, &limits), Ok(Parsed::Complete(bytes.len())));
    assert_eq!(head.status(), 201);
}

#[test]
fn limits_are_inclusive() {
    let limits = Limits { headers: 2, header_bytes: 40, ..Limits::default() };
    let answer = |bytes: &str| ResponseHeadParser::new().parse(bytes.as_bytes(), &Method::GET, &limits);
    let response = |value: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(value));
    assert_eq!(answer(&response(16)), Ok(Parsed::Complete(40)));
    assert_eq!(answer(&response(17)), Err(head(HeadError::TooLarge)));
    assert_eq!(answer(&response(99)[..40]), Ok(Parsed::Partial));
    assert_eq!(answer(&response(99)[..41]), Err(head(HeadError::TooLarge)));
    assert!(answer("HTTP/1.1 200 OK\r\nA: 1\r\nB: 1\r\n\r\n").is_ok());
    let three = "HTTP/1.1 200 OK\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n";
    assert_eq!(answer(three), Err(head(HeadError::TooManyHeaders)));
}
