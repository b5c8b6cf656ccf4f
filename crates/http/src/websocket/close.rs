//! Close frames and their codes (RFC 6455 sections 5.5.1 and 7.4).

use std::fmt;

use super::error::WebSocketError;

/// A status code that may stand in a Close frame (RFC 6455 section 7.4).
///
/// ```
/// use gimmal_http::websocket::CloseCode;
///
/// assert_eq!(CloseCode::new(1000), Some(CloseCode::NORMAL));
/// assert_eq!(CloseCode::new(4000).map(CloseCode::get), Some(4000));
/// assert_eq!(CloseCode::new(1006), None, "says that there was no Close, so it cannot be in one");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: the kind of message cannot be accepted, such as binary by one that knows text alone.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: a message that is not what its kind says, such as a text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a message against the policy of the endpoint.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message that is too large.
    pub const TOO_LARGE: Self = Self(1009);
    /// 1010: the client wanted an extension that the server did not accept.
    pub const EXTENSION_MISSING: Self = Self(1010);
    /// 1011: the server met a condition that it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts (IANA registry).
    pub const RESTART: Self = Self(1012);
    /// 1013: the server is overloaded, try again later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got no good answer (IANA registry).
    pub const BAD_GATEWAY: Self = Self(1014);

    /// The code of this number: 1000 to 1003, 1007 to 1014 and 3000 to 4999. The others are reserved, or stand for what
    /// is never sent.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a Close frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why the connection closes.
    pub code: CloseCode,
    /// The same for people who debug; it may be empty, and is 123 bytes at most.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the payload of a Close frame, which may be empty.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Option<Self>, WebSocketError> {
        match payload.split_first_chunk() {
            None if payload.is_empty() => Ok(None),
            None => Err(WebSocketError::Close),
            Some((code, reason)) => {
                let code = CloseCode::new(u16::from_be_bytes(*code)).ok_or(WebSocketError::Close)?;
                let reason = std::str::from_utf8(reason).map_err(|_| WebSocketError::Utf8)?;
                Ok(Some(Self { code, reason }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6455_7_4_codes_that_may_be_sent() {
        for code in
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
        {
            assert_eq!(CloseCode::new(code).map(CloseCode::get), Some(code));
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65535] {
            assert_eq!(CloseCode::new(code), None, "{code}");
        }
    }
}
