//! Streams over real sockets, on both back ends.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Mutex;
use std::task::Poll;
use std::time::{Duration, Instant};

use gimmal_runtime::{
    Address, BackendKind, Core, Cores, File, ListenOptions, Listener, Listeners, Options, SendBuf, Stream,
    blocking,
};
use support::{BACKENDS, connected, eventually, on_both, pattern, receive_exactly};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod support;

#[test]
fn megabytes_arrive_byte_for_byte_both_ways() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        let data = pattern(5_000_000);
        core.spawn(async move {
            loop {
                let bytes = server.recv().await.unwrap();
                if bytes.is_empty() {
                    break;
                }
                server.send(bytes).await.unwrap();
            }
        });
        let client = Rc::new(client);
        let (sender, sent) = (Rc::clone(&client), data.clone());
        core.spawn(async move {
            for piece in sent.chunks(77_777) {
                sender.send(piece.to_vec()).await.unwrap();
            }
            sender.shutdown().await.unwrap();
        });
        assert!(receive_exactly(&client, data.len()).await == data);
        assert!(client.recv().await.unwrap().is_empty(), "the end follows the data");
        drop(client);
        core.connections_closed().await;
        let counters = core.counters();
        assert_eq!((counters.opened, counters.closed, counters.open), (2, 2, 0));
    });
}

#[test]
fn pieces_queued_together_go_out_in_order() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        let mut expected = Vec::new();
        for index in 0..200_usize {
            let piece = pattern(index * 7);
            expected.extend_from_slice(&piece);
            server.queue(piece);
        }
        server.queue(SendBuf::from("the end"));
        expected.extend_from_slice(b"the end");
        assert!(receive_exactly(&client, expected.len()).await == expected);
    });
}

#[test]
fn what_one_poll_queues_is_one_send() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        let before = core.counters().sends;
        for piece in ["head ", "body ", "end"] {
            server.queue(piece);
        }
        drop(server);
        assert_eq!(receive_exactly(&client, 13).await, b"head body end");
        if core.backend() == BackendKind::IoUring {
            assert_eq!(core.counters().sends - before, 1);
        }
    });
}

#[test]
fn dropping_a_stream_sends_what_was_queued() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        let data = pattern(3_000_000);
        server.queue(data.clone());
        drop(server);
        assert!(receive_exactly(&client, data.len()).await == data);
        assert!(client.recv().await.unwrap().is_empty());
    });
}

#[test]
fn abort_resets() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        server.abort();
        assert_eq!(client.recv().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(client);
        core.connections_closed().await;
    });
}

#[test]
fn a_deadline_ends_waiting_and_can_be_set_again() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        let started = Instant::now();
        server.set_deadline(Some(Duration::from_millis(100)));
        assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
        assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::TimedOut);
        server.set_deadline(None);
        client.send("late").await.unwrap();
        assert_eq!(&*server.recv().await.unwrap(), b"late");
    });
}

#[test]
fn an_unread_connection_takes_no_more_than_its_share_of_buffers() {
    let options = Options { receive_buffers: 64, unread_bytes_max: 64 * 1024, ..Default::default() };
    on_both(&options, |core, listener, address| async move {
        let (slow, server) = connected(&core, &listener, &address).await;
        slow.queue(pattern(4_000_000));
        // The first receive arms it; then nobody reads.
        let first = server.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(core.counters().buffers_in_use < 40, "{:?}", core.counters());
        let (other, other_server) = connected(&core, &listener, &address).await;
        other.send("hello").await.unwrap();
        assert_eq!(&*other_server.recv().await.unwrap(), b"hello");
        let rest = receive_exactly(&server, 4_000_000 - first.len()).await;
        assert!(rest == pattern(4_000_000)[first.len()..]);
    });
}

#[test]
fn receiving_goes_on_when_all_buffers_are_held() {
    let options = Options { receive_buffers: 4, unread_bytes_max: 1 << 20, ..Default::default() };
    on_both(&options, |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        let data = pattern(300_000);
        client.queue(data.clone());
        // Every buffer is kept until all has arrived.
        let (mut held, mut count) = (Vec::new(), 0);
        while count < data.len() {
            let bytes = server.recv().await.unwrap();
            count += bytes.len();
            held.push(bytes);
        }
        assert!(held.iter().flat_map(|bytes| bytes.iter()).eq(&data));
        assert!(core.counters().fallback_receives > 0);
    });
}

