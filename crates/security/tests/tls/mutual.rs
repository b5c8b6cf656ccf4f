//! Client certificates: accepted, refused, revoked; and what clients check of servers.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use gimmal_security::Mechanism;
use gimmal_security::client_certificate::{CertificateMap, CertificateMatch, CertificateRule};
use gimmal_security::tls::{
    CertificateProblem, CertifiedKey, ClientAuth, SubjectAltName, TlsClientConfig, TlsConfigError, TlsError,
    TlsServerConfig,
};
use rcgen::ExtendedKeyUsagePurpose;

use crate::authority::{Authority, DAY, Leaf, now};
use crate::pair::{Fault, Pair};

struct Scene {
    /// Issues the server's certificate.
    public: Authority,
    /// Issues the clients'.
    clients: Authority,
}

impl Scene {
    fn new() -> Self {
        Self { public: Authority::new("the public root"), clients: Authority::new("the clients' root") }
    }

    fn server(&self, client_auth: ClientAuth) -> TlsServerConfig {
        TlsServerConfig::builder()
            .certificate(self.public.issue(&Leaf::server(&["localhost"])).key())
            .client_auth(client_auth)
            .build()
            .unwrap()
    }

    fn required(&self) -> ClientAuth {
        ClientAuth::required().roots_pem(self.clients.pem.as_bytes())
    }

    fn client(&self, key: Option<CertifiedKey>) -> TlsClientConfig {
        let builder = TlsClientConfig::builder().roots_pem(self.public.pem.as_bytes());
        match key {
            Some(key) => builder.certificate(key),
            None => builder,
        }
        .build()
        .unwrap()
    }
}

/// Why the server refuses the client, and the alert that the client gets.
fn refusal(server: &TlsServerConfig, client: &TlsClientConfig) -> (TlsError, String) {
    let mut pair = Pair::new(server, client, "localhost");
    let Err(Fault::Server(error)) = pair.settle() else { panic!("it was let in") };
    assert!(pair.server.client_certificate().is_none(), "nothing unverified is shown");
    let Err(Fault::Client(TlsError::AlertReceived(alert))) = pair.deliver_alert() else { panic!("no alert") };
    (error, alert.to_string())
}

#[test]
fn a_client_that_is_let_in_is_known() {
    let scene = Scene::new();
    let server = scene.server(scene.required());
    let leaf = Leaf { names: &["alice.example.org", "10.0.0.1"], ..Leaf::client("alice", 0x1234) };
    let key = scene.clients.issue(&leaf).key();
    let fingerprint = key.certificate().fingerprint();
    let pair = Pair::greet(&server, &scene.client(Some(key)), "localhost").unwrap();

    let client = pair.server.client_certificate().unwrap();
    let certificate = client.certificate();
    assert_eq!(certificate.subject(), "CN=alice,O=Example");
    assert_eq!(certificate.common_name(), Some("alice"));
    assert_eq!(certificate.issuer(), "CN=the clients' root");
    assert_eq!(
        certificate.names(),
        [
            SubjectAltName::Dns("alice.example.org".to_owned()),
            SubjectAltName::Ip(IpAddr::from([10, 0, 0, 1])),
        ]
    );
    assert_eq!(certificate.serial(), "1234");
    assert_eq!(certificate.fingerprint(), fingerprint);
    assert!(certificate.not_after().abs_diff(now() + 90 * DAY as u64) < 60);

    let rule = CertificateRule::new(CertificateMatch::Fingerprint(fingerprint.0)).with_role("editor");
    let principal = CertificateMap::new().with_rule(rule).principal(&client.identity(), now()).unwrap();
    assert_eq!((principal.id(), principal.mechanism()), ("CN=alice,O=Example", Mechanism::ClientCertificate));
    assert!(principal.has_role("editor"));
    assert!(pair.client.client_certificate().is_none());
}

#[test]
fn required_refuses_a_client_without_a_certificate_and_optional_lets_it_in_unnamed() {
    let scene = Scene::new();
    let anonymous = scene.client(None);
    let (error, alert) = refusal(&scene.server(scene.required()), &anonymous);
    assert_eq!((error, alert.as_str()), (TlsError::NoClientCertificate, "certificate_required"));

    let optional = scene.server(ClientAuth::optional().roots_pem(scene.clients.pem.as_bytes()));
    let pair = Pair::greet(&optional, &anonymous, "localhost").unwrap();
    assert!(pair.server.client_certificate().is_none());
    let known = scene.client(Some(scene.clients.issue(&Leaf::client("bob", 2)).key()));
    assert!(Pair::greet(&optional, &known, "localhost").unwrap().server.client_certificate().is_some());
    // What is presented must be good, also where nothing need be presented.
    let foreign = scene.client(Some(scene.public.issue(&Leaf::client("mallory", 3)).key()));
    assert_eq!(refusal(&optional, &foreign).0, CertificateProblem::UnknownIssuer.into());
}

