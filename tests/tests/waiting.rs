//! Clients that let a handler wait for them, and clients that go while a handler works.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream;
use gimmal::multipart::Multipart;
use gimmal::proxy::Proxy;
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Body, BodyError, Bytes, Chunk, Json, Request, Timeouts};
use gimmal_tests::{Authority, BACKENDS, Client, TlsClient, eventually, on_both, server, start, trusting};

/// Long enough that nothing is due by it in a test.
const FOREVER: Duration = Duration::from_secs(600);

async fn length(body: Bytes) -> String {
    body.len().to_string()
}

async fn json(Json(value): Json<u32>) -> String {
    value.to_string()
}

async fn form(mut parts: Multipart) -> Result<String, gimmal::Error> {
    let mut fields = 0;
    while parts.next_field().await?.is_some() {
        fields += 1;
    }
    Ok(fields.to_string())
}

async fn pieces(mut request: Request) -> Result<String, BodyError> {
    let (mut body, mut count) = (request.take_body(), 0);
    while let Some(chunk) = body.chunk().await {
        count += chunk?.len();
    }
    Ok(count.to_string())
}

/// A task reads the body, and the handler waits for the task.
async fn in_a_task(body: Body) -> Result<String, gimmal::Error> {
    let read = tokio::task::spawn_local(body.collect(u64::MAX));
    let read = read.await.map_err(|_| gimmal::Error::status_only(gimmal::StatusCode::IM_A_TEAPOT))?;
    Ok(read?.len().to_string())
}

/// Asks for the body once, and then waits for something else.
async fn abandoned(mut body: Body) -> &'static str {
    let _ = tokio::time::timeout(Duration::from_millis(10), body.chunk()).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    "done"
}

/// A task of its own reads the body, and the response is made of what it hands on.
async fn mirror(mut body: Body) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::task::spawn_local(async move {
        while let Some(Ok(chunk)) = body.chunk().await {
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    Body::stream(stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|chunk| (Ok(chunk), receiver))
    }))
}

fn app() -> App {
    App::new()
        .get("/", async || "root")
        .post("/length", length)
        .post("/json", json)
        .post("/form", form)
        .post("/pieces", pieces)
        .post("/task", in_a_task)
        .post("/abandoned", abandoned)
        .post("/mirror", mirror)
        .post("/echo", async |body: Body| body)
}

fn impatient() -> Timeouts {
    Timeouts {
        grace: Duration::from_millis(400),
        request: FOREVER,
        header_read: FOREVER,
        idle: FOREVER,
        ..Timeouts::default()
    }
}

const STALLED: &[&str] = &[
    "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
    "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc",
    "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na",
    "POST /json HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n1",
    "POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b\r\n",
    "POST /pieces HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc",
    "POST /task HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc",
    "POST /task HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
];

#[test]
fn a_body_that_stops_coming_is_given_up_after_the_grace_time() {
    for backend in BACKENDS {
        let server = start(server(app(), backend).timeouts(impatient()));
        let mut clients = Vec::new();
        for request in STALLED {
            let mut client = Client::connect(server.address());
            client.send(request);
            clients.push((*request, client));
            // As the second of two that come at once.
            let mut client = Client::connect(server.address());
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{request}"));
            assert_eq!(client.message().text(), "root");
            clients.push((*request, client));
            // After it was told to go on.
            let mut client = Client::connect(server.address());
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            client.send(format!("{head}\r\nExpect: 100-continue\r\n\r\n"));
            assert_eq!(client.message().status, 100, "{request}");
            client.send(body);
            clients.push((*request, client));
        }
        for (request, mut client) in clients {
            let response =
                client.try_message().unwrap_or_else(|error| panic!("{backend:?} {request}: {error}"));
            assert_eq!((response.status, response.says_close()), (408, true), "{backend:?} {request}");
        }
        eventually("nothing is left", || server.handle().connections().is_empty());
    }
}

#[test]
fn a_body_that_stops_coming_over_tls_is_given_up_after_the_grace_time() {
    let authority = Authority::new("Root");
    let trusted = trusting(authority.pem());
    for backend in BACKENDS {
        let tls =
            TlsServerConfig::builder().certificate(authority.server(&["localhost"]).key()).build().unwrap();
        let bound = server(app(), backend).timeouts(impatient()).bind_tls("127.0.0.1:0", &tls);
        let running = bound.start().unwrap();
        let address = running.addresses()[0].as_tcp().unwrap();
        for request in STALLED {
            let mut client = TlsClient::connect_tls(address, "localhost", &trusted).unwrap();
            client.send(request);
            assert_eq!(client.message().status, 408, "{backend:?} {request}");
        }
        running.handle().stop();
        let _ = running.join();
    }
}

