//! Servers under test.

use std::time::{Duration, Instant};

use gimmal::test::TestServer;
use gimmal::{App, Backend, Server};

/// Every test runs on both.
pub const BACKENDS: [Backend; 2] = [Backend::IoUring, Backend::Epoll];

/// How long anything may take that is to happen soon.
const SOON: Duration = Duration::from_secs(20);

/// A server of one core.
#[must_use]
pub fn server(app: App, backend: Backend) -> Server {
    Server::new(app).cores(1).backend(backend)
}

/// Starts a server on a free port.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn start(server: Server) -> TestServer {
    TestServer::from_server(server).expect("the server starts")
}

/// Runs a test against a server of `app` on each back end in turn, which is named when the test fails.
pub fn on_both(app: impl Fn() -> App, test: impl Fn(&TestServer)) {
    for backend in BACKENDS {
        let _named = Named(backend);
        test(&start(server(app(), backend)));
    }
}

/// Says on which back end a test was when it panicked.
struct Named(Backend);

impl Drop for Named {
    #[expect(clippy::print_stderr, reason = "the test harness shows it beside the panic")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the back end was {:?}", self.0);
        }
    }
}

/// Waits until `check` holds.
///
/// # Panics
/// If it does not within 20 seconds; `what` says what was waited for.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !check() {
        assert!(Instant::now() < until, "it did not come to pass that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