#[test]
fn a_task_whose_socket_is_always_ready_leaves_others_their_turns() {
    let options = Options { receive_buffer_bytes: 512, ..Default::default() };
    on_both(&options, |core, listener, address| async move {
        // On the ring nothing comes or goes within a poll.
        if core.backend() == BackendKind::IoUring {
            return;
        }
        let (client, server) = connected(&core, &listener, &address).await;
        // The kernel holds all of this, and takes as much.
        client.queue(pattern(50_000));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let turns = Rc::new(Cell::new(0));
        let others_turns = Rc::clone(&turns);
        core.spawn(async move {
            loop {
                others_turns.set(others_turns.get() + 1);
                let mut is_first = true;
                poll_fn(|cx| {
                    if std::mem::take(&mut is_first) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(())
                })
                .await;
            }
        });
        // The longest runs of receives and of sends between two turns of the other task.
        let longest = Rc::new(Cell::new(None));
        let result = Rc::clone(&longest);
        core.spawn(async move {
            let (mut seen, mut run, mut runs) = (0, 0, [0, 0]);
            let mut count = |longest: &mut u32| {
                run = if seen == turns.get() { run + 1 } else { 1 };
                seen = turns.get();
                *longest = run.max(*longest);
            };
            let mut left = 50_000;
            while left > 0 {
                left -= server.recv().await.unwrap().len();
                count(&mut runs[0]);
            }
            for _ in 0..300 {
                server.send(&[0; 100][..]).await.unwrap();
                count(&mut runs[1]);
            }
            result.set(Some(runs));
        });
        eventually(|| longest.get().is_some()).await;
        let runs = longest.get().unwrap();
        assert!(runs.iter().all(|run| (32..=64).contains(run)), "{runs:?}");
    });
}

#[test]
fn connections_that_receive_in_bulk_take_turns() {
    on_both(&Options::default(), |core, listener, address| async move {
        let data = pattern(1_000_000);
        let mut pairs = Vec::new();
        for _ in 0..64 {
            let (client, server) = connected(&core, &listener, &address).await;
            server.set_bulk(true);
            client.queue(data.clone());
            pairs.push((client, server));
        }
        // They are read side by side, so that all ask again and again. Every fourth is dropped while it waits.
        let ended = Rc::new(Cell::new(0));
        for (number, (client, server)) in pairs.into_iter().enumerate() {
            let (data, ended) = (data.clone(), Rc::clone(&ended));
            core.spawn(async move {
                let wanted = if number % 4 == 0 { 300_000 } else { data.len() };
                let mut count = 0;
                while count < wanted {
                    let bytes = server.recv().await.unwrap();
                    assert!(*bytes == data[count..count + bytes.len()], "connection {number} at {count}");
                    count += bytes.len();
                }
                drop((client, server));
                ended.set(ended.get() + 1);
            });
        }
        eventually(|| ended.get() == 64).await;
        let counters = core.counters();
        let is_ring = core.backend() == BackendKind::IoUring;
        assert_eq!(counters.buffers_exhausted > 0, is_ring, "nobody had to wait: {counters:?}");
        eventually(|| core.open_connections() == 0).await;
    });
}

#[test]
fn accepting_pauses_at_the_limit_and_goes_on() {
    let options = Options { connections_max: 4, ..Default::default() };
    on_both(&options, |core, listener, address| async move {
        let clients: Vec<_> =
            (0..10).map(|_| TcpStream::connect(address.as_tcp().unwrap()).unwrap()).collect();
        let mut served: Vec<_> = Vec::new();
        for _ in 0..4 {
            served.push(listener.accept().await.unwrap());
        }
        let refused = tokio::time::timeout(Duration::from_millis(150), listener.accept()).await;
        assert!(refused.is_err(), "a fifth connection was accepted");
        assert_eq!(core.open_connections(), 4);
        served.truncate(1);
        for _ in 0..3 {
            served.push(listener.accept().await.unwrap());
        }
        drop(clients);
        assert_eq!(core.counters().opened, 7);
    });
}

#[test]
fn addresses_are_those_of_the_sockets() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        assert_eq!(client.peer_addr().await.unwrap(), address);
        assert_eq!(server.local_addr().await.unwrap(), address);
        assert_eq!(server.peer_addr().await.unwrap(), client.local_addr().await.unwrap());
    });
}

#[test]
fn tokio_code_runs_on_a_stream() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (mut client, mut server) = connected(&core, &listener, &address).await;
        core.spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(&mut server);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let data = pattern(200_000);
        client.write_all(&data).await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert!(back == data);
    });
}

