//! One TLS session.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{CipherSuite, HandshakeKind, NamedGroup, ProtocolVersion};

use super::alert::Alert;
use super::certificate::{Certificate, ClientCertificate};
use super::client::TlsClientConfig;
use super::engine::{
    EncryptFailure, Engine, Progress, RECORD_OVERHEAD_BYTES, RECORD_PLAINTEXT_BYTES, Target,
};
use super::error::{CertificateProblem, TlsError};
use super::first_bytes::{FirstBytes, recognise};
use super::first_flight::{FirstFlight, RECORD_HEADER_BYTES, Refused};
use super::resolver::{self, ACME_TLS, Refusal};
use super::server::TlsServerConfig;

/// The longest message of a client after its hello, its certificates, with the overhead of its records.
const CLIENT_MESSAGE_BYTES_MAX: usize = 40 * 1024;
/// The longest message of a server that rustls takes, 64 KiB, with the overhead of its records.
const SERVER_MESSAGE_BYTES_MAX: usize = 80 * 1024;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsState {
    /// The two sides are still agreeing; nothing can be sent.
    Handshaking,
    /// Data flows both ways.
    Open,
    /// The peer will send nothing more; data can still be sent.
    PeerClosed,
    /// Nothing can be sent any more: [`TlsSession::close`] was called, or the session has failed.
    Closed,
}

/// The protocol version that was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// What a call of [`TlsSession::receive`] did beyond adding plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// How many bytes, of those that this call added, came as early data (0-RTT): **they may be a replay**. They
    /// come first.
    pub early_bytes: usize,
    /// Whether the handshake was done in this call: from now on data can be sent.
    pub opened: bool,
}

/// How much [`TlsSession::send_into`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Bytes of plaintext that were encrypted.
    pub taken: usize,
    /// Bytes of ciphertext that were written.
    pub written: usize,
}

/// A TLS session of a server or a client, without a socket: ciphertext in, plaintext out, and back.
///
/// Hand what the peer sent to [`receive`](Self::receive), and the end of its stream to
/// [`receive_end`](Self::receive_end); after each call send the peer what was written for it, **also after an error**:
/// it is the alert that says why. [`send`](Self::send) encrypts once the session is open.
///
/// An open session that waits holds some two kilobytes and no buffer. Moving it is cheap.
///
/// ```
/// use gimmal_security::tls::{TlsClientConfig, TlsServerConfig, TlsSession, TlsState};
///
/// let server_config = TlsServerConfig::self_signed_for_development(&["localhost"])?;
/// let root = server_config.certificates()[0].certificate().pem();
/// let client_config = TlsClientConfig::builder().roots_pem(root.as_bytes()).alpn(&["http/1.1"]).build()?;
///
/// let mut server = TlsSession::server(&server_config)?;
/// let mut to_server = Vec::new();
/// let mut client = TlsSession::client(&client_config, "localhost", &mut to_server)?;
///
/// let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
/// while client.state() == TlsState::Handshaking || server.state() == TlsState::Handshaking {
///     let mut to_client = Vec::new();
///     server.receive(&mut to_server, &mut at_server, &mut to_client)?;
///     to_server.clear();
///     client.receive(&mut to_client, &mut at_client, &mut to_server)?;
/// }
///
/// client.send(b"hello", &mut to_server)?;
/// server.receive(&mut to_server, &mut at_server, &mut Vec::new())?;
/// assert_eq!(at_server, b"hello");
/// assert_eq!(server.alpn(), Some(&b"http/1.1"[..]));
/// assert_eq!(server.key_exchange_group(), Some("X25519MLKEM768"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TlsSession {
    engine: Engine,
    /// Received bytes that are no whole record yet, or that rustls still needs. Empty while the session waits
    /// between records, and then without memory.
    held: Vec<u8>,
    state: TlsState,
    recognised: bool,
    /// A server's, until a ClientHello was accepted.
    first_flight: Option<Box<FirstFlight>>,
    was_open: bool,
    peer_closed: bool,
    failure: Option<Box<TlsError>>,
    server_name: Option<Box<str>>,
}

impl TlsSession {
    /// The server's side of a new connection.
    ///
    /// # Errors
    /// [`TlsError::Internal`] if rustls refuses the configuration.
    pub fn server(config: &TlsServerConfig) -> Result<Self, TlsError> {
        let rustls = Arc::clone(&config.loaded().rustls);
        let connection = UnbufferedServerConnection::new(rustls).map_err(|error| TlsError::from(&error))?;
        Ok(Self::new(Engine::Server(Box::new(connection)), None))
    }