#[test]
fn bad_client_certificates_are_refused_each_with_its_reason() {
    let scene = Scene::new();
    let server = scene.server(scene.required());
    for (authority, leaf, problem, alert) in [
        (&scene.public, Leaf::client("foreign", 1), CertificateProblem::UnknownIssuer, "unknown_ca"),
        (
            &scene.clients,
            Leaf { starts_in: -20 * DAY, ends_in: -DAY, ..Leaf::client("expired", 2) },
            CertificateProblem::Expired,
            "certificate_expired",
        ),
        (
            &scene.clients,
            Leaf { starts_in: DAY, ..Leaf::client("early", 3) },
            CertificateProblem::NotYetValid,
            "certificate_expired",
        ),
        (
            &scene.clients,
            Leaf { usage: ExtendedKeyUsagePurpose::ServerAuth, ..Leaf::client("a server", 4) },
            CertificateProblem::WrongPurpose,
            "unsupported_certificate",
        ),
    ] {
        let client = scene.client(Some(authority.issue(&leaf).key()));
        let refused = refusal(&server, &client);
        assert_eq!(refused, (TlsError::Certificate(problem), alert.to_owned()), "{}", leaf.common_name);
    }
}

#[test]
fn a_revoked_client_is_refused_and_others_are_not() {
    let scene = Scene::new();
    let list = scene.clients.revocation_list(&[66], 10 * DAY);
    let server = scene.server(scene.required().revocation_list_pem(list.as_bytes()));
    let good = scene.client(Some(scene.clients.issue(&Leaf::client("good", 65)).key()));
    let revoked = scene.client(Some(scene.clients.issue(&Leaf::client("stolen", 66)).key()));
    Pair::greet(&server, &good, "localhost").unwrap();
    let (error, alert) = refusal(&server, &revoked);
    assert_eq!((error, alert.as_str()), (CertificateProblem::Revoked.into(), "certificate_revoked"));
}

#[test]
fn an_outdated_revocation_list_and_a_missing_one_refuse() {
    let scene = Scene::new();
    let client = scene.client(Some(scene.clients.issue(&Leaf::client("good", 65)).key()));
    let outdated = scene.clients.revocation_list(&[], -DAY);
    let server = scene.server(scene.required().revocation_list_pem(outdated.as_bytes()));
    assert_eq!(refusal(&server, &client).0, CertificateProblem::ExpiredRevocationList.into());

    let foreign = scene.public.revocation_list(&[], DAY);
    let strict = scene.required().revocation_list_pem(foreign.as_bytes());
    assert_eq!(
        refusal(&scene.server(strict.clone()), &client).0,
        CertificateProblem::UnknownRevocationStatus.into()
    );
    Pair::greet(&scene.server(strict.allow_unknown_revocation()), &client, "localhost").unwrap();
}

#[test]
fn a_chain_with_an_intermediate_authority_is_followed() {
    let scene = Scene::new();
    let intermediate = scene.clients.intermediate("department");
    let client = scene.client(Some(intermediate.issue(&Leaf::client("carol", 9)).key()));
    let pair = Pair::greet(&scene.server(scene.required()), &client, "localhost").unwrap();
    assert_eq!(pair.server.peer_certificates().count(), 2);
    assert_eq!(pair.server.client_certificate().unwrap().certificate().common_name(), Some("carol"));
}

#[test]
fn client_auth_without_roots_or_with_bad_lists_is_no_configuration() {
    let scene = Scene::new();
    let build = |client_auth| {
        TlsServerConfig::builder()
            .certificate(scene.public.issue(&Leaf::server(&["localhost"])).key())
            .client_auth(client_auth)
            .build()
    };
    assert!(matches!(build(ClientAuth::required()), Err(TlsConfigError::NoRoots(_))));
    let error = build(scene.required().revocation_list_pem(scene.clients.pem.as_bytes())).unwrap_err();
    assert!(matches!(error, TlsConfigError::Missing { expected: "revocation list", .. }), "{error}");
    let garbage = crate::authority::pem("X509 CRL", b"no list");
    let error = build(scene.required().revocation_list_pem(garbage.as_bytes())).unwrap_err();
    assert!(matches!(error, TlsConfigError::BadRevocationList { .. }), "{error}");
    let early = TlsServerConfig::builder()
        .certificate(scene.public.issue(&Leaf::server(&["localhost"])).key())
        .client_auth(scene.required())
        .dangerous_early_data(1000)
        .build();
    assert!(matches!(early, Err(TlsConfigError::Conflict(_))));
}

