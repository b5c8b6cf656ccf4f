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
fn a_redirect_leads_to_the_servers_own_hosts_alone() {
    let scene = Scene::new();
    let names = ["a.test", "*.b.test", "127.0.0.1"];
    let tls = TlsServerConfig::builder().certificate(scene.authority.server(&names).key()).build().unwrap();
    let allowing = |hosts: &[&str]| {
        let hosts = AllowedHosts::new(hosts.iter().copied()).unwrap();
        App::new().with(Defences::new().allowed_hosts(hosts))
    };
    for backend in BACKENDS {
        let start = |app: App, port| {
            let server = server(app, backend).redirect_to_https("127.0.0.1:0", port);
            Served::start(server.bind_tls("127.0.0.1:0", &tls))
        };
        let location = |served: &Served, target: &str, host: &str| {
            let mut client = Client::connect(served.address());
            client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let response = client.message();
            assert_eq!(response.status, if response.header("location").is_some() { 308 } else { 421 });
            response.header("location").map(str::to_owned)
        };
        let to = |host: &str| Some(format!("https://{host}/x"));

        // Without a list of hosts, those with a certificate.
        let certified = start(App::new(), 443);
        for own in ["a.test", "A.test:80", "a.test.", "any.b.test", "127.0.0.1:8080"] {
            let host = own.rsplit_once(':').map_or(own, |(host, _)| host);
            assert_eq!(location(&certified, "/x", own), to(host), "{backend:?}: {own}");
        }
        for foreign in ["evil.test", "b.test", "x.y.b.test", "a.test.evil.test", "evila.test", "127.0.0.2"] {
            assert_eq!(location(&certified, "/x", foreign), None, "{backend:?}: {foreign}");
        }
        // A target with an authority of its own goes before the field (RFC 9112, section 3.2.2).
        assert_eq!(location(&certified, "http://evil.test/x", "evil.test"), None, "{backend:?}");

        // With one, those on it, with the port that they are redirected to.
        let listed = start(allowing(&["c.test", "*.d.test:8443"]), 8443);
        assert_eq!(location(&listed, "/x", "C.test:80"), to("c.test:8443"), "{backend:?}");
        assert_eq!(location(&listed, "/x", "x.d.test"), to("x.d.test:8443"), "{backend:?}");
        for foreign in ["a.test", "evil.test", "d.test"] {
            assert_eq!(location(&listed, "/x", foreign), None, "{backend:?}: {foreign}");
        }
        let other_port = start(allowing(&["c.test:443"]), 8443);
        assert_eq!(location(&other_port, "/x", "c.test"), None, "{backend:?}");

        // With neither, every host would be as good as another.
        let open = || server(App::new(), backend).redirect_to_https("127.0.0.1:0", 443);
        let error = open().start().unwrap_err().to_string();
        assert!(error.contains("server.redirect_to_any_host") && error.contains("allowed_hosts"), "{error}");
        let accepted = Served::start(open().accept_danger("server.redirect_to_any_host"));
        assert_eq!(location(&accepted, "/x", "evil.test"), to("evil.test"), "{backend:?}");
    }
}

#[test]
fn plain_http_beside_it_leads_to_https() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let secure = scene.serve(App::new().get("/{*path}", about).get("/", about), backend);
        let port = secure.address().port();
        let hosts = AllowedHosts::new(["localhost", "[::1]"]).unwrap();
        let app = App::new().with(Defences::new().allowed_hosts(hosts));
        let plain = Served::start(server(app, backend).redirect_to_https("127.0.0.1:0", port));
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
