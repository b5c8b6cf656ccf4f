//! The guards of routes, and what is said to who may not pass.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use gimmal_runtime::LocalFuture;
use gimmal_security::audit::AuditEvent;
use gimmal_security::rbac::Roles;
use gimmal_security::{Principal, Refusal, Requirement};

use super::session::Session;
use crate::audit::Recorder;
use crate::error::Error;
use crate::extract::FromRequest;
use crate::handler::Needs;
use crate::middleware::{Middleware, Next};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// The cause of a 401 or 403 that a guard answered with, for the log: the client is told the status alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(Refusal);

impl Refused {
    /// Which refusal it was.
    #[must_use]
    pub fn refusal(&self) -> &Refusal {
        &self.0
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Refusal::Forbidden { reason } => write!(f, "{}: {reason}", self.0),
            Refusal::InsufficientScope { scope } => write!(f, "{}: {scope:?}", self.0),
            Refusal::Unauthenticated => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for Refused {}

/// Records a refusal, and gives the answer to it.
pub(super) fn refuse(
    refusal: Refusal,
    asked: (&str, &str),
    principal: Option<&Principal>,
    recorder: &Recorder,
    policies: &[String],
) -> Error {
    let (method, path) = asked;
    let refused = Refused(refusal);
    let reason = refused.to_string();
    let event = match &refused.0 {
        Refusal::Unauthenticated => AuditEvent::Unauthenticated { method, path },
        _ => AuditEvent::Forbidden { method, path, reason: &reason, policies },
    };
    recorder.record(event, principal.map(Principal::id));
    Error::status_only(refused.0.status()).with_source(refused)
}

/// Lets through who meets a requirement. It runs right before the handler, inside of all middleware.
#[derive(Clone)]
pub(crate) struct Guard {
    requirement: Arc<Requirement>,
    roles: Arc<Roles>,
}

impl Guard {
    pub(crate) fn new(requirement: Requirement, roles: &Arc<Roles>) -> Self {
        Self { requirement: Arc::new(requirement), roles: Arc::clone(roles) }
    }
}

impl Middleware for Guard {
    fn handle(self: Rc<Self>, request: Request, next: Next) -> LocalFuture<Response> {
        if !matches!(*self.requirement, Requirement::Public) {
            Session::note_read(&request);
        }
        let principal = request.extensions().get::<Principal>();
        match self.requirement.evaluate(principal, &self.roles) {
            Ok(()) => next.run(request),
            Err(refusal) => LocalFuture::new(async move {
                let recorder = Recorder::of(&request).await;
                let asked = (request.method().as_str(), request.path());
                let principal = request.extensions().get::<Principal>();
                refuse(refusal, asked, principal, &recorder, &[]).into_response()
            }),
        }
    }
}

/// Who the request comes from; 401 if nobody proved to be somebody. Take an `Option<Principal>` where that need not be.
impl FromRequest for Principal {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Session::note_read(request);
        if let Some(principal) = request.extensions().get::<Self>() {
            return Ok(principal.clone());
        }
        let recorder = Recorder::of(request).await;
        let asked = (request.method().as_str(), request.path());
        Err(refuse(Refusal::Unauthenticated, asked, None, &recorder, &[]))
    }

    fn needs(needs: &mut Needs) {
        needs.principal();
    }

    /// Nobody was refused, so nothing is recorded.
    async fn from_request_optional(request: &mut Request) -> Result<Option<Self>, Error> {
        Session::note_read(request);
        Ok(request.extensions().get::<Self>().cloned())
    }
}
