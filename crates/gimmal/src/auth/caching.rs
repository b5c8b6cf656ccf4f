//! Responses that depend on who asks, and caches that many share.

use http::{HeaderMap, HeaderValue, header};

/// Says which request field a response depends on, unless it says so already.
pub(crate) fn vary_on(headers: &mut HeaderMap, field: &'static str) {
    let is_named =
        list(headers, &header::VARY).any(|named| named == "*" || named.eq_ignore_ascii_case(field));
    if !is_named {
        headers.append(header::VARY, HeaderValue::from_static(field));
    }
}

/// Keeps a response that is for one user out of caches that many share.
///
/// What the handler has said of it stays: `no-store` and `private` are strict enough, and `public` is its own word for a
/// response that is the same for all.
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    let is_settled = list(headers, &header::CACHE_CONTROL).any(|directive| {
        let name = directive.split('=').next().unwrap_or_default();
        ["no-store", "private", "public", "s-maxage"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name.trim()))
    });
    if !is_settled {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

/// The members of a field that is a list.
fn list<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(
        name: &header::HeaderName,
        values: &[&'static str],
        change: impl Fn(&mut HeaderMap),
    ) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        change(&mut headers);
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_field_is_named_once() {
        let vary =
            |values: &[&'static str]| after(&header::VARY, values, |headers| vary_on(headers, "cookie"));
        assert_eq!(vary(&[]), ["cookie"]);
        assert_eq!(vary(&["accept-encoding"]), ["accept-encoding", "cookie"]);
        assert_eq!(vary(&["Accept, Cookie"]), ["Accept, Cookie"]);
        assert_eq!(vary(&["*"]), ["*"]);
    }

    #[test]
    fn what_the_handler_said_of_caches_stays() {
        let cached = |values: &[&'static str]| after(&header::CACHE_CONTROL, values, keep_private);
        assert_eq!(cached(&[]), ["private"]);
        assert_eq!(cached(&["max-age=60"]), ["max-age=60", "private"]);
        for own in ["no-store", "Private", "private=\"x-a\", max-age=1", "public, max-age=3600", "S-MaxAge=9"]
        {
            assert_eq!(cached(&[own]), [own]);
        }
    }
}
