//! Bodies of every size, one after the other on the same connection, however they are cut: large ones are received in
//! another way than small ones, and a connection goes back and forth between the two.

use std::time::Duration;

use gimmal::{App, Body, Bytes, post};
use gimmal_tests::{Client, checksum, on_both, pattern};

/// Around the sizes from which a body is received in bulk, a bulk buffer is shared, and one is full.
const SIZES: [usize; 12] =
    [1, 300, 32_767, 32_768, 100, 40_000, 131_072, 65_536, 2, 131_073, 1_000_000, 8_192];

fn app() -> App {
    App::new()
        .get("/", async || "root")
        .route("/collect", post(async |body: Bytes| body).body_limit(2 << 20))
        .route("/stream", post(async |body: Body| body).body_limit(2 << 20))
}

fn head(path: &str, len: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n")
}

#[test]
fn small_and_large_bodies_take_turns_on_a_connection() {
    on_both(app, |server| {
        for path in ["/collect", "/stream"] {
            let mut client = Client::connect(server.address());
            for (turn, len) in SIZES.into_iter().enumerate() {
                let body = pattern(turn as u64, len);
                client.send([head(path, len).into_bytes(), body.clone()].concat());
                assert!(client.message().body == body, "{len} bytes to {path}");
                if turn % 3 == 0 {
                    assert_eq!(client.get("/").text(), "root");
                }
            }
        }
    });
}

#[test]
fn a_large_body_may_be_cut_anywhere_and_followed_by_the_next_request() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        let body = pattern(7, 70_000);
        let mut request = [head("/collect", body.len()).into_bytes(), body.clone()].concat();
        request.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        for cut in [10, 60, 70, 9_000, 40_000, request.len() - 35, request.len() - 3] {
            client.send(&request[..cut]);
            std::thread::sleep(Duration::from_millis(5));
            client.send(&request[cut..]);
            assert!(client.message().body == body, "cut at {cut}");
            assert_eq!(client.message().text(), "root");
        }
    });
}

#[test]
fn many_large_bodies_at_once_are_each_their_own() {
    on_both(app, |server| {
        // More than there are bulk buffers.
        let mut clients: Vec<_> = (0..40).map(|_| Client::connect(server.address())).collect();
        for round in 0..3 {
            for (client, offset) in clients.iter_mut().zip(0_u64..) {
                let body = pattern(offset + round, 60_000);
                client.send([head("/collect", body.len()).into_bytes(), body].concat());
            }
            for (client, offset) in clients.iter_mut().zip(0_u64..) {
                assert!(client.message().body == pattern(offset + round, 60_000), "client {offset}");
            }
        }
    });
}

#[test]
fn a_large_chunked_body_arrives_as_it_was_sent() {
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        let body = pattern(3, 1_500_000);
        client.send("POST /collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(50_000) {
            client.send(format!("{:x}\r\n", piece.len()));
            client.send(piece);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        let received = client.message().body;
        let sum = |bytes: &[u8]| checksum::add(checksum::BEGIN, bytes);
        assert_eq!((received.len(), sum(&received)), (body.len(), sum(&body)));
        assert_eq!(client.get("/").text(), "root");
    });
}
