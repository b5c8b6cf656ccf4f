//! What a peer speaks, by the first bytes that it sends.

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstBytes {
    Tls,
    PlainHttp,
    Other,
    /// Too few to tell.
    Undecided,
}

impl FirstBytes {
    /// The type of a handshake record, the first byte of a client's or server's hello (RFC 8446 section 5.1).
    const HANDSHAKE: u8 = 22;
    const ALERT: u8 = 21;

    /// Whether a peer that speaks TLS may begin with this byte.
    pub(super) fn is_tls(first: u8) -> bool {
        matches!(first, Self::HANDSHAKE | Self::ALERT)
    }
}

/// The longest method that is looked for.
const METHOD_BYTES_MAX: usize = 20;

/// Recognises a TLS record, an HTTP/1 request line (and HTTP/2's preface, which begins as one) and a status line.
pub(super) fn recognise(bytes: &[u8]) -> FirstBytes {
    match bytes {
        [] => return FirstBytes::Undecided,
        [first, ..] if FirstBytes::is_tls(*first) => return FirstBytes::Tls,
        _ => {}
    }
    let status_line = b"HTTP/1.";
    if bytes.starts_with(status_line) {
        return FirstBytes::PlainHttp;
    }
    if status_line.starts_with(bytes) {
        return FirstBytes::Undecided;
    }
    match bytes.iter().position(|byte| !byte.is_ascii_uppercase()) {
        Some(end) if end >= 3 && bytes[end] == b' ' => match bytes.get(end + 1) {
            // A target begins so (RFC 9112 section 3.2), CONNECT's with the first letter or digit of a host.
            Some(b'/' | b'*' | b'[') => FirstBytes::PlainHttp,
            Some(byte) if byte.is_ascii_alphanumeric() => FirstBytes::PlainHttp,
            Some(_) => FirstBytes::Other,
            None => FirstBytes::Undecided,
        },
        Some(_) => FirstBytes::Other,
        None if bytes.len() > METHOD_BYTES_MAX => FirstBytes::Other,
        None => FirstBytes::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_shows_in_the_first_bytes() {
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\x00"[..], FirstBytes::Tls),
            (b"\x15\x03\x01\x00\x02", FirstBytes::Tls),
            (b"", FirstBytes::Undecided),
            (b"GE", FirstBytes::Undecided),
            (b"GET ", FirstBytes::Undecided),
            (b"GET /", FirstBytes::PlainHttp),
            (b"PROPFIND / HTTP/1.1\r\n", FirstBytes::PlainHttp),
            (b"CONNECT example.org:443", FirstBytes::PlainHttp),
            (b"OPTIONS * HTTP/1.1", FirstBytes::PlainHttp),
            (b"PRI * HTTP/2.0\r\n\r\n", FirstBytes::PlainHttp),
            (b"HTTP/1.1 400 Bad Request", FirstBytes::PlainHttp),
            (b"SSH-2.0-OpenSSH_9.2", FirstBytes::Other),
            (b"\x80\x2e\x01\x00\x02", FirstBytes::Other),
            (b"\0\0\0", FirstBytes::Other),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", FirstBytes::Other),
        ] {
            assert_eq!(recognise(bytes), expected, "{bytes:?}");
        }
    }
}
