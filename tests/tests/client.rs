//! The client against Gimmal's server, and against servers that misbehave, on both back ends.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gimmal::client::{Client, ClientError, ClientOptions, Phase};
use gimmal::test::TestServer;
use gimmal::{
    Address, App, Backend, Body, BodyError, Chunk, HeaderMap, HeaderValue, IntoResponse as _, Method, Path,
    Redirect, Request, Response, ResponseBodyError, Server, State, StatusCode, header, post,
};
use gimmal_tests::peers::{answering, noise, read_head, server};
use gimmal_tests::{echo_after_upgrade, on_a_core, on_both};

fn start(app: App) -> (String, TestServer) {
    let server = TestServer::start(app).unwrap();
    (server.url(), server)
}

#[test]
fn a_request_has_its_response_and_the_connection_is_used_again() {
    let (url, running) = start(App::new().get("/greet/{name}", async |Path(name): Path<String>| name));
    let handle = running.handle().clone();
    on_a_core(move || {
        let (url, handle) = (url.clone(), handle.clone());
        async move {
            let client = Client::new();
            let opened = handle.counters().opened;
            for name in ["Ada", "Grace", "Edsger"] {
                let response = client.get(format!("{url}/greet/{name}?x=1#part")).send().await.unwrap();
                assert_eq!(response.status(), 200);
                assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
                assert_eq!(response.bytes(100).await.unwrap(), name);
            }
            assert_eq!(handle.counters().opened, opened + 1);
            assert_eq!(client.idle_connections(), 1);
            assert_eq!(
                client.head(format!("{url}/greet/Ada")).send().await.unwrap().headers()["content-length"],
                "3"
            );
        }
    });
}

#[test]
fn bodies_of_every_kind_come_back() {
    async fn mirror(mut request: Request) -> Response {
        let media_type = request.header("content-type").unwrap_or("none").to_owned();
        let body = request.take_body();
        Response::new(body).with_header("was".parse().unwrap(), media_type.parse().unwrap())
    }
    let (url, _server) = start(App::new().route("/", post(mirror).body_limit(1 << 30)));
    on_a_core(move || {
        let url = url.clone();
        async move {
            let client = Client::new();
            let large = noise(3_000_001);
            let small = client.post(&url).with_body("small").send().await.unwrap();
            assert_eq!(small.headers()["was"], "text/plain; charset=utf-8");
            assert_eq!(small.bytes(10).await.unwrap(), "small");
            let json = client.post(&url).with_json(&["a", "b"]).send().await.unwrap();
            assert_eq!(json.headers()["was"], "application/json");
            assert_eq!(json.json::<Vec<String>>(100).await.unwrap(), ["a", "b"]);
            let response = client.post(&url).with_body(large.clone()).send().await.unwrap();
            assert!(response.bytes(u64::MAX).await.unwrap() == large);

            // A stream with trailers, which come back as well.
            let pieces: Vec<_> = large.chunks(70_000).map(|piece| Ok(Chunk::from(piece.to_vec()))).collect();
            let fields = || HeaderMap::from_iter([("sum".parse().unwrap(), HeaderValue::from_static("7"))]);
            let body = Body::stream(futures_util::stream::iter(pieces)).with_trailers(fields);
            let mut response = client.post(&url).with_body(body).send().await.unwrap();
            let mut came = Vec::new();
            while let Some(chunk) = response.body_mut().chunk().await {
                came.extend_from_slice(&chunk.unwrap());
            }
            assert!(came == large);
            assert_eq!(response.body_mut().take_trailers().unwrap()["sum"], "7");
            assert_eq!(client.idle_connections(), 1, "all of it went over one connection");
        }
    });
}

#[test]
fn both_directions_stream_at_the_same_time() {
    async fn mirror(mut request: Request) -> Response {
        Response::new(request.take_body())
    }
    let (url, _server) = start(App::new().post("/", mirror));
    on_a_core(move || {
        let url = url.clone();
        async move {
            // Each piece is made once the one before has come back.
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
            let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
                receiver.recv().await.map(|piece| (Ok(Chunk::from(piece)), receiver))
            });
            sender.send("first").unwrap();
            let request = Client::new().post(&url).with_body(Body::stream(pieces));
            let mut body = request.send().await.unwrap().into_body();
            assert_eq!(&body.chunk().await.unwrap().unwrap()[..], b"first");
            for piece in ["second", "third"] {
                sender.send(piece).unwrap();
                assert_eq!(&body.chunk().await.unwrap().unwrap()[..], piece.as_bytes());
            }
            drop(sender);
            assert!(body.chunk().await.is_none());
        }
    });
}

