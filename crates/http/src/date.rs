//! The value of a `Date` field (RFC 9110 section 6.6.1).

use std::io::Write;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

/// The last second of the year 9999, which is the last one with four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// A point in time in the form of a `Date` field, written once per second and copied into every response.
///
/// ```
/// let mut date = gimmal_http::Date::at(784_111_777);
/// assert_eq!(date.as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
/// date.update(784_111_778);
/// assert_eq!(date.as_bytes(), b"Sun, 06 Nov 1994 08:49:38 GMT");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Date {
    unix_secs: u64,
    /// The whole field, as it stands in a head.
    line: [u8; LINE.len()],
}

const LINE: &[u8; 37] = b"date:                              \r\n";
const TEXT: Range<usize> = 6..35;

impl Date {
    /// The date `unix_secs` seconds after the start of 1970 UTC; from the year 10000 on, the end of 9999.
    #[must_use]
    pub fn at(unix_secs: u64) -> Self {
        let mut line = *LINE;
        let time = UNIX_EPOCH + Duration::from_secs(unix_secs.min(LAST_SECOND));
        // Every year of four digits fills the 29 bytes exactly, so the write cannot fall short.
        let written = write!(&mut line[TEXT], "{}", HttpDate::from(time));
        debug_assert!(written.is_ok());
        Self { unix_secs, line }
    }

    /// Moves to `unix_secs`. Costs one comparison if it is there already.
    #[inline]
    pub fn update(&mut self, unix_secs: u64) {
        if self.unix_secs != unix_secs {
            *self = Self::at(unix_secs);
        }
    }

    /// The 29 bytes of the date, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8; 29] {
        self.line[TEXT].try_into().expect("the date is 29 bytes long")
    }

    /// The field with its name and CRLF.
    #[inline]
    pub(crate) fn line(&self) -> &[u8; LINE.len()] {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_second() {
        assert_eq!(Date::at(0).as_bytes(), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(Date::at(LAST_SECOND).as_bytes(), b"Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(Date::at(u64::MAX).as_bytes(), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn update_equals_a_new_date() {
        let mut date = Date::at(1);
        date.update(951_782_400);
        assert_eq!(date, Date::at(951_782_400));
        assert_eq!(date.as_bytes(), b"Tue, 29 Feb 2000 00:00:00 GMT");
    }
}
