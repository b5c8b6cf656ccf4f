//! What goes wrong in handlers: what the client is told, what the log is told, and what it costs the others.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use gimmal::{App, Body, Chunk, Error, Next, Request, Response, StatusCode};
use gimmal_tests::{BACKENDS, Client, eventually, server, start};
use tracing::Level;
use tracing::span;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;

/// The log of the whole process, since cores log on threads of their own: each test tells its lines by what it asked
/// for.
fn log() -> &'static Log {
    static LOG: std::sync::OnceLock<Log> = std::sync::OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).with_span_events(FmtSpan::NEW).with_writer({
                let log = log.clone();
                move || log.clone()
            });
        let subscriber = tracing_subscriber::registry()
            .with(tracing_subscriber::filter::LevelFilter::from_level(Level::DEBUG))
            .with(layer);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines that hold all of `parts`.
    fn lines(&self, parts: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    }

    /// The only line that holds all of `parts`, once it is there.
    fn line(&self, parts: &[&str]) -> String {
        eventually(&format!("{parts:?} is logged"), || !self.lines(parts).is_empty());
        let mut lines = self.lines(parts);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }
}

#[derive(Debug)]
struct Broken {
    cause: Option<Box<Broken>>,
    what: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as _)
    }
}

fn broken(what: &'static str, cause: &'static str) -> Broken {
    Broken { what, cause: Some(Box::new(Broken { what: cause, cause: None })) }
}

async fn panics() -> &'static str {
    panic!("the secret of the panic");
}

async fn panics_later() -> &'static str {
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    panic!("the secret of the later panic");
}

async fn fails() -> Result<&'static str, Error> {
    Err(broken("the database is on fire", "the password is tiger"))?;
    Ok("it cannot be")
}

async fn refuses() -> Result<&'static str, Error> {
    Err(Error::new(StatusCode::CONFLICT, "it is there already")
        .with_source(broken("key 7", "in table users")))
}

/// A body that panics after its second chunk.
async fn panics_in_the_body() -> Body {
    Body::stream(stream::iter(0..).map(|number| {
        assert!(number < 2, "the secret of the body");
        Ok(Chunk::from(vec![b'x'; 20_000]))
    }))
}

async fn fails_in_the_body() -> Body {
    let chunks = [Ok(Chunk::from(vec![b'x'; 20_000])), Err("the disk is full".into())];
    Body::stream(stream::iter(chunks))
}

async fn promises_too_much() -> Body {
    Body::sized(1_000_000, stream::iter([Ok(Chunk::from(vec![b'x'; 20_000]))]))
}

/// What panics when it is dropped.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the secret of the drop");
        }
    }
}

async fn panics_in_drop() -> &'static str {
    let _guard = PanicsInDrop;
    "it cannot be"
}

async fn panicking_middleware(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    assert!(response.status() != 200, "the secret of the middleware");
    response
}

fn app() -> App {
    let guarded = App::new().get("/", async || "guarded").with(panicking_middleware);
    App::new()
        .get("/", async || "Hello, World!")
        .get("/panics", panics)
        .get("/panics-later", panics_later)
        .get("/panics-in-the-body", panics_in_the_body)
        .get("/panics-in-drop", panics_in_drop)
        .get("/fails", fails)
        .get("/fails-in-the-body", fails_in_the_body)
        .get("/promises-too-much", promises_too_much)
        .get("/refuses", refuses)
        .get("/items/{id}", async || "an item")
        .nest("/middleware", guarded)
}

#[test]
fn a_panic_answers_500_and_costs_nothing_else() {
    log();
    for backend in BACKENDS {
        let server = start(server(app(), backend));
        let mut other = Client::connect(server.address());
        assert_eq!(other.get("/").status, 200);
        let mut client = Client::connect(server.address());
        for path in ["/panics", "/panics-later", "/panics-in-drop", "/middleware"] {
            let response = client.get(path);
            assert_eq!(
                (response.status, response.text()),
                (500, "Internal Server Error"),
                "{backend:?}: {path}"
            );
            // Not even the connection that it was on.
            assert_eq!(client.get("/").text(), "Hello, World!", "{backend:?}: {path}");
            assert_eq!(other.get("/").text(), "Hello, World!");
        }
        let counters = server.handle().counters();
        assert_eq!((counters.panics, counters.opened), (0, 2), "{backend:?}: no task of a core ended");
    }
    let lines = log().lines(&["a handler panicked", "the secret of the panic"]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("ERROR") && line.contains("request=0.1.1-1")), "{lines:?}");
}

