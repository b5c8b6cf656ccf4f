//! A client that can do with its records what it likes: rustls until the handshake is done, and its keys from then on.

use std::io::Cursor;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use gimmal_security::tls::{Alert, TlsError, TlsSession, TlsState};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore};

use crate::pair::localhost;

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

struct Scene {
    client: ClientConnection,
    server: TlsSession,
}

impl Scene {
    /// An open session.
    fn new() -> Self {
        let (authority, server, _) = localhost();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
        let config = ClientConfig::builder_with_provider(Arc::new(provider));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.enable_secret_extraction = true;
        let mut scene = Self {
            client: ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap(),
            server: TlsSession::server(&server).unwrap(),
        };
        while scene.client.is_handshaking() || scene.server.state() == TlsState::Handshaking {
            let to_client = scene.send().unwrap();
            scene.receive(&to_client);
        }
        scene
    }

    /// What the server answers to what the client wants to say.
    fn send(&mut self) -> Result<Vec<u8>, TlsError> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        let mut out = Vec::new();
        self.server.receive(&mut bytes, &mut Vec::new(), &mut out)?;
        Ok(out)
    }

    fn receive(&mut self, bytes: &[u8]) {
        let mut rest = Cursor::new(bytes);
        while (rest.position() as usize) < bytes.len() {
            self.client.read_tls(&mut rest).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }

    /// The sessions' keys instead of the client.
    fn keys(self) -> Keys {
        let secrets = self.client.dangerous_extract_secrets().unwrap();
        let (seal_count, ConnectionTrafficSecrets::Aes256Gcm { key: seal, iv: seal_iv }) = secrets.tx else {
            panic!("another cipher suite")
        };
        let (open_count, ConnectionTrafficSecrets::Aes256Gcm { key: open, iv: open_iv }) = secrets.rx else {
            panic!("another cipher suite")
        };
        let key = |bytes: &[u8]| LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).unwrap());
        Keys {
            server: self.server,
            seal: (key(seal.as_ref()), seal_iv.as_ref().try_into().unwrap(), seal_count),
            open: (key(open.as_ref()), open_iv.as_ref().try_into().unwrap(), open_count),
        }
    }
}

struct Keys {
    server: TlsSession,
    seal: (LessSafeKey, [u8; 12], u64),
    open: (LessSafeKey, [u8; 12], u64),
}

/// RFC 8446 section 5.3.
fn nonce(iv: [u8; 12], count: u64) -> Nonce {
    let mut nonce = iv;
    nonce[4..].iter_mut().zip(count.to_be_bytes()).for_each(|(byte, of_count)| *byte ^= of_count);
    Nonce::assume_unique_for_key(nonce)
}

impl Keys {
    /// A record of this inner plaintext: content, type, padding (RFC 8446 section 5.2).
    fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let [.., high, low] = (inner.len() + 16).to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        let mut sealed = inner.to_vec();
        let (key, iv, count) = &mut self.seal;
        key.seal_in_place_append_tag(nonce(*iv, *count), Aad::from(header), &mut sealed).unwrap();
        *count += 1;
        [&header[..], &sealed].concat()
    }

    /// Why the server refuses records of these inner plaintexts, and the alert that it sends.
    fn refusal(mut self, inners: &[&[u8]]) -> (TlsError, Alert) {
        let mut bytes: Vec<u8> = inners.iter().flat_map(|inner| self.seal(inner)).collect();
        let mut out = Vec::new();
        let error = self.server.receive(&mut bytes, &mut Vec::new(), &mut out).unwrap_err();
        let (header, sealed) = out.split_at_mut(5);
        let (key, iv, count) = &self.open;
        let header: [u8; 5] = (&*header).try_into().unwrap();
        let inner = key.open_in_place(nonce(*iv, *count), Aad::from(header), sealed).unwrap();
        match inner {
            [2, alert, 21] => (error, Alert(*alert)),
            other => panic!("no fatal alert: {other:?}"),
        }
    }
}

// RFC 8446 section 5.4.
#[test]
fn an_inner_content_type_of_zero_ends_with_unexpected_message() {
    for inner in [&[0][..], &[0, 0, 0], &[0; 1000]] {
        let (error, alert) = Scene::new().keys().refusal(&[b"hello\x17", inner]);
        assert!(matches!(error, TlsError::Misbehaved(_)), "{error}");
        assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
    }
}

// RFC 8446 sections 5 and 5.2.
#[test]
fn encrypted_records_that_have_no_place_end_with_an_alert() {
    let (_, alert) = Scene::new().keys().refusal(&[&[1, 20]]);
    assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
    let (error, alert) = Scene::new().keys().refusal(&[&[&[1; 0x4001][..], &[APPLICATION_DATA]].concat()]);
    assert_eq!((error, alert), (TlsError::TooLarge, Alert::RECORD_OVERFLOW));
    // In the middle of a message, where rustls leaves no way to say what it was.
    let (_, alert) = Scene::new().keys().refusal(&[&[24, HANDSHAKE], &[1, APPLICATION_DATA]]);
    assert!([Alert::UNEXPECTED_MESSAGE, Alert::BAD_RECORD_MAC].contains(&alert), "{alert}");
}

/// Each update that is asked for is to be answered by one of the server's: one answer stands for all of them until the
/// server has something to send (RFC 8446 section 4.6.3).
#[test]
fn key_updates_without_end_make_a_server_keep_nothing() {
    let mut scene = Scene::new();
    let mut answered = 0;
    for _ in 0..2000 {
        scene.client.refresh_traffic_keys().unwrap();
        std::io::Write::write_all(&mut scene.client.writer(), b"x").unwrap();
        answered += scene.send().unwrap().len();
    }
    assert_eq!(answered, 0, "an answer waits for data that goes out");
    let mut out = Vec::new();
    scene.server.send(b"y", &mut out).unwrap();
    assert!(out.len() < 100, "{} bytes", out.len());
    scene.receive(&out);
    // And nothing else but updates is no conversation.
    for _ in 0..100 {
        scene.client.refresh_traffic_keys().unwrap();
    }
    assert!(matches!(scene.send(), Err(TlsError::Misbehaved(_))));
}