#[test]
fn a_pooled_connection_that_the_server_has_closed_is_no_ones_trouble() {
    // Closes each connection after its first response, without saying so: after the response, or on the next request.
    for on_next_request in [false, true] {
        let (url, connections) = server(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            if on_next_request {
                read_head(&mut stream);
            }
        });
        on_a_core(move || {
            let (url, connections) = (url.clone(), Arc::clone(&connections));
            async move {
                let client = Client::new();
                let before = connections.load(Ordering::SeqCst);
                for _ in 0..3 {
                    let response = client.get(&url).send().await.unwrap();
                    assert_eq!(response.bytes(10).await.unwrap(), "ok");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                assert_eq!(connections.load(Ordering::SeqCst) - before, 3);
            }
        });
    }
}

#[test]
fn a_request_that_is_not_idempotent_is_not_sent_twice() {
    let (url, connections) = server(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        read_head(&mut stream);
    });
    on_a_core(move || {
        let (url, connections) = (url.clone(), Arc::clone(&connections));
        async move {
            let client = Client::new();
            client.post(&url).send().await.unwrap();
            let before = connections.load(Ordering::SeqCst);
            let error = client.post(&url).send().await.unwrap_err();
            assert!(matches!(error, ClientError::Closed { .. }), "{error}");
            assert!(!error.is_before_sending());
            assert_eq!(connections.load(Ordering::SeqCst), before);
        }
    });
}

#[test]
fn malformed_and_ambiguous_responses_are_refused() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
        "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.0\r\n\r\n",
    ] {
        let (url, _) = answering(bytes.as_bytes());
        on_a_core(move || {
            let url = url.clone();
            async move {
                let error = Client::new().get(&url).send().await.unwrap_err();
                assert!(matches!(error, ClientError::Malformed(_)), "{bytes:?}: {error}");
            }
        });
    }
    let (url, _) =
        answering(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    on_a_core(move || {
        let url = url.clone();
        async move {
            let error = Client::new().get(&url).send().await.unwrap_err();
            assert!(matches!(error, ClientError::UnaskedUpgrade), "{error}");
        }
    });
}

#[test]
fn a_body_that_is_cut_off_or_malformed_never_seems_whole() {
    for (bytes, malformed) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n", true),
    ] {
        let (url, _) = server(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(bytes.as_bytes()).unwrap();
        });
        on_a_core(move || {
            let url = url.clone();
            async move {
                let client = Client::new();
                let error = client.get(&url).send().await.unwrap().bytes(100).await.unwrap_err();
                assert_eq!(
                    matches!(error, BodyError::Response(ResponseBodyError::Malformed(_))),
                    malformed,
                    "{error}"
                );
                assert_eq!(
                    matches!(error, BodyError::Response(ResponseBodyError::Incomplete)),
                    !malformed,
                    "{error}"
                );
                assert_eq!(client.idle_connections(), 0);
            }
        });
    }
}

#[test]
fn response_splitting_by_bytes_after_the_body_reaches_no_later_request() {
    let (url, connections) = answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    );
    on_a_core(move || {
        let (url, connections) = (url.clone(), Arc::clone(&connections));
        async move {
            let client = Client::new();
            let before = connections.load(Ordering::SeqCst);
            for _ in 0..3 {
                assert_eq!(client.get(&url).send().await.unwrap().bytes(10).await.unwrap(), "ok");
            }
            assert_eq!(connections.load(Ordering::SeqCst) - before, 3);
        }
    });
}

