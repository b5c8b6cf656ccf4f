//! rustls behind one face: its unbuffered connections, of servers and of clients.
//!
//! The unbuffered interface was chosen over the buffered one by measuring (aws-lc-rs, TLS 1.3, one core, medians): a
//! handshake costs the server the same (94 us full, 88 us resumed), a record of 16 KiB is received in 1.8 against
//! 2.05 us and with one allocation against five, and an open session that waits holds 2.3 against 7.6 KB, since
//! nothing in it keeps a read buffer. The price is that it encrypts into initialised memory: 2.0 against 1.6 us a
//! record into a vector, but 1.4 us into memory that is initialised already, as pinned buffers are.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, ReadEarlyData, UnbufferedStatus};
use rustls::{CommonState, Error};

/// A record's header, content type, explicit nonce and tag take at most 5 + 1 + 8 + 16 bytes.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 32;
/// The longest plaintext of one record (RFC 8446 section 5.1).
pub(super) const RECORD_PLAINTEXT_BYTES: usize = 16 * 1024;

/// One rustls connection.
pub(super) enum Engine {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What a pass over received bytes has found.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes at the front of the input that are done with.
    pub(super) consumed: usize,
    /// Bytes of the plaintext that came as early data.
    pub(super) early_bytes: usize,
    /// Whether the peer's close_notify has come.
    pub(super) peer_closed: bool,
    /// Whether data may be sent.
    pub(super) may_send: bool,
}

/// Where encrypted bytes go.
pub(super) enum Target<'a> {
    Vec(&'a mut Vec<u8>),
    /// A slice, and how much of it is filled.
    Slice(&'a mut [u8], usize),
}

impl Target<'_> {
    /// Has `write` fill exactly as much as it says it needs; `None` if that does not fit.
    fn fill(&mut self, mut write: impl FnMut(&mut [u8]) -> Filled) -> Option<Filled> {
        match self {
            Self::Vec(vec) => {
                let start = vec.len();
                let mut room = 0;
                loop {
                    vec.resize(start + room, 0);
                    match write(&mut vec[start..]) {
                        Filled::Needs(bytes) if bytes > room => room = bytes,
                        filled => {
                            vec.truncate(start + if let Filled::Written(bytes) = filled { bytes } else { 0 });
                            return Some(filled);
                        }
                    }
                }
            }
            Self::Slice(slice, at) => match write(&mut slice[*at..]) {
                Filled::Needs(_) => None,
                filled => {
                    if let Filled::Written(bytes) = filled {
                        *at += bytes;
                    }
                    Some(filled)
                }
            },
        }
    }
}

enum Filled {
    Written(usize),
    Needs(usize),
    Refused,
}

/// The two kinds of connection, so that what follows is written once.
trait Connection {
    type Data;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn early_data(reading: ReadEarlyData<'_, '_, Self::Data>, plaintext: &mut Vec<u8>) -> Result<(), Error>;
    fn has_output(&self) -> bool;
    fn facts(&self) -> &CommonState;
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn early_data(
        mut reading: ReadEarlyData<'_, '_, Self::Data>,
        plaintext: &mut Vec<u8>,
    ) -> Result<(), Error> {
        while let Some(record) = reading.next_record() {
            plaintext.extend_from_slice(record?.payload);
        }
        Ok(())
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }

    fn facts(&self) -> &CommonState {
        self
    }
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn early_data(_: ReadEarlyData<'_, '_, Self::Data>, _: &mut Vec<u8>) -> Result<(), Error> {
        // A client receives none.
        Ok(())
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }

    fn facts(&self) -> &CommonState {
        self
    }
}

impl Engine {
    /// Decrypts and answers all whole records in `input`. After this side's close_notify no alert
    /// may follow: `may_alert` is false then.
    pub(super) fn receive(
        &mut self,
        input: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
        may_alert: bool,
    ) -> (Progress, Result<(), Error>) {
        match self {
            Self::Server(connection) => receive(&mut **connection, input, plaintext, out, may_alert),
            Self::Client(connection) => receive(&mut **connection, input, plaintext, out, may_alert),
        }
    }

    /// Encrypts as much of `plaintext` as fits, one record at most, and tells how much that was. `held` is the
    /// received bytes that [`receive`](Self::receive) left.
    pub(super) fn encrypt(
        &mut self,
        held: &mut [u8],
        plaintext: &[u8],
        target: &mut Target<'_>,
    ) -> Result<usize, EncryptFailure> {
        match self {
            Self::Server(connection) => write(&mut **connection, held, Message::Data(plaintext), target),
            Self::Client(connection) => write(&mut **connection, held, Message::Data(plaintext), target),
        }
    }

    /// Writes the alert close_notify.
    pub(super) fn close(&mut self, held: &mut [u8], out: &mut Vec<u8>) -> Result<(), EncryptFailure> {
        let mut target = Target::Vec(out);
        match self {
            Self::Server(connection) => write(&mut **connection, held, Message::CloseNotify, &mut target),
            Self::Client(connection) => write(&mut **connection, held, Message::CloseNotify, &mut target),
        }
        .map(drop)
    }

    pub(super) fn facts(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection.facts(),
            Self::Client(connection) => connection.facts(),
        }
    }
}