#[test]
fn the_table_lists_connections_and_closes_them_from_another_thread() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (_client, server) = connected(&core, &listener, &address).await;
        let (handle, id) = (core.handle().clone(), server.id());
        let asked = blocking(move || {
            assert_eq!(handle.table().connections().len(), 2);
            handle.table().request_close(id)
        });
        let waiting = server.recv();
        let (asked, received) = tokio::join!(asked, waiting);
        assert_eq!(asked, Ok(true));
        assert_eq!(received.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_panicking_task_ends_alone() {
    on_both(&Options::default(), |core, listener, address| async move {
        core.spawn(async { panic!("this one alone") });
        let (client, server) = connected(&core, &listener, &address).await;
        client.send("on").await.unwrap();
        assert_eq!(&*server.recv().await.unwrap(), b"on");
        eventually(|| core.counters().panics == 1).await;
    });
}

#[test]
fn draining_ends_accepting_and_idle_connections_and_spares_busy_ones() {
    let options = Options { drain_idle: Duration::from_millis(100), ..Default::default() };
    on_both(&options, |core, listener, address| async move {
        let (_idle_client, idle) = connected(&core, &listener, &address).await;
        let (busy_client, busy) = connected(&core, &listener, &address).await;
        idle.set_idle(true);
        core.handle().drain();
        assert!(listener.accept().await.is_none());
        assert_eq!(idle.recv().await.unwrap_err().kind(), ErrorKind::TimedOut);
        tokio::time::sleep(Duration::from_millis(100)).await;
        busy_client.send("still here").await.unwrap();
        assert_eq!(&*busy.recv().await.unwrap(), b"still here");
    });
}

/// A server waits for its end in every connection, for as long as it runs.
#[test]
fn who_waits_no_longer_for_the_shutdown_leaves_nothing_behind() {
    struct Wakes;
    impl std::task::Wake for Wakes {
        fn wake(self: std::sync::Arc<Self>) {}
    }
    on_both(&Options::default(), |core, _, _| async move {
        let wakes = std::sync::Arc::new(Wakes);
        let waker = std::task::Waker::from(std::sync::Arc::clone(&wakes));
        {
            let mut draining = std::pin::pin!(core.draining());
            let mut cx = std::task::Context::from_waker(&waker);
            assert!(draining.as_mut().poll(&mut cx).is_pending());
            assert!(draining.as_mut().poll(&mut cx).is_pending());
        }
        drop(waker);
        assert_eq!(std::sync::Arc::strong_count(&wakes), 1);
    });
}

#[test]
fn a_dropped_future_loses_no_data() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        for _ in 0..3 {
            assert!(tokio::time::timeout(Duration::from_millis(20), server.recv()).await.is_err());
        }
        client.send("kept").await.unwrap();
        assert_eq!(&*server.recv().await.unwrap(), b"kept");
        // An address that is being asked for when nobody wants it any more costs no descriptor.
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        for _ in 0..50 {
            let mut asking = Box::pin(server.peer_addr());
            let _ = futures_poll_once(&mut asking).await;
        }
        eventually(|| std::fs::read_dir("/proc/self/fd").unwrap().count() <= before + 4).await;
    });
}

async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_ready()))
        .await
}

