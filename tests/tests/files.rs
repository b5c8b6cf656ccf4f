//! Files over real sockets, on both back ends.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, SystemTime};

use gimmal::files::{Embedded, Files};
use gimmal::test::{TestResponse, TestServer};
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Next, Options, Request, StatusCode, Timeouts, files};
use gimmal_tests::{
    Authority, BACKENDS, Client, TlsClient, eventually, on_both, pattern, server, start, trusting,
};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LONG_BYTES: usize = 300_000;

fn set_modified(path: &Path, unix_secs: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(unix_secs)).unwrap();
}

/// A folder `public` with a secret beside it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "top secret").unwrap();
    let public = folder.path().join("public");
    for inner in ["docs", "empty", ".git", ".well-known"] {
        fs::create_dir_all(public.join(inner)).unwrap();
    }
    for (path, text) in [
        ("index.html", "<h1>home</h1>"),
        ("docs/index.html", "<h1>docs</h1>"),
        ("docs/a b.txt", "a space"),
        ("ten.txt", "0123456789"),
        ("nothing.txt", ""),
        (".env", "top secret"),
        (".git/config", "top secret"),
        (".well-known/security.txt", "contact"),
        ("empty/<b>&\"'.txt", "strange"),
        ("empty/.hidden", "top secret"),
    ] {
        fs::write(public.join(path), text).unwrap();
    }
    fs::write(public.join("long.bin"), pattern(0, LONG_BYTES)).unwrap();
    for rested in ["ten.txt", "long.bin"] {
        set_modified(&public.join(rested), 784_111_777);
    }
    folder
}

fn files_of(folder: &tempfile::TempDir) -> Files {
    Files::open(folder.path().join("public")).unwrap()
}

fn get(server: &TestServer, target: &str, headers: &[(&str, &str)]) -> TestResponse {
    let request =
        headers.iter().fold(server.get(target), |request, (name, value)| request.header(name, value));
    request.send().unwrap()
}

fn status(server: &TestServer, target: &str, headers: &[(&str, &str)]) -> u16 {
    get(server, target, headers).status().as_u16()
}

#[test]
fn files_indexes_and_folders() {
    let folder = folder();
    on_both(
        || {
            App::new()
                .get("/own", async || "a route")
                .files("/", files_of(&folder))
                .files("/x/", files_of(&folder))
        },
        |server| {
            for prefix in ["", "/x"] {
                let path = |path: &str| format!("{prefix}{path}");
                let home = get(server, &path("/"), &[]);
                assert_eq!(
                    (home.text(), home.header("content-type")),
                    ("<h1>home</h1>", Some("text/html; charset=utf-8"))
                );
                assert_eq!(get(server, &path("/docs/"), &[]).text(), "<h1>docs</h1>");
                assert_eq!(get(server, &path("/docs/a%20b.txt"), &[]).text(), "a space");
                assert_eq!(get(server, &path("/nothing.txt"), &[]).text(), "");
                let redirect = get(server, &path("/docs?a=b"), &[]);
                assert_eq!(
                    (redirect.status().as_u16(), redirect.header("location")),
                    (307, Some("./docs/?a=b"))
                );
                assert_eq!(status(server, &path("/none"), &[]), 404);
                assert_eq!(status(server, &path("/ten.txt/"), &[]), 404);
                assert_eq!(status(server, &path("/empty/"), &[]), 404);
                assert_eq!(status(server, &path("/empty"), &[]), 404);
            }
            assert_eq!(get(server, "/own", &[]).text(), "a route");
            assert_eq!(get(server, "/x", &[]).header("location"), Some("./x/"));
            assert_eq!(server.post("/ten.txt").send().unwrap().status(), 405);
            let long = get(server, "/long.bin", &[]);
            assert!(*long.bytes() == pattern(0, LONG_BYTES));
            assert_eq!(long.header("content-length"), Some("300000"));
            let head = server.head("/long.bin").send().unwrap();
            for name in ["content-length", "etag", "last-modified", "content-type", "accept-ranges"] {
                assert_eq!(head.header(name), long.header(name), "{name}");
            }
        },
    );
}

