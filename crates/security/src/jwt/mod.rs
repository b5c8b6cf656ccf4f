//! JSON Web Tokens (RFC 7519), checked as RFC 8725 advises: access tokens (RFC 9068) and the keys that sign them
//! (RFC 7517).
//!
//! Three things are decided before a token is read, and no token can change them: the issuers that are trusted, the
//! algorithms of each issuer, and the family of algorithms of each key. So there is no `none`, and a public key can
//! never be taken for an HMAC secret. Time is an argument everywhere, in seconds since 1970; keys are fetched
//! through the caller's [`HttpFetch`](crate::HttpFetch).

mod access_token;
mod claims;
mod error;
mod jwk;
mod jws;
mod key_source;
mod signing_key;

pub use access_token::{AccessToken, AccessTokenValidator, AmbiguousIssuers, Issuer};
pub use error::TokenError;
pub use jsonwebtoken::Algorithm;
pub use jwk::{JwkSet, JwkSetError};
pub use key_source::{KeySource, RemoteKeysOptions};
pub use signing_key::{SigningKey, SigningKeyError};

pub(crate) use claims::{Audiences, numeric_date, required_text};
#[cfg(feature = "oidc")]
pub(crate) use {claims::check_times, claims::roles, jws::Jws};

/// The longest token that is read, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
