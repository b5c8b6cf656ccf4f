//! Logout by the provider: OpenID Connect Back-Channel Logout 1.0.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::jwt::{TokenError, required_text};
use crate::session::{SessionStore, SessionStoreError, Sessions};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a good logout token says: who has logged out, or in which session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    issuer: String,
    principal_id: Option<String>,
    session_id: Option<String>,
}

impl LogoutToken {
    /// Reads checked claims (section 2.6, points 4 to 6).
    pub(super) fn from_claims(
        claims: &Map<String, Value>,
        subject_prefix: &str,
    ) -> Result<Self, LogoutTokenError> {
        let is_event =
            claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object);
        if !is_event {
            return Err(TokenError::ClaimInvalid("events").into());
        }
        // An ID token has one; so no logout token can be passed off as one, nor the other way round.
        if claims.contains_key("nonce") {
            return Err(TokenError::ClaimInvalid("nonce").into());
        }
        let optional = |name| match claims.get(name) {
            None => Ok(None),
            Some(_) => required_text(claims, name).map(Some),
        };
        let (subject, session_id) = (optional("sub")?, optional("sid")?);
        if subject.is_none() && session_id.is_none() {
            return Err(TokenError::ClaimMissing("sub").into());
        }
        Ok(Self {
            issuer: required_text(claims, "iss")?.to_owned(),
            principal_id: subject.map(|subject| format!("{subject_prefix}{subject}")),
            session_id: session_id.map(str::to_owned),
        })
    }

    /// Who has logged out, as the id of a [`Principal`](crate::Principal).
    #[must_use]
    pub fn principal_id(&self) -> Option<&str> {
        self.principal_id.as_deref()
    }

    /// The session at the provider that has ended.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// Ends the sessions that the token is about, and gives their number: those of the provider's session if the token
    /// names one, else all of the principal.
    ///
    /// # Errors
    /// [`SessionStoreError`] if some of them may still be there; the answer to the provider is then 503.
    pub async fn end_sessions<S: SessionStore>(
        &self,
        sessions: &Sessions<S>,
    ) -> Result<usize, SessionStoreError> {
        match (&self.session_id, &self.principal_id) {
            (Some(session_id), _) => sessions.log_out_provider_session(&self.issuer, session_id).await,
            (None, Some(principal_id)) => sessions.log_out_everywhere(principal_id, None).await,
            (None, None) => Ok(0),
        }
    }
}

/// Why a logout token was refused. The answer to the provider is 400 (section 2.8), or 503 if the token cannot be
/// judged now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LogoutTokenError {
    /// The body is no form with one `logout_token`.
    #[error("the request holds no logout token")]
    Missing,
    /// The token was used before.
    #[error("the logout token was used before")]
    Replayed,
    /// The token does not hold.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl LogoutTokenError {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Token(error @ TokenError::Unavailable(_)) => error.status(),
            _ => http::StatusCode::BAD_REQUEST,
        }
    }
}
