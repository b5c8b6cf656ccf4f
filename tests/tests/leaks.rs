//! A hundred thousand connections that end in every way there is; then nothing of them is left.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path as FolderPath;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::stream;
use gimmal::files::Files;
use gimmal::{
    App, Backend, Body, BodyError, Bytes, Chunk, HeaderValue, Path, Response, Server, Stream, Timeouts, post,
};
use gimmal_tests::{Client, eventually};
use socket2::SockRef;

/// Connections on each of the two back ends.
const CONNECTIONS: usize = 50_000;
const THREADS: usize = 4;
/// What the server's time-outs are, and how long a client waits until it has been timed out.
const TIMEOUT: Duration = Duration::from_millis(200);
const TIMED_OUT: Duration = Duration::from_millis(600);

static LARGE: [u8; 1_000_000] = [b'x'; 1_000_000];

async fn sleep(Path(milliseconds): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    "slept"
}

async fn echo(body: Bytes) -> Bytes {
    body
}

/// Sends back what comes, as it comes.
async fn mirror(mut body: Body) -> Body {
    let chunks = stream::poll_fn(move |cx| body.poll_chunk(cx).map(|next| next.map(|next| Ok(next?))));
    Body::stream(chunks)
}

/// Keeps what comes for a while, and the buffers that it lies in.
async fn hold(mut body: Body) -> Result<&'static str, BodyError> {
    let mut held = Vec::new();
    while let Some(chunk) = body.chunk().await {
        held.push(chunk?);
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok("held")
}

/// Goes on with the body when the request has been answered already.
async fn takes_the_body_away(mut body: Body) -> &'static str {
    tokio::task::spawn_local(async move {
        let _ = tokio::time::timeout(Duration::from_millis(20), body.chunk()).await;
    });
    "taken"
}

async fn endless() -> Body {
    Body::stream(stream::repeat_with(|| Ok(Chunk::from(&LARGE[..10_000]))))
}

async fn fails_midway() -> Body {
    Body::stream(stream::iter([Ok(Chunk::from(&LARGE[..100_000])), Err("it failed".into())]))
}

async fn upgrade() -> Response {
    Response::switching_protocols(HeaderValue::from_static("echo"), tcp)
}

/// Echoes once, then lets go: in order, or with a reset.
async fn tcp(stream: Stream) {
    stream.set_deadline(Some(TIMEOUT));
    if let Ok(bytes) = stream.recv().await {
        let abort = bytes.first() == Some(&b'!');
        let _ = stream.send(bytes).await;
        if abort {
            stream.abort();
        }
    }
}

