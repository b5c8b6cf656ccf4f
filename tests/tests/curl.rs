//! curl as the client.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use futures_util::stream;
use gimmal::test::TestServer;
use gimmal::{App, Backend, Body, BodyError, Bytes, Chunk, Path as Parameter, Request, StatusCode, post};
use gimmal_tests::{BACKENDS, checksum, pattern, server, start};

const UPLOAD_BYTES: u64 = 20 << 20;
const DOWNLOAD_BYTES: u64 = 100 << 20;
const PIECE_BYTES: u64 = 256 << 10;

/// The pattern, made while it is sent.
async fn download(Parameter(length): Parameter<u64>) -> Body {
    Body::sized(length, pieces(length))
}

/// The same, without a length.
async fn download_chunked(Parameter(length): Parameter<u64>) -> Body {
    Body::stream(pieces(length))
}

fn pieces(length: u64) -> impl futures_util::Stream<Item = Result<Chunk, gimmal::BoxError>> {
    stream::iter(
        (0..length)
            .step_by(PIECE_BYTES as usize)
            .map(move |offset| Ok(Chunk::from(pattern(offset, PIECE_BYTES.min(length - offset) as usize)))),
    )
}

/// How many bytes came, and their checksum.
async fn upload(mut body: Body) -> Result<String, BodyError> {
    let (mut bytes, mut sum) = (0, checksum::BEGIN);
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk?;
        bytes += chunk.len();
        sum = checksum::add(sum, &chunk);
    }
    Ok(format!("{bytes} {sum:x}"))
}

async fn echo(body: Bytes) -> Bytes {
    body
}

async fn expectation(mut request: Request) -> Result<String, BodyError> {
    let expect = request.header("expect").unwrap_or("nothing").to_owned();
    let length = request.bytes().await?.len();
    Ok(format!("{expect} {length}"))
}

async fn transfer_coding(mut request: Request) -> Result<String, BodyError> {
    let coding = request.header("transfer-encoding").unwrap_or("none").to_owned();
    let body = request.bytes().await?;
    Ok(format!("{coding} {}", String::from_utf8_lossy(&body)))
}

fn app() -> App {
    App::new()
        .get("/", async || "Hello, World!")
        .get("/download/{length}", download)
        .get("/chunked/{length}", download_chunked)
        .route("/upload", post(upload).put(upload).body_limit(u64::MAX))
        .post("/echo", echo)
        .post("/expectation", expectation)
        .route("/coding", post(transfer_coding).put(transfer_coding))
        .get("/teapot", async || (StatusCode::IM_A_TEAPOT, "short and stout"))
}

/// Runs curl, which fails for every response that breaks HTTP.
fn curl(arguments: &[&str]) -> String {
    let output = run(Command::new("curl").args(arguments));
    String::from_utf8(output.stdout).expect("the output is text")
}

fn run(command: &mut Command) -> Output {
    let command = command.args(["--silent", "--show-error", "--max-time", "60"]).stdin(Stdio::null());
    let output = command.output().expect("curl is installed: these tests need it");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {error}", output.status);
    output
}

fn on_each(test: impl Fn(&TestServer, Backend)) {
    for backend in BACKENDS {
        test(&start(server(app(), backend)), backend);
    }
}

/// What `curl --write-out` says about a request, besides the body.
fn written_out(server: &TestServer, format: &str, path: &str, more: &[&str]) -> String {
    let url = format!("{}{path}", server.url());
    curl(&[&["--output", "/dev/null", "--write-out", format, &url], more].concat())
}

#[test]
fn get_head_and_versions() {
    on_each(|server, _| {
        let url = server.url();
        assert_eq!(curl(&[&url]), "Hello, World!");
        assert_eq!(written_out(server, "%{http_code} %{http_version}", "/teapot", &[]), "418 1.1");
        let head = curl(&["--head", &url]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("content-length: 13\r\n"), "{head}");
        // HTTP/1.0: with a length, and with a body that the end of the connection ends.
        assert_eq!(curl(&["--http1.0", &url]), "Hello, World!");
        let chunked = run(Command::new("curl").args(["--http1.0", &format!("{url}/chunked/1000000")]));
        assert!(chunked.stdout == pattern(0, 1_000_000));
        // HTTP/2 is not spoken here, and asking for it by Upgrade is no reason to fail.
        assert_eq!(curl(&["--http2", &url]), "Hello, World!");
    });
}

#[test]
fn one_connection_serves_many_requests() {
    on_each(|server, backend| {
        let one = format!("{}/[1-20]", server.url());
        let connects = curl(&["--output", "/dev/null", "--write-out", "%{num_connects}\n", &one]);
        let connects: Vec<_> = connects.lines().collect();
        assert_eq!((connects.len(), connects[0]), (20, "1"), "{backend:?}");
        assert!(connects[1..].iter().all(|connects| *connects == "0"), "{backend:?}: {connects:?}");
    });
}

