//! The reverse proxy in front of Gimmal, of Python, and of servers that misbehave, on both back ends.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gimmal::client::ClientOptions;
use gimmal::proxy::{HealthCheck, Proxy};
use gimmal::test::{TestResponse, TestServer};
use gimmal::{
    App, Backend, Body, Chunk, HeaderMap, HeaderValue, Method, Path, Request, Response, Server, StatusCode,
    any,
};

/// Checks a proxy of these upstreams on each back end.
fn proxied<S: AsRef<str>>(upstreams: &[S], check: impl Fn(&TestServer)) {
    proxied_by(|| Proxy::new(upstreams).unwrap(), check);
}

fn proxied_by(proxy: impl Fn() -> Proxy, check: impl Fn(&TestServer)) {
    for backend in [Backend::IoUring, Backend::Epoll] {
        let app = App::new().fallback(proxy()).body_limit(u64::MAX);
        check(&TestServer::from_server(Server::new(app).cores(1).backend(backend)).unwrap());
    }
}

fn start(app: App) -> TestServer {
    TestServer::from_server(Server::new(app.body_limit(1 << 30)).cores(1)).unwrap()
}

/// A connection of which the head of each response can be read by itself.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
        }
        head
    }

    #[track_caller]
    fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let mut came = vec![0; bytes.as_ref().len()];
        self.0.read_exact(&mut came).unwrap();
        assert_eq!(String::from_utf8_lossy(&came), String::from_utf8_lossy(bytes.as_ref()));
    }

    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}

/// An upstream that does with each connection what `serve` does; its URL, and how many connections there were.
fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    (url, connections)
}

/// An upstream that answers each request with these bytes.
fn answering(bytes: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    raw(move |mut stream| {
        while !read_head(&mut stream).is_empty() {
            stream.write_all(bytes).unwrap();
        }
    })
}

/// Reads until the end of a head; what came.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A URL that nobody listens on.
fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

fn noise(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Says what came, field by field.
async fn show(mut request: Request) -> String {
    let mut shown = format!("{} {}\n", request.method(), request.target());
    for (name, value) in request.headers() {
        shown += &format!("{name}: {}\n", String::from_utf8_lossy(value));
    }
    shown + &String::from_utf8_lossy(&request.bytes().await.unwrap())
}

async fn mirror(mut request: Request) -> Response {
    Response::new(request.take_body())
}

#[test]
fn the_upstream_sees_what_was_asked_and_by_whom() {
    let upstream = start(App::new().fallback(show));
    proxied(&[upstream.url()], |server| {
        let request =
            server.post("/a%2Fb/%61?x=%20y&z").header("cookie", "a=1").header("x-forwarded-for", "evil");
        let request = request.header("connection", "x-secret").header("x-secret", "1").body("body");
        let response = request.send().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.header("via"), Some("1.1 gimmal"));
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        let mut lines: Vec<_> = response.text().lines().collect();
        assert_eq!((lines.remove(0), lines.pop()), ("POST /a%2Fb/%61?x=%20y&z", Some("body")));
        lines.sort_unstable();
        let expected = [
            "content-length: 4",
            "cookie: a=1",
            "forwarded: for=127.0.0.1;host=\"localhost\";proto=http",
            "host: localhost",
            "via: 1.1 gimmal",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: localhost",
            "x-forwarded-proto: http",
        ];
        assert_eq!(lines, expected);
    });
    let name = upstream.url().replace("http://", "host: ");
    proxied_by(
        || Proxy::new([upstream.url()]).unwrap().upstream_host().trust_forwarded(),
        |server| {
            let response = server.get("/").header("x-forwarded-for", "10.0.0.1").send().unwrap();
            assert!(response.text().contains(&name), "{}", response.text());
            assert!(response.text().contains("x-forwarded-for: 10.0.0.1, 127.0.0.1\n"));
        },
    );
}

#[test]
fn an_absolute_target_and_its_host_become_those_of_the_upstream() {
    let upstream = start(App::new().fallback(show));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server);
        client.send("GET http://a.example/x?y HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
        client.head();
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(rest.starts_with("GET /x?y\n") && rest.contains("host: a.example\n"), "{rest}");
        let mut client = Client::connect(server);
        client.send("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 405"));
    });
}

#[test]
fn both_directions_stream_with_their_trailers() {
    let upstream = start(App::new().post("/", mirror));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server);
        client.send(
            "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n",
        );
        assert!(client.head().contains("transfer-encoding: chunked"));
        client.expect("3\r\none\r\n");
        // Each piece comes back before the next one is sent.
        for chunk in ["3\r\ntwo\r\n", "5\r\nthree\r\n", "0\r\nchecksum: 42\r\n\r\n"] {
            client.send(chunk);
            client.expect(chunk);
        }
        // And the connection goes on.
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok");
        assert!(client.head().contains("content-length: 2"));
        client.expect("ok");
    });
}