#[test]
fn connecting_to_nobody_is_refused() {
    on_both(&Options::default(), |core, _listener, _address| async move {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(core.connect(&free.into()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn unix_sockets_serve_all_cores() {
    for backend in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("socket"));
        let listeners = Listeners::bind(&address, 2, &ListenOptions::default()).unwrap();
        let sockets = Mutex::new(listeners.into_sockets().collect::<Vec<_>>());
        let cores = Cores::builder()
            .count(2)
            .backend(backend)
            .start(move |core| {
                let socket = sockets.lock().unwrap().pop().unwrap();
                async move {
                    let listener = Listener::new(&core, socket).unwrap();
                    while let Some(stream) = listener.accept().await {
                        core.spawn(async move {
                            let bytes = stream.recv().await.unwrap();
                            stream.send(bytes).await.unwrap();
                        });
                    }
                }
            })
            .unwrap();
        for _ in 0..20 {
            let Address::Unix(path) = &address else { unreachable!() };
            let mut client = std::os::unix::net::UnixStream::connect(path).unwrap();
            client.write_all(b"echo").unwrap();
            let mut back = String::new();
            client.read_to_string(&mut back).unwrap();
            assert_eq!(back, "echo");
        }
        cores.drain();
        cores.join().unwrap();
    }
}

#[test]
fn work_goes_to_another_core_and_comes_back() {
    for backend in BACKENDS {
        let seen = Cores::builder()
            .count(2)
            .backend(backend)
            .run(|core| async move {
                if core.index() == 1 {
                    core.draining().await;
                    return Vec::new();
                }
                let other = core.handles()[1].clone();
                let mut seen = Vec::new();
                for _ in 0..1000 {
                    seen.push(other.run(|| async { Core::current().unwrap().index() }).await.unwrap());
                }
                other.drain();
                seen
            })
            .unwrap();
        assert_eq!(seen[0], vec![1; 1000]);
    }
}

#[test]
fn files_are_read_in_pieces() {
    on_both(&Options::default(), |core, _listener, _address| async move {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let data = pattern(150_000);
        std::fs::write(&path, &data).unwrap();
        let file = File::open(&core, &path).await.unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.len, metadata.is_file), (150_000, true));
        let mut read = Vec::new();
        loop {
            let piece = file.read_at(read.len() as u64).await.unwrap();
            if piece.is_empty() {
                break;
            }
            read.extend_from_slice(&piece);
        }
        assert!(read == data);
        assert_eq!(
            File::open(&core, folder.path().join("none")).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn a_file_is_sent_behind_what_was_queued_before() {
    on_both(&Options::default(), |core, listener, address| async move {
        let folder = tempfile::tempdir().unwrap();
        let data = pattern(3_000_000);
        std::fs::write(folder.path().join("data"), &data).unwrap();
        let file = File::open(&core, folder.path().join("data")).await.unwrap();
        let (client, server) = connected(&core, &listener, &address).await;
        let length = data.len() as u64;
        core.spawn(async move {
            for _ in 0..2 {
                server.queue(pattern(100_000));
                let (mut head, mut at) = ("head", 10);
                while at < length {
                    at += server.send_file(head, &file, at, length - at).await.unwrap();
                    head = "";
                }
            }
            assert_eq!(server.send_file("end", &file, length, 5).await.unwrap(), 0, "there is no more");
            assert_eq!(server.send_file("", &file, 7, 0).await.unwrap(), 0, "nothing is asked for");
            let folder = std::fs::File::open("/").unwrap();
            let refused = server.send_file("!", &File::from_std(folder), 0, 5).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        });
        let once = [&pattern(100_000)[..], b"head", &data[10..]].concat();
        let expected = [&once[..], &once, b"end!"].concat();
        assert!(receive_exactly(&client, expected.len()).await == expected);
        assert!(client.recv().await.unwrap().is_empty());
        let counters = core.counters();
        assert!(counters.file_sends >= 6 && counters.sent_bytes == expected.len() as u64, "{counters:?}");
    });
}

/// Whoever waits for the peer to take more of a file learns that the connection is at its end, and nothing keeps it.
#[test]
fn a_file_that_nobody_takes_is_given_up() {
    on_both(&Options::default(), |core, listener, address| async move {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let file = Rc::new(File::open(&core, &path).await.unwrap());
        let send_all = async |stream: &Stream| -> std::io::Error {
            let mut at = 0;
            loop {
                match stream.send_file("", &file, at, (64 << 20) - at).await {
                    Ok(sent) => at += sent,
                    Err(error) => return error,
                }
            }
        };
        // Its deadline passes.
        let (client, server) = connected(&core, &listener, &address).await;
        server.set_deadline(Some(Duration::from_millis(100)));
        assert_eq!(send_all(&server).await.kind(), ErrorKind::TimedOut);
        server.abort();
        drop((client, server));
        // Another task ends it.
        let (client, server) = connected(&core, &listener, &address).await;
        let aborts = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.abort();
        };
        let (error, ()) = tokio::join!(send_all(&server), aborts);
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        drop((client, server));
        // The future is dropped.
        let (client, server) = connected(&core, &listener, &address).await;
        assert!(tokio::time::timeout(Duration::from_millis(100), send_all(&server)).await.is_err());
        server.abort();
        drop((client, server));
        core.connections_closed().await;
    });
}

#[test]
fn files_and_timers_go_on_under_load() {
    on_both(&Options::default(), |core, listener, address| async move {
        let (client, server) = connected(&core, &listener, &address).await;
        core.spawn(async move {
            while let Ok(bytes) = server.recv().await {
                if bytes.is_empty() || server.send(bytes).await.is_err() {
                    break;
                }
            }
        });
        core.spawn(async move {
            client.queue(pattern(60_000));
            while let Ok(bytes) = client.recv().await {
                if client.send(bytes).await.is_err() {
                    break;
                }
            }
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), "x").unwrap();
        let work = async {
            for _ in 0..20 {
                let file = File::open(&core, folder.path().join("f")).await.unwrap();
                assert_eq!(&*file.read_at(0).await.unwrap(), b"x");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), work).await.expect("files and timers starve");
        assert!(core.backend() == BackendKind::Epoll || core.counters().ring_enters > 0);
    });
}
