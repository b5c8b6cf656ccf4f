//! The course of a session: handshake, data, close, cut anywhere.

use gimmal_security::tls::{
    CertifiedKey, Received, TlsClientConfig, TlsError, TlsServerConfig, TlsState, TlsVersion,
};
use proptest::prelude::*;

use crate::authority::{Authority, Leaf};
use crate::clients::{RustlsClient, tls12_client};
use crate::pair::{Pair, localhost};

#[test]
fn tls13_is_spoken_with_the_hybrid_group_and_http_1_1() {
    let (_, server, client) = localhost();
    let pair = Pair::greet(&server, &client, "localhost").unwrap();
    for session in [&pair.server, &pair.client] {
        assert_eq!(session.version(), Some(TlsVersion::Tls13));
        assert_eq!(session.key_exchange_group(), Some("X25519MLKEM768"));
        assert_eq!(session.alpn(), Some(&b"http/1.1"[..]));
        assert_eq!(session.server_name(), Some("localhost"));
        assert!(session.cipher_suite().unwrap().starts_with("TLS_"), "{:?}", session.cipher_suite());
        assert!(!session.is_resumed());
    }
    assert_eq!(pair.client.peer_certificates().count(), 1);
    assert!(pair.server.client_certificate().is_none() && pair.client.client_certificate().is_none());
}

#[test]
fn both_versions_work_with_every_cut_of_the_stream() {
    let (authority, server, client) = localhost();
    for step in (1..40).chain([64, 100, 517, 1000, 4096, 16384]) {
        let mut pair = Pair::new(&server, &client, "localhost");
        pair.step = step;
        pair.settle().unwrap();
        pair.exchange(b"ping", &[b'x'; 40_000]).unwrap();
        pair.exchange(&[b'y'; 40_000], b"pong").unwrap();
        assert_eq!(pair.server.version(), Some(TlsVersion::Tls13));

        let mut old = RustlsClient::new(&tls12_client(&authority.pem), &server, "localhost");
        old.step = step;
        old.settle().unwrap();
        old.exchange(b"ping", &[b'x'; 40_000]).unwrap();
        old.exchange(&[b'y'; 40_000], b"pong").unwrap();
        assert_eq!(old.server.version(), Some(TlsVersion::Tls12));
    }
}

#[test]
fn a_record_is_received_whole_wherever_it_is_cut_in_two() {
    let (_, server, client) = localhost();
    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    for cut in 0..=100 {
        let mut wire = Vec::new();
        pair.client.send(b"first", &mut wire).unwrap();
        pair.client.send(&[7; 40], &mut wire).unwrap();
        let middle = cut.min(wire.len());
        let (one, two) = wire.split_at_mut(middle);
        pair.at_server.clear();
        pair.server.receive(one, &mut pair.at_server, &mut pair.to_client).unwrap();
        pair.server.receive(two, &mut pair.at_server, &mut pair.to_client).unwrap();
        assert_eq!(pair.at_server, [&b"first"[..], &[7; 40]].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn data_arrives_as_it_was_sent(
        messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..50_000)), 1..6),
        step in 1_usize..20_000,
        room in 100_usize..60_000,
    ) {
        let (_, server, client) = localhost();
        let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
        pair.step = step;
        for (from_client, message) in messages {
            pair.at_server.clear();
            pair.at_client.clear();
            let (sender, wire) = if from_client {
                (&mut pair.client, &mut pair.to_server)
            } else {
                (&mut pair.server, &mut pair.to_client)
            };
            // Into memory of a fixed size, as far as that goes, and into a vector for the rest.
            let mut buffer = vec![0; room];
            let sent = sender.send_into(&message, &mut buffer).unwrap();
            prop_assert!(sent.written <= room);
            wire.extend_from_slice(&buffer[..sent.written]);
            sender.send(&message[sent.taken..], wire).unwrap();
            pair.settle().unwrap();
            let arrived = if from_client { &pair.at_server } else { &pair.at_client };
            prop_assert!(message == *arrived);
        }
    }
}

#[test]
fn send_into_fills_a_buffer_and_takes_nothing_that_does_not_fit() {
    let (_, server, client) = localhost();
    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    let data = vec![5; 100_000];

    let mut buffer = vec![0; 16 * 1024];
    let sent = pair.server.send_into(&data, &mut buffer).unwrap();
    assert!(sent.written > 16_300 && sent.taken > 16_200, "{sent:?}");
    pair.to_client.extend_from_slice(&buffer[..sent.written]);
    pair.settle().unwrap();
    assert_eq!(pair.at_client, data[..sent.taken]);

    let sent = pair.server.send_into(&data, &mut buffer[..64]).unwrap();
    assert_eq!((sent.taken, sent.written), (0, 0));
    // A short message fits in a short buffer.
    let sent = pair.server.send_into(b"hello", &mut buffer[..128]).unwrap();
    assert_eq!(sent.taken, 5);
    pair.to_client.extend_from_slice(&buffer[..sent.written]);
    pair.at_client.clear();
    pair.settle().unwrap();
    assert_eq!(pair.at_client, b"hello");
}

#[test]
fn nothing_is_sent_before_the_handshake_is_done_and_nothing_after_close() {
    let (_, server, client) = localhost();
    let mut pair = Pair::new(&server, &client, "localhost");
    let mut out = Vec::new();
    assert_eq!(pair.client.send(b"early", &mut out), Err(TlsError::NotOpen));
    assert_eq!(pair.server.send(b"early", &mut out), Err(TlsError::NotOpen));
    pair.settle().unwrap();
    pair.client.close(&mut pair.to_server);
    assert_eq!(pair.client.send(b"late", &mut out), Err(TlsError::Closed));
    assert!(out.is_empty());
}