#[test]
fn large_bodies_go_through_byte_for_byte_from_many_at_once() {
    let upstream = start(App::new().post("/", mirror));
    let sent = noise(2_000_003);
    proxied(&[upstream.url()], |server| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let response = server.post("/").body(sent.clone()).send().unwrap();
                    assert!(response.bytes() == &sent[..]);
                });
            }
        });
    });
}

#[test]
fn responses_without_a_body_keep_the_length_that_they_tell() {
    let upstream = start(App::new().get("/", async || "twelve bytes").get("/same", async || {
        (StatusCode::NOT_MODIFIED, [(gimmal::header::ETAG, HeaderValue::from_static("\"1\""))], ())
    }));
    proxied(&[upstream.url()], |server| {
        let response = server.head("/").send().unwrap();
        assert_eq!((response.header("content-length"), response.bytes().len()), (Some("12"), 0));
        let response = server.get("/same").send().unwrap();
        assert_eq!((response.status().as_u16(), response.header("etag")), (304, Some("\"1\"")));
    });
}

#[test]
fn a_websocket_goes_through_with_what_both_sides_say_early() {
    let (url, _) = raw(|mut stream| {
        let head = read_head(&mut stream).to_ascii_lowercase();
        assert!(
            head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"),
            "{head}"
        );
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-accept: x\r\n\r\nwelcome",
            )
            .unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    proxied(&[url], |server| {
        let mut client = Client::connect(server);
        client.send("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\nearly");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101") && head.contains("sec-websocket-accept: x\r\n"), "{head}");
        assert!(
            head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"),
            "{head}"
        );
        client.expect("welcome");
        client.send(" and late");
        client.0.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b"early and late");
    });
}

#[test]
fn an_upgraded_connection_that_is_silent_for_long_is_closed() {
    let (url, _) = raw(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0]);
    });
    proxied_by(
        || Proxy::new([&url]).unwrap().tunnel_idle(Duration::from_millis(200)),
        |server| {
            let mut client = Client::connect(server);
            client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
            client.head();
            let start = Instant::now();
            client.rest();
            assert!(start.elapsed() < Duration::from_secs(5));
        },
    );
}

#[test]
fn smuggling_by_premature_upgrade() {
    let upstream = start(App::new().get("/", show).get("/admin", async || "secret"));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server);
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
    let upstream = start(App::new().get("/", show));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server);
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n");
        client.send("http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        let mut body = [0; 300];
        let len = client.0.read(&mut body).unwrap();
        let body = String::from_utf8_lossy(&body[..len]).to_lowercase();
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
            let mut client = Client::connect(server);
            client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}"));
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 400") && head.contains("connection: close"), "{name}: {head}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 0, "nothing of it went on");
    });
}

