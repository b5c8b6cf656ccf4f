//! Times what a core recycles and looks up: buffers, boxed futures, and its connection table.

use std::hint::black_box;
use std::io;
use std::rc::Rc;

use criterion::Criterion;
use futures_util::FutureExt as _;
use gimmal_runtime::{Backend, Core, Cores, ListenOptions, Listener, Listeners, LocalFuture};

const CONNECTIONS: usize = 128;

/// Criterion is made on the core that it measures.
fn main() {
    let measured = Cores::builder().count(1).pin(false).backend(Backend::Epoll).run(|core| async move {
        let mut criterion = Criterion::default().configure_from_args();
        let measured = on_core(&core, &mut criterion).await;
        criterion.final_summary();
        measured
    });
    for core in measured.expect("a core runs") {
        core.expect("loopback connections");
    }
}

async fn on_core(core: &Rc<Core>, criterion: &mut Criterion) -> io::Result<()> {
    criterion.bench_function("boxed future/make, poll, drop", |bencher| {
        bencher.iter(|| LocalFuture::new(async { black_box([1_u64; 16]) }).now_or_never());
    });
    criterion.bench_function("pinned buffer/take, write, freeze, share, drop", |bencher| {
        bencher.iter(|| {
            let mut buffer = core.take_buffer().expect("all are free");
            buffer[..4].copy_from_slice(b"data");
            let bytes = buffer.freeze(4);
            black_box(bytes.clone());
        });
    });
    let address = "127.0.0.1:0".parse().expect("an address");
    let listeners = Listeners::bind(&address, 1, &ListenOptions::default()).map_err(io::Error::other)?;
    let address = listeners.address().clone();
    let listener = Listener::new(core, listeners.into_sockets().next().expect("one socket"))?;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(core.connect(&address).await?);
        streams.extend(listener.accept().await);
    }
    let table = core.handle().table();
    let known = table.connections();
    criterion.bench_function("connection table/look one up", |bencher| {
        let mut ids = known.iter().cycle();
        bencher.iter(|| black_box(table.get(ids.next().expect("an endless cycle").id)));
    });
    criterion.bench_function("connection table/list 256", |bencher| {
        bencher.iter(|| black_box(table.connections()));
    });
    Ok(())
}