#[test]
fn post_waits_for_continue() {
    on_each(|server, backend| {
        let url = format!("{}/expectation", server.url());
        let data = "x".repeat(2_000_000);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data");
        std::fs::write(&file, &data).unwrap();
        let data = format!("@{}", file.display());
        // curl waits for a minute: without the interim response this test would take one.
        let expect =
            ["--expect100-timeout", "60", "--header", "Expect: 100-continue", "--data-binary", &data, &url];
        let started = std::time::Instant::now();
        assert_eq!(curl(&expect), "100-continue 2000000", "{backend:?}");
        assert!(started.elapsed().as_secs() < 20, "{backend:?}: 100 Continue did not come");
        assert_eq!(curl(&["--header", "Expect:", "--data-binary", &data, &url]), "nothing 2000000");
        let echo = format!("{}/echo", server.url());
        assert_eq!(curl(&["--data", "a=1&b=2", &echo]), "a=1&b=2");
        // Beyond the limit the answer is a 413 before any of the body was sent.
        let large = vec![b'x'; 3 << 20];
        std::fs::write(&file, large).unwrap();
        let more = ["--header", "Expect: 100-continue", "--expect100-timeout", "60", "--data-binary", &data];
        assert_eq!(
            written_out(server, "%{http_code} %{size_upload}", "/echo", &more),
            "413 0",
            "{backend:?}"
        );
        // And as well when curl has begun to send it.
        let more = ["--header", "Expect:", "--data-binary", &data];
        assert_eq!(written_out(server, "%{http_code}", "/echo", &more), "413", "{backend:?}");
    });
}

fn write_pattern(path: &Path, length: u64) -> u64 {
    let mut file = File::create(path).unwrap();
    let mut sum = checksum::BEGIN;
    for offset in (0..length).step_by(PIECE_BYTES as usize) {
        let piece = pattern(offset, PIECE_BYTES.min(length - offset) as usize);
        sum = checksum::add(sum, &piece);
        file.write_all(&piece).unwrap();
    }
    sum
}

#[test]
fn twenty_megabytes_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upload");
    let sum = write_pattern(&file, UPLOAD_BYTES);
    let (expected, file) = (format!("{UPLOAD_BYTES} {sum:x}"), file.display().to_string());
    on_each(|server, backend| {
        let url = format!("{}/upload", server.url());
        assert_eq!(curl(&["--upload-file", &file, &url]), expected, "{backend:?}");
        // Without a length: in chunks, from a pipe.
        let piped = Command::new("sh")
            .args([
                "-c",
                "cat \"$1\" | curl --silent --show-error --max-time 60 --upload-file - \"$2\"",
                "sh",
            ])
            .args([&file, &url])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&piped.stdout), expected, "{backend:?}: {piped:?}");
    });
}

#[test]
fn a_hundred_megabytes_down() {
    let expected = (0..DOWNLOAD_BYTES)
        .step_by(PIECE_BYTES as usize)
        .fold(checksum::BEGIN, |sum, offset| checksum::add(sum, &pattern(offset, PIECE_BYTES as usize)));
    on_each(|server, backend| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("download");
        let path = file.display().to_string();
        for route in ["download", "chunked"] {
            curl(&["--output", &path, &format!("{}/{route}/{DOWNLOAD_BYTES}", server.url())]);
            let received = std::fs::read(&file).unwrap();
            assert_eq!(received.len() as u64, DOWNLOAD_BYTES, "{backend:?}: {route}");
            assert_eq!(checksum::add(checksum::BEGIN, &received), expected, "{backend:?}: {route}");
        }
    });
}

#[test]
fn a_chunked_upload_says_so() {
    on_each(|server, backend| {
        let url = format!("{}/coding", server.url());
        let piped = Command::new("sh")
            .args([
                "-c",
                "printf hello | curl --silent --show-error --max-time 20 --upload-file - \"$1\"",
                "sh",
                &url,
            ])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&piped.stdout), "chunked hello", "{backend:?}: {piped:?}");
    });
}

#[test]
fn unix_sockets() {
    for backend in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket").display().to_string();
        let server = start(server(app(), backend).bind(format!("unix:{path}")));
        assert_eq!(curl(&["--unix-socket", &path, "http://localhost/"]), "Hello, World!", "{backend:?}");
        let upload = ["--unix-socket", &path, "--data", "by file", "http://localhost/echo"];
        assert_eq!(curl(&upload), "by file", "{backend:?}");
        drop(server);
    }
}
