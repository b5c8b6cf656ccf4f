//! What is offered to who has to prove to be somebody, and why a proof was not taken.

use gimmal_security::Mechanism;
use gimmal_security::basic::basic_challenge;
use gimmal_security::bearer::BearerChallenge;
use gimmal_security::credentials::Realm;
use http::{HeaderValue, StatusCode, header};

use super::accounts::LoginError;
use super::digest::Digest;
use crate::body::{BodyError, BoxError};
use crate::clock::unix_seconds;
use crate::error::Error;
use crate::response::{IntoResponse, Response};

/// Why credentials were not taken.
pub(super) enum Rejection {
    /// They are malformed: 400. The reason is for the client's developer.
    Malformed(String),
    /// They prove nothing: 401 with everything that is on offer. The reason is for the log.
    Refused {
        /// What to record the failure under, unless it was recorded where the password was checked.
        mechanism: Option<Mechanism>,
        reason: String,
        /// What takes the place of the plain Bearer challenge.
        bearer: Option<BearerChallenge>,
        /// Whether only the nonce of Digest was too old.
        is_stale: bool,
    },
    /// They were sent where others can read them: 403.
    Exposed,
    /// The guard of the accounts said no, or a store failed.
    Login(LoginError),
    /// A store, or the server that knows the tokens, failed: 503.
    Unavailable(BoxError),
    /// The body, which the credentials cover, cannot be read.
    Body(BodyError),
}

/// The challenges of a route.
pub(super) struct Offer<'a> {
    pub(super) realm: &'a Realm,
    /// Over a connection that others can read, no scheme is offered that sends what they could use again.
    pub(super) is_confidential: bool,
    pub(super) has_basic: bool,
    pub(super) digest: Option<&'a Digest>,
    pub(super) bearer: Option<&'a BearerChallenge>,
}

impl Offer<'_> {
    /// Adds the challenges to a 401, each on a line of its own: some clients cannot tell two of one line apart. What is
    /// best comes first.
    pub(super) fn add_to(&self, response: &mut Response, bearer: Option<&BearerChallenge>, is_stale: bool) {
        let mut challenges = Vec::new();
        if let Some(challenge) = bearer.or(self.bearer.filter(|_| self.is_confidential)) {
            challenges.push(challenge.to_header_value());
        }
        let digest = self.digest.iter().flat_map(|digest| digest.scheme.challenges(unix_seconds(), is_stale));
        let basic = (self.has_basic && self.is_confidential).then(|| basic_challenge(self.realm));
        let texts = digest.chain(basic).map(|challenge| challenge.to_string());
        challenges.extend(texts.filter_map(|text| HeaderValue::try_from(text).ok()));
        for challenge in challenges {
            response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
        }
    }

    /// The answer to credentials that were not taken.
    pub(super) fn refuse(&self, rejection: Rejection) -> Response {
        match rejection {
            Rejection::Malformed(reason) => Error::new(StatusCode::BAD_REQUEST, reason).into_response(),
            Rejection::Exposed => Error::new(
                StatusCode::FORBIDDEN,
                "these credentials were readable on their way: use HTTPS, and change them",
            )
            .into_response(),
            Rejection::Refused { reason, bearer, is_stale, .. } => {
                let error = Error::status_only(StatusCode::UNAUTHORIZED).with_source(reason);
                let mut response = error.into_response();
                self.add_to(&mut response, bearer.as_ref(), is_stale);
                response
            }
            Rejection::Login(LoginError::Wrong) => {
                let mut response = Error::status_only(StatusCode::UNAUTHORIZED).into_response();
                self.add_to(&mut response, None, false);
                response
            }
            Rejection::Login(error) => error.into_response(),
            Rejection::Unavailable(cause) => Error::status_only(StatusCode::SERVICE_UNAVAILABLE)
                .with_source(cause as Box<dyn std::error::Error>)
                .into_response(),
            Rejection::Body(error) => error.into_response(),
        }
    }
}
