//! What is tried: a server of one core with a route for each way of serving, and a server behind it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::sse::{Event as AxumEvent, Sse};
use axum::routing::{get as axum_get, post as axum_post};
use futures_util::{StreamExt, stream};
use gimmal::compression::Compression;
use gimmal::files::Files;
use gimmal::multipart::Multipart;
use gimmal::proxy::Proxy;
use gimmal::sse::{Event, Events};
use gimmal::tls::TlsServerConfig;
use gimmal::websocket::WebSocketUpgrade;
use gimmal::{
    App, Backend, Body, Bytes, Chunk, Error, HeaderMap, HeaderValue, Json, Method, Path, Query, Request,
    Response, Running, Server, ServerHandle, Stream, Timeouts, Version,
};
use gimmal_tests::peers;
use gimmal_tests::{Authority, eventually, pattern, server, trusting};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

/// After this long without a change, a file has a strong tag.
const FILES_REST: std::time::Duration = std::time::Duration::from_millis(2500);

/// What all servers of a test have in common.
pub(crate) struct Site {
    pub(crate) trusting: Arc<ClientConfig>,
    tls: TlsServerConfig,
    upstream: String,
    leaving: Arc<Leaving>,
    files: tempfile::TempDir,
}

/// A server that runs as long as the value lives.
pub(crate) struct Served {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    handle: ServerHandle,
    running: Option<Running>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(running) = self.running.take() {
            // It was stopped at once, which counts as a failure.
            let _ = running.join();
        }
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("the root");
        let key = authority.server(&["localhost"]).key();
        let files = tempfile::tempdir().unwrap();
        let leaving = Arc::new(Leaving::default());
        let told = Arc::clone(&leaving);
        std::fs::write(files.path().join("small.txt"), "a small file\n").unwrap();
        std::fs::write(files.path().join("large.bin"), pattern(0, 300_000)).unwrap();
        // Until then the tags of files say that they have just been written.
        std::thread::sleep(FILES_REST);
        Self {
            trusting: trusting(authority.pem()),
            tls: TlsServerConfig::builder().certificate(key).build().unwrap(),
            upstream: peers::server(move |stream| upstream(stream, &told)).0,
            leaving,
            files,
        }
    }

    /// Starts a server. The memory that the kernel locks for a ring is free only a moment after the ring's end, and
    /// other tests need some, so it may take several attempts.
    pub(crate) fn start(&self, backend: Backend) -> Served {
        let mut running = None;
        eventually("a server starts", || {
            running = self.server(backend).start().ok();
            running.is_some()
        });
        let running = running.expect("it has started");
        let [plain, tls] = [0, 1].map(|at| running.addresses()[at].as_tcp().unwrap());
        Served { plain, tls, handle: running.handle(), running: Some(running) }
    }

    fn server(&self, backend: Backend) -> Server {
        // Longer than a probe waits, and than a client of the traffic is silent.
        let patient = Duration::from_secs(60);
        let timeouts = Timeouts { handshake: patient, header_read: patient, ..Timeouts::default() };
        let server = server(self.app(), backend).timeouts(timeouts).signals(false);
        server.bind("127.0.0.1:0").bind_tls("127.0.0.1:0", &self.tls)
    }

    /// Has the upstream end the connections that are for it to end, and waits until it has.
    pub(crate) fn end_connections_to_upstream(&self) {
        let told = self.leaving.tell();
        let have_ended = || self.leaving.since().iter().all(|since| *since == told);
        eventually("the upstream has ended its connections", have_ended);
    }

    fn app(&self) -> App {
        let tower = axum::Router::new()
            .route("/tower/hello/{name}", axum_get(tower_hello))
            .route("/tower/ticks/{name}", axum_get(tower_ticks))
            .route("/tower/ws", axum_get(tower_websocket))
            .route("/tower/echo", axum_post(async |body: axum::body::Bytes| body));
        App::new()
            .get("/", async || "Hello, World!")
            .get("/plaintext", async || "Hello, World!")
            .any("/seen", seen)
            .post("/echo", async |body: Bytes| body)
            .post("/mirror", mirror)
            .post("/taken", take_the_body_away)
            .post("/ignored", async || "ignored")
            .post("/json", async |Json(person): Json<Person>| Json(person))
            .post("/upload", upload)
            .get("/events/{name}", events)
            .route(
                "/text",
                gimmal::get(async || "a text that repeats itself\n".repeat(400)).with(Compression::new()),
            )
            .get("/slow", slow)
            .get("/fails", fails_midway)
            .get("/endless", endless)
            .get("/panic", async || -> &'static str { panic!("{}", crate::panics::ON_PURPOSE) })
            .get("/upgrade", upgrade)
            .get("/ws", websocket)
            .files("/files", Files::open(self.files.path()).unwrap())
            .any("/tower/{*rest}", gimmal::tower::service(tower))
            .any("/up/{*rest}", Proxy::new([&self.upstream]).unwrap().via("gimmal").unwrap())
    }
}

