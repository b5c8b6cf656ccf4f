//! Conditional requests (RFC 9110 section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Method};

/// A tag that names one state of a representation (RFC 9110 section 8.8.3).
///
/// ```
/// use gimmal_http::EntityTag;
///
/// let tag = EntityTag::strong("33a64df5").unwrap();
/// assert_eq!(tag.value(), "\"33a64df5\"");
/// assert_eq!(tag.to_weak().value(), "W/\"33a64df5\"");
/// assert_eq!(EntityTag::strong("no \"quotes\""), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// A tag that changes whenever a byte of the representation does; `None` for a text with a quote, a space or a
    /// control character.
    #[must_use]
    pub fn strong(opaque: &str) -> Option<Self> {
        let is_tag = opaque.bytes().all(is_tag_byte);
        HeaderValue::try_from(format!("\"{opaque}\"")).ok().filter(|_| is_tag).map(Self)
    }

    /// Reads the value of an `ETag` field; `None` if it is malformed.
    #[must_use]
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let (_, rest) = next_tag(value.as_bytes())?;
        rest.is_empty().then(|| Self(value.clone()))
    }

    /// The same tag for a representation that only means the same, such as one in another content coding that is
    /// made anew for each response.
    #[must_use]
    pub fn to_weak(&self) -> Self {
        if self.0.as_bytes().starts_with(b"W/") {
            return self.clone();
        }
        let weak = [b"W/", self.0.as_bytes()].concat();
        Self(HeaderValue::from_bytes(&weak).expect("a tag with a prefix of letters is a field value"))
    }

    /// The value of the `ETag` field.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    fn tag(&self) -> Tag<'_> {
        next_tag(self.0.as_bytes()).map(|(tag, _)| tag).expect("it was checked when it was made")
    }
}

/// `etagc` of RFC 9110 section 8.8.3.
fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

/// A tag of a field.
#[derive(Clone, Copy)]
struct Tag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

/// RFC 9110 section 8.8.3.2.
fn match_strongly(one: Tag<'_>, other: Tag<'_>) -> bool {
    !one.weak && !other.weak && one.opaque == other.opaque
}

fn match_weakly(one: Tag<'_>, other: Tag<'_>) -> bool {
    one.opaque == other.opaque
}

/// The tag at the beginning, and what follows it.
fn next_tag(bytes: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let (weak, rest) = match bytes.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let rest = rest.strip_prefix(b"\"")?;
    let end = rest.iter().position(|&byte| byte == b'"')?;
    let opaque = &rest[..end];
    opaque.iter().copied().all(is_tag_byte).then_some((Tag { weak, opaque }, &rest[end + 1..]))
}

/// The tags of one field, up to what is malformed. A comma may be part of a tag.
fn tags(field: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = field;
    std::iter::from_fn(move || {
        // Empty members of a list are skipped (RFC 9110 section 5.6.1.2).
        let start = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        let (tag, after) = next_tag(&rest[start..])?;
        let after = after.trim_ascii_start();
        // Between two tags there is a comma.
        rest = if after.is_empty() || after.starts_with(b",") { after } else { &[] };
        Some(tag)
    })
}

/// What a representation can be told by from its earlier and later states (RFC 9110 section 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// Its tag.
    pub entity_tag: Option<EntityTag>,
    /// When it was last changed, in seconds since the start of 1970.
    pub last_modified_unix_secs: Option<u64>,
}

/// What is to be done with a request (RFC 9110 section 13.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Perform the method.
    Holds,
    /// Answer 304: what the client has is the current state.
    NotModified,
    /// Answer 412 and do nothing.
    Failed,
}

