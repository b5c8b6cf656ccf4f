//! The HTTP client over TLS: against our server, OpenSSL and Python, and servers that are not to be trusted.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use gimmal::client::{Client, ClientError, ClientOptions, Phase};
use gimmal::tls::{CertificateProblem, ClientAuth, TlsClientConfig, TlsError, TlsServerConfig};
use gimmal::{
    Address, App, Backend, Body, BodyError, Bytes, Chunk, HeaderValue, Path, Redirect, Request,
    ResponseBodyError, header, post,
};
use gimmal_tests::{Authority, BACKENDS, Issued, echo_after_upgrade, on_a_core, pattern, server};

use crate::scene::{Process, SServer, Scene, Served, about, serve_half_a_body, trusting_client};

fn client_of(tls: &TlsClientConfig) -> Client {
    client_with(tls, &ClientOptions::default())
}

fn client_with(tls: &TlsClientConfig, options: &ClientOptions) -> Client {
    Client::with_options(ClientOptions { tls: Some(tls.clone()), ..options.clone() })
}

fn url(address: SocketAddr, path: &str) -> String {
    format!("https://localhost:{}{path}", address.port())
}

/// A server that shows a certificate.
fn serve(app: App, issued: &Issued) -> Served {
    let tls = TlsServerConfig::builder().certificate(issued.key()).build().unwrap();
    Served::start(server(app, Backend::Auto).bind_tls("127.0.0.1:0", &tls))
}

#[test]
fn requests_go_over_tls_and_the_connection_is_used_again() {
    let scene = Scene::new();
    let mirror = post(async |body: Bytes| body).body_limit(1 << 30);
    let app = App::new().get("/", about).route("/mirror", mirror);
    let server = scene.serve(app, Backend::Auto);
    let (address, handle) = (server.address(), server.handle().clone());
    let tls = trusting_client(&scene.authority).build().unwrap();
    on_a_core(move || {
        let (tls, handle) = (tls.clone(), handle.clone());
        async move {
            let client = client_of(&tls);
            let opened = handle.counters().opened;
            for _ in 0..2 {
                let about = client.get(url(address, "/")).send().await.unwrap().bytes(500).await.unwrap();
                let about = String::from_utf8(about.to_vec()).unwrap();
                assert!(about.contains("version=TLSv1.3 "), "{about}");
                assert!(about.contains(" alpn=http/1.1 name=localhost "), "{about}");
            }
            let large = pattern(7, 3_000_001);
            let sent = client.post(url(address, "/mirror")).with_body(large.clone()).send().await.unwrap();
            assert!(sent.bytes(u64::MAX).await.unwrap() == large);
            let pieces: Vec<_> = large.chunks(70_000).map(|piece| Ok(Chunk::from(piece.to_vec()))).collect();
            let stream = Body::stream(futures_util::stream::iter(pieces));
            let sent = client.post(url(address, "/mirror")).with_body(stream).send().await.unwrap();
            assert!(sent.bytes(u64::MAX).await.unwrap() == large);
            assert_eq!(handle.counters().opened, opened + 1);
            assert_eq!(client.idle_connections(), 1);
        }
    });
}

