//! Peers that misbehave.

use gimmal_security::tls::{Alert, TlsClientConfig, TlsError, TlsServerConfig, TlsSession, TlsState};
use proptest::prelude::*;

use crate::pair::{Fault, Pair, localhost};

/// What a new server session says to `bytes`, which arrive `step` at a time; and what it answers.
fn answer(bytes: &[u8], step: usize) -> (Result<(), TlsError>, Vec<u8>) {
    let (_, server, _) = localhost();
    let mut session = TlsSession::server(&server).unwrap();
    let mut out = Vec::new();
    for piece in bytes.to_vec().chunks_mut(step) {
        if let Err(error) = session.receive(piece, &mut Vec::new(), &mut out) {
            assert_eq!(session.state(), TlsState::Closed);
            return (Err(error), out);
        }
    }
    (Ok(()), out)
}

#[test]
fn plain_http_on_the_tls_port_is_recognised_and_not_answered_in_tls() {
    for request in [
        &b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"[..],
        b"POST /form HTTP/1.1\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        for step in [1, 3, 100] {
            assert_eq!(answer(request, step), (Err(TlsError::PlainHttp), Vec::new()));
        }
    }
    assert!(TlsError::PlainHttp.to_string().contains("https://"));
}

/// Whoever waits for more bytes may hand over none.
#[test]
fn nothing_between_the_first_bytes_is_not_taken_for_tls() {
    let (_, config, _) = localhost();
    let mut server = TlsSession::server(&config).unwrap();
    let (mut plaintext, mut out) = (Vec::new(), Vec::new());
    for piece in [&b"GE"[..], b"", b"T ", b""] {
        let received = server.receive(&mut piece.to_vec(), &mut plaintext, &mut out);
        assert_eq!((received.map(|_| ()), out.as_slice()), (Ok(()), &[][..]), "{piece:?}");
    }
    let refused = server.receive(&mut b"/".to_vec(), &mut plaintext, &mut out);
    assert_eq!((refused.map(|_| ()), out), (Err(TlsError::PlainHttp), Vec::new()));
}

#[test]
fn a_client_recognises_a_server_of_plain_http() {
    let (_, _, client) = localhost();
    let mut session = TlsSession::client(&client, "localhost", &mut Vec::new()).unwrap();
    let mut response = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    let error = session.receive(&mut response, &mut Vec::new(), &mut Vec::new());
    assert_eq!(error, Err(TlsError::PlainHttp));
}

/// A fatal alert in a record that is not encrypted.
fn alert(alert: Alert) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, alert.0]
}

#[test]
fn other_protocols_are_not_tls() {
    for bytes in
        [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\x00\x00\x00\x2a", b"\x80\x2e\x01\x00\x02", b"EHLO you\r\n"]
    {
        let (result, out) = answer(bytes, 100);
        assert_eq!(answer(bytes, 1), (result.clone(), out.clone()));
        match result {
            Err(TlsError::NotTls) => assert_eq!(out, alert(Alert::UNEXPECTED_MESSAGE)),
            // "EHLO you" could be a request line.
            other => assert_eq!((other, out), (Err(TlsError::PlainHttp), Vec::new())),
        }
    }
}

// RFC 8446 section 5.
#[test]
fn a_first_record_of_a_wrong_type_ends_with_unexpected_message() {
    let change_cipher_spec = b"\x14\x03\x03\x00\x01\x01";
    let data = b"\x17\x03\x03\x00\x05hello";
    let unknown = b"\x18\x03\x03\x00\x01\x01";
    let sslv2 = b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10";
    let no_hello = b"\x16\x03\x01\x00\x04\x14\x00\x00\x00";
    for bytes in [&change_cipher_spec[..], data, unknown, sslv2, no_hello] {
        for step in [1, 100] {
            let (result, out) = answer(bytes, step);
            assert!(result.is_err(), "{bytes:?}");
            assert_eq!(out, alert(Alert::UNEXPECTED_MESSAGE), "{bytes:?}");
        }
    }
    // The same after the first fragment of a hello (RFC 8446 section 5.1).
    for bytes in [&change_cipher_spec[..], data, b"\x15\x03\x03\x00\x02\x01\x00"] {
        let (_, out) = answer(&[b"\x16\x03\x01\x00\x01\x01", bytes].concat(), 100);
        assert_eq!(out, alert(Alert::UNEXPECTED_MESSAGE), "{bytes:?}");
    }
}

#[test]
fn a_client_tells_a_server_of_another_protocol_so() {
    let (_, _, client) = localhost();
    let mut session = TlsSession::client(&client, "localhost", &mut Vec::new()).unwrap();
    let mut out = Vec::new();
    let result = session.receive(&mut b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), &mut Vec::new(), &mut out);
    assert_eq!((result, out), (Err(TlsError::NotTls), alert(Alert::UNEXPECTED_MESSAGE)));
}

