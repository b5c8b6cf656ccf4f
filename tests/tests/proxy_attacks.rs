//! Attacks through the reverse proxy, from clients and from upstreams, on both back ends.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gimmal::client::ClientOptions;
use gimmal::proxy::Proxy;
use gimmal::{App, Request};
use gimmal_tests::peers::{Client, answering, read_head, server};
use gimmal_tests::proxies::{proxied, proxied_by, show, upstream};
use gimmal_tests::{eventually, on_both};

#[test]
fn smuggling_by_premature_upgrade() {
    let upstream = upstream(App::new().get("/", show).get("/admin", async || "secret"));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server.address());
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
        // The upstream does not switch, so this is a request of its own, that the proxy sees.
        client.send("GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let all = String::from_utf8(client.rest()).unwrap();
        assert_eq!(all.matches("HTTP/1.1 ").count(), 2, "{all}");
        assert!(all.contains("HTTP/1.1 404"), "{all}");
    });
}

#[test]
fn smuggling_by_h2c() {
    let upstream = upstream(App::new().get("/", show));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server.address());
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n");
        client.send("http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.finish();
        let body = String::from_utf8(client.rest()).unwrap().to_lowercase();
        assert!(!body.contains("upgrade") && !body.contains("http2-settings"), "{body}");
    });
}

#[test]
fn smuggling_by_requests_of_two_lengths() {
    let (url, connections) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    proxied(&[url], |server| {
        for (name, fields, body) in [
            ("cl_te", "content-length: 6\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\nG"),
            ("te_te", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n"),
            ("cl_cl", "content-length: 0\r\ncontent-length: 5\r\n", "GET /"),
            ("te_space", "transfer-encoding : chunked\r\n", "0\r\n\r\n"),
            ("te_tab", "transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n"),
            ("cl_plus", "content-length: +1\r\n", "x"),
            ("fold", "x: y\r\n content-length: 5\r\n", "hello"),
        ] {
            let mut client = Client::connect(server.address());
            client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}"));
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 400") && head.contains("connection: close"), "{name}: {head}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 0, "nothing of it went on");
    });
}

/// An upstream may resolve dot segments, and so serve what a guard stands in front of here.
#[test]
fn dot_segments_lead_past_no_guard() {
    let upstream = upstream(App::new().fallback(show));
    let url = format!("http://{}", upstream.address());
    proxied(&[url], |server| {
        for path in [
            "/a/../admin",
            "/./admin",
            "/..",
            "/%2e/admin",
            "/a/.%2E/admin",
            "/a/..;x/admin",
            "/a/..%2fadmin",
            "/a%5c..%5Cadmin",
        ] {
            let mut client = Client::connect(server.address());
            client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 400"), "{path}: {head}");
        }
        for path in ["/.well-known/x", "/a..b/...", "/a%2Fb", "/x?to=/../y", "//a;.."] {
            let mut client = Client::connect(server.address());
            client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        }
    });
}

#[test]
fn framing_is_made_anew() {
    let seen = Arc::new(Mutex::new(String::new()));
    let noted = Arc::clone(&seen);
    let (url, _) = server(move |mut stream| {
        let mut all = read_head(&mut stream);
        while !all.ends_with("0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            all.push(char::from(byte[0]));
        }
        *noted.lock().unwrap() = all;
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;ext=\"x\"\r\nok\r\n0;y\r\n\r\n",
            )
            .unwrap();
    });
    proxied(&[url], |server| {
        let mut client = Client::connect(server.address());
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n");
        client.send("0003;ext=\"\"\r\nabc\r\n0\r\nhost: evil\r\nContent-Length: 5\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.expect("2\r\nok\r\n0\r\n\r\n");
        let seen = seen.lock().unwrap();
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\ntransfer-encoding: chunked"), "{head}");
        assert_eq!(body, "3\r\nabc\r\n0\r\n\r\n", "no extension, and no trailer that may not be one");
    });
}

