//! What the check of a configuration finds.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gimmal_security::tls::{CertifiedKey, ClientAuth, Exposure, TlsServerConfig, TlsServerConfigBuilder};
use gimmal_security::{Finding, Severity};

use crate::authority::{Authority, DAY, Leaf, now};

fn findings(builder: TlsServerConfigBuilder, exposure: Exposure) -> Vec<(Severity, &'static str)> {
    let found = builder.build().unwrap().check(exposure, now());
    for Finding { what, cure, .. } in &found {
        assert!(!what.is_empty() && !cure.is_empty());
    }
    found.iter().map(|finding| (finding.severity, finding.code)).collect()
}

fn server(leaf: &Leaf<'_>) -> TlsServerConfigBuilder {
    TlsServerConfig::builder().certificate(Authority::new("the root").issue(leaf).key())
}

#[test]
fn a_sound_configuration_has_no_findings() {
    assert!(findings(server(&Leaf::server(&["example.org"])), Exposure::Network).is_empty());
}

#[test]
fn certificates_are_checked_for_their_time_and_their_names() {
    let leaf = || Leaf::server(&["example.org"]);
    for (leaf, expected) in [
        (
            Leaf { starts_in: -9 * DAY, ends_in: -2 * DAY, ..leaf() },
            (Severity::Danger, "tls.certificate_expired"),
        ),
        (
            Leaf { ends_in: 10 * DAY, starts_in: -80 * DAY, ..leaf() },
            (Severity::Warning, "tls.certificate_expires_soon"),
        ),
        (
            Leaf { ends_in: DAY, starts_in: -5 * DAY, ..leaf() },
            (Severity::Warning, "tls.certificate_expires_soon"),
        ),
        (Leaf { starts_in: DAY, ..leaf() }, (Severity::Danger, "tls.certificate_not_yet_valid")),
        (Leaf::server(&[]), (Severity::Warning, "tls.certificate_without_names")),
    ] {
        assert_eq!(findings(server(&leaf), Exposure::Network), [expected]);
    }
    // A certificate of six days is not warned of on its second.
    assert!(
        findings(server(&Leaf { ends_in: 4 * DAY, starts_in: -2 * DAY, ..leaf() }), Exposure::Network)
            .is_empty()
    );
}

#[test]
fn a_development_certificate_is_dangerous_where_others_can_reach_it() {
    let builder = || {
        let key = CertifiedKey::self_signed_for_development(&["localhost"]).unwrap();
        TlsServerConfig::builder().certificate(key)
    };
    assert_eq!(findings(builder(), Exposure::Network), [(Severity::Danger, "tls.development_certificate")]);
    assert_eq!(findings(builder(), Exposure::Loopback), [(Severity::Info, "tls.development_certificate")]);
}

#[test]
fn weak_client_authentication_is_found() {
    let clients = Authority::new("the clients' root");
    let roots = clients.pem.as_bytes();
    let build = |client_auth| {
        findings(server(&Leaf::server(&["example.org"])).client_auth(client_auth), Exposure::Network)
    };
    assert_eq!(
        build(ClientAuth::optional().roots_pem(roots)),
        [(Severity::Info, "tls.client_auth_optional"), (Severity::Warning, "tls.client_auth_no_revocation")]
    );
    let with_list = |ends_in| {
        let list = clients.revocation_list(&[], ends_in);
        ClientAuth::required().roots_pem(roots).revocation_list_pem(list.as_bytes())
    };
    assert!(build(with_list(9 * DAY)).is_empty());
    assert_eq!(build(with_list(DAY)), [(Severity::Warning, "tls.revocation_list_expires_soon")]);
    assert_eq!(build(with_list(-DAY)), [(Severity::Danger, "tls.revocation_list_expired")]);
    assert_eq!(
        build(with_list(9 * DAY).allow_unknown_revocation()),
        [(Severity::Warning, "tls.client_auth_unknown_revocation")]
    );
}

#[test]
fn what_was_turned_on_by_name_is_found() {
    let leaf = Leaf::server(&["example.org"]);
    assert_eq!(
        findings(server(&leaf).dangerous_early_data(1000).dangerous_key_log(), Exposure::Network),
        [(Severity::Warning, "tls.early_data"), (Severity::Danger, "tls.key_log")]
    );
    assert_eq!(
        findings(TlsServerConfig::builder().acme_challenges(), Exposure::Network),
        [(Severity::Warning, "tls.no_certificate")]
    );
}

#[test]
fn a_private_key_that_others_can_read_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let issued = Authority::new("the root").issue(&Leaf::server(&["example.org"]));
    let (chain, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    fs::write(&chain, &issued.chain_pem).unwrap();
    fs::write(&key, &issued.key_pem).unwrap();
    for (mode, is_loose) in [(0o600, false), (0o400, false), (0o640, true), (0o644, true)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let certified = CertifiedKey::from_pem_files(&chain, &key).unwrap();
        assert_eq!(certified.loose_key_file(), is_loose.then_some((key.as_path(), mode)));
        let found = findings(TlsServerConfig::builder().pem_files(&chain, &key), Exposure::Network);
        assert_eq!(!found.is_empty(), is_loose);
        assert!(found.iter().all(|found| *found == (Severity::Warning, "tls.private_key_readable")));
    }
}
