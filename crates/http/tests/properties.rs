//! What holds for every message: cuts change nothing, no bytes panic, and what is written is read back.

use gimmal_http::{
    BodyDecoder, BodyError, BodyFraming, Decoded, HeaderMap, HeaderName, HeaderValue, Limits, Method, Parsed,
    RequestHead, ResponseHead, ResponseHeadParser, StatusCode, Version, encode_chunk, encode_last_chunk,
    encode_request, encode_response,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Small enough for random heads to reach them.
const LIMITS: Limits = Limits {
    request_line_bytes: 64,
    headers: 6,
    header_bytes: 256,
    body_bytes: 64,
    chunk_line_bytes: 16,
    trailer_bytes: 64,
};

/// Everything that a head says, or that it is not there in full (`None`), or that it was refused.
type Answer = Result<Option<String>, ()>;

fn request_answer(head: &mut RequestHead, bytes: &[u8], limits: &Limits) -> Answer {
    let Parsed::Complete(len) = head.parse(bytes, limits).map_err(drop)? else { return Ok(None) };
    let view = head.view(bytes);
    let line = (view.method(), view.version(), view.target(), view.form(), view.path(), view.query());
    let facts =
        (head.framing(), head.keep_alive(), head.expects_continue(), head.upgrade(), view.authority());
    Ok(Some(format!("{len} {line:?} {facts:?} {:?}", view.headers().collect::<Vec<_>>())))
}

fn response_answer(head: &mut ResponseHeadParser, bytes: &[u8], method: &Method, limits: &Limits) -> Answer {
    let Parsed::Complete(len) = head.parse(bytes, method, limits).map_err(drop)? else { return Ok(None) };
    let view = head.view(bytes);
    let facts = (view.status(), view.version(), head.framing(), head.keep_alive(), head.upgrade());
    Ok(Some(format!("{len} {facts:?} {:?}", view.headers().collect::<Vec<_>>())))
}

/// The first answer that is not "go on" when `bytes` arrive in the pieces that `cuts` make.
fn in_pieces(bytes: &[u8], cuts: &[Index], mut answer: impl FnMut(&[u8]) -> Answer) -> Answer {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    ends.into_iter().map(|end| answer(&bytes[..end])).find(|got| *got != Ok(None)).unwrap_or(Ok(None))
}

/// Whether two answers are as good as the same. A head that is refused at once may be refused only at its end when it
/// comes in pieces, as it is not parsed before.
fn agree(whole: &Answer, pieces: &Answer, bytes: &[u8]) -> bool {
    let has_end = bytes.windows(4).any(|window| window == b"\r\n\r\n");
    whole == pieces || (whole.is_err() && *pieces == Ok(None) && !has_end)
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..6)
}

/// Bytes that are often nearly a message.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(vec![
        "GET ",
        "POST ",
        "CONNECT ",
        "OPTIONS ",
        "BREW ",
        "/",
        "/a?b",
        "*",
        "a:1",
        "http://a",
        "%4",
        "%41",
        "#",
        " ",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/2.0",
        "HTTP/1.1 200",
        "HTTP/1.1 304 x",
        "HTTP/1.1 101 y",
        " OK",
        "\r\n",
        "\r\n\r\n",
        "\r\n",
        "\n",
        "\r",
        ":",
        ": ",
        "\t",
        ";",
        "Host: a",
        "Host: b",
        "Content-Length: 3",
        "Content-Length: 1, 1",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Connection: close",
        "Connection: upgrade",
        "Upgrade: x",
        "Expect: 100-continue",
        "X",
        "0",
        "3",
        "5\r\nhello",
        "10",
        "ffffffffffffffff",
        "abc",
        "\0",
        "é",
    ]);
    let piece = prop_oneof![
        12 => pieces.prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..8),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A request that is well-formed, however odd.
fn valid_request() -> impl Strategy<Value = Vec<u8>> {
    let line = (
        prop_oneof![Just(""), Just("\r\n")],
        select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        "(http://h)?(/([a-z.~!$&'()*+,;=:@/|-]|%[0-9a-fA-F]{2}){0,12})(\\?[a-z?{}/]{0,6})?",
    );
    let framing = select(vec![
        "",
        "Content-Length: 0",
        "content-length: 12",
        "Transfer-Encoding:chunked",
        "CONNECTION: close\r\nUpgrade: x",
        "Connection: upgrade\r\nUpgrade: x",
        "Expect: 100-continue\r\nContent-Length: 3",
    ]);
    let fields = vec(("x-[a-z0-9]{0,6}", "[ \t]{0,2}([!-~]{1,8}([ \t]+[!-~]{1,4})?)?[ \t]{0,2}"), 0..4);
    (line, framing, fields, vec(any::<u8>(), 0..20)).prop_map(
        |((empty_line, method, target), framing, fields, rest)| {
            let mut bytes = format!("{empty_line}{method} {target} HTTP/1.1\r\nhost: h\r\n").into_bytes();
            for (name, value) in fields {
                bytes.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
            }
            let end = if framing.is_empty() { "\r\n" } else { "\r\n\r\n" };
            bytes.extend_from_slice(format!("{framing}{end}").as_bytes());
            bytes.extend_from_slice(&rest);
            bytes
        },
    )
}

