//! The reverse proxy in front of Gimmal, of Python, and of servers that fail, on both back ends.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gimmal::client::ClientOptions;
use gimmal::proxy::{HealthCheck, Proxy};
use gimmal::test::{TestResponse, TestServer};
use gimmal::{
    App, Body, Chunk, HeaderMap, HeaderValue, Method, Path, Request, Response, Server, StatusCode, any,
};
use gimmal_tests::peers::{Client, noise, read_head, server};
use gimmal_tests::proxies::{proxied, proxied_by, show, upstream};
use gimmal_tests::{eventually, on_both};

/// A URL that nobody listens on.
fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

async fn mirror(mut request: Request) -> Response {
    Response::new(request.take_body())
}

#[test]
fn the_upstream_sees_what_was_asked_and_by_whom() {
    let upstream = upstream(App::new().fallback(show));
    let proxy = || Proxy::new([upstream.url()]).unwrap().via("edge").unwrap();
    proxied_by(proxy, |server| {
        let request =
            server.post("/a%2Fb/%61?x=%20y&z").header("cookie", "a=1").header("x-forwarded-for", "evil");
        let request = request.header("connection", "x-secret").header("x-secret", "1").body("body");
        let response = request.send().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.header("via"), Some("1.1 edge"));
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        let mut lines: Vec<_> = response.text().lines().collect();
        assert_eq!((lines.remove(0), lines.pop()), ("POST /a%2Fb/%61?x=%20y&z", Some("body")));
        lines.sort_unstable();
        let expected = [
            "content-length: 4",
            "cookie: a=1",
            "forwarded: for=127.0.0.1;host=\"localhost\";proto=http",
            "host: localhost",
            "via: 1.1 edge",
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
    let upstream = upstream(App::new().fallback(show));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server.address());
        client.send("GET http://a.example/x?y HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
        client.head();
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(rest.starts_with("GET /x?y\n") && rest.contains("host: a.example\n"), "{rest}");
        let mut client = Client::connect(server.address());
        client.send("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 405"));
    });
}

#[test]
fn both_directions_stream_with_their_trailers() {
    let upstream = upstream(App::new().post("/", mirror));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server.address());
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
    let upstream = upstream(App::new().post("/", mirror));
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
    let upstream = upstream(App::new().get("/", async || "twelve bytes").get("/same", async || {
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
    let (url, _) = server(|mut stream| {
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
        let mut client = Client::connect(server.address());
        client.send("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\nearly");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101") && head.contains("sec-websocket-accept: x\r\n"), "{head}");
        assert!(
            head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"),
            "{head}"
        );
        client.expect("welcome");
        client.send(" and late");
        client.finish();
        assert_eq!(client.rest(), b"early and late");
    });
}

#[test]
fn an_upgraded_connection_that_is_silent_for_long_is_closed() {
    let (url, _) = server(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0]);
    });
    proxied_by(
        || Proxy::new([&url]).unwrap().tunnel_idle(Duration::from_millis(200)),
        |server| {
            let mut client = Client::connect(server.address());
            client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
            client.head();
            let start = Instant::now();
            let _ = client.rest();
            assert!(start.elapsed() < Duration::from_secs(5));
        },
    );
}

