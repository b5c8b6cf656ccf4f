//! Content codings of responses and requests, over real sockets on both back ends.

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use gimmal::compression::{Compression, Decompression};
use gimmal::files::Files;
use gimmal::test::{TestResponse, TestServer};
use gimmal::{
    App, Body, BodyError, BoxError, Bytes, Chunk, HeaderMap, HeaderName, HeaderValue, Html, Request,
    Response, StatusCode, header,
};
use gimmal_tests::{Client, checksum, on_both};

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

fn text(repeats: usize) -> String {
    (0..repeats).map(|line| format!("line {line} of a text that repeats itself\n")).collect()
}

/// Digits in no order, which pack to half.
fn digits(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let digit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'0' + (state >> 61) as u8
    };
    std::iter::repeat_with(digit).take(count).collect()
}

fn pack(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            encoder.write_all(bytes).unwrap();
            encoder.into_inner()
        }
        _ => zstd::encode_all(bytes, 3).unwrap(),
    }
}

fn unpack(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut unpacked).map(drop).unwrap(),
        "br" => brotli::BrotliDecompress(&mut &bytes[..], &mut unpacked).unwrap(),
        _ => unpacked = zstd::decode_all(bytes).unwrap(),
    }
    unpacked
}

fn get(server: &TestServer, target: &str, headers: &[(&str, &str)]) -> TestResponse {
    let request =
        headers.iter().fold(server.get(target), |request, (name, value)| request.header(name, value));
    request.send().unwrap()
}

fn with(name: HeaderName, value: &'static str) -> Response {
    Response::new(text(100)).with_header(name, HeaderValue::from_static(value))
}

fn app() -> App {
    let pieces = || stream::iter((0..50).map(|_| Ok::<_, BoxError>(Chunk::from(text(20)))));
    App::new()
        .get("/small", async || "short")
        .get("/text", async || text(100))
        .get("/large", async || text(20_000))
        .get("/html", async || Html(text(100)))
        .get("/streamed", async move || Body::stream(pieces()).with_media_type(&TEXT))
        .get("/trailers", async move || {
            let trailers =
                || [(HeaderName::from_static("checksum"), HeaderValue::from_static("42"))].into_iter();
            Body::stream(pieces())
                .with_media_type(&TEXT)
                .with_trailers(move || trailers().collect::<HeaderMap>())
        })
        .get("/octets", async || text(100).into_bytes())
        .get("/encoded", async || with(header::CONTENT_ENCODING, "gzip"))
        .get("/no-transform", async || with(header::CACHE_CONTROL, "max-age=1, No-Transform"))
        .get("/public", async || with(header::CACHE_CONTROL, "public, max-age=60"))
        .get("/cookie", async || with(header::SET_COOKIE, "a=b"))
        .get("/tagged", async || {
            with(header::ETAG, "\"abc\"").with_header(header::VARY, "origin".parse().unwrap())
        })
        .with(Compression::new())
}

static TEXT: HeaderValue = HeaderValue::from_static("text/plain");

#[test]
fn each_coding_gives_the_same_text() {
    on_both(app, |server| {
        for coding in CODINGS {
            for target in ["/text", "/large", "/html", "/streamed"] {
                let plain = get(server, target, &[]);
                assert_eq!(
                    (plain.header("content-encoding"), plain.header("vary")),
                    (None, Some("accept-encoding"))
                );
                let packed = get(server, target, &[("accept-encoding", coding)]);
                assert_eq!(packed.header("content-encoding"), Some(coding), "{target}");
                assert_eq!(packed.header("vary"), Some("accept-encoding"));
                assert_eq!(packed.header("content-type"), plain.header("content-type"));
                assert!(packed.bytes().len() < plain.bytes().len() / 4, "{target} {coding}");
                assert!(unpack(coding, packed.bytes()) == **plain.bytes(), "{target} {coding}");
                let head = server.head(target).header("accept-encoding", coding).send().unwrap();
                for name in ["content-encoding", "content-length", "vary"] {
                    assert_eq!(head.header(name), packed.header(name), "{target} {coding} {name}");
                }
            }
            let trailers = get(server, "/trailers", &[("accept-encoding", coding)]);
            assert_eq!(trailers.trailers().unwrap()["checksum"], "42");
        }
        let url = format!("{}/large", server.url());
        let curl = Command::new("curl").args(["-sS", "--compressed", &url]).output().unwrap();
        assert!(curl.stdout == text(20_000).into_bytes());
    });
}

