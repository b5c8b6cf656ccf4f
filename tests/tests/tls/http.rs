//! HTTP over TLS: what is true in plain text stays true.

use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path as FilePath;
use std::rc::Rc;

use futures_util::stream;
use gimmal::{App, Body, BodyError, Chunk, HeaderValue, Path, Response, Stream, post};
use gimmal_tests::{BACKENDS, pattern, server};
use tokio::sync::Notify;

use crate::scene::{Scene, Served, about};

const UPLOAD_BYTES: u64 = 20 << 20;
const DOWNLOAD_BYTES: u64 = 100 << 20;
const PIECE_BYTES: u64 = 256 << 10;

/// The pattern, made while it is sent.
async fn download(Path(length): Path<u64>) -> Body {
    let piece = move |offset| Ok(Chunk::from(pattern(offset, PIECE_BYTES.min(length - offset) as usize)));
    Body::sized(length, stream::iter((0..length).step_by(PIECE_BYTES as usize).map(piece)))
}

/// How many bytes came; whether they are the pattern.
async fn upload(mut body: Body) -> Result<String, BodyError> {
    let (mut bytes, mut right) = (0, true);
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk?;
        right &= chunk[..] == pattern(bytes, chunk.len());
        bytes += chunk.len() as u64;
    }
    Ok(format!("{bytes} {right}"))
}

fn app() -> App {
    App::new()
        .get("/", about)
        .get("/download/{length}", download)
        .route("/upload", post(upload).put(upload).body_limit(u64::MAX))
}

fn write_pattern(path: &FilePath, length: u64) {
    let mut file = File::create(path).unwrap();
    for offset in (0..length).step_by(PIECE_BYTES as usize) {
        file.write_all(&pattern(offset, PIECE_BYTES.min(length - offset) as usize)).unwrap();
    }
}

#[test]
fn curl_speaks_both_versions_and_keeps_its_connection() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = scene.serve(app(), backend);
        for (arguments, version) in
            [(["--tlsv1.3", "--tls-max", "1.3"], "TLSv1.3"), (["--tlsv1.2", "--tls-max", "1.2"], "TLSv1.2")]
        {
            let text = scene.curl_text(server.address(), "/", &arguments);
            assert!(text.starts_with(&format!("version={version} ")), "{backend:?}: {text}");
            assert!(text.contains(" alpn=http/1.1 name=localhost resumed=false "), "{backend:?}: {text}");
        }
        let format = "%{num_connects} %{http_code} %{http_version}\n";
        let lines = scene.curl_text(
            server.address(),
            "/download/[1000-1019]",
            &["--output", "/dev/null", "--write-out", format],
        );
        let mut lines = lines.lines();
        assert_eq!(lines.next(), Some("1 200 1.1"), "{backend:?}");
        assert!(lines.clone().count() == 19 && lines.all(|line| line == "0 200 1.1"), "{backend:?}");
        // Whoever does not trust the authority does not come in.
        let refused = scene.try_curl(server.address(), "/", &["--cacert", "/dev/null"]);
        assert!(!refused.status.success());
    }
}

#[test]
fn twenty_megabytes_up_and_a_hundred_down() {
    let scene = Scene::new();
    let file = scene.folder.path().join("upload");
    write_pattern(&file, UPLOAD_BYTES);
    for backend in BACKENDS {
        let server = scene.serve(app(), backend);
        let file = file.to_str().unwrap();
        let text = scene.curl_text(server.address(), "/upload", &["--upload-file", file]);
        assert_eq!(text, format!("{UPLOAD_BYTES} true"), "{backend:?}");
        // Without a length, in chunks.
        let arguments = ["--header", "Transfer-Encoding: chunked", "--upload-file", file];
        let text = scene.curl_text(server.address(), "/upload", &arguments);
        assert_eq!(text, format!("{UPLOAD_BYTES} true"), "{backend:?}");

        let bytes = scene.curl(server.address(), &format!("/download/{DOWNLOAD_BYTES}"), &[]);
        assert_eq!(bytes.len() as u64, DOWNLOAD_BYTES, "{backend:?}");
        let mut offset = 0;
        for piece in bytes.chunks(PIECE_BYTES as usize) {
            assert!(piece == pattern(offset, piece.len()), "{backend:?}: at {offset}");
            offset += piece.len() as u64;
        }
    }
}

#[test]
fn requests_are_pipelined_whatever_the_records_are() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = scene.serve(app(), backend);
        let mut client = scene.connect(server.address());
        let requests: String = (1..=200)
            .map(|length| format!("GET /download/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .collect();
        // All in one record; then each byte of some in a record of its own, many of them in one segment.
        client.send(&requests);
        for length in 1..=200 {
            assert_eq!(client.message().body, pattern(0, length), "{backend:?}");
        }
        let few = requests.split_inclusive("\r\n\r\n").take(3).collect::<String>();
        let stream = client.stream_mut();
        for byte in few.as_bytes() {
            stream.conn.writer().write_all(&[*byte]).unwrap();
        }
        client.send("");
        for length in 1..=3 {
            assert_eq!(client.message().body, pattern(0, length), "{backend:?}");
        }
    }
}