#[test]
fn path_traversal_in_any_encoding_finds_nothing() {
    let folder = folder();
    let public = folder.path().join("public");
    symlink(folder.path().join("secret"), public.join("absolute-link")).unwrap();
    symlink("../secret", public.join("relative-link")).unwrap();
    symlink("..", public.join("folder-link")).unwrap();
    symlink("/proc/self/root", public.join("magic-link")).unwrap();
    symlink("loop", public.join("loop")).unwrap();
    symlink("ten.txt", public.join("inner-link")).unwrap();
    let attempts = [
        "/../secret",
        "/docs/../../secret",
        "/..%2fsecret",
        "/%2e%2e/secret",
        "/%2E%2E%2Fsecret",
        "/.%2e/secret",
        "/%252e%252e%252fsecret",
        "/%252e%252e/secret",
        "/..%5csecret",
        "/..\\secret",
        "/%5c..%5csecret",
        "/..%c0%afsecret",
        "/%c0%ae%c0%ae/secret",
        "/%e0%80%ae%e0%80%ae/secret",
        "/..%00/secret",
        "/ten.txt%00.html",
        "/%00",
        "/ten.txt%0a",
        "/....//secret",
        "/..;/secret",
        "/.../secret",
        "/docs/..",
        "/docs/%2e%2e",
        "/.",
        "/%2e",
        "/./secret",
        "//../secret",
        "/docs//..//..//secret",
        "/%u002e%u002e/secret",
        "/%ff",
        "/%",
        "/ten.txt::$DATA",
        "/c:/secret",
        "/file:///etc/passwd",
        "/%2fetc/passwd",
        "/docs%2f..%2f..%2fsecret",
        "/absolute-link",
        "/relative-link",
        "/folder-link/secret",
        "/folder-link/",
        "/magic-link/etc/passwd",
        "/loop",
        "/.env",
        "/.git/config",
        "/%2eenv",
        "/%2egit/config",
        "/.git/",
        "/empty/.hidden",
        "/docs/../.env",
    ];
    for listed in [false, true] {
        on_both(
            || {
                let files = files_of(&folder).fallback_file("index.html");
                App::new().files("/", if listed { files.list_folders() } else { files })
            },
            |server| {
                for attempt in attempts {
                    let mut client = Client::connect(server.address());
                    client.send(format!("GET {attempt} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    let answer = client.message();
                    assert!(matches!(answer.status, 400 | 404), "{attempt}: {answer:?}");
                    assert!(!answer.text().contains("secret"), "{attempt}");
                }
                assert_eq!(get(server, "/inner-link", &[]).text(), "0123456789");
                assert_eq!(get(server, "/.well-known/security.txt", &[]).text(), "contact");
            },
        );
    }
}

#[test]
fn what_is_no_regular_file_is_not_served_and_waits_for_nobody() {
    let folder = folder();
    let pipe = folder.path().join("public/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let socket = std::os::unix::net::UnixListener::bind(folder.path().join("public/socket")).unwrap();
    on_both(
        || {
            let pipe = pipe.clone();
            let one = async move |request: Request| files::file(&request, &pipe).await;
            App::new().get("/one", one).files("/", files_of(&folder))
        },
        |server| {
            for target in ["/pipe", "/socket", "/one"] {
                assert_eq!(status(server, target, &[]), 404, "{target}");
            }
        },
    );
    drop(socket);
}

#[test]
fn conditions() {
    let folder = folder();
    on_both(
        || App::new().files("/", files_of(&folder)),
        |server| {
            let first = get(server, "/ten.txt", &[]);
            let tag = first.header("etag").unwrap().to_owned();
            let weak = format!("W/{tag}");
            assert_eq!(first.header("last-modified"), Some(MODIFIED));
            let (before, after) = ("Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
            let table: &[(&[(&str, &str)], u16)] = &[
                (&[("if-none-match", &tag)], 304),
                (&[("if-none-match", &weak)], 304),
                (&[("if-none-match", "*")], 304),
                (&[("if-none-match", "\"other\"")], 200),
                (&[("if-none-match", "\"other\""), ("if-modified-since", MODIFIED)], 200),
                (&[("if-modified-since", MODIFIED)], 304),
                (&[("if-modified-since", before)], 200),
                (&[("if-modified-since", "never")], 200),
                (&[("if-match", &tag)], 200),
                (&[("if-match", &weak)], 412),
                (&[("if-match", "\"other\"")], 412),
                (&[("if-match", &tag), ("if-unmodified-since", before)], 200),
                (&[("if-unmodified-since", before)], 412),
                (&[("if-unmodified-since", after)], 200),
                (&[("if-match", &tag), ("if-none-match", &tag)], 304),
                (&[("range", "bytes=0-1"), ("if-range", &tag)], 206),
                (&[("range", "bytes=0-1"), ("if-range", MODIFIED)], 206),
                (&[("range", "bytes=0-1"), ("if-range", &weak)], 200),
                (&[("range", "bytes=0-1"), ("if-range", before)], 200),
                (&[("range", "bytes=90-"), ("if-range", "\"other\"")], 200),
                (&[("range", "bytes=90-"), ("if-none-match", &tag)], 304),
                (&[("range", "bytes=90-"), ("if-match", "\"other\"")], 412),
            ];
            for (headers, expected) in table {
                let answer = get(server, "/ten.txt", headers);
                assert_eq!(answer.status().as_u16(), *expected, "{headers:?}");
                if *expected == 304 {
                    assert_eq!((answer.header("etag"), answer.header("content-type")), (Some(&*tag), None));
                    assert!(answer.bytes().is_empty());
                }
            }
        },
    );
}

#[test]
fn ranges() {
    let folder = folder();
    on_both(
        || {
            App::new()
                .files("/", files_of(&folder))
                .files("/in", Embedded::new().file("ten.txt", b"0123456789"))
        },
        |server| {
            for target in ["/ten.txt", "/in/ten.txt"] {
                let table = [
                    ("bytes=0-3", 206, "0123", Some("bytes 0-3/10")),
                    ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
                    ("bytes=4-", 206, "456789", Some("bytes 4-9/10")),
                    ("bytes=9-99, 20-", 206, "9", Some("bytes 9-9/10")),
                    ("bytes=10-", 416, "Range Not Satisfiable", Some("bytes */10")),
                    ("bytes=3-2", 200, "0123456789", None),
                    ("bytes=0-,0-,0-", 200, "0123456789", None),
                    ("seconds=1-2", 200, "0123456789", None),
                ];
                for (range, status, text, content_range) in table {
                    let answer = get(server, target, &[("range", range)]);
                    assert_eq!(
                        (answer.status().as_u16(), answer.text(), answer.header("content-range")),
                        (status, text, content_range),
                        "{target} {range}"
                    );
                }
                let several = get(server, target, &[("range", "bytes=0-1, 4-5,-1")]);
                let media_type = several.header("content-type").unwrap();
                let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
                let part = |range: &str, text: &str| {
                    let media_type = "text/plain; charset=utf-8";
                    format!(
                        "\r\n--{boundary}\r\nContent-Range: bytes {range}/10\r\nContent-Type: {media_type}\r\n\r\n{text}"
                    )
                };
                let parts = [part("0-1", "01"), part("4-5", "45"), part("9-9", "9")].concat();
                assert_eq!(several.text(), format!("{parts}\r\n--{boundary}--\r\n"));
                // RFC 9110 section 14.2: for GET alone.
                let head = server.head(target).header("range", "bytes=0-3").send().unwrap();
                assert_eq!((head.status().as_u16(), head.header("content-length")), (200, Some("10")));
            }
            let (from, to) = (65_500, 200_000);
            let middle = get(server, "/long.bin", &[("range", &format!("bytes={from}-{}", to - 1))]);
            assert!(*middle.bytes() == pattern(from, (to - from) as usize));
        },
    );
}

#[test]
fn curl_resumes_and_revalidates() {
    let folder = folder();
    on_both(
        || App::new().files("/", files_of(&folder)),
        |server| {
            let run = |arguments: &[&str]| {
                let output =
                    Command::new("curl").args(["-sS", "--fail", "--max-time", "30"]).args(arguments).output();
                let output = output.expect("curl is installed: these tests need it");
                assert!(output.status.success(), "{arguments:?}: {output:?}");
                String::from_utf8_lossy(&output.stdout).into_owned()
            };
            let out = tempfile::tempdir().unwrap();
            let (file, tag) = (out.path().join("long.bin"), out.path().join("tag"));
            let (file, tag) = (file.to_str().unwrap(), tag.to_str().unwrap());
            let url = format!("{}/long.bin", server.url());
            fs::write(file, pattern(0, 100_001)).unwrap();
            run(&["--continue-at", "-", "--output", file, &url]);
            assert!(fs::read(file).unwrap() == pattern(0, LONG_BYTES));
            run(&["--etag-save", tag, "--output", file, &url]);
            let again = [
                "--etag-compare",
                tag,
                "--output",
                file,
                "--write-out",
                "%{http_code} %{size_download}",
                &url,
            ];
            assert_eq!(run(&again), "304 0");
            let newer = ["--time-cond", file, "--output", "/dev/null", "--write-out", "%{http_code}", &url];
            assert_eq!(run(&newer), "304");
            let two = run(&["--range", "0-0,-1", &format!("{}/ten.txt", server.url())]);
            assert!(two.contains("\r\n\r\n0\r\n--") && two.contains("\r\n\r\n9\r\n--"), "{two}");
        },
    );
}

#[test]
fn compressed_siblings() {
    let folder = folder();
    let public = folder.path().join("public");
    for (name, text) in [
        ("app.js", "plain"),
        ("app.js.br", "as br"),
        ("app.js.gz", "as gzip"),
        ("app.js.zst", "as zstd"),
        ("old.js", "plain"),
        ("old.js.gz", "stale"),
    ] {
        fs::write(public.join(name), text).unwrap();
    }
    // Tags of files that were just written become others after a moment.
    for name in ["app.js", "app.js.br", "app.js.gz", "app.js.zst", "old.js"] {
        set_modified(&public.join(name), 784_111_778);
    }
    set_modified(&public.join("old.js.gz"), 784_111_777);
    let inside =
        || Embedded::new().file("app.js", b"plain").file("app.js.br", b"as br").file("app.js.gz", b"as gzip");
    on_both(
        || App::new().files("/", files_of(&folder).precompressed()).files("/in", inside()),
        |server| {
            let table = [
                ("/app.js", "gzip, deflate, br, zstd", "as br", Some("br")),
                ("/app.js", "gzip, zstd", "as zstd", Some("zstd")),
                ("/app.js", "gzip;q=1, br;q=0.2", "as gzip", Some("gzip")),
                ("/app.js", "br;q=0, gzip;q=0", "plain", None),
                ("/app.js", "identity", "plain", None),
                ("/old.js", "gzip", "plain", None),
                ("/in/app.js", "gzip, br", "as br", Some("br")),
                ("/in/app.js", "gzip", "as gzip", Some("gzip")),
                ("/in/app.js", "zstd", "plain", None),
            ];
            let mut tags = HashSet::new();
            for (target, accepted, text, coding) in table {
                let answer = get(server, target, &[("accept-encoding", accepted)]);
                assert_eq!(
                    (answer.text(), answer.header("content-encoding")),
                    (text, coding),
                    "{target} {accepted}"
                );
                assert_eq!(answer.header("vary"), Some("accept-encoding"));
                assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
                tags.insert(answer.header("etag").unwrap().to_owned());
            }
            assert_eq!(tags.len(), 8, "each coding has a tag of its own");
            let part = get(server, "/app.js", &[("accept-encoding", "br"), ("range", "bytes=3-")]);
            assert_eq!((part.text(), part.header("content-range")), ("br", Some("bytes 3-4/5")));
        },
    );
}

#[test]
fn cache_control_media_types_and_fallback() {
    let folder = folder();
    on_both(
        || {
            let rules = files_of(&folder)
                .cache_control("docs/*", "max-age=60")
                .cache_control("*", "no-cache")
                .media_type("BIN", "application/x-pattern")
                .fallback_file("index.html");
            let inside = Embedded::new().file("index.html", b"inside").fallback_file("index.html");
            App::new().files("/", rules).files("/in", inside.cache_control("*", "no-store"))
        },
        |server| {
            assert_eq!(get(server, "/docs/", &[]).header("cache-control"), Some("max-age=60"));
            assert_eq!(get(server, "/ten.txt", &[]).header("cache-control"), Some("no-cache"));
            assert_eq!(get(server, "/long.bin", &[]).header("content-type"), Some("application/x-pattern"));
            let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
            for (target, text) in
                [("/people/7", "<h1>home</h1>"), ("/in/people/7", "inside"), ("/in/", "inside")]
            {
                assert_eq!(get(server, target, &browser).text(), text);
            }
            assert_eq!(status(server, "/people/7", &[("accept", "application/json")]), 404);
            assert_eq!(status(server, "/in/people/7", &[]), 404);
            assert_eq!(status(server, "/.env", &browser), 404);
            assert_eq!(get(server, "/in", &[]).header("location"), Some("./in/"));
            assert_eq!(get(server, "/in/", &[]).header("cache-control"), Some("no-store"));
        },
    );
}

#[test]
fn script_in_the_name_of_a_file_is_escaped_in_the_listing() {
    let folder = folder();
    on_both(
        || App::new().files("/", files_of(&folder).list_folders()),
        |server| {
            let listing = get(server, "/empty/", &[]);
            assert_eq!(listing.header("content-type"), Some("text/html; charset=utf-8"));
            let page = listing.text();
            assert!(page.contains(">&lt;b&gt;&amp;&quot;&#39;.txt</a>"), "{page}");
            assert!(!page.contains("<b>") && !page.contains("hidden"), "{page}");
            let link = page.split("href=\"./").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            assert_eq!(get(server, &format!("/empty/{link}"), &[]).text(), "strange");
            assert_eq!(get(server, "/empty", &[]).header("location"), Some("./empty/"));
            assert_eq!(get(server, "/", &[]).text(), "<h1>home</h1>", "an index file comes first");
        },
    );
}

/// All that a listing shows can be asked for, whatever it is called, and what cannot is not shown.
#[test]
fn each_link_of_a_listing_leads_to_what_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let served = [
        "plain.txt",
        "a b",
        "caf\u{e9}",
        "100%.txt",
        "50%+1",
        "%zz",
        "a|b[1]",
        "<b>&\"'.txt",
        "a?b#c",
        "a;b=c,d",
        "...dots".trim_start_matches('.'),
        "~user",
        "{x}^`",
        "\u{1f600}",
        "trailing.",
    ];
    let never = [
        "a:b",
        "2026-11-29T22:54:10.log",
        "a\\b",
        "a\nb",
        "a\tb",
        "a\u{7f}",
        "100%25.txt",
        "100%2F.txt",
        "%2e%2e",
        "...",
    ];
    for name in served.iter().chain(&never) {
        fs::write(folder.path().join(name), name).unwrap();
    }
    for name in ["sub", "sub folder", "c:", "d\\e", "%2e", ".well-known", ".git"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("inner:file"), "").unwrap();
    }
    for mount in ["", "/deep/down"] {
        on_both(
            || App::new().files(&format!("{mount}/"), Files::open(&folder).unwrap().list_folders()),
            |server| {
                let page = get(server, &format!("{mount}/"), &[]);
                let links: Vec<_> = page
                    .text()
                    .split("href=\"./")
                    .skip(1)
                    .map(|rest| rest.split('"').next().unwrap())
                    .collect();
                for link in &links {
                    assert_eq!(status(server, &format!("{mount}/{link}"), &[]), 200, "{link}");
                }
                let folders = ["sub/", "sub%20folder/", ".well-known/"];
                assert_eq!(links.len(), served.len() + folders.len(), "{links:?}");
                for folder in folders {
                    assert!(links.contains(&folder), "{folder} {links:?}");
                    assert!(!get(server, &format!("{mount}/{folder}"), &[]).text().contains("inner"));
                }
            },
        );
    }
}

/// Who serves a folder, and guards one within it, guards it under each name that the outer one has for it.
#[test]
fn no_other_spelling_of_a_path_gets_around_the_middleware_of_an_inner_folder() {
    let folder = folder();
    let public = folder.path().join("public");
    let inner = ["docs", "c++", "@team", "a,b", "a b", "$x&y=(z)!*';", "|[p]", "\"q<r>^s`{t}"];
    for name in inner {
        fs::create_dir_all(public.join(name)).unwrap();
        fs::write(public.join(name).join("file.txt"), "guarded").unwrap();
    }
    let refuse = async |_: Request, _: Next| StatusCode::FORBIDDEN;
    on_both(
        || {
            let app = App::new().files("/", files_of(&folder));
            inner.iter().fold(app, |app, name| {
                let guarded = App::new().with(refuse);
                let pattern = name.replace('{', "{{").replace('}', "}}");
                app.nest(&format!("/{pattern}"), guarded.files("/", Files::open(public.join(name)).unwrap()))
            })
        },
        |server| {
            for name in inner {
                let all: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
                let reserved: String = name
                    .bytes()
                    .map(|byte| match byte {
                        b'a'..=b'z' => char::from(byte).to_string(),
                        _ => format!("%{byte:02X}"),
                    })
                    .collect();
                for spelled in [name.replace(' ', "%20"), all, reserved] {
                    for path in [
                        format!("/{spelled}/file.txt"),
                        format!("//{spelled}/file.txt"),
                        format!("///{spelled}//file.txt"),
                        format!("/{spelled}//file.txt"),
                        format!("/./{spelled}/file.txt"),
                        format!("/%2e/{spelled}/file.txt"),
                        format!("/%2F{spelled}/file.txt"),
                        format!("/{spelled}%2Ffile.txt"),
                    ] {
                        let answer = get(server, &path, &[]);
                        assert!(!answer.text().contains("guarded"), "{path}");
                    }
                }
                let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
                assert_eq!(status(server, &format!("/{escaped}/file.txt"), &[]), 403, "{name}");
            }
        },
    );
}

/// RFC 9110 section 8.8.1: a tag that two states of a file share is weak, and nobody keeps the first of them for long.
#[test]
fn two_writes_within_a_tick_of_the_clock_share_no_strong_tag() {
    let folder = folder();
    let age = |path: &Path, by: Duration| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    };
    let count = Cell::new(0);
    for stale_after in [Duration::ZERO, Duration::from_secs(3600)] {
        on_both(
            || App::new().files("/", files_of(&folder).stale_after(stale_after)),
            |server| {
                for length in [5, 20_000] {
                    // One that was asked for before may be kept open.
                    let name = format!("/fresh-{}", count.replace(count.get() + 1));
                    let fresh = folder.path().join(format!("public{name}"));
                    fs::write(&fresh, "a".repeat(length)).unwrap();
                    let first = get(server, &name, &[]);
                    let first = first.header("etag").unwrap();
                    assert!(first.starts_with("W/"), "{first}");
                    // As if the clock had not moved between two writes: what the second is called later is new.
                    age(&fresh, Duration::from_secs(3));
                    let second = get(server, &name, &[("if-none-match", first)]);
                    assert_eq!(second.status(), 200);
                    let second = second.header("etag").unwrap();
                    assert!(second.starts_with('"'), "{second}");
                    assert_eq!(status(server, &name, &[("if-none-match", second)]), 304);
                    // Whoever writes may set the time back; the kernel's own tells.
                    let modified = fs::metadata(&fresh).unwrap().modified().unwrap();
                    std::thread::sleep(Duration::from_millis(20));
                    fs::write(&fresh, "b".repeat(length)).unwrap();
                    fs::File::options().write(true).open(&fresh).unwrap().set_modified(modified).unwrap();
                    let third = get(server, &name, &[("if-none-match", second)]);
                    assert_eq!(third.text(), "b".repeat(length));
                    assert_ne!(third.header("etag"), Some(second));
                }
            },
        );
    }
}

/// A tag becomes strong by itself, kept open or not.
#[test]
fn the_tag_of_a_file_that_has_come_to_rest_is_strong() {
    let folder = folder();
    let fresh = folder.path().join("public/fresh");
    on_both(
        || App::new().files("/", files_of(&folder).stale_after(Duration::from_secs(3600))),
        |server| {
            fs::write(&fresh, "content").unwrap();
            let tag = || get(server, "/fresh", &[]).header("etag").unwrap().to_owned();
            let weak = tag();
            assert!(weak.starts_with("W/"), "{weak}");
            eventually("it is strong", || tag().starts_with('"'));
            assert_eq!(
                status(server, "/fresh", &[("if-none-match", &weak)]),
                200,
                "it may be of an earlier state"
            );
            assert_eq!(status(server, "/fresh", &[("if-none-match", &tag())]), 304);
            fs::remove_file(&fresh).unwrap();
        },
    );
}

#[test]
fn replaced_and_removed_files_are_noticed() {
    let folder = folder();
    let public = folder.path().join("public");
    for stale_after in [Duration::ZERO, Duration::from_millis(200)] {
        on_both(
            || App::new().files("/", files_of(&folder).stale_after(stale_after)),
            |server| {
                fs::write(public.join("new"), "first").unwrap();
                let first = get(server, "/new", &[]);
                assert_eq!(first.text(), "first");
                fs::write(public.join("next"), "second").unwrap();
                fs::rename(public.join("next"), public.join("new")).unwrap();
                eventually("the new file is served", || get(server, "/new", &[]).text() == "second");
                assert_ne!(get(server, "/new", &[]).header("etag"), first.header("etag"));
                // What is written in place shows at once, cached or not.
                fs::write(public.join("new"), "in place").unwrap();
                assert_eq!(get(server, "/new", &[]).text(), "in place");
                fs::remove_file(public.join("new")).unwrap();
                eventually("the file is gone", || status(server, "/new", &[]) == 404);
            },
        );
    }
}

/// Nothing is kept open of a file that was removed, once it is stale.
#[test]
fn removed_files_give_their_descriptors_back() {
    let folder = folder();
    let removed = folder.path().join("public/removed");
    let open = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|target| target.starts_with(&removed))
            .count()
    };
    let deleted = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let name = format!("{} (deleted)", removed.display());
        all.filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|target| target.to_str() == Some(&name))
            .count()
    };
    on_both(
        || App::new().files("/", files_of(&folder).stale_after(Duration::from_millis(100))),
        |server| {
            fs::write(&removed, "here").unwrap();
            assert_eq!(get(server, "/removed", &[]).text(), "here");
            fs::remove_file(&removed).unwrap();
            eventually("the file is closed", || open() + deleted() == 0);
        },
    );
}