#[test]
fn what_is_left_as_it_is() {
    on_both(app, |server| {
        for target in ["/small", "/octets", "/no-transform", "/cookie"] {
            let answer = get(server, target, &[("accept-encoding", "gzip, br, zstd")]);
            assert_eq!(answer.header("content-encoding"), None, "{target}");
        }
        let encoded = get(server, "/encoded", &[("accept-encoding", "br")]);
        assert_eq!((encoded.header("content-encoding"), encoded.text()), (Some("gzip"), &*text(100)));
        let refused = get(server, "/text", &[("accept-encoding", "gzip;q=0, deflate")]);
        assert_eq!(
            (refused.header("content-encoding"), refused.header("vary")),
            (None, Some("accept-encoding"))
        );
        let tagged = get(server, "/tagged", &[("accept-encoding", "gzip")]);
        assert_eq!(tagged.header("etag"), Some("W/\"abc\""));
        let vary: Vec<_> = tagged.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["origin", "accept-encoding"]);
        assert_eq!(get(server, "/tagged", &[]).header("etag"), Some("\"abc\""));
    });
}

#[test]
fn breach_what_may_hold_a_secret_is_not_compressed() {
    on_both(app, |server| {
        for credentials in [("cookie", "session=1"), ("authorization", "Bearer x")] {
            let accepted = [("accept-encoding", "gzip"), credentials];
            assert_eq!(get(server, "/text", &accepted).header("content-encoding"), None, "{credentials:?}");
            assert_eq!(get(server, "/public", &accepted).header("content-encoding"), Some("gzip"));
        }
    });
    on_both(
        || {
            App::new()
                .get("/", async || with(header::SET_COOKIE, "a=b"))
                .with(Compression::new().despite_breach())
        },
        |server| {
            let answer = get(server, "/", &[("accept-encoding", "gzip"), ("cookie", "a=b")]);
            assert_eq!(answer.header("content-encoding"), Some("gzip"));
        },
    );
}

#[test]
fn files_are_compressed_and_their_ranges_are_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), text(10_000)).unwrap();
    on_both(
        || App::new().files("/", Files::open(folder.path()).unwrap()).with(Compression::new()),
        |server| {
            let whole = get(server, "/a.txt", &[("accept-encoding", "zstd")]);
            assert!(unpack("zstd", whole.bytes()) == text(10_000).into_bytes());
            let tag = whole.header("etag").unwrap().to_owned();
            assert!(tag.starts_with("W/"));
            let again = get(server, "/a.txt", &[("accept-encoding", "zstd"), ("if-none-match", &tag)]);
            assert_eq!((again.status().as_u16(), again.header("content-encoding")), (304, None));
            let part = get(server, "/a.txt", &[("accept-encoding", "zstd"), ("range", "bytes=0-5")]);
            assert_eq!((part.status().as_u16(), part.text()), (206, "line 0"));
        },
    );
}

/// RFC 9110, sections 15.3.7 and 15.4.5: a cache that is told another tag or no `Vary` would mix representations up.
#[test]
fn a_304_and_a_206_have_the_tag_and_the_vary_of_the_200() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        // Long ago, so that its tag is strong.
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(784_111_777)).unwrap();
    };
    for name in ["text.txt", "image.png", "packed.txt"] {
        write(name, &text(100));
    }
    write("packed.txt.gz", &text(100));
    write("short.txt", "0123456789");
    let answers = |request: Request| {
        let (is_known, is_part) =
            (request.header("if-none-match").is_some(), request.header("range").is_some());
        let tagged =
            |response: Response| response.with_header(header::ETAG, HeaderValue::from_static("\"abc\""));
        tagged(if is_known {
            Response::default().with_status(StatusCode::NOT_MODIFIED)
        } else if is_part {
            let range = HeaderValue::from_static("bytes 0-1/3000");
            Response::new("li")
                .with_status(StatusCode::PARTIAL_CONTENT)
                .with_header(header::CONTENT_RANGE, range)
        } else {
            Response::new(text(100))
        })
    };
    on_both(
        || {
            let files = Files::open(folder.path()).unwrap();
            App::new()
                .files("/", files.clone())
                .files("/siblings", files.precompressed())
                .get("/own", async move |request: Request| answers(request))
                .with(Compression::new())
        },
        |server| {
            for target in [
                "/text.txt",
                "/image.png",
                "/short.txt",
                "/siblings/packed.txt",
                "/siblings/text.txt",
                "/own",
            ] {
                for accepted in ["gzip", "zstd, br", "identity"] {
                    for credentials in [&[][..], &[("cookie", "a=b")]] {
                        let of = |more: &[(&str, &str)]| {
                            get(
                                server,
                                target,
                                &[&[("accept-encoding", accepted)], credentials, more].concat(),
                            )
                        };
                        let whole = of(&[]);
                        let tag = whole.header("etag").unwrap();
                        let known = of(&[("if-none-match", tag)]);
                        let part = of(&[("range", "bytes=0-1")]);
                        let parts = of(&[("range", "bytes=0-1,3-4")]);
                        let what = format!("{target} {accepted} {credentials:?}");
                        assert_eq!(whole.status(), 200, "{what}");
                        assert_eq!(known.status(), 304, "{what}");
                        for answer in [&part, &parts] {
                            assert_eq!(answer.status(), 206, "{what}");
                        }
                        for answer in [known, part, parts] {
                            let status = answer.status();
                            assert_eq!(answer.header("etag"), Some(tag), "{what} {status}");
                            let vary = |answer: &TestResponse| {
                                let all = answer.headers().get_all("vary").iter().cloned();
                                all.collect::<Vec<_>>()
                            };
                            assert_eq!(vary(&answer), vary(&whole), "{what} {status}");
                        }
                    }
                }
            }
            let compressed = get(server, "/text.txt", &[("accept-encoding", "gzip")]);
            assert_eq!(compressed.header("vary"), Some("accept-encoding"));
            assert!(compressed.header("etag").unwrap().starts_with("W/"));
        },
    );
}

