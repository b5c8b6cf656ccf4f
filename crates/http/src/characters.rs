//! Which bytes may stand in the parts of a URI (RFC 3986), by table.

/// One set of bytes, as a bit of [`CLASSES`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Class {
    /// A path. Wider than RFC 3986 by `[`, `]` and `|`, which browsers send as they are.
    Path = 1,
    /// A query. Wider by what browsers send as it is: `\`, `^`, `` ` ``, `{` and `}` as well.
    Query = 2,
    /// A reg-name or an IPv4 address, without the comma: two Hosts that a proxy joined would look like one with it.
    Host = 4,
}

/// No class holds a control, a space, a fragment, a byte beyond ASCII, or `%`, which [`prefix_len`] knows.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        let everywhere = Class::Path as u8 | Class::Query as u8;
        classes[byte as usize] = match byte {
            b'"' | b'#' | b'<' | b'>' | b'%' => 0,
            b'?' | b'\\' | b'^' | b'`' | b'{' | b'}' => Class::Query as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => everywhere | Class::Host as u8,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';'
            | b'=' => everywhere | Class::Host as u8,
            _ => everywhere,
        };
        byte += 1;
    }
    classes
};

/// How many bytes at the start of `bytes` are of `class`, where `%` and two hexadecimal digits are of all classes.
pub(crate) fn prefix_len(bytes: &[u8], class: Class) -> usize {
    let mut len = 0;
    loop {
        len += plain_len(&bytes[len..], class);
        match &bytes[len..] {
            [] => return len,
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => len += 3,
            _ => return len,
        }
    }
}

/// The same without escapes. Eight bytes are looked up before their classes are looked at.
#[inline]
fn plain_len(bytes: &[u8], class: Class) -> usize {
    let of = |byte: u8| CLASSES[usize::from(byte)];
    let mut len = 0;
    while let Some([a, b, c, d, e, f, g, h]) = bytes.get(len..len + 8)
        && (of(*a) & of(*b) & of(*c) & of(*d)) & (of(*e) & of(*f) & of(*g) & of(*h)) & class as u8 != 0
    {
        len += 8;
    }
    while len < bytes.len() && of(bytes[len]) & class as u8 != 0 {
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_three_bytes_or_none() {
        for (text, len) in [("a%20b", 5), ("a%2", 1), ("%", 0), ("%g0", 0), ("%%41", 0), ("%41%", 3), ("", 0)]
        {
            for class in [Class::Path, Class::Query, Class::Host] {
                assert_eq!(prefix_len(text.as_bytes(), class), len, "{text} {class:?}");
            }
        }
    }

    #[test]
    fn the_first_byte_of_another_class_is_found_wherever_it_is() {
        for before in 0..30 {
            for after in 0..12 {
                let text = format!("{}<{}", "a".repeat(before), "a".repeat(after));
                assert_eq!(prefix_len(text.as_bytes(), Class::Path), before);
            }
        }
    }

    #[test]
    fn no_class_holds_what_could_end_a_target() {
        for byte in (0..=b' ').chain([b'#', b'"', b'<', b'>', 127]).chain(128..=255) {
            assert_eq!(CLASSES[usize::from(byte)], 0, "{byte}");
        }
    }
}
