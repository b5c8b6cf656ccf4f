//! Sessions that resume: by ticket and from the cache, on another core, and where they must not.

use gimmal_security::tls::{ClientAuth, SessionResumption, TlsClientConfig, TlsServerConfig, TlsVersion};
use rustls::client::{Resumption, Tls12Resumption};

use crate::authority::{Authority, DAY, Leaf};
use crate::clients::{RustlsClient, client_of, tls12_client};
use crate::pair::{Pair, localhost};

#[test]
fn a_tls13_session_resumes_by_ticket() {
    let (_, server, client) = localhost();
    assert!(!Pair::greet(&server, &client, "localhost").unwrap().server.is_resumed());
    let pair = Pair::greet(&server, &client, "localhost").unwrap();
    assert!(pair.server.is_resumed() && pair.client.is_resumed());
    assert_eq!(pair.server.key_exchange_group(), Some("X25519MLKEM768"), "resumed, with forward secrecy");
    // Another server has other ticket keys.
    let (authority, _, _) = localhost();
    let other = TlsServerConfig::builder()
        .certificate(authority.issue(&Leaf::server(&["localhost"])).key())
        .build()
        .unwrap();
    let trusting = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
    assert!(!Pair::greet(&other, &trusting, "localhost").unwrap().server.is_resumed());
}

#[test]
fn a_tls12_session_resumes_by_ticket_and_by_session_id() {
    let (authority, server, _) = localhost();
    for tickets in [Tls12Resumption::SessionIdOrTickets, Tls12Resumption::SessionIdOnly] {
        let mut config = tls12_client(&authority.pem);
        config.resumption = Resumption::in_memory_sessions(8).tls12_resumption(tickets);
        for resumed in [false, true, true] {
            let mut pair = RustlsClient::new(&config, &server, "localhost");
            pair.settle().unwrap();
            pair.exchange(b"ping", b"pong").unwrap();
            assert_eq!(pair.server.version(), Some(TlsVersion::Tls12));
            assert_eq!(pair.server.is_resumed(), resumed, "{tickets:?}");
        }
    }
}

#[test]
fn a_session_resumes_on_another_core_and_on_another_configuration_that_shares() {
    let authority = Authority::new("the root");
    let resumption = SessionResumption::new(100).unwrap();
    let key = authority.issue(&Leaf::server(&["localhost"])).key();
    let core = || {
        TlsServerConfig::builder().certificate(key.clone()).resumption(resumption.clone()).build().unwrap()
    };
    let client = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
    assert!(!Pair::greet(&core(), &client, "localhost").unwrap().server.is_resumed());
    let second = core();
    let resumed =
        std::thread::spawn(move || Pair::greet(&second, &client, "localhost").unwrap().server.is_resumed());
    assert!(resumed.join().unwrap());

    // From the cache.
    let mut config = tls12_client(&authority.pem);
    config.resumption = Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
    for resumed in [false, true] {
        let mut pair = RustlsClient::new(&config, &core(), "localhost");
        pair.settle().unwrap();
        assert_eq!(pair.server.is_resumed(), resumed);
    }
}

#[test]
fn the_cache_forgets_the_oldest_sessions_beyond_its_size() {
    let authority = Authority::new("the root");
    let key = authority.issue(&Leaf::server(&["localhost"])).key();
    for (size, clients) in [(0, 1), (8, 40)] {
        let server = TlsServerConfig::builder()
            .certificate(key.clone())
            .resumption(SessionResumption::new(size).unwrap())
            .build()
            .unwrap();
        let configs: Vec<_> = (0..clients)
            .map(|_| {
                let mut config = tls12_client(&authority.pem);
                config.resumption =
                    Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
                config
            })
            .collect();
        let mut resumed = [0; 2];
        for round in &mut resumed {
            for config in &configs {
                let mut pair = RustlsClient::new(config, &server, "localhost");
                pair.settle().unwrap();
                *round += usize::from(pair.server.is_resumed());
            }
        }
        assert_eq!(resumed[0], 0);
        assert!(resumed[1] <= size, "{resumed:?} of {clients} with a cache of {size}");
    }
}

#[test]
fn a_reload_leaves_resumption_alone() {
    let (_, server, client) = localhost();
    Pair::greet(&server, &client, "localhost").unwrap();
    server.reload().unwrap();
    assert!(Pair::greet(&server, &client, "localhost").unwrap().server.is_resumed());
}

/// A session of a server that asks for no certificate must not open one that does (CVE-2014-1492's kin: resumption
/// across contexts).
#[test]
fn resumption_does_not_bypass_client_authentication() {
    let authority = Authority::new("the root");
    let clients = Authority::new("the clients' root");
    let resumption = SessionResumption::new(100).unwrap();
    let key = authority.issue(&Leaf::server(&["localhost"])).key();
    let builder = || TlsServerConfig::builder().certificate(key.clone()).resumption(resumption.clone());
    let open = builder().build().unwrap();
    let closed =
        builder().client_auth(ClientAuth::required().roots_pem(clients.pem.as_bytes())).build().unwrap();
    let anonymous = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
    Pair::greet(&open, &anonymous, "localhost").unwrap();
    assert!(Pair::greet(&open, &anonymous, "localhost").unwrap().server.is_resumed());
    assert!(Pair::greet(&closed, &anonymous, "localhost").is_err());

    let mut old = tls12_client(&authority.pem);
    old.resumption = Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
    for (server, is_let_in) in [(&open, true), (&open, true), (&closed, false)] {
        let mut pair = RustlsClient::new(&old, server, "localhost");
        assert_eq!(pair.settle().is_ok(), is_let_in);
    }
}