    /// The client's side of a new connection to the server `name`, a DNS name or an address. Its hello is written to
    /// `out`.
    ///
    /// # Errors
    /// [`TlsError::InvalidServerName`] if `name` is neither; [`TlsError::Internal`] if rustls refuses the
    /// configuration.
    pub fn client(config: &TlsClientConfig, name: &str, out: &mut Vec<u8>) -> Result<Self, TlsError> {
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::InvalidServerName)?;
        let connection = UnbufferedClientConnection::new(config.rustls(), server_name)
            .map_err(|error| TlsError::from(&error))?;
        let mut this = Self::new(Engine::Client(Box::new(connection)), Some(name.into()));
        this.receive(&mut [], &mut Vec::new(), out)?;
        Ok(this)
    }

    fn new(engine: Engine, server_name: Option<Box<str>>) -> Self {
        let first_flight = match engine {
            Engine::Server(_) => Some(Box::default()),
            Engine::Client(_) => None,
        };
        Self {
            engine,
            held: Vec::new(),
            state: TlsState::Handshaking,
            recognised: false,
            first_flight,
            was_open: false,
            peer_closed: false,
            failure: None,
            server_name,
        }
    }

    /// Takes what the peer sent, cut anywhere. Decrypted data is added to `plaintext`, and what the peer is to be sent
    /// in answer to `out`.
    ///
    /// `ciphertext` is decrypted where it lies and left with no meaning. Whatever the peer sends after its
    /// close_notify is ignored (RFC 8446 section 6.1).
    ///
    /// # Errors
    /// [`TlsError`], and the same again from then on. What was decrypted before the fault is in `plaintext`, and the
    /// alert, if the peer is to have one, in `out`.
    pub fn receive(
        &mut self,
        ciphertext: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Received, TlsError> {
        if let Some(failure) = &self.failure {
            return Err((**failure).clone());
        }
        let before = self.state;
        let mut received = Received::default();
        self.receive_pieces(ciphertext, plaintext, out, &mut received).inspect_err(|error| {
            self.state = TlsState::Closed;
            self.held = Vec::new();
            self.failure = Some(Box::new(error.clone()));
        })?;
        received.opened = before == TlsState::Handshaking && self.state != TlsState::Handshaking;
        Ok(received)
    }

    /// Takes no more at once than may be held.
    fn receive_pieces(
        &mut self,
        ciphertext: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
        received: &mut Received,
    ) -> Result<(), TlsError> {
        let piece_bytes = self.held_bytes_max();
        if ciphertext.len() <= piece_bytes {
            return self.receive_records(ciphertext, plaintext, out, received);
        }
        let mut pieces = ciphertext.chunks_mut(piece_bytes);
        pieces.try_for_each(|piece| self.receive_records(piece, plaintext, out, received))
    }

    fn receive_records(
        &mut self,
        mut rest: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
        received: &mut Received,
    ) -> Result<(), TlsError> {
        if !self.recognised && rest.is_empty() && !self.held.is_empty() {
            // Still too few bytes to tell what they are; rustls must not see them before that.
            return Ok(());
        }
        if !self.recognised && !rest.is_empty() {
            if self.held.is_empty() && FirstBytes::is_tls(rest[0]) {
                self.recognised = true;
            } else {
                self.held.extend_from_slice(rest);
                match recognise(&self.held) {
                    FirstBytes::Undecided => return Ok(()),
                    FirstBytes::PlainHttp => return Err(TlsError::PlainHttp),
                    FirstBytes::Tls | FirstBytes::Other => {
                        out.extend_from_slice(&Alert::UNEXPECTED_MESSAGE.plaintext_record());
                        return Err(TlsError::NotTls);
                    }
                }
            }
        }
        if let Some(flight) = self.first_flight.take() {
            rest = self.receive_first_flight(flight, rest, plaintext, out, received)?;
        }
        // Complete what is held, record by record; from the first record on that lies whole in what was received, it
        // is decrypted there.
        while !self.held.is_empty() && !self.peer_closed {
            let taken;
            (taken, rest) = rest.split_at_mut(missing(&self.held).min(rest.len()));
            self.hold(taken);
            if self.held.len() > self.held_bytes_max() {
                return Err(TlsError::TooLarge);
            }
            let mut held = std::mem::take(&mut self.held);
            let consumed = self.drive(&mut held, plaintext, out, received)?;
            if consumed < held.len() {
                held.drain(..consumed);
                self.held = held;
            }
            if rest.is_empty() {
                break;
            }
        }
        if self.held.is_empty() && !self.peer_closed {
            let consumed = self.drive(rest, plaintext, out, received)?;
            self.hold(&rest[consumed..]);
        }
        if self.peer_closed {
            self.held = Vec::new();
        }
        Ok(())
    }

    /// Takes records up to the ClientHello, and up to the second one if a server asks for that (RFC 8446 section 4.1.4).
    /// Gives back what follows.
    fn receive_first_flight<'a>(
        &mut self,
        mut flight: Box<FirstFlight>,
        mut rest: &'a mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
        received: &mut Received,
    ) -> Result<&'a mut [u8], TlsError> {
        while !self.peer_closed {
            let taken = flight.take(&mut rest).map_err(|Refused { alert, error }| {
                out.extend_from_slice(&alert.plaintext_record());
                error
            })?;
            let Some(mut records) = taken else {
                self.first_flight = Some(flight);
                break;
            };
            let consumed = self.drive(&mut records, plaintext, out, received)?;
            if consumed < records.len() {
                records.drain(..consumed);
                self.held = records;
            }
            if !self.awaits_hello(flight.hellos()) || !self.held.is_empty() {
                break;
            }
        }
        Ok(rest)
    }

    /// Whether a ClientHello comes next, of a client that has sent so many.
    fn awaits_hello(&self, hellos: u8) -> bool {
        let facts = self.engine.facts();
        let is_retried = facts.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
        facts.protocol_version().is_none() || (is_retried && hellos < 2)
    }

    /// Keeps the next bytes of a record. There is room for all of it at once, but never for much more than has come.
    fn hold(&mut self, bytes: &[u8]) {
        let missing = missing(bytes);
        if self.held.is_empty() && missing <= 2 * bytes.len() {
            self.held.reserve_exact(bytes.len() + missing);
        }
        self.held.extend_from_slice(bytes);
    }

    /// How much may be held. rustls looks at all pieces of a message whenever another comes, so that a peer that cuts
    /// one into crumbs makes work with the square of their number: a server has to keep it small.
    fn held_bytes_max(&self) -> usize {
        match self.engine {
            Engine::Client(_) => SERVER_MESSAGE_BYTES_MAX,
            Engine::Server(_) => CLIENT_MESSAGE_BYTES_MAX,
        }
    }

    /// Has rustls work on `input`, and tells how much of it is done with.
    fn drive(
        &mut self,
        input: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
        received: &mut Received,
    ) -> Result<usize, TlsError> {
        let (plaintext_before, out_before) = (plaintext.len(), out.len());
        let may_alert = self.state != TlsState::Closed;
        let (progress, result) = self.engine.receive(input, plaintext, out, may_alert);
        let Progress { consumed, early_bytes, peer_closed, may_send } = progress;
        received.early_bytes += early_bytes;
        // Also after `close`: what is left there would be taken for another session's.
        if !self.was_open
            && let Engine::Server(_) = self.engine
        {
            self.note_hello(out_before, out)?;
        }
        result.map_err(|error| TlsError::from(&error))?;

        if may_send && self.state == TlsState::Handshaking {
            self.check_resumed_client(&mut input[consumed..], out).inspect_err(|_| {
                // Its first data may have come along with the end of the handshake.
                plaintext.truncate(plaintext_before);
            })?;
            self.state = TlsState::Open;
            self.was_open = true;
        }
        if peer_closed {
            self.peer_closed = true;
            if self.state == TlsState::Handshaking {
                return Err(TlsError::HandshakeCutShort);
            }
            if self.state == TlsState::Open {
                self.state = TlsState::PeerClosed;
            }
        }
        Ok(consumed)
    }

    /// Takes over what the certificate resolver saw in the client's hello, if it was called just now.
    fn note_hello(&mut self, out_before: usize, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let Some(hello) = resolver::take_hello() else { return Ok(()) };
        self.server_name = hello.server_name;
        let Some(refusal) = hello.refusal else { return Ok(()) };
        let (alert, error) = match refusal {
            Refusal::UnknownName => {
                (Alert::UNRECOGNIZED_NAME, TlsError::UnknownServerName { name: self.server_name.clone() })
            }
            Refusal::NoCertificate => (Alert::INTERNAL_ERROR, TlsError::NoCertificate),
        };
        // rustls says access_denied to both. The hello is the first message, so its alert is all that was written.
        out.truncate(out_before);
        out.extend_from_slice(&alert.plaintext_record());
        Err(error)
    }

    /// A session that resumes brings its client's certificate along unverified: it was verified when the session
    /// began. Ticket and cache are bound to roots and revocation lists; its time is left to be looked at.
    fn check_resumed_client(&mut self, rest: &mut [u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let Engine::Server(_) = self.engine else { return Ok(()) };
        if !self.is_resumed() {
            return Ok(());
        }
        let Some(client) = self.peer_certificates().next() else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |now| now.as_secs());
        match Certificate::from_der(client) {
            Some(certificate) if now <= certificate.not_after() => Ok(()),
            Some(_) => {
                // rustls offers no way to send another alert from here.
                let _ = self.engine.close(rest, out);
                Err(CertificateProblem::Expired.into())
            }
            None => Err(CertificateProblem::Malformed.into()),
        }
    }

    /// Takes the end of the peer's stream (TCP FIN).
    ///
    /// # Errors
    /// [`TlsError::Truncated`] if no close_notify came before it: somebody may have cut the stream.
    /// [`TlsError::HandshakeCutShort`] during the handshake. [`receive`](Self::receive)'s error if it had one.
    pub fn receive_end(&mut self) -> Result<(), TlsError> {
        if let Some(failure) = &self.failure {
            return Err((**failure).clone());
        }
        if self.peer_closed {
            return Ok(());
        }
        let error = match self.state {
            TlsState::Handshaking => TlsError::HandshakeCutShort,
            _ => TlsError::Truncated,
        };
        self.state = TlsState::Closed;
        self.failure = Some(Box::new(error.clone()));
        Err(error)
    }

    /// Encrypts `plaintext` and adds it to `out`.
    ///
    /// # Errors
    /// [`TlsError::NotOpen`] and [`TlsError::Closed`] if the session is not in a state to send;
    /// [`TlsError::KeysUsedUp`] after some hundred gigabytes over TLS 1.2.
    pub fn send(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.check_may_send()?;
        for record in plaintext.chunks(RECORD_PLAINTEXT_BYTES) {
            self.encrypt(record, &mut Target::Vec(out))?;
        }
        Ok(())
    }

    /// Encrypts as much of `plaintext` as fits into `out` once it is encrypted: for memory that is initialised
    /// already, such as a pinned buffer, this is faster than [`send`](Self::send), which has to initialise a
    /// vector's first.
    ///
    /// Each record of at most 16 KiB of plaintext takes at most [`RECORD_OVERHEAD_BYTES`](Self::RECORD_OVERHEAD_BYTES)
    /// more. Nothing is taken if `out` is too short to be worth a record, below 1 KiB if there is more plaintext than
    /// fits.
    ///
    /// # Errors
    /// As `send`.
    pub fn send_into(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<Sent, TlsError> {
        self.check_may_send()?;
        let mut sent = Sent::default();
        while sent.taken < plaintext.len() {
            let rest = &plaintext[sent.taken..];
            // Twice the overhead: a key update may have to go first.
            let fits = (out.len() - sent.written).saturating_sub(2 * RECORD_OVERHEAD_BYTES);
            if fits < rest.len().min(1024) {
                break;
            }
            let mut target = Target::Slice(out, sent.written);
            sent.taken += self.encrypt(&rest[..rest.len().min(fits)], &mut target)?;
            if let Target::Slice(_, written) = target {
                sent.written = written;
            }
        }
        Ok(sent)
    }

    /// The most by which encryption makes a record longer, in bytes; [`send_into`](Self::send_into) wants twice that
    /// at the end of its buffer.
    pub const RECORD_OVERHEAD_BYTES: usize = RECORD_OVERHEAD_BYTES;

    fn check_may_send(&self) -> Result<(), TlsError> {
        match self.state {
            TlsState::Open | TlsState::PeerClosed => Ok(()),
            TlsState::Handshaking => Err(TlsError::NotOpen),
            TlsState::Closed => {
                Err(self.failure.as_ref().map_or(TlsError::Closed, |failure| (**failure).clone()))
            }
        }
    }

    fn encrypt(&mut self, plaintext: &[u8], target: &mut Target<'_>) -> Result<usize, TlsError> {
        self.engine.encrypt(&mut self.held, plaintext, target).map_err(|failure| match failure {
            EncryptFailure::Full => TlsError::Internal("a record does not fit where it was to fit".into()),
            EncryptFailure::NotOpen => TlsError::Closed,
            EncryptFailure::KeysUsedUp => TlsError::KeysUsedUp,
            EncryptFailure::Rustls(error) => TlsError::from(&error),
        })
    }

    /// Ends this side's data: writes close_notify (RFC 8446 section 6.1). What the peer still sends can be received.
    ///
    /// Writes nothing if the handshake is not done, or if the session is closed already.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if matches!(self.state, TlsState::Open | TlsState::PeerClosed) {
            // It fails only where there is nothing to close.
            let _ = self.engine.close(&mut self.held, out);
        }
        self.state = TlsState::Closed;
    }

    /// Where the session stands.
    #[must_use]
    pub fn state(&self) -> TlsState {
        self.state
    }

    /// Whether the peer has ended its side with close_notify: all that it sent has been received.
    #[must_use]
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// The server name that the client asked for (RFC 6066 section 3), in lower case; on a client, the one given.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The application protocol that was agreed (RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.engine.facts().alpn_protocol()
    }

    /// Whether the client is an ACME server that verifies a challenge. It has got what it wanted with the handshake:
    /// close the connection (RFC 8737 section 3).
    #[must_use]
    pub fn is_acme_challenge(&self) -> bool {
        matches!(self.engine, Engine::Server(_)) && self.alpn() == Some(ACME_TLS)
    }

    /// The protocol version, once it is agreed.
    #[must_use]
    pub fn version(&self) -> Option<TlsVersion> {
        match self.engine.facts().protocol_version()? {
            ProtocolVersion::TLSv1_3 => Some(TlsVersion::Tls13),
            ProtocolVersion::TLSv1_2 => Some(TlsVersion::Tls12),
            _ => None,
        }
    }

    /// The cipher suite, by its name in IANA's registry, once it is agreed.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<&'static str> {
        let suite = self.engine.facts().negotiated_cipher_suite()?.suite();
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Some("TLS_AES_128_GCM_SHA256"),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Some("TLS_AES_256_GCM_SHA384"),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some("TLS_CHACHA20_POLY1305_SHA256"),
            other => other.as_str(),
        }
    }

    /// The key exchange group, by its name in IANA's registry, once the handshake is done; `None` if none was used,
    /// as when a TLS 1.2 session resumes.
    #[must_use]
    pub fn key_exchange_group(&self) -> Option<&'static str> {
        match self.engine.facts().negotiated_key_exchange_group()?.name() {
            NamedGroup::X25519MLKEM768 => Some("X25519MLKEM768"),
            NamedGroup::X25519 => Some("x25519"),
            NamedGroup::secp256r1 => Some("secp256r1"),
            NamedGroup::secp384r1 => Some("secp384r1"),
            other => other.as_str(),
        }
    }

    /// Whether the handshake resumed an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.engine.facts().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The peer's certificate chain in DER, its own first.
    pub fn peer_certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.engine.facts().peer_certificates().into_iter().flatten().map(AsRef::as_ref)
    }

    /// The client's certificate, verified, once the session has opened; `None` if it presented none, and on a client.
    ///
    /// It is parsed in each call: ask once a connection.
    #[must_use]
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        let Engine::Server(_) = self.engine else { return None };
        if !self.was_open {
            return None;
        }
        Certificate::from_der(self.peer_certificates().next()?).map(ClientCertificate::verified)
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("side", &if let Engine::Server(_) = self.engine { "server" } else { "client" })
            .field("state", &self.state)
            .field("version", &self.version())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// How many bytes are missing from the record that `held` begins with; `usize::MAX` if it begins in the middle of a
/// handshake message that spans records.
fn missing(held: &[u8]) -> usize {
    match held {
        // The types of RFC 8446 section 5.1, and the major version. A handshake message does not look so: no type of
        // message from 20 to 23 may be as long as the version would make it.
        [20..=23, 3, _, high, low, ..] => {
            let whole = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
            match whole.saturating_sub(held.len()) {
                // Whole, and still here: rustls waits for more than this record.
                0 => usize::MAX,
                missing => missing,
            }
        }
        [] | [20..=23] | [20..=23, 3] | [20..=23, 3, _] | [20..=23, 3, _, _] => {
            RECORD_HEADER_BYTES - held.len()
        }
        _ => usize::MAX,
    }
}
