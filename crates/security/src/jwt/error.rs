//! Why a token was refused.

use http::StatusCode;
use thiserror::Error;

use crate::FetchError;
use crate::bearer::{BearerChallenge, BearerErrorCode};
use crate::certificate_binding::CertificateBindingError;

/// Why a token was refused. No text here repeats any of the token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`](super::TOKEN_BYTES_MAX).
    #[error("the token is too long")]
    TooLong,
    /// Not three parts of base64url with JSON objects in the first two (RFC 7515 section 7.1), or an object in which
    /// a name is repeated.
    #[error("the token is malformed")]
    Malformed,
    /// `alg` is unknown or not one of those that are pinned for the issuer; `none` is never one.
    #[error("the token is signed with an algorithm that is not accepted from its issuer")]
    Algorithm,
    /// `crit` or another header that changes the meaning of the token (RFC 7515 section 4.1.11).
    #[error("the token has a critical header that is not understood")]
    CriticalHeader,
    /// `typ` is not that of this kind of token (RFC 8725 section 3.11).
    #[error("the token is of another type")]
    Type,
    /// No key of the issuer fits the token's `kid` and `alg`.
    #[error("the key of the token is unknown")]
    UnknownKey,
    /// The signature does not hold.
    #[error("the signature of the token does not hold")]
    Signature,
    /// `iss` is not trusted here.
    #[error("the issuer of the token is not trusted")]
    Issuer,
    /// `aud` does not name this server.
    #[error("the token is for another audience")]
    Audience,
    /// `exp` has passed.
    #[error("the token is expired")]
    Expired,
    /// `nbf` or `iat` is yet to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A claim that this kind of token must have is missing.
    #[error("the token lacks the claim `{0}`")]
    ClaimMissing(&'static str),
    /// A claim is not of the type that it must be, or has a value that it must not have.
    #[error("the claim `{0}` of the token is not usable")]
    ClaimInvalid(&'static str),
    /// The token is bound to a client certificate, and the check of that failed.
    #[error(transparent)]
    CertificateBinding(#[from] CertificateBindingError),
    /// The authorisation server says that the token is not active (RFC 7662 section 2.2).
    #[error("the token is not active")]
    Inactive,
    /// The token cannot be judged now: its keys, or the authorisation server, cannot be reached. Not the client's
    /// fault.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(FetchError),
}

impl TokenError {
    /// The status of the answer: 401, or 503 while the token cannot be judged.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// The challenge of a 401 answer. A client learns that its token is expired, so that it refreshes it; every other
    /// refusal reads the same, so that a forger learns nothing.
    #[must_use]
    pub fn challenge(&self, base: &BearerChallenge) -> BearerChallenge {
        let description = match self {
            Self::Expired => "the token is expired",
            _ => "the token is not accepted",
        };
        base.with_error(BearerErrorCode::InvalidToken, description)
    }
}
