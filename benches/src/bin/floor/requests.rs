//! Where a request ends: as little of HTTP as an answer needs.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// What a client asks for next.
pub(crate) enum Asked<'a> {
    /// The plain answer.
    Plain,
    /// The plain answer, then a close.
    Last,
    /// An echo of a body of so many bytes, which follows in pieces.
    Echo(usize),
    /// A piece of that body.
    Body(&'a [u8]),
}

/// A request that is neither `GET` nor a `POST` with a length.
#[derive(Debug)]
pub(crate) struct Unexpected;

/// Splits what one connection receives into requests.
#[derive(Default)]
pub(crate) struct Requests {
    /// A head that has not ended yet.
    partial: Vec<u8>,
    body_left: usize,
}

static HEAD_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
// The first letter of a name may be upper or lower case.
static CLOSE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"onnection: close\r\n"));
static LENGTH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"ength: "));

impl Requests {
    /// Takes the next thing off the front of `received`; `None` when all of it is taken.
    pub(crate) fn next<'a>(&mut self, received: &mut &'a [u8]) -> Result<Option<Asked<'a>>, Unexpected> {
        if received.is_empty() {
            return Ok(None);
        }
        if self.body_left > 0 {
            let (body, rest) = received.split_at(self.body_left.min(received.len()));
            self.body_left -= body.len();
            *received = rest;
            return Ok(Some(Asked::Body(body)));
        }
        let asked = if self.partial.is_empty() {
            let Some(end) = HEAD_END.find(received) else { return Ok(self.keep(received)) };
            let (head, rest) = received.split_at(end + 4);
            *received = rest;
            asked(head)?
        } else {
            let before = self.partial.len();
            self.partial.extend_from_slice(received);
            let Some(end) = HEAD_END.find(&self.partial) else {
                *received = &[];
                return Ok(None);
            };
            *received = &received[end + 4 - before..];
            let asked = asked(&self.partial[..end + 4])?;
            self.partial = Vec::new();
            asked
        };
        if let Asked::Echo(body_bytes) = asked {
            self.body_left = body_bytes;
        }
        Ok(Some(asked))
    }

    fn keep<'a>(&mut self, received: &mut &'a [u8]) -> Option<Asked<'a>> {
        self.partial.extend_from_slice(received);
        *received = &[];
        None
    }
}

fn asked(head: &[u8]) -> Result<Asked<'static>, Unexpected> {
    if head.starts_with(b"GET ") {
        return Ok(if CLOSE.find(head).is_some() { Asked::Last } else { Asked::Plain });
    }
    if !head.starts_with(b"POST ") {
        return Err(Unexpected);
    }
    let digits = &head[LENGTH.find(head).ok_or(Unexpected)? + "ength: ".len()..];
    let digits = &digits[..memchr::memchr(b'\r', digits).ok_or(Unexpected)?];
    let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Unexpected)?;
    Ok(Asked::Echo(length))
}

#[cfg(test)]
mod tests {
    use super::{Asked, Requests};

    /// What is asked by these pieces, written short: `.` plain, `!` last, `(n)` echo, the body itself.
    fn read(pieces: &[&str]) -> String {
        let (mut requests, mut out) = (Requests::default(), String::new());
        for piece in pieces {
            let mut rest = piece.as_bytes();
            while let Some(asked) = requests.next(&mut rest).unwrap() {
                match asked {
                    Asked::Plain => out.push('.'),
                    Asked::Last => out.push('!'),
                    Asked::Echo(length) => out.push_str(&format!("({length})")),
                    Asked::Body(body) => out.push_str(str::from_utf8(body).unwrap()),
                }
            }
        }
        out
    }

    #[test]
    fn requests_are_found_wherever_the_bytes_are_split() {
        let all = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
                   GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
        for split in 0..all.len() {
            assert_eq!(read(&[&all[..split], &all[split..]]), ".(5)hello!", "split at {split}");
        }
    }

    #[test]
    fn anything_else_is_unexpected() {
        assert!(Requests::default().next(&mut &b"PUT / HTTP/1.1\r\n\r\n"[..]).is_err());
        assert!(Requests::default().next(&mut &b"POST / HTTP/1.1\r\n\r\n"[..]).is_err());
    }
}