// RFC 8446 section 5.1.
#[test]
fn an_oversized_record_before_encryption_ends_with_record_overflow() {
    for kind in [21, 22] {
        let bytes = [&[kind, 3, 1, 0x40, 1][..], &[1; 0x4001]].concat();
        assert_eq!(answer(&bytes, 1000), (Err(TlsError::TooLarge), alert(Alert::RECORD_OVERFLOW)));
    }
}

#[test]
fn a_record_that_was_changed_on_the_way_ends_the_session_with_bad_record_mac() {
    let (_, server, client) = localhost();
    for position in [5, 20, 25] {
        let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
        pair.client.send(b"transfer 10", &mut pair.to_server).unwrap();
        pair.to_server[position] ^= 1;
        assert_eq!(pair.settle(), Err(Fault::Server(TlsError::BadRecord)));
        assert!(pair.at_server.is_empty());
        // It stays failed.
        let again = pair.server.receive(&mut [0; 10], &mut pair.at_server, &mut pair.to_client);
        assert_eq!(again, Err(TlsError::BadRecord));
        assert_eq!(pair.server.send(b"x", &mut Vec::new()), Err(TlsError::BadRecord));
        assert_eq!(pair.deliver_alert(), Err(Fault::Client(TlsError::AlertReceived(Alert::BAD_RECORD_MAC))));
    }
}

#[test]
fn a_record_that_is_replayed_or_left_out_is_noticed() {
    let (_, server, client) = localhost();
    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    let mut record = Vec::new();
    pair.client.send(b"once", &mut record).unwrap();
    pair.to_server = [record.clone(), record].concat();
    assert_eq!(pair.settle(), Err(Fault::Server(TlsError::BadRecord)));
    assert_eq!(pair.at_server, b"once");

    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    pair.client.send(b"dropped", &mut Vec::new()).unwrap();
    pair.client.send(b"next", &mut pair.to_server).unwrap();
    assert_eq!(pair.settle(), Err(Fault::Server(TlsError::BadRecord)));
}

#[test]
fn plaintext_after_the_handshake_is_refused() {
    let (_, server, client) = localhost();
    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    pair.to_server = b"\x17\x03\x03\x00\x05hello".to_vec();
    assert!(pair.settle().is_err());
    assert!(pair.at_server.is_empty());
}

#[test]
fn an_oversized_record_is_refused_by_its_header() {
    let (_, server, client) = localhost();
    let mut pair = Pair::connect(&server, &client, "localhost").unwrap();
    pair.to_server = [&[23, 3, 3, 0xff, 0xff][..], &[0; 20_000]].concat();
    let Err(Fault::Server(error)) = pair.settle() else { panic!("it was taken") };
    assert_eq!(error, TlsError::TooLarge);
}

#[test]
fn a_handshake_message_of_megabytes_is_refused_by_its_header() {
    // A ClientHello that announces 16 MB, and one that announces 64 KiB.
    for length in [[0xff, 0xff, 0xff], [1, 0, 0]] {
        let mut bytes = vec![22, 3, 1, 0x40, 0, 1];
        bytes.extend_from_slice(&length);
        let refused = (Err(TlsError::TooLarge), alert(Alert::ILLEGAL_PARAMETER));
        assert_eq!(answer(&bytes, 1), refused);
        bytes.extend_from_slice(&[0; 0x4000 - 4]);
        assert_eq!(answer(&bytes, 4096), refused);
    }
}

/// The configurations of a server and of a client whose hello has so many bytes of ALPN.
fn talkative(bytes: usize) -> (TlsServerConfig, TlsClientConfig) {
    let protocols: Vec<String> = (0..bytes / 100).map(|number| format!("protocol-{number:090}")).collect();
    let mut protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
    protocols.push("http/1.1");
    let (authority, server, _) = localhost();
    let client =
        TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).alpn(&protocols).build().unwrap();
    (server, client)
}

#[test]
fn a_large_hello_is_taken_in_any_pieces() {
    for bytes in [8_000, 14_900, 17_000, 60_000] {
        let (server, client) = talkative(bytes);
        for step in [1, 100, 5000, 1 << 20] {
            let mut pair = Pair::new(&server, &client, "localhost");
            assert!(pair.to_server.len() > bytes);
            pair.step = step;
            pair.settle().unwrap();
            assert_eq!(pair.server.alpn(), Some(&b"http/1.1"[..]));
        }
    }
}