#[test]
fn a_server_that_is_not_the_one_that_was_asked_for_gets_no_request() {
    let scene = Scene::new();
    let localhost = scene.authority.server(&["localhost"]);
    let expired = scene.authority.server_for_days(&["localhost"], -1);
    let foreign = Authority::new("another").server(&["localhost"]);
    let app = || App::new().get("/", async || -> &'static str { panic!("a request came") });
    let servers = [serve(app(), &localhost), serve(app(), &foreign)];
    let [localhost, foreign] = servers.each_ref().map(Served::address);
    // Our own server would not start with it.
    let (certificate, key) = expired.write(scene.folder.path(), "expired");
    let openssl = SServer::start(&certificate, &key, &["-www"]);
    let expired = openssl.address;
    // It speaks plain HTTP.
    let talks_plain = Served::start(server(app(), Backend::Auto).bind("127.0.0.1:0"));
    let plain = talks_plain.address();
    let tls = trusting_client(&scene.authority).build().unwrap();
    on_a_core(move || {
        let tls = tls.clone();
        async move {
            let client = client_of(&tls);
            let name_in_url = |host: &str| format!("https://{host}:{}/", localhost.port());
            for (url, at, problem) in [
                (name_in_url("elsewhere.test"), localhost, CertificateProblem::WrongName),
                // The certificate bears no address.
                (name_in_url("127.0.0.1"), localhost, CertificateProblem::WrongName),
                (name_in_url("[::1]"), localhost, CertificateProblem::WrongName),
                (url(expired, "/"), expired, CertificateProblem::Expired),
                (url(foreign, "/"), foreign, CertificateProblem::UnknownIssuer),
            ] {
                let error = client.get(&url).at(Address::from(at)).send().await.unwrap_err();
                assert!(error.is_before_sending(), "{error}");
                let ClientError::Handshake { server, source } = &error else { panic!("{url}: {error}") };
                assert_eq!(*source, TlsError::Certificate(problem), "{url}");
                assert_eq!(format!("https://{server}/"), url);
                assert!(error.to_string().contains(&**server), "it says which server: {error}");
            }
            let error = client.get(url(plain, "/")).send().await.unwrap_err();
            assert!(matches!(&error, ClientError::Handshake { .. }), "{error}");
            // Whoever was told nothing trusts the system's roots, of which ours is none.
            match Client::new().get(url(localhost, "/")).send().await.unwrap_err() {
                ClientError::Handshake { source, .. } => {
                    assert_eq!(source, TlsError::Certificate(CertificateProblem::UnknownIssuer));
                }
                error => assert!(matches!(error, ClientError::Roots(_)), "{error}"),
            }
        }
    });
}

/// What `openssl req -x509` makes is an authority unless it is told otherwise, and no authority is a server.
#[test]
fn a_self_signed_certificate_that_is_no_servers_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("self.pem"), folder.path().join("self.key"));
    let mut cases = Vec::new();
    for extra in [&[][..], &["-addext", "basicConstraints=critical,CA:FALSE"]] {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(extra)
            .args([OsStr::new("-keyout"), key.as_os_str(), OsStr::new("-out"), certificate.as_os_str()])
            .output()
            .expect("openssl is installed: these tests need it");
        assert!(made.status.success(), "{made:?}");
        let openssl = SServer::start(&certificate, &key, &["-www"]);
        let tls = TlsClientConfig::builder().roots_file(&certificate).build().unwrap();
        cases.push((openssl, tls));
    }
    let addresses = [cases[0].0.address, cases[1].0.address];
    let configs = [cases[0].1.clone(), cases[1].1.clone()];
    on_a_core(move || {
        let [authority, server] = configs.each_ref().map(client_of);
        async move {
            let error = authority.get(url(addresses[0], "/")).send().await.unwrap_err();
            let ClientError::Handshake { source, .. } = &error else { panic!("{error}") };
            let TlsError::Certificate(CertificateProblem::Rule(rule)) = source else { panic!("{error}") };
            assert_eq!(&**rule, "CaUsedAsEndEntity");
            assert!(error.to_string().contains("CA:FALSE"), "{error}");
            assert_eq!(server.get(url(addresses[1], "/")).send().await.unwrap().status(), 200);
        }
    });
}

#[test]
fn a_client_proves_itself_where_that_is_required() {
    let scene = Scene::new();
    let clients = Authority::new("the clients' root");
    let client_auth = ClientAuth::required().roots_pem(clients.pem().as_bytes());
    let tls = scene.builder().client_auth(client_auth).build().unwrap();
    let served =
        Served::start(server(App::new().get("/", about), Backend::Auto).bind_tls("127.0.0.1:0", &tls));
    let address = served.address();
    let known = trusting_client(&scene.authority).certificate(clients.client("billing", 7).key());
    let (known, anonymous) = (known.build().unwrap(), trusting_client(&scene.authority).build().unwrap());
    on_a_core(move || {
        let (known, anonymous) = (known.clone(), anonymous.clone());
        async move {
            let response = client_of(&known).get(url(address, "/")).send().await.unwrap();
            let about = String::from_utf8(response.bytes(500).await.unwrap().to_vec()).unwrap();
            assert!(about.contains(" client=CN=billing "), "{about}");
            let error = client_of(&anonymous).get(url(address, "/")).send().await.unwrap_err().to_string();
            assert!(error.contains(&format!("localhost:{}", address.port())), "{error}");
            assert!(error.contains("certificate_required") && error.contains("configure one"), "{error}");
        }
    });
}