impl Validators {
    /// Evaluates the conditions of a request for a representation that exists, in the order of precedence of RFC 9110
    /// section 13.2.2. `fields` gives the values of all header fields of a name. `If-Range` is a matter of its own:
    /// see [`permit_range`](Self::permit_range).
    ///
    /// ```
    /// use gimmal_http::{EntityTag, HeaderMap, Method, Precondition, Validators};
    ///
    /// let current = Validators { entity_tag: EntityTag::strong("v2"), ..Validators::default() };
    /// let mut headers = HeaderMap::new();
    /// headers.insert("if-none-match", "\"v1\", \"v2\"".parse().unwrap());
    /// let fields = |name| headers.get_all(name).iter().map(|value| value.as_bytes());
    /// assert_eq!(current.evaluate(&Method::GET, fields), Precondition::NotModified);
    /// assert_eq!(current.evaluate(&Method::PUT, fields), Precondition::Failed);
    /// ```
    pub fn evaluate<'a, I: Iterator<Item = &'a [u8]>>(
        &self,
        method: &Method,
        fields: impl Fn(&'static str) -> I,
    ) -> Precondition {
        let own = self.entity_tag.as_ref().map(EntityTag::tag);
        let matches = |name, is_same: fn(Tag<'_>, Tag<'_>) -> bool| {
            let mut given = fields(name).peekable();
            given.peek()?;
            Some(given.any(|field| {
                field.trim_ascii() == b"*" || own.is_some_and(|own| tags(field).any(|tag| is_same(tag, own)))
            }))
        };
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        match matches("if-match", match_strongly) {
            Some(true) => {}
            Some(false) => return Precondition::Failed,
            None if self.is_newer_than(fields("if-unmodified-since")) == Some(true) => {
                return Precondition::Failed;
            }
            None => {}
        }
        match matches("if-none-match", match_weakly) {
            Some(false) => Precondition::Holds,
            Some(true) if is_read => Precondition::NotModified,
            Some(true) => Precondition::Failed,
            None if is_read && self.is_newer_than(fields("if-modified-since")) == Some(false) => {
                Precondition::NotModified
            }
            None => Precondition::Holds,
        }
    }

    /// Whether it was changed after the date of a field; `None` where the field is to be ignored: it is missing, comes
    /// twice, is no date, or nothing is known to compare it to (RFC 9110 sections 13.1.3 and 13.1.4).
    fn is_newer_than<'a>(&self, mut fields: impl Iterator<Item = &'a [u8]>) -> Option<bool> {
        let date = date(fields.next()?)?;
        let last_modified = self.last_modified_unix_secs?;
        fields.next().is_none().then_some(last_modified > date)
    }

    /// Whether a `Range` field counts: there is no `If-Range` beside it, or that names the current state by a strong
    /// validator (RFC 9110 section 13.1.5). A date is one only if the state is older than a second (section 8.8.2.2).
    pub fn permit_range(&self, if_range: Option<&[u8]>, now_unix_secs: u64) -> bool {
        let Some(field) = if_range.map(<[u8]>::trim_ascii) else { return true };
        if let Some((tag, rest)) = next_tag(field) {
            let own = self.entity_tag.as_ref().map(EntityTag::tag);
            return rest.is_empty() && own.is_some_and(|own| match_strongly(tag, own));
        }
        self.last_modified_unix_secs
            .is_some_and(|modified| date(field) == Some(modified) && modified + 1 < now_unix_secs)
    }
}