#[test]
fn a_session_that_resumes_brings_the_client_certificate_along_and_not_beyond_its_end() {
    let scene = Scene::new();
    let server = scene.server(scene.required());
    let leaf = Leaf { ends_in: 3, ..Leaf::client("short", 5) };
    let client = scene.client(Some(scene.clients.issue(&leaf).key()));
    Pair::greet(&server, &client, "localhost").unwrap();
    let pair = Pair::greet(&server, &client, "localhost").unwrap();
    assert!(pair.server.is_resumed());
    assert_eq!(pair.server.client_certificate().unwrap().certificate().common_name(), Some("short"));
    sleep(Duration::from_secs(4));
    let mut pair = Pair::new(&server, &client, "localhost");
    pair.server.receive(&mut pair.to_server, &mut pair.at_server, &mut pair.to_client).unwrap();
    pair.to_server.clear();
    pair.client.receive(&mut pair.to_client, &mut pair.at_client, &mut pair.to_server).unwrap();
    // Sent at once, with the end of the handshake.
    pair.client.send(b"delete everything", &mut pair.to_server).unwrap();
    let result = pair.server.receive(&mut pair.to_server, &mut pair.at_server, &mut pair.to_client);
    assert_eq!(result, Err(CertificateProblem::Expired.into()));
    assert!(pair.server.is_resumed() && pair.server.client_certificate().is_none());
    assert!(pair.at_server.is_empty());
}

#[test]
fn a_client_refuses_servers_that_it_has_no_reason_to_trust() {
    let scene = Scene::new();
    let server = |authority: &Authority, leaf: &Leaf<'_>| {
        TlsServerConfig::builder().certificate(authority.issue(leaf).key()).build().unwrap()
    };
    let client = scene.client(None);
    for (authority, leaf, problem) in [
        (&scene.clients, Leaf::server(&["localhost"]), CertificateProblem::UnknownIssuer),
        (&scene.public, Leaf::server(&["example.org"]), CertificateProblem::WrongName),
        (
            &scene.public,
            Leaf { starts_in: -9 * DAY, ends_in: -DAY, ..Leaf::server(&["localhost"]) },
            CertificateProblem::Expired,
        ),
    ] {
        let mut pair = Pair::new(&server(authority, &leaf), &client, "localhost");
        assert_eq!(pair.settle(), Err(Fault::Client(problem.into())));
        let fault = pair.deliver_alert().unwrap_err();
        assert!(matches!(fault, Fault::Server(TlsError::AlertReceived(_))), "{fault:?}");
    }
}

#[test]
fn a_pinned_key_is_taken_and_another_of_the_same_authority_is_not() {
    let scene = Scene::new();
    let issue = || scene.public.issue(&Leaf::server(&["localhost"])).key();
    let (pinned, other) = (issue(), issue());
    let client = TlsClientConfig::builder()
        .roots_pem(scene.public.pem.as_bytes())
        .pin(pinned.certificate().public_key_fingerprint())
        .build()
        .unwrap();
    let server = |key| TlsServerConfig::builder().certificate(key).build().unwrap();
    Pair::greet(&server(pinned), &client, "localhost").unwrap();
    let fault = Pair::greet(&server(other), &client, "localhost").map(drop).unwrap_err();
    assert_eq!(fault, Fault::Client(CertificateProblem::NotPinned.into()));

    // The example of RFC 7469 section 2.1.5, and something that is none.
    let builder =
        TlsClientConfig::builder().pin_from_base64("d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=").unwrap();
    assert!(matches!(builder.pin_from_base64("d6qz"), Err(TlsConfigError::BadPin(_))));
}

#[test]
fn a_client_that_trusts_nobody_is_no_client_and_names_must_be_names() {
    assert!(matches!(TlsClientConfig::builder().build(), Err(TlsConfigError::NoRoots(_))));
    let scene = Scene::new();
    for name in ["", "local host", "localhost:443", "https://localhost"] {
        let result = gimmal_security::tls::TlsSession::client(&scene.client(None), name, &mut Vec::new());
        assert_eq!(result.map(drop).unwrap_err(), TlsError::InvalidServerName, "{name}");
    }
}