#[test]
fn sessions_are_resumed_by_every_client_of_a_configuration() {
    let scene = Scene::new();
    let served = scene.serve(App::new().get("/", about), Backend::Auto);
    let address = served.address();
    for only_tls13 in [true, false] {
        let authority = scene.authority.pem().as_bytes().to_vec();
        on_a_core(move || {
            let builder = TlsClientConfig::builder().roots_pem(&authority);
            let tls = if only_tls13 { builder.only_tls13() } else { builder }.build().unwrap();
            async move {
                let mut resumed = Vec::new();
                for _ in 0..3 {
                    // Each has connections of its own.
                    let response = client_of(&tls).get(url(address, "/")).send().await.unwrap();
                    let about = String::from_utf8(response.bytes(500).await.unwrap().to_vec()).unwrap();
                    resumed.push(about.contains(" resumed=true "));
                }
                assert_eq!(resumed, [false, true, true]);
            }
        });
    }
}

/// A body that ends with the connection: whoever can cut that could make it end anywhere (the cookie cutter).
#[test]
fn a_body_that_is_cut_off_by_somebody_on_the_way_never_seems_whole() {
    let scene = Scene::new();
    let issued = scene.authority.server(&["localhost"]);
    let (ends, is_cut) = (serve_half_a_body(&issued, true), serve_half_a_body(&issued, false));
    let tls = trusting_client(&scene.authority).build().unwrap();
    on_a_core(move || {
        let client = client_of(&tls);
        async move {
            let whole = client.get(url(ends, "/")).send().await.unwrap().bytes(100).await.unwrap();
            assert_eq!(whole, "half of what");
            let cut = client.get(url(is_cut, "/")).send().await.unwrap().bytes(100).await;
            assert!(matches!(cut, Err(BodyError::Response(ResponseBodyError::Incomplete))), "{cut:?}");
            assert_eq!(client.idle_connections(), 0);
        }
    });
}

#[test]
fn a_server_that_says_nothing_in_the_handshake_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let scene = Scene::new();
    let tls = trusting_client(&scene.authority).build().unwrap();
    on_a_core(move || {
        let short = Duration::from_millis(100);
        let patient = client_with(&tls, &ClientOptions::default());
        let hasty = client_with(&tls, &ClientOptions { handshake: short, ..Default::default() });
        async move {
            let error = hasty.get(url(address, "/")).send().await.unwrap_err();
            assert!(matches!(error, ClientError::TimedOut(Phase::Handshake)), "{error}");
            assert!(error.is_before_sending());
            let request = patient.get(url(address, "/")).with_timeout(short);
            let error = request.send().await.unwrap_err();
            assert!(matches!(error, ClientError::TimedOut(Phase::Handshake)), "{error}");
        }
    });
    drop(silent);
}

#[test]
fn redirects_lead_into_tls_and_not_out_of_it() {
    async fn secret(request: Request) -> String {
        request.header("authorization").unwrap_or("none").to_owned()
    }
    let scene = Scene::new();
    let plain = Served::start(server(App::new().get("/secret", secret), Backend::Auto).bind("127.0.0.1:0"));
    let downgrade = format!("http://localhost:{}/secret", plain.address().port());
    let app = App::new()
        .get("/secret", secret)
        .get("/same", async || Redirect::temporary("/secret"))
        .get("/down", async move || Redirect::temporary(downgrade.clone()));
    let secure = scene.serve(app, Backend::Auto);
    let target = url(secure.address(), "/secret");
    let up = App::new().get("/up", async move || Redirect::permanent(target.clone()));
    let up = Served::start(server(up, Backend::Auto).bind("127.0.0.1:0"));
    let (up, secure) = (format!("http://localhost:{}/up", up.address().port()), secure.address());
    let tls = trusting_client(&scene.authority).build().unwrap();
    on_a_core(move || {
        let client = client_with(&tls, &ClientOptions { redirects_max: 3, ..Default::default() });
        let up = up.clone();
        async move {
            let ask = async |url: String| {
                let request = client.get(url);
                request.with_header(header::AUTHORIZATION, HeaderValue::from_static("Bearer x")).send().await
            };
            assert_eq!(ask(url(secure, "/same")).await.unwrap().bytes(100).await.unwrap(), "Bearer x");
            assert_eq!(ask(up).await.unwrap().bytes(100).await.unwrap(), "none", "it was for another server");
            let error = ask(url(secure, "/down")).await.unwrap_err();
            assert!(matches!(error, ClientError::Redirect(reason) if reason.contains("https")), "{error}");
        }
    });
}

#[test]
fn a_server_that_would_speak_another_protocol_is_refused() {
    let scene = Scene::new();
    let (certificate, key) = scene.authority.server(&["localhost"]).write(scene.folder.path(), "localhost");
    let openssl = SServer::start(&certificate, &key, &["-www", "-alpn", "h2"]);
    let address = openssl.address;
    let tls = trusting_client(&scene.authority).alpn(&["h2", "http/1.1"]).build().unwrap();
    on_a_core(move || {
        let client = client_of(&tls);
        async move {
            let error = client.get(url(address, "/")).send().await.unwrap_err();
            let ClientError::Handshake { source, .. } = &error else { panic!("{error}") };
            assert_eq!(*source, TlsError::NoApplicationProtocol);
        }
    });
}

