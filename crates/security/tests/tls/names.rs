//! Which certificate a client is shown: by name, by what it can verify; challenges of an ACME server.

use gimmal_security::tls::{
    Alert, CertifiedKey, KeyAlgorithm, TlsClientConfig, TlsConfigError, TlsError, TlsServerConfig,
};
use rustls::{AlertDescription, CipherSuite, ClientConfig, version};

use crate::authority::{Authority, Leaf};
use crate::clients::{RustlsClient, client_of, tls12_client};
use crate::pair::{Fault, Pair, localhost};

fn subject_of(pair: &Pair) -> String {
    let der = pair.client.peer_certificates().next().unwrap();
    gimmal_security::tls::Certificate::from_der(der).unwrap().common_name().unwrap().to_owned()
}

fn named<'a>(common_name: &'a str, names: &'a [&'a str]) -> Leaf<'a> {
    Leaf { common_name, ..Leaf::server(names) }
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder()
        .certificate(
            authority.issue(&named("default", &["example.org", "www.example.org", "127.0.0.1"])).key(),
        )
        .certificate(authority.issue(&named("wildcard", &["*.example.org"])).key())
        .certificate(authority.issue(&named("exact", &["api.example.org"])).key())
        .certificate(authority.issue(&named("upper", &["UPPER.example.net"])).key())
        .build()
        .unwrap();
    let client = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
    for (name, expected) in [
        ("example.org", "default"),
        ("www.example.org", "default"),
        ("other.example.org", "wildcard"),
        ("api.example.org", "exact"),
        ("API.example.org", "exact"),
        ("upper.example.net", "upper"),
        // An address is no server name: the default.
        ("127.0.0.1", "default"),
    ] {
        let pair = Pair::greet(&server, &client, name).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        assert_eq!(subject_of(&pair), expected, "{name}");
    }

    // A wildcard stands for one label (RFC 9525 section 6.3), so these are unknown, are shown the default, and the
    // client finds that it is not for them.
    for name in ["two.labels.example.org", "example.com"] {
        let fault = Pair::greet(&server, &client, name).map(drop).unwrap_err();
        let Fault::Client(error) = fault else { panic!("{fault:?}") };
        assert!(error.to_string().contains("does not bear the name"), "{error}");
    }
}

// RFC 6066 section 3.
#[test]
fn strict_names_refuse_unknown_and_missing_ones_with_unrecognized_name() {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&named("only", &["example.org"])).key())
        .strict_server_names()
        .build()
        .unwrap();
    let client = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
    Pair::greet(&server, &client, "example.org").unwrap();

    for (name, expected) in [("example.com", Some("example.com")), ("127.0.0.1", None)] {
        let mut pair = Pair::new(&server, &client, name);
        let error = TlsError::UnknownServerName { name: expected.map(Into::into) };
        assert_eq!(pair.settle(), Err(Fault::Server(error)));
        let fault = pair.deliver_alert().unwrap_err();
        assert_eq!(format!("{fault:?}"), "Client(AlertReceived(Alert(112)))");
        assert_eq!(pair.server.server_name(), expected);
    }

    let mut old = RustlsClient::new(&tls12_client(&authority.pem), &server, "example.com");
    let error = old.settle().unwrap_err();
    assert!(error.to_string().contains("no certificate for the name example.com"), "{error}");
    assert_eq!(old.alert_at_client(), Some(AlertDescription::UnrecognisedName));
}

#[test]
fn what_one_session_asks_for_never_shows_in_another() {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&named("only", &["example.org"])).key())
        .strict_server_names()
        .build()
        .unwrap();
    let client = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
    let mut good = Pair::new(&server, &client, "example.org");
    good.server.receive(&mut good.to_server, &mut Vec::new(), &mut good.to_client).unwrap();
    good.to_server.clear();
    // Another one, closed before its hello is there, is refused between the good one's two flights.
    let mut other = Pair::new(&server, &client, "example.com");
    other.server.close(&mut Vec::new());
    assert!(other.settle().is_err());

    good.settle().unwrap();
    good.exchange(b"ping", b"pong").unwrap();
    assert_eq!(good.server.server_name(), Some("example.org"));
}

