//! Early data (RFC 8446, section 2.3; RFC 8470).

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gimmal::defence::Defences;
use gimmal::{App, get};
use gimmal_tests::{BACKENDS, Client, TlsClient, server};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::scene::{Scene, Served};

/// A client that comes again, and sends these pieces before the handshake is done, each in a segment of its own.
fn early(served: &Served, config: &Arc<ClientConfig>, pieces: &[&str]) -> TlsClient {
    let mut first = TlsClient::connect_tls(served.address(), "localhost", config).unwrap();
    // The tickets come before the answer.
    assert_eq!(first.get("/safe").status, 200);
    let name = "localhost".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut socket = Client::connect(served.address()).into_stream();
    for piece in pieces {
        let mut early = connection.early_data().expect("the server has offered it");
        early.write_all(piece.as_bytes()).unwrap();
        while connection.wants_write() {
            connection.write_tls(&mut socket).unwrap();
        }
        thread::sleep(Duration::from_millis(30));
    }
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).unwrap();
    }
    assert!(connection.is_early_data_accepted());
    TlsClient::over(StreamOwned::new(connection, socket))
}

#[test]
fn early_data_reaches_routes_that_are_safe_to_replay_alone() {
    let scene = Scene::new();
    let mut config = (*scene.trusting).clone();
    config.enable_early_data = true;
    let config = Arc::new(config);
    for backend in BACKENDS {
        let app = App::new()
            .route("/safe", get(async || "safe").replay_safe())
            .get("/unsafe", async || "unsafe")
            .post("/", async |body: gimmal::Bytes| body)
            .with(Defences::new());
        let tls = scene.builder().dangerous_early_data(4096).build().unwrap();
        let served = Served::start(server(app, backend).bind_tls("127.0.0.1:0", &tls));

        let pieces = [
            "GET /safe HTTP/1.1\r\nHost: loc",
            "alhost\r\n\r\nGET /unsafe HTTP/1.1\r\nHost: localhost\r\n\r\nGET /uns",
        ];
        let mut client = early(&served, &config, &pieces);
        client.send("afe HTTP/1.1\r\nHost: localhost\r\n\r\nGET /unsafe HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let safe = client.message();
        assert_eq!((safe.status, safe.text()), (200, "safe"), "{backend:?}");
        let refused = client.message();
        assert_eq!(refused.status, 425, "{backend:?}: it came early");
        assert_eq!(refused.header("x-frame-options"), Some("DENY"), "{backend:?}");
        assert!(refused.header("strict-transport-security").is_some(), "{backend:?}");
        assert_eq!(client.message().status, 425, "{backend:?}: some of it came early");
        assert_eq!(client.message().text(), "unsafe", "{backend:?}: it did not come early");
        assert_eq!(client.get("/unsafe").text(), "unsafe", "{backend:?}");
    }
}
