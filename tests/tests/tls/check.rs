//! What is unsafe is said before the server starts, and refused where it is too dangerous.

use gimmal::defence::{AllowedHosts, Defences};
use gimmal::tls::{ClientAuth, TlsServerConfig};
use gimmal::{App, Server, ServerError, Severity};
use gimmal_tests::{Authority, BACKENDS, Client, server};

use crate::scene::{Scene, Served, about};

/// A server in which nothing is to be found but what its addresses bring.
fn new_server() -> Server {
    let hosts = AllowedHosts::new(["localhost", "a"]).unwrap();
    let app = App::new().get("/", about).with(Defences::new().allowed_hosts(hosts));
    Server::new(app).cores(1).signals(false)
}

fn codes(server: &Server) -> Vec<(&'static str, Severity)> {
    server.check().iter().map(|finding| (finding.code, finding.severity)).collect()
}

#[test]
fn a_development_certificate_on_a_public_address_is_refused_unless_accepted_by_name() {
    let tls = TlsServerConfig::self_signed_for_development(&["localhost"]).unwrap();
    for backend in BACKENDS {
        let server = || new_server().backend(backend).bind_tls("0.0.0.0:0", &tls);
        assert_eq!(codes(&server()), [("tls.development_certificate", Severity::Danger)]);
        let error = server().start().unwrap_err();
        assert!(matches!(error, ServerError::Unsafe(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("development") && text.contains("by ACME for instance"), "{text}");
        assert!(text.contains(r#"Server::accept_danger("tls.development_certificate")"#), "{text}");
        // Another danger's name does not help.
        assert!(server().accept_danger("tls.key_log").start().is_err());

        let served = Served::start(server().accept_danger("tls.development_certificate"));
        let root = tls.certificates()[0].certificate().pem();
        let address = ([127, 0, 0, 1], served.address().port()).into();
        let trusting = gimmal_tests::trusting(&root);
        let mut client = gimmal_tests::TlsClient::connect_tls(address, "localhost", &trusting).unwrap();
        assert_eq!(client.get("/").status, 200);

        // For this machine alone it is good enough.
        let local = new_server().backend(backend).bind_tls("127.0.0.1:0", &tls);
        assert_eq!(codes(&local), [("tls.development_certificate", Severity::Info)]);
        Served::start(local);
    }
}

#[test]
fn findings_name_what_is_unsafe_and_its_cure() {
    let (scene, clients) = (Scene::new(), Authority::new("the clients' root"));
    let config = |days| {
        let key = scene.authority.server_for_days(&["localhost"], days).key();
        TlsServerConfig::builder().certificate(key)
    };
    let expired = new_server().bind_tls("127.0.0.1:0", &config(-1).build().unwrap());
    assert_eq!(codes(&expired), [("tls.certificate_expired", Severity::Danger)]);
    assert!(expired.start().unwrap_err().to_string().contains("expired 1 days ago"));

    let client_auth = ClientAuth::optional().roots_pem(clients.pem().as_bytes());
    let tls = config(3).client_auth(client_auth).build().unwrap();
    let early = scene.builder().dangerous_early_data(1000).build().unwrap();
    let many = new_server().bind("0.0.0.0:0").tcp("0.0.0.0:0", async |_| ()).bind_tls("0.0.0.0:0", &tls);
    let many = many.bind_tls("127.0.0.1:0", &early);
    let found = codes(&many);
    for expected in [
        ("server.plain_http", Severity::Warning),
        ("server.plain_tcp", Severity::Info),
        ("tls.certificate_expires_soon", Severity::Warning),
        ("tls.client_auth_no_revocation", Severity::Warning),
        ("tls.client_auth_optional", Severity::Info),
        ("tls.early_data", Severity::Warning),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert!(found.is_sorted_by_key(|(_, severity)| std::cmp::Reverse(*severity)), "{found:?}");
    assert!(many.check().iter().all(|finding| !finding.what.is_empty() && !finding.cure.is_empty()));

    // A redirect to HTTPS is no plain HTTP to be warned of, and a good certificate nothing at all.
    let good = new_server().redirect_to_https("0.0.0.0:0", 443).bind_tls("0.0.0.0:0", &scene.config());
    assert_eq!(codes(&good), []);
}

#[test]
fn plain_http_beside_it_leads_to_https() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let secure = scene.serve(App::new().get("/{*path}", about).get("/", about), backend);
        let port = secure.address().port();
        let plain = Served::start(server(App::new(), backend).redirect_to_https("127.0.0.1:0", port));
        let location = |request: &str| {
            let mut client = Client::connect(plain.address());
            client.send(request);
            let response = client.head().unwrap();
            (response.status, response.header("location").map(str::to_owned))
        };
        let to = |path: &str| (308, Some(format!("https://localhost:{port}{path}")));
        let get = |path: &str, host: &str| location(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(get("/", "localhost"), to("/"));
        assert_eq!(get("/a/b%20c?d=e%26f&g", "localhost:80"), to("/a/b%20c?d=e%26f&g"));
        assert_eq!(get("/", "[::1]:80"), (308, Some(format!("https://[::1]:{port}/"))));
        // Nothing that a client writes becomes a place elsewhere.
        assert_eq!(get("//evil.test/", "localhost"), to("//evil.test/"));
        assert_eq!(location("HEAD /a HTTP/1.1\r\nHost: localhost\r\n\r\n"), to("/a"));
        let post = "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(location(post), to("/a"));
        assert_eq!(location("GET / HTTP/1.0\r\n\r\n").0, 400);

        let output = std::process::Command::new("curl")
            .args(["--silent", "--show-error", "--location", "--cacert", &scene.path("root.pem")])
            .args(["--resolve", "*:80:127.0.0.1", "--connect-to"])
            .arg(format!("localhost:80:127.0.0.1:{}", plain.address().port()))
            .arg("http://localhost/some/where?and=what")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("version=TLSv1.3"), "{backend:?}: {output:?}");
    }
}
