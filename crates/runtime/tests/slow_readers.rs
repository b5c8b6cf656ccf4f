//! Clients that read slowly hold up no core that ends, and nothing of it is left.

use std::fs;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use gimmal_runtime::{Backend, Cores, ListenOptions, Listener, Listeners};

/// Rings that the process has open.
fn rings() -> usize {
    let targets = fs::read_dir("/proc/self/fd").unwrap().map(|entry| fs::read_link(entry.unwrap().path()));
    targets.flatten().filter(|target| target.to_string_lossy().contains("io_uring")).count()
}

/// The connection is closed, and the kernel still has what was sent without copying.
#[test]
fn what_a_slow_reader_has_not_taken_keeps_no_core_in_memory() {
    let listeners = Listeners::bind(&"127.0.0.1:0".parse().unwrap(), 1, &ListenOptions::default()).unwrap();
    let client = TcpStream::connect(listeners.address().as_tcp().unwrap()).unwrap();
    let socket = Mutex::new(listeners.into_sockets().next());
    let cores = Cores::builder().count(1).backend(Backend::IoUring).run(move |core| {
        let listener = Listener::new(&core, socket.lock().unwrap().take().unwrap()).unwrap();
        async move {
            let stream = listener.accept().await.unwrap();
            // More than the client's side takes, and less than both sides do.
            for _ in 0..15 {
                stream.send(vec![0; 200_000]).await.unwrap();
                let taken = tokio::time::timeout(Duration::from_millis(300), stream.flush()).await;
                if taken.is_err() {
                    break;
                }
            }
            drop(stream);
            let _ = tokio::time::timeout(Duration::from_millis(300), core.connections_closed()).await;
        }
    });
    cores.unwrap();
    assert_eq!(rings(), 0);
    drop(client);
}
