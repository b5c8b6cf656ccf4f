//! The reverse proxy with `https` upstreams, end to end, with curl and a WebSocket client in front.

use std::net::SocketAddr;
use std::time::Duration;

use gimmal::client::ClientOptions;
use gimmal::proxy::{HealthCheck, Proxy};
use gimmal::tls::{ClientAuth, TlsClientConfig};
use gimmal::websocket::WebSocketUpgrade;
use gimmal::{App, Backend, Path, Request, Response, StatusCode, post};
use gimmal_tests::proxies::show;
use gimmal_tests::{Authority, BACKENDS, Client, eventually, pattern, server};

use crate::scene::{SServer, Scene, Served, about, serve_half_a_body, trusting_client};

fn url(address: SocketAddr) -> String {
    format!("https://localhost:{}", address.port())
}

/// A proxy that speaks TLS with its clients, and plain HTTP on a second port.
fn proxied(scene: &Scene, proxy: Proxy, backend: Backend) -> Served {
    let app = App::new().fallback(proxy).body_limit(u64::MAX);
    Served::start(server(app, backend).bind_tls("127.0.0.1:0", &scene.config()).bind("127.0.0.1:0"))
}

fn trusting(scene: &Scene) -> TlsClientConfig {
    trusting_client(&scene.authority).build().unwrap()
}

#[test]
fn curl_is_served_by_an_https_upstream_through_an_https_proxy() {
    async fn mirror(mut request: Request) -> Response {
        Response::new(request.take_body())
    }
    let scene = Scene::new();
    let sent = pattern(5, 3_000_001);
    let file = scene.path("sent.bin");
    std::fs::write(&file, &sent).unwrap();
    let upload = format!("@{file}");
    for backend in BACKENDS {
        let app = App::new()
            .get("/show", show)
            .get("/about", about)
            .route("/mirror", post(mirror).body_limit(1 << 30))
            .get("/bytes/{length}", async |Path(length): Path<usize>| pattern(0, length));
        let upstream = scene.serve(app, backend);
        let proxy = Proxy::new([url(upstream.address())]).unwrap().tls(trusting(&scene));
        let proxy = proxied(&scene, proxy, backend);
        for version in ["--tlsv1.3", "--tls-max=1.2"] {
            let version: Vec<_> = version.split('=').collect();
            let shown = scene.curl_text(proxy.address(), "/show?x=%20", &version);
            assert!(shown.starts_with("GET /show?x=%20\n"), "{backend:?}: {shown}");
            let forwarded = format!(";host=\"localhost:{}\";proto=https\n", proxy.address().port());
            assert!(shown.contains(&forwarded), "{backend:?}: {shown}");
            assert!(shown.contains("x-forwarded-proto: https\n"), "{backend:?}: {shown}");
        }
        // The upstream's side is TLS of the proxy's own, whatever name was asked for.
        let about = scene.curl_text(proxy.address(), "/about", &["-H", "host: elsewhere.test"]);
        assert!(about.contains(" alpn=http/1.1 name=localhost "), "{backend:?}: {about}");
        let bytes = scene.curl(proxy.address(), "/bytes/5000000", &[]);
        assert!(bytes == pattern(0, 5_000_000), "{backend:?}");
        let mirrored = scene.curl(proxy.address(), "/mirror", &["--data-binary", &upload]);
        assert!(mirrored == sent, "{backend:?}");
        assert_eq!(upstream.handle().counters().opened, 1, "{backend:?}: the connection is used again");
    }
}

