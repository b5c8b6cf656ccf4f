//! Tokens that are bound to a client certificate (RFC 8705 section 3): a stolen one is of no use without the
//! certificate's private key.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use thiserror::Error;

/// The SHA-256 thumbprint of a certificate's DER form: `x5t#S256` of RFC 8705 section 3.1.
///
/// ```
/// use gimmal_security::certificate_binding::CertificateThumbprint;
///
/// let thumbprint = CertificateThumbprint::of_der(b"a certificate in DER");
/// assert_eq!(thumbprint.to_string().len(), 43);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CertificateThumbprint([u8; 32]);

impl CertificateThumbprint {
    /// The thumbprint of a certificate in DER, as the TLS handshake gave it.
    #[must_use]
    pub fn of_der(certificate: &[u8]) -> Self {
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(thumbprint)
    }

    /// A thumbprint that was computed elsewhere.
    #[must_use]
    pub fn from_sha256(thumbprint: [u8; 32]) -> Self {
        Self(thumbprint)
    }
}

impl fmt::Display for CertificateThumbprint {
    /// Base64url without padding, as in a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Why a bound token was refused. The answer is 401 with `invalid_token` (RFC 8705 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateBindingError {
    /// The token is bound, and the connection has no client certificate.
    #[error("the token is bound to a client certificate: connect with it")]
    CertificateMissing,
    /// The token is bound to another certificate.
    #[error("the token is bound to another client certificate")]
    CertificateMismatch,
    /// Bound tokens only, and this one is not.
    #[error("only tokens that are bound to a client certificate are taken here")]
    NotBound,
    /// `cnf` is no object, or holds a confirmation that cannot be checked here (RFC 7800).
    #[error("the token is bound by a method that is not supported here")]
    MethodUnsupported,
}

/// Checks the `cnf` claim of `claims` against the certificate of the connection.
///
/// A token without `cnf` passes unless `required`. One with a confirmation method other than `x5t#S256` is refused:
/// to take it without the check would undo the binding.
///
/// # Errors
/// [`CertificateBindingError`] says what does not fit.
///
/// ```
/// use gimmal_security::certificate_binding::{CertificateBindingError, CertificateThumbprint, check};
///
/// let certificate = CertificateThumbprint::of_der(b"a certificate in DER");
/// let claims = serde_json::json!({ "cnf": { "x5t#S256": certificate.to_string() } });
/// let claims = claims.as_object().unwrap();
/// assert_eq!(check(claims, Some(&certificate), false), Ok(()));
/// assert_eq!(check(claims, None, false), Err(CertificateBindingError::CertificateMissing));
/// ```
pub fn check(
    claims: &Map<String, Value>,
    certificate: Option<&CertificateThumbprint>,
    required: bool,
) -> Result<(), CertificateBindingError> {
    let Some(confirmation) = claims.get("cnf") else {
        return if required { Err(CertificateBindingError::NotBound) } else { Ok(()) };
    };
    let confirmation = confirmation.as_object().ok_or(CertificateBindingError::MethodUnsupported)?;
    if confirmation.keys().any(|method| method != "x5t#S256") {
        return Err(CertificateBindingError::MethodUnsupported);
    }
    let bound_to = confirmation
        .get("x5t#S256")
        .and_then(Value::as_str)
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .ok_or(CertificateBindingError::MethodUnsupported)?;
    let certificate = certificate.ok_or(CertificateBindingError::CertificateMissing)?;
    verify_slices_are_equal(&bound_to, &certificate.0)
        .map_err(|_| CertificateBindingError::CertificateMismatch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(
        claims: &Value,
        certificate: Option<&[u8]>,
        required: bool,
    ) -> Result<(), CertificateBindingError> {
        let thumbprint = certificate.map(CertificateThumbprint::of_der);
        check(claims.as_object().unwrap(), thumbprint.as_ref(), required)
    }

    fn bound(certificate: &[u8]) -> Value {
        json!({ "cnf": { "x5t#S256": CertificateThumbprint::of_der(certificate).to_string() } })
    }

    #[test]
    fn token_theft_without_the_certificate() {
        assert_eq!(verdict(&bound(b"alice"), Some(b"alice"), true), Ok(()));
        assert_eq!(
            verdict(&bound(b"alice"), Some(b"mallory"), false),
            Err(CertificateBindingError::CertificateMismatch)
        );
        assert_eq!(verdict(&bound(b"alice"), None, false), Err(CertificateBindingError::CertificateMissing));
    }

    #[test]
    fn unbound_tokens() {
        assert_eq!(verdict(&json!({}), Some(b"alice"), false), Ok(()));
        assert_eq!(verdict(&json!({}), Some(b"alice"), true), Err(CertificateBindingError::NotBound));
    }

    #[test]
    fn binding_stripped_by_an_unknown_method() {
        for confirmation in [
            json!({}),
            json!("x"),
            json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
            json!({ "x5t#S256": 1 }),
            json!({ "x5t#S256": "!" }),
        ] {
            let claims = json!({ "cnf": confirmation });
            assert_eq!(
                verdict(&claims, Some(b"alice"), false),
                Err(CertificateBindingError::MethodUnsupported),
                "{claims}"
            );
        }
    }
}
