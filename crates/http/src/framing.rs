//! Which bytes after a head belong to the message (RFC 9112 section 6), and whether the connection goes on.

use http::Version;

use crate::error::HeadError;

/// Where the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// The message ends with its head.
    None,
    /// After this many bytes (RFC 9112 section 6.2).
    Length(u64),
    /// With the last chunk and its trailers (RFC 9112 section 7.1).
    Chunked,
    /// With the connection; only a response can end so (RFC 9112 section 6.3).
    UntilClose,
}

impl BodyFraming {
    /// Whether it is known already that no byte of a body follows.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Given(u64),
    Invalid,
    Repeated,
}

#[derive(Clone, Copy, Debug)]
enum Coding {
    Chunked,
    /// Codings that we do not know, and `chunked` at the end.
    Unknown,
    Invalid,
}

/// What the fields of a head say about framing and about the connection.
#[derive(Debug, Default)]
pub(crate) struct FramingFields {
    length: Option<Length>,
    coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    upgrade: bool,
}

impl FramingFields {
    /// Takes note of one field, if it is one of those.
    pub(crate) fn note(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade |= !value.is_empty(),
            10 if name.eq_ignore_ascii_case(b"connection") => self.note_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = parse_decimal(value).map_or(Length::Invalid, Length::Given);
                self.length = Some(if self.length.is_some() { Length::Repeated } else { length });
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let coding = parse_coding(value);
                self.coding = Some(if self.coding.is_some() { Coding::Invalid } else { coding });
            }
            _ => {}
        }
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// The framing that the fields give, `None` if they give none (RFC 9112 section 6.3).
    pub(crate) fn framing(&self, version: Version) -> Result<Option<BodyFraming>, HeadError> {
        match (self.coding, self.length) {
            (None, None) => Ok(None),
            (None, Some(Length::Given(length))) => Ok(Some(BodyFraming::Length(length))),
            (None, Some(Length::Invalid)) => Err(HeadError::ContentLength),
            (None, Some(Length::Repeated)) => Err(HeadError::ContentLengthRepeated),
            (Some(_), Some(_)) => Err(HeadError::LengthAndCoding),
            (Some(_), None) if version == Version::HTTP_10 => Err(HeadError::TransferEncodingVersion),
            (Some(Coding::Chunked), None) => Ok(Some(BodyFraming::Chunked)),
            (Some(Coding::Unknown), None) => Err(HeadError::TransferCodingUnknown),
            (Some(Coding::Invalid), None) => Err(HeadError::TransferEncoding),
        }
    }

    /// Whether the peer keeps the connection open after this message (RFC 9112 section 9.3).
    pub(crate) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    /// Whether another protocol is asked for, or switched to; never in HTTP/1.0 (RFC 9110 section 7.8).
    pub(crate) fn upgrade(&self, version: Version) -> bool {
        self.upgrade && self.connection_upgrade && version == Version::HTTP_11
    }
}

/// The elements of a comma-separated list without the white space around them (RFC 9110 section 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// A number of plain decimal digits. No sign, no space, no list, no overflow.
pub(crate) fn parse_decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Takes `chunked` alone. RFC 9112 section 6.3 has 400 for a list that does not end in `chunked`, and section 6.1
/// has 501 for codings that are not known.
fn parse_coding(value: &[u8]) -> Coding {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Coding::Chunked;
    }
    let Some(comma) = memchr::memrchr(b',', value) else { return Coding::Invalid };
    let ends_in_chunked = is_chunked(value[comma + 1..].trim_ascii());
    let others_are_unknown = list(&value[..comma])
        .all(|coding| coding.first().is_some_and(u8::is_ascii_alphanumeric) && !is_chunked(coding));
    if ends_in_chunked && others_are_unknown { Coding::Unknown } else { Coding::Invalid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_is_digits_only() {
        assert_eq!(parse_decimal(b"0"), Some(0));
        assert_eq!(parse_decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in
            ["", "+1", "-1", " 1", "1 ", "0x1", "1,1", "1.0", "18446744073709551616", "99999999999999999999"]
        {
            assert_eq!(parse_decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        let cases = [
            (Version::HTTP_11, "", true),
            (Version::HTTP_11, "close", false),
            (Version::HTTP_11, "keep-alive, Close", false),
            (Version::HTTP_10, "", false),
            (Version::HTTP_10, "Keep-Alive", true),
            (Version::HTTP_10, "keep-alive,close", false),
        ];
        for (version, connection, expected) in cases {
            let mut fields = FramingFields::default();
            fields.note(b"Connection", connection.as_bytes());
            assert_eq!(fields.keep_alive(version), expected, "{version:?} {connection}");
        }
    }
}
