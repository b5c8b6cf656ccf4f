//! Requests that are taken, what is read from them, and the limits.

use gimmal_http::{BodyFraming, Limits, Method, Parsed, RequestHead, TargetForm, Version};

fn parse(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::new();
    assert_eq!(head.parse(bytes, &Limits::default()), Ok(Parsed::Complete(bytes.len())));
    head
}

#[test]
fn the_four_forms_of_a_target() {
    let cases = [
        ("GET /a/b?c=d?e", TargetForm::Origin, "/a/b", Some("c=d?e"), "h"),
        ("GET /?", TargetForm::Origin, "/", Some(""), "h"),
        ("GET //x/[1]|?{}^", TargetForm::Origin, "//x/[1]|", Some("{}^"), "h"),
        ("GET http://H:80/a?b", TargetForm::Absolute, "/a", Some("b"), "H:80"),
        ("GET HTTP://h", TargetForm::Absolute, "/", None, "h"),
        ("GET http://h?q", TargetForm::Absolute, "/", Some("q"), "h"),
        ("CONNECT x.y:443", TargetForm::Authority, "", None, "x.y:443"),
        ("OPTIONS *", TargetForm::Asterisk, "*", None, "h"),
    ];
    for (line, form, path, query, authority) in cases {
        let bytes = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = parse(bytes.as_bytes());
        let view = head.view(bytes.as_bytes());
        let got = (view.form(), view.path(), view.query(), view.authority());
        assert_eq!(got, (form, path, query, Some(authority)), "{line}");
        assert_eq!(line.split_once(' '), Some((view.method().as_str(), view.target())));
    }
}

#[test]
fn fields_keep_order_spelling_and_bytes() {
    let bytes = b"GET / HTTP/1.1\r\nHost:h\r\nX-a: 1 \t\r\nx-A:\t\r\nB: caf\xe9\r\n\r\n";
    let head = parse(bytes);
    let view = head.view(bytes);
    let all: Vec<_> = view.headers().collect();
    assert_eq!(all, [("Host", &b"h"[..]), ("X-a", b"1"), ("x-A", b""), ("B", b"caf\xe9")]);
    assert_eq!(view.header_all("X-A").collect::<Vec<_>>(), [&b"1"[..], b""]);
    assert_eq!((view.header("b"), view.header("c")), (Some(&b"caf\xe9"[..]), None));
    let map = view.to_header_map();
    assert_eq!((map.len(), map.get_all("x-a").iter().count()), (4, 2));
}

#[test]
fn facts_of_the_connection() {
    let facts = |line: &str, fields: &str| {
        let head = parse(format!("{line}\r\nHost: h\r\n{fields}\r\n").as_bytes());
        (head.framing(), head.keep_alive(), head.expects_continue(), head.upgrade())
    };
    use BodyFraming::{Chunked, Length, None};
    let (get, old, post) = ("GET / HTTP/1.1", "GET / HTTP/1.0", "POST / HTTP/1.1");
    assert_eq!(facts(get, ""), (None, true, false, false));
    assert_eq!(facts(get, "Connection: x, Close\r\n"), (None, false, false, false));
    assert_eq!(facts(old, ""), (None, false, false, false));
    assert_eq!(facts(old, "connection: Keep-Alive\r\n"), (None, true, false, false));
    assert_eq!(facts(post, "Content-Length: 007\r\n"), (Length(7), true, false, false));
    assert_eq!(facts(post, "transfer-encoding: Chunked\r\n"), (Chunked, true, false, false));
    assert_eq!(facts(post, "Content-Length: 1\r\nExpect: 100-Continue\r\n"), (Length(1), true, true, false));
    assert_eq!(facts(get, "Expect: 100-continue\r\n"), (None, true, false, false));
    assert_eq!(
        facts("POST / HTTP/1.0", "Content-Length: 1\r\nExpect: x\r\n"),
        (Length(1), false, false, false)
    );
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(facts(get, upgrade), (None, true, false, true));
    assert_eq!(facts(get, "Upgrade: websocket\r\n"), (None, true, false, false));
    assert_eq!(facts(old, upgrade), (None, true, false, false));
    assert_eq!(facts(post, &format!("{upgrade}Content-Length: 1\r\n")), (Length(1), true, false, false));
}

#[test]
fn http_1_0_needs_no_host() {
    let bytes = b"GET / HTTP/1.0\r\n\r\n";
    let head = parse(bytes);
    assert_eq!((head.version(), head.view(bytes).authority()), (Version::HTTP_10, None));
}

