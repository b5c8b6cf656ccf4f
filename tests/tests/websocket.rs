//! WebSocket over real sockets, with tungstenite as the client.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use gimmal::test::TestServer;
use gimmal::websocket::{CloseCode, Message, PreparedMessage, WebSocketLimits, WebSocketUpgrade};
use gimmal::{App, Request, Response, State, get};
use gimmal_tests::{BACKENDS, Client as Raw, eventually, server};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as PeerCode;
use tokio_tungstenite::tungstenite::{Error as PeerError, Message as Peer};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .protocols(&["v2", "v1"])
        .limits(WebSocketLimits { message_bytes: 1 << 20, ..Default::default() })
        .serve(|socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if message.as_text() == Some("close me") {
                    return socket.close(CloseCode::POLICY, "as you wished").await;
                }
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
}

/// Sends each message back at once, and then waits for a second.
async fn slow(upgrade: WebSocketUpgrade) -> Response {
    upgrade.serve(|socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
}

async fn silent(upgrade: WebSocketUpgrade) -> Response {
    upgrade.keep_alive(Duration::from_millis(200)).serve(|socket| async move {
        let _ = socket.recv().await;
    })
}

/// The same, in a task of its own.
async fn silent_in_a_task(upgrade: WebSocketUpgrade) -> Response {
    upgrade.keep_alive(Duration::from_millis(200)).serve(|socket| async move {
        let receives = async move { while let Some(Ok(_)) = socket.recv().await {} };
        let _ = tokio::task::spawn_local(receives).await;
    })
}

/// Sends much, and receives meanwhile.
async fn flood(upgrade: WebSocketUpgrade) -> Response {
    upgrade.serve(|socket| async move {
        let send = async {
            for _ in 0..300 {
                if socket.send(vec![7; 64 * 1024]).await.is_err() {
                    return;
                }
            }
        };
        let receive = async { while let Some(Ok(_)) = socket.recv().await {} };
        tokio::join!(send, receive);
    })
}

/// Receives nothing, in whatever way.
async fn deaf(upgrade: WebSocketUpgrade, request: Request) -> Response {
    let once = request.query() == Some("once");
    upgrade.keep_alive(Duration::from_millis(200)).serve(move |socket| async move {
        if once {
            let _ = tokio::time::timeout(Duration::from_millis(10), socket.recv()).await;
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
    })
}

/// A task of its own receives, and hands on what comes.
async fn in_a_task(upgrade: WebSocketUpgrade) -> Response {
    upgrade.serve(|socket| async move {
        let socket = std::rc::Rc::new(socket);
        let receives = std::rc::Rc::clone(&socket);
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        tokio::task::spawn_local(async move {
            while let Some(Ok(message)) = receives.recv().await {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        while let Some(message) = receiver.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// Waits for a message for a short time, and then sends more than the client takes at once.
async fn pushes(upgrade: WebSocketUpgrade) -> Response {
    upgrade.keep_alive(Duration::from_millis(100)).serve(|socket| async move {
        let _ = tokio::time::timeout(Duration::from_millis(10), socket.recv()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..300 {
            if socket.send(vec![7; 64 * 1024]).await.is_err() {
                return;
            }
        }
        let _ = socket.send("all").await;
    })
}

/// A task receives one message, and the handler waits for something else.
async fn once_in_a_task(upgrade: WebSocketUpgrade) -> Response {
    upgrade.serve(|socket| async move {
        let socket = std::rc::Rc::new(socket);
        let receives = std::rc::Rc::clone(&socket);
        tokio::task::spawn_local(async move {
            if let Some(Ok(message)) = receives.recv().await {
                let _ = receives.send(message).await;
            }
        });
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(socket);
    })
}

/// Ends the connection with much unsent, and sends on.
async fn aborts(upgrade: WebSocketUpgrade) -> Response {
    upgrade.serve(|socket| async move {
        let _ = socket.send(vec![7; 30 << 20]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        socket.stream().abort();
        tokio::time::sleep(Duration::from_millis(300)).await;
        socket.stream().queue("more");
    })
}

async fn panics(upgrade: WebSocketUpgrade) -> Response {
    upgrade.serve(|socket| async move {
        let _ = socket.recv().await;
        panic!("in the middle of a WebSocket");
    })
}

type Room = broadcast::Sender<PreparedMessage>;

async fn listen(upgrade: WebSocketUpgrade, room: State<Room>) -> Response {
    let mut messages = room.subscribe();
    upgrade.serve(|socket| async move {
        while let Ok(message) = messages.recv().await {
            if socket.send_prepared(&message).await.is_err() {
                return;
            }
        }
    })
}

fn app(room: Room) -> App {
    App::new()
        .route("/echo", get(echo).post(echo))
        .get("/silent", silent)
        .get("/slow", slow)
        .get("/flood", flood)
        .get("/deaf", deaf)
        .get("/task", in_a_task)
        .get("/task/once", once_in_a_task)
        .get("/silent/task", silent_in_a_task)
        .get("/pushes", pushes)
        .get("/aborts", aborts)
        .get("/panics", panics)
        .get("/listen", listen)
        .state(room)
}

#[expect(clippy::needless_pass_by_value, reason = "a closure is passed as it is written")]
fn on_both(test: impl AsyncFn(&TestServer)) {
    for backend in BACKENDS {
        let app = app(broadcast::channel(16).0);
        let server = TestServer::from_server(server(app, backend)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(&server));
    }
}

async fn connect(server: &TestServer, path: &str) -> Client {
    connect_async(format!("ws://{}{path}", server.address())).await.unwrap().0
}

/// The status with which a handshake is refused.
async fn refusal(server: &TestServer, fields: &[(&'static str, &'static str)]) -> Option<u16> {
    let mut request = format!("ws://{}/echo", server.address()).into_client_request().unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok(_) => None,
        Err(PeerError::Http(response)) => Some(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn messages_of_every_size_come_back() {
    on_both(async |server| {
        let mut client = connect(server, "/echo").await;
        for len in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            let text = "é".repeat(len / 2);
            client.send(Peer::text(text.clone())).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), Peer::text(text));
            let bytes = vec![len as u8; len];
            client.send(Peer::binary(bytes.clone())).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), Peer::binary(bytes));
        }
    });
}

#[test]
fn many_messages_at_once_come_back_in_order_and_pings_between_them() {
    on_both(async |server| {
        let mut client = connect(server, "/echo").await;
        for number in 0..1000 {
            client.feed(Peer::text(number.to_string())).await.unwrap();
        }
        client.send(Peer::Ping("here".into())).await.unwrap();
        for number in 0..1000 {
            assert_eq!(client.next().await.unwrap().unwrap(), Peer::text(number.to_string()));
        }
        assert_eq!(client.next().await.unwrap().unwrap(), Peer::Pong("here".into()));
    });
}

#[test]
fn large_and_small_messages_at_once_come_back_in_order() {
    on_both(async |server| {
        let mut client = connect(server, "/echo").await;
        // Short ones are collected, and long ones go out from where they lie.
        let lengths = [0, 5, 125, 126, 8192, 8193, 3, 65_535, 65_536, 1, 1_000_000, 7];
        let bytes: Vec<_> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let messages = lengths.iter().flat_map(|length| {
            let text: String = bytes[..*length].iter().map(|byte| char::from(byte % 26 + b'a')).collect();
            [Peer::binary(bytes[..*length].to_vec()), Peer::text(text)]
        });
        let messages: Vec<_> = messages.collect();
        for message in &messages[..messages.len() - 4] {
            client.feed(message.clone()).await.unwrap();
        }
        client.flush().await.unwrap();
        for message in &messages[..messages.len() - 4] {
            assert!(client.next().await.unwrap().unwrap() == *message, "{}", message.len());
        }
        for message in &messages[messages.len() - 4..] {
            client.send(message.clone()).await.unwrap();
            assert!(client.next().await.unwrap().unwrap() == *message, "{}", message.len());
        }
    });
}

#[test]
fn a_message_goes_out_though_others_are_at_hand_and_the_handler_waits() {
    on_both(async |server| {
        let mut client = connect(server, "/slow").await;
        for text in ["first", "second"] {
            client.feed(Peer::text(text)).await.unwrap();
        }
        let began = Instant::now();
        client.flush().await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Peer::text("first"));
        assert!(began.elapsed() < Duration::from_millis(900), "it waited for the handler");
        assert_eq!(client.next().await.unwrap().unwrap(), Peer::text("second"));
    });
}

#[test]
fn either_side_closes_with_its_code() {
    on_both(async |server| {
        let mut client = connect(server, "/echo").await;
        client.send(Peer::text("close me")).await.unwrap();
        let Some(Ok(Peer::Close(Some(frame)))) = client.next().await else { panic!("no Close") };
        assert_eq!((frame.code, frame.reason.as_str()), (PeerCode::Policy, "as you wished"));
        assert!(client.next().await.is_none());

        let mut client = connect(server, "/echo").await;
        client.close(None).await.unwrap();
        while let Some(Ok(_)) = client.next().await {}
        eventually("the connection goes", || server.handle().connections().is_empty());
    });
}

#[test]
fn a_message_beyond_the_limit_is_closed_with_1009() {
    on_both(async |server| {
        let mut client = connect(server, "/echo").await;
        // The server may end the connection before it has read all of it.
        let _ = client.send(Peer::binary(vec![0; (1 << 20) + 1])).await;
        let Some(Ok(Peer::Close(Some(frame)))) = client.next().await else { panic!("no Close") };
        assert_eq!(frame.code, PeerCode::Size);
    });
}

#[test]
fn a_handshake_is_checked_for_origin_version_and_protocol() {
    on_both(async |server| {
        assert_eq!(refusal(server, &[("origin", "https://evil.example")]).await, Some(403));
        let same = format!("http://{}", server.address()).leak();
        assert_eq!(refusal(server, &[("origin", same)]).await, None);
        assert_eq!(refusal(server, &[("sec-websocket-version", "12")]).await, Some(426));
        let mut request = format!("ws://{}/echo", server.address()).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "v0, v1, v2".parse().unwrap());
        let (_, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "v1");
    });
}

#[test]
fn a_silent_peer_is_pinged_and_then_given_up() {
    on_both(async |server| {
        for path in ["/silent", "/silent/task"] {
            let mut client = connect(server, path).await;
            // Reading answers the Pings, so the connection lives on.
            for _ in 0..3 {
                let pinged = tokio::time::timeout(Duration::from_secs(5), client.next()).await.unwrap();
                assert!(matches!(pinged, Some(Ok(Peer::Ping(_)))), "{path}: {pinged:?}");
            }
            // A peer that does not read answers nothing.
            let began = Instant::now();
            eventually("the connection goes", || server.handle().connections().is_empty());
            assert!(began.elapsed() < Duration::from_secs(5));
        }
    });
}

#[test]
fn a_shutdown_says_1001() {
    for path in ["/echo", "/task"] {
        on_both(async |server| {
            let mut client = connect(server, path).await;
            client.send(Peer::text("hello")).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), Peer::text("hello"));
            server.handle().shutdown();
            let Some(Ok(Peer::Close(Some(frame)))) = client.next().await else { panic!("no Close: {path}") };
            assert_eq!(frame.code, PeerCode::Away);
        });
    }
}

#[test]
fn a_broadcast_reaches_everybody_on_every_core() {
    for backend in BACKENDS {
        let room = broadcast::channel(16).0;
        let server = TestServer::from_server(server(app(room.clone()), backend).cores(2)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..200 {
                clients.push(connect(&server, "/listen").await);
            }
            eventually("everybody listens", || room.receiver_count() == 200);
            for text in ["one", "two"] {
                let _ = room.send(PreparedMessage::new(text.into()));
            }
            for client in &mut clients {
                assert_eq!(client.next().await.unwrap().unwrap(), Peer::text("one"));
                assert_eq!(client.next().await.unwrap().unwrap(), Peer::text("two"));
            }
        });
    }
}

const HANDSHAKE: &str = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A WebSocket of which the client says each byte itself.
fn raw(server: &TestServer, path: &str) -> Raw {
    let mut client = Raw::connect(server.address());
    client.send(format!("GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n"));
    assert_eq!(client.message().status, 101);
    client
}

/// A frame of up to 125 bytes, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// Reads frames of the server until one is a Pong with `payload`; how many came before it.
fn until_pong(client: &mut Raw, payload: &[u8]) -> usize {
    for count in 0.. {
        let head = client.exactly(2).unwrap();
        let len = match head[1] {
            126 => usize::from(u16::from_be_bytes(client.exactly(2).unwrap().try_into().unwrap())),
            127 => u64::from_be_bytes(client.exactly(8).unwrap().try_into().unwrap()) as usize,
            len => usize::from(len),
        };
        let body = client.exactly(len).unwrap();
        if head[0] == 0x8a && body == payload {
            return count;
        }
    }
    unreachable!("a client can wait for ever")
}

#[test]
fn pings_of_a_client_that_reads_nothing_are_answered_by_the_latest_pong_alone() {
    on_both(async |server| {
        for path in ["/echo", "/task"] {
            const PINGS: usize = 500_000;
            let mut client = raw(server, path);
            client.send(frame(0x89, b"").repeat(PINGS));
            client.send(frame(0x89, b"last"));
            let others = until_pong(&mut client, b"last");
            assert!(others < PINGS / 20, "{path}: {others} pongs");
            // It goes on, and a Pong goes before what answers a message that came after its Ping.
            client.send([frame(0x89, b"ping"), frame(0x81, b"text")].concat());
            assert_eq!(until_pong(&mut client, b"ping"), 0, "{path}");
            assert_eq!(client.exactly(6).unwrap(), b"\x81\x04text", "{path}");
        }
    });
}

#[test]
fn a_ping_is_answered_though_the_handler_sends_more_than_the_client_takes() {
    on_both(async |server| {
        let mut client = raw(server, "/flood");
        for number in 0..50 {
            client.send(frame(0x89, &[number]));
            std::thread::sleep(Duration::from_millis(2));
        }
        client.send(frame(0x89, b"last"));
        until_pong(&mut client, b"last");
    });
}

#[test]
fn a_client_that_resets_is_noticed_though_the_handler_receives_nothing() {
    on_both(async |server| {
        for path in ["/deaf", "/deaf?once", "/task", "/task/once", "/echo"] {
            for sent in [&b""[..], b"x"] {
                let mut client = raw(server, path);
                if !sent.is_empty() && !path.starts_with("/deaf") {
                    client.send(frame(0x81, sent));
                    assert_eq!(client.exactly(3).unwrap(), b"\x81\x01x", "{path}");
                }
                // The handler has begun to wait, and the time in which a peer may be silent is over.
                std::thread::sleep(Duration::from_millis(300));
                let stream = client.into_stream();
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                drop(stream);
                eventually(path, || server.handle().connections().is_empty());
            }
        }
    });
}

#[test]
fn a_handler_that_has_given_up_receiving_is_not_hindered_from_sending() {
    on_both(async |server| {
        let mut client = raw(server, "/pushes");
        std::thread::sleep(Duration::from_millis(500));
        client.exactly(300 * (10 + 64 * 1024)).unwrap();
        assert_eq!(client.exactly(5).unwrap(), b"\x81\x03all");
    });
}

#[test]
fn a_client_that_sends_to_a_handler_that_receives_nothing_is_not_read_without_end() {
    on_both(async |server| {
        let mut client = raw(server, "/deaf");
        client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let before = server.handle().counters().received_bytes;
        let frames = frame(0x81, &[b'x'; 100]).repeat(10_000);
        // It cannot be sent: nobody reads.
        while client.try_send(&frames).is_ok() {}
        let received = server.handle().counters().received_bytes - before;
        assert!(received < 1 << 20, "{received}");
    });
}

#[test]
fn a_handshake_with_a_body_is_the_clients_fault() {
    on_both(async |server| {
        let bodies = ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"];
        for body in bodies {
            let mut client = Raw::connect(server.address());
            client.send(format!("GET /echo HTTP/1.1\r\n{HANDSHAKE}{body}"));
            assert_eq!(client.message().status, 400, "{body}");
        }
        let mut client = Raw::connect(server.address());
        client.send(format!("GET /echo HTTP/1.1\r\n{HANDSHAKE}Content-Length: 0\r\n\r\n"));
        assert_eq!(client.message().status, 101);
    });
}

#[test]
fn a_handler_that_sends_on_after_an_abort_does_not_end_the_process() {
    on_both(async |server| {
        let client = raw(server, "/aborts");
        eventually("the handler ends", || server.handle().connections().is_empty());
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(Raw::connect(server.address()).get("/nowhere").status, 404);
        drop(client);
    });
}

#[test]
fn a_handler_that_panics_closes_with_1011() {
    on_both(async |server| {
        let mut client = connect(server, "/panics").await;
        client.send(Peer::text("now")).await.unwrap();
        let Some(Ok(Peer::Close(Some(frame)))) = client.next().await else { panic!("no Close") };
        assert_eq!(frame.code, PeerCode::Error);
    });
}

#[test]
fn a_message_is_text_or_bytes() {
    assert_eq!(Message::from("a").as_text(), Some("a"));
    assert_eq!(Message::from(vec![1]).as_text(), None);
}
