//! Forms with files, over real sockets on both back ends.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use gimmal::compression::Decompression;
use gimmal::multipart::{Multipart, MultipartLimits};
use gimmal::test::{TestResponse, TestServer};
use gimmal::{App, Error, post};
use gimmal_tests::{Client, Process, checksum, eventually, on_both, pattern};

/// Says what came: texts as they are, files by length and checksum.
async fn describe(mut form: Multipart, folder: PathBuf) -> Result<String, Error> {
    let mut said = Vec::new();
    while let Some(mut field) = form.next_field().await? {
        let name = field.name().expect("each has one").to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let media_type = field.content_type().unwrap_or("none").to_owned();
        if name == "skipped" {
            continue;
        }
        said.push(match file_name {
            Some(file_name) => {
                let saved = field.save_in(&folder, 50 << 20).await?;
                let bytes = fs::read(saved.file.path())?;
                assert_eq!(bytes.len() as u64, saved.length);
                let sum = checksum::add(checksum::BEGIN, &bytes);
                format!("{name}={file_name}:{media_type}:{}:{sum:x}", saved.length)
            }
            None => format!("{name}={}", field.text(100).await?),
        });
    }
    Ok(said.join("&"))
}

fn app(folder: &tempfile::TempDir) -> App {
    let folder = folder.path().to_owned();
    let upload = async move |form: Multipart| describe(form, folder.clone()).await;
    let two_parts = MultipartLimits { parts: 2, ..MultipartLimits::default() };
    App::new()
        .route("/", post(upload.clone()).body_limit(u64::MAX))
        .route("/little", post(upload.clone()).body_limit(1000))
        .route("/two", post(async move |form: Multipart| upload(form.limits(two_parts)).await))
        .route(
            "/packed",
            post(async |mut form: Multipart| {
                Ok::<_, Error>(match form.next_field().await? {
                    Some(mut field) => field.bytes(u64::MAX).await?.len().to_string(),
                    None => "none".to_owned(),
                })
            })
            .with(Decompression::new()),
        )
}

fn send(server: &TestServer, target: &str, body: impl Into<Vec<u8>>) -> TestResponse {
    let media_type = "multipart/form-data; boundary=b";
    server.post(target).header("content-type", media_type).body(body.into()).send().unwrap()
}

fn field(name: &str, content: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
}

fn left_over(folder: &tempfile::TempDir) -> usize {
    fs::read_dir(folder.path()).unwrap().count()
}

#[test]
fn texts_and_files_from_curl() {
    let folder = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    let large = pattern(0, 20 << 20);
    fs::write(source.path().join("large.bin"), &large).unwrap();
    fs::write(source.path().join("empty.txt"), "").unwrap();
    on_both(
        || app(&folder),
        |server| {
            let at = |name: &str| source.path().join(name).display().to_string();
            let output = Command::new("curl")
                .args(["-sS", "--fail", "--max-time", "60", "-F", "title=A \u{e9}", "-F", "skipped=not read"])
                .args(["-F", &format!("file=@{}", at("large.bin"))])
                .args(["-F", &format!("skipped=@{}", at("large.bin"))])
                .args(["-F", &format!("file=@{};filename=../../x", at("empty.txt"))])
                .args(["-F", "last=1", &server.url()])
                .output()
                .expect("curl is installed: these tests need it");
            let sum = checksum::add(checksum::BEGIN, &large);
            let expected = format!(
                "title=A \u{e9}&file=large.bin:application/octet-stream:{}:{sum:x}&file=../../x:text/plain:0:{:x}&last=1",
                large.len(),
                checksum::BEGIN
            );
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
            assert_eq!(left_over(&folder), 0, "files are removed when the handler is done with them");
        },
    );
}

/// RFC 7578 section 4.1, with a preamble and an epilogue (RFC 2046 section 5.1.1), byte by byte.
#[test]
fn a_form_that_comes_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let body =
        format!("preamble\r\n{}{}--b--\r\nepilogue", field("a", "1\r\n--not the boundary"), field("c", ""));
    on_both(
        || app(&folder),
        |server| {
            let mut client = Client::connect(server.address());
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=\"b\"\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            for byte in body.bytes() {
                client.send([byte]);
            }
            assert_eq!(client.message().text(), "a=1\r\n--not the boundary&c=");
        },
    );
}