/// Whatever ends a body early is logged, and the client can tell: also one of HTTP/1.0, to whom the end of the connection
/// is the end of the body.
#[test]
fn a_body_that_breaks_off_never_looks_complete() {
    log();
    for backend in BACKENDS {
        let server = start(server(app(), backend));
        for path in ["/panics-in-the-body", "/fails-in-the-body", "/promises-too-much"] {
            for version in ["1.1", "1.0"] {
                let mut client = Client::connect(server.address());
                client.send(format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n"));
                let mut received = Vec::new();
                let ended = client.stream().read_to_end(&mut received).map_err(|error| error.kind());
                assert_eq!(ended, Err(ErrorKind::ConnectionReset), "{backend:?}: {path} by HTTP/{version}");
                assert!(!received.ends_with(b"0\r\n\r\n"));
            }
        }
        assert_eq!(server.handle().counters().panics, 0, "{backend:?}: no task of a core ended");
        assert_eq!(Client::connect(server.address()).get("/").status, 200);
        eventually("all are closed", || server.handle().counters().open == 0);
    }
    for error in ["the secret of the body", "the disk is full", "another length than the 1000000 bytes"] {
        let lines = log().lines(&["the body of a response failed", error]);
        assert!(
            lines.len() == 4
                && lines.iter().all(|line| line.contains("ERROR") && line.contains("request=0."))
        );
    }
}

#[test]
fn the_cause_of_an_error_is_logged_with_the_request_and_not_shown() {
    log();
    for backend in BACKENDS {
        let server = start(server(app(), backend));
        let mut client = Client::connect(server.address());
        assert_eq!(client.get("/").status, 200);
        let before = log().lines(&["the database is on fire"]).len();
        let response = client.get("/fails");
        assert_eq!((response.status, response.text()), (500, "Internal Server Error"));
        assert!(response.headers.iter().all(|(_, value)| !value.contains("fire")), "{response:?}");
        let lines = log().lines(&["the database is on fire"]);
        assert_eq!(lines.len(), before + 1);
        let line = &lines[before];
        // Core 0, slot 0, its first connection, and that one's second request.
        for part in
            ["ERROR", "request=0.0.1-2", "status=500", "the database is on fire: the password is tiger"]
        {
            assert!(line.contains(part), "{backend:?}: {part} is not in {line}");
        }
        // What the client is meant to know, it is told.
        let response = client.get("/refuses");
        assert_eq!((response.status, response.text()), (409, "it is there already"));
        let lines = log().lines(&["a handler refused", "request=0.0.1-3", "key 7: in table users"]);
        assert!(lines.iter().all(|line| line.contains("DEBUG")) && !lines.is_empty(), "{lines:?}");
    }
}

#[test]
fn a_client_that_cuts_its_own_body_off_is_no_error_of_the_server() {
    log();
    for backend in BACKENDS {
        let echo = App::new().post("/echo", async |body: Body| body);
        let server = start(server(echo, backend));
        let parts = ["the body was complete", "a response was cut off", "DEBUG"];
        let before = log().lines(&parts).len();
        let mut client = Client::connect(server.address());
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        assert_eq!(client.head().unwrap().status, 200);
        assert_eq!(client.exactly(8).unwrap(), b"3\r\nabc\r\n");
        client.half_close();
        eventually("it is logged", || log().lines(&parts).len() > before);
    }
    let errors = log().lines(&["ERROR", "the body was complete"]);
    assert!(errors.is_empty(), "a client could fill the log: {errors:?}");
}

#[test]
fn each_request_has_a_line_in_the_access_log() {
    log();
    for backend in BACKENDS {
        let server = start(server(app(), backend).access_log(true));
        let mut client = Client::connect(server.address());
        let port = client.stream().local_addr().unwrap().port();
        let peer = format!("peer=127.0.0.1:{port} ");
        assert_eq!(client.get("/items/7?token=secret").status, 200);
        assert_eq!(client.get("/nowhere").status, 404);
        let line = log().line(&["gimmal::access", &peer, "status=200"]);
        for part in ["request=0.0.1-1", "method=GET", "path=/items/7", "bytes=7", "duration_us="] {
            assert!(line.contains(part), "{backend:?}: {part} is not in {line}");
        }
        assert!(!line.contains("secret"), "a query may hold what is nobody's business: {line}");
        let line = log().line(&["gimmal::access", &peer, "status=404"]);
        assert!(line.contains("request=0.0.1-2") && line.contains("path=/nowhere"), "{line}");
        // A server that was not asked for it writes none.
        let silent = start(gimmal_tests::server(app(), backend));
        let mut client = Client::connect(silent.address());
        let peer = format!("127.0.0.1:{}", client.stream().local_addr().unwrap().port());
        assert_eq!(client.get("/").status, 200);
        assert_eq!(client.get("/").status, 200);
        assert!(log().lines(&["gimmal::access", &peer]).is_empty());
    }
}

/// A handler that says what spans it is in.
async fn spans() -> String {
    tracing::info!("from within the handler");
    let mut name = String::new();
    span::Span::current().with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<tracing_subscriber::Registry>().unwrap();
        use tracing_subscriber::registry::LookupSpan;
        let span = registry.span(id).unwrap();
        name = span.scope().map(|span| span.name()).collect::<Vec<_>>().join(" in ");
    });
    name
}

#[test]
fn spans_tell_connection_and_request() {
    log();
    for backend in BACKENDS {
        let server = start(server(App::new().get("/spans/{id}", spans), backend));
        let mut client = Client::connect(server.address());
        assert_eq!(client.get("/spans/9").text(), "request in connection", "{backend:?}");
    }
    let lines = log().lines(&["from within the handler"]);
    assert_eq!(lines.len(), 2);
    for line in lines {
        for part in [
            "connection{id=0.0.1}",
            "request{id=0.0.1-1",
            "method=GET",
            "path=\"/spans/9\"",
            "route=\"/spans/{id}\"",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
}
