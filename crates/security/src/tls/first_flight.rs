//! The unencrypted records with which a client begins.

use super::alert::Alert;
use super::engine::RECORD_PLAINTEXT_BYTES;
use super::error::TlsError;

/// A record's header: type, version, length.
pub(super) const RECORD_HEADER_BYTES: usize = 5;
/// The longest ClientHello that is taken: rustls takes no longer message either.
const HELLO_BYTES_MAX: usize = 0xffff;
/// By how much encryption may lengthen a record (RFC 8446 section 5.2).
const EXPANSION_BYTES_MAX: usize = 256;
/// A handshake message's header: type, length.
const MESSAGE_HEADER_BYTES: usize = 4;
const CLIENT_HELLO: u8 = 1;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Puts a ClientHello together from records that are cut anywhere (RFC 8446 section 5.1).
///
/// rustls looks at all pieces of a message whenever another comes, so that a client that cuts its hello into crumbs
/// would make work with the square of their number. Here each byte is looked at once, and rustls gets the message in
/// as few records as it fits in.
#[derive(Debug, Default)]
pub(super) struct FirstFlight {
    header: [u8; RECORD_HEADER_BYTES],
    header_bytes: usize,
    /// How much of the record is still to come, once its header is there.
    missing: usize,
    /// The handshake message up to now, without the headers of its records.
    message: Vec<u8>,
    /// A record of another kind.
    other: Vec<u8>,
    hellos: u8,
}

/// Why a first flight is refused, and what the client is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) alert: Alert,
    pub(super) error: TlsError,
}

impl Refused {
    fn new(alert: Alert, error: TlsError) -> Self {
        Self { alert, error }
    }

    fn unexpected(what: &str) -> Self {
        Self::new(Alert::UNEXPECTED_MESSAGE, TlsError::Misbehaved(what.into()))
    }
}

impl FirstFlight {
    /// Takes bytes off the front of `input` until there is something for rustls: whole records.
    pub(super) fn take(&mut self, input: &mut &mut [u8]) -> Result<Option<Vec<u8>>, Refused> {
        loop {
            if self.header_bytes < RECORD_HEADER_BYTES {
                let taken = split_off(input, RECORD_HEADER_BYTES - self.header_bytes);
                self.header[self.header_bytes..][..taken.len()].copy_from_slice(taken);
                self.header_bytes += taken.len();
                if self.header_bytes < RECORD_HEADER_BYTES {
                    return Ok(None);
                }
                self.check_header()?;
            }
            let payload = split_off(input, self.missing);
            self.missing -= payload.len();
            if self.kind() == HANDSHAKE {
                self.message.extend_from_slice(payload);
                self.check_message()?;
            } else {
                self.other.extend_from_slice(payload);
            }
            if self.missing > 0 {
                return Ok(None);
            }
            self.header_bytes = 0;
            if self.kind() != HANDSHAKE {
                return Ok(Some([&self.header[..], &std::mem::take(&mut self.other)].concat()));
            }
            if self.is_message_whole() {
                self.hellos = self.hellos.saturating_add(1);
                return Ok(Some(self.records()));
            }
        }
    }

    /// How many ClientHellos were handed on.
    pub(super) fn hellos(&self) -> u8 {
        self.hellos
    }

    fn kind(&self) -> u8 {
        self.header[0]
    }

    fn check_header(&mut self) -> Result<(), Refused> {
        let [kind, major, _, high, low] = self.header;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let is_expected = match kind {
            HANDSHAKE => true,
            // A message that has begun is not to be interrupted.
            ALERT => self.message.is_empty(),
            // Between two hellos: for middleboxes, and early data that was not taken.
            CHANGE_CIPHER_SPEC | APPLICATION_DATA => self.hellos > 0 && self.message.is_empty(),
            _ => false,
        };
        if !is_expected {
            return Err(Refused::unexpected("a record of a type that has no place before the ClientHello"));
        }
        if major != 3 {
            let error = TlsError::Misbehaved("a record of an unknown version".into());
            return Err(Refused::new(Alert::PROTOCOL_VERSION, error));
        }
        let len_max = match kind {
            APPLICATION_DATA => RECORD_PLAINTEXT_BYTES + EXPANSION_BYTES_MAX,
            _ => RECORD_PLAINTEXT_BYTES,
        };
        if len > len_max {
            return Err(Refused::new(Alert::RECORD_OVERFLOW, TlsError::TooLarge));
        }
        if len == 0 && kind != APPLICATION_DATA {
            return Err(Refused::unexpected("an empty record"));
        }
        self.missing = len;
        Ok(())
    }