#[test]
fn what_is_malformed_or_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    on_both(
        || app(&folder),
        |server| {
            let part = |headers: &str| format!("--b\r\n{headers}\r\n\r\n1\r\n--b--");
            let table: [(&str, String, u16); 20] = [
                ("/", format!("{}--b--", field("a", "1")), 200),
                ("/", field("a", "1"), 400),
                ("/", String::new(), 400),
                ("/", "no boundary at all".to_owned(), 400),
                ("/", format!("--b\r\n: : :\r\n\r\n1\r\n{}--b--", field("a", "1")), 400),
                ("/", format!("{}--b--", field("a", &"x".repeat(101))), 413),
                ("/little", format!("{}--b--", field("skipped", &"x".repeat(1000))), 413),
                ("/", format!("--b\r\nX: {}", "x".repeat(1 << 20)), 431),
                ("/", "x".repeat(1 << 20), 431),
                ("/", field("skipped", "").repeat(10_001), 413),
                // What could only be read with a loss.
                ("/", part("Content-Type: text/plain"), 400),
                ("/", part("Content-Disposition: form-data"), 400),
                ("/", part("Content-Disposition: form-data; filename=\"a\""), 400),
                ("/", part("Content-Disposition: form-data; name=\"a"), 400),
                ("/", part("Content-Disposition: form-data; name=\"a\"; name=\"b\""), 400),
                ("/", part("Content-Disposition: form-data; name=\"a\"; filename*=utf-8''%"), 400),
                ("/", part("Content-Disposition: form-data; name=\"a\"; filename*0=\"b\""), 400),
                ("/", part("Content-Disposition: attachment; name=\"a\""), 400),
                (
                    "/",
                    part("Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64"),
                    400,
                ),
                ("/", format!("{}--b--x", field("a", "1")), 400),
            ];
            for (target, body, status) in table {
                let answer = send(server, target, body.clone());
                let begin = &body[..body.len().min(80)];
                assert_eq!(answer.status(), status, "{begin} {}", answer.text());
                assert!(
                    answer.text().len() > "Bad Request".len() || status == 200,
                    "{begin} {}",
                    answer.text()
                );
            }
            let nameless = send(server, "/", part("Content-Disposition: form-data"));
            assert_eq!(nameless.text(), "a part has no name");
            let long = "x".repeat(71);
            for parameters in [
                "",
                "; boundary=",
                "; boundary=\"b",
                "; boundary=b; boundary=c",
                "; boundary=\"b \"",
                &format!("; boundary={long}"),
            ] {
                let media_type = format!("multipart/form-data{parameters}");
                let refused =
                    server.post("/").header("content-type", &media_type).body("--b--").send().unwrap();
                assert_eq!(refused.status(), 400, "{parameters}");
            }
            let plain = server.post("/").header("content-type", "text/plain").body("a").send().unwrap();
            assert_eq!(plain.status(), 415);
            let bare =
                server.post("/").header("content-type", "multipart/form-data").body("a").send().unwrap();
            assert_eq!(bare.status(), 400);
            assert_eq!(left_over(&folder), 0);
        },
    );
}

#[test]
fn the_limits_of_a_form_are_those_that_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    on_both(
        || app(&folder),
        |server| {
            let form = |parts: usize| format!("{}--b--", field("a", "1").repeat(parts));
            assert_eq!(send(server, "/two", form(2)).text(), "a=1&a=1");
            let refused = send(server, "/two", form(3));
            assert_eq!((refused.status().as_u16(), refused.text()), (413, "the form has too many parts"));
        },
    );
}

/// What is wrong with a body is told as such, and not as a fault of the form.
#[test]
fn a_packed_form_that_is_broken_or_a_bomb_has_the_status_of_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let pack = |form: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(form.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let (good, bomb) = (pack(&format!("{}--b--", field("a", "1"))), pack(&field("a", &"x".repeat(20 << 20))));
    on_both(
        || app(&folder),
        |server| {
            let send = |body: &[u8]| {
                let request =
                    server.post("/packed").header("content-type", "multipart/form-data; boundary=b");
                request.header("content-encoding", "gzip").body(body.to_vec()).send().unwrap()
            };
            assert_eq!(send(&good).text(), "1");
            assert_eq!(send(&bomb).status(), 413);
            let cut = send(&good[..good.len() - 20]);
            assert_eq!(cut.status(), 400);
            assert!(cut.text().contains("content coding"), "{}", cut.text());
            assert_eq!(send(b"not packed").status(), 400);
        },
    );
}

#[test]
fn a_flood_of_little_fields_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let many = (0..5_000).map(|number| field("skipped", &number.to_string())).collect::<String>();
    let body = format!("{many}{}--b--", field("last", "1"));
    on_both(|| app(&folder), |server| assert_eq!(send(server, "/", body.clone()).text(), "last=1"));
}

/// The field, and the file if it is one, of a Content-Disposition in bytes.
fn named(server: &TestServer, parameters: &[u8]) -> String {
    let head = [b"--b\r\nContent-Disposition: form-data; ", parameters, b"\r\n\r\n1\r\n--b--\r\n"].concat();
    let answer = send(server, "/", head);
    assert_eq!(answer.status(), 200, "{}: {}", String::from_utf8_lossy(parameters), answer.text());
    answer.text().to_owned()
}

