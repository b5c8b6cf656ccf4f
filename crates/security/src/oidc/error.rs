//! Why a login did not come about.

use http::StatusCode;
use thiserror::Error;

use crate::FetchError;
use crate::cookies::CookieError;
use crate::jwt::TokenError;

/// Why a login, or a request to the provider, failed. No text here repeats what the browser or the provider sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The parameters of the callback are missing, doubled or malformed.
    #[error("the provider's answer is malformed: start the login again")]
    MalformedResponse,
    /// `state` does not belong to a login that this browser began, or it took too long.
    #[error("this browser began no such login, or too long ago: start the login again")]
    UnknownState,
    /// The answer is from another provider than the one that was asked (RFC 9207).
    #[error("the answer is from another provider")]
    IssuerMismatch,
    /// The provider refused.
    #[error("the provider refused: {0}")]
    Refused(OAuthErrorCode),
    /// The provider cannot be reached, or its answer is not usable.
    #[error("the provider cannot be asked: {0}")]
    Unavailable(FetchError),
    /// The ID token does not hold.
    #[error("the ID token is refused: {0}")]
    IdToken(TokenError),
    /// The tokens are of another user.
    #[error("the provider's answer is about another user")]
    SubjectMismatch,
    /// The provider offers no such thing.
    #[error("the provider has no {0} endpoint")]
    Unsupported(&'static str),
    /// The login cannot be remembered.
    #[error(transparent)]
    Cookie(#[from] CookieError),
}

impl LoginError {
    /// The status of the answer to the browser: 400 if it may start anew, 403 if the provider said no, 502 if the
    /// provider is at fault.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MalformedResponse | Self::UnknownState | Self::IssuerMismatch => StatusCode::BAD_REQUEST,
            Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) | Self::IdToken(_) | Self::SubjectMismatch => StatusCode::BAD_GATEWAY,
            Self::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Cookie(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What a provider says when it refuses (RFC 6749 sections 4.1.2.1 and 5.2, OpenID Connect Core 1.0 section 3.1.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum OAuthErrorCode {
    /// The user or the provider said no.
    #[error("access_denied")]
    AccessDenied,
    /// The code or the refresh token is used up, revoked, expired or of another client.
    #[error("invalid_grant")]
    InvalidGrant,
    /// This client could not authenticate itself.
    #[error("invalid_client")]
    InvalidClient,
    /// This client may not do that.
    #[error("unauthorized_client")]
    UnauthorizedClient,
    /// A request is malformed.
    #[error("invalid_request")]
    InvalidRequest,
    /// A scope is unknown.
    #[error("invalid_scope")]
    InvalidScope,
    /// The user has to log in, which `prompt=none` forbade.
    #[error("login_required")]
    LoginRequired,
    /// The user has to consent, which `prompt=none` forbade.
    #[error("consent_required")]
    ConsentRequired,
    /// The user has to do something, which `prompt=none` forbade.
    #[error("interaction_required")]
    InteractionRequired,
    /// The provider failed.
    #[error("server_error")]
    ServerError,
    /// The provider is overloaded.
    #[error("temporarily_unavailable")]
    TemporarilyUnavailable,
    /// Another code.
    #[error("an error without a code that is known here")]
    Other,
}

impl OAuthErrorCode {
    pub(super) fn parse(code: &str) -> Self {
        match code {
            "access_denied" => Self::AccessDenied,
            "invalid_grant" => Self::InvalidGrant,
            "invalid_client" => Self::InvalidClient,
            "unauthorized_client" => Self::UnauthorizedClient,
            "invalid_request" => Self::InvalidRequest,
            "invalid_scope" => Self::InvalidScope,
            "login_required" => Self::LoginRequired,
            "consent_required" => Self::ConsentRequired,
            "interaction_required" => Self::InteractionRequired,
            "server_error" => Self::ServerError,
            "temporarily_unavailable" => Self::TemporarilyUnavailable,
            _ => Self::Other,
        }
    }
}
