//! Distinguished names as text (RFC 4514).

use std::fmt::Write;

use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

/// The name in the string form of RFC 4514 section 2. What its issuer put into one value cannot look like another
/// attribute, since all that separates is escaped: a subject can be compared as text.
pub(super) fn to_string(name: &X509Name<'_>) -> String {
    let mut components: Vec<&RelativeDistinguishedName<'_>> = name.iter_rdn().collect();
    // The last one comes first (section 2.1).
    components.reverse();
    let mut text = String::new();
    for (index, component) in components.into_iter().enumerate() {
        for (position, attribute) in component.iter().enumerate() {
            match (index, position) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            push(&mut text, attribute);
        }
    }
    text
}

/// Section 3's table of names that every reader knows.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

fn push(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == oid).map(|(_, keyword)| *keyword);
    text.push_str(keyword.unwrap_or(&oid));
    text.push('=');
    match attribute.as_str() {
        Ok(value) if keyword.is_some() => push_escaped(text, value),
        // An attribute without a name, or of another type than text, is its BER in hexadecimal (section 2.4). The
        // header of a value that was parsed is short, and always the same.
        _ => {
            text.push('#');
            let value = attribute.attr_value();
            let _ = write!(text, "{:02x}", value.tag().0);
            push_length(text, value.data.len());
            push_hexadecimal(text, value.data);
        }
    }
}

/// A length in DER (X.690 section 8.1.3).
fn push_length(text: &mut String, length: usize) {
    if length < 0x80 {
        let _ = write!(text, "{length:02x}");
        return;
    }
    let bytes = length.to_be_bytes();
    let significant = &bytes[(length.leading_zeros() / 8) as usize..];
    let _ = write!(text, "{:02x}", 0x80 | significant.len());
    push_hexadecimal(text, significant);
}

fn push_hexadecimal(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

/// Section 2.4's escapes, and those of control characters, which it allows.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, char) in value.chars().enumerate() {
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', char]),
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            char if char.is_control() => {
                let mut utf8 = [0; 4];
                for byte in char.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            char => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    /// A sequence, set or text in DER.
    fn tlv(tag: u8, content: &[&[u8]]) -> Vec<u8> {
        let content = content.concat();
        [&[tag, u8::try_from(content.len()).unwrap()], &content[..]].concat()
    }

    const CN: &[u8] = &[6, 3, 0x55, 4, 3];
    const OU: &[u8] = &[6, 3, 0x55, 4, 11];
    const O: &[u8] = &[6, 3, 0x55, 4, 10];
    /// 1.3.6.1.4.1.1466.0, from the examples.
    const UNNAMED: &[u8] = &[6, 8, 0x2b, 6, 1, 4, 1, 0x8b, 0x3a, 0];
    const UTF8: u8 = 12;

    fn attribute(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(0x30, &[oid, &tlv(tag, &[value])])
    }

    fn text(components: &[Vec<u8>]) -> String {
        let components: Vec<Vec<u8>> = components.iter().map(|component| tlv(0x31, &[component])).collect();
        let der = tlv(0x30, &components.iter().map(Vec::as_slice).collect::<Vec<_>>());
        to_string(&X509Name::from_der(&der).unwrap().1)
    }

    // The shapes of RFC 4514 section 4's examples.
    #[test]
    fn the_last_component_comes_first_and_values_are_escaped() {
        let example = attribute(O, UTF8, b"Example");
        assert_eq!(text(&[example.clone(), attribute(CN, UTF8, b"alice")]), "CN=alice,O=Example");
        let two = [attribute(OU, UTF8, b"Sales"), attribute(CN, UTF8, b"J.  Smith")].concat();
        assert_eq!(text(&[example, two]), "OU=Sales+CN=J.  Smith,O=Example");
        for (value, expected) in [
            (r#"James "Jim" Smith, III"#, r#"CN=James \"Jim\" Smith\, III"#),
            ("Before\rAfter", r"CN=Before\0DAfter"),
            (" #a# ", r"CN=\ #a#\ "),
            ("#1", r"CN=\#1"),
            ("a=b", "CN=a=b"),
            ("Lučić", "CN=Lučić"),
        ] {
            assert_eq!(text(&[attribute(CN, UTF8, value.as_bytes())]), expected);
        }
        assert_eq!(text(&[attribute(UNNAMED, 4, b"Hi")]), "1.3.6.1.4.1.1466.0=#04024869");
        assert_eq!(text(&[]), "");
    }

    /// A value that its issuer let somebody choose does not become an attribute.
    #[test]
    fn name_confusion_by_a_separator_in_a_value() {
        let forged = text(&[attribute(CN, UTF8, b"mallory,O=Example")]);
        assert_eq!(forged, r"CN=mallory\,O=Example");
    }
}