/// RFC 2046, 2183, 7578 and 8187, and what browsers make of them.
#[test]
fn no_name_and_no_file_is_lost_however_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!(":none:1:{:x}", checksum::add(checksum::BEGIN, b"1"));
    on_both(
        || app(&folder),
        |server| {
            let table: [(&[u8], &str); 13] = [
                (b"Name=\"f\"; FileName=\"a.txt\"", "f=a.txt"),
                (b"name=\"f\"; filename*=utf-8''na%C3%AFve.txt", "f=na\u{ef}ve.txt"),
                (b"filename*=UTF-8''b.txt; filename=\"a.txt\"; name=f", "f=b.txt"),
                (b"name=\"f\"; filename=\"\xe9.txt\"", "f=\u{fffd}.txt"),
                ("name=\"f\"; filename=\"\u{e9}.txt\"".as_bytes(), "f=\u{e9}.txt"),
                (b"filename=\"x; name=evil\"; name=\"real\"", "real=x; name=evil"),
                (b"name=\"f\"; filename=\"a%22b.txt\"", "f=a\"b.txt"),
                (b"name=\"f\"; filename=\"a\\\"b.txt\"", "f=a\"b.txt"),
                (b"name=\"f\"; filename=\"C:\\dir\\a.txt\"", "f=C:\\dir\\a.txt"),
                (b"name=\"f\"; filename=\"a\\\"", "f=a\\"),
                (b"name=\"f\\\"; filename=\"a\"", "f\\=a"),
                (b"namespace=1; name=\"f\"; filename=\"\"", "f="),
                (b"name=f ;filename = a.txt;", "f=a.txt"),
            ];
            for (parameters, expected) in table {
                assert_eq!(named(server, parameters), format!("{expected}{file}"));
            }
            assert_eq!(named(server, b"name=\"x; filename=y\""), "x; filename=y=1", "this is no file");
            assert_eq!(named(server, b"namespace=1; name=\"f\""), "f=1");
            assert_eq!(left_over(&folder), 0);
        },
    );
}

/// RFC 2046 section 5.1.1: a boundary begins a line, and fills it but for blanks.
#[test]
fn text_before_the_first_boundary_may_look_like_one() {
    let folder = tempfile::tempdir().unwrap();
    on_both(
        || app(&folder),
        |server| {
            let form = format!("{}--b--", field("a", "1\r\n--bc"));
            for preamble in ["--", "-- text", "text --b", "--bc", "--b text", "\n--b\n"] {
                let answer = send(server, "/", format!("{preamble}\r\n{form}"));
                assert_eq!(answer.text(), "a=1\r\n--bc", "{preamble:?}");
            }
        },
    );
}

/// What stands before a form is nobody's, but a form that is all preamble may be one with other ends of lines.
#[test]
fn a_form_whose_parts_are_all_taken_for_a_preamble_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    on_both(
        || app(&folder),
        |server| {
            for end in ["--b--", "\r\n--b--\r\n"] {
                let answer = send(server, "/", end);
                assert_eq!((answer.status().as_u16(), answer.text()), (200, ""), "{end:?}");
            }
            let lines = field("a", "1").replace("\r\n", "\n");
            for form in [format!("{lines}\r\n--b--"), format!("{lines}{}--b--", field("b", "2"))] {
                let answer = send(server, "/", form.clone());
                assert_eq!(answer.status(), 400, "{form:?} {}", answer.text());
            }
        },
    );
}

/// Files of a folder that processes hold open, the name of each gone or not.
fn held_open(folder: &Path) -> usize {
    let is_number = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().is_ok();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(is_number);
    let descriptors =
        processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter(|target| target.starts_with(folder))
        .count()
}

/// A client that goes in the middle of a file leaves nothing behind.
#[test]
fn an_upload_that_is_cut_off_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    on_both(
        || app(&folder),
        |server| {
            let mut client = Client::connect(server.address());
            client.send(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\
                 \r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n",
            );
            client.send(vec![b'x'; 500_000]);
            eventually("the file is begun", || held_open(folder.path()) == 1);
            drop(client);
            eventually("the file is gone", || held_open(folder.path()) == 0);
            assert_eq!(left_over(&folder), 0);
        },
    );
}

/// Neither the file that is coming nor the one that has come is left of a server that is killed.
#[test]
fn a_server_that_is_killed_in_an_upload_leaves_no_file() {
    for backend in ["io_uring", "epoll"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_upload_server"));
        let mut server = Process::announcing(command.arg(backend).arg(folder.path()));
        let mut client = Client::connect(server.announced().parse().unwrap());
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\
             \r\n--b\r\nContent-Disposition: form-data; name=f; filename=first\r\n\r\nall of it\r\n--b\r\n\
             Content-Disposition: form-data; name=f; filename=second\r\n\r\n",
        );
        client.send(vec![b'x'; 500_000]);
        eventually("both files are begun", || held_open(folder.path()) == 2);
        server.kill();
        assert_eq!(left_over(&folder), 0, "{backend}");
    }
}