fn app(folder: &FolderPath) -> App {
    App::new()
        .files("/files", Files::open(folder).unwrap())
        .get("/", async || "Hello, World!")
        .get("/large", async || &LARGE[..])
        .get("/endless", endless)
        .get("/fails", fails_midway)
        .get("/sleep/{milliseconds}", sleep)
        .get("/panic", async || -> &'static str { panic!("on purpose") })
        .get("/upgrade", upgrade)
        .post("/echo", echo)
        .post("/mirror", mirror)
        .post("/hold", hold)
        .post("/taken", takes_the_body_away)
        .route("/ignore", post(async || "ignored").body_limit(1000))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn post_head(path: &str, framing: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")
}

/// What a client does with its connection when it is done.
enum Then {
    Close,
    Reset,
    /// It waits until the server has ended it.
    WaitForTheEnd,
    /// It waits until a time-out of the server's must have passed; by then it has been ended.
    WaitForTimeout,
}

/// One connection, in the way of `number`. What the server answers is looked at in other tests.
fn converse(client: &mut Client, number: usize) -> Then {
    let send = |client: &mut Client, bytes: &str| drop(client.try_send(bytes));
    match number % WAYS {
        0 => {
            assert_eq!(client.get("/").status, 200);
            Then::Close
        }
        1 => {
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert_eq!(client.message().status, 200);
            Then::WaitForTheEnd
        }
        2 => {
            client.send(get("/").repeat(5));
            assert_eq!(client.message().status, 200);
            Then::Close
        }
        3 => {
            assert_eq!(client.get("/").status, 200);
            Then::Reset
        }
        4 => Then::Reset,
        5 => Then::Close,
        6 => {
            client.send(get("/"));
            client.half_close();
            assert_eq!(client.message().status, 200);
            Then::WaitForTheEnd
        }
        7 => {
            client.half_close();
            Then::WaitForTheEnd
        }
        8 | 9 => {
            client.send("GET / HTTP/1.1\r\nHo");
            if number % WAYS == 8 { Then::Close } else { Then::Reset }
        }
        10 | 11 => {
            client.send(post_head("/echo", "Content-Length: 1000") + "half");
            if number % WAYS == 10 { Then::Close } else { Then::Reset }
        }
        12 | 13 => {
            client.send(post_head("/mirror", "Transfer-Encoding: chunked") + "5\r\nhello\r\n5\r\nhel");
            if number % WAYS == 12 { Then::Close } else { Then::Reset }
        }
        14 | 15 => {
            client.send(get("/large"));
            client.head().unwrap();
            if number % WAYS == 14 { Then::Close } else { Then::Reset }
        }
        16 | 17 => {
            client.send(get("/endless"));
            client.head().unwrap();
            if number % WAYS == 16 { Then::Close } else { Then::Reset }
        }
        18 => {
            client.send(get("/large").repeat(3));
            Then::Close
        }
        19 => {
            assert_eq!(client.get("/panic").status, 500);
            Then::Close
        }
        20 => {
            client.send(get("/sleep/20"));
            Then::Close
        }
        21 => {
            client.send(get("/sleep/20"));
            Then::Reset
        }
        22 => {
            client.send("GET / HTTP/1.1\r\nHost : a\r\n\r\nand more of it");
            assert_eq!(client.message().status, 400);
            Then::WaitForTheEnd
        }
        23 => {
            client.send(post_head("/ignore", "Content-Length: 100000"));
            send(client, &"x".repeat(50_000));
            Then::Close
        }
        24 => {
            client.send(post_head("/hold", "Content-Length: 100000"));
            client.send("x".repeat(100_000));
            assert_eq!(client.message().text(), "held");
            Then::Close
        }
        25 => {
            client.send(post_head("/hold", "Content-Length: 100000"));
            send(client, &"x".repeat(90_000));
            Then::Reset
        }
        26 => {
            client.send(post_head("/taken", "Content-Length: 5") + "hello");
            assert_eq!(client.message().text(), "taken");
            Then::Close
        }
        27 => {
            client.send(post_head("/taken", "Content-Length: 5") + "he");
            Then::Close
        }
        28 => {
            client.send(get("/fails"));
            // It ends with a reset.
            assert!(client.stream().read_to_end(&mut Vec::new()).is_err());
            Then::Close
        }
        29 | 30 => {
            client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
            assert_eq!(client.message().status, 101);
            client.send(if number % WAYS == 29 { "." } else { "!" });
            let _ = client.exactly(1);
            let _ = client.ended();
            Then::Close
        }
        31 => {
            client.send(post_head("/echo", "Expect: 100-continue\r\nContent-Length: 5"));
            assert_eq!(client.message().status, 100);
            Then::Close
        }
        32 | 33 => {
            client.send(get("/files/large"));
            client.head().unwrap();
            if number % WAYS == 32 { Then::Close } else { Then::Reset }
        }
        // Those that the server times out: few, since they take their time.
        way => {
            if !(number / WAYS).is_multiple_of(10) {
                assert_eq!(client.get("/").status, 200);
                return Then::Close;
            }
            match way {
                34 => {}
                35 => client.send("GET / HTTP/1.1\r\nHo"),
                36 => client.send(post_head("/echo", "Content-Length: 1000") + "half"),
                37 => assert_eq!(client.get("/").status, 200),
                38 => client.send(get("/sleep/60000").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")),
                // It reads nothing of a response that does not fit into the kernel's buffers.
                39 => client.send(get("/files/large")),
                _ => client.send(get("/endless")),
            }
            Then::WaitForTimeout
        }
    }
}

const WAYS: usize = 41;

/// Ends a connection that the server has given up.
fn assert_ended(mut client: Client) {
    // Whatever was on its way comes first; the end must follow, in order or not.
    client.stream().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match client.stream().read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the server has not ended it: {error}: {:?}", client.ended()),
        }
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn connections(port: u16, thread: usize) {
    let mut waiting: VecDeque<(Instant, Client)> = VecDeque::new();
    for number in (thread..CONNECTIONS).step_by(THREADS) {
        // From one address to one address there are not enough ports.
        let address = Ipv4Addr::new(127, 0, 0, 1 + (number / WAYS % 8) as u8);
        let mut client = Client::connect(SocketAddr::new(IpAddr::V4(address), port));
        match converse(&mut client, number) {
            Then::Close => drop(client),
            Then::Reset => SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap(),
            Then::WaitForTheEnd => assert_ended(client),
            Then::WaitForTimeout => waiting.push_back((Instant::now(), client)),
        }
        while waiting.front().is_some_and(|(since, _)| since.elapsed() > TIMED_OUT) {
            assert_ended(waiting.pop_front().unwrap().1);
        }
    }
    for (since, client) in waiting {
        thread::sleep(TIMED_OUT.saturating_sub(since.elapsed()));
        assert_ended(client);
    }
}

fn nothing_is_left(backend: Backend) {
    let files_before_the_server = open_files();
    let timeouts = Timeouts {
        header_read: TIMEOUT,
        idle: TIMEOUT,
        request: TIMEOUT,
        grace: TIMEOUT,
        rate_min_bytes: 100_000_000,
        ..Timeouts::default()
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("large")).unwrap().set_len(32 << 20).unwrap();
    let running = Server::new(app(folder.path()))
        .cores(2)
        .backend(backend)
        .timeouts(timeouts)
        .signals(false)
        .bind("0.0.0.0:0")
        .start()
        .unwrap();
    let handle = running.handle();
    let port = running.addresses()[0].as_tcp().unwrap().port();
    let files = open_files();

    let threads: Vec<_> =
        (0..THREADS).map(|thread| thread::spawn(move || connections(port, thread))).collect();
    for thread in threads {
        thread.join().unwrap();
    }

    let until = Instant::now() + Duration::from_secs(10);
    while handle.counters().open > 0 {
        assert!(Instant::now() < until, "{backend:?}: still open: {:#?}", handle.connections());
        thread::sleep(Duration::from_millis(10));
    }
    eventually("all buffers are back", || handle.counters().buffers_in_use == 0);
    let counters = handle.counters();
    assert_eq!(counters.opened, CONNECTIONS as u64, "{backend:?}: {counters:?}");
    assert_eq!(counters.closed, CONNECTIONS as u64, "{backend:?}: {counters:?}");
    assert_eq!((counters.panics, counters.refused, counters.accept_errors), (0, 0, 0), "{backend:?}");
    assert!(handle.connections().is_empty());
    assert!(counters.deadlines_passed > 0);
    eventually("all descriptors of connections are closed", || open_files() == files);
    // It serves as before.
    assert_eq!(Client::connect(SocketAddr::from(([127, 0, 0, 1], port))).get("/").status, 200);
    handle.shutdown();
    running.join().unwrap();
    eventually("all descriptors of the server are closed", || open_files() == files_before_the_server);
}

/// Hundreds of handlers panic on purpose.
#[expect(clippy::print_stderr, reason = "as the usual hook does")]
fn keep_quiet_about_what_is_on_purpose() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"on purpose") {
            eprintln!("{panic}");
        }
    }));
}

#[test]
fn nothing_is_left_of_a_hundred_thousand_connections() {
    // One back end after the other, since descriptors are counted.
    keep_quiet_about_what_is_on_purpose();
    // Tokio keeps a pair of sockets for signals for as long as the process lives.
    drop(gimmal_tests::start(gimmal_tests::server(App::new(), Backend::Epoll)));
    nothing_is_left(Backend::IoUring);
    nothing_is_left(Backend::Epoll);
}