#[test]
fn split_at_every_byte_equals_whole() {
    let bytes = b"\r\nPOST http://h/a%20b?c HTTP/1.1\r\nhost: H\r\nX:\r\nContent-Length: 2\r\n\r\nGET";
    let end = bytes.len() - 3;
    let limits = Limits::default();
    let mut head = RequestHead::new();
    for cut in 0..end {
        assert_eq!(head.parse(&bytes[..cut], &limits), Ok(Parsed::Partial), "{cut}");
        assert_eq!(head.parse(bytes, &limits), Ok(Parsed::Complete(end)), "{cut}");
        let view = head.view(bytes);
        assert_eq!((view.path(), view.query(), view.authority()), ("/a%20b", Some("c"), Some("h")));
        assert_eq!((head.method(), head.framing()), (&Method::POST, BodyFraming::Length(2)));
    }
    for len in 0..end {
        assert_eq!(head.parse(&bytes[..len], &limits), Ok(Parsed::Partial), "{len}");
    }
    assert_eq!(head.parse(&bytes[..end], &limits), Ok(Parsed::Complete(end)));
}

#[test]
fn reset_gives_up_an_incomplete_head() {
    let limits = Limits::default();
    let mut head = RequestHead::new();
    assert_eq!(head.parse(b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &limits), Ok(Parsed::Partial));
    head.reset();
    let bytes = b"GET /b HTTP/1.0\r\n\r\n";
    assert_eq!(head.parse(bytes, &limits), Ok(Parsed::Complete(bytes.len())));
    assert_eq!(head.view(bytes).path(), "/b");
}

#[test]
fn pipelined_heads_one_after_the_other() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n";
    let (mut head, limits) = (RequestHead::new(), Limits::default());
    assert_eq!(head.parse(bytes, &limits), Ok(Parsed::Complete(28)));
    assert_eq!(head.view(bytes).path(), "/1");
    assert_eq!(head.parse(&bytes[28..], &limits), Ok(Parsed::Complete(28)));
    assert_eq!(head.view(&bytes[28..]).path(), "/2");
}

#[test]
fn limits_are_inclusive_and_kept_early() {
    let limits = Limits { request_line_bytes: 20, headers: 2, header_bytes: 60, ..Limits::default() };
    let answer = |bytes: &str| {
        RequestHead::new().parse(bytes.as_bytes(), &limits).map_err(|error| error.status().as_u16())
    };
    let line = |path: usize| format!("GET /{} HTTP/1.1", "x".repeat(path));
    let rest = "\r\nHost: a\r\n\r\n";
    assert_eq!(answer(&(line(6) + rest)), Ok(Parsed::Complete(20 + rest.len())));
    assert_eq!(answer(&(line(7) + rest)), Err(414));
    assert_eq!(answer(&line(7)), Ok(Parsed::Partial));
    assert_eq!(answer(&format!("GET /{}", "x".repeat(17))), Err(414));
    assert_eq!(answer("GET / HTTP/1.0\r\na: 1\r\nb: 2\r\n\r\n"), Ok(Parsed::Complete(30)));
    assert_eq!(answer("GET / HTTP/1.0\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n"), Err(431));
    let head = |value: usize| format!("GET / HTTP/1.0\r\na: {}\r\n\r\n", "x".repeat(value));
    assert_eq!(answer(&head(37)), Ok(Parsed::Complete(60)));
    assert_eq!(answer(&head(38)), Err(431));
    assert_eq!(answer(&head(100)[..61]), Err(431));
    assert_eq!(answer(&head(100)[..60]), Ok(Parsed::Partial));
}

#[test]
fn a_view_of_other_bytes_does_not_panic() {
    let bytes = b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = parse(bytes);
    let view = head.view(b"\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!((view.target(), view.path(), view.header("host")), ("", "", None));
    assert_eq!(view.headers().count(), 1);
}

#[test]
fn a_head_that_was_given_up_hides_nothing_of_the_next() {
    let limits = Limits::default();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(200));
    let short = b"HEAD /b HTTP/1.0\r\n\r\n";
    let mut head = RequestHead::new();
    assert_eq!(head.parse(long.as_bytes(), &limits), Ok(Parsed::Partial));
    head.reset();
    assert_eq!(head.parse(short, &limits), Ok(Parsed::Complete(short.len())));
    // The same in the storage of another head.
    let mut copy = RequestHead::new();
    copy.parse(b"POST /?q HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", &limits).unwrap();
    copy.clone_from(&head);
    let view = copy.view(short);
    assert_eq!((view.method(), view.version(), view.path()), (&Method::HEAD, Version::HTTP_10, "/b"));
    assert_eq!((view.query(), view.authority(), view.headers().len()), (None, None, 0));
    assert_eq!((copy.framing(), copy.keep_alive()), (BodyFraming::None, false));
}

#[test]
fn the_scheme_of_an_absolute_target_is_told() {
    let limits = Limits::default();
    for (target, scheme) in [("/", None), ("http://a/", Some("http")), ("HTTPS://a", Some("https"))] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut head = RequestHead::new();
        head.parse(bytes.as_bytes(), &limits).unwrap();
        assert_eq!(head.view(bytes.as_bytes()).scheme(), scheme, "{target}");
    }
}