#[test]
fn receive_tells_once_that_the_session_has_opened() {
    let (_, server, client) = localhost();
    let mut pair = Pair::new(&server, &client, "localhost");
    let mut opened = 0;
    while pair.server.state() == TlsState::Handshaking {
        let received =
            pair.server.receive(&mut pair.to_server, &mut Vec::new(), &mut pair.to_client).unwrap();
        opened += usize::from(received.opened);
        pair.to_server.clear();
        pair.client.receive(&mut pair.to_client, &mut Vec::new(), &mut pair.to_server).unwrap();
        pair.to_client.clear();
    }
    assert_eq!(opened, 1);
    pair.client.send(b"data", &mut pair.to_server).unwrap();
    let received = pair.server.receive(&mut pair.to_server, &mut Vec::new(), &mut Vec::new()).unwrap();
    assert_eq!(received, Received::default());
}

// RFC 8446 section 6.1.
#[test]
fn close_notify_ends_one_direction_and_the_other_goes_on() {
    let (authority, server, client) = localhost();
    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    pair.client.send(b"the last words", &mut pair.to_server).unwrap();
    pair.client.close(&mut pair.to_server);
    pair.client.close(&mut pair.to_server);
    pair.settle().unwrap();
    assert_eq!(pair.at_server, b"the last words");
    assert_eq!((pair.server.state(), pair.server.is_peer_closed()), (TlsState::PeerClosed, true));
    assert_eq!(pair.server.receive_end(), Ok(()));

    pair.server.send(b"the answer", &mut pair.to_client).unwrap();
    pair.server.close(&mut pair.to_client);
    pair.settle().unwrap();
    assert_eq!(pair.at_client, b"the answer");
    assert!(pair.client.is_peer_closed());
    assert_eq!(pair.client.receive_end(), Ok(()));
    assert_eq!((pair.server.state(), pair.client.state()), (TlsState::Closed, TlsState::Closed));

    let mut old = RustlsClient::new(&tls12_client(&authority.pem), &server, "localhost");
    old.settle().unwrap();
    old.server.close(&mut old.to_client);
    old.settle().unwrap();
    assert!(old.client_saw_close());
}

#[test]
fn what_follows_close_notify_is_ignored() {
    let (_, server, client) = localhost();
    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    pair.client.close(&mut pair.to_server);
    pair.to_server.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    pair.settle().unwrap();
    pair.to_server.extend_from_slice(&[0; 100_000]);
    pair.settle().unwrap();
    assert!(pair.at_server.is_empty());
    assert_eq!(pair.server.receive_end(), Ok(()));
}

#[test]
fn a_stream_that_ends_without_close_notify_is_truncated() {
    let (_, server, client) = localhost();
    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    pair.server.send(b"half of it", &mut pair.to_client).unwrap();
    pair.settle().unwrap();
    assert_eq!(pair.client.receive_end(), Err(TlsError::Truncated));
    assert_eq!(pair.client.state(), TlsState::Closed);
    assert_eq!(pair.client.send(b"more", &mut Vec::new()), Err(TlsError::Truncated));
    assert!(TlsError::Truncated.to_string().contains("close_notify"));

    let mut cut = Pair::new(&server, &client, "localhost");
    assert_eq!(cut.server.receive_end(), Err(TlsError::HandshakeCutShort));
}

#[test]
fn tls13_alone_refuses_a_tls12_client_with_protocol_version() {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&Leaf::server(&["localhost"])).key())
        .only_tls13()
        .build()
        .unwrap();
    let mut old = RustlsClient::new(&tls12_client(&authority.pem), &server, "localhost");
    let error = old.settle().unwrap_err();
    assert!(error.to_string().contains("no TLS version in common"), "{error}");
    assert_eq!(old.alert_at_client(), Some(rustls::AlertDescription::ProtocolVersion));
}

#[test]
fn raw_protocols_need_no_alpn_and_foreign_ones_are_refused() {
    let key = CertifiedKey::self_signed_for_development(&["localhost"]).unwrap();
    let root = key.certificate().pem();
    let client = |protocols: &[&str]| {
        TlsClientConfig::builder().roots_pem(root.as_bytes()).alpn(protocols).build().unwrap()
    };
    let raw = TlsServerConfig::builder().certificate(key.clone()).alpn(&[]).build().unwrap();
    assert_eq!(Pair::greet(&raw, &client(&[]), "localhost").unwrap().server.alpn(), None);

    let http = TlsServerConfig::builder().certificate(key).alpn(&["h2", "http/1.1"]).build().unwrap();
    let pair = Pair::greet(&http, &client(&["http/1.1", "h2"]), "localhost").unwrap();
    assert_eq!(pair.server.alpn(), Some(&b"h2"[..]), "the server's preference decides");

    let mut pair = Pair::new(&http, &client(&["imap"]), "localhost");
    assert_eq!(pair.settle(), Err(crate::pair::Fault::Server(TlsError::NoApplicationProtocol)));
    let error = pair.deliver_alert().unwrap_err();
    assert!(format!("{error:?}").contains("AlertReceived(Alert(120))"), "{error:?}");
}

#[test]
fn nothing_that_is_printed_shows_a_key() {
    let (authority, server, client) = localhost();
    let issued = authority.issue(&Leaf::server(&["localhost"]));
    let pair = Pair::greet(&server, &client, "localhost").unwrap();
    let printed = format!("{:?} {:?} {:?} {:?}", issued.key(), server, client, pair.server);
    let secret = issued.key_pem.lines().nth(1).unwrap();
    assert!(!printed.contains(secret) && !printed.contains("PRIVATE"), "{printed}");
}
