//! `openssl s_client` as the client.

use gimmal::tls::TlsServerConfig;
use gimmal::{App, Path};
use gimmal_tests::{BACKENDS, server};

use crate::scene::{LAST_GET, Scene, Served, about};

fn app() -> App {
    App::new()
        .get("/", about)
        .get("/bytes/{length}", async |Path(length): Path<usize>| gimmal_tests::pattern(0, length))
}

#[test]
fn s_client_speaks_both_versions_and_sees_a_clean_end() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = scene.serve(app(), backend);
        for (argument, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
            let arguments = [argument, "-servername", "localhost", "-verify_hostname", "localhost"];
            let arguments = [&arguments[..], &["-alpn", "h2,http/1.1"]].concat();
            let text = scene.s_client(server.address(), LAST_GET, &arguments);
            assert!(text.contains(&format!("version={version} ")), "{backend:?}: {text}");
            assert!(text.contains("ALPN protocol: http/1.1"), "{backend:?}: {text}");
            assert!(text.contains(" alpn=http/1.1 name=localhost resumed=false "), "{backend:?}: {text}");
            // OpenSSL says "closed" for close_notify, and names an error for any other end.
            assert!(text.contains("\nclosed\n") && !text.contains("unexpected eof"), "{backend:?}: {text}");
        }
        let text = scene.s_client(server.address(), LAST_GET, &["-alpn", "h2"]);
        assert!(text.contains("no application protocol"), "{backend:?}: {text}");
        let text = scene.s_client(server.address(), LAST_GET, &[]);
        assert!(text.contains(" alpn=none "), "{backend:?}: who says nothing speaks HTTP/1.1: {text}");
    }
}

#[test]
fn the_name_that_is_asked_for_decides_on_the_certificate() {
    let scene = Scene::new();
    let key = |names: &[&str]| scene.authority.server(names).key();
    let builder = || {
        TlsServerConfig::builder()
            .certificate(key(&["first.test"]))
            .certificate(key(&["second.test", "other.second.test"]))
            .certificate(key(&["*.third.test"]))
    };
    for backend in BACKENDS {
        let server = Served::start(
            server(app(), backend)
                .bind_tls("127.0.0.1:0", &builder().build().unwrap())
                .bind_tls("127.0.0.1:0", &builder().strict_server_names().build().unwrap()),
        );
        let (lenient, strict) = (server.address_of(0), server.address_of(1));
        for name in ["first.test", "second.test", "other.second.test", "a.third.test"] {
            for address in [lenient, strict] {
                let arguments = ["-servername", name, "-verify_hostname", name];
                let text = scene.s_client(address, LAST_GET, &arguments);
                assert!(text.contains(&format!(" name={name} ")), "{backend:?}: {text}");
            }
        }
        // A name that nobody knows, and none.
        for arguments in [["-servername", "unknown.test"].as_slice(), &["-noservername"]] {
            let first = [arguments, &["-verify_hostname", "first.test"]].concat();
            let text = scene.s_client(lenient, LAST_GET, &first);
            assert!(text.contains("version=TLSv1.3"), "{backend:?}: {text}");
            let text = scene.s_client(strict, LAST_GET, arguments);
            assert!(text.contains("unrecognized name"), "{backend:?}: {text}");
            assert!(!text.contains("version="), "{backend:?}: {text}");
        }
    }
}

#[test]
fn s_client_gets_a_body_of_many_records() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = scene.serve(app(), backend);
        let request = LAST_GET.replace("GET /", "GET /bytes/3000000");
        for version in ["-tls1_3", "-tls1_2"] {
            // The client sends records of half a kilobyte.
            let text =
                scene.s_client(server.address(), &request, &[version, "-quiet", "-split_send_frag", "512"]);
            assert!(text.contains("200 OK") && text.len() > 3_000_000, "{backend:?}: {version}");
        }
    }
}