/// A date in any of the three forms of RFC 9110 section 5.6.7.
fn date(field: &[u8]) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(std::str::from_utf8(field.trim_ascii()).ok()?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().as_ref().map(Duration::as_secs)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::Precondition::{Failed, Holds, NotModified};
    use super::*;
    use crate::Date;

    const MODIFIED: u64 = 784_111_777;
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn current(tag: &'static str) -> Validators {
        let entity_tag = Some(EntityTag::parse(&HeaderValue::from_static(tag)).unwrap());
        Validators { entity_tag, last_modified_unix_secs: Some(MODIFIED) }
    }

    fn evaluate(of: &Validators, method: &Method, given: &[(&'static str, &str)]) -> Precondition {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        of.evaluate(method, |name| headers.get_all(name).iter().map(HeaderValue::as_bytes))
    }

    /// RFC 9110 section 8.8.3.2, its table.
    #[test]
    fn comparison_of_tags() {
        let table = [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ];
        for (one, other, strong, weak) in table {
            let (one, other) = (next_tag(one.as_bytes()).unwrap().0, next_tag(other.as_bytes()).unwrap().0);
            assert_eq!((match_strongly(one, other), match_weakly(one, other)), (strong, weak));
        }
    }

    /// RFC 9110 section 13.1.1.
    #[test]
    fn if_match() {
        let table = [
            ("\"xyzzy\"", Holds),
            ("\"xyzzy\", \"r2d2xxxx\", \"c3piozzzz\"", Holds),
            (", ,\"a,b\" ,\t\"xyzzy\"", Holds),
            ("*", Holds),
            ("\"other\"", Failed),
            ("W/\"xyzzy\"", Failed),
            ("xyzzy", Failed),
            ("\"other\" \"xyzzy\"", Failed),
            ("", Failed),
        ];
        for (field, expected) in table {
            for method in [Method::GET, Method::PUT] {
                assert_eq!(
                    evaluate(&current("\"xyzzy\""), &method, &[("if-match", field)]),
                    expected,
                    "{field}"
                );
            }
        }
        assert_eq!(evaluate(&current("W/\"xyzzy\""), &Method::PUT, &[("if-match", "W/\"xyzzy\"")]), Failed);
        let two = [("if-match", "\"other\""), ("if-match", "\"xyzzy\"")];
        assert_eq!(evaluate(&current("\"xyzzy\""), &Method::PUT, &two), Holds);
        assert_eq!(evaluate(&Validators::default(), &Method::PUT, &[("if-match", "\"a\"")]), Failed);
        assert_eq!(evaluate(&Validators::default(), &Method::PUT, &[("if-match", "*")]), Holds);
    }

    /// RFC 9110 section 13.1.2.
    #[test]
    fn if_none_match() {
        let table = [
            ("\"xyzzy\"", NotModified, Failed),
            ("W/\"xyzzy\"", NotModified, Failed),
            ("\"r2d2xxxx\", W/\"xyzzy\"", NotModified, Failed),
            ("*", NotModified, Failed),
            ("\"other\"", Holds, Holds),
            ("xyzzy", Holds, Holds),
        ];
        for (field, read, write) in table {
            let given = [("if-none-match", field)];
            assert_eq!(evaluate(&current("\"xyzzy\""), &Method::GET, &given), read, "{field}");
            assert_eq!(evaluate(&current("\"xyzzy\""), &Method::HEAD, &given), read, "{field}");
            assert_eq!(evaluate(&current("W/\"xyzzy\""), &Method::PUT, &given), write, "{field}");
        }
    }

    /// RFC 9110 sections 13.1.3 and 13.1.4.
    #[test]
    fn dates() {
        let table = [
            ("if-modified-since", BEFORE, Holds, Holds),
            ("if-modified-since", SAME, NotModified, Holds),
            ("if-modified-since", AFTER, NotModified, Holds),
            ("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT", NotModified, Holds),
            ("if-modified-since", "Sun Nov  6 08:49:37 1994", NotModified, Holds),
            ("if-modified-since", "yesterday", Holds, Holds),
            ("if-unmodified-since", BEFORE, Failed, Failed),
            ("if-unmodified-since", SAME, Holds, Holds),
            ("if-unmodified-since", AFTER, Holds, Holds),
            ("if-unmodified-since", "yesterday", Holds, Holds),
        ];
        for (name, date, read, write) in table {
            assert_eq!(evaluate(&current("\"a\""), &Method::GET, &[(name, date)]), read, "{name}: {date}");
            assert_eq!(evaluate(&current("\"a\""), &Method::PUT, &[(name, date)]), write, "{name}: {date}");
            assert_eq!(evaluate(&Validators::default(), &Method::GET, &[(name, date)]), Holds);
        }
        let twice = [("if-modified-since", SAME), ("if-modified-since", SAME)];
        assert_eq!(evaluate(&current("\"a\""), &Method::GET, &twice), Holds);
    }

    /// RFC 9110 section 13.2.2.
    #[test]
    fn precedence() {
        let (mine, other) = ("\"a\"", "\"b\"");
        let table: [(&[(&str, &str)], Precondition); 6] = [
            (&[("if-match", mine), ("if-unmodified-since", BEFORE)], Holds),
            (&[("if-match", other), ("if-none-match", mine)], Failed),
            (&[("if-match", mine), ("if-none-match", mine)], NotModified),
            (&[("if-none-match", other), ("if-modified-since", AFTER)], Holds),
            (&[("if-none-match", mine), ("if-modified-since", BEFORE)], NotModified),
            (&[("if-unmodified-since", BEFORE), ("if-modified-since", AFTER)], Failed),
        ];
        for (given, expected) in table {
            assert_eq!(evaluate(&current(mine), &Method::GET, given), expected, "{given:?}");
        }
    }

    /// RFC 9110 section 13.1.5.
    #[test]
    fn if_range() {
        let now = MODIFIED + 60;
        let table = [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("\"a\", \"b\"", false),
            ("*", false),
            (SAME, true),
            (BEFORE, false),
            (AFTER, false),
            ("", false),
        ];
        for (field, expected) in table {
            assert_eq!(current("\"a\"").permit_range(Some(field.as_bytes()), now), expected, "{field}");
        }
        assert!(current("\"a\"").permit_range(None, now));
        assert!(!current("W/\"a\"").permit_range(Some(b"W/\"a\""), now));
        assert!(
            !current("\"a\"").permit_range(Some(SAME.as_bytes()), MODIFIED + 1),
            "it may change within the second"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(field in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = tags(&field).count();
            let _ = current("\"a\"").permit_range(Some(&field), 0);
        }

        #[test]
        fn a_date_is_its_own_second(seconds in 0_u64..4_102_444_800) {
            prop_assert_eq!(date(Date::at(seconds).as_bytes()), Some(seconds));
        }

        #[test]
        fn a_tag_is_found_in_any_list(before in "[!a-z,]{0,8}", own in "[!a-z,]{0,8}") {
            let field = format!("\"{before}\" ,, W/\"{own}\"");
            prop_assert_eq!(tags(field.as_bytes()).last().unwrap().opaque, own.as_bytes());
        }
    }
}
