//! What the header section of a part says.

use super::error::MultipartError;
use super::parameters::{Backslash, Parameters, Value, is_token_byte};

/// What a part says of its content. Bytes that are not UTF-8 are shown as U+FFFD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
}

impl Part {
    /// The name of the field.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the file as the client has it; `None` if the part is no file. It may hold anything.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// The media type that the client says the content is of.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Reads a header section with the empty line at its end. Fields other than these mean nothing (RFC 7578
    /// section 4.8).
    pub(super) fn parse(section: &[u8]) -> Result<Self, MultipartError> {
        let (mut disposition, mut content_type, mut transfer_encoding) = (None, None, None);
        for (name, value) in fields(section)? {
            let place = match name.to_ascii_lowercase().as_slice() {
                b"content-disposition" => &mut disposition,
                b"content-type" => &mut content_type,
                b"content-transfer-encoding" => &mut transfer_encoding,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(MultipartError::HeaderRepeated);
            }
        }
        let is_identity = |coding: &[u8]| {
            [&b"7bit"[..], b"8bit", b"binary"].iter().any(|known| coding.eq_ignore_ascii_case(known))
        };
        if transfer_encoding.is_some_and(|coding| !is_identity(&coding)) {
            return Err(MultipartError::TransferEncoding);
        }
        let disposition = disposition.ok_or(MultipartError::DispositionMissing)?;
        let (name, file_name) = names(&disposition)?;
        let content_type = content_type.map(|value| String::from_utf8_lossy(&value).into_owned());
        Ok(Self { name, file_name, content_type })
    }
}

/// A name and a value.
type Field<'a> = (&'a [u8], Vec<u8>);

/// The fields of a section, unfolded (RFC 5322 section 2.2.3).
fn fields(section: &[u8]) -> Result<Vec<Field<'_>>, MultipartError> {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut rest = section;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if line.is_empty() {
            break;
        }
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(MultipartError::Header);
        }
        if matches!(line[0], b' ' | b'\t') {
            let (_, value) = fields.last_mut().ok_or(MultipartError::Header)?;
            value.push(b' ');
            value.extend_from_slice(line.trim_ascii());
            continue;
        }
        let colon = memchr::memchr(b':', line).ok_or(MultipartError::Header)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().copied().all(is_token_byte) {
            return Err(MultipartError::Header);
        }
        fields.push((name, value.to_vec()));
    }
    Ok(fields)
}

/// The name and the file name in a Content-Disposition.
fn names(disposition: &[u8]) -> Result<(String, Option<String>), MultipartError> {
    // Browsers leave a backslash as it is. A value that ends in one is therefore read so where it can be read in no
    // other way.
    let parameters = Parameters::parse(disposition, Backslash::EscapesQuotes)
        .or_else(|| Parameters::parse(disposition, Backslash::Literal))
        .ok_or(MultipartError::Disposition)?;
    if !parameters.main.eq_ignore_ascii_case(b"form-data") {
        return Err(MultipartError::Disposition);
    }
    if parameters.names().any(is_continuation) {
        return Err(MultipartError::ParameterContinued);
    }
    let name = text_of(&parameters, "name", "name*")?.ok_or(MultipartError::NameMissing)?;
    Ok((name, text_of(&parameters, "filename", "filename*")?))
}

/// Whether it is the name of a piece, such as `filename*0` or `filename*1*` (RFC 2231 section 3).
fn is_continuation(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let piece = name.strip_prefix(b"filename*").or_else(|| name.strip_prefix(b"name*"));
    piece.is_some_and(|piece| !piece.is_empty())
}

/// A parameter in its extended form if there is one, else in its plain form (RFC 6266 section 4.3).
fn text_of(
    parameters: &Parameters<'_>,
    plain: &str,
    extended: &str,
) -> Result<Option<String>, MultipartError> {
    let only = |name: &str| {
        let mut values = parameters.named(name);
        let first = values.next();
        if values.next().is_some() { Err(MultipartError::ParameterRepeated) } else { Ok(first) }
    };
    let (plain, extended) = (only(plain)?, only(extended)?);
    match (extended.map(|value| decode_extended(&value.bytes)), plain) {
        (Some(Some(text)), _) => Ok(Some(text)),
        (_, Some(plain)) => Ok(Some(decode_plain(plain))),
        (Some(None), None) => Err(MultipartError::ExtendedValue),
        (None, None) => Ok(None),
    }
}