/// Clients in parallel get one state of the file or the other, byte for byte, while it is replaced all the time.
#[test]
fn files_that_are_replaced_while_they_are_sent_stay_whole() {
    // One that is kept in memory, and one that the kernel sends.
    for bytes in [5_000, 700_000] {
        replaced_while_sent(bytes);
    }
}

fn replaced_while_sent(bytes: usize) {
    const STATES: usize = 4;
    let folder = folder();
    let public = folder.path().join("public");
    let state = |number: usize| -> Vec<u8> { vec![b'a' + number as u8; bytes + number] };
    let replace = |number: usize| {
        fs::write(public.join(".next"), state(number % STATES)).unwrap();
        fs::rename(public.join(".next"), public.join("state")).unwrap();
    };
    on_both(
        || App::new().files("/", files_of(&folder).stale_after(Duration::from_millis(5))),
        |server| {
            replace(0);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let clients: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut seen = HashSet::new();
                            let mut asked = 0;
                            // Whoever is quick asks on until the file was replaced.
                            while asked < 40 || seen.len() < 2 {
                                asked += 1;
                                let body = get(server, "/state", &[]).bytes().clone();
                                let number = body.len() - bytes;
                                assert!(*body == state(number), "state {number} is torn");
                                seen.insert(number);
                            }
                        })
                    })
                    .collect();
                scope.spawn(|| {
                    for number in 1.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        replace(number);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
                let ended: Vec<_> = clients.into_iter().map(ScopedJoinHandle::join).collect();
                done.store(true, Ordering::Relaxed);
                assert!(ended.iter().all(Result::is_ok));
            });
        },
    );
}