fn suites(
    root: &str,
    version: &'static rustls::SupportedProtocolVersion,
    wanted: &[CipherSuite],
) -> ClientConfig {
    client_of(root, &[version], |provider| {
        provider.cipher_suites.retain(|suite| wanted.contains(&suite.suite()));
    })
}

#[test]
fn rsa_is_for_clients_that_have_nothing_else() {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&Leaf { rsa: true, ..Leaf::server(&["localhost"]) }).key())
        .certificate(authority.issue(&Leaf::server(&["localhost"])).key())
        .build()
        .unwrap();
    let algorithm = |config: &ClientConfig| {
        let mut pair = RustlsClient::new(config, &server, "localhost");
        pair.settle().unwrap();
        let der = pair.client.peer_certificates().unwrap()[0].clone();
        gimmal_security::tls::Certificate::from_der(&der).unwrap().key_algorithm()
    };
    let root = &authority.pem;
    assert_eq!(algorithm(&client_of(root, &[&version::TLS13], |_| ())), KeyAlgorithm::Ecdsa { bits: 256 });
    assert_eq!(algorithm(&tls12_client(root)), KeyAlgorithm::Ecdsa { bits: 256 });
    // It knows how to verify ECDSA, but its cipher suites are for RSA.
    let rsa_suites = suites(root, &version::TLS12, &[CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    assert_eq!(algorithm(&rsa_suites), KeyAlgorithm::Rsa { bits: 2048 });
    // It verifies ECDSA in certificates, as of the root's, but takes no handshake that is signed with it.
    let rsa_signatures = client_of(root, &[&version::TLS13], |provider| {
        let mapping = provider.signature_verification_algorithms.mapping.iter();
        let rsa = mapping.filter(|(scheme, _)| *scheme == rustls::SignatureScheme::RSA_PSS_SHA256).copied();
        provider.signature_verification_algorithms.mapping = Vec::leak(rsa.collect());
    });
    assert_eq!(algorithm(&rsa_signatures), KeyAlgorithm::Rsa { bits: 2048 });
}

#[test]
fn groups_go_from_the_hybrid_down_to_what_the_client_has() {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&Leaf::server(&["localhost"])).key())
        .build()
        .unwrap();
    for (groups, expected) in [
        (vec![rustls::NamedGroup::X25519], "x25519"),
        (vec![rustls::NamedGroup::secp384r1], "secp384r1"),
        // The client's first guess is another one: the server takes what it was given.
        (vec![rustls::NamedGroup::secp256r1, rustls::NamedGroup::X25519], "secp256r1"),
        (vec![rustls::NamedGroup::X25519MLKEM768], "X25519MLKEM768"),
    ] {
        let config = client_of(&authority.pem, &[&version::TLS13], |provider| {
            let all = std::mem::take(&mut provider.kx_groups);
            provider.kx_groups =
                groups.iter().map(|name| *all.iter().find(|group| group.name() == *name).unwrap()).collect();
        });
        let mut pair = RustlsClient::new(&config, &server, "localhost");
        pair.settle().unwrap();
        assert_eq!(pair.server.key_exchange_group(), Some(expected));
    }
}

