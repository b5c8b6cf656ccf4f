//! Header fields on their way from one message to another.

use bytes::Bytes;
use gimmal_http::Headers;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields that lie in `bytes` as a map whose values share them.
pub(crate) fn to_header_map(fields: Headers<'_>, bytes: &Bytes) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        // The codec has checked both by the same rules, so neither conversion fails.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_maybe_shared(bytes.slice_ref(value)))
        {
            map.append(name, value);
        }
    }
    map
}

/// The length that the fields state, be there a body or not (RFC 9110, section 8.6).
#[cfg(any(feature = "proxy", feature = "tower"))]
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
