//! What a client puts into all that it sends, by which it is known wherever it comes out.

use std::fmt;

use gimmal_tests::checksum;

const BEGIN: &str = "mk";
const END: &str = "km";
/// Hexadecimal digits of a client's number, and of a checksum of it: a marker that was changed on its way is none.
const NUMBER_DIGITS: usize = 8;
const SUM_DIGITS: usize = 8;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Marker(String);

impl Marker {
    pub(crate) const BYTES: usize = BEGIN.len() + NUMBER_DIGITS + SUM_DIGITS + END.len();

    pub(crate) fn new(number: u64) -> Self {
        let number = format!("{number:0NUMBER_DIGITS$x}");
        let sum = checksum::add(checksum::BEGIN, number.as_bytes()) as u32;
        Self(format!("{BEGIN}{number}{sum:0SUM_DIGITS$x}{END}"))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The marker that these bytes are.
    fn read(bytes: &[u8]) -> Option<Self> {
        let digits = bytes.strip_prefix(BEGIN.as_bytes())?.get(..NUMBER_DIGITS)?;
        let number = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some(Self::new(number)).filter(|marker| marker.0.as_bytes() == bytes)
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where in these bytes a marker begins that is not `own`.
pub(crate) fn first_of_another(own: &Marker, bytes: &[u8]) -> Option<usize> {
    bytes.windows(Marker::BYTES).position(|window| Marker::read(window).is_some_and(|marker| marker != *own))
}

#[test]
fn markers_of_others_are_found_and_changed_ones_are_none() {
    let (own, other) = (Marker::new(7), Marker::new(0x2a));
    let text = format!("a {own} b {other}");
    assert_eq!(first_of_another(&own, text.as_bytes()), Some(4 + Marker::BYTES + 1));
    assert_eq!(first_of_another(&other, text.as_bytes()), Some(2));
    let changed = text.replace("0000002a", "0000002b");
    assert_eq!(first_of_another(&own, changed.as_bytes()), None);
}
