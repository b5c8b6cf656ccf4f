//! Stopping: by a signal in the middle of requests, and by the handle.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gimmal::{App, Backend, Body, Path, Running, Timeouts};
use gimmal_tests::{BACKENDS, Client, eventually, pattern, server};

/// Long enough for whatever is to happen at once on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(5);

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(backend: Backend, shutdown: Duration) -> Self {
        let backend = if backend == Backend::Epoll { "epoll" } else { "uring" };
        let mut child = Command::new(env!("CARGO_BIN_EXE_test_server"))
            .args([backend, &shutdown.as_millis().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap_or_else(|_| panic!("the server did not start: {line:?}"));
        Self { child, address }
    }

    fn terminate(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for its end, and asserts that it was in order.
    fn exits_in_order_within(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "the server does not stop");
            thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn asked(client: &mut Client, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
}

/// Clients ask all the time, on connections that they keep and on new ones. Whatever was asked on a connection that was
/// there when the signal came is answered.
#[test]
fn sigterm_in_the_middle_of_requests_loses_none() {
    for backend in BACKENDS {
        let mut process = Process::start(backend, Duration::from_secs(20));
        let address = process.address;
        let (answers, stopping) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        thread::scope(|scope| {
            for number in 0..12 {
                scope.spawn(move || {
                    let path = if number % 3 == 0 { "/slow/20" } else { "/fast" };
                    loop {
                        let Ok(mut client) = Client::try_connect(address) else { return };
                        if stopping.load(Ordering::SeqCst) {
                            return;
                        }
                        // Some keep their connection for a while, some for one request.
                        for _ in 0..if number % 2 == 0 { 100 } else { 1 } {
                            let response = client
                                .try_send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
                                .and_then(|()| client.try_message())
                                .unwrap_or_else(|error| panic!("{backend:?}: a request was lost: {error}"));
                            assert_eq!(response.status, 200);
                            answers.fetch_add(1, Ordering::SeqCst);
                            if response.says_close() {
                                client.ended().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
                                return;
                            }
                        }
                    }
                });
            }
            eventually("clients are served", || answers.load(Ordering::SeqCst) > 2000);
            stopping.store(true, Ordering::SeqCst);
            process.terminate();
        });
        process.exits_in_order_within(AT_ONCE);
    }
}

/// Connections that nobody has accepted yet when the signal comes are served.
#[test]
fn sigterm_loses_nobody_who_waits_to_be_accepted() {
    for backend in BACKENDS {
        let mut process = Process::start(backend, Duration::from_secs(20));
        let mut clients: Vec<_> = (0..300).map(|_| Client::connect(process.address)).collect();
        for client in &mut clients {
            asked(client, "/slow/100");
        }
        // These come right before the signal does: some of them are in the backlog when it is seen.
        let mut late = Vec::new();
        for _ in 0..200 {
            let mut client = Client::connect(process.address);
            asked(&mut client, "/fast");
            late.push(client);
        }
        process.terminate();
        for client in clients.iter_mut().chain(&mut late) {
            let response = client.try_message().unwrap_or_else(|error| panic!("{backend:?}: lost: {error}"));
            assert_eq!(response.status, 200);
        }
        drop((clients, late));
        process.exits_in_order_within(AT_ONCE);
    }
}

#[test]
fn a_second_sigterm_stops_at_once() {
    for backend in BACKENDS {
        let mut process = Process::start(backend, Duration::from_secs(60));
        let mut client = Client::connect(process.address);
        asked(&mut client, "/slow/60000");
        // So many that every core has some.
        let mut idle: Vec<_> = (0..32).map(|_| Client::connect(process.address)).collect();
        for client in &mut idle {
            assert_eq!(client.get("/fast").status, 200);
        }
        process.terminate();
        // A core has seen it when its idle connections are closed; until then a second one would be the same to it.
        for client in &mut idle {
            assert!(client.ended().is_ok());
        }
        process.terminate();
        assert!(client.try_message().is_err());
        let until = Instant::now() + AT_ONCE;
        while process.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "{backend:?}: the server does not stop");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn slow(Path(milliseconds): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    "slow"
}

async fn bytes(Path(length): Path<usize>) -> Body {
    pattern(0, length).into()
}

fn start(backend: Backend, shutdown: Duration) -> (Running, SocketAddr) {
    let app = App::new()
        .get("/fast", async || "fast")
        .get("/slow/{milliseconds}", slow)
        .get("/bytes/{length}", bytes);
    let timeouts = Timeouts { shutdown, ..Timeouts::default() };
    let running = server(app, backend).timeouts(timeouts).signals(false).bind("127.0.0.1:0").start().unwrap();
    let address = running.addresses()[0].as_tcp().unwrap();
    (running, address)
}

#[test]
fn busy_connections_finish_and_idle_ones_are_closed() {
    for backend in BACKENDS {
        let (running, address) = start(backend, Duration::from_secs(20));
        let mut idle = Client::connect(address);
        assert_eq!(idle.get("/fast").status, 200);
        let mut silent = Client::connect(address);
        let mut late = Client::connect(address);
        assert_eq!(late.get("/fast").status, 200);
        let mut busy = Client::connect(address);
        asked(&mut busy, "/slow/1500");
        eventually("all are connected", || running.handle().counters().open == 4);
        thread::sleep(Duration::from_millis(100));

        let begun = Instant::now();
        running.handle().shutdown();
        // A request that was under way already is answered, and told that it was the last.
        let response = late.get("/fast");
        assert_eq!((response.text(), response.says_close()), ("fast", true), "{backend:?}");
        assert!(late.ended().is_ok());
        // These have said nothing, and are let go in order.
        assert!(idle.ended().is_ok(), "{backend:?}");
        assert!(silent.ended().is_ok(), "{backend:?}");
        assert!(begun.elapsed() < Duration::from_millis(1400), "{backend:?}: {:?}", begun.elapsed());
        eventually("nobody listens", || Client::try_connect(address).is_err());
        let response = busy.message();
        assert_eq!((response.text(), response.says_close()), ("slow", true), "{backend:?}");
        assert!(busy.ended().is_ok());
        running.join().unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(1300));
    }
}

/// A response that had begun, and promised to go on, when the shutdown came.
#[test]
fn a_long_response_is_sent_to_its_end_and_then_the_connection_closed() {
    const BYTES: usize = 30_000_000;
    for backend in BACKENDS {
        let (running, address) = start(backend, Duration::from_secs(20));
        let mut client = Client::connect(address);
        asked(&mut client, &format!("/bytes/{BYTES}"));
        let head = client.head().unwrap();
        assert_eq!(head.header("connection"), None);
        running.handle().shutdown();
        thread::sleep(Duration::from_millis(700));
        assert!(client.exactly(BYTES).unwrap() == pattern(0, BYTES), "{backend:?}");
        let begun = Instant::now();
        assert!(client.ended().is_ok(), "{backend:?}");
        running.join().unwrap();
        assert!(begun.elapsed() < AT_ONCE, "{backend:?}: the connection was kept");
    }
}

#[test]
fn what_does_not_finish_in_time_is_cut_off() {
    for backend in BACKENDS {
        let (running, address) = start(backend, Duration::from_millis(700));
        let mut client = Client::connect(address);
        asked(&mut client, "/slow/60000");
        eventually("it is connected", || running.handle().counters().open == 1);
        let begun = Instant::now();
        running.handle().shutdown();
        let error = client.try_message().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{error}");
        running.join().unwrap();
        assert!((Duration::from_millis(700)..AT_ONCE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}

#[test]
fn stop_does_not_wait() {
    for backend in BACKENDS {
        let (running, address) = start(backend, Duration::from_secs(60));
        let mut client = Client::connect(address);
        asked(&mut client, "/slow/60000");
        eventually("it is connected", || running.handle().counters().open == 1);
        running.handle().stop();
        assert!(client.try_message().is_err());
        assert!(running.join().is_err(), "that was no orderly end");
    }
}
