//! An axum app and other Tower services on Gimmal, over sockets, on both back ends.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use gimmal::test::TestServer;
use gimmal::{Address, App, Backend, Next, Server};
use gimmal_tests::peers::{Client, noise};
use http_body::Frame;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, StreamBody};

fn on_both_back_ends(app: impl Fn() -> App, check: impl Fn(&TestServer)) {
    for backend in [Backend::IoUring, Backend::Epoll] {
        let server = Server::new(app()).cores(1).backend(backend);
        check(&TestServer::from_server(server).unwrap());
    }
}

fn axum(router: impl Fn() -> Router, check: impl Fn(&TestServer)) {
    on_both_back_ends(|| App::new().fallback(gimmal::tower::service(router())), check);
}

#[test]
fn routes_state_and_extractors_work_as_on_axums_own_server() {
    async fn greet(State(greeting): State<&'static str>, Path(name): Path<String>) -> String {
        format!("{greeting}, {name}!")
    }
    let router = || Router::new().route("/greet/{name}", get(greet)).with_state("Hello");
    axum(router, |server| {
        let response = server.get("/greet/Ada%20L").send().unwrap();
        assert_eq!((response.status(), response.text()), (StatusCode::OK, "Hello, Ada L!"));
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(server.get("/other").send().unwrap().status(), 404);
        assert_eq!(server.post("/greet/x").send().unwrap().status(), 405);
    });
}

#[test]
fn head_tells_the_length_that_get_has() {
    let router = || Router::new().route("/", get(async || "twelve bytes"));
    axum(router, |server| {
        let response = server.head("/").send().unwrap();
        assert_eq!(response.header("content-length"), Some("12"));
        assert_eq!(response.bytes().len(), 0);
    });
}

#[test]
fn head_tells_no_length_where_none_is_known() {
    let ticks =
        async || Body::from_stream(futures_util::stream::iter(["one", "two"].map(Ok::<_, Infallible>)));
    axum(
        || Router::new().route("/ticks", get(ticks)),
        |server| {
            let mut client = Client::connect(server.address());
            for path in ["/ticks", "/nope"] {
                client.send(format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
                let head = client.head();
                assert!(!head.contains("content-length"), "{head}");
            }
            // And the connection goes on.
            client.send("GET /ticks HTTP/1.0\r\nhost: a\r\n\r\n");
            assert!(client.head().starts_with("HTTP/1.1 200"));
            assert_eq!(client.rest(), b"onetwo");
        },
    );
}

#[test]
fn gimmals_routes_come_before_the_service() {
    let app = || {
        let router = Router::new().fallback(async || "axum");
        App::new().get("/native", async || "gimmal").fallback(gimmal::tower::service(router))
    };
    on_both_back_ends(app, |server| {
        assert_eq!(server.get("/native").send().unwrap().text(), "gimmal");
        assert_eq!(server.get("/else").send().unwrap().text(), "axum");
    });
}

#[test]
fn bodies_stream_both_ways_with_their_trailers() {
    let router = || Router::new().route("/", post(async |body: Body| body));
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
        assert!(client.head().contains("transfer-encoding: chunked"));
        client.expect("3\r\none\r\n");
        // Each piece comes back before the next one is sent.
        for chunk in ["3\r\ntwo\r\n", "5\r\nthree\r\n", "0\r\nchecksum: 42\r\n\r\n"] {
            client.send(chunk);
            client.expect(chunk);
        }
    });
}

#[test]
fn a_megabyte_goes_through_byte_for_byte() {
    let router = || Router::new().route("/", post(async |body: Body| body));
    axum(router, |server| {
        assert!(server.post("/").body(noise(1_000_003)).send().unwrap().bytes() == &noise(1_000_003)[..]);
    });
}

#[test]
fn a_body_may_be_read_and_dropped_in_another_task_and_on_another_thread() {
    async fn length(body: Body) -> String {
        body.collect().await.unwrap().to_bytes().len().to_string()
    }
    async fn in_a_task(body: Body) -> String {
        tokio::spawn(length(body)).await.unwrap()
    }
    async fn on_a_thread(body: Body) -> String {
        let read =
            move || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(length(body));
        tokio::task::spawn_blocking(read).await.unwrap()
    }
    async fn dropped_on_a_thread(body: Body) -> &'static str {
        tokio::task::spawn_blocking(move || drop(body)).await.unwrap();
        "dropped"
    }
    let router = || {
        Router::new()
            .route("/task", post(in_a_task))
            .route("/thread", post(on_a_thread))
            .route("/drop", post(dropped_on_a_thread))
    };
    axum(router, |server| {
        for (path, expected) in [("/task", "300000"), ("/thread", "300000"), ("/drop", "dropped")] {
            let response = server.post(path).body(vec![b'x'; 300_000]).send().unwrap();
            assert_eq!(response.text(), expected, "{path}");
        }
    });
}

