//! Questions of what a principal may do, asked within a handler.

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

#[cfg(feature = "cedar")]
use gimmal_security::Refusal;
#[cfg(feature = "cedar")]
use gimmal_security::abac::{AccessRequest, Policies};
use gimmal_security::rbac::{RoleModel, Roles};
use gimmal_security::{Principal, Requirement};
use http::Method;

use super::guard::refuse;
use crate::audit::Recorder;
use crate::error::Error;
use crate::extract::{FromRequest, State};
use crate::request::Request;

/// The role model of an app without one: nobody has any role.
pub(crate) static NO_ROLES: LazyLock<Arc<Roles>> =
    LazyLock::new(|| Arc::new(RoleModel::new().build().expect("a model without roles has no faults")));

/// Asks within a handler what the principal may do, where a guard around the handler does not know enough: whose
/// article it is, or how much money goes out.
///
/// ```
/// use gimmal::auth::{Authorizer, Requirement};
/// use gimmal::{App, Error, Path};
///
/// async fn remove(authorizer: Authorizer, Path(owner): Path<String>) -> Result<&'static str, Error> {
///     if authorizer.principal().is_none_or(|principal| principal.id() != owner) {
///         authorizer.require(&Requirement::permission("articles:delete"))?;
///     }
///     Ok("removed")
/// }
/// let app = App::new().delete("/articles-of/{owner}", remove);
/// ```
pub struct Authorizer {
    principal: Option<Principal>,
    roles: State<Arc<Roles>>,
    recorder: Recorder,
    method: Method,
    path: String,
}

impl Authorizer {
    /// Who asks.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Whether one of the principal's roles grants this permission. Nothing is recorded.
    #[must_use]
    pub fn allows(&self, permission: &str) -> bool {
        self.principal.as_ref().is_some_and(|principal| self.roles.allows(principal, permission))
    }

    /// Goes on if the principal meets a requirement.
    ///
    /// # Errors
    /// The answer to who does not, 401 or 403; it is recorded.
    pub fn require(&self, requirement: &Requirement) -> Result<(), Error> {
        let asked = (self.method.as_str(), self.path.as_str());
        let principal = self.principal.as_ref();
        let verdict = requirement.evaluate(principal, &self.roles);
        verdict.map_err(|refusal| refuse(refusal, asked, principal, &self.recorder, &[]))
    }

    /// Goes on if the policies allow what is asked. The decision is logged, and recorded if it is a refusal, with the
    /// policies that made it.
    ///
    /// # Errors
    /// 403, of which the client learns no reason.
    #[cfg(feature = "cedar")]
    pub fn decide(&self, policies: &Policies, request: &AccessRequest<'_>) -> Result<(), Error> {
        let access = policies.decide(request);
        tracing::debug!(target: "gimmal::audit", path = self.path, %access, "a policy decision");
        if access.is_allowed() {
            return Ok(());
        }
        let refusal = Refusal::Forbidden { reason: access.to_string() };
        let asked = (self.method.as_str(), self.path.as_str());
        Err(refuse(refusal, asked, self.principal.as_ref(), &self.recorder, &access.forbidden_by))
    }
}

impl FromRequest for Authorizer {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(Self {
            principal: Principal::from_request_optional(request).await?,
            roles: State(request.state().unwrap_or_else(|| Rc::new(Arc::clone(&NO_ROLES)))),
            recorder: Recorder::of(request).await,
            method: request.method().clone(),
            path: request.path().to_owned(),
        })
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("principal", &self.principal).finish_non_exhaustive()
    }
}