#[test]
fn a_client_that_is_revoked_does_not_come_back_by_its_ticket() {
    let authority = Authority::new("the root");
    let clients = Authority::new("the clients' root");
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("clients.crl");
    std::fs::write(&list, clients.revocation_list(&[], DAY)).unwrap();
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&Leaf::server(&["localhost"])).key())
        .client_auth(ClientAuth::required().roots_pem(clients.pem.as_bytes()).revocation_list_file(&list))
        .build()
        .unwrap();
    let client = TlsClientConfig::builder()
        .roots_pem(authority.pem.as_bytes())
        .certificate(clients.issue(&Leaf::client("alice", 66)).key())
        .build()
        .unwrap();
    Pair::greet(&server, &client, "localhost").unwrap();
    assert!(Pair::greet(&server, &client, "localhost").unwrap().server.is_resumed());

    std::fs::write(&list, clients.revocation_list(&[66], DAY)).unwrap();
    assert!(server.reload_if_changed().unwrap());
    let fault = Pair::greet(&server, &client, "localhost").map(drop).unwrap_err();
    assert!(format!("{fault:?}").contains("Revoked"), "{fault:?}");
}

// RFC 8446 section 8.
#[test]
fn early_data_is_off_unless_turned_on_and_is_told_from_the_rest() {
    let authority = Authority::new("the root");
    let key = authority.issue(&Leaf::server(&["localhost"])).key();
    let mut config = client_of(&authority.pem, &[&rustls::version::TLS13], |_| ());
    config.enable_early_data = true;

    let off = TlsServerConfig::builder().certificate(key.clone()).build().unwrap();
    let on = TlsServerConfig::builder().certificate(key).dangerous_early_data(1000).build().unwrap();
    for (server, early_bytes) in [(&off, 0), (&on, 5)] {
        config.resumption = Resumption::in_memory_sessions(8);
        RustlsClient::new(&config, server, "localhost").settle().unwrap();
        for step in [1 << 20, 1, 7] {
            let mut pair = RustlsClient::new(&config, server, "localhost");
            pair.step = step;
            if let Some(mut early) = pair.client.early_data() {
                std::io::Write::write_all(&mut early, b"early").unwrap();
            } else {
                assert_eq!(early_bytes, 0);
            }
            pair.settle().unwrap();
            assert!(pair.server.is_resumed());
            assert_eq!((pair.early_bytes, pair.at_server.len()), (early_bytes, early_bytes));
            assert_eq!(pair.client.is_early_data_accepted(), early_bytes > 0);
            pair.exchange(b"later", b"answer").unwrap();
            assert_eq!(pair.early_bytes, early_bytes, "the rest did not come early");
        }
    }
}

#[test]
fn replayed_early_data_is_not_accepted_again() {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&Leaf::server(&["localhost"])).key())
        .dangerous_early_data(1000)
        .build()
        .unwrap();
    let mut config = client_of(&authority.pem, &[&rustls::version::TLS13], |_| ());
    config.enable_early_data = true;
    RustlsClient::new(&config, &server, "localhost").settle().unwrap();

    let mut client = RustlsClient::new(&config, &server, "localhost").client;
    std::io::Write::write_all(&mut client.early_data().unwrap(), b"pay 1000").unwrap();
    let mut recorded = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut recorded).unwrap();
    }
    let mut early = Vec::new();
    for _ in 0..2 {
        let mut session = gimmal_security::tls::TlsSession::server(&server).unwrap();
        let received = session.receive(&mut recorded.clone(), &mut Vec::new(), &mut Vec::new()).unwrap();
        early.push(received.early_bytes);
    }
    assert_eq!(early, [8, 0]);
}

#[test]
fn more_early_data_than_allowed_is_refused() {
    let authority = Authority::new("the root");
    let key = authority.issue(&Leaf::server(&["localhost"])).key();
    let resumption = SessionResumption::new(10).unwrap();
    let server = |bytes_max| {
        TlsServerConfig::builder()
            .certificate(key.clone())
            .resumption(resumption.clone())
            .dangerous_early_data(bytes_max)
            .build()
            .unwrap()
    };
    let mut config = client_of(&authority.pem, &[&rustls::version::TLS13], |_| ());
    config.enable_early_data = true;
    RustlsClient::new(&config, &server(4000), "localhost").settle().unwrap();
    let mut pair = RustlsClient::new(&config, &server(100), "localhost");
    std::io::Write::write_all(&mut pair.client.early_data().unwrap(), &[1; 2000]).unwrap();
    assert!(pair.settle().is_err());
}