fn header_map() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        4 => "x-[a-z0-9!#$%&'*+.^_`|~-]{0,8}",
        1 => select(vec!["connection", "content-length", "transfer-encoding", "date", "set-cookie", "etag"])
            .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        4 => "[!-~]([ -~\t]{0,10}[!-~])?".prop_map(String::into_bytes),
        1 => select(vec!["close", "keep-alive", "x, close", "7", "chunked", ""])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(128u8..=255, 1..4),
    ];
    vec((name, value), 0..6).prop_map(|fields| {
        let pair = |(name, value): (String, Vec<u8>)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(&value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.into_iter().map(pair) {
            map.append(name, value);
        }
        map
    })
}

fn framing() -> impl Strategy<Value = BodyFraming> {
    use BodyFraming::{Chunked, Length, None, UntilClose};
    prop_oneof![Just(None), any::<u64>().prop_map(Length), Just(Length(0)), Just(Chunked), Just(UntilClose)]
}

/// Data and trailers, or the error, of a chunked body that arrives in pieces; `None` if it does not end.
type Body = Result<(Vec<u8>, Option<(usize, Option<HeaderMap>)>), BodyError>;

fn decode(input: &[u8], cuts: &[Index], limits: &Limits) -> Body {
    let mut body = BodyDecoder::new(BodyFraming::Chunked, limits)?;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(input.len());
    let (mut at, mut data) = (0, Vec::new());
    for end in ends {
        loop {
            match body.decode(&input[at..end])? {
                Decoded::Data(range) => {
                    data.extend_from_slice(&input[at..end][range.clone()]);
                    at += range.end;
                }
                Decoded::Partial => break at = end,
                Decoded::End { consumed } => {
                    return Ok((data, Some((at + consumed, body.take_trailers()))));
                }
            }
        }
    }
    Ok((data, None))
}