#[derive(Serialize, Deserialize)]
struct Person {
    name: String,
    numbers: Vec<u32>,
}

/// What extractors say after the request has been taken away, and what the request says.
async fn seen(
    request: Request,
    method: Method,
    version: Version,
    query: Option<Query<BTreeMap<String, String>>>,
    headers: HeaderMap,
) -> String {
    let query = query.map(|Query(query)| query);
    let taken = format!("{} {} {:?}", request.method(), request.target(), request.version());
    format!("{taken} {:?}\nthen {method} {version:?} {query:?} {headers:?}\n", request.to_header_map())
}

/// Sends back what comes, as it comes.
async fn mirror(mut body: Body) -> Body {
    let chunks = stream::poll_fn(move |cx| body.poll_chunk(cx).map(|next| next.map(|next| Ok(next?))));
    Body::stream(chunks)
}

/// Goes on with the body when the request has been answered already.
async fn take_the_body_away(mut body: Body) -> &'static str {
    tokio::task::spawn_local(async move {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let _ = tokio::time::timeout(Duration::from_millis(20), body.chunk()).await;
    });
    "taken"
}

async fn upload(mut form: Multipart) -> Result<String, Error> {
    let mut said = String::new();
    while let Some(mut field) = form.next_field().await? {
        let (name, file) = (format!("{:?}", field.name()), format!("{:?}", field.file_name()));
        let content = field.bytes(100_000).await?;
        said += &format!("{name} {file}: {}\n", String::from_utf8_lossy(&content));
    }
    Ok(said)
}

async fn events(Path(name): Path<String>) -> Events {
    Events::new(stream::iter(0..5).then(move |number| {
        let name = name.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(Event::data(format!("{name} {number}")))
        }
    }))
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(20)).await;
    "slow"
}

async fn fails_midway() -> Body {
    Body::stream(stream::iter([Ok(Chunk::from(&[b'x'; 20_000][..])), Err("it failed".into())]))
}

async fn endless() -> Body {
    Body::stream(stream::repeat_with(|| Ok(Chunk::from(&[b'x'; 10_000][..]))))
}

async fn upgrade() -> Response {
    Response::switching_protocols(HeaderValue::from_static("echo"), raw)
}

/// Echoes; or ends, as the client says, and then still has something to say.
async fn raw(mut stream: Stream) {
    while let Ok(bytes) = stream.recv().await
        && !bytes.is_empty()
    {
        if bytes.starts_with(b"quit") {
            return;
        }
        if bytes.starts_with(b"finish") {
            // As Tokio's world does it: the stream is dropped before the kernel has done it.
            let _ = AsyncWriteExt::shutdown(&mut stream).await;
            return;
        }
        if bytes.starts_with(b"burst") {
            stream.queue(vec![b'x'; BURST_BYTES]);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if bytes.starts_with(b"abort") || bytes.starts_with(b"burst") {
            stream.abort();
            speak_to_nobody(&stream, &bytes).await;
            return;
        }
        if bytes.starts_with(b"shutdown") {
            let _ = stream.shutdown().await;
        }
        if stream.send(bytes).await.is_err() {
            return;
        }
    }
}

/// More than the kernel takes for a client that does not read.
const BURST_BYTES: usize = 8 << 20;

/// Goes on as if the stream were not aborted, as a second task may that does not know it yet.
async fn speak_to_nobody(stream: &Stream, bytes: &[u8]) {
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let _ = stream.send(bytes.to_vec()).await;
        stream.queue(bytes.to_vec());
    }
    let _ = stream.peer_addr().await;
    let _ = stream.shutdown().await;
}

