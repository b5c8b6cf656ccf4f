//! What the floor says: the one answer, written once, many times over, with a date that is kept current.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const DATE_BYTES: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();
const HEAD: &str = "HTTP/1.1 200 OK\r\ndate: ";

/// Answers that one send can carry.
pub(crate) const BURST: u32 = 64;

/// All that is ever answered, with the date of the current second in it.
pub(crate) struct Answers {
    second: u64,
    date: [u8; DATE_BYTES],
    /// `BURST` plain answers in a row, so that pipelined requests need no copy.
    plain: Vec<u8>,
    /// The answer to a request that asks for a close.
    last: Vec<u8>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        let answer = |close: &str| {
            let date = " ".repeat(DATE_BYTES);
            let fields = "content-type: text/plain\r\ncontent-length: 13";
            format!("{HEAD}{date}\r\n{fields}\r\n{close}\r\nHello, World!").into_bytes()
        };
        let mut answers = Self {
            second: 0,
            date: [b' '; DATE_BYTES],
            plain: answer("").repeat(BURST as usize),
            last: answer("connection: close\r\n"),
        };
        answers.tell_time();
        answers
    }

    /// Brings the date up to now. The bytes stay where they are.
    pub(crate) fn tell_time(&mut self) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second == self.second {
            return;
        }
        self.second = second;
        self.date.copy_from_slice(httpdate::fmt_http_date(now).as_bytes());
        let one = self.plain.len() / BURST as usize;
        for answer in self.plain.chunks_exact_mut(one).chain([self.last.as_mut_slice()]) {
            answer[HEAD.len()..][..DATE_BYTES].copy_from_slice(&self.date);
        }
    }

    /// `count` answers in a row, at most `BURST`.
    pub(crate) fn plain(&self, count: u32) -> &[u8] {
        &self.plain[..self.plain.len() / BURST as usize * count as usize]
    }

    pub(crate) fn last(&self) -> &[u8] {
        &self.last
    }

    /// The head that goes before an echoed body of `body_bytes`.
    pub(crate) fn echo_head(&self, body_bytes: usize, head: &mut Vec<u8>) {
        head.extend_from_slice(HEAD.as_bytes());
        head.extend_from_slice(&self.date);
        let fields = "content-type: application/octet-stream\r\ncontent-length: ";
        write!(head, "\r\n{fields}{body_bytes}\r\n\r\n").expect("a Vec takes all");
    }
}