#[test]
fn an_upstream_that_breaks_off_or_is_slow_or_not_there_is_told_apart() {
    let (closes, _) = server(|mut stream| drop(read_head(&mut stream)));
    proxied(&[closes], |server| assert_eq!(server.post("/").body("x").send().unwrap().status(), 502));
    proxied(&[nobody()], |server| assert_eq!(server.get("/").send().unwrap().status(), 502));
    let (slow, _) = server(|mut stream| {
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
fn a_request_that_reached_nobody_goes_to_the_next_upstream() {
    let upstream = upstream(App::new().post("/", mirror));
    proxied(&[nobody(), nobody(), upstream.url()], |server| {
        for _ in 0..3 {
            assert_eq!(server.post("/").body("whole").send().unwrap().text(), "whole");
        }
    });
}

#[test]
fn a_safe_request_is_sent_again_when_its_connection_breaks_and_others_are_not() {
    let (closes, connections) = server(|mut stream| drop(read_head(&mut stream)));
    let upstream = upstream(App::new().route("/", any(async || "here")));
    proxied(&[closes, upstream.url()], |server| {
        for _ in 0..2 {
            assert_eq!(server.get("/").send().unwrap().text(), "here");
        }
    });
    let (closes, _) = server(|mut stream| drop(read_head(&mut stream)));
    proxied(&[closes, upstream.url()], |server| {
        let statuses = [(); 2].map(|()| server.post("/").send().unwrap().status().as_u16());
        assert_eq!(HashSet::from(statuses), HashSet::from([502, 200]));
    });
    assert!(connections.load(Ordering::SeqCst) > 0);
}

/// An upstream that answers on each connection as `answer` says for its head.
fn answers(answer: impl Fn(&str) -> &'static str + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    server(move |mut stream| {
        loop {
            let head = read_head(&mut stream);
            if head.is_empty() || stream.write_all(answer(&head).as_bytes()).is_err() {
                return;
            }
            if answer(&head).is_empty() {
                return;
            }
        }
    })
}

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

#[test]
fn an_upstream_that_fails_where_others_answer_is_left_alone_and_comes_back() {
    let works = Arc::new(AtomicBool::new(false));
    let look = Arc::clone(&works);
    let (breaks_off, connections) = answers(move |_| {
        if look.load(Ordering::SeqCst) { "HTTP/1.1 203 OK\r\ncontent-length: 0\r\n\r\n" } else { "" }
    });
    let (fine, _) = answers(|_| FINE);
    proxied_by(
        || Proxy::new([&breaks_off, &fine]).unwrap().fail_after(2, Duration::from_secs(3)),
        |server| {
            works.store(false, Ordering::SeqCst);
            let before = connections.load(Ordering::SeqCst);
            for n in 0..100 {
                assert_eq!(server.get(&format!("/{n}")).send().unwrap().text(), "fine");
            }
            // Two failures, and what few requests have tried since.
            let tries = connections.load(Ordering::SeqCst) - before;
            assert!((2..20).contains(&tries), "{tries}");
            works.store(true, Ordering::SeqCst);
            eventually("it is asked again", || server.get("/").send().unwrap().status() == 203);
            let statuses: HashSet<_> =
                (0..4).map(|_| server.get("/").send().unwrap().status().as_u16()).collect();
            assert_eq!(statuses, HashSet::from([200, 203]));
        },
    );
}

#[test]
fn bad_requests_of_one_client_take_no_upstream_from_the_others() {
    // What a handler that breaks off, or answers nonsense, looks like from here.
    let answer = |head: &str| match head.split(' ').nth(1).unwrap_or_default() {
        path if path.starts_with("/drop") => "",
        path if path.starts_with("/nonsense") => "nonsense\r\n\r\n",
        path if path.starts_with("/cut") => "HTTP/1.1 200 OK\r\ncontent-le",
        _ => FINE,
    };
    for count in [1, 3] {
        let upstreams: Vec<_> = (0..count).map(|_| answers(answer)).collect();
        let urls: Vec<_> = upstreams.iter().map(|(url, _)| url.clone()).collect();
        proxied(&urls, |server| {
            for path in ["/drop", "/nonsense", "/drop?", "/drop?1", "/drop?2", "/drop?3"] {
                for _ in 0..3 {
                    for method in [Method::GET, Method::POST] {
                        assert_eq!(server.request(method, path).send().unwrap().status(), 502, "{path}");
                    }
                }
            }
            let asked = |index: usize| upstreams[index].1.load(Ordering::SeqCst);
            let before: Vec<_> = (0..count).map(asked).collect();
            for _ in 0..30 {
                assert_eq!(server.get("/").send().unwrap().text(), "fine");
            }
            assert!((0..count).all(|index| asked(index) > before[index]), "each was asked again");
        });
    }
}

#[test]
fn bodies_that_a_client_does_not_send_take_no_upstream_from_the_others() {
    // One that waits for a body for a short time, and gives its connection up then.
    let impatient = || {
        server(|mut stream| {
            read_head(&mut stream);
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            while stream.read(&mut [0; 100]).is_ok_and(|bytes| bytes > 0) {}
        })
    };
    let upstreams = [impatient(), impatient()];
    proxied(&[&upstreams[0].0, &upstreams[1].0], |server| {
        let asked = || [0, 1].map(|index: usize| upstreams[index].1.load(Ordering::SeqCst));
        let before = asked();
        for n in 0..40 {
            let mut client = Client::connect(server.address());
            client.send(format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc"));
            assert!(client.head().starts_with("HTTP/1.1 502 "));
        }
        let after = asked();
        assert_eq!([after[0] - before[0], after[1] - before[1]], [20, 20], "each was asked in turn");
    });
}

#[test]
fn a_page_that_one_upstream_cannot_make_does_not_take_it_out() {
    let (breaks_off, asked) =
        answers(
            |head| if head.contains(" /page") { "" } else { "HTTP/1.1 203 OK\r\ncontent-length: 0\r\n\r\n" },
        );
    let (fine, _) = answers(|_| FINE);
    proxied(&[breaks_off, fine], |server| {
        let before = asked.load(Ordering::SeqCst);
        for n in 0..20 {
            assert_eq!(server.get(&format!("/page?{n}")).send().unwrap().text(), "fine");
        }
        assert_eq!(asked.load(Ordering::SeqCst) - before, 10, "each second request begins there");
        let statuses: HashSet<_> =
            (0..4).map(|_| server.get("/").send().unwrap().status().as_u16()).collect();
        assert_eq!(statuses, HashSet::from([200, 203]));
    });
}

#[test]
fn an_upstream_that_restarts_is_used_again_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    proxied(&[format!("http://{address}")], |server| {
        for n in 0..20 {
            assert_eq!(server.get(&format!("/{n}")).send().unwrap().status(), 502);
        }
        let listener = TcpListener::bind(address).unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nback")
                .unwrap();
        });
        assert_eq!(server.get("/").send().unwrap().text(), "back");
        serving.join().unwrap();
    });
}