#[test]
fn a_task_reads_the_request_on_after_the_response_has_begun() {
    /// Answers at once, and says how many bytes came once they have.
    async fn count(body: Body) -> Body {
        let (mut sender, counted) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            let length = body.collect().await.unwrap().to_bytes().len();
            sender.send_data(length.to_string().into()).await.unwrap();
        });
        Body::new(counted)
    }
    let router = || Router::new().route("/", post(count));
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.send("foobar");
        client.expect("1\r\n6\r\n0\r\n\r\n");
    });
}

#[test]
fn a_task_reads_the_request_on_after_the_response_has_gone_out() {
    async fn later(State(sender): State<std::sync::mpsc::Sender<usize>>, body: Body) -> &'static str {
        tokio::spawn(async move {
            let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
            let _ = sender.send(length);
        });
        "accepted"
    }
    let (sender, lengths) = std::sync::mpsc::channel();
    let router = || Router::new().route("/", post(later)).with_state(sender.clone());
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n");
        assert!(client.head().contains("content-length: 8"));
        client.expect("accepted");
        client.send("foobar");
        assert_eq!(lengths.recv_timeout(Duration::from_secs(10)), Ok(6));
        // The connection goes on.
        client.send("POST / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200"));
        assert_eq!(lengths.recv_timeout(Duration::from_secs(10)), Ok(0));
    });
}

#[test]
fn continue_is_said_when_the_body_is_asked_for_and_not_before() {
    let router = || {
        Router::new()
            .route("/read", post(async |body: String| body))
            .route("/refuse", post(async || StatusCode::FORBIDDEN))
    };
    axum(router, |server| {
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
        assert!(ask("/refuse").1.starts_with("HTTP/1.1 403"));
    });
}

#[test]
fn a_body_that_is_cut_off_or_too_long_is_an_error_of_the_body() {
    async fn read(body: Body) -> (StatusCode, String) {
        match body.collect().await {
            Ok(_) => (StatusCode::OK, String::new()),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
    let app = || {
        let router = Router::new().route("/", post(read));
        App::new().fallback(gimmal::tower::service(router)).body_limit(1000)
    };
    on_both_back_ends(app, |server| {
        let response = server.post("/").body(vec![0; 1001]).send().unwrap();
        assert_eq!(response.status(), 400);
        assert!(response.text().contains("1000 bytes"), "{}", response.text());

        let mut client = Client::connect(server.address());
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf");
        client.finish();
        assert!(client.head().starts_with("HTTP/1.1 400"));
    });
}

#[test]
fn events_arrive_as_they_are_made() {
    async fn ticks() -> impl IntoResponse {
        Sse::new(futures_util::stream::iter(0..3).then(async |n| {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok::<_, Infallible>(Event::default().data(n.to_string()))
        }))
    }
    let router = || Router::new().route("/", get(ticks));
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.head().contains("content-type: text/event-stream"));
        client.expect("9\r\ndata: 0\n\n\r\n");
        let first = Instant::now();
        client.expect("9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n");
        assert!(first.elapsed() >= Duration::from_millis(60), "they came all at once");
    });
}

fn websocket_text(text: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x81, 0x80 | text.len() as u8];
    frame.extend(mask);
    frame.extend(text.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

/// The handshake of RFC 6455, section 1.3.
const WEBSOCKET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn axums_websocket_works() {
    async fn echo(upgrade: WebSocketUpgrade) -> impl IntoResponse {
        upgrade.on_upgrade(|mut socket: WebSocket| async move {
            socket.send(Message::text("welcome")).await.unwrap();
            while let Some(Ok(message)) = socket.recv().await {
                // A close is answered by the next `recv`.
                if let Message::Text(_) = message {
                    socket.send(message).await.unwrap();
                }
            }
        })
    }
    let router = || Router::new().route("/", get(echo));
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        // The first frame comes with the request.
        client.send([WEBSOCKET, &websocket_text(b"early")].concat());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        client.expect(b"\x81\x07welcome\x81\x05early");
        for _ in 0..3 {
            client.send(websocket_text(b"next"));
            client.expect(b"\x81\x04next");
        }
        // The close handshake, masked and without a code, ends the connection.
        client.send([0x88, 0x80, 0, 0, 0, 0]);
        assert_eq!(client.rest(), [0x88, 0]);
    });
}