#[test]
fn a_body_goes_out_while_it_is_made() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let app = App::new().state_per_core(Notify::new).get("/stream", async |request: gimmal::Request| {
            let go_on = request.state::<Notify>().unwrap();
            Body::stream(stream::unfold((0, go_on), async |(step, go_on)| match step {
                0 => Some((Ok(Chunk::from("first".to_owned().into_bytes())), (1, go_on))),
                1 => {
                    go_on.notified().await;
                    Some((Ok(Chunk::from("second".to_owned().into_bytes())), (2, go_on)))
                }
                _ => None,
            }))
        });
        let app = app.post("/go-on", async |request: gimmal::Request| {
            request.state::<Notify>().unwrap().notify_one();
            "going on"
        });
        let server = scene.serve(app, backend);
        let mut client = scene.connect(server.address());
        client.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.head().unwrap().header("transfer-encoding"), Some("chunked"), "{backend:?}");
        assert_eq!(client.exactly(10).unwrap(), b"5\r\nfirst\r\n", "{backend:?}");
        let mut other = scene.connect(server.address());
        other.send("POST /go-on HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(other.message().text(), "going on");
        assert_eq!(client.exactly(16).unwrap(), b"6\r\nsecond\r\n0\r\n\r\n", "{backend:?}");
    }
}

async fn echo(stream: Stream) {
    assert!(stream.is_tls());
    while let Ok(bytes) = stream.recv().await {
        if bytes.is_empty() || stream.send(bytes).await.is_err() {
            break;
        }
    }
}

/// Has what is sent come back, in pieces of all sizes, then ends the sending side and sees the other end.
fn is_echoed(client: &mut gimmal_tests::TlsClient) {
    for length in [1, 100, 16 << 10, 100_000] {
        let sent = pattern(7, length);
        client.send(&sent);
        assert!(client.exactly(length).unwrap() == sent, "{length} bytes");
    }
    client.stream_mut().conn.send_close_notify();
    client.send("");
    client.ended().expect("the server's close_notify");
}

#[test]
fn an_upgrade_takes_the_session_along() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let app = App::new()
            .get("/echo", async || Response::switching_protocols(HeaderValue::from_static("echo"), echo));
        let server = scene.serve(app, backend);
        let mut client = scene.connect(server.address());
        // What belongs to the other protocol comes in the same record.
        client.send(
            "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly",
        );
        assert_eq!(client.message().status, 101, "{backend:?}");
        assert_eq!(client.exactly(5).unwrap(), b"early", "{backend:?}");
        is_echoed(&mut client);
    }
}

#[test]
fn a_raw_service_gets_plaintext() {
    let scene = Scene::new();
    for backend in BACKENDS {
        // A protocol of its own needs no ALPN.
        let tls = scene.builder().alpn(&[]).build().unwrap();
        let server = Served::start(server(App::new(), backend).tcp_tls("127.0.0.1:0", &tls, echo));
        let mut client = scene.connect(server.address());
        is_echoed(&mut client);
        // By Tokio's traits as well.
        let shout = async |mut stream: Stream| {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let server =
            Served::start(gimmal_tests::server(App::new(), backend).tcp_tls("127.0.0.1:0", &tls, shout));
        let mut client = scene.connect(server.address());
        client.send("quiet".repeat(20_000));
        client.stream_mut().conn.send_close_notify();
        client.send("");
        assert!(client.exactly(100_000).unwrap() == "QUIET".repeat(20_000).as_bytes(), "{backend:?}");
        client.ended().unwrap();
    }
}

#[test]
fn every_end_in_order_comes_with_close_notify() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = scene.serve(app(), backend);
        // As the client wishes.
        let mut client = scene.connect(server.address());
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert!(client.message().says_close(), "{backend:?}");
        client.ended().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
        // After a request that is refused.
        let mut client = scene.connect(server.address());
        client.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(client.message().status, 400, "{backend:?}");
        client.ended().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
        // When the client ends first.
        let mut client = scene.connect(server.address());
        assert_eq!(client.get("/").status, 200);
        client.stream_mut().conn.send_close_notify();
        client.send("");
        client.ended().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
        // When the server stops, to those who are idle, and to those who have not asked yet.
        let (mut idle, mut new) = (scene.connect(server.address()), scene.connect(server.address()));
        assert_eq!(idle.get("/").status, 200);
        server.handle().shutdown();
        idle.ended().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
        new.ended().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
        server.join();
    }
}

/// A body without its end is none, whoever has cut it.
#[test]
fn truncation_of_a_request_body_is_an_error_for_the_handler() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let app = App::new().state_per_core(|| Cell::new(String::new())).post(
            "/",
            async |mut request: gimmal::Request| {
                let seen = request.state::<Cell<String>>().unwrap();
                let body = request.bytes().await;
                seen.set(if body.is_ok() { "whole".to_owned() } else { "cut".to_owned() });
                "done"
            },
        );
        let app = app.get("/seen", async |request: gimmal::Request| {
            let seen: Rc<Cell<String>> = request.state().unwrap();
            seen.take()
        });
        let server = scene.serve(app, backend);
        let mut client = scene.connect(server.address());
        client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf.");
        // An end of TCP, and none of TLS.
        client.stream().sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let end = client.stream_mut().read_to_end(&mut rest);
        assert!(end.is_ok() || end.unwrap_err().kind() != ErrorKind::WouldBlock, "{backend:?}");
        assert!(!rest.ends_with(b"done"), "{backend:?}");
        let mut other = scene.connect(server.address());
        gimmal_tests::eventually("the handler has seen it", || match other.get("/seen").text() {
            "" => false,
            seen => {
                assert_eq!(seen, "cut", "{backend:?}");
                true
            }
        });
    }
}

/// A request that came whole is answered, also if the client's TLS library ends without close_notify.
#[test]
fn a_client_that_ends_without_close_notify_gets_its_answer() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = scene.serve(app(), backend);
        let mut client = scene.connect(server.address());
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.stream().sock.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.message().status, 200, "{backend:?}");
    }
}
