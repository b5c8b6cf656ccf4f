//! More than is good for a server: floods, and clients that are too slow.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::stream;
use gimmal::test::TestServer;
use gimmal::{App, Body, BodyError, Bytes, Chunk, Options, Path, Timeouts, post};
use gimmal_tests::{BACKENDS, Client, eventually, pattern, server, start};

/// Made once, since making it takes time.
static BYTES: LazyLock<Bytes> = LazyLock::new(|| pattern(0, 20_000_000).into());

async fn bytes(Path(length): Path<usize>) -> Bytes {
    BYTES.slice(..length)
}

/// A stream without an end.
async fn endless() -> Body {
    Body::stream(stream::repeat_with(|| Ok(Chunk::from(BYTES.slice(..10_000)))))
}

async fn count(mut body: Body) -> Result<String, BodyError> {
    let mut bytes = 0;
    while let Some(chunk) = body.chunk().await {
        bytes += chunk?.len();
    }
    Ok(bytes.to_string())
}

async fn sleep(Path(milliseconds): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    "slept"
}

fn app() -> App {
    App::new()
        .get("/", async || "Hello, World!")
        .get("/bytes/{length}", bytes)
        .get("/endless", endless)
        .get("/sleep/{milliseconds}", sleep)
        .route("/count", post(count).body_limit(u64::MAX))
}

/// What a client can do without end and the server without waiting: send requests, send a body, take one.
#[test]
fn a_client_that_is_always_ready_keeps_no_other_from_its_answers() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2_000);
    let upload = "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n";
    let body = "x".repeat(100_000);
    let download = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
    for backend in BACKENDS {
        for (first, then) in [(&*requests, Some(&requests)), (upload, Some(&body)), (download, None)] {
            let server = start(server(app(), backend));
            let greedy = Client::connect(server.address()).into_stream();
            thread::scope(|scope| {
                let _ends = Ends(&greedy);
                scope.spawn(|| {
                    (&greedy).write_all(first.as_bytes()).unwrap();
                    while let Some(then) = then
                        && (&greedy).write_all(then.as_bytes()).is_ok()
                    {}
                });
                scope.spawn(|| {
                    let mut memory = vec![0; 1 << 20];
                    while matches!((&greedy).read(&mut memory), Ok(1..)) {}
                });
                let mut other = Client::connect(server.address());
                for _ in 0..100 {
                    assert_eq!(other.get("/").status, 200, "{backend:?}");
                }
            });
        }
    }
}

/// Ends a connection for those who use it.
struct Ends<'a>(&'a TcpStream);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

const LAST_REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Eight times as many as there is room for, twice over: first they wait, then all of them are served.
#[test]
fn a_flood_past_the_limit_waits_and_is_served() {
    const ROOM: usize = 100;
    for backend in BACKENDS {
        let options = Options { connections_max: ROOM as u32, ..Options::default() };
        let server = start(server(app(), backend).options(options));
        let counters = || server.handle().counters();
        for round in 0..2 {
            let mut first: Vec<_> = (0..ROOM).map(|_| Client::connect(server.address())).collect();
            for client in &mut first {
                assert_eq!(client.get("/").status, 200);
            }
            let mut flood: Vec<_> = (0..7 * ROOM).map(|_| Client::connect(server.address())).collect();
            for client in &mut flood {
                client.send(LAST_REQUEST);
            }
            thread::sleep(Duration::from_millis(200));
            assert_eq!(counters().open, ROOM as u64, "{backend:?}: the limit holds");
            // Those who are inside are served as ever.
            for client in &mut first {
                assert_eq!(client.get("/").status, 200);
            }
            drop(first);
            for (number, client) in flood.iter_mut().enumerate() {
                let response = client.try_message();
                let response = response.unwrap_or_else(|error| {
                    panic!("{backend:?}: round {round}: number {number} of the flood was lost: {error}")
                });
                assert_eq!(response.text(), "Hello, World!");
                assert!(client.ended().is_ok());
            }
        }
        assert_eq!(Client::connect(server.address()).get("/").status, 200, "{backend:?}: normal service");
        eventually("all are closed", || counters().open == 0);
        let counters = counters();
        assert_eq!(
            (counters.opened, counters.refused, counters.accept_errors),
            (2 * 8 * ROOM as u64 + 1, 0, 0)
        );
    }
}

/// Asks all the time while `test` runs, and asserts that no answer takes long.
fn while_others_are_served(server: &TestServer, test: impl FnOnce()) {
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(move || {
            let mut client = Client::connect(server.address());
            let (mut answers, mut slowest) = (0, Duration::ZERO);
            while !done.load(Ordering::SeqCst) {
                let asked = Instant::now();
                assert_eq!(client.get("/").status, 200);
                slowest = slowest.max(asked.elapsed());
                answers += 1;
                thread::sleep(Duration::from_millis(1));
            }
            (answers, slowest)
        });
        // A test that fails must end the others as well.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let end = Done(done);
        test();
        drop(end);
        let (answers, slowest) = others.join().unwrap();
        assert!(
            answers > 50 && slowest < Duration::from_secs(2),
            "{answers} answers, the slowest after {slowest:?}"
        );
    });
}

/// However fast somebody reads, others have their turn.
#[test]
fn fast_readers_do_not_hold_the_core() {
    for backend in BACKENDS {
        let server = start(server(app(), backend));
        LazyLock::force(&BYTES);
        while_others_are_served(&server, || {
            for path in ["/endless", "/bytes/20000000"] {
                let mut client = Client::connect(server.address());
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                client.send(&request);
                let until = Instant::now() + Duration::from_secs(1);
                let mut buffer = vec![0; 1 << 20];
                let mut read = 0;
                while Instant::now() < until {
                    read += client.stream().read(&mut buffer).unwrap();
                    if read > 20_000_000 {
                        // The next one, if this one has an end.
                        client.send(&request);
                        read = 0;
                    }
                }
            }
        });
    }
}

