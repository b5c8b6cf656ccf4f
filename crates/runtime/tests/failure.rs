//! A core that ends, in order or by a failure, lets go of its connections.

use std::future::poll_fn;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use gimmal_runtime::{Backend, Cores, CoresError, ListenOptions, Listener, Listeners};
use support::BACKENDS;

mod support;

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the program's");
    }
}

fn assert_ends(mut client: TcpStream) {
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    if let Err(error) = client.read_to_end(&mut Vec::new()) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is still open");
    }
}

/// Several sends complete in the turn of the ring in which the core fails.
#[test]
fn clients_of_a_core_that_fails_see_their_connections_end() {
    let listeners = Listeners::bind(&"127.0.0.1:0".parse().unwrap(), 1, &ListenOptions::default()).unwrap();
    let address = listeners.address().as_tcp().unwrap();
    let socket = Mutex::new(listeners.into_sockets().next());
    let (told, connected) = mpsc::channel();
    let clients = thread::spawn(move || {
        let clients = [(); 4].map(|()| TcpStream::connect(address).unwrap());
        told.send(()).unwrap();
        clients.into_iter().for_each(assert_ends);
    });
    let connected = Mutex::new(connected);
    let ended = Cores::builder().count(1).backend(Backend::IoUring).run(move |core| {
        let listener = Listener::new(&core, socket.lock().unwrap().take().unwrap()).unwrap();
        connected.lock().unwrap().recv().unwrap();
        async move {
            let mut streams = Vec::new();
            while streams.len() < 4 {
                streams.push(listener.accept().await.unwrap());
            }
            let panics = Waker::from(Arc::new(Panics));
            streams[0].queue("a");
            let flushing = streams[0].flush();
            let polled = std::pin::pin!(flushing).poll(&mut Context::from_waker(&panics));
            assert!(polled.is_pending());
            streams[1..].iter().for_each(|stream| stream.queue("b"));
            poll_fn(|_| Poll::<()>::Pending).await;
        }
    });
    assert!(matches!(ended, Err(CoresError::Ended { .. })), "{ended:?}");
    clients.join().unwrap();
}

/// What was sent without copying is the kernel's until the client has it, or the connection is reset.
#[test]
fn clients_that_do_not_read_see_their_connections_end_with_the_core() {
    for backend in BACKENDS {
        let listeners =
            Listeners::bind(&"127.0.0.1:0".parse().unwrap(), 1, &ListenOptions::default()).unwrap();
        let address = listeners.address().as_tcp().unwrap();
        let socket = Mutex::new(listeners.into_sockets().next());
        let clients = [(); 4].map(|()| TcpStream::connect(address).unwrap());
        let ended = Cores::builder().count(1).backend(backend).run(move |core| {
            let listener = Listener::new(&core, socket.lock().unwrap().take().unwrap()).unwrap();
            async move {
                for _ in 0..4 {
                    let stream = listener.accept().await.unwrap();
                    core.spawn(async move { while stream.send(vec![0; 4 << 20]).await.is_ok() {} });
                }
                // All sockets are full by then, or on the way to it.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        ended.unwrap();
        clients.into_iter().for_each(assert_ends);
    }
}