#[test]
fn a_handler_that_no_longer_asks_for_the_body_is_not_hurried() {
    for backend in BACKENDS {
        let server = start(server(app(), backend).timeouts(impatient()));
        let mut client = Client::connect(server.address());
        client.send("POST /abandoned HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(client.message().text(), "done", "{backend:?}");
    }
}

#[test]
fn a_body_that_a_task_reads_while_the_response_is_made_of_it_is_not_stuck() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        client.send("POST /mirror HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(client.head().unwrap().status, 200);
        for _ in 0..20 {
            client.send("3\r\nabc\r\n");
            assert_eq!(client.exactly(8).unwrap(), b"3\r\nabc\r\n");
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.exactly(5).unwrap(), b"0\r\n\r\n");
        assert_eq!(client.get("/").text(), "root");
    });
}

/// Closes a connection in such a way that the peer sees a reset.
fn reset(client: Client) {
    let stream: TcpStream = client.into_stream();
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Counts the handlers that are at work.
struct Working(Arc<AtomicUsize>);

impl Working {
    fn on(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn endless(count: &Arc<AtomicUsize>) -> App {
    let count = Arc::clone(count);
    let slow = async || tokio::time::sleep(Duration::from_millis(200)).await;
    let reading = Arc::clone(&count);
    let read = async move |body: Body| {
        let _working = Working::on(&reading);
        // It reads all that there is, and the handler does not wait for that.
        drop(tokio::task::spawn_local(body.collect(u64::MAX)));
        tokio::time::sleep(FOREVER).await;
    };
    App::new().get("/slow", slow).post("/read", read).any("/never", async move || {
        let _working = Working::on(&count);
        tokio::time::sleep(FOREVER).await;
    })
}

#[test]
fn a_client_that_resets_while_its_handler_waits_frees_its_place() {
    for backend in BACKENDS {
        let count = Arc::new(AtomicUsize::new(0));
        let server = start(server(endless(&count), backend));
        let requests = [
            "GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            // Nobody reads the body.
            "POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\nabc",
        ];
        for request in requests {
            let mut clients = Vec::new();
            for _ in 0..20 {
                let mut client = Client::connect(server.address());
                client.send(request);
                clients.push(client);
            }
            eventually("all are at work", || count.load(Ordering::SeqCst) == 20);
            clients.into_iter().for_each(reset);
            eventually(request, || count.load(Ordering::SeqCst) == 0);
            eventually("nothing is left", || server.handle().connections().is_empty());
        }
        // The request came while another one was answered.
        let mut client = Client::connect(server.address());
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        std::thread::sleep(Duration::from_millis(50));
        client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.message().status, 200);
        eventually("it is at work", || count.load(Ordering::SeqCst) == 1);
        reset(client);
        eventually("nothing is left", || server.handle().connections().is_empty());
    }
}

#[test]
fn a_client_that_resets_after_a_task_has_read_its_body_frees_its_place() {
    for backend in BACKENDS {
        let count = Arc::new(AtomicUsize::new(0));
        let server = start(server(endless(&count), backend));
        let mut client = Client::connect(server.address());
        client.send("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
        eventually("it is at work", || count.load(Ordering::SeqCst) == 1);
        std::thread::sleep(Duration::from_millis(50));
        client.send("def");
        std::thread::sleep(Duration::from_millis(50));
        reset(client);
        eventually("its place is free", || count.load(Ordering::SeqCst) == 0);
        eventually("nothing is left", || server.handle().connections().is_empty());
    }
}

#[test]
fn a_client_that_resets_while_a_proxy_waits_gives_the_upstream_up() {
    for backend in BACKENDS {
        let count = Arc::new(AtomicUsize::new(0));
        let upstream = start(server(endless(&count), backend));
        let proxy = Proxy::new([format!("http://{}", upstream.address())]).unwrap();
        let server = start(server(App::new().fallback(proxy), backend));
        let mut client = Client::connect(server.address());
        client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("the upstream is at work", || count.load(Ordering::SeqCst) == 1);
        reset(client);
        eventually("the place is free", || server.handle().connections().is_empty());
        drop(server);
    }
}

#[test]
fn a_client_that_ends_its_side_or_sends_more_still_gets_its_answer() {
    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "slow"
    }
    on_both(
        || App::new().get("/slow", slow).get("/", async || "root"),
        |server| {
            let mut client = Client::connect(server.address());
            client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
            client.half_close();
            assert_eq!(client.message().text(), "slow");
            assert!(client.ended().is_ok());
            // What comes while the handler waits is the next requests.
            let mut client = Client::connect(server.address());
            client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
            std::thread::sleep(Duration::from_millis(50));
            for _ in 0..1000 {
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            client.half_close();
            assert_eq!(client.message().text(), "slow");
            for _ in 0..1000 {
                assert_eq!(client.message().text(), "root");
            }
            assert!(client.ended().is_ok());
        },
    );
}

#[test]
fn a_client_that_sends_requests_while_its_handler_waits_is_not_read_without_end() {
    for backend in BACKENDS {
        let count = Arc::new(AtomicUsize::new(0));
        let server = start(server(endless(&count), backend));
        let mut client = Client::connect(server.address());
        client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let requests = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10_000);
        // Nobody reads them.
        while client.try_send(&requests).is_ok() {}
        let received = server.handle().counters().received_bytes;
        assert!(received < 1 << 20, "{backend:?}: {received}");
        assert_eq!(count.load(Ordering::SeqCst), 1, "{backend:?}");
    }
}

/// Streams a piece, and then what is made of the body.
async fn late(body: Body) -> Body {
    let first = stream::iter([Ok(Chunk::from("first"))]);
    let rest = stream::unfold(body, async |mut body| {
        let chunk = body.chunk().await?;
        Some((chunk.map_err(Into::into), body))
    });
    Body::stream(futures_util::StreamExt::chain(first, rest))
}

/// Leaves the body to a task that reads it later, or never.
async fn kept(mut body: Body) -> &'static str {
    tokio::task::spawn_local(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = body.chunk().await;
    });
    "answered"
}

