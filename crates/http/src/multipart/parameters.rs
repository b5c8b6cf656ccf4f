//! The parameters of Content-Type and Content-Disposition (RFC 2045 section 5.1, RFC 2183 section 2).

/// What a backslash in a quoted string is. Before anything but a quote or a backslash it may be either, and stands for
/// itself in Content-Disposition: file names of Windows hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backslash {
    /// It takes its meaning from any character after it (RFC 9110 section 5.6.4).
    Escapes,
    /// It takes its meaning from a quote and from a backslash after it.
    EscapesQuotes,
    /// It is a character as others are, as browsers send it.
    Literal,
}

/// A value with its quotes taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) bytes: Vec<u8>,
    pub(super) is_quoted: bool,
}

/// A field value with its parameters.
#[derive(Debug)]
pub(super) struct Parameters<'a> {
    /// What stands before the first semicolon.
    pub(super) main: &'a [u8],
    list: Vec<(&'a [u8], Value)>,
}

impl<'a> Parameters<'a> {
    /// `None` if they are malformed. Empty parameters are left out, as in `a; ; b=c;`.
    pub(super) fn parse(field: &'a [u8], backslash: Backslash) -> Option<Self> {
        let end = memchr::memchr(b';', field).unwrap_or(field.len());
        let (main, mut rest) = field.split_at(end);
        let mut list = Vec::new();
        while let Some((b';', after)) = rest.split_first() {
            rest = after.trim_ascii_start();
            if matches!(rest.first(), None | Some(b';')) {
                continue;
            }
            let name_len = rest.iter().take_while(|&&byte| is_token_byte(byte)).count();
            let (name, after_name) = rest.split_at(name_len);
            let value = after_name.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
            let (value, after_value) = match value.strip_prefix(b"\"") {
                Some(quoted) => read_quoted(quoted, backslash)?,
                None => read_bare(value)?,
            };
            if name.is_empty() {
                return None;
            }
            list.push((name, value));
            rest = after_value.trim_ascii_start();
        }
        // What is left is something behind a value.
        rest.is_empty().then_some(Self { main: main.trim_ascii(), list })
    }

    /// All values of a parameter, whatever the case of its name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Value> {
        let is_it = move |own: &[u8]| own.eq_ignore_ascii_case(name.as_bytes());
        self.list.iter().filter(move |(own, _)| is_it(own)).map(|(_, value)| value)
    }

    /// The names, as they were sent.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.list.iter().map(|(name, _)| *name)
    }
}

/// Reads what follows a quote up to the next one, and gives what is left.
fn read_quoted(text: &[u8], backslash: Backslash) -> Option<(Value, &[u8])> {
    let mut bytes = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [b'"', after @ ..] => return Some((Value { bytes, is_quoted: true }, after)),
            [b'\\', escaped, after @ ..] if escapes(backslash, *escaped) => {
                bytes.push(*escaped);
                rest = after;
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

fn escapes(backslash: Backslash, escaped: u8) -> bool {
    match backslash {
        Backslash::Escapes => true,
        Backslash::EscapesQuotes => matches!(escaped, b'"' | b'\\'),
        Backslash::Literal => false,
    }
}

/// Reads a value without quotes. Many clients send more than the characters of a token (RFC 2045 section 5.1).
fn read_bare(text: &[u8]) -> Option<(Value, &[u8])> {
    let len = text.iter().take_while(|byte| !matches!(byte, b';' | b' ' | b'\t')).count();
    let (bytes, rest) = text.split_at(len);
    let is_clear = !bytes.is_empty() && !bytes.iter().any(|byte| matches!(byte, b'"' | b'\\'));
    is_clear.then(|| (Value { bytes: bytes.to_vec(), is_quoted: false }, rest))
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(field: &str, backslash: Backslash) -> Option<Vec<(String, String)>> {
        let parameters = Parameters::parse(field.as_bytes(), backslash)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(parameters.list.iter().map(|(name, value)| (text(name), text(&value.bytes))).collect())
    }

    #[test]
    fn quoted_strings_are_whole() {
        let table: [(&str, &[(&str, &str)]); 9] = [
            ("form-data", &[]),
            ("form-data;", &[]),
            ("form-data ; a = b ;; c=\"d\";", &[("a", "b"), ("c", "d")]),
            (
                "x; filename=\"x; name=evil\"; name=\"real\"",
                &[("filename", "x; name=evil"), ("name", "real")],
            ),
            ("x; namespace=1; name=\"f\"", &[("namespace", "1"), ("name", "f")]),
            (r#"x; a="\"\\"; b="C:\dir\file""#, &[("a", r#""\"#), ("b", r"C:\dir\file")]),
            ("x; a=\"\"", &[("a", "")]),
            ("x; a=\"b\"\t;c=d", &[("a", "b"), ("c", "d")]),
            ("x; a=b=c[]", &[("a", "b=c[]")]),
        ];
        for (field, expected) in table {
            let found = parse(field, Backslash::EscapesQuotes).unwrap_or_else(|| panic!("{field}"));
            let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expected, "{field}");
        }
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for field in [
            "x; a",
            "x; a=",
            "x; =b",
            "x; a=\"b",
            "x; a=\"b\"c",
            "x; a=b c",
            "x; a=b\"c\"",
            "x; a b=c",
            "x; a=\"\\\"",
        ] {
            assert_eq!(parse(field, Backslash::EscapesQuotes), None, "{field}");
        }
        assert_eq!(parse("x; a=\"\\\"", Backslash::Literal), Some(vec![("a".to_owned(), "\\".to_owned())]));
    }
}
