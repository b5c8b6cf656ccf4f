//! Range requests (RFC 9110 section 14).

use std::ops::Range;

use http::HeaderValue;

/// Ranges that one request may ask for. To ask for many small ones is a known attack (RFC 9110 section 17.15).
pub const RANGES_MAX: usize = 16;

/// What a `Range` field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The whole representation, with 200: the field is missing, malformed, of another unit, or asks for more ranges
    /// or bytes than there is sense in.
    Whole,
    /// These bytes, with 206: not empty, in the order in which they were asked for.
    Parts(Vec<Range<u64>>),
    /// None of them is there: answer 416.
    Unsatisfiable,
}

impl Ranges {
    /// Reads the value of a `Range` field of a GET request for a representation of `length` bytes (RFC 9110
    /// sections 14.1.2 and 14.2). For any other method the field is to be ignored.
    ///
    /// ```
    /// use gimmal_http::Ranges;
    ///
    /// assert_eq!(Ranges::parse(b"bytes=0-499", 10_000), Ranges::Parts(vec![0..500]));
    /// assert_eq!(Ranges::parse(b"bytes=-500", 10_000), Ranges::Parts(vec![9500..10_000]));
    /// assert_eq!(Ranges::parse(b"bytes=10000-", 10_000), Ranges::Unsatisfiable);
    /// assert_eq!(Ranges::parse(b"lines=1-2", 10_000), Ranges::Whole);
    /// ```
    #[must_use]
    pub fn parse(field: &[u8], length: u64) -> Self {
        Self::read(field, length).unwrap_or(Self::Whole)
    }

    fn read(field: &[u8], length: u64) -> Option<Self> {
        let field = field.trim_ascii();
        let unit = field.get(..b"bytes=".len())?;
        if !unit.eq_ignore_ascii_case(b"bytes=") {
            return None;
        }
        let mut parts = Vec::new();
        let mut asked = 0;
        let mut bytes = 0_u64;
        for spec in field[unit.len()..].split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if spec.is_empty() {
                continue;
            }
            asked += 1;
            if asked > RANGES_MAX {
                return None;
            }
            if let Some(part) = read_spec(spec, length)? {
                bytes = bytes.saturating_add(part.end - part.start);
                parts.push(part);
            }
        }
        match parts.len() {
            0 if asked == 0 || length == 0 && field.starts_with(b"bytes=-") => None,
            0 => Some(Self::Unsatisfiable),
            // Together as much as the whole: parts that overlap would make a small request a large answer.
            2.. if bytes > length => None,
            _ => Some(Self::Parts(parts)),
        }
    }
}

/// One range; `None` outside if it is malformed, within if there is nothing in it.
fn read_spec(spec: &[u8], length: u64) -> Option<Option<Range<u64>>> {
    let dash = spec.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    let range = match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => length.saturating_sub(number(last)?)..length,
        (false, true) => number(first)?..length,
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some((range.start < range.end).then_some(range))
}

/// A number of any length: what is too large for 64 bits is beyond the end of everything.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

/// The value of `Content-Range` for a part of a representation of `length` bytes (RFC 9110 section 14.4).
///
/// ```
/// assert_eq!(gimmal_http::content_range(&(42..1234), 1234), "bytes 42-1233/1234");
/// ```
///
/// # Panics
/// If the part is empty, which the field cannot express.
#[must_use]
pub fn content_range(part: &Range<u64>, length: u64) -> HeaderValue {
    assert!(part.start < part.end, "{part:?} is empty");
    let value = format!("bytes {}-{}/{length}", part.start, part.end - 1);
    HeaderValue::try_from(value).expect("digits and dashes are a field value")
}

/// The value of `Content-Range` in a 416 (RFC 9110 section 14.4).
///
/// ```
/// assert_eq!(gimmal_http::unsatisfied_range(47022), "bytes */47022");
/// ```
#[must_use]
pub fn unsatisfied_range(length: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{length}")).expect("digits are a field value")
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a single range is a common list of them")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts<const N: usize>(parts: [Range<u64>; N]) -> Ranges {
        Ranges::Parts(Vec::from(parts))
    }

    /// RFC 9110 section 14.1.2, for a representation of 10000 bytes.
    #[test]
    fn the_examples_of_the_rfc() {
        let table = [
            ("bytes=0-499", parts([0..500])),
            ("bytes=500-999", parts([500..1000])),
            ("bytes=-500", parts([9500..10000])),
            ("bytes=9500-", parts([9500..10000])),
            ("bytes=0-0,-1", parts([0..1, 9999..10000])),
            ("bytes= 0-999, 4500-5499, -1000", parts([0..1000, 4500..5500, 9000..10000])),
            ("bytes=500-600,601-999", parts([500..601, 601..1000])),
            ("bytes=500-700,601-999", parts([500..701, 601..1000])),
        ];
        for (field, expected) in table {
            assert_eq!(Ranges::parse(field.as_bytes(), 10_000), expected, "{field}");
        }
    }

    /// RFC 9110 sections 14.1.1, 14.1.2 and 14.2.
    #[test]
    fn what_is_malformed_is_ignored() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1-2;3-4",
            "bytes=0-1, x",
            "items=0-1",
            "0-1",
            "bytes 0-1",
        ] {
            assert_eq!(Ranges::parse(field.as_bytes(), 100), Ranges::Whole, "{field}");
        }
    }

    #[test]
    fn what_lies_beyond_the_end() {
        let table = [
            ("bytes=0-", 0, Ranges::Unsatisfiable),
            ("bytes=-5", 0, Ranges::Whole),
            ("bytes=-0", 100, Ranges::Unsatisfiable),
            ("bytes=100-", 100, Ranges::Unsatisfiable),
            ("bytes=100-200, 300-", 100, Ranges::Unsatisfiable),
            ("bytes=99-200", 100, parts([99..100])),
            ("bytes=-200", 100, parts([0..100])),
            ("bytes=50-60,100-", 100, parts([50..61])),
            ("bytes=0-99999999999999999999999", 100, parts([0..100])),
            ("bytes=99999999999999999999999-", 100, Ranges::Unsatisfiable),
            ("BYTES=0-1", 100, parts([0..2])),
        ];
        for (field, length, expected) in table {
            assert_eq!(Ranges::parse(field.as_bytes(), length), expected, "{field}");
        }
    }

    /// RFC 9110 section 17.15.
    #[test]
    fn many_or_overlapping_ranges_get_the_whole() {
        let many = format!("bytes={}", (0..=RANGES_MAX).map(|at| format!("{at}-{at},")).collect::<String>());
        assert_eq!(Ranges::parse(many.as_bytes(), 1_000_000), Ranges::Whole);
        assert_eq!(Ranges::parse(b"bytes=0-,0-", 100), Ranges::Whole);
        assert_eq!(Ranges::parse(b"bytes=0-59,40-99", 100), Ranges::Whole);
    }

    proptest! {
        #[test]
        fn parts_are_never_empty_beyond_the_end_or_more_than_the_whole(
            field in "bytes=([0-9]{0,3}-[0-9]{0,3},?){0,6}", length in 0_u64..500,
        ) {
            if let Ranges::Parts(parts) = Ranges::parse(field.as_bytes(), length) {
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
                prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= length);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(field in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Ranges::parse(&field, 100);
        }
    }
}