#[test]
fn interim_responses_are_passed_over_and_a_body_until_close_is_whole() {
    let (url, _) = server(|mut stream| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(b"HTTP/1.0 203 Fine\r\nx: y\r\n\r\nuntil the ").unwrap();
        stream.write_all(b"end").unwrap();
    });
    on_a_core(move || {
        let url = url.clone();
        async move {
            let response = Client::new().get(&url).send().await.unwrap();
            assert_eq!((response.status().as_u16(), response.version()), (203, gimmal::Version::HTTP_10));
            assert_eq!(response.bytes(100).await.unwrap(), "until the end");
        }
    });
}

#[test]
fn expect_holds_the_body_back_until_it_is_wanted() {
    async fn refuse() -> StatusCode {
        StatusCode::FORBIDDEN
    }
    let app = App::new().post("/read", async |body: String| body).post("/refuse", refuse);
    let (url, _server) = start(app);
    // A server that has never heard of it gets the body after a second.
    let (deaf, _) = server(|mut stream| {
        read_head(&mut stream);
        let mut body = [0; 4];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    });
    on_a_core(move || {
        let (url, deaf) = (url.clone(), deaf.clone());
        async move {
            let client = Client::new();
            let asked = Rc::new(Cell::new(false));
            let body = |asked: &Rc<Cell<bool>>| {
                let asked = Rc::clone(asked);
                Body::sized(
                    4,
                    futures_util::stream::once(async move {
                        asked.set(true);
                        Ok(Chunk::from("body"))
                    }),
                )
            };
            let expect = |url: String, body| {
                let request =
                    client.post(url).with_header(header::EXPECT, HeaderValue::from_static("100-continue"));
                request.with_body(body).send()
            };
            let refused = expect(format!("{url}/refuse"), body(&asked)).await.unwrap();
            assert_eq!((refused.status().as_u16(), asked.get()), (403, false));
            let read = expect(format!("{url}/read"), body(&asked)).await.unwrap();
            assert_eq!(read.bytes(10).await.unwrap(), "body");
            let start = Instant::now();
            assert_eq!(expect(deaf, body(&asked)).await.unwrap().status(), 200);
            assert!(start.elapsed() >= Duration::from_millis(900));
        }
    });
}

#[test]
fn an_early_response_is_heard_while_the_request_still_goes_out() {
    let (url, _) = server(|mut stream| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nno!")
            .unwrap();
        // It reads no more of the body.
        std::thread::sleep(Duration::from_millis(300));
    });
    on_a_core(move || {
        let url = url.clone();
        async move {
            let endless = futures_util::stream::repeat_with(|| Ok(Chunk::from(&[0_u8; 65_536][..])));
            let response = Client::new().post(&url).with_body(Body::stream(endless)).send().await.unwrap();
            assert_eq!(response.status(), 413);
            assert_eq!(response.bytes(10).await.unwrap(), "no!");
        }
    });
}

#[test]
fn each_time_out_is_kept() {
    // Answers /never with nothing, and /half with half of a body.
    let (url, _) = server(|mut stream| {
        if read_head(&mut stream).contains("/half") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").unwrap();
        }
        std::thread::sleep(Duration::from_secs(5));
    });
    on_a_core(move || {
        let url = url.clone();
        async move {
            let short = Duration::from_millis(100);
            let client =
                Client::with_options(ClientOptions { head: short, pause: short, ..Default::default() });
            let start = Instant::now();
            let error = client.get(format!("{url}/never")).send().await.unwrap_err();
            assert!(matches!(error, ClientError::TimedOut(Phase::Head)), "{error}");
            let error = client.get(format!("{url}/half")).send().await.unwrap().bytes(100).await.unwrap_err();
            assert!(matches!(error, BodyError::Response(ResponseBodyError::TimedOut)), "{error}");
            let client = Client::new();
            let error = client.get(format!("{url}/never")).with_timeout(short).send().await.unwrap_err();
            assert!(matches!(error, ClientError::TimedOut(Phase::Head)), "{error}");
            let half = client.get(format!("{url}/half")).with_timeout(short).send().await.unwrap();
            let error = half.bytes(100).await.unwrap_err();
            assert!(matches!(error, BodyError::Response(ResponseBodyError::TimedOut)), "{error}");
            // A server that takes nothing.
            let client = Client::with_options(ClientOptions { pause: short, ..Default::default() });
            let endless = futures_util::stream::repeat_with(|| Ok(Chunk::from(&[0_u8; 65_536][..])));
            let request = client.post(format!("{url}/never")).with_body(Body::stream(endless));
            let error = request.send().await.unwrap_err();
            assert!(matches!(error, ClientError::TimedOut(Phase::Send)), "{error}");
            assert!(start.elapsed() < Duration::from_secs(4));
        }
    });
}