#[test]
fn an_upstream_that_does_not_prove_itself_gets_no_request() {
    let scene = Scene::new();
    let foreign = Scene::new();
    let expired = scene.authority.server_for_days(&["localhost"], -1);
    let (certificate, key) = expired.write(scene.folder.path(), "expired");
    for backend in BACKENDS {
        let bad = || App::new().fallback(async || -> &'static str { panic!("a request came") });
        // Our own server would not start with it.
        let expired = SServer::start(&certificate, &key, &["-www"]);
        let foreign = foreign.serve(bad(), backend);
        let good = scene.serve(App::new().fallback(show), backend);
        for bad in [expired.address, foreign.address()] {
            let only = Proxy::new([url(bad)]).unwrap().tls(trusting(&scene));
            let only = proxied(&scene, only, backend);
            let output = scene.curl_text(only.address(), "/", &["-w", "%{http_code}", "-o", "/dev/null"]);
            assert_eq!(output, "502", "{backend:?}");
            // What has reached nobody goes to the next one, be it safe or not.
            let both = Proxy::new([url(bad), url(good.address())]).unwrap().tls(trusting(&scene));
            let both = proxied(&scene, both, backend);
            for _ in 0..2 {
                let shown = scene.curl_text(both.address(), "/", &["-d", "body"]);
                assert!(shown.starts_with("POST /\n") && shown.ends_with("body"), "{backend:?}: {shown}");
            }
        }
    }
}

#[test]
fn the_proxy_shows_its_certificate_to_upstreams() {
    let scene = Scene::new();
    let proxies = Authority::new("the proxies' root");
    for backend in BACKENDS {
        let client_auth = ClientAuth::required().roots_pem(proxies.pem().as_bytes());
        let tls = scene.builder().client_auth(client_auth).build().unwrap();
        let upstream =
            Served::start(server(App::new().get("/", about), backend).bind_tls("127.0.0.1:0", &tls));
        let known = trusting_client(&scene.authority).certificate(proxies.client("edge", 9).key());
        let ask = |tls: TlsClientConfig| {
            let proxy = Proxy::new([url(upstream.address())]).unwrap().tls(tls);
            let proxy = proxied(&scene, proxy, backend);
            scene.curl_text(proxy.address(), "/", &["-w", "%{http_code}"])
        };
        let answer = ask(known.build().unwrap());
        assert!(answer.contains(" client=CN=edge ") && answer.ends_with("200"), "{backend:?}: {answer}");
        let answer = ask(trusting(&scene));
        assert!(answer.ends_with("502") && !answer.contains("client="), "{backend:?}: {answer}");
    }
}

#[test]
fn health_checks_go_over_tls_as_well() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let app = |name: &'static str| {
            App::new().get("/", async move || name).get("/health", async || StatusCode::NO_CONTENT)
        };
        let (good, foreign) =
            (scene.serve(app("good"), backend), Scene::new().serve(app("foreign"), backend));
        let check = HealthCheck {
            path: "/health".to_owned(),
            interval: Duration::from_millis(20),
            up_after: 1,
            ..HealthCheck::default()
        };
        let proxy = Proxy::new([url(foreign.address()), url(good.address())]).unwrap();
        let proxy = proxied(&scene, proxy.tls(trusting(&scene)).health_check(check.clone()), backend);
        for _ in 0..4 {
            assert_eq!(scene.curl_text(proxy.address(), "/", &[]), "good", "{backend:?}");
        }
        // One that nobody trusts is found out without a request: 503 says that it is down, 502 that it was asked.
        let proxy = Proxy::new([url(foreign.address())]).unwrap().fail_after(u32::MAX, Duration::ZERO);
        let proxy = proxied(&scene, proxy.tls(trusting(&scene)).health_check(check), backend);
        let status = || scene.curl_text(proxy.address(), "/", &["-w", "%{http_code}", "-o", "/dev/null"]);
        eventually("the upstream is down", || status() == "503");
    }
}

#[test]
fn a_response_that_was_cut_off_behind_the_proxy_is_cut_off_before_it() {
    let scene = Scene::new();
    let issued = scene.authority.server(&["localhost"]);
    let (ends, is_cut) = (serve_half_a_body(&issued, true), serve_half_a_body(&issued, false));
    for backend in BACKENDS {
        let ask = |upstream| {
            let proxy = Proxy::new([url(upstream)]).unwrap().tls(trusting(&scene));
            let proxy = proxied(&scene, proxy, backend);
            scene.try_curl(proxy.address(), "/", &[])
        };
        let whole = ask(ends);
        assert!(whole.status.success() && whole.stdout == b"half of what", "{backend:?}: {whole:?}");
        let cut = ask(is_cut);
        assert!(!cut.status.success(), "{backend:?}: {cut:?}");
    }
}

#[test]
fn a_websocket_goes_through_over_tls_on_both_sides() {
    async fn echo(upgrade: WebSocketUpgrade) -> Response {
        upgrade.any_origin().serve(|socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    }
    let scene = Scene::new();
    for backend in BACKENDS {
        let upstream = scene.serve(App::new().get("/chat", echo), backend);
        let proxy = Proxy::new([url(upstream.address())]).unwrap().tls(trusting(&scene));
        let proxy = proxied(&scene, proxy, backend);
        let mut client = scene.connect(proxy.address());
        client.send(
            "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        let head = client.head().unwrap();
        assert_eq!(head.status, 101, "{backend:?}: {head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for length in [5_usize, 60_000] {
            let text = "x".repeat(length);
            // A frame with a mask of zeros; it comes back without one (RFC 6455, section 5.2).
            let mut extended = vec![length as u8];
            if length > 125 {
                extended = vec![126, (length >> 8) as u8, length as u8];
            }
            let mut frame = [&[0x81], &extended[..], &[0; 4], text.as_bytes()].concat();
            frame[1] |= 0x80;
            client.send(&frame);
            let back = client.exactly(1 + extended.len() + length).unwrap();
            assert_eq!(back, [&[0x81], &extended[..], text.as_bytes()].concat(), "{backend:?}");
        }
        // A close from the client is answered by the upstream, and both connections end in order.
        client.send([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
        assert_eq!(client.exactly(4).unwrap(), [0x88, 0x02, 0x03, 0xe8], "{backend:?}");
        client.ended().unwrap();
    }
}

#[test]
fn a_plain_proxy_takes_its_clients_to_tls_upstreams() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let upstream = scene.serve(App::new().fallback(show), backend);
        let name = format!("host: localhost:{}\n", upstream.address().port());
        let proxy = Proxy::new([url(upstream.address())]).unwrap().tls(trusting(&scene)).upstream_host();
        // What was said of TLS stays.
        let proxy = proxy.client_options(ClientOptions::default());
        let proxy = proxied(&scene, proxy, backend);
        let answer = Client::connect(proxy.address_of(1)).get("/");
        assert!(answer.text().contains(&name), "{backend:?}: {}", answer.text());
        assert!(answer.text().contains("x-forwarded-proto: http\n"), "{backend:?}: {}", answer.text());
    }
}