/// Short, and strict.
fn timeouts() -> Timeouts {
    Timeouts { grace: Duration::from_millis(300), rate_min_bytes: 1_000_000, ..Timeouts::default() }
}

#[test]
fn slow_readers_are_cut_off_while_others_are_served() {
    for backend in BACKENDS {
        let server = start(server(app(), backend).timeouts(timeouts()));
        while_others_are_served(&server, || {
            let mut readers: Vec<_> = ["/bytes/20000000", "/endless"]
                .into_iter()
                .cycle()
                .take(20)
                .map(|path| {
                    let mut client = Client::connect(server.address());
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    client
                })
                .collect();
            eventually("they are connected", || server.handle().counters().open == 21);
            // They read nothing.
            eventually("they are cut off", || server.handle().counters().open == 1);
            for client in &mut readers {
                // What is on its way still comes, and then not an end that looks like one.
                let mut read = Vec::new();
                let ended = client.stream().read_to_end(&mut read);
                let error = ended.expect_err(&format!("{backend:?}: it looks like an end in order"));
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{backend:?}");
                assert!(read.len() < 20_000_000);
            }
        });
    }
}

#[test]
fn a_reader_that_is_not_too_slow_gets_all() {
    const BYTES: usize = 8_000_000;
    for backend in BACKENDS {
        // The kernel takes what fits into its buffers, megabytes at once, and then nothing for a while.
        let timeouts = Timeouts { grace: Duration::from_secs(1), ..timeouts() };
        let server = start(server(app(), backend).timeouts(timeouts));
        let mut client = Client::connect(server.address());
        client.send(format!("GET /bytes/{BYTES} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.head().unwrap();
        let mut all = Vec::new();
        while all.len() < BYTES {
            all.extend(client.exactly(BYTES / 40).unwrap());
            thread::sleep(Duration::from_millis(40));
        }
        assert!(all == pattern(0, BYTES), "{backend:?}");
    }
}

#[test]
fn slow_writers_are_refused_while_others_are_served() {
    for backend in BACKENDS {
        let server = start(server(app(), backend).timeouts(timeouts()));
        while_others_are_served(&server, || {
            let head = "POST /count HTTP/1.1\r\nHost: a\r\n";
            let bodies = [
                "Content-Length: 1000000\r\n\r\n",
                "Content-Length: 10\r\n\r\n",
                "Transfer-Encoding: chunked\r\n\r\nf",
            ];
            let started = Instant::now();
            let mut writers: Vec<_> = bodies
                .iter()
                .cycle()
                .take(30)
                .map(|body| {
                    let mut client = Client::connect(server.address());
                    client.send(format!("{head}{body}"));
                    client
                })
                .collect();
            // A byte now and then is too little for all of them.
            for _ in 0..5 {
                for client in &mut writers {
                    let _ = client.try_send("0");
                }
                thread::sleep(Duration::from_millis(50));
            }
            for client in &mut writers {
                let response = client.message();
                assert_eq!(
                    (response.status, response.says_close()),
                    (408, true),
                    "{backend:?}: {response:?}"
                );
                client.ended().unwrap();
            }
            assert!(started.elapsed() >= Duration::from_millis(300));
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        });
    }
}

#[test]
fn a_writer_that_is_not_too_slow_is_heard() {
    for backend in BACKENDS {
        let timeouts = Timeouts { rate_min_bytes: 100_000, ..timeouts() };
        let server = start(server(app(), backend).timeouts(timeouts));
        let mut client = Client::connect(server.address());
        client.send("POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        for _ in 0..20 {
            client.send(pattern(0, 50_000));
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(client.message().text(), "1000000", "{backend:?}");
    }
}

#[test]
fn idle_connections_are_closed_in_order() {
    for backend in BACKENDS {
        let timeouts = Timeouts {
            idle: Duration::from_millis(300),
            header_read: Duration::from_millis(600),
            ..Timeouts::default()
        };
        let server = start(server(app(), backend).timeouts(timeouts));
        let mut idle = Client::connect(server.address());
        let mut silent = Client::connect(server.address());
        assert_eq!(idle.get("/").status, 200);
        let started = Instant::now();
        assert!(idle.ended().is_ok());
        assert!(started.elapsed() >= Duration::from_millis(290), "{backend:?}: {:?}", started.elapsed());
        assert!(silent.ended().is_ok());
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_handler_that_takes_too_long_is_dropped() {
    for backend in BACKENDS {
        let timeouts = Timeouts { request: Duration::from_millis(300), ..Timeouts::default() };
        let server = start(server(app(), backend).timeouts(timeouts));
        let mut client = Client::connect(server.address());
        let started = Instant::now();
        assert_eq!(client.get("/sleep/60000").status, 503, "{backend:?}");
        assert!((Duration::from_millis(290)..Duration::from_secs(5)).contains(&started.elapsed()));
        assert_eq!(client.get("/sleep/1").text(), "slept");
    }
}

/// A client that pipelines without reading is not served without bound.
#[test]
fn a_client_that_asks_and_does_not_read_stops_being_served() {
    for backend in BACKENDS {
        let server = start(server(app(), backend).timeouts(timeouts()));
        let mut client = Client::connect(server.address());
        let request = b"GET /bytes/30000 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
        client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        // It is cut off, or at least no longer read from.
        while sent < 1_000_000 && client.try_send(&request).is_ok() {
            sent += request.len();
        }
        assert!(server.handle().counters().sent_bytes < 100_000_000, "{backend:?}");
        eventually("it is cut off", || server.handle().counters().open == 0);
    }
}
