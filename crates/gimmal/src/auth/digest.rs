//! Digest (RFC 7616) over a user store.

use std::time::Instant;

use gimmal_security::attempts::Source;
use gimmal_security::audit::AuditEvent;
use gimmal_security::credentials::Credentials;
use gimmal_security::digest::{
    DigestCredentials, DigestError, DigestProof, DigestQop, DigestRequest, DigestScheme, DigestUser,
};
use gimmal_security::{Mechanism, Principal};
use http::{HeaderValue, Method};

use super::accounts::{Accounts, LoginError};
use super::offer::Rejection;
use super::users::User;
use crate::audit::Recorder;
use crate::body::{Body, BodyError};
use crate::clock::unix_seconds;
use crate::request::Request;
use crate::response::Response;

/// Bytes of a response's body up to which the whole of it is proved to a client that asked for `auth-int`.
const PROVED_BODY_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Digest {
    pub(super) scheme: DigestScheme,
    pub(super) accounts: Accounts,
}

/// What the response is to prove in turn.
pub(super) struct Answer {
    proof: DigestProof,
    /// Whether the body of the response is to be proved, too.
    with_body: bool,
}

impl Digest {
    pub(super) async fn authenticate(
        &self,
        request: &mut Request,
        credentials: &Credentials<'_>,
        recorder: &Recorder,
    ) -> Result<(Principal, Answer), Rejection> {
        let credentials = self.scheme.read(credentials).map_err(rejection)?;
        let with_body = credentials.qop() == DigestQop::AuthInt;
        let body = if with_body { take_body(request).await? } else { bytes::Bytes::new() };
        let name = self.account(&credentials).await?;
        let source = Source { account: &name, address: recorder.address(), device: None };
        let attempts = self.accounts.attempts();
        let attempt = attempts.begin(source, None, Instant::now());
        self.accounts.heed(attempt.decision(), &name, recorder).await.map_err(Rejection::Login)?;
        // After the body and the delay: a secret that was changed or withdrawn meanwhile proves nothing.
        let user = match self.find(&credentials).await {
            Ok(user) => user,
            Err(failed) => {
                attempts.abandoned(attempt, Instant::now());
                return Err(failed);
            }
        };
        let secret = user.as_ref().and_then(|user| user.digest_secret(credentials.algorithm()));
        let asked =
            DigestRequest { method: request.method().as_str(), target: request.target(), body: &body };
        let verified = self.scheme.verify(&credentials, asked, secret, unix_seconds());
        match (verified, user.clone()) {
            (Ok(proof), Some(user)) => {
                attempts.succeeded(attempt, Instant::now());
                let principal = user.principal(Mechanism::Digest, unix_seconds());
                let with_body = with_body && request.method() != Method::HEAD;
                Ok((principal, Answer { proof, with_body }))
            }
            (Err(error), _) if !error.is_wrong_password() => {
                attempts.abandoned(attempt, Instant::now());
                Err(rejection(error))
            }
            _ => {
                let reason = "wrong user name or password";
                let event =
                    AuditEvent::LoginFailed { mechanism: Mechanism::Digest, account: Some(&name), reason };
                recorder.record(event, None);
                Err(rejection(DigestError::Wrong))
            }
        }
    }
}

impl Digest {
    /// The account under which the attempt counts. A hashed name that nobody has stands for itself.
    async fn account(&self, credentials: &DigestCredentials) -> Result<String, Rejection> {
        match credentials.user() {
            DigestUser::Name(name) => Ok(self.accounts.store().canonical(name).into_owned()),
            DigestUser::Hash(hash) => {
                Ok(self.find(credentials).await?.map_or_else(|| hash.clone(), |user| user.id))
            }
        }
    }

    /// Looks up the user whom the credentials name.
    async fn find(&self, credentials: &DigestCredentials) -> Result<Option<User>, Rejection> {
        let store = self.accounts.store();
        let found = match credentials.user() {
            DigestUser::Name(name) => store.find(&store.canonical(name)).await,
            DigestUser::Hash(hash) => store.find_by_userhash(hash, credentials.algorithm()).await,
        };
        found.map_err(|error| Rejection::Login(LoginError::Store(error)))
    }
}

fn rejection(error: DigestError) -> Rejection {
    match error.status() {
        400 => Rejection::Malformed(error.to_string()),
        _ => Rejection::Refused {
            mechanism: None,
            reason: error.to_string(),
            bearer: None,
            is_stale: error == DigestError::Stale,
        },
    }
}

/// Reads the body, and puts it back for the handler.
async fn take_body(request: &mut Request) -> Result<bytes::Bytes, Rejection> {
    let body = request.bytes().await.map_err(Rejection::Body)?;
    *request.body_mut() = Body::from(body.clone());
    Ok(body)
}

impl Answer {
    /// Adds `Authentication-Info` (RFC 7616, section 3.5).
    pub(super) async fn prove(self, mut response: Response) -> Result<Response, BodyError> {
        let mut proved = None;
        if self.with_body && response.body().length().is_some_and(|length| length <= PROVED_BODY_BYTES_MAX) {
            let media_type = response.body().media_type();
            let bytes = response.take_body().collect(PROVED_BODY_BYTES_MAX).await?;
            let body = Body::from(bytes.clone());
            response.set_body(match media_type {
                Some(media_type) => body.with_media_type(media_type),
                None => body,
            });
            proved = Some(bytes);
        }
        let info = self.proof.authentication_info(proved.as_deref());
        if let Ok(info) = HeaderValue::try_from(info) {
            response.headers_mut().insert("authentication-info", info);
        }
        Ok(response)
    }
}
