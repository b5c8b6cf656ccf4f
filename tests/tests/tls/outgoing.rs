//! Connections that a service opens over TLS.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use gimmal::tls::{ClientAuth, TlsClientConfig, TlsError};
use gimmal::{App, Backend, Path, Stream};
use gimmal_tests::{Authority, BACKENDS, Client, pattern, server, start};

use crate::scene::{LAST_GET, SServer, Scene, Served, about, serve_half_a_body, trusting_client as trusting};

/// What `task` comes to on a core.
fn on_a_core<F: Future<Output = String> + 'static>(
    backend: Backend,
    task: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> String {
    let server = start(server(App::new().get("/", async move || task().await), backend));
    Client::connect(server.address()).get("/").text().to_owned()
}

/// All that a server sends in answer to `request`.
async fn ask(
    address: SocketAddr,
    name: &str,
    config: &TlsClientConfig,
    request: String,
) -> io::Result<Vec<u8>> {
    let stream = Stream::connect_tls(&address.into(), name, config).await?;
    assert!(stream.is_tls());
    stream.send(request.into_bytes()).await?;
    let mut all = Vec::new();
    loop {
        match stream.recv().await? {
            bytes if bytes.is_empty() => return Ok(all),
            bytes => all.extend_from_slice(&bytes),
        }
    }
}

/// What a server answers, or why there is no answer.
fn answer(backend: Backend, address: SocketAddr, name: &'static str, config: &TlsClientConfig) -> String {
    let config = config.clone();
    on_a_core(backend, move || {
        let config = config.clone();
        async move {
            match ask(address, name, &config, LAST_GET.to_owned()).await {
                Ok(bytes) => String::from_utf8(bytes).unwrap(),
                Err(error) => reason(&error),
            }
        }
    })
}

fn reason(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
    format!("{:?}: {}: {error}", error.kind(), tls.map_or("no error of TLS", TlsError::label))
}

#[test]
fn our_client_trusts_whom_it_was_told_to_trust() {
    let scene = Scene::new();
    let key = scene.authority.server(&["localhost"]).key();
    for backend in BACKENDS {
        let server = scene.serve(App::new().get("/", about), backend);
        let config = trusting(&scene.authority).alpn(&["http/1.1"]).build().unwrap();
        let text = answer(backend, server.address(), "localhost", &config);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{backend:?}: {text}");
        assert!(text.contains("version=TLSv1.3 group=X25519MLKEM768 alpn=http/1.1 name=localhost"), "{text}");

        let text = answer(backend, server.address(), "elsewhere.test", &config);
        assert!(text.contains("InvalidData: certificate_refused"), "{backend:?}: {text}");
        assert!(text.contains("name"), "{backend:?}: it says that it is the name: {text}");

        let other = trusting(&Authority::new("another root")).build().unwrap();
        let text = answer(backend, server.address(), "localhost", &other);
        assert!(text.contains("InvalidData: certificate_refused"), "{backend:?}: {text}");
        // The roots of the platform have nothing to do with ours.
        if let Ok(platform) = TlsClientConfig::platform() {
            let text = answer(backend, server.address(), "localhost", &platform);
            assert!(text.contains("InvalidData: certificate_refused"), "{backend:?}: {text}");
        }

        // A pin of another key, and an old version.
        let pinned = trusting(&scene.authority).pin(key.certificate().public_key_fingerprint());
        let text = answer(backend, server.address(), "localhost", &pinned.build().unwrap());
        assert!(text.contains("InvalidData: certificate_refused"), "{backend:?}: {text}");
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(
            answer(backend, closed, "localhost", &config).starts_with("ConnectionRefused"),
            "{backend:?}"
        );
        // A server that speaks plain HTTP.
        let plain = start(gimmal_tests::server(App::new(), backend));
        let text = answer(backend, plain.address(), "localhost", &config);
        assert!(text.starts_with("InvalidData: "), "{backend:?}: {text}");
    }
}