    /// Refuses, by its header, a message that would be waited for in vain.
    fn check_message(&self) -> Result<(), Refused> {
        match self.message.first() {
            Some(&CLIENT_HELLO) | None => {}
            Some(_) => return Err(Refused::unexpected("a handshake message before the ClientHello")),
        }
        match self.message_bytes() {
            // No alert is for this alone; the syntax of such a message is right.
            Some(bytes) if bytes > HELLO_BYTES_MAX => {
                Err(Refused::new(Alert::ILLEGAL_PARAMETER, TlsError::TooLarge))
            }
            _ => Ok(()),
        }
    }

    /// How long the message says to be, without its header.
    fn message_bytes(&self) -> Option<usize> {
        let [_, high, middle, low, ..] = self.message[..] else { return None };
        Some(usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low))
    }

    fn is_message_whole(&self) -> bool {
        self.message_bytes().is_some_and(|bytes| self.message.len() >= MESSAGE_HEADER_BYTES + bytes)
    }

    /// The message, and what came behind it in its last record, in records of the usual length.
    fn records(&mut self) -> Vec<u8> {
        let message = std::mem::take(&mut self.message);
        let mut records = Vec::with_capacity(message.len() + (4 + 1) * RECORD_HEADER_BYTES);
        for fragment in message.chunks(RECORD_PLAINTEXT_BYTES) {
            let [kind, major, minor, ..] = self.header;
            let [.., high, low] = fragment.len().to_be_bytes();
            records.extend_from_slice(&[kind, major, minor, high, low]);
            records.extend_from_slice(fragment);
        }
        records
    }
}

fn split_off<'a>(input: &mut &'a mut [u8], bytes_max: usize) -> &'a [u8] {
    let at = bytes_max.min(input.len());
    let (taken, rest) = std::mem::take(input).split_at_mut(at);
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed on of `bytes`, which arrive `step` at a time.
    fn take(bytes: &[u8], step: usize) -> Result<Vec<u8>, Refused> {
        let mut flight = FirstFlight::default();
        let mut records = Vec::new();
        for piece in bytes.to_vec().chunks_mut(step) {
            let mut rest = piece;
            while let Some(more) = flight.take(&mut rest)? {
                records.extend(more);
            }
            assert!(rest.is_empty());
        }
        Ok(records)
    }

    fn in_records(message: &[u8], fragment: usize) -> Vec<u8> {
        let mut records = Vec::new();
        for piece in message.chunks(fragment) {
            records.extend_from_slice(&[22, 3, 1, (piece.len() >> 8) as u8, piece.len() as u8]);
            records.extend_from_slice(piece);
        }
        records
    }

    fn hello(bytes: usize) -> Vec<u8> {
        let mut message = vec![1, (bytes >> 16) as u8, (bytes >> 8) as u8, bytes as u8];
        message.extend((0..bytes).map(|byte| byte as u8));
        message
    }

    #[test]
    fn a_hello_cut_anywhere_is_put_together_in_the_fewest_records() {
        for bytes in [0, 1, 500, 16_376, 16_380, 16_384, 60_000, 65_535] {
            let message = hello(bytes);
            for fragment in [1_usize, 3, 1000, 16_384] {
                for step in [1, 7, 16_384, usize::MAX] {
                    if fragment.saturating_mul(step) < 7 && bytes > 20_000 {
                        continue;
                    }
                    let taken = take(&in_records(&message, fragment), step);
                    assert_eq!(taken, Ok(in_records(&message, 16_384)), "{bytes} {fragment} {step}");
                }
            }
        }
    }

    #[test]
    fn what_comes_behind_the_hello_in_its_record_is_kept() {
        let message = [hello(100), vec![7; 50]].concat();
        assert_eq!(take(&in_records(&message, 1000), 9), Ok(in_records(&message, 1000)));
    }

    #[test]
    fn a_record_that_has_no_place_is_refused_by_its_header() {
        let refused = |bytes: &[u8]| take(bytes, 1).unwrap_err().alert;
        for kind in [0, 20, 23, 24, 25, 128, 255] {
            assert_eq!(refused(&[kind, 3, 3, 0, 1]), Alert::UNEXPECTED_MESSAGE, "{kind}");
        }
        assert_eq!(refused(&[22, 3, 1, 0, 0]), Alert::UNEXPECTED_MESSAGE);
        assert_eq!(refused(&[22, 3, 1, 0x40, 1]), Alert::RECORD_OVERFLOW);
        assert_eq!(refused(&[21, 3, 1, 0x40, 1]), Alert::RECORD_OVERFLOW);
        assert_eq!(refused(&[22, 2, 0, 0, 1]), Alert::PROTOCOL_VERSION);
        // No ClientHello; an alert in the middle of one; one that is too long.
        assert_eq!(refused(&[22, 3, 1, 0, 1, 2]), Alert::UNEXPECTED_MESSAGE);
        assert_eq!(refused(&[22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 2]), Alert::UNEXPECTED_MESSAGE);
        assert_eq!(refused(&[22, 3, 1, 0, 4, 1, 1, 0, 0]), Alert::ILLEGAL_PARAMETER);
    }
}
