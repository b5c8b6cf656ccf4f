//! The token endpoint's answers (RFC 6749 section 5, OpenID Connect Core 1.0 section 3.1.3.3).

use http::{Response, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;

use super::{LoginError, OAuthErrorCode};
use crate::FetchError;

/// The tokens of a user at the provider. They do not print, and are wiped from memory.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// For requests to other servers in the user's name. Opaque: it is not for this server to read.
    pub access_token: SecretString,
    /// When the access token expires, in seconds since 1970, if the provider says so.
    pub expires_at: Option<u64>,
    /// For new tokens without the user ([`RelyingParty::refresh`](super::RelyingParty::refresh)).
    pub refresh_token: Option<SecretString>,
    /// For [`RelyingParty::logout_location`](super::RelyingParty::logout_location). Checked already.
    pub id_token: Option<SecretString>,
    /// The scopes that were given, if they are others than those that were asked for.
    pub scope: Option<String>,
}

#[derive(Deserialize)]
struct Success {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
    id_token: Option<String>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Failure {
    error: String,
}

impl Tokens {
    /// Reads an answer that came at `now`, in seconds since 1970. Nothing in it is checked yet.
    pub(super) fn parse(response: &Response<Vec<u8>>, now: u64) -> Result<Self, LoginError> {
        if response.status() != StatusCode::OK {
            return Err(match serde_json::from_slice::<Failure>(response.body()) {
                Ok(failure) => LoginError::Refused(OAuthErrorCode::parse(&failure.error)),
                Err(_) => LoginError::Unavailable(FetchError::Status(response.status().as_u16())),
            });
        }
        let success: Success = serde_json::from_slice(response.body())
            .map_err(|_| LoginError::Unavailable(FetchError::Document("no token response")))?;
        if !success.token_type.eq_ignore_ascii_case("bearer") {
            return Err(LoginError::Unavailable(FetchError::Document("the token is no bearer token")));
        }
        Ok(Self {
            access_token: success.access_token.into(),
            expires_at: success.expires_in.map(|seconds| now.saturating_add(seconds)),
            refresh_token: success.refresh_token.map(Into::into),
            id_token: success.id_token.map(Into::into),
            scope: success.scope,
        })
    }
}
