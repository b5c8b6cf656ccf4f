//! What names a connection dies with it: nothing that is done with a stream after its end reaches another client.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use gimmal_runtime::{Address, File, Listener, Options, Stream};
use support::{connected, eventually, on_both, receive_exactly};
use tokio::io::AsyncWrite;

mod support;

const SECRET: &str = "SECRET OF THE FIRST";

/// Aborts a connection and accepts others, one of which gets the descriptor that the first had.
async fn aborted_and_others(
    core: &Rc<gimmal_runtime::Core>,
    listener: &Listener,
    address: &Address,
) -> (Stream, Vec<(Stream, Stream)>) {
    let (_client, first) = connected(core, listener, address).await;
    first.abort();
    // The close has been carried out before the next is accepted.
    eventually(|| core.open_connections() == 1).await;
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(connected(core, listener, address).await);
    }
    (first, others)
}

/// Sends a word each way over each connection: it arrives, and nothing else does.
async fn assert_untouched(others: Vec<(Stream, Stream)>) {
    for (client, server) in others {
        server.send("down").await.unwrap();
        assert_eq!(receive_exactly(&client, 4).await, b"down");
        client.send("up").await.unwrap();
        assert_eq!(receive_exactly(&server, 2).await, b"up");
    }
}

#[test]
fn bytes_sent_after_an_abort_reach_no_other_client() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (first, others) = aborted_and_others(&core, &listener, &address).await;
        first.queue(SECRET);
        first.queue_all([SECRET.into(), SECRET.into()]);
        assert_eq!(first.send(SECRET).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(first.flush().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_untouched(others).await;
    });
}

#[test]
fn a_file_sent_after_an_abort_reaches_no_other_client() {
    on_both(&Options::default(), |core, listener, address| async move {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, SECRET).unwrap();
        let file = File::open(&core, &path).await.unwrap();
        let (first, others) = aborted_and_others(&core, &listener, &address).await;
        let sent = first.send_file(SECRET, &file, 0, SECRET.len() as u64).await;
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_untouched(others).await;
    });
}

/// The file is asked for before the abort, and would be sent after it.
#[test]
fn an_abort_ends_the_send_of_a_file_that_has_not_begun() {
    on_both(&Options::default(), |core, listener, address| async move {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, SECRET).unwrap();
        let file = File::open(&core, &path).await.unwrap();
        let (client, first) = connected(&core, &listener, &address).await;
        let mut sending = std::pin::pin!(first.send_file("", &file, 0, SECRET.len() as u64));
        let begun = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await.is_ready();
        first.abort();
        if !begun {
            assert_eq!(sending.await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            let received = client.recv().await;
            assert!(!received.is_ok_and(|bytes| *bytes == *SECRET.as_bytes()), "it was sent after the abort");
        }
    });
}

#[test]
fn what_was_put_back_is_not_received_after_an_abort() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (_client, server) = connected(&core, &listener, &address).await;
        server.unrecv("put back".into());
        server.abort();
        assert!(server.try_recv().is_none());
        assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_shutdown_after_an_abort_ends_no_other_connection() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (mut first, others) = aborted_and_others(&core, &listener, &address).await;
        assert_eq!(first.shutdown().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        let ended = poll_fn(|cx| Pin::new(&mut first).poll_shutdown(cx)).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_untouched(others).await;
    });
}

#[test]
fn addresses_after_an_abort_are_of_no_other_client() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (first, others) = aborted_and_others(&core, &listener, &address).await;
        assert_eq!(first.peer_addr().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(first.local_addr().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_untouched(others).await;
    });
}