#[test]
fn framing_is_made_anew() {
    let seen = Arc::new(Mutex::new(String::new()));
    let noted = Arc::clone(&seen);
    let (url, _) = raw(move |mut stream| {
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
        let mut client = Client::connect(server);
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
fn an_upstream_that_breaks_off_or_is_slow_or_not_there_is_told_apart() {
    let (closes, _) = raw(|mut stream| drop(read_head(&mut stream)));
    proxied(&[closes], |server| assert_eq!(server.post("/").body("x").send().unwrap().status(), 502));
    proxied(&[nobody()], |server| assert_eq!(server.get("/").send().unwrap().status(), 502));
    let (slow, _) = raw(|mut stream| {
        read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(2));
    });
    let options = ClientOptions { head: Duration::from_millis(100), ..Default::default() };
    proxied_by(
        || Proxy::new([&slow]).unwrap().client_options(options.clone()),
        |server| assert_eq!(server.get("/").send().unwrap().status(), 504),
    );
}

#[test]
fn a_response_that_is_cut_off_or_stalls_never_seems_whole() {
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        for stalls in [false, true] {
            let (url, _) = raw(move |mut stream| {
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
                    let mut client = Client::connect(server);
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
fn a_request_that_reached_nobody_goes_to_the_next_upstream() {
    let upstream = start(App::new().post("/", mirror));
    proxied(&[nobody(), nobody(), upstream.url()], |server| {
        for _ in 0..3 {
            assert_eq!(server.post("/").body("whole").send().unwrap().text(), "whole");
        }
    });
}

#[test]
fn a_safe_request_is_sent_again_when_its_connection_breaks_and_others_are_not() {
    let (closes, connections) = raw(|mut stream| drop(read_head(&mut stream)));
    let upstream = start(App::new().route("/", any(async || "here")));
    proxied(&[closes, upstream.url()], |server| {
        for _ in 0..2 {
            assert_eq!(server.get("/").send().unwrap().text(), "here");
        }
    });
    let (closes, _) = raw(|mut stream| drop(read_head(&mut stream)));
    proxied(&[closes, upstream.url()], |server| {
        let statuses = [(); 2].map(|()| server.post("/").send().unwrap().status().as_u16());
        assert_eq!(HashSet::from(statuses), HashSet::from([502, 200]));
    });
    assert!(connections.load(Ordering::SeqCst) > 0);
}

#[test]
fn an_upstream_that_fails_again_and_again_is_left_alone_for_a_while() {
    let works = Arc::new(AtomicBool::new(false));
    let look = Arc::clone(&works);
    let (url, connections) = raw(move |mut stream| {
        read_head(&mut stream);
        if look.load(Ordering::SeqCst) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").unwrap();
        }
    });
    proxied_by(
        || Proxy::new([&url]).unwrap().fail_after(2, Duration::from_millis(300)),
        |server| {
            works.store(false, Ordering::SeqCst);
            let before = connections.load(Ordering::SeqCst);
            let statuses = [(); 4].map(|()| server.get("/").send().unwrap().status().as_u16());
            assert_eq!(statuses, [502, 502, 503, 503]);
            assert_eq!(connections.load(Ordering::SeqCst) - before, 2);
            works.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(350));
            assert_eq!(server.get("/").send().unwrap().text(), "ok");
            assert_eq!(server.get("/").send().unwrap().text(), "ok");
        },
    );
}

#[test]
fn health_checks_take_upstreams_out_and_bring_them_back() {
    let is_well = Arc::new(AtomicBool::new(true));
    let look = Arc::clone(&is_well);
    let sick = start(App::new().get("/", async || "sick").get("/health", async move || {
        if look.load(Ordering::SeqCst) { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
    }));
    let well = start(App::new().get("/", async || "well").get("/health", async || "fine"));
    let check = HealthCheck {
        path: "/health".to_owned(),
        interval: Duration::from_millis(30),
        up_after: 1,
        ..HealthCheck::default()
    };
    proxied_by(
        || Proxy::new([sick.url(), well.url()]).unwrap().health_check(check.clone()),
        |server| {
            let ask = || server.get("/").send().unwrap().text().to_owned();
            let answers = || HashSet::from([ask(), ask(), ask(), ask()]);
            is_well.store(true, Ordering::SeqCst);
            assert_eq!(answers().len(), 2);
            is_well.store(false, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(answers(), HashSet::from(["well".to_owned()]));
            is_well.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(answers().len(), 2);
        },
    );
}

#[test]
fn requests_are_spread_as_was_asked() {
    let upstreams: Vec<_> = (0..3)
        .map(|n| {
            start(App::new().get("/", async move || n.to_string()).get("/slow", async move || {
                tokio::time::sleep(Duration::from_millis(400)).await;
                n.to_string()
            }))
        })
        .collect();
    let urls: Vec<_> = upstreams.iter().map(TestServer::url).collect();
    let ask = |server: &TestServer, user: &str| {
        server.get("/").header("x-user", user).send().unwrap().text().to_owned()
    };
    proxied(&urls, |server| {
        let asked: Vec<_> = (0..6).map(|_| ask(server, "")).collect();
        assert_eq!(asked, ["0", "1", "2", "0", "1", "2"]);
    });
    let by_user =
        || Proxy::new(&urls).unwrap().hash_by(|request| request.header("x-user").unwrap_or_default());
    proxied_by(by_user, |server| {
        let asked: Vec<_> = (0..30).map(|n| ask(server, &n.to_string())).collect();
        assert_eq!(asked, (0..30).map(|n| ask(server, &n.to_string())).collect::<Vec<_>>());
        assert_eq!(HashSet::<String>::from_iter(asked).len(), 3);
    });
    proxied_by(
        || Proxy::new(&urls).unwrap().hash_by_peer(),
        |server| assert_eq!(HashSet::<_>::from_iter((0..6).map(|_| ask(server, ""))).len(), 1),
    );
    proxied_by(
        || Proxy::new(&urls).unwrap().least_loaded(),
        |server| {
            std::thread::scope(|scope| {
                let slow = scope.spawn(|| server.get("/slow").send().unwrap().text().to_owned());
                std::thread::sleep(Duration::from_millis(100));
                let others: HashSet<_> = (0..6).map(|_| ask(server, "")).collect();
                let slow = slow.join().unwrap();
                assert!(others.len() == 2 && !others.contains(&slow), "{slow} {others:?}");
            });
        },
    );
}

#[test]
fn continue_goes_from_end_to_end() {
    let app =
        App::new().post("/read", async |body: String| body).post("/refuse", async || StatusCode::FORBIDDEN);
    let upstream = start(app);
    proxied(&[upstream.url()], |server| {
        let ask = |path| {
            let mut client = Client::connect(server);
            client.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\n"));
            client.send("expect: 100-continue\r\ncontent-length: 2\r\n\r\n");
            let first = client.head();
            (client, first)
        };
        let (mut client, first) = ask("/read");
        assert_eq!(first, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("ok");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.expect("ok");
        assert!(ask("/refuse").1.starts_with("HTTP/1.1 403"));
    });
}

#[test]
fn a_client_that_goes_takes_the_upstream_connection_with_it() {
    let gone = Arc::new(AtomicUsize::new(0));
    let note = Arc::clone(&gone);
    let (url, _) = raw(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(b"4\r\nmore\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        note.fetch_add(1, Ordering::SeqCst);
    });
    proxied(&[url], |server| {
        let before = gone.load(Ordering::SeqCst);
        let mut client = Client::connect(server);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client.head();
        drop(client);
        let start = Instant::now();
        while gone.load(Ordering::SeqCst) == before {
            assert!(start.elapsed() < Duration::from_secs(10), "the upstream is still sending");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_request_body_that_is_cut_off_is_never_whole_for_the_upstream() {
    let whole = Arc::new(AtomicUsize::new(0));
    let note = Arc::clone(&whole);
    let upstream = start(App::new().post("/", async move |mut request: Request| {
        if request.bytes().await.is_ok() {
            note.fetch_add(1, Ordering::SeqCst);
        }
    }));
    proxied(&[upstream.url()], |server| {
        for framing in ["content-length: 100\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
        {
            let mut client = Client::connect(server);
            client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}"));
            std::thread::sleep(Duration::from_millis(50));
            client.0.get_ref().shutdown(Shutdown::Write).unwrap();
            assert!(!client.rest().starts_with(b"HTTP/1.1 200"));
        }
        assert_eq!(whole.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_unix_socket_can_be_an_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    let app = App::new().get("/{name}", async |Path(name): Path<String>| name);
    let _upstream = TestServer::from_server(Server::new(app).cores(1).bind(&address)).unwrap();
    proxied(&[address], |server| assert_eq!(server.get("/inside").send().unwrap().text(), "inside"));
}

#[test]
fn streams_that_an_upstream_makes_arrive_piece_by_piece() {
    let upstream = start(App::new().get("/", async || {
        let pieces = futures_util::stream::unfold(0, async |n| {
            tokio::time::sleep(Duration::from_millis(60)).await;
            (n < 3).then(|| (Ok(Chunk::from(n.to_string())), n + 1))
        });
        Body::stream(pieces)
            .with_trailers(|| HeaderMap::from_iter([("sum".parse().unwrap(), HeaderValue::from_static("3"))]))
    }));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client.head();
        client.expect("1\r\n0\r\n");
        let first = Instant::now();
        client.expect("1\r\n1\r\n1\r\n2\r\n0\r\nsum: 3\r\n\r\n");
        assert!(first.elapsed() >= Duration::from_millis(60), "they came all at once");
    });
}

/// Python's own server, for as long as the value lives.
struct Python(Child, String);

impl Python {
    fn serve(folder: &std::path::Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]);
        let mut child = command
            .arg("--directory")
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.split("port ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        Self(child, format!("http://127.0.0.1:{port}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pythons_server_is_served_as_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let large = noise(5_000_000);
    std::fs::write(folder.path().join("large.bin"), &large).unwrap();
    std::fs::write(folder.path().join("page.html"), "<p>page").unwrap();
    let python = Python::serve(folder.path());
    proxied(&[&python.1], |server| {
        let ask = |method, path| -> TestResponse { server.request(method, path).send().unwrap() };
        for _ in 0..3 {
            let page = ask(Method::GET, "/page.html");
            assert_eq!((page.text(), page.header("content-type")), ("<p>page", Some("text/html")));
        }
        assert!(ask(Method::GET, "/large.bin").bytes() == &large[..]);
        assert_eq!(ask(Method::HEAD, "/large.bin").header("content-length"), Some("5000000"));
        assert_eq!(ask(Method::GET, "/none").status(), 404);
        assert_eq!(ask(Method::DELETE, "/page.html").status(), 501);
        let modified = ask(Method::GET, "/page.html").header("last-modified").unwrap().to_owned();
        let same = server.get("/page.html").header("if-modified-since", &modified).send().unwrap();
        assert_eq!(same.status(), 304);
    });
}
