//! One connection that takes much, or is given up in the middle of it, costs others nothing.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use gimmal_runtime::{BackendKind, Options};
use support::{connected, eventually, on_both, pattern, receive_exactly};

mod support;

/// On io_uring nothing is written before the turn.
#[test]
fn a_large_send_gives_way_before_it_has_filled_its_socket() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        let bytes = pattern(3_000_000);
        server.queue(bytes.clone());
        let at_once = core.counters().sent_bytes;
        assert!(at_once <= 256 * 1024, "{at_once} bytes in one turn");
        assert!(receive_exactly(&client, bytes.len()).await == bytes);
    });
}

/// A piece of which a part has gone leaves nothing behind.
#[test]
fn a_send_after_an_abort_in_the_middle_of_another_does_not_panic() {
    on_both(&Options::default(), |core, listener, address| async move {
        let mut client = std::net::TcpStream::connect(address.as_tcp().unwrap()).unwrap();
        let server = listener.accept().await.unwrap();
        server.queue(pattern(30_000_000));
        eventually(|| core.backend() == BackendKind::IoUring || core.counters().sent_bytes > 256 * 1024)
            .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.abort();
        eventually(|| core.open_connections() == 0).await;
        server.queue("more");
        assert_eq!(server.send("more").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(core.counters().panics, 0);
        drop(server);
        let mut rest = Vec::new();
        // It is reset, or what had come before is read first.
        let _ = client.read_to_end(&mut rest);
        assert!(!rest.ends_with(b"more"));
    });
}