fn receive<C: Connection>(
    connection: &mut C,
    input: &mut [u8],
    plaintext: &mut Vec<u8>,
    out: &mut Vec<u8>,
    may_alert: bool,
) -> (Progress, Result<(), Error>) {
    let mut progress = Progress::default();
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process(&mut input[progress.consumed..]);
        // The payloads handed out below are owned by rustls, so what it is done with can go at once.
        progress.consumed += discard;
        match state {
            Ok(ConnectionState::ReadTraffic(mut reading)) => {
                while let Some(record) = reading.next_record() {
                    match record {
                        Ok(record) => plaintext.extend_from_slice(record.payload),
                        Err(error) => return (progress, Err(error)),
                    }
                }
            }
            Ok(ConnectionState::ReadEarlyData(reading)) => {
                let before = plaintext.len();
                let read = C::early_data(reading, plaintext);
                progress.early_bytes += plaintext.len() - before;
                if let Err(error) = read {
                    return (progress, Err(error));
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut encoding)) => {
                Target::Vec(out).fill(|slice| filled(&encoding.encode(slice)));
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::BlockedHandshake) => return (progress, Ok(())),
            Ok(ConnectionState::WriteTraffic(_)) => {
                progress.may_send = true;
                return (progress, Ok(()));
            }
            Ok(ConnectionState::PeerClosed) => progress.peer_closed = true,
            Ok(ConnectionState::Closed) => return (progress, Ok(())),
            Ok(_) => {
                return (progress, Err(Error::General("a state of rustls that is not known here".into())));
            }
            Err(error) => {
                let rest = &mut input[progress.consumed..];
                if may_alert && !connection.has_output() && matches!(error, Error::PeerMisbehaved(_)) {
                    provoke_alert(connection, rest);
                }
                drain_alert(connection, rest, out);
                return (progress, Err(error));
            }
        }
    }
}

/// Has rustls write an alert for records that it refuses without one, as for an inner content type of zero, which is to
/// end with unexpected_message (RFC 8446 section 5.4). It offers no way to ask for an alert, so it is given, in place of
/// the bad record, one that it answers so: a change_cipher_spec out of place.
fn provoke_alert<C: Connection>(connection: &mut C, input: &mut [u8]) {
    let Some(record) = input.first_chunk_mut::<6>() else { return };
    // In a handshake those are ignored, but for those that do not say 1.
    *record = [20, 3, 3, 0, 1, if connection.facts().is_handshaking() { 2 } else { 1 }];
    let _ = connection.process(input).state;
}

/// After an error, takes what rustls has ready for the peer: the alert. Only that long may it be called, since then
/// it would read the bad input again.
fn drain_alert<C: Connection>(connection: &mut C, input: &mut [u8], out: &mut Vec<u8>) {
    while connection.has_output() {
        let Ok(ConnectionState::EncodeTlsData(mut encoding)) = connection.process(input).state else {
            return;
        };
        Target::Vec(out).fill(|slice| filled(&encoding.encode(slice)));
    }
}

fn filled(result: &Result<usize, EncodeError>) -> Filled {
    match result {
        Ok(bytes) => Filled::Written(*bytes),
        Err(EncodeError::InsufficientSize(size)) => Filled::Needs(size.required_size),
        Err(EncodeError::AlreadyEncoded) => Filled::Refused,
    }
}

#[derive(Clone, Copy)]
enum Message<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

/// Why nothing was encrypted.
pub(super) enum EncryptFailure {
    /// It does not fit.
    Full,
    /// The session cannot send.
    NotOpen,
    KeysUsedUp,
    Rustls(Error),
}

fn write<C: Connection>(
    connection: &mut C,
    held: &mut [u8],
    message: Message<'_>,
    target: &mut Target<'_>,
) -> Result<usize, EncryptFailure> {
    loop {
        // What is held is no whole record, so nothing is consumed; rustls wants to see it all the same, since it may
        // remember positions in it.
        match connection.process(held).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let mut taken = 0;
                let filled = target.fill(|slice| {
                    let result = match message {
                        Message::Data(plaintext) => {
                            taken = plaintext.len().min(RECORD_PLAINTEXT_BYTES);
                            // Room for a record, and for a key update before it; asking costs nothing.
                            if slice.is_empty() {
                                return Filled::Needs(taken + 2 * RECORD_OVERHEAD_BYTES);
                            }
                            traffic.encrypt(&plaintext[..taken], slice)
                        }
                        Message::CloseNotify => traffic.queue_close_notify(slice),
                    };
                    match result {
                        Ok(bytes) => Filled::Written(bytes),
                        Err(EncryptError::InsufficientSize(size)) => Filled::Needs(size.required_size),
                        Err(EncryptError::EncryptExhausted) => Filled::Refused,
                    }
                });
                return match filled {
                    Some(Filled::Written(_)) => Ok(taken),
                    Some(Filled::Refused) => Err(EncryptFailure::KeysUsedUp),
                    Some(Filled::Needs(_)) | None => Err(EncryptFailure::Full),
                };
            }
            Ok(ConnectionState::EncodeTlsData(mut encoding)) => {
                if target.fill(|slice| filled(&encoding.encode(slice))).is_none() {
                    return Err(EncryptFailure::Full);
                }
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::PeerClosed) => {}
            Ok(_) => return Err(EncryptFailure::NotOpen),
            Err(error) => return Err(EncryptFailure::Rustls(error)),
        }
    }
}
