//! Forms with files, over real sockets on both back ends.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use gimmal::multipart::Multipart;
use gimmal::test::{TestResponse, TestServer};
use gimmal::{App, Error, post};
use gimmal_tests::{Client, checksum, on_both, pattern};

/// Says what came: texts as they are, files by length and checksum.
async fn describe(mut form: Multipart, folder: PathBuf) -> Result<String, Error> {
    let mut said = Vec::new();
    while let Some(mut field) = form.next_field().await? {
        let name = field.name().unwrap_or("nameless").to_owned();
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
    App::new()
        .route("/", post(upload.clone()).body_limit(u64::MAX))
        .route("/little", post(upload).body_limit(1000))
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
            let table: [(&str, String, u16); 9] = [
                ("/", format!("{}--b--", field("a", "1")), 200),
                ("/", field("a", "1"), 400),
                ("/", String::new(), 400),
                ("/", "no boundary at all".to_owned(), 400),
                ("/", format!("--b\r\n: : :\r\n\r\n1\r\n{}--b--", field("a", "1")), 400),
                ("/", format!("{}--b--", field("a", &"x".repeat(101))), 413),
                ("/little", format!("{}--b--", field("skipped", &"x".repeat(1000))), 413),
                ("/", format!("--b\r\nX: {}", "x".repeat(1 << 20)), 431),
                ("/", "x".repeat(1 << 20), 431),
            ];
            for (target, body, status) in table {
                let answer = send(server, target, body.clone());
                assert_eq!(answer.status(), status, "{} {}", &body[..body.len().min(80)], answer.text());
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
fn a_flood_of_little_fields_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let many = (0..5_000).map(|number| field("skipped", &number.to_string())).collect::<String>();
    let body = format!("{many}{}--b--", field("last", "1"));
    on_both(|| app(&folder), |server| assert_eq!(send(server, "/", body.clone()).text(), "last=1"));
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
            gimmal_tests::eventually("the file is begun", || left_over(&folder) == 1);
            drop(client);
            gimmal_tests::eventually("the file is removed", || left_over(&folder) == 0);
        },
    );
}
