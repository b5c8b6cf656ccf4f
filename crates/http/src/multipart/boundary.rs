//! What stands between the parts of a form.

use super::error::MultipartError;
use super::parameters::{Backslash, Parameters};

/// The longest boundary (RFC 2046 section 5.1.1).
const BYTES_MAX: usize = 70;

/// A boundary, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary(Vec<u8>);

impl Boundary {
    /// Checks a boundary: 1 to 70 characters, of which the last is no space (RFC 2046 section 5.1.1).
    ///
    /// # Errors
    /// [`MultipartError::Boundary`].
    pub fn new(boundary: &[u8]) -> Result<Self, MultipartError> {
        let is_valid = !boundary.is_empty()
            && boundary.len() <= BYTES_MAX
            && boundary.iter().copied().all(is_boundary_byte)
            && !boundary.ends_with(b" ");
        if is_valid { Ok(Self(boundary.to_vec())) } else { Err(MultipartError::Boundary) }
    }

    /// Takes the boundary out of the value of a `Content-Type` field.
    ///
    /// ```
    /// use gimmal_http::multipart::Boundary;
    ///
    /// let boundary = Boundary::from_content_type(b"multipart/form-data; Boundary=\"a b\"")?;
    /// assert_eq!(boundary.as_bytes(), b"a b");
    /// # Ok::<(), gimmal_http::multipart::MultipartError>(())
    /// ```
    ///
    /// # Errors
    /// [`MultipartError`] if there is none, if it is no boundary, or if the parameters are malformed.
    pub fn from_content_type(value: &[u8]) -> Result<Self, MultipartError> {
        let parameters = Parameters::parse(value, Backslash::Escapes).ok_or(MultipartError::ContentType)?;
        let mut boundaries = parameters.named("boundary");
        let boundary = boundaries.next().ok_or(MultipartError::BoundaryMissing)?;
        if boundaries.next().is_some() {
            return Err(MultipartError::ContentType);
        }
        Self::new(&boundary.bytes)
    }

    /// The boundary without the two hyphens that stand before it in a body.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn is_boundary_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_of_content_types() {
        let of = |value: &str| {
            Boundary::from_content_type(value.as_bytes())
                .map(|boundary| String::from_utf8_lossy(boundary.as_bytes()).into_owned())
        };
        let webkit = "----WebKitFormBoundary7MA4YWxkTrZu0gW";
        assert_eq!(of(&format!("multipart/form-data; boundary={webkit}")).as_deref(), Ok(webkit));
        assert_eq!(of("multipart/form-data;charset=utf-8;BOUNDARY=b;").as_deref(), Ok("b"));
        // Not a token, and yet sent without quotes.
        assert_eq!(of("multipart/form-data; boundary=----=_Part_1.2:3").as_deref(), Ok("----=_Part_1.2:3"));
        assert_eq!(of(r#"multipart/form-data; x="; boundary=no"; boundary="y\es""#).as_deref(), Ok(r"yes"));
        assert_eq!(of("multipart/form-data"), Err(MultipartError::BoundaryMissing));
        assert_eq!(of("multipart/form-data; xboundary=b"), Err(MultipartError::BoundaryMissing));
        assert_eq!(of("multipart/form-data; boundary=a; boundary=b"), Err(MultipartError::ContentType));
        assert_eq!(of("multipart/form-data; boundary=\"a"), Err(MultipartError::ContentType));
        assert_eq!(of("multipart/form-data; boundary=a b"), Err(MultipartError::ContentType));
        for refused in ["\"\"", "\"a \"", "a*", "\"\u{e9}\"", &"x".repeat(71)] {
            let value = format!("multipart/form-data; boundary={refused}");
            assert_eq!(of(&value), Err(MultipartError::Boundary), "{refused}");
        }
        assert!(of(&format!("multipart/form-data; boundary={}", "x".repeat(70))).is_ok());
    }
}