#[test]
fn a_large_message_goes_through_an_upgrade_both_ways() {
    async fn raw(mut request: Request<Body>) -> impl IntoResponse {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut upgraded = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let (mut from, mut to) = tokio::io::split(&mut upgraded);
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut to).await.unwrap();
        });
        (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, "raw")])
    }
    let router = || Router::new().route("/", get(raw));
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 101"));
        let mut sender = client.sender();
        let sending = std::thread::spawn(move || {
            sender.write_all(&noise(1_000_003)).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        assert!(client.rest() == noise(1_000_003));
        sending.join().unwrap();
    });
}

#[test]
fn an_upgrade_that_the_service_does_not_want_is_answered_as_it_says() {
    let router = || Router::new().route("/", get(async || "plain"));
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        client.send(WEBSOCKET);
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.expect("plain");
    });
}

#[test]
fn extensions_go_in_and_come_out() {
    #[derive(Clone)]
    struct Tenant(u32);
    async fn note(mut request: gimmal::Request, next: Next) -> gimmal::Response {
        gimmal::tower::extensions(&mut request).insert(Tenant(7));
        let mut response = next.run(request).await;
        let back = response.extensions().and_then(|all| all.get::<axum::http::Extensions>());
        let tenant = back.and_then(|all| all.get::<Tenant>()).map_or(0, |tenant| tenant.0);
        response.headers_mut().insert("tenant", tenant.into());
        response
    }
    async fn handler(
        axum::Extension(tenant): axum::Extension<Tenant>,
        ConnectInfo(peer): ConnectInfo<Address>,
    ) -> impl IntoResponse {
        assert!(peer.is_local());
        (axum::Extension(Tenant(tenant.0 + 1)), "done")
    }
    let app = || {
        let router = Router::new().route("/", get(handler));
        let service = gimmal::tower::service(router).with_peer(|peer| ConnectInfo(peer.clone()));
        App::new().fallback(service).with(note)
    };
    on_both_back_ends(app, |server| {
        let response = server.get("/").send().unwrap();
        assert_eq!((response.text(), response.header("tenant")), ("done", Some("8")));
    });
}

#[test]
fn what_a_service_fails_with_is_not_shown() {
    let service = || {
        tower::service_fn(async |_: Request<gimmal::tower::SendBody>| {
            Err::<Response<String>, _>(std::io::Error::other("secret"))
        })
    };
    let app = || App::new().fallback(gimmal::tower::service(service()));
    on_both_back_ends(app, |server| {
        let response = server.get("/").send().unwrap();
        assert_eq!(response.status(), 500);
        assert!(!response.text().contains("secret"));
    });
}

#[test]
fn a_service_that_is_not_ready_is_waited_for() {
    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(50)).await;
        "slow"
    }
    let app = || {
        let one = tower::limit::ConcurrencyLimit::new(Router::new().route("/", get(slow)), 1);
        App::new().fallback(gimmal::tower::service(one))
    };
    on_both_back_ends(app, |server| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(server.get("/").send().unwrap().text(), "slow"));
            }
        });
        assert!(start.elapsed() >= Duration::from_millis(150));
    });
}

#[test]
fn an_error_in_a_response_body_cuts_it_off() {
    async fn broken() -> Body {
        let pieces = [Ok(Frame::data(Bytes::from("whole"))), Err(std::io::Error::other("the disk is gone"))];
        Body::new(StreamBody::new(futures_util::stream::iter(pieces)))
    }
    let router = || Router::new().route("/", get(broken));
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client.head();
        let rest = client.rest();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    });
}

#[test]
fn obsolete_text_and_repeated_fields_come_through() {
    async fn all(headers: HeaderMap) -> String {
        let lengths = headers.get_all("x").iter().map(|value| value.as_bytes().len().to_string());
        format!("{} {}", lengths.collect::<Vec<_>>().join(","), headers[header::HOST].to_str().unwrap())
    }
    let router = || Router::new().route("/", get(all));
    axum(router, |server| {
        let mut client = Client::connect(server.address());
        client.send(b"GET / HTTP/1.1\r\nhost: a.example\r\nx: 1\r\nX: \xe4\xe4\r\n\r\n");
        client.head();
        client.expect("1,2 a.example");
    });
}
