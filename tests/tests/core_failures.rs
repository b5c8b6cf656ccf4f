//! A core that fails while it runs.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use gimmal::{App, Backend, Core, CoreFailure, Running, Server, Stream};
use gimmal_runtime::{CoreStopped, Cores};
use gimmal_tests::{BACKENDS, Client, eventually};

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// Has the core wake something that panics, outside of any task.
async fn fail_core(stream: Stream) {
    stream.set_deadline(Some(Duration::from_millis(1)));
    let mut received = pin!(stream.recv());
    let waker = Waker::from(Arc::new(Panics));
    poll_fn(|_| {
        let _ = received.as_mut().poll(&mut Context::from_waker(&waker));
        Poll::Ready(())
    })
    .await;
    pending::<()>().await;
}

fn start(backend: Backend, then: CoreFailure) -> Running {
    let app = App::new().get("/", async || Core::current().unwrap().index().to_string());
    Server::new(app)
        .cores(2)
        .backend(backend)
        .signals(false)
        .on_core_failure(then)
        .bind("127.0.0.1:0")
        .tcp("127.0.0.1:0", fail_core)
        .start()
        .unwrap()
}

#[test]
fn a_core_that_fails_closes_its_sockets_and_the_server_ends_with_the_cause() {
    for backend in BACKENDS {
        let running = start(backend, CoreFailure::default());
        let address = running.addresses()[0].as_tcp().unwrap();
        let mut failing = Client::connect(running.addresses()[1].as_tcp().unwrap());
        assert!(failing.try_message().is_err());
        eventually("the failure is told", || !running.failures().is_empty());
        assert!(running.failures()[0].cause.contains("a waker that panics"), "{:?}", running.failures());
        eventually("nobody listens", || Client::try_connect(address).is_err());
        let error = running.join().unwrap_err().to_string();
        assert!(error.contains("a waker that panics"), "{backend:?}: {error}");
    }
}

#[test]
fn the_other_cores_go_on_where_that_was_chosen_and_take_all_new_connections() {
    for backend in BACKENDS {
        let running = start(backend, CoreFailure::KeepServing);
        let address = running.addresses()[0].as_tcp().unwrap();
        let mut failing = Client::connect(running.addresses()[1].as_tcp().unwrap());
        assert!(failing.try_message().is_err());
        eventually("the failure is told", || running.failures().len() == 1);
        let other = (1 - running.failures()[0].core).to_string();
        for _ in 0..40 {
            assert_eq!(Client::connect(address).get("/").text(), other, "{backend:?}");
        }
        running.handle().shutdown();
        assert!(running.join().is_err());
    }
}

#[test]
fn work_that_panics_costs_that_work_alone() {
    for backend in BACKENDS {
        let panicked = Cores::builder().count(1).backend(backend).run(|core| async move {
            let handle = core.handle().clone();
            let panicked = handle.run(|| -> std::future::Ready<()> { panic!("the work is bad") }).await;
            assert_eq!(handle.run(|| async { 5 }).await, Ok(5));
            panicked
        });
        assert_eq!(panicked.unwrap(), [Err(CoreStopped)], "{backend:?}");
    }
}

#[test]
fn a_main_future_that_panics_is_the_failure_that_join_tells_of() {
    for backend in BACKENDS {
        let cores = Cores::builder().count(2).backend(backend).start(|core| async move {
            assert_eq!(core.index(), 0, "core 1 is bad");
            core.draining().await;
        });
        let error = cores.unwrap().join().unwrap_err().to_string();
        assert!(error.contains("core 1 ended: its main future panicked"), "{error}");
    }
}