async fn websocket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.serve(|socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if let Some(text) = message.as_text() {
                if text.starts_with("drop") {
                    return;
                }
                if text.starts_with("burst") {
                    let _ = socket.send(vec![b'x'; BURST_BYTES]).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if text.starts_with("abort") || text.starts_with("burst") {
                    socket.stream().abort();
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    let _ = socket.send(message.clone()).await;
                    speak_to_nobody(socket.stream(), text.as_bytes()).await;
                    return;
                }
            }
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn tower_hello(axum::extract::Path(name): axum::extract::Path<String>) -> String {
    format!("Hello, {name}!")
}

async fn tower_ticks(
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Sse<impl futures_util::Stream<Item = Result<AxumEvent, Infallible>>> {
    Sse::new(stream::iter(0..5).map(move |number| Ok(AxumEvent::default().data(format!("{name} {number}")))))
}

async fn tower_websocket(upgrade: axum::extract::ws::WebSocketUpgrade) -> axum::response::Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            let is_last = message.to_text().is_ok_and(|text| text.starts_with("drop"));
            if is_last || socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// Connections that the upstream ends when it is told to, so that it never does while an answer is waited for that
/// matters.
#[derive(Default)]
struct Leaving {
    /// How often it was told.
    told: AtomicUsize,
    /// For each of the connections, how often it had been told when they came here.
    since: Mutex<Vec<usize>>,
}

impl Leaving {
    /// Waits for the next request on such a connection; tells whether it comes before the end.
    fn stays(&self, stream: &TcpStream, since: usize) -> bool {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(2)));
        loop {
            match stream.peek(&mut [0]) {
                Ok(read) => return read > 0,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return false,
            }
            if self.told.load(Ordering::SeqCst) != since {
                let _ = stream.shutdown(Shutdown::Both);
                return false;
            }
        }
    }

    /// Notes a connection. Under the lock: none may come with an old number once all those have gone.
    fn come(&self) -> usize {
        let mut all = self.since();
        let since = self.told.load(Ordering::SeqCst);
        all.push(since);
        since
    }

    fn tell(&self) -> usize {
        let _all = self.since();
        self.told.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn since(&self) -> MutexGuard<'_, Vec<usize>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server behind the proxy, which does what the path says, until its client goes.
fn upstream(mut stream: TcpStream, leaving: &Leaving) {
    let _ = stream.set_nodelay(true);
    let mut leaves = false;
    loop {
        if leaves {
            let since = leaving.come();
            let stays = leaving.stays(&stream, since);
            let mut all = leaving.since();
            let at = all.iter().position(|other| *other == since).expect("it was noted above");
            all.swap_remove(at);
            drop(all);
            if !stays {
                return;
            }
        }
        let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
        let head = read_head(&mut stream);
        let Some(body) = read_body(&mut stream, &head) else { return };
        let mut path = head.split(' ').nth(1).unwrap_or_default().splitn(4, '/').skip(2);
        let (way, rest) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
        let heard = format!("{head}{}", String::from_utf8_lossy(&body));
        let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{heard}", heard.len());
        let (answer, goes_on) = match way {
            "half" => (format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{rest}"), false),
            "none" => (String::new(), false),
            "chunks" => (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{rest}"), false),
            "garbage" => (format!("no response {rest}\r\n\r\n"), false),
            // Behind its answer one to a request that nobody has sent. Both come at once: what came later could not be
            // told from the answer to the next request.
            "extra" => {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{rest}", rest.len());
                (answer.repeat(2), true)
            }
            // It waits no longer for a next request than until the upstream is told to end.
            "bye" => {
                leaves = true;
                (whole, true)
            }
            "slow" => {
                std::thread::sleep(Duration::from_millis(20));
                (whole, true)
            }
            "stall" => {
                let _ = stream.write_all(&whole.as_bytes()[..whole.len() / 2]);
                std::thread::sleep(Duration::from_millis(200));
                (String::new(), false)
            }
            _ => (whole, true),
        };
        if stream.write_all(answer.as_bytes()).is_err() || !goes_on {
            return;
        }
    }
}

/// The head that comes next, of whatever bytes; what there is of it if the connection ends.
fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// The body behind a head; `None` where no whole request comes.
fn read_body(stream: &mut TcpStream, head: &str) -> Option<Vec<u8>> {
    if !head.ends_with("\r\n\r\n") {
        return None;
    }
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked") {
        let mut byte = [0];
        while !(body.ends_with(b"\r\n0\r\n\r\n") || body == b"0\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            body.push(byte[0]);
        }
    } else if let Some(length) = lower.split("\r\ncontent-length: ").nth(1) {
        body.resize(length.split("\r\n").next()?.parse().ok()?, 0);
        stream.read_exact(&mut body).ok()?;
    }
    Some(body)
}
