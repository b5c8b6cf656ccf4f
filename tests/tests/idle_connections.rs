//! Ten thousand connections that do nothing, and what they cost.

use gimmal::test::TestServer;
use gimmal::{App, Backend, Options};
use gimmal_tests::allocations::{self, Counting};
use gimmal_tests::{BACKENDS, Client, Held, eventually, server, start};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 10_000;
const CLIENTS: &str = env!("CARGO_BIN_EXE_idle_clients");

fn start_for(backend: Backend, connections: usize) -> TestServer {
    let options = Options { connections_max: connections as u32 + 16, ..Options::default() };
    start(server(App::new().get("/", async || "Hello, World!"), backend).options(options))
}

/// What a server costs that has no connections, nor a table of any size for them.
fn bytes_of_a_bare_server(backend: Backend) -> usize {
    let before = allocations::live_bytes();
    let server = start_for(backend, 0);
    assert_eq!(Client::connect(server.address()).get("/").status, 200);
    eventually("it is closed", || server.handle().counters().open == 0);
    allocations::live_bytes() - before
}

#[test]
fn ten_thousand_are_held_for_less_than_a_kibibyte_each_and_served() {
    for backend in BACKENDS {
        let bare = bytes_of_a_bare_server(backend);
        let before = allocations::live_bytes();
        let server = start_for(backend, CONNECTIONS);
        let mut held = Held::connect(CLIENTS, server.address(), CONNECTIONS);
        assert_eq!(server.handle().counters().open, CONNECTIONS as u64);
        let each = (allocations::live_bytes() - before - bare) / CONNECTIONS;
        // Somebody else is served as well, and so is each of them again.
        let mut client = Client::connect(server.address());
        assert_eq!(client.get("/").text(), "Hello, World!");
        held.ask(CONNECTIONS);
        let later = (allocations::live_bytes() - before - bare) / CONNECTIONS;
        report(backend, each, later);
        if backend == Backend::IoUring {
            assert!(each < 1024 && later < 1024, "{each} bytes per idle connection, later {later}");
        }
        drop((held, client));
        eventually("all are closed", || server.handle().counters().open == 0);
    }
}

#[expect(clippy::print_stdout, reason = "a figure to be read with --nocapture")]
fn report(backend: Backend, each: usize, later: usize) {
    println!(
        "{backend:?}: {each} bytes of user-space memory per idle connection, {later} after another request"
    );
}