#[test]
fn kept_connections_that_were_closed_say_nothing_of_an_upstream() {
    // Each closes a connection at its second request: what a restart looks like to requests on kept connections.
    const EACH: usize = 20;
    let upstreams = [(), ()].map(|()| {
        let gate = std::sync::Barrier::new(EACH);
        server(move |mut stream| {
            read_head(&mut stream);
            gate.wait();
            stream.write_all(FINE.as_bytes()).unwrap();
            read_head(&mut stream);
        })
    });
    let asked = || upstreams.each_ref().map(|(_, connections)| connections.load(Ordering::SeqCst));
    proxied(&upstreams.each_ref().map(|(url, _)| url), |server| {
        let all_at_once = || {
            let before = asked();
            std::thread::scope(|scope| {
                for _ in 0..2 * EACH {
                    scope.spawn(|| assert_eq!(server.get("/").send().unwrap().text(), "fine"));
                }
            });
            let after = asked();
            [after[0] - before[0], after[1] - before[1]]
        };
        assert_eq!(all_at_once(), [EACH, EACH]);
        for n in 0..2 * EACH {
            assert_eq!(server.post(&format!("/{n}")).send().unwrap().status(), 502);
        }
        assert_eq!(all_at_once(), [EACH, EACH], "both are still asked");
    });
}