#[test]
fn a_server_that_is_not_there_is_told_from_one_that_breaks_off() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    on_a_core(move || async move {
        let client = Client::new();
        let error = client.get(format!("http://{free}/")).send().await.unwrap_err();
        assert!(matches!(error, ClientError::Connect { .. }) && error.is_before_sending(), "{error}");
        let error = client.get("http://name.invalid/").send().await.unwrap_err();
        assert!(matches!(error, ClientError::Resolve { .. }), "{error}");
        for (url, part) in [
            ("ftp://a/", "scheme"),
            ("/path", "scheme"),
            ("http://user:secret@a/", "Authorization"),
            ("http://a/ b", "escaped"),
        ] {
            let error = client.get(url).send().await.unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    });
}

#[test]
fn names_are_resolved_and_unix_sockets_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let app =
        App::new().get("/", async |request: Request| request.authority().unwrap_or_default().to_owned());
    let server =
        TestServer::from_server(Server::new(app).cores(1).bind(format!("unix:{}", path.display()))).unwrap();
    let port = server.address().port();
    on_a_core(move || {
        let path = path.clone();
        async move {
            let client = Client::new();
            let response = client.get(format!("http://localhost:{port}/")).send().await.unwrap();
            assert_eq!(response.bytes(100).await.unwrap(), format!("localhost:{port}"));
            let response = client.get("http://inside/").at(Address::Unix(path)).send().await.unwrap();
            assert_eq!(response.bytes(100).await.unwrap(), "inside");
        }
    });
}

#[test]
fn redirects_are_followed_when_asked_for_and_secrets_stay_behind() {
    async fn show(mut request: Request) -> String {
        let secret = request.header("authorization").unwrap_or("none").to_owned();
        let method = request.method().clone();
        format!("{method} {} {secret}", String::from_utf8_lossy(&request.bytes().await.unwrap()))
    }
    let (other, _other) = start(App::new().any("/show", show));
    let target = format!("{other}/show");
    let app = App::new()
        .any("/show", show)
        .any("/see", async || Redirect::see_other("show"))
        .any("/same", async || Redirect::permanent("/show"))
        .any("/away", async move || Redirect::temporary(target.clone()))
        .any("/circle", async || Redirect::temporary("/circle"));
    let (url, _server) = start(app);
    on_a_core(move || {
        let url = url.clone();
        async move {
            let ask = async |client: &Client, path: &str| {
                let secret = HeaderValue::from_static("Bearer x");
                let request = client.request(Method::POST, format!("{url}{path}")).with_body("body");
                request.with_header(header::AUTHORIZATION, secret).send().await.unwrap()
            };
            assert_eq!(ask(&Client::new(), "/see").await.status(), 303);
            let client = Client::with_options(ClientOptions { redirects_max: 3, ..Default::default() });
            for (path, expected) in
                [("/see", "GET  Bearer x"), ("/same", "POST body Bearer x"), ("/away", "POST body none")]
            {
                assert_eq!(ask(&client, path).await.bytes(100).await.unwrap(), expected, "{path}");
            }
            assert_eq!(ask(&client, "/circle").await.status(), 307);
        }
    });
}

#[test]
fn an_upgrade_gives_the_connection_over_with_what_came_early() {
    let (url, _server) = start(App::new().get("/", echo_after_upgrade));
    on_a_core(move || {
        let url = url.clone();
        async move {
            let request =
                Client::new().get(&url).with_header(header::UPGRADE, HeaderValue::from_static("echo"));
            let request = request.with_header(header::CONNECTION, HeaderValue::from_static("upgrade"));
            let mut response = request.send().await.unwrap();
            assert_eq!(response.status(), 101);
            let stream = response.take_upgraded().unwrap();
            assert_eq!(&stream.recv().await.unwrap()[..], b"early");
            stream.send("late").await.unwrap();
            assert_eq!(&stream.recv().await.unwrap()[..], b"late");
        }
    });
}