#[test]
fn responses_that_are_malformed_or_ambiguous_become_502_and_nothing_of_them_shows() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nevil!",
        "HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nevil\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: y\n\r\n",
        "HTTP/1.1 20 evil\r\n\r\n",
        "HTTP/1.1 101 evil\r\nconnection: upgrade\r\nupgrade: evil\r\n\r\n",
        "220 evil ESMTP\r\n\r\n",
    ] {
        let (url, _) = answering(bytes.as_bytes());
        proxied(&[url], |server| {
            let response = server.get("/").send().unwrap();
            assert_eq!(response.status(), 502, "{bytes:?}");
            assert!(!response.text().contains("evil"), "{bytes:?}");
        });
    }
}

#[test]
fn response_queue_poisoning_by_bytes_after_a_response() {
    let (url, connections) = answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    );
    proxied(&[url], |server| {
        let before = connections.load(Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(server.get("/").send().unwrap().text(), "ok");
        }
        assert_eq!(connections.load(Ordering::SeqCst) - before, 3);
    });
}

#[test]
fn a_response_that_is_cut_off_or_stalls_never_seems_whole() {
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        for stalls in [false, true] {
            let (url, _) = server(move |mut stream| {
                read_head(&mut stream);
                write!(stream, "HTTP/1.1 200 OK\r\n{framing}\r\n\r\n4\r\nhalf\r\n").unwrap();
                if stalls {
                    std::thread::sleep(Duration::from_secs(2));
                }
            });
            let options = ClientOptions { pause: Duration::from_millis(100), ..Default::default() };
            proxied_by(
                || Proxy::new([&url]).unwrap().client_options(options.clone()),
                |server| {
                    let mut client = Client::connect(server.address());
                    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
                    assert!(client.head().contains(framing));
                    let rest = client.rest();
                    // It is closed, short of what was promised.
                    assert!(b"4\r\nhalf\r\n".starts_with(&rest), "{rest:?}");
                },
            );
        }
    }
}

#[test]
fn a_request_body_that_is_cut_off_is_never_whole_for_the_upstream() {
    let whole = Arc::new(AtomicUsize::new(0));
    let note = Arc::clone(&whole);
    let upstream = upstream(App::new().post("/", async move |mut request: Request| {
        if request.bytes().await.is_ok() {
            note.fetch_add(1, Ordering::SeqCst);
        }
    }));
    proxied(&[upstream.url()], |server| {
        for framing in ["content-length: 100\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
        {
            let mut client = Client::connect(server.address());
            client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}"));
            std::thread::sleep(Duration::from_millis(50));
            client.finish();
            assert!(!client.rest().starts_with(b"HTTP/1.1 200"));
        }
        assert_eq!(whole.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn response_queue_poisoning_by_bytes_that_came_while_nothing_was_asked() {
    // What it says unasked lies on the kept connection when the next request comes.
    let (url, said) = {
        let said = Arc::new(AtomicUsize::new(0));
        let note = Arc::clone(&said);
        let (url, _) = server(move |mut stream| {
            while !read_head(&mut stream).is_empty() {
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(30));
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nLEAKED");
                note.fetch_add(1, Ordering::SeqCst);
            }
        });
        (url, said)
    };
    let app = || App::new().get("/own", async || "own").fallback(Proxy::new([&url]).unwrap());
    on_both(app, |server| {
        // As many as a task may do at one go with sockets that are always ready, and some more and fewer.
        for before in [0, 1, 62, 63, 64, 65, 126, 127, 128, 191] {
            let mut requests = "GET /own HTTP/1.1\r\nhost: a\r\n\r\n".repeat(before);
            requests += "GET /proxied HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            // The first one leaves a connection on which the upstream speaks unasked.
            for requests in ["GET /proxied HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", &requests] {
                let count = said.load(Ordering::SeqCst);
                let mut client = Client::connect(server.address());
                client.send(requests);
                let all = String::from_utf8(client.rest()).unwrap();
                let end = &all[all.len().saturating_sub(60)..];
                assert!(end.ends_with("\r\n\r\nok"), "after {before}: {end}");
                eventually("the upstream speaks unasked", || said.load(Ordering::SeqCst) > count);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
}
