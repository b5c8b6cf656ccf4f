//! Trailer fields, and which of them may be believed (RFC 9110 section 6.5.1).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::BodyError;

/// Fields that are dropped from a trailer section: those that frame or route a message, change a request, prove who
/// sent it, or say how the body is to be read. All of them had to be known before the body.
fn is_forbidden(name: &str) -> bool {
    matches!(
        name,
        // framing and connection
        "connection" | "content-length" | "http2-settings" | "keep-alive" | "proxy-connection" | "te" | "trailer"
        | "transfer-encoding" | "upgrade"
        // routing
        | "forwarded" | "host" | "via" | "x-real-ip"
        // request modifiers
        | "cache-control" | "expect" | "max-forwards" | "pragma" | "prefer" | "range"
        // authentication
        | "authorization" | "cookie" | "proxy-authenticate" | "proxy-authorization" | "set-cookie"
        | "www-authenticate"
        // the body's own meaning
        | "content-encoding" | "content-range" | "content-type"
        // response control
        | "age" | "date" | "expires" | "location" | "retry-after" | "vary" | "warning"
    ) || name.starts_with("if-")
        || name.starts_with("x-forwarded-")
}

/// Whether a trailer field of this name is kept when it is received, and sent when it is given.
pub(crate) fn is_allowed(name: &HeaderName) -> bool {
    !is_forbidden(name.as_str())
}

/// The allowed fields of a complete trailer section, which ends in an empty line and has no bare CR or LF.
pub(crate) fn parse(section: &[u8], max_fields: usize) -> Result<HeaderMap, BodyError> {
    const SLOTS: usize = 256;
    let mut slots = [httparse::EMPTY_HEADER; SLOTS];
    let fields = match httparse::parse_headers(section, &mut slots[..max_fields.min(SLOTS)]) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(BodyError::TrailerTooLarge),
        Ok(httparse::Status::Partial) | Err(_) => return Err(BodyError::Trailer),
    };
    let mut map = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BodyError::Trailer)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| BodyError::Trailer)?;
        if is_allowed(&name) {
            map.append(name, value);
        }
    }
    Ok(map)
}
