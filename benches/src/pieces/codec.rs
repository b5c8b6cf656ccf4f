//! The HTTP/1 codec: heads, beside bare httparse, and bodies.

use std::hint::black_box;

use gimmal_http::{
    BodyDecoder, BodyFraming, Date, Decoded, HeaderMap, HeaderValue, Limits, Method, Parsed, RequestHead,
    ResponseHead, StatusCode, Version, encode_chunk, encode_last_chunk, encode_response, header,
};

use super::Piece;

const SHORT: &str = "GET /plaintext HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";

const BROWSER: &str = "GET /articles/2026/how-a-ring-works?page=2&sort=newest HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.org/articles\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=6f1d0a9be2c74d5b8f3e2a1c0d9b8a7f; theme=dark; consent=1; visits=17\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-User: ?1\r\n\
    Priority: u=0, i\r\n\r\n";

const CHUNK_BYTES: usize = 1024;
const CHUNKS: usize = 16;

pub(super) fn pieces() -> Vec<Piece> {
    let many = (0..60).fold("GET / HTTP/1.1\r\nHost: localhost\r\n".to_owned(), |head, number| {
        head + &format!("X-Application-Header-{number}: value number {number}\r\n")
    }) + "\r\n";
    vec![
        request_head("short", SHORT),
        httparse("short, httparse alone", SHORT),
        request_head("browser", BROWSER),
        httparse("browser, httparse alone", BROWSER),
        request_head("60 fields", &many),
        httparse("60 fields, httparse alone", &many),
        response_head("plain", HeaderMap::new()),
        response_head("10 fields", ten_fields()),
        chunked_decode(),
        chunked_encode(),
    ]
}

fn request_head(case: &'static str, bytes: &str) -> Piece {
    let bytes = bytes.as_bytes().to_vec();
    let (mut head, limits, len) = (RequestHead::new(), Limits::default(), bytes.len());
    Piece::new("request head", case, move || {
        head.reset();
        let parsed = head.parse(black_box(&bytes), &limits);
        assert!(matches!(parsed, Ok(Parsed::Complete(_))));
        black_box(head.view(&bytes).path());
    })
    .of_bytes(len)
}

fn httparse(case: &'static str, bytes: &str) -> Piece {
    let bytes = bytes.as_bytes().to_vec();
    let len = bytes.len();
    Piece::new("request head", case, move || {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(black_box(&bytes));
        assert!(matches!(parsed, Ok(httparse::Status::Complete(_))));
        black_box(request.path);
    })
    .of_bytes(len)
}

fn ten_fields() -> HeaderMap {
    let fields = [
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::CONTENT_ENCODING, "br"),
        (header::CONTENT_LANGUAGE, "en"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'"),
        (header::ETAG, "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
        (header::LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::VARY, "accept-encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    fields.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

fn response_head(case: &'static str, headers: HeaderMap) -> Piece {
    let (date, mut out) = (Date::at(784_111_777), Vec::with_capacity(4096));
    Piece::new("response head", case, move || {
        out.clear();
        let head = ResponseHead {
            version: Version::HTTP_11,
            method: &Method::GET,
            status: StatusCode::OK,
            headers: black_box(&headers),
            content_type: Some(&HeaderValue::from_static("text/plain; charset=utf-8")),
            body: BodyFraming::Length(13),
            keep_alive: true,
            date: Some(&date),
        };
        assert!(encode_response(&head, &mut out).keep_alive);
        black_box(&out);
    })
}

fn chunked_body() -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..CHUNKS {
        encode_chunk(&[b'x'; CHUNK_BYTES], &mut body);
    }
    encode_last_chunk(None, &mut body);
    body
}

fn chunked_decode() -> Piece {
    let (body, limits) = (chunked_body(), Limits::default());
    Piece::new("chunked body", "decode 16 chunks of 1 KiB", move || {
        let mut decoder =
            BodyDecoder::new(BodyFraming::Chunked, &limits).expect("chunks have no length to refuse");
        let (mut at, mut data) = (0, 0);
        loop {
            match decoder.decode(&black_box(&body)[at..]).expect("a valid body") {
                Decoded::Data(range) => {
                    data += range.len();
                    at += range.end;
                }
                Decoded::End { .. } => break,
                Decoded::Partial => unreachable!("the body is whole"),
            }
        }
        assert_eq!(data, CHUNKS * CHUNK_BYTES);
    })
    .of_bytes(CHUNKS * CHUNK_BYTES)
}

fn chunked_encode() -> Piece {
    let (data, mut out) = ([b'x'; CHUNK_BYTES], Vec::with_capacity(CHUNKS * (CHUNK_BYTES + 32)));
    Piece::new("chunked body", "encode 16 chunks of 1 KiB", move || {
        out.clear();
        for _ in 0..CHUNKS {
            encode_chunk(black_box(&data), &mut out);
        }
        encode_last_chunk(None, &mut out);
        black_box(&out);
    })
    .of_bytes(CHUNKS * CHUNK_BYTES)
}
