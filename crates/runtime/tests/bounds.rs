//! What peers can make a core hold is bounded, for one connection and for all of them.

use std::future::poll_fn;
use std::io::Read;
use std::task::Poll;
use std::time::Duration;

use gimmal_runtime::Options;
use support::{eventually, on_both, receive_exactly};

mod support;

const PIECE: usize = 64 * 1024;
const CLIENTS: usize = 24;

/// Each may have 256 KiB unsent, and all together no more than 1 MiB and the piece that each was at.
#[test]
fn clients_that_read_nothing_share_one_account_of_unsent_bytes() {
    let options = Options { core_unsent_bytes_max: 1024 * 1024, ..Options::default() };
    on_both(&options, |core, listener, address| async move {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(std::net::TcpStream::connect(address.as_tcp().unwrap()).unwrap());
            let server = listener.accept().await.unwrap();
            core.spawn(async move { while server.send(vec![0; PIECE]).await.is_ok() {} });
        }
        // Until the kernel takes no more of any of them.
        let (mut before, mut after) = (0, 1);
        while before != after {
            before = after;
            tokio::time::sleep(Duration::from_millis(300)).await;
            after = core.counters().sent_bytes;
        }
        let unsent = core.counters().unsent_bytes as usize;
        assert!(unsent > 0, "the clients read nothing");
        let max = 1024 * 1024 + CLIENTS * PIECE;
        assert!(unsent <= max, "{unsent} bytes are unsent, of at most {max}");
        // One that reads is served though the account is full.
        let reader = clients.pop().unwrap();
        let reading = std::thread::spawn(move || {
            let mut left = 20 * 1024 * 1024;
            let mut memory = vec![0; PIECE];
            while left > 0 {
                left -= (&reader).read(&mut memory).unwrap().min(left);
            }
        });
        eventually(|| reading.is_finished()).await;
        drop(clients);
        eventually(|| core.open_connections() == 0).await;
        eventually(|| core.counters().unsent_bytes == 0).await;
    });
}

/// What was received and is not read counts; beyond the account, each receives one buffer at a time.
#[test]
fn connections_that_are_not_read_share_one_account_of_unread_bytes() {
    let options = Options { core_unread_bytes_max: 256 * 1024, ..Options::default() };
    on_both(&options, |core, listener, address| async move {
        let mut pairs = Vec::new();
        for _ in 0..CLIENTS {
            let client = core.connect(&address).await.unwrap();
            let server = listener.accept().await.unwrap();
            server.set_bulk(true);
            // A receive is under way, and what it brings is not read.
            assert!(poll_fn(|cx| Poll::Ready(server.poll_recv(cx).is_pending())).await);
            client.send(vec![b'a'; 200 * 1024]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            pairs.push((client, server));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let unread = core.counters().unread_bytes as usize;
        let max = 256 * 1024 + 128 * 1024 + CLIENTS * 8 * 1024;
        assert!(unread <= max, "{unread} bytes are unread, of at most {max}");
        for (_client, server) in &pairs {
            assert_eq!(receive_exactly(server, 200 * 1024).await, vec![b'a'; 200 * 1024]);
        }
        drop(pairs);
        eventually(|| core.counters().unread_bytes == 0).await;
    });
}
