//! Header fields as a map that shares the memory of the bytes in which they came.

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