// RFC 8737 section 3.
#[test]
fn an_acme_server_is_shown_the_challenge_and_nobody_else_is() {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder().acme_challenges().build().unwrap();
    let acme =
        TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).alpn(&["acme-tls/1"]).build().unwrap();
    let browser = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();

    // No certificate yet, no challenge yet.
    for config in [&acme, &browser] {
        let fault = Pair::connect(&server, config, "example.org").map(drop).unwrap_err();
        assert_eq!(fault, Fault::Server(TlsError::NoCertificate));
    }
    server.insert_challenge("Example.org", authority.issue(&named("challenge", &["example.org"])).key());
    let pair = Pair::connect(&server, &acme, "example.org").unwrap();
    assert_eq!((subject_of(&pair).as_str(), pair.server.is_acme_challenge()), ("challenge", true));
    assert!(Pair::connect(&server, &acme, "example.com").is_err());
    assert!(Pair::connect(&server, &browser, "example.org").is_err());

    server.install(authority.issue(&named("real", &["example.org"])).key()).unwrap();
    let pair = Pair::connect(&server, &browser, "example.org").unwrap();
    assert_eq!((subject_of(&pair).as_str(), pair.server.is_acme_challenge()), ("real", false));
    let pair = Pair::connect(&server, &acme, "example.org").unwrap();
    assert_eq!(subject_of(&pair), "challenge");

    server.remove_challenge("example.org");
    assert!(Pair::connect(&server, &acme, "example.org").is_err());
    // Renewed: the new one takes the old one's place, for clients that do not resume.
    server.install(authority.issue(&named("renewed", &["example.org"])).key()).unwrap();
    let browser = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
    assert_eq!(subject_of(&Pair::connect(&server, &browser, "example.org").unwrap()), "renewed");
    assert_eq!(server.certificates().len(), 1);
}

// RFC 7301 section 3.2.
#[test]
fn an_acme_server_at_a_server_without_acme_meets_no_application_protocol() {
    let (authority, server, _) = localhost();
    let offering = |protocols: &[&str]| {
        TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).alpn(protocols).build().unwrap()
    };
    for protocols in [&["acme-tls/1"][..], &["h2"], &["h2", "acme-tls/1"]] {
        let mut pair = Pair::new(&server, &offering(protocols), "localhost");
        assert_eq!(pair.settle(), Err(Fault::Server(TlsError::NoApplicationProtocol)), "{protocols:?}");
        let alert = Err(Fault::Client(TlsError::AlertReceived(Alert::NO_APPLICATION_PROTOCOL)));
        assert_eq!(pair.deliver_alert(), alert, "{protocols:?}");
    }
    let both = ["acme-tls/1", "http/1.1"];
    let pair = Pair::connect(&server, &offering(&both), "localhost").unwrap();
    assert_eq!(pair.server.alpn(), Some(&b"http/1.1"[..]));

    // With ACME, too, a client that speaks HTTP is no ACME server (RFC 8737 section 3).
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&Leaf::server(&["localhost"])).key())
        .acme_challenges()
        .build()
        .unwrap();
    let pair = Pair::connect(&server, &offering(&both), "localhost").unwrap();
    assert_eq!((pair.server.alpn(), pair.server.is_acme_challenge()), (Some(&b"http/1.1"[..]), false));
}

#[test]
fn a_development_certificate_is_for_all_its_names_and_for_nothing_else() {
    let key =
        CertifiedKey::self_signed_for_development(&["localhost", "*.app.localhost", "127.0.0.1", "::1"])
            .unwrap();
    let root = key.certificate().pem();
    let server = TlsServerConfig::builder().certificate(key).build().unwrap();
    let client = TlsClientConfig::builder().roots_pem(root.as_bytes()).build().unwrap();
    for name in ["localhost", "one.app.localhost", "127.0.0.1", "::1"] {
        Pair::greet(&server, &client, name).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
    }
    assert!(Pair::greet(&server, &client, "example.org").is_err());
    let error = CertifiedKey::self_signed_for_development(&["not a näme"]).unwrap_err();
    assert!(matches!(error, TlsConfigError::BadName(_)), "{error}");
}

#[test]
fn a_server_needs_a_certificate() {
    assert!(matches!(TlsServerConfig::builder().build(), Err(TlsConfigError::NoCertificates)));
}