#[test]
fn a_file_that_shrinks_in_the_middle_ends_the_connection() {
    const BYTES: u64 = 64 << 20;
    let folder = folder();
    let path = folder.path().join("public/shrinks");
    for (backend, in_memory) in BACKENDS.into_iter().flat_map(|backend| [(backend, false), (backend, true)]) {
        let server = start(server(App::new().files("/", files_of(&folder)), backend));
        fs::File::create(&path).unwrap().set_len(BYTES).unwrap();
        if in_memory {
            fs::read(&path).unwrap();
        }
        let mut client = Client::connect(server.address());
        client.send("GET /shrinks HTTP/1.1\r\nHost: a\r\n\r\n");
        // It reads nothing until the file is short, so most of it is still to be read then.
        std::thread::sleep(Duration::from_millis(100));
        fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
        let mut received = 0;
        let mut stream = client.stream();
        let mut buffer = vec![0; 1 << 20];
        while let Ok(read @ 1..) = std::io::Read::read(&mut stream, &mut buffer) {
            received += read as u64;
        }
        assert!((1000..BYTES).contains(&received), "{backend:?}, {in_memory}: {received} bytes came");
        assert_eq!(get(&server, "/shrinks", &[]).bytes().len(), 1000);
    }
}

/// Clients that take nothing hold up neither others nor the memory of the server, and get all of it when they do.
#[test]
fn slow_readers_wait_alone() {
    const CLIENTS: usize = 8;
    const BYTES: usize = 24 << 20;
    let folder = folder();
    fs::write(folder.path().join("public/large"), pattern(0, BYTES)).unwrap();
    on_both(
        || App::new().files("/", files_of(&folder)),
        |server| {
            let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(server.address())).collect();
            for client in &mut clients {
                client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            let sent = || server.handle().counters().sent_bytes;
            eventually("all of them are being sent to", || sent() > 1 << 20);
            for _ in 0..20 {
                assert_eq!(get(server, "/ten.txt", &[]).text(), "0123456789");
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(sent() < (CLIENTS * BYTES) as u64, "the rest waits for the clients");
            for mut client in clients {
                assert!(client.message().body == pattern(0, BYTES));
                assert_eq!(client.get("/ten.txt").text(), "0123456789");
            }
            assert!(server.handle().counters().file_sends >= (CLIENTS * BYTES) as u64 / (1 << 20));
        },
    );
}

#[test]
fn a_file_that_is_not_in_memory_is_sent_from_the_disk() {
    const BYTES: usize = 3_000_000;
    let folder = folder();
    let path = folder.path().join("public/cold");
    fs::write(&path, pattern(0, BYTES)).unwrap();
    fs::File::open(&path).unwrap().sync_all().unwrap();
    on_both(
        || App::new().files("/", files_of(&folder)),
        |server| {
            let mut input = std::ffi::OsString::from("if=");
            input.push(&path);
            let drop_from_memory = Command::new("dd").arg(input).args(["iflag=nocache", "count=0"]).output();
            assert!(drop_from_memory.unwrap().status.success());
            let before = server.handle().counters();
            assert!(*get(server, "/cold", &[]).bytes() == pattern(0, BYTES));
            let counters = server.handle().counters() - before;
            assert!(counters.file_sends_from_disk > 0, "{counters:?}");
        },
    );
}

/// A client that goes, and one that is too slow, leave nothing behind.
#[test]
fn a_download_that_ends_early_is_let_go() {
    let folder = folder();
    fs::File::create(folder.path().join("public/large")).unwrap().set_len(64 << 20).unwrap();
    for backend in BACKENDS {
        let timeouts = Timeouts {
            grace: Duration::from_millis(300),
            rate_min_bytes: 100_000_000,
            ..Timeouts::default()
        };
        let app = App::new().files("/", files_of(&folder));
        let server = start(server(app, backend).timeouts(timeouts));
        let mut clients: Vec<_> = (0..6).map(|_| Client::connect(server.address())).collect();
        for client in &mut clients {
            client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.head().unwrap().header("content-length"), Some("67108864"));
        }
        clients.truncate(3);
        eventually("those that went are forgotten", || server.handle().counters().open == 3);
        eventually("those that take nothing are ended", || server.handle().counters().open == 0);
        for mut client in clients {
            let mut rest = Vec::new();
            let ended = std::io::Read::read_to_end(client.stream_mut(), &mut rest);
            assert!(ended.is_err() && rest.len() < 64 << 20, "{backend:?}: it ends with a reset");
        }
    }
}