#[test]
fn health_checks_take_upstreams_out_and_bring_them_back() {
    let is_well = Arc::new(AtomicBool::new(true));
    let look = Arc::clone(&is_well);
    let sick = upstream(App::new().get("/", async || "sick").get("/health", async move || {
        if look.load(Ordering::SeqCst) { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
    }));
    let well = upstream(App::new().get("/", async || "well").get("/health", async || "fine"));
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
            upstream(App::new().get("/", async move || n.to_string()).get("/slow", async move || {
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
    let upstream = upstream(app);
    proxied(&[upstream.url()], |server| {
        let ask = |path| {
            let mut client = Client::connect(server.address());
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
    let (url, _) = server(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(b"4\r\nmore\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        note.fetch_add(1, Ordering::SeqCst);
    });
    proxied(&[url], |server| {
        let before = gone.load(Ordering::SeqCst);
        let mut client = Client::connect(server.address());
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
fn a_unix_socket_can_be_an_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    let app = App::new().get("/{name}", async |Path(name): Path<String>| name);
    let _upstream = TestServer::from_server(Server::new(app).cores(1).bind(&address)).unwrap();
    proxied(&[address], |server| assert_eq!(server.get("/inside").send().unwrap().text(), "inside"));
}

#[test]
fn streams_that_an_upstream_makes_arrive_piece_by_piece() {
    let upstream = upstream(App::new().get("/", async || {
        let pieces = futures_util::stream::unfold(0, async |n| {
            tokio::time::sleep(Duration::from_millis(60)).await;
            (n < 3).then(|| (Ok(Chunk::from(n.to_string())), n + 1))
        });
        Body::stream(pieces)
            .with_trailers(|| HeaderMap::from_iter([("sum".parse().unwrap(), HeaderValue::from_static("3"))]))
    }));
    proxied(&[upstream.url()], |server| {
        let mut client = Client::connect(server.address());
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

#[test]
fn head_tells_no_length_that_the_upstream_does_not_tell() {
    let (url, _) = answers(|head| match head.split(' ').nth(1).unwrap_or_default() {
        "/chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "/coded" => "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n",
        "/untold" => "HTTP/1.1 200 OK\r\n\r\n",
        "/old" => "HTTP/1.0 200 OK\r\n\r\n",
        "/none" => "HTTP/1.1 404 Not Found\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    });
    proxied(&[url], |server| {
        let mut client = Client::connect(server.address());
        for path in ["/chunked", "/coded", "/untold", "/old", "/none"] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
            let head = client.head();
            assert!(!head.contains("content-length"), "{path}: {head}");
        }
        client.send("HEAD /empty HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.head().contains("content-length: 0\r\n"));
        client.send("HEAD /chunked HTTP/1.0\r\nhost: a\r\n\r\n");
        let head = client.head();
        assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    });
}

#[test]
fn a_request_without_host_goes_on_with_that_of_the_upstream() {
    let upstream = upstream(App::new().fallback(show));
    let host = upstream.url().replace("http://", "host: ");
    proxied(&[nobody(), upstream.url()], |server| {
        for _ in 0..2 {
            let mut client = Client::connect(server.address());
            client.send("GET /x HTTP/1.0\r\n\r\n");
            assert!(client.head().starts_with("HTTP/1.1 200"));
            let shown = String::from_utf8(client.rest()).unwrap();
            assert!(shown.contains(&format!("{host}\n")), "{shown}");
        }
        let mut client = Client::connect(server.address());
        client.send("GET /x HTTP/1.0\r\nhost: own\r\n\r\n");
        client.head();
        assert!(String::from_utf8(client.rest()).unwrap().contains("host: own\n"));
    });
}

#[test]
fn max_forwards_ends_here_or_is_counted_down() {
    let upstream = upstream(App::new().fallback(show));
    proxied(&[upstream.url()], |server| {
        let ask = |method, value| server.request(method, "/v").header("max-forwards", value).send().unwrap();
        let seen = upstream.handle().counters().opened;
        let answer = ask(Method::OPTIONS, "0");
        assert_eq!((answer.status().as_u16(), answer.bytes().len()), (200, 0));
        assert!(answer.header("allow").unwrap().contains("GET"));
        assert_eq!(ask(Method::OPTIONS, "many").status(), 400);
        assert_eq!(upstream.handle().counters().opened, seen, "the upstream was not asked");
        assert!(ask(Method::OPTIONS, "5").text().contains("max-forwards: 4\n"));
        assert!(ask(Method::GET, "0").text().contains("max-forwards: 0\n"), "for these it means nothing");
    });
}

#[test]
fn an_upgrade_in_http_1_0_or_beside_a_body_is_ignored() {
    let upstream = upstream(App::new().fallback(show));
    proxied(&[upstream.url()], |server| {
        for request in [
            "GET /w HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "POST /w HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nhi",
            "GET /w HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ] {
            let mut client = Client::connect(server.address());
            client.send(request);
            assert!(client.head().starts_with("HTTP/1.1 200"));
            let shown = String::from_utf8(client.rest()).unwrap();
            assert!(!shown.contains("upgrade"), "{shown}");
        }
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_502_and_426_says_what_it_wants() {
    let (url, _) = answers(|head| match head.split(' ').nth(1).unwrap_or_default() {
        "/other" => "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
        "/required" => {
            "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n"
        }
        _ => FINE,
    });
    proxied(&[url], |server| {
        let asks = "connection: upgrade\r\nupgrade: websocket\r\n";
        for fields in ["", asks] {
            let mut client = Client::connect(server.address());
            client.send(format!("GET /other HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
            assert!(client.head().starts_with("HTTP/1.1 502"), "{fields}");
        }
        let mut client = Client::connect(server.address());
        client.send(format!("GET /other HTTP/1.0\r\nhost: a\r\n{asks}\r\n"));
        assert!(client.head().starts_with("HTTP/1.1 502"));
        let response = server.get("/required").send().unwrap();
        assert_eq!((response.status().as_u16(), response.header("upgrade")), (426, Some("websocket")));
        assert_eq!(response.header("connection"), Some("upgrade"));
    });
}

#[test]
fn interim_responses_pass_in_order_and_only_to_those_who_know_them() {
    const HINTED: &str = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\nconnection: x-own\r\nx-own: 1\r\n\r\n\
        HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
        HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";
    let (url, _) = answers(|_| HINTED);
    let app =
        || App::new().get("/own", async || "own").fallback(Proxy::new([&url]).unwrap().via("edge").unwrap());
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        // What was asked before is answered before.
        client.send("GET /own HTTP/1.1\r\nhost: a\r\n\r\nGET /x HTTP/1.1\r\nhost: a\r\n\r\nGET /own HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.expect("own");
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\nvia: 1.1 edge\r\n\r\n";
        let processing = "HTTP/1.1 102 Processing\r\nvia: 1.1 edge\r\n\r\n";
        client.expect(hints);
        client.expect(processing);
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.expect("fine");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.expect("own");
        // While the request still goes out.
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nha");
        client.expect(hints);
        client.expect(processing);
        let mut old = Client::connect(server.address());
        old.send("GET /x HTTP/1.0\r\nhost: a\r\n\r\n");
        assert!(old.head().starts_with("HTTP/1.1 200"));
        assert_eq!(old.rest(), b"fine");
    });
}

#[test]
fn a_proxy_whose_upstream_leads_back_to_it_asks_once() {
    let proxy = Arc::new(std::sync::Mutex::new(None));
    let back = Arc::clone(&proxy);
    let (url, connections) = server(move |from| {
        let to = TcpStream::connect(back.lock().unwrap().unwrap()).unwrap();
        let (mut answers, mut takes) = (to.try_clone().unwrap(), from.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut answers, &mut takes));
        let _ = std::io::copy(&mut &from, &mut &to);
    });
    proxied(&[url], |server| {
        *proxy.lock().unwrap() = Some(server.address());
        let before = connections.load(Ordering::SeqCst);
        assert_eq!(server.get("/").send().unwrap().status(), 508);
        assert_eq!(connections.load(Ordering::SeqCst) - before, 1);
    });
}

#[test]
fn options_for_the_whole_server_stay_so() {
    let (url, _) = answers(|head| match head.split(' ').nth(1).unwrap_or_default() {
        "*" => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole",
        "/" => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nroot",
        _ => FINE,
    });
    proxied(&[url], |server| {
        for (target, expected) in [("http://a", "whole"), ("http://a/", "root"), ("http://a?x", "fine")] {
            let mut client = Client::connect(server.address());
            client.send(format!("OPTIONS {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
            client.head();
            assert_eq!(String::from_utf8(client.rest()).unwrap(), expected, "{target}");
        }
    });
}

#[test]
fn a_request_that_comes_back_is_a_loop_and_a_chain_is_none() {
    let upstream = upstream(App::new().fallback(show));
    let inner = TestServer::start(App::new().fallback(Proxy::new([upstream.url()]).unwrap())).unwrap();
    proxied_by(
        || Proxy::new([inner.url()]).unwrap().via("edge").unwrap(),
        |server| {
            let shown = server.get("/").send().unwrap();
            assert_eq!((shown.status().as_u16(), shown.text().matches("via: 1.1 ").count()), (200, 2));
            for via in ["1.1 edge", "1.0 a, 1.1 Edge (ours)"] {
                assert_eq!(server.get("/").header("via", via).send().unwrap().status(), 508, "{via}");
            }
            assert_eq!(server.get("/").header("via", "1.1 edge-2").send().unwrap().status(), 200);
        },
    );
}

#[test]
fn methods_that_nobody_here_knows_reach_the_upstream() {
    let (url, _) = answers(|head| match head.split(' ').next().unwrap_or_default() {
        "PROPFIND" => "HTTP/1.1 207 Multi-Status\r\ncontent-length: 0\r\n\r\n",
        "X-OWN" => "HTTP/1.1 203 OK\r\ncontent-length: 0\r\n\r\n",
        _ => FINE,
    });
    proxied(&[url], |server| {
        for (method, status) in [("PROPFIND", 207), ("X-OWN", 203), ("GET", 200)] {
            let mut client = Client::connect(server.address());
            client.send(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n"));
            let head = client.head();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method}: {head}");
        }
    });
}
