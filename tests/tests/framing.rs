//! Message framing over real sockets (RFC 9112): each request is sent whole, and once for every place where it can be
//! cut in two, with the second part sent only when the server has received the first.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use futures_util::stream;
use gimmal::test::TestServer;
use gimmal::tls::TlsServerConfig;
use gimmal::{
    App, Body, BodyError, Bytes, Chunk, HeaderMap, HeaderValue, Request, Response, StatusCode, Timeouts, get,
    post,
};
use gimmal_tests::{Authority, BACKENDS, Client, Message, TlsClient, on_both, server, start, trusting};

async fn echo(body: Bytes) -> Bytes {
    body
}

/// The trailers that came, in the trailers that go.
async fn echo_trailers(mut request: Request) -> Result<Body, BodyError> {
    let mut body = request.take_body();
    let mut all = Vec::new();
    while let Some(chunk) = body.chunk().await {
        all.push(Ok(chunk?));
    }
    let trailers = body.take_trailers().unwrap_or_default();
    Ok(Body::stream(stream::iter(all)).with_trailers(|| trailers))
}

async fn streamed() -> Body {
    let chunks = ["one ", "two ", "three"].map(|text| Ok(Chunk::from(text)));
    Body::stream(stream::iter(chunks)).with_trailers(|| {
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", HeaderValue::from_static("42"));
        trailers
    })
}

async fn echo_upgrade() -> Response {
    Response::switching_protocols(HeaderValue::from_static("echo"), echo_stream)
}

async fn tunnel() -> Response {
    Response::tunnel(echo_stream)
}

async fn echo_stream(stream: gimmal::Stream) {
    while let Ok(bytes) = stream.recv().await {
        if bytes.is_empty() || stream.send(bytes).await.is_err() {
            break;
        }
    }
}

fn app() -> App {
    App::new()
        .get("/", async || "root")
        .get("/a", async || "A")
        .get("/b", async || "B")
        .get("/smuggled", async || "smuggled")
        .route("/post", post(async || "posted").put(async || "put"))
        .post("/", echo)
        .post("/echo", echo)
        .post("/trailers", echo_trailers)
        .get("/stream", streamed)
        .get("/204", async || (StatusCode::NO_CONTENT, "no body may come of this"))
        .get("/304", async || (StatusCode::NOT_MODIFIED, "nor of this"))
        .get("/103", async || (StatusCode::EARLY_HINTS, "a handler cannot answer with an interim response"))
        .get("/upgrade", echo_upgrade)
}

/// Sends `request` whole, and cut at every place, each on a connection of its own: all first parts, then, once they
/// have been received, all second parts.
fn cut_everywhere(server: &TestServer, request: &[u8]) -> Vec<(usize, Client)> {
    let received = || server.handle().counters().received_bytes;
    let before = received();
    let mut clients: Vec<_> =
        (1..=request.len()).map(|cut| (cut, Client::connect(server.address()))).collect();
    let mut first_parts = 0;
    for (cut, client) in &mut clients {
        client.send(&request[..*cut]);
        first_parts += *cut as u64;
    }
    // A server that has refused the first part need not read on; that is why the wait has an end.
    let until = Instant::now() + Duration::from_millis(500);
    while received() < before + first_parts && Instant::now() < until {
        std::thread::sleep(Duration::from_micros(200));
    }
    for (cut, client) in &mut clients {
        // It may have answered, and closed, by what it got.
        let _ = client.try_send(&request[*cut..]);
    }
    clients
}