/// The bytes that a target means: every valid escape undone.
fn unescaped(target: &str) -> Vec<u8> {
    let (mut rest, mut out) = (target.as_bytes(), Vec::new());
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match *tail {
            [high, low, ref after @ ..] if *byte == b'%' => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => out.push(b'%'),
            },
            _ => out.push(*byte),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_request_is_taken_however_it_is_cut(bytes in valid_request(), cuts in cuts()) {
        let limits = Limits::default();
        let whole = request_answer(&mut RequestHead::new(), &bytes, &limits);
        prop_assert!(matches!(whole, Ok(Some(_))), "{:?}", bytes.escape_ascii().to_string());
        let mut head = RequestHead::new();
        let pieces = in_pieces(&bytes, &cuts, |bytes| request_answer(&mut head, bytes, &limits));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn any_bytes_as_a_request_give_one_answer(bytes in nearly_http(), cuts in cuts()) {
        for limits in [Limits::default(), LIMITS] {
            let whole = request_answer(&mut RequestHead::new(), &bytes, &limits);
            let mut head = RequestHead::new();
            let pieces = in_pieces(&bytes, &cuts, |bytes| request_answer(&mut head, bytes, &limits));
            prop_assert!(agree(&whole, &pieces, &bytes), "{whole:?} or {pieces:?}: {}", bytes.escape_ascii());
        }
    }

    #[test]
    fn any_bytes_as_a_response_give_one_answer(
        bytes in nearly_http(),
        is_response in any::<bool>(),
        method in select(vec![Method::GET, Method::HEAD, Method::CONNECT]),
        cuts in cuts(),
    ) {
        let bytes = if is_response { [b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat() } else { bytes };
        for limits in [Limits::default(), LIMITS] {
            let whole = response_answer(&mut ResponseHeadParser::new(), &bytes, &method, &limits);
            let mut head = ResponseHeadParser::new();
            let pieces = in_pieces(&bytes, &cuts, |bytes| response_answer(&mut head, bytes, &method, &limits));
            prop_assert!(agree(&whole, &pieces, &bytes), "{whole:?} or {pieces:?}: {}", bytes.escape_ascii());
        }
    }

    #[test]
    fn any_bytes_as_a_chunked_body_give_one_answer(bytes in nearly_http(), cuts in cuts()) {
        for limits in [Limits::default(), LIMITS] {
            prop_assert_eq!(decode(&bytes, &[], &limits), decode(&bytes, &cuts, &limits));
        }
    }

    #[test]
    fn chunks_and_trailers_are_read_back(
        chunks in vec(vec(any::<u8>(), 0..40), 0..6),
        extension in r#"(;[a-z]{1,4}(=([a-z0-9]{1,4}|"[ !#-\[\]-~]{0,6}"))?)?"#,
        trailers in header_map(),
        rest in vec(any::<u8>(), 0..8),
        cuts in cuts(),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            let start = bytes.len();
            encode_chunk(chunk, &mut bytes);
            if let Some(end) = bytes[start..].iter().position(|byte| *byte == b'\r') {
                bytes.splice(start + end..start + end, extension.bytes());
            }
        }
        encode_last_chunk(Some(&trailers), &mut bytes);
        let len = bytes.len();
        bytes.extend_from_slice(&rest);
        let (data, end) = decode(&bytes, &cuts, &Limits::default()).unwrap();
        prop_assert_eq!(data, chunks.concat());
        let (consumed, received) = end.unwrap();
        prop_assert_eq!(consumed, len);
        let mut sent = trailers;
        ["connection", "content-length", "transfer-encoding", "date", "set-cookie"]
            .into_iter()
            .for_each(|name| drop(sent.remove(name)));
        prop_assert_eq!(received.unwrap_or_default(), sent);
    }

    #[test]
    fn a_response_is_read_back(
        status in prop_oneof![Just(101u16), Just(204), Just(205), Just(304), 200u16..600],
        method in select(vec![Method::GET, Method::HEAD, Method::CONNECT]),
        is_1_0 in any::<bool>(),
        headers in header_map(),
        body in framing(),
        keep_alive in any::<bool>(),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let version = if is_1_0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let (text, date) = (HeaderValue::from_static("text/plain"), gimmal_http::Date::at(1));
        let head = ResponseHead {
            version, method: &method, status, headers: &headers, content_type: Some(&text), body, keep_alive,
            date: Some(&date),
        };
        let mut bytes = Vec::new();
        let encoded = encode_response(&head, &mut bytes);
        let mut parser = ResponseHeadParser::new();
        let parsed = parser.parse(&bytes, &method, &Limits::default());
        prop_assert_eq!(parsed, Ok(Parsed::Complete(bytes.len())), "{}", bytes.escape_ascii());
        prop_assert_eq!(parser.status(), status);
        let (sent, read) = (encoded.framing, parser.framing());
        prop_assert!(sent == read || (sent.is_empty() && read.is_empty()), "{:?} {:?}", sent, read);
        let hands_over = status == 101 || (method == Method::CONNECT && status.is_success());
        if !hands_over {
            prop_assert_eq!(parser.keep_alive(), encoded.keep_alive);
        }
        let received = parser.view(&bytes).to_header_map();
        for (name, _) in headers.iter().filter(|(name, _)| name.as_str().starts_with("x-") || *name == "etag") {
            // As on any wire, white space around a value is no part of it.
            let trimmed = |map: &HeaderMap| -> Vec<Vec<u8>> {
                map.get_all(name).iter().map(|value| value.as_bytes().trim_ascii().to_vec()).collect()
            };
            prop_assert_eq!(trimmed(&headers), trimmed(&received));
        }
        prop_assert_eq!(received.get_all("date").iter().count(), headers.get_all("date").iter().count().max(1));
    }

    #[test]
    fn a_request_is_read_back(
        method in select(vec![Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS]),
        target in "(http://h)?(/\\PC{0,12})?(\\?\\PC{0,8})?|/([ -~\r\n\0%]{0,20})",
        headers in header_map(),
        framing in framing(),
    ) {
        let mut headers = headers;
        headers.insert("host", HeaderValue::from_static("h"));
        let mut bytes = Vec::new();
        encode_request(&method, &target, &headers, framing, &mut bytes);
        let mut head = RequestHead::new();
        let limits = Limits { request_line_bytes: 1024, ..Limits::default() };
        prop_assert_eq!(head.parse(&bytes, &limits), Ok(Parsed::Complete(bytes.len())), "{}", bytes.escape_ascii());
        let view = head.view(&bytes);
        prop_assert_eq!(view.method(), &method);
        let written = view.target();
        let meant = if target.is_empty() || target.starts_with('?') { format!("/{target}") } else { target };
        prop_assert_eq!(unescaped(written), unescaped(&meant));
        let mut again = Vec::new();
        encode_request(&method, written, &headers, framing, &mut again);
        prop_assert_eq!(again, &bytes[..], "what is escaped is not escaped again");
        let read = head.framing();
        match framing {
            BodyFraming::UntilClose => prop_assert_eq!(read, BodyFraming::Chunked),
            BodyFraming::None => prop_assert!(read.is_empty()),
            framing => prop_assert_eq!(read, framing),
        }
    }
}
