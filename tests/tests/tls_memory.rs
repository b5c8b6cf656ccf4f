//! A thousand connections over TLS that do nothing, and what they cost.
#![expect(clippy::print_stdout, reason = "the figures are for whoever runs it")]

use gimmal::tls::TlsServerConfig;
use gimmal::{App, Backend, Running};
use gimmal_tests::allocations::{self, Counting};
use gimmal_tests::{Authority, BACKENDS, Held, TlsClient, eventually, server, trusting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 1000;
const CLIENTS: &str = env!("CARGO_BIN_EXE_idle_clients");
/// For each connection, in all.
const BYTES_MAX: usize = 4096;

fn start(backend: Backend, tls: &TlsServerConfig) -> Running {
    let app = App::new().get("/", async || "Hello, World!");
    server(app, backend).bind_tls("127.0.0.1:0", tls).signals(false).start().unwrap()
}

#[test]
fn a_thousand_are_held_for_less_than_four_kibibytes_each_and_served() {
    let authority = Authority::new("the root");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, authority.pem()).unwrap();
    for backend in BACKENDS {
        let tls =
            TlsServerConfig::builder().certificate(authority.server(&["localhost"]).key()).build().unwrap();
        let server = start(backend, &tls);
        let address = server.addresses()[0].as_tcp().unwrap();
        // The first ones make what all others share.
        drop(Held::connect_tls(CLIENTS, address, 10, root.to_str().unwrap()));
        eventually("all are closed", || server.handle().counters().open == 0);
        let before = allocations::live_bytes();
        let mut held = Held::connect_tls(CLIENTS, address, CONNECTIONS, root.to_str().unwrap());
        assert_eq!(server.handle().counters().open, CONNECTIONS as u64);
        let each = (allocations::live_bytes() - before) / CONNECTIONS;
        held.ask(CONNECTIONS);
        let later = (allocations::live_bytes() - before) / CONNECTIONS;
        // Somebody else is served as well.
        let mut client = TlsClient::connect_tls(address, "localhost", &trusting(authority.pem())).unwrap();
        assert_eq!(client.get("/").text(), "Hello, World!");
        println!(
            "{backend:?}: {each} bytes of user-space memory per idle TLS connection, {later} after another request"
        );
        assert!(each < BYTES_MAX && later < BYTES_MAX, "{backend:?}: {each} bytes, later {later}");
        drop((held, client));
        eventually("all are closed", || server.handle().counters().open == 0);
        let left = allocations::live_bytes().saturating_sub(before) / CONNECTIONS;
        assert!(left < 256, "{backend:?}: {left} bytes of each are left behind");
        server.handle().stop();
        let _ = server.join();
    }
}