/// The payload of handshake records, in records of so many bytes.
fn refragment(records: &[u8], fragment: usize) -> Vec<u8> {
    let (mut message, mut rest) = (Vec::new(), records);
    while let [22, 3, _, high, low, more @ ..] = rest {
        let (payload, after) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(payload);
        rest = after;
    }
    assert!(rest.is_empty());
    let mut out = Vec::new();
    for piece in message.chunks(fragment) {
        out.extend_from_slice(&[22, 3, 1, (piece.len() >> 8) as u8, piece.len() as u8]);
        out.extend_from_slice(piece);
    }
    out
}

// RFC 8446 section 5.1: a message may be cut into records of any length, also of one byte, and of 2^14.
#[test]
fn a_hello_is_taken_in_records_of_any_length() {
    for (bytes, fragments) in
        [(1_000, [1, 2, 300]), (10_000, [1, 100, 16_384]), (60_000, [1, 16_383, 16_384])]
    {
        let (server, client) = talkative(bytes);
        for fragment in fragments {
            let mut pair = Pair::new(&server, &client, "localhost");
            pair.to_server = refragment(&pair.to_server, fragment);
            pair.settle().unwrap();
            assert_eq!(pair.server.state(), TlsState::Open);
        }
    }
}

// One record that is as long as a record may be.
#[test]
fn a_hello_of_one_full_record_is_taken() {
    let (server, client) = talkative(14_000);
    let long = Pair::new(&server, &client, "localhost").to_server.len();
    for record_bytes in [16_380, 16_383, 16_384] {
        // One more protocol, which fills the record: its length is a byte, and 5 are the record's header.
        let (authority, server, _) = localhost();
        let mut missing = record_bytes + 5 - long;
        let mut protocols: Vec<String> = (0..140).map(|number| format!("protocol-{number:090}")).collect();
        while missing > 0 {
            let taken = if missing > 201 { 200 } else { missing };
            protocols.push("x".repeat(taken - 1));
            missing -= taken;
        }
        let mut protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
        protocols.push("http/1.1");
        let client =
            TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).alpn(&protocols).build().unwrap();
        let mut pair = Pair::new(&server, &client, "localhost");
        pair.to_server = refragment(&pair.to_server, 16_384);
        assert_eq!(pair.to_server.len(), record_bytes + 5);
        pair.settle().unwrap();
        assert_eq!(pair.server.state(), TlsState::Open);
    }
}

#[test]
fn endless_empty_records_are_refused() {
    let bytes = [22, 3, 1, 0, 0].repeat(100);
    assert!(answer(&bytes, 64).0.is_err());
}

#[test]
fn a_fatal_alert_of_the_peer_says_why() {
    let mut alert = vec![21, 3, 3, 0, 2, 2, 48];
    let (_, server, _) = localhost();
    let mut session = TlsSession::server(&server).unwrap();
    let error = session.receive(&mut alert, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, TlsError::AlertReceived(Alert::UNKNOWN_CA));
    assert!(error.to_string().contains("does not trust our certificate"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_a_server_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), step in 1_usize..500) {
        let _ = answer(&bytes, step);
    }

    #[test]
    fn no_record_makes_a_server_panic(
        records in prop::collection::vec((20_u8..25, prop::collection::vec(any::<u8>(), 0..300)), 1..8),
        step in 1_usize..500,
    ) {
        let mut bytes = Vec::new();
        for (kind, body) in records {
            bytes.extend_from_slice(&[kind, 3, 3, (body.len() >> 8) as u8, body.len() as u8]);
            bytes.extend_from_slice(&body);
        }
        let _ = answer(&bytes, step);
    }

    #[test]
    fn no_change_to_a_handshake_makes_either_side_panic_or_open(position in 0_usize..4000, bit in 0_u8..8, step in 1_usize..600) {
        let (_, server, client) = localhost();
        let mut pair = Pair::new(&server, &client, "localhost");
        let hello_len = pair.to_server.len();
        let mut seen = 0;
        for _ in 0..10 {
            for (bytes, to_server) in [(std::mem::take(&mut pair.to_server), true), (std::mem::take(&mut pair.to_client), false)] {
                let mut bytes = bytes;
                if (seen..seen + bytes.len()).contains(&position) {
                    bytes[position - seen] ^= 1_u8 << bit;
                }
                seen += bytes.len();
                for piece in bytes.chunks_mut(step) {
                    let result = if to_server {
                        pair.server.receive(piece, &mut pair.at_server, &mut pair.to_client)
                    } else {
                        pair.client.receive(piece, &mut pair.at_client, &mut pair.to_server)
                    };
                    if result.is_err() {
                        break;
                    }
                }
            }
        }
        // Record headers say a version that nobody reads (RFC 8446 section 5.1), and the tickets at the end are for
        // later; whatever lies between is authenticated.
        let is_version = (hello_len + 1..hello_len + 3).contains(&position);
        if (11..1500).contains(&position) && !is_version {
            prop_assert!(pair.server.state() != TlsState::Open || pair.client.state() != TlsState::Open);
        }
    }
}
