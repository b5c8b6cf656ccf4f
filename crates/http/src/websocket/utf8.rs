//! UTF-8 that comes in pieces (RFC 6455 section 8.1).

use simdutf8::basic::from_utf8;

/// The text is not UTF-8, and no more bytes can make it so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidUtf8;

/// Checks pieces of a text as they come, wherever they are cut.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The first bytes of a character that is not there in full.
    pending: [u8; 4],
    pending_len: u8,
}

impl Utf8 {
    /// Checks the next piece and hands all whole characters of it to `take`.
    pub(super) fn push(&mut self, piece: &[u8], mut take: impl FnMut(&str)) -> Result<(), InvalidUtf8> {
        let mut rest = piece;
        while self.pending_len > 0 {
            let Some((&byte, tail)) = rest.split_first() else { return Ok(()) };
            rest = tail;
            self.pending[usize::from(self.pending_len)] = byte;
            self.pending_len += 1;
            let pending = &self.pending[..usize::from(self.pending_len)];
            if let Ok(character) = from_utf8(pending) {
                take(character);
                self.pending_len = 0;
            } else if !is_incomplete(pending) {
                return Err(InvalidUtf8);
            }
        }
        let (whole, incomplete) = rest.split_at(rest.len() - incomplete_len(rest));
        take(from_utf8(whole).map_err(|_| InvalidUtf8)?);
        if !incomplete.is_empty() && !is_incomplete(incomplete) {
            return Err(InvalidUtf8);
        }
        self.pending[..incomplete.len()].copy_from_slice(incomplete);
        self.pending_len = incomplete.len() as u8;
        Ok(())
    }

    /// Whether the text may end here.
    pub(super) fn is_at_end(&self) -> bool {
        self.pending_len == 0
    }
}

/// How many bytes at the end could be the beginning of a longer character: none to three.
fn incomplete_len(bytes: &[u8]) -> usize {
    for (len, byte) in (1..=3).zip(bytes.iter().rev()) {
        let wanted = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        return if len < wanted { len } else { 0 };
    }
    0
}

/// Whether more bytes could make a character of these one to three.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]]) -> Result<String, InvalidUtf8> {
        let (mut utf8, mut text) = (Utf8::default(), String::new());
        for piece in pieces {
            utf8.push(piece, |part| text.push_str(part))?;
        }
        if utf8.is_at_end() { Ok(text) } else { Err(InvalidUtf8) }
    }

    #[test]
    fn equals_the_whole_wherever_it_is_cut() {
        let texts: [&[u8]; 16] = [
            b"",
            b"plain",
            "κόσμε".as_bytes(),
            "a\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xf5",
            b"\x80",
            b"a\xe2\x82",
            b"\xf0\x9f\x98",
            b"\xe2\x28\xa1",
            b"\xf0\x28\x8c\xbc",
            b"\xc2",
            b"\xf8\x88\x80\x80\x80",
            b"ok\xff",
        ];
        for text in texts {
            let whole = std::str::from_utf8(text).map(str::to_owned).map_err(|_| InvalidUtf8);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let pieces = [&text[..first], &text[first..second], &text[second..]];
                    assert_eq!(check(&pieces), whole, "{text:?} cut at {first} and {second}");
                }
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(check(&bytes), whole, "{text:?} byte by byte");
        }
    }

    #[test]
    fn fails_at_the_first_byte_that_cannot_be() {
        // The second byte of F4 is 8F at most: the text is lost before the third one comes.
        assert_eq!(Utf8::default().push(b"\xf4\x90", |_| ()), Err(InvalidUtf8));
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"\xf4", |_| ()), Ok(()));
        assert_eq!(utf8.push(b"\x90", |_| ()), Err(InvalidUtf8));
    }
}
