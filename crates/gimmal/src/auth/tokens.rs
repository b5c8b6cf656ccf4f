//! Access tokens: JWT (RFC 9068), and opaque ones (RFC 7662).

use std::sync::Arc;

use gimmal_security::bearer::BearerChallenge;
use gimmal_security::certificate_binding::CertificateThumbprint;
use gimmal_security::introspection::Introspector;
use gimmal_security::jwt::{AccessTokenValidator, TokenError};
use gimmal_security::{Mechanism, Principal};

use super::fetcher::Fetcher;
use super::offer::Rejection;
use crate::clock::unix_seconds;
use crate::request::Request;

/// Who judges access tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    pub(super) jwt: Option<Arc<AccessTokenValidator>>,
    pub(super) introspector: Option<Arc<Introspector>>,
    pub(super) fetcher: Fetcher,
}

impl Tokens {
    pub(super) fn are_taken(&self) -> bool {
        self.jwt.is_some() || self.introspector.is_some()
    }

    pub(super) async fn authenticate(
        &self,
        request: &Request,
        token: &str,
        challenge: &BearerChallenge,
    ) -> Result<Principal, Rejection> {
        let certificate = request.client_certificate();
        let thumbprint =
            certificate.map(|certificate| CertificateThumbprint::of_der(certificate.certificate().der()));
        // A JWT in its compact form has two dots (RFC 7515, section 7.1).
        let is_jwt = token.bytes().filter(|&byte| byte == b'.').count() == 2;
        let judged = match (&self.jwt, &self.introspector) {
            (Some(jwt), other) if is_jwt || other.is_none() => {
                jwt.validate(token, thumbprint.as_ref(), unix_seconds(), &self.fetcher).await
            }
            (_, Some(introspector)) => {
                introspector.validate(token, thumbprint.as_ref(), unix_seconds(), &self.fetcher).await
            }
            _ => Err(TokenError::Malformed),
        };
        match judged {
            Ok(token) => Ok(token.into_principal()),
            Err(error @ TokenError::Unavailable(_)) => Err(Rejection::Unavailable(error.into())),
            Err(error) => Err(Rejection::Refused {
                mechanism: Some(Mechanism::Bearer),
                reason: error.to_string(),
                bearer: Some(error.challenge(challenge)),
                is_stale: false,
            }),
        }
    }
}
