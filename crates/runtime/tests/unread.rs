//! What a peer sends and nobody reads stays within its limit.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gimmal_runtime::{Address, BackendKind, Options, Stream};
use support::{eventually, on_both};

mod support;

/// More than all buffers of two sockets and of a core.
const FLOOD_BYTES: usize = 64 * 1024 * 1024;
/// For how long a peer must be unable to send before it is given up on. A slow machine only makes the test lenient.
const STALLED_AFTER: Duration = Duration::from_millis(500);

fn options() -> Options {
    Options { receive_buffers: 16, receive_buffer_bytes: 1024, unread_bytes_max: 4096, ..Options::default() }
}

fn connect(address: &Address) -> TcpStream {
    let client = TcpStream::connect(address.as_tcp().unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    client
}

/// Sends until the server takes no more, or much more than it may.
async fn flood(client: &mut TcpStream, server: &Stream) {
    let (piece, mut sent, mut progress) = ([7; 64 * 1024], 0, Instant::now());
    while sent < FLOOD_BYTES && progress.elapsed() < STALLED_AFTER {
        match client.write(&piece) {
            Ok(len) => (sent, progress) = (sent + len, Instant::now()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let received = server.core().counters().received_bytes;
    assert!(received < 1024 * 1024, "{received} bytes were received, and nobody reads");
}

#[test]
fn a_flood_that_takes_all_buffers_does_not_grow_beyond_the_limit() {
    on_both(&options(), |_, listener, address| async move {
        let mut client = connect(&address);
        let server = listener.accept().await.unwrap();
        client.write_all(b"a").unwrap();
        drop(server.recv().await.unwrap());
        flood(&mut client, &server).await;
    });
}

#[test]
fn what_is_put_back_does_not_lift_the_limit() {
    on_both(&options(), |core, listener, address| async move {
        let mut client = connect(&address);
        let server = listener.accept().await.unwrap();
        client.write_all(&[1; 1024]).unwrap();
        let first = server.recv().await.unwrap();
        let before = core.counters().received_bytes;
        client.write_all(&[2; 3 * 1024 + 512]).unwrap();
        if core.backend() == BackendKind::IoUring {
            eventually(|| core.counters().received_bytes == before + 3 * 1024 + 512).await;
        }
        server.unrecv(first);
        flood(&mut client, &server).await;
    });
}