#[test]
fn an_upgrade_gives_the_tls_stream_over() {
    let scene = Scene::new();
    let served = scene.serve(App::new().get("/", echo_after_upgrade), Backend::Auto);
    let address = served.address();
    let tls = trusting_client(&scene.authority).build().unwrap();
    on_a_core(move || {
        let client = client_of(&tls);
        async move {
            let request = client.get(url(address, "/"));
            let request = request.with_header(header::UPGRADE, HeaderValue::from_static("echo"));
            let request = request.with_header(header::CONNECTION, HeaderValue::from_static("upgrade"));
            let stream = request.send().await.unwrap().take_upgraded().unwrap();
            assert!(stream.is_tls());
            assert_eq!(&stream.recv().await.unwrap()[..], b"early");
            stream.send("late").await.unwrap();
            assert_eq!(&stream.recv().await.unwrap()[..], b"late");
            stream.shutdown().await.unwrap();
            assert!(stream.recv().await.unwrap().is_empty(), "it ends in order");
        }
    });
}

#[test]
fn s_servers_status_page_is_read_whole_in_both_versions() {
    let scene = Scene::new();
    let (certificate, key) = scene.authority.server(&["localhost"]).write(scene.folder.path(), "localhost");
    for (argument, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let openssl = SServer::start(&certificate, &key, &["-www", argument]);
        let address = openssl.address;
        let tls = trusting_client(&scene.authority).build().unwrap();
        on_a_core(move || {
            let client = client_of(&tls);
            async move {
                let response = client.get(url(address, "/")).send().await.unwrap();
                assert_eq!(response.status(), 200);
                // It has no length: it ends with the connection, in order.
                let page = String::from_utf8(response.bytes(1 << 20).await.unwrap().to_vec()).unwrap();
                assert!(page.contains(version) && page.trim_end().ends_with("</HTML>"), "{page}");
            }
        });
    }
}

/// An HTTPS server of Python's that keeps connections: it answers a GET with its path, and a POST with its body.
const PYTHON: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Peer", str(self.client_address[1]))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(self.path.encode())
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.set_alpn_protocols(["http/1.1"])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

#[test]
fn pythons_server_is_asked_again_and_again_over_one_connection() {
    let scene = Scene::new();
    let (certificate, key) = scene.authority.server(&["localhost"]).write(scene.folder.path(), "localhost");
    let child = Command::new("python3")
        .args(["-c", PYTHON])
        .args([certificate, key])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed: these tests need it");
    let mut python = Process(child);
    let mut port = String::new();
    BufReader::new(python.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
    let tls = trusting_client(&scene.authority).build().unwrap();
    on_a_core(move || {
        let client = client_of(&tls);
        async move {
            let mut peers = Vec::new();
            let large = pattern(3, 1_000_003);
            for n in 0..3 {
                let response = client.get(url(address, &format!("/{n}"))).send().await.unwrap();
                peers.push(response.headers()["peer"].clone());
                assert_eq!(response.bytes(100).await.unwrap(), format!("/{n}"));
                let response = client.post(url(address, "/")).with_body(large.clone()).send().await.unwrap();
                peers.push(response.headers()["peer"].clone());
                assert!(response.bytes(u64::MAX).await.unwrap() == large);
            }
            peers.dedup();
            assert_eq!(peers.len(), 1);
        }
    });
}

#[test]
fn many_requests_at_once_share_what_connections_there_are() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let app = App::new().get("/{n}", async |Path(n): Path<String>| n);
        let served = scene.serve(app, backend);
        let (address, handle) = (served.address(), served.handle().clone());
        let tls = trusting_client(&scene.authority).build().unwrap();
        on_a_core(move || {
            let (client, handle) = (client_of(&tls), handle.clone());
            async move {
                let opened = handle.counters().opened;
                for round in 0..20 {
                    let ask = async |n: usize| {
                        let number = round * 100 + n;
                        let response = client.get(url(address, &format!("/{number}"))).send().await.unwrap();
                        assert_eq!(response.bytes(100).await.unwrap(), number.to_string());
                    };
                    futures_util::future::join_all((0..16).map(ask)).await;
                }
                assert_eq!(handle.counters().opened, opened + 16);
                assert_eq!(client.idle_connections(), 16);
            }
        });
    }
}