/// Whether an error says that the server was done with the connection.
fn is_closed(ended: std::io::Result<()>) -> Result<(), String> {
    match ended {
        Ok(()) => Ok(()),
        // It lets go of a client that sends on for too long.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The request is refused with `status`, wherever it is cut; the connection ends; nothing else is answered.
fn refused(server: &TestServer, name: &str, status: u16, request: &[u8]) {
    for (cut, mut client) in cut_everywhere(server, request) {
        let at = || format!("{name}: {:?} cut at {cut}", String::from_utf8_lossy(request));
        let response = client.try_message().unwrap_or_else(|error| panic!("{}: {error}", at()));
        assert_eq!(response.status, status, "{}", at());
        assert!(response.says_close(), "{}: {response:?}", at());
        is_closed(client.ended()).unwrap_or_else(|more| panic!("{}: answered as well: {more}", at()));
    }
}

/// The request is answered by messages with these statuses and bodies, wherever it is cut, and the connection goes on.
fn answered(server: &TestServer, request: &[u8], expected: &[(u16, &str)]) {
    for (cut, mut client) in cut_everywhere(server, request) {
        let at = || format!("{:?} cut at {cut}", String::from_utf8_lossy(request));
        for (status, body) in expected {
            let response = client.try_message().unwrap_or_else(|error| panic!("{}: {error}", at()));
            assert_eq!((response.status, response.text()), (*status, *body), "{}", at());
            assert_eq!(response.header("connection"), None, "{}", at());
        }
        assert_eq!(client.get("/a").text(), "A", "{}", at());
    }
}

/// What a smuggler would have answered as a second request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// RFC and section, status, request; the smuggled request is put behind each of them.
const REFUSED: &[(&str, u16, &str)] = &[
    (
        "9112-6.1 Content-Length and Transfer-Encoding",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "9112-6.1 Transfer-Encoding and Content-Length",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "9112-6.3 unequal lengths",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 37\r\n\r\n",
    ),
    (
        "9112-6.3 equal lengths",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ),
    ("9112-6.3 a list of lengths", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n"),
    ("9112-6.3 a length with a sign", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n"),
    ("9112-6.3 a hexadecimal length", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x0\r\n\r\n"),
    (
        "9112-6.3 a length beyond 64 bits",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
    ),
    (
        "9112-6.3 chunked is not last",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "9112-6.3 chunked twice",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "9112-6.3 two transfer codings in two fields",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "9112-6.3 no coding of that name",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "9112-6.1 an unknown coding under chunked",
        501,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "9112-6.1 Transfer-Encoding in HTTP/1.0",
        400,
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("9112-5.1 space before the colon", 400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n\r\n"),
    (
        "9112-5.1 tab before the colon",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "9112-5.2 folded field",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    ("9112-2.2 space before the first field", 400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("9112-2.2 bare LF after the request line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("9112-2.2 bare LF after a field", 400, "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    ("9112-2.2 bare LF as the empty line", 400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("9112-2.2 bare CR in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: 1\r\n\r\n"),
    ("9112-2.2 two empty lines first", 400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9110-5.5 NUL in a value", 400, "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
    ("9110-5.1 NUL in a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n"),
    ("9112-3.2 no Host", 400, "GET / HTTP/1.1\r\nX: y\r\n\r\n"),
    ("9112-3.2 two Hosts", 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("9110-7.2 malformed Host", 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("9112-3.2.2 absolute form and Host at odds", 400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3 two spaces in the request line", 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9112-3 no version", 400, "GET /\r\nHost: a\r\n\r\n"),
    ("9112-3.2.4 asterisk form of a GET", 400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9110-2.5 HTTP/2.0", 505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("9110-7.4 https in plain text", 421, "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9110-9.3.8 TRACE", 501, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("9110-10.1.1 unknown expectation", 417, "POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n"),
    // Bodies, which the handler of POST / reads.
    (
        "9112-7.1 no chunk size",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n",
    ),
    (
        "9112-7.1 chunk size with a sign",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
    ),
    (
        "9112-7.1 chunk size with 0x",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    ),
    (
        "9112-7.1 chunk size after a space",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n",
    ),
    (
        "9112-7.1 chunk size before a space",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
    ),
    (
        "9112-7.1 chunk size beyond 64 bits",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000001\r\na\r\n0\r\n\r\n",
    ),
    (
        "9112-7.1 bare LF after a chunk size",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    ),
    (
        "9112-7.1 bare LF in an extension",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x\na\r\n0\r\n\r\n",
    ),
    (
        "9112-7.1 a chunk longer than its size",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ),
    (
        "9112-7.1.2 malformed trailer",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno field\r\n\r\n",
    ),
];

fn refused_in_the_half(even: bool) {
    on_both(app, |server| {
        for (name, status, request) in REFUSED.iter().skip(usize::from(!even)).step_by(2) {
            refused(server, name, *status, format!("{request}{SMUGGLED}").as_bytes());
        }
        let counters = server.handle().counters();
        assert_eq!(counters.panics, 0, "{counters:?}");
    });
}

// In two halves, so that two cores have something to do.
#[test]
fn every_smuggling_form_is_refused_wherever_it_is_cut_even() {
    refused_in_the_half(true);
}

#[test]
fn every_smuggling_form_is_refused_wherever_it_is_cut_odd() {
    refused_in_the_half(false);
}

#[test]
fn what_is_too_long_is_refused_while_the_client_still_sends() {
    on_both(
        || app().route("/small", post(echo).body_limit(10)),
        |server| {
            let long = "x".repeat(100_000);
            let cases = [
                (414, format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")),
                (431, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")),
                (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200))),
                (413, "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n12345678901".to_owned()),
                (413, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n".to_owned()),
                (413, "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n"
                    .to_owned()),
                (431, format!(
                    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {long}\r\n\r\n"
                )),
            ];
            for (status, request) in cases {
                let name = &request[..60.min(request.len())];
                let mut client = Client::connect(server.address());
                client.send(&request);
                // One megabyte more, which nobody wants, must not take the answer away.
                for _ in 0..16 {
                    if client.try_send([b'x'; 64 * 1024]).is_err() {
                        break;
                    }
                }
                let response = client.try_message().unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(response.status, status, "{name}");
                assert!(response.says_close(), "{name}: {response:?}");
                is_closed(client.ended()).unwrap_or_else(|more| panic!("{name}: answered as well: {more}"));
            }
        },
    );
}

#[test]
fn good_requests_are_answered_wherever_they_are_cut() {
    on_both(app, |server| {
        answered(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[(200, "root")]);
        // RFC 9112 section 2.2: one empty line before a request is let pass.
        answered(server, b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", &[(200, "A")]);
        // RFC 9112 section 3.2.2.
        answered(server, b"GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", &[(200, "B")]);
        answered(
            server,
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            &[(200, "hello")],
        );
        // RFC 9112 section 7.1: extensions mean nothing to us.
        answered(
            server,
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nhel\r\n02\r\nlo\r\n0\r\n\r\n",
            &[(200, "hello")],
        );
        // A body that the handler does not want is read, and what follows it is the next request.
        answered(
            server,
            b"POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
            &[(200, "posted")],
        );
        answered(
            server,
            b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ",
            &[(200, "posted")],
        );
        // RFC 9110 section 9.3.7.
        answered(server, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &[(204, "")]);
        answered(server, b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", &[(404, "Not Found")]);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_wherever_they_are_cut() {
    on_both(app, |server| {
        answered(
            server,
            b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\
              GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            &[(200, "A"), (200, "hi"), (200, "B")],
        );
        // Many, in one go, with answers that do not all fit into one buffer.
        let mut client = Client::connect(server.address());
        let body = "y".repeat(3000);
        let one = format!(
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n{body}"
        );
        client.send(one.repeat(100));
        for _ in 0..100 {
            assert_eq!(client.message().text(), "A");
            assert_eq!(client.message().text(), body);
        }
    });
}

#[test]
fn each_byte_in_a_segment_of_its_own() {
    on_both(app, |server| {
        let request = b"POST /trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                        5;ext\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 7\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        let received = || server.handle().counters().received_bytes;
        let mut client = Client::connect(server.address());
        for byte in request {
            let before = received();
            client.send([*byte]);
            gimmal_tests::eventually("a byte is received", || received() > before);
        }
        let response = client.message();
        assert_eq!(response.text(), "hello!");
        assert_eq!(response.trailers, [("x-sum".to_owned(), "7".to_owned())]);
        assert_eq!(client.message().text(), "A");
    });
}

#[test]
fn trailers_come_and_go_and_those_that_may_not_are_dropped() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        // RFC 9110 section 6.5.1: what frames, routes or proves is not believed in a trailer.
        client.send(
            "POST /trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\
             Content-Length: 0\r\nHost: b\r\nAuthorization: Basic x\r\n\r\n",
        );
        let response = client.message();
        assert_eq!(response.text(), "x");
        assert_eq!(response.trailers, [("x-sum".to_owned(), "7".to_owned())]);

        let response = client.get("/stream");
        assert_eq!(response.text(), "one two three");
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        assert_eq!(response.trailers, [("checksum".to_owned(), "42".to_owned())]);
        // RFC 9112 section 6.1: none of that for a client of HTTP/1.0; the end of the connection ends the body.
        client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.message();
        assert_eq!((response.text(), response.says_close()), ("one two three", true));
    });
}

#[test]
fn continue_is_said_only_when_the_handler_reads() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        let head = "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        client.send(format!("POST /echo {head}"));
        assert_eq!(client.message().status, 100);
        client.send("hello");
        let response = client.message();
        assert_eq!((response.status, response.text()), (200, "hello"));
        assert_eq!(client.get("/a").text(), "A");

        // It does not come twice, nor for a body that came without waiting.
        client.send(format!("POST /echo {head}hello"));
        let first = client.message();
        let response = if first.status == 100 { client.message() } else { first };
        assert_eq!((response.status, response.text()), (200, "hello"));

        // A handler that does not read: the answer comes at once. The client may now send the body or not, and the
        // server cannot know which, so the connection ends (RFC 9110 section 10.1.1).
        client.send(format!("POST /post {head}"));
        let response = client.message();
        assert_eq!((response.status, response.text(), response.says_close()), (200, "posted", true));
        assert!(client.ended().is_ok());
    });
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        client.send(
            "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999999\r\n\r\n",
        );
        let response = client.message();
        assert_eq!((response.status, response.says_close()), (413, true));
        assert!(client.ended().is_ok());
    });
}

/// The response without its date.
fn timeless(mut message: Message) -> Message {
    message.headers.retain(|(name, _)| name != "date");
    message
}

#[test]
fn head_is_get_without_the_body() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        for path in ["/", "/stream", "/204", "/nowhere"] {
            let got = timeless(client.get(path));
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let head = timeless(client.head().unwrap());
            assert_eq!((head.status, &head.headers), (got.status, &got.headers), "{path}");
        }
        // Nothing followed the heads.
        assert_eq!(client.get("/a").text(), "A");
    });
}

#[test]
fn methods_that_a_route_does_not_have() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        client.send("DELETE /post HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.message();
        assert_eq!((response.status, response.header("allow")), (405, Some("POST, PUT, OPTIONS")));
        client.send("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.message();
        assert_eq!((response.status, response.header("allow")), (204, Some("GET, HEAD, POST, OPTIONS")));
    });
}

#[test]
fn a_method_of_any_name_reaches_whoever_takes_it() {
    let method = async |request: Request| request.method().to_string();
    let all = move || app().any("/any", method).fallback(method);
    on_both(all, |server| {
        for name in ["PROPFIND", "QUERY", "PURGE", "get", "VERSION-CONTROL"] {
            let mut client = Client::connect(server.address());
            for (path, status, text) in
                [("/any", 200, name), ("/elsewhere", 200, name), ("/a", 405, "Method Not Allowed")]
            {
                client.send(format!("{name} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"));
                let response = client.message();
                assert_eq!((response.status, response.text()), (status, text), "{name} {path}");
            }
        }
    });
}

#[test]
fn a_later_minor_version_is_served_as_http_11() {
    on_both(app, |server| {
        let head = "POST /echo HTTP/1.2\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        answered(server, head.as_bytes(), &[(200, "hello")]);
        answered(
            server,
            format!("{head}GET /b HTTP/1.9\r\nHost: a\r\n\r\n").as_bytes(),
            &[(200, "hello"), (200, "B")],
        );
    });
}

#[test]
fn a_target_of_another_scheme_than_the_connections_is_misdirected() {
    let authority = Authority::new("Root");
    for backend in BACKENDS {
        let tls =
            TlsServerConfig::builder().certificate(authority.server(&["localhost"]).key()).build().unwrap();
        let running = server(app(), backend).bind_tls("127.0.0.1:0", &tls).start().unwrap();
        let address = running.addresses()[0].as_tcp().unwrap();
        for (scheme, status) in [("https", 200), ("HTTPS", 200), ("http", 421)] {
            let trusted = trusting(authority.pem());
            let mut client = TlsClient::connect_tls(address, "localhost", &trusted).unwrap();
            client.send(format!("GET {scheme}://localhost/a HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            assert_eq!(client.message().status, status, "{backend:?} {scheme}");
        }
        running.handle().stop();
        let _ = running.join();
    }
}

#[test]
fn an_expectation_of_nothing_is_met() {
    on_both(app, |server| {
        for expect in ["", ",", " , "] {
            let mut client = Client::connect(server.address());
            client.send(format!(
                "POST /echo HTTP/1.1\r\nHost: a\r\nExpect:{expect}\r\nContent-Length: 2\r\n\r\nhi"
            ));
            assert_eq!(client.message().text(), "hi", "{expect:?}");
        }
        let mut client = Client::connect(server.address());
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: , 100-Continue,\r\nContent-Length: 2\r\n\r\n");
        assert_eq!(client.message().status, 100);
        client.send("hi");
        assert_eq!(client.message().text(), "hi");
    });
}

#[test]
fn a_connect_that_opens_no_tunnel_is_no_success_and_the_last_request() {
    let any = || App::new().any("/", async || "any").get("/smuggled", async || "smuggled");
    let fallback = || App::new().fallback(async || "fallback").get("/smuggled", async || "smuggled");
    let no_tunnel = || App::new().connect("/", async || "no tunnel").get("/smuggled", async || "smuggled");
    let apps: [fn() -> App; 4] = [any, fallback, app, no_tunnel];
    for (app, status) in apps.into_iter().zip([405, 405, 405, 501]) {
        on_both(app, |server| {
            let mut client = Client::connect(server.address());
            client.send(format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{SMUGGLED}"));
            let response = client.message();
            assert_eq!((response.status, response.says_close()), (status, true), "{response:?}");
            is_closed(client.ended()).unwrap();
        });
    }
}

#[test]
fn statuses_that_have_no_body() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        let response = client.get("/204");
        assert_eq!((response.status, response.header("content-length")), (204, None));
        assert_eq!(response.header("transfer-encoding"), None);
        let response = client.get("/304");
        assert_eq!((response.status, response.header("transfer-encoding")), (304, None));
        // An interim status from a handler would leave the client waiting for the final one.
        assert_eq!(client.get("/103").status, 500);
        assert_eq!(client.get("/a").text(), "A");
    });
}

#[test]
fn keep_alive_by_version() {
    on_both(app, |server| {
        // RFC 9112 section 9.3: HTTP/1.0 closes unless it is asked not to.
        let mut client = Client::connect(server.address());
        client.send("GET / HTTP/1.0\r\n\r\n");
        let response = client.message();
        assert_eq!((response.text(), response.says_close()), ("root", true));
        assert!(client.ended().is_ok());

        let mut client = Client::connect(server.address());
        for _ in 0..3 {
            client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            let response = client.message();
            assert_eq!((response.text(), response.header("connection")), ("root", Some("keep-alive")));
        }
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(client.message().says_close());
        assert!(client.ended().is_ok());
    });
}

#[test]
fn a_client_that_ends_its_side_gets_its_answers() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
        client.half_close();
        assert_eq!(client.message().text(), "A");
        assert_eq!(client.message().text(), "B");
        assert!(client.ended().is_ok());
        // In the middle of a head, or of a body, there is nothing to answer or to be had.
        for part in ["GET /a HTT", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"] {
            let mut client = Client::connect(server.address());
            client.send(part);
            client.half_close();
            match client.try_message() {
                Ok(response) => assert_eq!((response.status, response.says_close()), (400, true), "{part}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{part}"),
            }
        }
    });
}

#[test]
fn a_slow_head_is_answered_with_408() {
    for backend in BACKENDS {
        let timeouts = Timeouts { header_read: Duration::from_millis(300), ..Timeouts::default() };
        let server = start(server(app(), backend).timeouts(timeouts));
        let mut client = Client::connect(server.address());
        // Slowloris: a byte now and then does not buy more time.
        let started = Instant::now();
        let mut answered = None;
        client.stream().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: yes, and on and on".iter().cycle() {
            let _ = client.try_send([*byte]);
            match client.try_message() {
                Ok(response) => {
                    answered = Some(response);
                    break;
                }
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                }
            }
            assert!(started.elapsed() < Duration::from_secs(5), "{backend:?}: it is never refused");
        }
        let response = answered.unwrap();
        assert_eq!((response.status, response.says_close()), (408, true));
        assert!(started.elapsed() >= Duration::from_millis(300), "it was refused early");
        is_closed(client.ended()).unwrap();
    }
}

#[test]
fn a_connection_is_not_timed_out_for_the_time_before_it_came() {
    for backend in BACKENDS {
        let timeouts = Timeouts { header_read: Duration::from_millis(500), ..Timeouts::default() };
        let server = start(server(app(), backend).timeouts(timeouts));
        for _ in 0..2 {
            // Nobody is connected for longer than a head may take.
            std::thread::sleep(Duration::from_millis(900));
            let mut client = Client::connect(server.address());
            std::thread::sleep(Duration::from_millis(250));
            assert_eq!(client.get("/a").text(), "A", "{backend:?}");
        }
    }
}

#[test]
fn upgrade_gives_the_connection_away() {
    on_both(app, |server| {
        let request =
            "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nwith the head";
        for (cut, mut client) in cut_everywhere(server, request.as_bytes()) {
            let response = client.message();
            assert_eq!(response.status, 101, "cut at {cut}");
            assert_eq!(response.header("upgrade"), Some("echo"));
            assert_eq!(
                response.header("connection").map(str::to_ascii_lowercase).as_deref(),
                Some("upgrade")
            );
            assert_eq!(client.exactly(13).unwrap(), b"with the head", "cut at {cut}");
            client.send("GET /a HTTP/1.1\r\n");
            assert_eq!(client.exactly(17).unwrap(), b"GET /a HTTP/1.1\r\n");
            client.half_close();
            assert!(client.ended().is_ok());
        }
        // Nobody asked for it.
        let mut client = Client::connect(server.address());
        assert_eq!(client.get("/upgrade").status, 500);
        assert_eq!(client.get("/a").text(), "A");
    });
}

#[test]
fn connect_opens_a_tunnel() {
    on_both(
        || App::new().route("/", get(async || "root").connect(tunnel)),
        |server| {
            let mut client = Client::connect(server.address());
            client.send("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n\x16\x03");
            let response = client.head().unwrap();
            // RFC 9110 section 9.3.6: no length, no coding.
            assert_eq!(response.status, 200);
            assert_eq!(
                (response.header("content-length"), response.header("transfer-encoding")),
                (None, None)
            );
            assert_eq!(client.exactly(2).unwrap(), b"\x16\x03");
            client.send("and on");
            assert_eq!(client.exactly(6).unwrap(), b"and on");
            client.half_close();
            assert!(client.ended().is_ok());
        },
    );
}
