//! Header values that are made at start and sent with every response.

use http::HeaderValue;

/// A value that is there as long as the process is, as the configuration that it comes of; `None` if it is none. A
/// static value is copied without a count of references, which all cores would write to with every response.
pub(crate) fn static_value(text: String) -> Option<HeaderValue> {
    HeaderValue::from_str(&text).ok()?;
    Some(HeaderValue::from_static(text.leak()))
}