static OWN: [u8; 8 << 20] = [b'o'; 8 << 20];

/// Small files, large ones and others in one batch of requests, on more connections than keep a descriptor.
#[test]
fn files_come_in_the_order_in_which_they_were_asked_for() {
    let folder = folder();
    for backend in BACKENDS {
        // The sockets that files were sent to take what does not fit into them at once as well.
        let app = App::new().get("/own", async || &OWN[..]).files("/", files_of(&folder));
        let options = Options { connections_max: 16, ..Options::default() };
        let server = start(server(app, backend).options(options));
        let mut clients: Vec<_> = (0..6).map(|_| Client::connect(server.address())).collect();
        let targets = ["/long.bin", "/ten.txt", "/long.bin", "/own", "/nothing.txt", "/long.bin"];
        for client in &mut clients {
            for target in targets {
                client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            }
            client.send("GET /long.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        }
        for mut client in clients {
            for target in targets.into_iter().chain(["/long.bin"]) {
                let expected = match target {
                    "/long.bin" => pattern(0, LONG_BYTES),
                    "/ten.txt" => b"0123456789".to_vec(),
                    "/own" => OWN.to_vec(),
                    _ => Vec::new(),
                };
                assert!(client.message().body == expected, "{backend:?} {target}");
            }
            // The descriptor that files are sent to keeps nothing open.
            client.ended().unwrap();
        }
        eventually("all connections are closed", || server.handle().counters().open == 0);
    }
}

/// Over TLS a file is read and encrypted.
#[test]
fn files_over_tls() {
    let folder = folder();
    let authority = Authority::new("the root");
    let tls = TlsServerConfig::builder().certificate(authority.server(&["localhost"]).key()).build().unwrap();
    for backend in BACKENDS {
        let app = App::new().files("/", files_of(&folder));
        let running = server(app, backend).bind_tls("127.0.0.1:0", &tls).signals(false).start().unwrap();
        let address = running.addresses()[0].as_tcp().unwrap();
        let mut client = TlsClient::connect_tls(address, "localhost", &trusting(authority.pem())).unwrap();
        for _ in 0..3 {
            assert!(client.get("/long.bin").body == pattern(0, LONG_BYTES), "{backend:?}");
            assert_eq!(client.get("/ten.txt").text(), "0123456789");
        }
        assert_eq!(running.handle().counters().file_sends, 0, "{backend:?}");
        drop(client);
        running.handle().shutdown();
        running.join().unwrap();
    }
}

/// The root may be a link to the release of the day.
#[test]
fn the_folder_itself_may_be_replaced() {
    let folder = folder();
    for release in ["one", "two"] {
        fs::create_dir(folder.path().join(release)).unwrap();
        fs::write(folder.path().join(release).join("name"), release).unwrap();
    }
    let current = folder.path().join("current");
    on_both(
        || {
            let _ = fs::remove_file(&current);
            symlink("one", &current).unwrap();
            App::new().files("/", Files::open(&current).unwrap().stale_after(Duration::from_millis(20)))
        },
        |server| {
            assert_eq!(get(server, "/name", &[]).text(), "one");
            symlink("two", folder.path().join("next")).unwrap();
            fs::rename(folder.path().join("next"), &current).unwrap();
            eventually("the new release is served", || get(server, "/name", &[]).text() == "two");
        },
    );
    let missing = Files::open(folder.path().join("none")).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn one_file() {
    let folder = folder();
    on_both(
        || {
            let path = folder.path().join("public/ten.txt");
            let none = folder.path().join("none");
            App::new()
                .get("/one", async move |request: Request| files::file(&request, &path).await)
                .get("/none", async move |request: Request| files::file(&request, &none).await)
        },
        |server| {
            let one = get(server, "/one", &[]);
            assert_eq!((one.text(), one.header("last-modified")), ("0123456789", Some(MODIFIED)));
            assert_eq!(one.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(get(server, "/one", &[("range", "bytes=2-3")]).text(), "23");
            assert_eq!(status(server, "/one", &[("if-none-match", one.header("etag").unwrap())]), 304);
            assert_eq!(status(server, "/none", &[]), 404);
        },
    );
}

/// A service's own tests may ask for files without a server.
#[tokio::test(flavor = "current_thread")]
async fn files_in_memory() {
    let folder = folder();
    let client = gimmal::test::TestClient::new(App::new().files("/", files_of(&folder))).unwrap();
    assert_eq!(client.get("/ten.txt").send().await.text(), "0123456789");
    assert_eq!(client.get("/ten.txt").header("range", "bytes=1-2").send().await.text(), "12");
}