/// The peer has ended its side, so that no receive is in flight and the close follows the shutdown at once.
#[test]
fn an_end_of_sending_reaches_no_later_client() {
    on_both(&Options::default(), |_, listener, address| async move {
        let std_address = address.as_tcp().unwrap();
        for _ in 0..200 {
            let mut ending = std::net::TcpStream::connect(std_address).unwrap();
            let mut server = listener.accept().await.unwrap();
            ending.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(server.recv().await.unwrap().is_empty());
            let mut next = std::net::TcpStream::connect(std_address).unwrap();
            poll_fn(|cx| Pin::new(&mut server).poll_shutdown(cx)).await.unwrap();
            drop(server);
            let second = listener.accept().await.unwrap();
            second.send("alive").await.unwrap();
            second.flush().await.unwrap();
            // What the peer of the second sees comes from the second alone.
            next.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut word = [0; 5];
            next.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"alive");
            next.write_all(b"x").unwrap();
            let mut rest = Vec::new();
            ending.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            ending.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty(), "the first has its own end, and nothing else");
            next.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let seen = next.read(&mut word);
            assert!(seen.is_err(), "the second is still open, and saw {seen:?}");
        }
    });
}

#[test]
fn an_abort_wakes_whoever_waits_for_the_stream() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (_client, server) = connected(&core, &listener, &address).await;
        let server = Rc::new(server);
        let ended = Rc::new(Cell::new(0));
        let (receiver, ends) = (Rc::clone(&server), Rc::clone(&ended));
        core.spawn(async move {
            assert_eq!(receiver.recv().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            ends.set(ends.get() + 1);
        });
        let (sender, ends) = (Rc::clone(&server), Rc::clone(&ended));
        core.spawn(async move {
            while sender.send(vec![0; 1 << 20]).await.is_ok() {}
            ends.set(ends.get() + 1);
        });
        let (watcher, ends) = (Rc::clone(&server), Rc::clone(&ended));
        core.spawn(async move {
            let error = poll_fn(|cx| watcher.poll_interrupted(cx)).await;
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            ends.set(ends.get() + 1);
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(ended.get(), 0);
        server.abort();
        eventually(|| ended.get() == 3).await;
        assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        server.set_deadline(Some(Duration::from_millis(1)));
        assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        eventually(|| core.open_connections() == 1).await;
    });
}

/// A task that Tokio polls, and not the core, asks for I/O while the core's driver is asleep.
#[test]
fn io_asked_for_from_a_tokio_task_is_under_way_at_once() {
    on_both(&Options::default(), |core, listener, address| async move {
        let inner = Rc::clone(&core);
        let echo = tokio::task::spawn_local(async move {
            let mut rounds = 0_u32;
            // Nothing is open on the core yet, so that not even a tick comes to help.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let client = inner.connect(&address).await.unwrap();
            let server = listener.accept().await.unwrap();
            while rounds < 50 {
                client.send("ping").await.unwrap();
                assert_eq!(receive_exactly(&server, 4).await, b"ping");
                rounds += 1;
            }
            client.peer_addr().await.unwrap();
        });
        tokio::time::timeout(Duration::from_secs(5), echo).await.expect("it is not left lying").unwrap();
    });
}

#[test]
fn a_client_that_sends_tiny_packets_does_not_take_the_receive_buffers_of_a_core() {
    let options = Options { receive_buffers: 64, ..Options::default() };
    on_both(&options, |core, listener, address| async move {
        let mut tiny = std::net::TcpStream::connect(address.as_tcp().unwrap()).unwrap();
        tiny.set_nodelay(true).unwrap();
        let unread = listener.accept().await.unwrap();
        // Asks for the first, so that a receive is armed, and reads no more.
        tiny.write_all(b"a").unwrap();
        assert_eq!(&*unread.recv().await.unwrap(), b"a");
        for _ in 0..400 {
            tiny.write_all(b"b").unwrap();
            tokio::task::yield_now().await;
        }
        // The gauge is kept by the tick.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let in_use = core.counters().buffers_in_use;
        assert!(in_use <= 18, "one client holds {in_use} of 64 buffers");
        assert_eq!(receive_exactly(&unread, 400).await, [b'b'; 400]);
    });
}
