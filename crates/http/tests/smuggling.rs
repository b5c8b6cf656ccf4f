//! Every form of a request that two parsers could read in two ways, with the status that refuses it, and the same
//! answer however the bytes are cut.

use gimmal_http::{Limits, Parsed, RequestError, RequestHead};

fn parse(bytes: &[u8]) -> Result<Parsed, RequestError> {
    RequestHead::new().parse(bytes, &Limits::default())
}

/// The first answer other than `Partial` when `bytes` come in two pieces, and then one by one.
fn parse_in_pieces(bytes: &[u8]) -> Vec<Result<Parsed, RequestError>> {
    let limits = Limits::default();
    let mut answers = Vec::new();
    for cut in 0..bytes.len() {
        let mut head = RequestHead::new();
        answers.push(match head.parse(&bytes[..cut], &limits) {
            Ok(Parsed::Partial) => head.parse(bytes, &limits),
            early => early,
        });
    }
    let mut head = RequestHead::new();
    answers.extend(
        (0..=bytes.len())
            .map(|len| head.parse(&bytes[..len], &limits))
            .find(|got| *got != Ok(Parsed::Partial)),
    );
    answers
}

/// RFC and section, status, request.
const REFUSED: &[(&str, u16, &str)] = &[
    // Message format and line ends.
    ("9112-2.2 bare LF after the request line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("9112-2.2 bare LF after a field", 400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    ("9112-2.2 bare LF as the empty line", 400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("9112-2.2 bare LF throughout", 400, "GET / HTTP/1.1\nHost: a\n\n"),
    ("9112-2.2 bare LF after an empty value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX:\nY: 1\r\n\r\n"),
    ("9112-2.2 bare CR in a value", 400, "GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n"),
    ("9112-2.2 bare CR as a line end", 400, "GET / HTTP/1.1\rHost: a\r\n\r\n"),
    ("9112-2.2 two leading CRLF", 400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-2.2 leading LF", 400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-2.2 leading CR", 400, "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-2.2 CRLF and LF before", 400, "\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-2.2 white space before the first field", 400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    // Request line.
    ("9112-3 two spaces", 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3 tab", 400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3 leading space", 400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3 space in the target", 400, "GET / x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3 trailing space", 400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("9112-3 no version", 400, "GET /\r\nHost: a\r\n\r\n"),
    ("9112-2.3 lower-case version", 400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("9112-2.3 long version", 400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    ("9112-2.3 version without minor", 400, "GET / HTTP/2\r\nHost: a\r\n\r\n"),
    ("9110-2.5 HTTP/2.0", 505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("9110-2.5 HTTP/1.2 with more after it", 400, "GET / HTTP/1.2 \r\nHost: a\r\n\r\n"),
    ("9112-2.2 HTTP/1.2 and a bare LF", 400, "GET / HTTP/1.2\nHost: a\r\n\r\n"),
    ("9112-3.2 HTTP/1.2 without Host", 400, "GET / HTTP/1.2\r\n\r\n"),
    ("9110-2.5 HTTP/0.9", 505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    ("9112-3 method longer than any", 501, "BREWBREWBREWBREWBREWBREWBREWBREWB / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9110-9.1 method that is no token", 400, "B(W / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9110-9.3.8 TRACE", 501, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Target.
    ("9112-3.2 fragment", 400, "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3.2 beyond ASCII", 400, "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3986-2.1 escape cut short", 400, "GET /%2 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("3986-2.1 escape of no digits", 400, "GET /?a=%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3.2 backslash in the path", 400, "GET /\\a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3.2.1 relative path", 400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3.2.2 other scheme", 400, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3.2.2 no host", 400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9110-4.2.4 user information", 400, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3.2.2 absolute form and Host at odds", 400, "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("9112-3.2.2 ports at odds", 400, "GET https://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    ("9112-3.2.3 authority form without CONNECT", 400, "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3.2.3 CONNECT in origin form", 400, "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3.2.3 CONNECT without port", 400, "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "9110-9.3.6 CONNECT with a length",
        400,
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\n",
    ),
    (
        "9110-9.3.6 CONNECT with chunks",
        400,
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("9112-3.2.4 asterisk without OPTIONS", 400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Host.
    ("9112-3.2 no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
    ("9112-3.2 two Hosts", 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("9112-3.2 two Hosts in HTTP/1.0", 400, "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"),
    ("9110-7.2 empty Host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("9110-7.2 two Hosts in one", 400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("9110-7.2 Host with path", 400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("9110-7.2 Host with user", 400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("9110-7.2 Host with bad port", 400, "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"),
    // Fields.
    ("9112-5.1 space before the colon", 400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    ("9112-5.1 tab before the colon", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 1\r\n\r\n"),
    ("9112-5.2 obs-fold", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
    ("9112-5.2 obs-fold by tab", 400, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n"),
    ("9110-5.5 NUL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
    ("9110-5.5 control in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: \u{1}\r\n\r\n"),
    ("9110-5.5 DEL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: \u{7f}\r\n\r\n"),
    ("9110-5.1 NUL in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\0: 1\r\n\r\n"),
    ("9110-5.1 empty name", 400, "GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n"),
    ("9110-5.1 no colon", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    ("9110-10.1.1 other expectation", 417, "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n"),
    (
        "9110-10.1.1 one more expectation",
        417,
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\n\r\n",
    ),
    // Content-Length.
    (
        "9112-6.3 two equal lengths",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    ),
    (
        "9112-6.3 two lengths",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n",
    ),
    ("9112-6.3 list of lengths", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n"),
    ("9112-6.2 sign", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"),
    ("9112-6.2 negative", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    ("9112-6.2 hexadecimal", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n"),
    ("9112-6.2 inner space", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\n"),
    ("9112-6.2 empty", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
    ("9112-6.2 overflow", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n"),
    // Transfer-Encoding.
    (
        "9112-6.1 length and coding",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "9112-6.1 coding and length",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
    ),
    ("9112-6.1 coding in HTTP/1.0", 400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (
        "9112-6.1 unknown coding",
        501,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ),
    (
        "9112-6.3 no chunked at the end",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    ),
    ("9112-6.3 no chunked", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    (
        "9112-6.1 chunked twice",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    ),
    (
        "9112-6.1 two fields",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
    ),
    ("9112-6.1 look-alike", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
    ("9112-6.1 quoted", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n"),
    ("9112-6.1 parameter", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n"),
    ("9112-6.1 empty element", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n"),
    ("9112-6.1 vertical tab", 400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n"),
];

#[test]
fn every_form_is_refused_however_it_is_cut() {
    for (rule, status, request) in REFUSED {
        let error = parse(request.as_bytes()).expect_err(rule);
        assert_eq!(error.status(), *status, "{rule}: {error}");
        let answers = parse_in_pieces(request.as_bytes());
        assert_eq!(answers.len(), request.len() + 1, "{rule}");
        for (cut, answer) in answers.into_iter().enumerate() {
            let error = answer.expect_err(rule);
            assert_eq!(error.status(), *status, "{rule}, cut at {cut}: {error}");
        }
    }
}

#[test]
fn no_error_repeats_what_the_peer_sent() {
    for (rule, _, request) in REFUSED {
        let text = parse(request.as_bytes()).expect_err(rule).to_string();
        assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{rule}: {text}");
    }
}