/// A body that is made slowly comes as it is made.
#[test]
fn what_is_made_is_flushed() {
    async fn slowly() -> Body {
        let pieces = stream::iter(["first", "second"]).then(async |piece| {
            if piece == "second" {
                std::future::pending::<()>().await;
            }
            Ok(Chunk::from(piece))
        });
        Body::stream(pieces).with_media_type(&TEXT)
    }
    on_both(
        || App::new().get("/", slowly).with(Compression::new()),
        |server| {
            let mut client = Client::connect(server.address());
            // In HTTP/1.0 there is no framing between the pieces.
            client.send("GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
            let mut stream = client.stream();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut received = Vec::new();
            let text = loop {
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).unwrap();
                received.extend_from_slice(&buffer[..read]);
                let Some(at) = received.windows(2).position(|two| two == [0x1f, 0x8b]) else { continue };
                let mut text = [0; 5];
                if flate2::read::GzDecoder::new(&received[at..]).read_exact(&mut text).is_ok() {
                    break text;
                }
            };
            assert_eq!(&text, b"first");
        },
    );
}

async fn measure(mut body: Body) -> Result<String, BodyError> {
    let (mut bytes, mut sum) = (0, checksum::BEGIN);
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk?;
        bytes += chunk.len();
        sum = checksum::add(sum, &chunk);
    }
    Ok(format!("{bytes} {sum:x}"))
}

fn unpacking() -> App {
    App::new()
        .post("/", measure)
        .post("/text", async |text: String| text)
        .route("/little", gimmal::post(async |bytes: Bytes| bytes.len().to_string()).body_limit(1000))
        .with(Decompression::new())
}

fn post(server: &TestServer, target: &str, coding: &str, body: Vec<u8>) -> TestResponse {
    server.post(target).header("content-encoding", coding).body(body).send().unwrap()
}

#[test]
fn requests_are_unpacked() {
    on_both(unpacking, |server| {
        let long = digits(700_000);
        let expected = format!("700000 {:x}", checksum::add(checksum::BEGIN, &long));
        for coding in CODINGS {
            assert_eq!(post(server, "/text", coding, pack(coding, b"Hello")).text(), "Hello");
            assert_eq!(post(server, "/", coding, pack(coding, &long)).text(), expected, "{coding}");
            assert_eq!(post(server, "/text", coding, pack(coding, b"")).text(), "");
        }
        assert_eq!(post(server, "/text", "X-GZIP", pack("gzip", b"Hello")).text(), "Hello");
        assert_eq!(post(server, "/text", "identity", b"Hello".to_vec()).text(), "Hello");
        let two = [pack("gzip", b"Hello, "), pack("gzip", b"World!")].concat();
        assert_eq!(post(server, "/text", "gzip", two).text(), "Hello, World!");
        for unknown in ["deflate", "compress", "gzip, br", "x"] {
            let refused = post(server, "/text", unknown, b"Hello".to_vec());
            assert_eq!(
                (refused.status().as_u16(), refused.header("accept-encoding")),
                (415, Some("br, zstd, gzip"))
            );
        }
    });
}

#[test]
fn corrupt_and_cut_off_bodies_are_refused() {
    on_both(unpacking, |server| {
        for coding in CODINGS {
            let whole = pack(coding, text(100).as_bytes());
            let cut = whole[..whole.len() - 5].to_vec();
            assert_eq!(post(server, "/text", coding, cut).status(), 400, "{coding}");
            assert_eq!(
                post(server, "/text", coding, b"not packed at all".to_vec()).status(),
                400,
                "{coding}"
            );
            let trailing = [whole, b"more".to_vec()].concat();
            assert_eq!(post(server, "/text", coding, trailing).status(), 400, "{coding}");
        }
    });
}

#[test]
fn decompression_bomb_is_refused() {
    let zeros = vec![0; 20 << 20];
    let bombs = CODINGS.map(|coding| (coding, pack(coding, &zeros)));
    on_both(unpacking, |server| {
        for (coding, bomb) in &bombs {
            assert!(bomb.len() < 50_000);
            assert_eq!(post(server, "/", coding, bomb.clone()).status(), 413, "{coding}");
            // The limit of a route counts what comes out.
            assert_eq!(post(server, "/little", coding, pack(coding, &[0; 1000])).text(), "1000");
            assert_eq!(post(server, "/little", coding, pack(coding, &[0; 1001])).status(), 413, "{coding}");
        }
    });
}
