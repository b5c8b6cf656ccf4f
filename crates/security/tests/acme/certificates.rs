//! Orders that succeed, and orders that fail.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gimmal_security::SecretString;
use gimmal_security::tls::acme::{AcmeClient, AcmeConfig, AcmeError, AcmeResponder, HttpChallenges};
use gimmal_security::tls::{TlsClientConfig, TlsServerConfig, TlsSession, TlsState};

use crate::authority::now;
use crate::pebble::{Pebble, TokioPool};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn client(pebble: &Pebble, names: &[&str]) -> AcmeClient {
    AcmeClient::new(config(pebble, names)).unwrap()
}

fn config(pebble: &Pebble, names: &[&str]) -> AcmeConfig {
    AcmeConfig::new(pebble.directory(), names, pebble.folder.path().join("acme"))
        .unwrap()
        .contact("mailto:admin@example.org")
        .agree_to_terms_of_service()
}

/// Serves challenges by plain HTTP until the test ends.
fn serve_http(port: u16, challenges: HttpChallenges) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut request = [0; 4096];
            let count = socket.read(&mut request).unwrap();
            let head = String::from_utf8_lossy(&request[..count]).into_owned();
            let body = challenges.respond(head.split(' ').nth(1).unwrap_or_default());
            let (status, body) = body.map_or(("404 Not Found", String::new()), |body| ("200 OK", body));
            let _ = write!(
                socket,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
}

/// Does handshakes until the test ends.
fn serve_tls(port: u16, tls: TlsServerConfig) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut session = TlsSession::server(&tls).unwrap();
            let mut buffer = [0; 4096];
            while session.state() == TlsState::Handshaking {
                let Ok(count @ 1..) = socket.read(&mut buffer) else { break };
                let mut out = Vec::new();
                let result = session.receive(&mut buffer[..count], &mut Vec::new(), &mut out);
                let _ = socket.write_all(&out);
                if result.is_err() {
                    break;
                }
            }
            if session.is_acme_challenge() {
                let mut out = Vec::new();
                session.close(&mut out);
                let _ = socket.write_all(&out);
            }
        }
    });
}

/// A handshake in memory with a client that trusts `root_pem`.
fn is_trusted(tls: &TlsServerConfig, root_pem: &[u8], name: &str) -> bool {
    let client = TlsClientConfig::builder().roots_pem(root_pem).build().unwrap();
    let (mut to_server, mut to_client, mut plaintext) = (Vec::new(), Vec::new(), Vec::new());
    let mut server = TlsSession::server(tls).unwrap();
    let mut client = TlsSession::client(&client, name, &mut to_server).unwrap();
    while server.state() == TlsState::Handshaking {
        if server.receive(&mut to_server, &mut plaintext, &mut to_client).is_err() {
            return false;
        }
        to_server.clear();
        if client.receive(&mut to_client, &mut plaintext, &mut to_server).is_err() {
            return false;
        }
        to_client.clear();
    }
    true
}

fn modes(folder: &Path) -> Vec<u32> {
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let mut modes: Vec<_> = folder.read_dir().unwrap().map(|entry| mode(&entry.unwrap().path())).collect();
    modes.push(mode(folder));
    modes
}

#[test]
fn http_01_brings_a_certificate_and_renews_it() {
    block_on(async {
        let pebble = Pebble::start("");
        let challenges = HttpChallenges::default();
        serve_http(pebble.http_port, challenges.clone());
        let responder = AcmeResponder::Http01(challenges);
        let acme = client(&pebble, &["example.org", "www.example.org"]);
        assert!(acme.stored().unwrap().is_none());
        assert_eq!(acme.renew_at().unwrap(), 0);

        let first = acme.obtain(&pebble.fetch, &TokioPool, &responder).await.unwrap();
        let tls = TlsServerConfig::builder().acme_challenges().build().unwrap();
        tls.install(first.clone()).unwrap();
        let root = pebble.root_pem().await;
        assert!(is_trusted(&tls, &root, "example.org") && is_trusted(&tls, &root, "www.example.org"));

        // What is stored is the same, for its owner alone, and is to be renewed later.
        let stored = acme.stored().unwrap().unwrap();
        assert_eq!(stored.certificate(), first.certificate());
        assert_eq!(stored.loose_key_file(), None);
        assert_eq!(modes(&pebble.folder.path().join("acme")), [0o600, 0o600, 0o700]);
        let renew_at = acme.renew_at().unwrap();
        assert!(renew_at > now() && renew_at < first.certificate().not_after());

        // Again, as after a restart: same account, another certificate with another key, in the old one's place.
        let second = client(&pebble, &["www.example.org", "example.org"])
            .obtain(&pebble.fetch, &TokioPool, &responder)
            .await
            .unwrap();
        assert_ne!(
            second.certificate().public_key_fingerprint(),
            first.certificate().public_key_fingerprint()
        );
        assert_eq!(modes(&pebble.folder.path().join("acme")).len(), 3);
        tls.install(second).unwrap();
        assert_eq!(tls.certificates().len(), 1);
        // Other names are another certificate.
        assert!(client(&pebble, &["example.org"]).stored().unwrap().is_none());
    });
}

