//! What the targets share: the first two bytes of an input say where to cut the rest.
//!
//! The bodies of the targets for the security crate are here as well, so that a test runs them over their corpora.

pub mod cookies;
pub mod credentials;
pub mod jwt;
pub mod names;
pub mod proxies;
pub mod tls;

/// The message in an input, and the two positions at which it is cut.
pub struct Input<'a> {
    pub message: &'a [u8],
    pub cuts: [usize; 2],
}

impl<'a> Input<'a> {
    /// `None` if there are not even the cuts.
    pub fn new(data: &'a [u8]) -> Option<Self> {
        let ([first, second], message) = data.split_first_chunk()?;
        let mut cuts = [first, second].map(|cut| usize::from(*cut) % (message.len() + 1));
        cuts.sort_unstable();
        Some(Self { message, cuts })
    }

    /// The three beginnings of the message that its receiver sees one after the other.
    pub fn prefixes(&self) -> [&'a [u8]; 3] {
        [self.cuts[0], self.cuts[1], self.message.len()].map(|end| &self.message[..end])
    }
}

/// All that a head says; `None` if more of it is wanted.
pub type Answer = Result<Option<String>, ()>;

/// Checks that a head in pieces gives what it gives whole. One that is refused whole may be refused in pieces only at
/// its end, as it is not parsed before.
pub fn check(input: &Input<'_>, whole: &Answer, mut parse: impl FnMut(&[u8]) -> Answer) {
    let pieces =
        input.prefixes().into_iter().map(&mut parse).find(|answer| *answer != Ok(None)).unwrap_or(Ok(None));
    let has_end = input.message.windows(4).any(|window| window == b"\r\n\r\n");
    let is_late = whole.is_err() && pieces == Ok(None) && !has_end;
    assert!(*whole == pieces || is_late, "whole {whole:?}, in pieces {pieces:?}");
}