/// Undoes what browsers write for a quote and for the ends of lines within a quoted string.
fn decode_plain(value: &Value) -> String {
    if !value.is_quoted {
        return String::from_utf8_lossy(&value.bytes).into_owned();
    }
    let mut decoded = Vec::with_capacity(value.bytes.len());
    let mut rest = &value.bytes[..];
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'2', b'2', after @ ..] => (b'"', after),
            [b'%', b'0', b'D', after @ ..] => (b'\r', after),
            [b'%', b'0', b'A', after @ ..] => (b'\n', after),
            _ => (byte, after),
        };
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Decodes `charset'language'text` (RFC 8187 section 3.2); `None` if it is malformed or of another character set.
fn decode_extended(value: &[u8]) -> Option<String> {
    let mut pieces = value.splitn(3, |&byte| byte == b'\'');
    let (charset, _language, mut rest) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                after
            }
            (b'%', _) => return None,
            _ => {
                bytes.push(byte);
                after
            }
        };
    }
    if charset.eq_ignore_ascii_case(b"utf-8") {
        Some(String::from_utf8_lossy(&bytes).into_owned())
    } else if charset.eq_ignore_ascii_case(b"iso-8859-1") {
        // Its characters are the first of Unicode.
        Some(bytes.into_iter().map(char::from).collect())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: impl AsRef<[u8]>) -> Result<Part, MultipartError> {
        Part::parse(&[lines.as_ref(), b"\r\n\r\n"].concat())
    }

    fn names_of(parameters: impl AsRef<[u8]>) -> Result<(String, Option<String>), MultipartError> {
        let line = [b"Content-Disposition: form-data; ", parameters.as_ref()].concat();
        parse(line).map(|part| (part.name, part.file_name))
    }

    #[test]
    fn names_as_browsers_and_the_standards_have_them() {
        let table: [(&[u8], &str, Option<&str>); 22] = [
            (b"name=\"f\"", "f", None),
            (b"name=f; filename=a.txt", "f", Some("a.txt")),
            (b"Name=\"f\"; FileName=\"a.txt\"", "f", Some("a.txt")),
            (b"filename=\"x; name=evil\"; name=\"real\"", "real", Some("x; name=evil")),
            (b"name=\"x; filename=y\"", "x; filename=y", None),
            (b"namespace=1; name=\"f\"", "f", None),
            (b"name=\"f\"; filename=\"\"", "f", Some("")),
            // Browsers.
            (b"name=\"a%22b%0D%0Ac%25\"", "a\"b\r\nc%25", None),
            (b"name=\"f\\\"; filename=\"a.txt\"", "f\\", Some("a.txt")),
            (b"name=\"f\\\"", "f\\", None),
            (b"name=\"f\"; filename=\"C:\\dir\\a.txt\"", "f", Some("C:\\dir\\a.txt")),
            // curl and Python.
            (b"name=\"a\\\"b\"; filename=\"c\\\\\"", "a\"b", Some("c\\")),
            (b"name=\"f\"; filename*=utf-8''na%C3%AFve%20%26.txt", "f", Some("na\u{ef}ve &.txt")),
            (b"filename*=UTF-8'en'b.txt; name=f; filename=a.txt", "f", Some("b.txt")),
            (b"name=f; filename=a.txt; filename*=UTF-8''b.txt", "f", Some("b.txt")),
            (b"name=f; filename*=iso-8859-1''%E9", "f", Some("\u{e9}")),
            (b"name*=utf-8''%C3%A9", "\u{e9}", None),
            // What cannot be decoded gives way to what can.
            (b"name=f; filename*=koi8-r''%C1; filename=a.txt", "f", Some("a.txt")),
            // Names that are not UTF-8 are shown as far as they are.
            (b"name=\"f\"; filename=\"\xe9.txt\"", "f", Some("\u{fffd}.txt")),
            (b"name=\"\xff\"", "\u{fffd}", None),
            ("name=\"\u{e9}\"; filename=\"\u{1f600}\"".as_bytes(), "\u{e9}", Some("\u{1f600}")),
            (b"name=\"a\";\r\n\tfilename=\"b\"", "a", Some("b")),
        ];
        for (parameters, name, file_name) in table {
            let text = String::from_utf8_lossy(parameters).into_owned();
            let found = names_of(parameters).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((found.0.as_str(), found.1.as_deref()), (name, file_name), "{text}");
        }
    }

    #[test]
    fn nothing_is_lost_in_silence() {
        use MultipartError::{
            Disposition, DispositionMissing, ExtendedValue, Header, HeaderRepeated, NameMissing,
            ParameterContinued, ParameterRepeated, TransferEncoding,
        };
        for (parameters, error) in [
            ("", NameMissing),
            ("filename=a", NameMissing),
            ("name=a; name=b", ParameterRepeated),
            ("name=a; filename=b; FILENAME=c", ParameterRepeated),
            ("name=a; filename*=utf-8''%4", ExtendedValue),
            ("name=a; filename*=b.txt", ExtendedValue),
            ("name=a; filename*0=b; filename*1=c", ParameterContinued),
            ("name=a; filename=b c", Disposition),
            ("name=\"a", Disposition),
            ("name", Disposition),
        ] {
            assert_eq!(names_of(parameters), Err(error), "{parameters}");
        }
        let good = "Content-Disposition: form-data; name=a\r\n";
        for (lines, error) in [
            ("X: y".to_owned(), DispositionMissing),
            ("Content-Disposition: attachment; name=a".to_owned(), Disposition),
            (format!("{good}content-disposition: form-data; name=b"), HeaderRepeated),
            (format!("{good}Content-Type: a/b\r\nContent-Type: a/c"), HeaderRepeated),
            (format!("{good}Content-Transfer-Encoding: base64"), TransferEncoding),
            (format!(" folded\r\n{good}"), Header),
            (format!("{good}no colon"), Header),
            (format!("{good}a b: c"), Header),
            (format!("{good}a : c"), Header),
            (format!("{good}: c"), Header),
            (format!("{good}a: \0"), Header),
            (format!("{good}a: b\nc: d"), Header),
            (format!("{good}a: b\rc"), Header),
        ] {
            assert_eq!(parse(&lines), Err(error), "{lines:?}");
        }
        assert_eq!(Part::parse(b"\r\n"), Err(DispositionMissing));
        let whole =
            parse(format!("{good}Content-Transfer-Encoding: Binary\r\ncontent-type: a/b; c=d")).unwrap();
        assert_eq!(whole.content_type(), Some("a/b; c=d"));
    }
}