#[test]
fn a_client_is_not_told_to_go_on_in_the_middle_of_a_response() {
    let app = || app().post("/late", late).post("/kept", kept).post("/unread", async || "unread");
    on_both(app, |server| {
        let expecting = |path: &str| {
            let mut client = Client::connect(server.address());
            client.send(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
            ));
            client
        };
        // The response is made of the body: the client is told to go on before it.
        for path in ["/late", "/echo"] {
            let mut client = expecting(path);
            assert_eq!(client.message().status, 100, "{path}");
            client.send("more");
            let response = client.message();
            let expected = if path == "/late" { "firstmore" } else { "more" };
            assert_eq!((response.status, response.text()), (200, expected), "{path}");
            assert_eq!(client.get("/").text(), "root", "{path}");
        }
        // Nobody may read it: there is no word of going on, and the connection ends.
        let mut client = expecting("/unread");
        let response = client.message();
        assert_eq!((response.status, response.text(), response.says_close()), (200, "unread", true));
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.ended().is_ok());
        // What is sent as the body is never taken for a request, nor a request for the body.
        let mut client = expecting("/kept");
        assert_eq!(client.message().status, 100);
        assert_eq!(client.message().text(), "answered");
        client.send("bodyGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.message().text(), "root");
    });
}

#[test]
fn a_response_that_cannot_begin_becomes_the_answer_to_what_is_wrong() {
    let app = || {
        app()
            .body_limit(100)
            .get("/broken", async || Body::stream(stream::iter([Err("the secret of the stream".into())])))
    };
    on_both(app, |server| {
        let wrong = [
            (413, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n"),
            (413, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n"),
            (400, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
            (500, "GET /broken HTTP/1.1\r\nHost: a\r\n\r\n"),
        ];
        for (status, request) in wrong {
            for before in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
                let mut client = Client::connect(server.address());
                client.send(format!("{before}{request}"));
                if !before.is_empty() {
                    assert_eq!(client.message().text(), "root");
                }
                let response = client.message();
                assert_eq!((response.status, response.says_close()), (status, true), "{request}");
                assert!(!response.text().contains("secret"), "{request}");
                assert!(client.ended().is_ok(), "{request}");
            }
        }
    });
}

#[test]
fn a_request_that_a_task_keeps_does_not_keep_its_connection_open() {
    async fn keep(request: Request) -> &'static str {
        tokio::task::spawn_local(async move {
            tokio::time::sleep(FOREVER).await;
            drop(request);
        });
        "kept"
    }
    on_both(
        || App::new().any("/keep", keep),
        |server| {
            for body in ["", "abc"] {
                let mut client = Client::connect(server.address());
                client.send(format!(
                    "POST /keep HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\n{body}"
                ));
                assert_eq!(client.message().text(), "kept");
                client.send(&"abc"[body.len()..]);
                client.stream().set_read_timeout(Some(Duration::from_secs(4))).unwrap();
                assert!(client.ended().is_ok(), "{body:?}");
            }
        },
    );
}