#[test]
fn our_client_shows_its_certificate() {
    let scene = Scene::new();
    let clients = Authority::new("the clients' root");
    for backend in BACKENDS {
        let client_auth = ClientAuth::required().roots_pem(clients.pem().as_bytes());
        let tls = scene.builder().client_auth(client_auth).build().unwrap();
        let server = Served::start(server(App::new().get("/", about), backend).bind_tls("127.0.0.1:0", &tls));
        let config =
            trusting(&scene.authority).certificate(clients.client("billing", 7).key()).build().unwrap();
        let text = answer(backend, server.address(), "localhost", &config);
        assert!(text.contains(" client=CN=billing "), "{backend:?}: {text}");
        let anonymous = trusting(&scene.authority).build().unwrap();
        let text = answer(backend, server.address(), "localhost", &anonymous);
        assert!(text.contains("alert_received"), "{backend:?}: {text}");
    }
}

#[test]
fn megabytes_come_through_our_client_and_our_server() {
    const BYTES: usize = 8_000_000;
    let scene = Scene::new();
    for backend in BACKENDS {
        let app = App::new().get("/{length}", async |Path(length): Path<usize>| pattern(0, length));
        let server = scene.serve(app, backend);
        let (address, config) = (server.address(), trusting(&scene.authority).build().unwrap());
        let text = on_a_core(backend, move || {
            let config = config.clone();
            async move {
                let request = LAST_GET.replace("GET /", &format!("GET /{BYTES}"));
                let bytes = ask(address, "localhost", &config, request).await.unwrap();
                format!("{}", bytes.ends_with(&pattern(0, BYTES)))
            }
        });
        assert_eq!(text, "true", "{backend:?}");
    }
}

#[test]
fn our_client_speaks_with_s_server() {
    let scene = Scene::new();
    let (certificate, key) = scene.authority.server(&["localhost"]).write(scene.folder.path(), "localhost");
    for backend in BACKENDS {
        for version in ["-tls1_3", "-tls1_2"] {
            // It sends every line back in reverse.
            let child = SServer::start(&certificate, &key, &["-rev", version]);
            let address = child.address;
            let config = trusting(&scene.authority).build().unwrap();
            let text = on_a_core(backend, move || {
                let config = config.clone();
                async move {
                    let stream = Stream::connect_tls(&address.into(), "localhost", &config).await.unwrap();
                    stream.send("Hello, World!\n").await.unwrap();
                    let mut line = Vec::new();
                    while !line.ends_with(b"\n") {
                        line.extend_from_slice(&stream.recv().await.unwrap());
                    }
                    // Its close_notify answers ours.
                    stream.shutdown().await.unwrap();
                    let end = stream.recv().await.map(|bytes| bytes.len());
                    let version = stream.tls().unwrap().version;
                    format!("{version} {} {end:?}", String::from_utf8(line).unwrap().trim())
                }
            });
            let version = if version == "-tls1_3" { "TLSv1.3" } else { "TLSv1.2" };
            assert_eq!(text, format!("{version} !dlroW ,olleH Ok(0)"), "{backend:?}");
        }
    }
}

/// A body that ends with the connection: whoever can cut that could make it end anywhere (the cookie cutter).
#[test]
fn truncation_is_noticed_by_our_client() {
    let scene = Scene::new();
    let issued = scene.authority.server(&["localhost"]);
    let config = trusting(&scene.authority).build().unwrap();
    for backend in BACKENDS {
        let text = answer(backend, serve_half_a_body(&issued, true), "localhost", &config);
        assert!(text.ends_with("\r\n\r\nhalf of what"), "{backend:?}: {text}");
        let text = answer(backend, serve_half_a_body(&issued, false), "localhost", &config);
        assert!(
            text.starts_with(&format!("{:?}: truncated", ErrorKind::UnexpectedEof)),
            "{backend:?}: {text}"
        );
    }
}