#[test]
fn idle_connections_are_few_and_not_kept_for_long() {
    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(50)).await;
        "slow"
    }
    let (url, _server) = start(App::new().get("/", slow));
    on_a_core(move || {
        let url = url.clone();
        async move {
            let options = ClientOptions {
                idle: Duration::from_millis(300),
                idle_per_origin: 2,
                ..ClientOptions::default()
            };
            let client = Client::with_options(options);
            let ask = async || client.get(&url).send().await.unwrap().bytes(10).await.unwrap();
            tokio::join!(ask(), ask(), ask(), ask());
            assert_eq!(client.idle_connections(), 2);
            tokio::time::sleep(Duration::from_millis(700)).await;
            assert_eq!(client.idle_connections(), 0);
        }
    });
}

#[test]
fn idle_connections_do_not_hold_up_a_shutdown() {
    let (url, _server) = start(App::new().get("/", async || "ok"));
    for backend in [Backend::IoUring, Backend::Epoll] {
        let url = url.clone();
        let forward = async move |client: gimmal::State<Client>| {
            client.get(&url).send().await.unwrap().bytes(10).await.unwrap()
        };
        let app = App::new().state_per_core(Client::new).get("/", forward);
        let running =
            Server::new(app).bind("127.0.0.1:0").cores(1).backend(backend).signals(false).start().unwrap();
        let address: SocketAddr = running.addresses()[0].as_tcp().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
        let start = Instant::now();
        running.handle().shutdown();
        running.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn off_a_core_there_is_no_client() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(Client::new().get("http://localhost/").send()).unwrap_err();
    assert!(matches!(error, ClientError::NoCore), "{error}");
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read() {
    let seen = Arc::new(Mutex::new(String::new()));
    let noted = Arc::clone(&seen);
    let (url, _) = server(move |mut stream| {
        *noted.lock().unwrap() = read_head(&mut stream);
        stream.set_nodelay(true).unwrap();
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: yz\r\n\r\nok" {
            stream.write_all(&[*byte]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        read_head(&mut stream);
    });
    on_a_core(move || {
        let (url, seen) = (url.clone(), Arc::clone(&seen));
        async move {
            let response = Client::new().get(&url).send().await.unwrap();
            assert_eq!(response.headers()["x"], "yz");
            assert_eq!(response.bytes(10).await.unwrap(), "ok");
            let host = url.strip_prefix("http://").unwrap();
            assert_eq!(*seen.lock().unwrap(), format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        }
    });
}

#[test]
fn a_time_out_holds_for_all_redirects_together() {
    let app = App::new().get("/hop/{n}", async |Path(n): Path<u32>| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if n > 0 {
            Redirect::temporary(format!("/hop/{}", n - 1)).into_response()
        } else {
            "there".into_response()
        }
    });
    let (url, _server) = start(app);
    on_a_core(move || {
        let url = url.clone();
        async move {
            let client = Client::with_options(ClientOptions { redirects_max: 255, ..Default::default() });
            // No hop takes so long, but all together take several times as long.
            let request = client.get(format!("{url}/hop/100")).with_timeout(Duration::from_secs(2));
            let error = request.send().await.unwrap_err();
            assert!(matches!(error, ClientError::TimedOut(_)), "{error}");
            let whole = client.get(format!("{url}/hop/2")).with_timeout(Duration::from_secs(15));
            assert_eq!(whole.send().await.unwrap().bytes(10).await.unwrap(), "there");
        }
    });
}

#[test]
fn what_another_server_did_wrong_is_not_the_clients_fault() {
    let (url, _) = server(|mut stream| {
        let head = read_head(&mut stream);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer: &[u8] = match path.as_str() {
            "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            "/malformed" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
            "/long" => b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n",
            "/long-here" => &[b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n", &[b'x'; 101][..]].concat(),
            "/no-json" => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{]",
            "/no-http" => b"nonsense\r\n\r\n",
            "/slow" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
            _ => b"",
        };
        stream.write_all(answer).unwrap();
        if path == "/slow" {
            std::thread::sleep(Duration::from_secs(2));
        }
    });
    async fn bytes(client: &Client, url: String) -> Result<usize, gimmal::Error> {
        Ok(client.get(url).send().await?.bytes(100).await?.len())
    }
    async fn body(client: &Client, url: String) -> Result<usize, gimmal::Error> {
        Ok(client.get(url).send().await?.into_body().collect(100).await?.len())
    }
    async fn chunks(client: &Client, url: String) -> Result<usize, gimmal::Error> {
        let mut response = client.get(url).send().await?;
        response.body_mut().set_limit(100);
        let mut len = 0;
        while let Some(chunk) = response.body_mut().chunk().await {
            len += chunk?.len();
        }
        Ok(len)
    }
    async fn json(client: &Client, url: String) -> Result<usize, gimmal::Error> {
        Ok(client.get(url).send().await?.json::<Vec<u8>>(100).await?.len())
    }
    let app = || {
        let client = || {
            let pause = Duration::from_millis(200);
            Client::with_options(ClientOptions { pause, ..Default::default() })
        };
        let url = url.clone();
        App::new().state_per_core(client).get(
            "/{how}/{what}",
            async move |client: State<Client>, Path((how, what)): Path<(String, String)>| {
                let url = format!("{url}/{what}");
                let read = match how.as_str() {
                    "bytes" => bytes(&client, url).await,
                    "body" => body(&client, url).await,
                    "chunks" => chunks(&client, url).await,
                    _ => json(&client, url).await,
                };
                read.map(|len| len.to_string())
            },
        )
    };
    on_both(app, |server| {
        for how in ["bytes", "body", "chunks", "json"] {
            for (what, status) in [
                ("cut", 502),
                ("malformed", 502),
                ("long", 502),
                ("long-here", 502),
                ("no-http", 502),
                ("closed", 502),
                ("slow", 504),
            ] {
                let response = server.get(&format!("/{how}/{what}")).send().unwrap();
                assert_eq!(response.status().as_u16(), status, "{how} {what}: {}", response.text());
            }
        }
        assert_eq!(server.get("/json/no-json").send().unwrap().status(), 502);
    });
}

#[test]
fn interim_responses_without_end_are_an_error() {
    for fields in ["", "link: </x>\r\n"] {
        let (url, _) = server(move |mut stream| {
            read_head(&mut stream);
            while write!(stream, "HTTP/1.1 103 Early\r\n{fields}\r\n").is_ok() {}
        });
        on_a_core(move || {
            let url = url.clone();
            async move {
                let client = Client::new();
                let error = client.get(&url).send().await.unwrap_err();
                assert!(matches!(error, ClientError::TooManyInterim), "{error}");
                // Nor while the request still goes out.
                let waits = futures_util::stream::pending();
                let error = client.post(&url).with_body(Body::stream(waits)).send().await.unwrap_err();
                assert!(matches!(error, ClientError::TooManyInterim), "{error}");
            }
        });
    }
}

#[test]
fn a_switch_to_a_protocol_that_was_not_asked_for_is_refused() {
    let (url, _) = server(|mut stream| {
        let head = read_head(&mut stream);
        let taken = head.lines().find_map(|line| line.strip_prefix("x-take: ")).unwrap().to_owned();
        write!(stream, "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: {taken}\r\n\r\n").unwrap();
    });
    on_a_core(move || {
        let url = url.clone();
        async move {
            for (taken, is_fine) in
                [("b/1", true), ("B/1", true), ("a, b/1", true), ("c", false), ("b", false), ("a, c", false)]
            {
                let request = Client::new()
                    .get(&url)
                    .with_header(header::CONNECTION, HeaderValue::from_static("upgrade"))
                    .with_header(header::UPGRADE, HeaderValue::from_static("a, b/1"))
                    .with_header("x-take".parse().unwrap(), HeaderValue::from_static(taken));
                let switched = request.send().await;
                assert_eq!(switched.is_ok(), is_fine, "{taken}");
                assert!(is_fine || matches!(switched.unwrap_err(), ClientError::UnaskedUpgrade));
            }
        }
    });
}