#[test]
fn tls_alpn_01_brings_a_certificate_through_the_tls_server_itself() {
    block_on(async {
        let pebble = Pebble::start("");
        let tls = TlsServerConfig::builder().acme_challenges().strict_server_names().build().unwrap();
        serve_tls(pebble.tls_port, tls.clone());
        let responder = AcmeResponder::TlsAlpn01(vec![tls.clone()]);
        let acme = client(&pebble, &["example.org", "api.example.org"]);
        // The second time there is a certificate already, and the challenge goes beside it.
        for _ in 0..2 {
            tls.install(acme.obtain(&pebble.fetch, &TokioPool, &responder).await.unwrap()).unwrap();
            assert!(is_trusted(&tls, &pebble.root_pem().await, "api.example.org"));
        }
        assert!(!is_trusted(&tls, &pebble.root_pem().await, "example.com"));
    });
}

#[test]
fn a_name_that_cannot_be_verified_is_told_and_nothing_is_stored() {
    block_on(async {
        let pebble = Pebble::start("");
        // Nobody listens.
        let challenges = HttpChallenges::default();
        let acme = client(&pebble, &["unreachable.example.org"]);
        let error = acme
            .obtain(&pebble.fetch, &TokioPool, &AcmeResponder::Http01(challenges.clone()))
            .await
            .unwrap_err();
        let AcmeError::ChallengeFailed { name, kind, detail } = &error else { panic!("{error}") };
        assert_eq!((name.as_str(), kind.as_str()), ("unreachable.example.org", "connection"), "{detail}");
        assert!(acme.stored().unwrap().is_none());
        assert!(!format!("{challenges:?}").contains("example"));

        // Somebody else answers.
        serve_http(pebble.http_port, HttpChallenges::default());
        let error =
            acme.obtain(&pebble.fetch, &TokioPool, &AcmeResponder::Http01(challenges)).await.unwrap_err();
        assert!(
            matches!(&error, AcmeError::ChallengeFailed { kind, .. } if kind == "unauthorized"),
            "{error}"
        );
    });
}

// RFC 8555 section 7.3.4.
#[test]
fn an_account_is_bound_to_an_external_one() {
    block_on(async {
        let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
        let pebble = Pebble::start(&format!(
            r#", "externalAccountBindingRequired": true, "externalAccountMACKeys": {{ "kid-1": "{key}" }}"#
        ));
        let challenges = HttpChallenges::default();
        serve_http(pebble.http_port, challenges.clone());
        let responder = AcmeResponder::Http01(challenges);
        let error = client(&pebble, &["example.org"])
            .obtain(&pebble.fetch, &TokioPool, &responder)
            .await
            .unwrap_err();
        let AcmeError::Refused { kind, .. } = &error else { panic!("{error}") };
        assert_eq!(kind, "externalAccountRequired");

        let key = SecretString::from(key);
        let bound = config(&pebble, &["example.org"]).external_account("kid-1", &key).unwrap();
        assert!(!format!("{bound:?}").contains("zWND"));
        AcmeClient::new(bound).unwrap().obtain(&pebble.fetch, &TokioPool, &responder).await.unwrap();
    });
}

#[test]
fn a_server_that_is_not_there_or_does_not_speak_acme_is_told() {
    block_on(async {
        let pebble = Pebble::start("");
        let responder = AcmeResponder::Http01(HttpChallenges::default());
        let at = |url: String| {
            let folder = pebble.folder.path().join("other");
            AcmeClient::new(
                AcmeConfig::new(url, &["example.org"], folder).unwrap().agree_to_terms_of_service(),
            )
            .unwrap()
        };
        for url in [
            "https://localhost:1/dir".to_owned(),
            pebble.directory().replace("/dir", "/nothing"),
            // Never in the clear.
            "http://acme.example.org/dir".to_owned(),
        ] {
            let error = at(url).obtain(&pebble.fetch, &TokioPool, &responder).await.unwrap_err();
            assert!(matches!(error, AcmeError::Protocol(_)), "{error}");
        }
    });
}

#[test]
fn terms_have_to_be_agreed_to_and_damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = || AcmeConfig::new("https://localhost/dir", &["example.org"], folder.path()).unwrap();
    assert!(matches!(AcmeClient::new(config()), Err(AcmeError::Config(_))));
    let acme = AcmeClient::new(config().agree_to_terms_of_service()).unwrap();
    for name in ["*.example.org", "not a name", "127.0.0.1"] {
        assert!(matches!(AcmeConfig::new("", &[name], folder.path()), Err(AcmeError::Name { .. })), "{name}");
    }
    assert!(matches!(AcmeConfig::new("", &[], folder.path()), Err(AcmeError::Config(_))));
    assert!(acme.stored().unwrap().is_none());
}
