//! What a route demands of the one who asks.

use std::fmt;

use thiserror::Error;

use crate::Principal;
use crate::rbac::Roles;

/// What a route demands, as a tree of conditions.
///
/// [`evaluate`](Self::evaluate) tells the three refusals apart that HTTP tells apart: who are you (401), you may not
/// (403), and your token may not (403 with `insufficient_scope`, RFC 6750 section 3.1).
///
/// ```
/// use gimmal_security::rbac::RoleModel;
/// use gimmal_security::{Mechanism, Principal, Refusal, Requirement};
///
/// let roles = RoleModel::new().permissions(["users:ban"]).role("admin", [], ["*"]).build()?;
/// let guard = Requirement::all_of([
///     Requirement::permission("users:ban"),
///     Requirement::any_of([Requirement::scope("admin"), Requirement::role("admin")]),
/// ]);
/// guard.check(&roles)?;
///
/// let root = Principal::new("root", Mechanism::Basic, 0).with_role("admin");
/// let bob = Principal::new("bob", Mechanism::Basic, 0);
/// assert_eq!(guard.evaluate(Some(&root), &roles), Ok(()));
/// assert_eq!(guard.evaluate(None, &roles), Err(Refusal::Unauthenticated));
/// assert!(matches!(guard.evaluate(Some(&bob), &roles), Err(Refusal::Forbidden { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// Nothing: open to everybody, and said so.
    Public,
    /// Anybody who was proved to be somebody.
    Authenticated,
    /// A role, or one that includes it.
    Role(String),
    /// A permission of the role model.
    Permission(String),
    /// A scope of the access token or API key.
    Scope(String),
    /// Every one of these; nothing if there are none.
    AllOf(Vec<Requirement>),
    /// At least one of these; refused to everybody if there are none.
    AnyOf(Vec<Requirement>),
}

impl Requirement {
    /// A role, or one that includes it.
    pub fn role(role: impl Into<String>) -> Self {
        Self::Role(role.into())
    }

    /// A permission of the role model.
    pub fn permission(permission: impl Into<String>) -> Self {
        Self::Permission(permission.into())
    }

    /// A scope of the access token or API key.
    pub fn scope(scope: impl Into<String>) -> Self {
        Self::Scope(scope.into())
    }

    /// Every one of these.
    pub fn all_of(requirements: impl IntoIterator<Item = Self>) -> Self {
        Self::AllOf(requirements.into_iter().collect())
    }

    /// At least one of these.
    pub fn any_of(requirements: impl IntoIterator<Item = Self>) -> Self {
        Self::AnyOf(requirements.into_iter().collect())
    }

    /// Checks at start that the role model knows every role and permission that this names, and that it can be met
    /// at all.
    ///
    /// # Errors
    /// [`RequirementError`] names the first that it does not know, or the empty choice.
    pub fn check(&self, roles: &Roles) -> Result<(), RequirementError> {
        match self {
            Self::Role(role) if !roles.knows_role(role) => Err(RequirementError::UnknownRole(role.clone())),
            Self::Permission(permission) if !roles.knows_permission(permission) => {
                Err(RequirementError::UnknownPermission(permission.clone()))
            }
            Self::AnyOf(choice) if choice.is_empty() => Err(RequirementError::EmptyChoice),
            Self::AllOf(parts) | Self::AnyOf(parts) => parts.iter().try_for_each(|part| part.check(roles)),
            _ => Ok(()),
        }
    }

    /// Whether `principal`, who may be nobody, meets this.
    ///
    /// # Errors
    /// [`Refusal`] says which answer to give. Of a choice that is refused, the answer is the one that gives most
    /// away about what would help: a missing scope before a missing role. Of nobody, it is always
    /// [`Refusal::Unauthenticated`].
    pub fn evaluate(&self, principal: Option<&Principal>, roles: &Roles) -> Result<(), Refusal> {
        match (self, principal) {
            (Self::Public, _) => Ok(()),
            (Self::AllOf(parts), _) => parts.iter().try_for_each(|part| part.evaluate(principal, roles)),
            (Self::AnyOf(choice), _) => evaluate_choice(choice, principal, roles),
            (_, None) => Err(Refusal::Unauthenticated),
            (Self::Authenticated, Some(_)) => Ok(()),
            (Self::Role(role), Some(principal)) if roles.has_role(principal, role) => Ok(()),
            (Self::Permission(permission), Some(principal)) if roles.allows(principal, permission) => Ok(()),
            (Self::Scope(scope), Some(principal)) if principal.has_scope(scope) => Ok(()),
            (Self::Scope(scope), Some(_)) => Err(Refusal::InsufficientScope { scope: scope.clone() }),
            (Self::Role(_) | Self::Permission(_), Some(_)) => {
                Err(Refusal::Forbidden { reason: format!("lacks {self}") })
            }
        }
    }
}

fn evaluate_choice(
    choice: &[Requirement],
    principal: Option<&Principal>,
    roles: &Roles,
) -> Result<(), Refusal> {
    let mut refusal = match principal {
        None => Refusal::Unauthenticated,
        Some(_) => Refusal::Forbidden { reason: format!("lacks every one of {}", List(choice, ", ")) },
    };
    for part in choice {
        match part.evaluate(principal, roles) {
            Ok(()) => return Ok(()),
            Err(missing @ Refusal::InsufficientScope { .. }) => refusal = missing,
            Err(_) => {}
        }
    }
    Err(refusal)
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("nothing"),
            Self::Authenticated => f.write_str("a login"),
            Self::Role(role) => write!(f, "role {role:?}"),
            Self::Permission(permission) => write!(f, "permission {permission:?}"),
            Self::Scope(scope) => write!(f, "scope {scope:?}"),
            Self::AllOf(parts) => write!(f, "({})", List(parts, " and ")),
            Self::AnyOf(parts) => write!(f, "({})", List(parts, " or ")),
        }
    }
}

struct List<'a>(&'a [Requirement], &'a str);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(self.1)?;
            }
            write!(f, "{part}")?;
        }
        Ok(())
    }
}

/// Why a request is refused, and with which status.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nobody asked: answer 401 with the challenges of the route.
    #[error("authentication is required")]
    Unauthenticated,
    /// Somebody asked who may not: answer 403. The reason is for the log alone; this type's own text, which a client
    /// may see, leaves it out.
    #[error("access is forbidden")]
    Forbidden {
        /// For the log: what was lacking.
        reason: String,
    },
    /// The token may not, though its owner perhaps may: answer 403, with `error="insufficient_scope"` and the scope
    /// in the challenge if a Bearer token was sent (RFC 6750 section 3.1).
    #[error("the access token lacks a scope")]
    InsufficientScope {
        /// The scope that would help.
        scope: String,
    },
}

impl Refusal {
    /// 401 or 403.
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Unauthenticated => http::StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } | Self::InsufficientScope { .. } => http::StatusCode::FORBIDDEN,
        }
    }
}

/// What is wrong with a [`Requirement`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequirementError {
    /// A role that the model does not define.
    #[error("a guard requires the unknown role {0:?}: define it, or correct the name")]
    UnknownRole(String),
    /// A permission that the model does not declare.
    #[error("a guard requires the unknown permission {0:?}: declare it, or correct the name")]
    UnknownPermission(String),
    /// `AnyOf` of nothing, which nobody can meet.
    #[error("a guard is a choice between no requirements, which nobody can meet: name at least one")]
    EmptyChoice,
}
