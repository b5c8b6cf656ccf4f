//! Content codings that a client takes (RFC 9110 section 12.5.3).

/// The weights that a client gives to content codings, in thousandths.
///
/// ```
/// use gimmal_http::AcceptEncoding;
///
/// let accepted = AcceptEncoding::parse([&b"gzip;q=0.5, br, zstd;q=0"[..]]);
/// assert_eq!((accepted.weight("br"), accepted.weight("gzip"), accepted.weight("zstd")), (1000, 500, 0));
/// assert_eq!(accepted.best(&["zstd", "gzip", "br"]), Some("br"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptEncoding<'a> {
    members: Vec<(&'a [u8], u16)>,
}

/// Members of the list that are looked at.
const MEMBERS_MAX: usize = 32;

impl<'a> AcceptEncoding<'a> {
    /// Reads the values of all `Accept-Encoding` fields. A member with a malformed weight is left out.
    #[must_use]
    pub fn parse(fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let members = fields.into_iter().flat_map(|field| field.split(|&byte| byte == b','));
        Self { members: members.take(MEMBERS_MAX).filter_map(member).collect() }
    }

    /// The weight of a coding, from 0, not acceptable, to 1000. A coding that is not named has that of `*`, and 0
    /// where there is none: to be sent what it did not ask for, a client would have to understand it.
    #[must_use]
    pub fn weight(&self, coding: &str) -> u16 {
        self.named(coding).or_else(|| self.named("*")).unwrap_or(0)
    }

    /// The weight of no coding at all: acceptable unless it is excluded, and liked least unless it is named.
    #[must_use]
    pub fn identity_weight(&self) -> u16 {
        self.named("identity").or_else(|| self.named("*").filter(|&weight| weight == 0)).unwrap_or(1)
    }

    /// The coding of greatest weight, the first of them where several have it; `None` if no coding is liked as well
    /// as none at all.
    #[must_use]
    pub fn best<'c>(&self, codings: &[&'c str]) -> Option<&'c str> {
        let least = self.identity_weight().max(1);
        let weighted = codings.iter().map(|coding| (*coding, self.weight(coding)));
        // Of equal ones `max_by_key` takes the last.
        weighted
            .rev()
            .filter(|&(_, weight)| weight >= least)
            .max_by_key(|&(_, weight)| weight)
            .map(|(coding, _)| coding)
    }

    fn named(&self, coding: &str) -> Option<u16> {
        let is_named = |name: &[u8]| {
            // RFC 9110 section 8.4.1.3.
            let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
            name.eq_ignore_ascii_case(coding.as_bytes())
        };
        self.members.iter().find(|(name, _)| is_named(name)).map(|&(_, weight)| weight)
    }
}

fn member(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut pieces = member.splitn(2, |&byte| byte == b';').map(<[u8]>::trim_ascii);
    let name = pieces.next().filter(|name| !name.is_empty())?;
    let weight = match pieces.next() {
        Some(weight) => weight_of(weight)?,
        None => 1000,
    };
    Some((name, weight))
}

/// `q=` and a number of RFC 9110 section 12.4.2, in thousandths.
fn weight_of(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, rest) = value.split_first()?;
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        _ => return None,
    };
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths =
        (0..3).fold(0, |sum, at| 10 * sum + decimals.get(at).map_or(0, |digit| u16::from(digit - b'0')));
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [&str; 3] = ["br", "zstd", "gzip"];

    /// RFC 9110 section 12.5.3.
    #[test]
    fn the_best_coding() {
        let table = [
            ("", None),
            ("compress, gzip", Some("gzip")),
            ("*", Some("br")),
            ("compress;q=0.5, gzip;q=1.0", Some("gzip")),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", Some("gzip")),
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip;q=0.8, br;q=0.1", Some("gzip")),
            ("br;q=0, *", Some("zstd")),
            ("gzip;q=0", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
            ("X-GZIP", Some("gzip")),
            ("gzip;q=2", None),
            ("gzip;q=0.0001", None),
            ("gzip ; q=0.001", Some("gzip")),
            ("gzip;q=-1, , zstd", Some("zstd")),
            ("gzip;level=9", None),
        ];
        for (field, expected) in table {
            assert_eq!(AcceptEncoding::parse([field.as_bytes()]).best(&OURS), expected, "{field}");
        }
        assert_eq!(AcceptEncoding::parse([]).best(&OURS), None);
        assert_eq!(AcceptEncoding::parse([&b"deflate"[..], b"zstd"]).best(&OURS), Some("zstd"));
    }

    #[test]
    fn identity_is_acceptable_unless_excluded() {
        let table = [("", 1), ("identity;q=0", 0), ("*;q=0", 0), ("*;q=0, identity", 1000), ("*;q=0.5", 1)];
        for (field, expected) in table {
            assert_eq!(AcceptEncoding::parse([field.as_bytes()]).identity_weight(), expected, "{field}");
        }
    }
}
