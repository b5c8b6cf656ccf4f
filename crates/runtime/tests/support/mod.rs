//! A core with a listener, on each back end in turn.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part of it")]

use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use gimmal_runtime::{Address, Backend, Core, Cores, ListenOptions, Listener, Listeners, Options, Stream};

pub const BACKENDS: [Backend; 2] = [Backend::IoUring, Backend::Epoll];

/// Runs `main` on one core with a listener, on each back end in turn.
pub fn on_both<F, T>(
    options: &Options,
    main: impl Fn(Rc<Core>, Listener, Address) -> F + Send + Sync + Clone + 'static,
) where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    for backend in BACKENDS {
        let listeners =
            Listeners::bind(&"127.0.0.1:0".parse().unwrap(), 1, &ListenOptions::default()).unwrap();
        let address = listeners.address().clone();
        let socket = Mutex::new(listeners.into_sockets().next());
        let main = main.clone();
        Cores::builder()
            .count(1)
            .backend(backend)
            .options(options.clone())
            .run(move |core| {
                let listener = Listener::new(&core, socket.lock().unwrap().take().unwrap()).unwrap();
                main(core, listener, address.clone())
            })
            .unwrap_or_else(|error| panic!("{backend:?}: {error}"));
    }
}

pub async fn connected(core: &Rc<Core>, listener: &Listener, address: &Address) -> (Stream, Stream) {
    let client = core.connect(address).await.unwrap();
    (client, listener.accept().await.unwrap())
}

pub async fn receive_exactly(stream: &Stream, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let bytes = stream.recv().await.unwrap();
        assert!(!bytes.is_empty(), "ended after {} of {count} bytes", all.len());
        all.extend_from_slice(&bytes);
    }
    all
}

pub fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 31 % 251) as u8).collect()
}

pub async fn eventually(what: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < until, "it did not come to pass");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
