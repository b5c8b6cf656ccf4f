//! What a request costs: no allocation, and a tenth of a system call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use gimmal::files::Files;
use gimmal::{App, Backend};
use gimmal_tests::allocations::{self, Counting};
use gimmal_tests::{BACKENDS, server, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time, so that they do not disturb each other's counts.
static ALONE: Mutex<()> = Mutex::new(());

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n").into()
}

fn app() -> App {
    App::new()
        .get("/plaintext", async || "Hello, World!")
        .get("/users/{id}", async |gimmal::Path(_): gimmal::Path<u64>| "a user")
        .get("/count", async || allocations::count_this_thread())
}

/// Reads so many responses, which all end alike.
fn read_responses(stream: &mut TcpStream, count: usize) {
    let mut buffer = [0; 16 * 1024];
    let (mut seen, mut filled) = (0, 0);
    while seen < count {
        let read = stream.read(&mut buffer[filled..]).unwrap();
        assert!(read > 0, "the connection ended");
        filled += read;
        let end = b"Hello, World!";
        let mut from = 0;
        while let Some(at) = buffer[from..filled].windows(end.len()).position(|window| window == end) {
            from += at + end.len();
            seen += 1;
        }
        buffer.copy_within(from..filled, 0);
        filled -= from;
    }
    assert_eq!((seen, filled), (count, 0));
}

#[test]
fn a_request_on_a_kept_connection_allocates_nothing() {
    allocates_nothing("/plaintext", app);
}

#[test]
fn a_request_for_a_small_file_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("hello.txt")).unwrap();
    (&file).write_all(b"Hello, World!").unwrap();
    // One that has just been changed is read anew.
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    allocates_nothing("/files/hello.txt", || {
        app().files("/files", Files::open(&folder).unwrap().stale_after(Duration::from_secs(3600)))
    });
}

fn allocates_nothing(path: &str, app: impl Fn() -> App) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for backend in BACKENDS {
        let server = start(server(app(), backend));
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut ask = |pipelined: usize, times: usize| {
            let requests = request(path).repeat(pipelined);
            for _ in 0..times {
                stream.write_all(&requests).unwrap();
                read_responses(&mut stream, pipelined);
            }
        };
        ask(1, 500);
        ask(16, 50);
        assert_eq!(server.get("/count").send().unwrap().status(), 200);
        // What that connection cost is past when its end has been seen.
        gimmal_tests::eventually("it is closed", || server.handle().counters().open == 1);
        ask(1, 500);
        let before = allocations::count();
        ask(1, 5000);
        assert_eq!(allocations::count() - before, 0, "{backend:?}: 5000 requests, one by one");
        let before = allocations::count();
        ask(16, 300);
        assert_eq!(allocations::count() - before, 0, "{backend:?}: 4800 requests, by sixteen");
        // The count is not of nothing.
        assert_eq!(server.get("/users/7").send().unwrap().status(), 200);
        gimmal_tests::eventually("it is closed", || server.handle().counters().open == 1);
        assert!(allocations::count() > before, "{backend:?}: a new connection allocates");
    }
}

/// Keeps `connections` busy, one request at a time on each, from a thread of its own.
fn keep_busy(address: SocketAddr, connections: usize, requests: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let clients = (0..connections).map(|_| {
                tokio::task::spawn_local(async move {
                    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut buffer = [0; 1024];
                    for _ in 0..requests {
                        stream.write_all(&request("/plaintext")).await.unwrap();
                        let mut filled = 0;
                        while !buffer[..filled].ends_with(b"Hello, World!") {
                            filled += stream.read(&mut buffer[filled..]).await.unwrap();
                        }
                    }
                })
            });
            for client in clients.collect::<Vec<_>>() {
                client.await.unwrap();
            }
        });
    })
}

#[test]
fn many_requests_share_one_system_call() {
    const CONNECTIONS: usize = 64;
    const REQUESTS: usize = 500;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = start(server(app(), Backend::IoUring));
    let before = server.handle().counters();
    let clients: Vec<_> = (0..2).map(|_| keep_busy(server.address(), CONNECTIONS / 2, REQUESTS)).collect();
    for client in clients {
        client.join().unwrap();
    }
    let spent = server.handle().counters() - before;
    let per_request = spent.ring_enters as f64 / (CONNECTIONS * REQUESTS) as f64;
    assert!(per_request <= 0.1, "{per_request:.3} calls of io_uring_enter per request: {spent:?}");
}
