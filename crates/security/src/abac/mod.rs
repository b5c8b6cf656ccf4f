//! Attribute-based access control: policies in [Cedar](https://www.cedarpolicy.com) over principal, action, resource and
//! environment (feature `cedar`).
//!
//! Policies are validated against a schema when they are loaded, so a misspelt attribute is found then and not at the
//! first request. Each [`Access`] says which policies decided. What cannot be evaluated is denied.
//!
//! # How a [`Principal`] looks to a policy
//! It is the entity `User::"its id"`. Its roles are its parents, as `Role::"editor"`, with all that they include if
//! [`Policies::with_roles`] has been told the role model: `principal in Role::"editor"`. Of its attributes it has those
//! that the schema gives to `User`; besides them `scopes` (`Set<String>`), `mechanism` (`String`) and
//! `authenticated_at` (`Long`, seconds since 1970), if the schema has them.
//!
//! ```
//! use gimmal_security::abac::{AccessRequest, Policies, Resource, SourceText};
//! use gimmal_security::{Mechanism, Principal};
//! use serde_json::json;
//!
//! let schema = SourceText::new("blog.cedarschema", r#"
//!     entity Role;
//!     entity User in [Role] = { department: String };
//!     entity Article = { owner: User, draft: Bool };
//!     action read, write appliesTo { principal: User, resource: Article, context: { hour: Long } };
//! "#);
//! let policy = SourceText::new("blog.cedar", r#"
//!     @id("owners write") permit (principal, action == Action::"write", resource) when { resource.owner == principal };
//!     @id("editors") permit (principal in Role::"editor", action, resource);
//!     @id("closed at night") forbid (principal, action == Action::"write", resource) when { context.hour < 6 };
//! "#);
//! let policies = Policies::load(&schema, &[policy])?;
//!
//! let alice = Principal::new("alice", Mechanism::Password, 0).with_role("editor").with_attribute("department", "news");
//! let article = Resource::new("Article", "42").attribute("owner", json!({"type": "User", "id": "bob"})).attribute("draft", true);
//! let request = |hour: i64| AccessRequest::new(&alice, "write", &article).environment("hour", hour);
//!
//! let access = policies.decide(&request(9));
//! assert!(access.is_allowed());
//! assert_eq!(access.permitted_by, ["editors"]);
//! assert_eq!(policies.decide(&request(3)).to_string(), "denied: forbidden by closed at night");
//! # Ok::<(), gimmal_security::abac::PolicyError>(())
//! ```

mod entities;
mod policies;
mod source;

use std::fmt;

use serde_json::{Map, Value};

pub use policies::Policies;
pub use source::{PolicyError, SourceText};

use crate::Principal;

/// What somebody wants to do something to.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    kind: String,
    id: String,
    attributes: Map<String, Value>,
    parents: Vec<(String, String)>,
}

impl Resource {
    /// The entity of type `kind`, as the schema names it, with this identifier.
    #[must_use]
    pub fn new(kind: &str, id: &str) -> Self {
        Self { kind: kind.to_owned(), id: id.to_owned(), attributes: Map::new(), parents: Vec::new() }
    }

    /// Sets an attribute, in the JSON that Cedar takes: a reference to an entity is `{"type": "User", "id": "bob"}`.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }

    /// Places it in another entity, as a file in a folder.
    #[must_use]
    pub fn parent(mut self, kind: &str, id: &str) -> Self {
        self.parents.push((kind.to_owned(), id.to_owned()));
        self
    }
}

/// A question to [`Policies`].
#[derive(Clone, Debug)]
pub struct AccessRequest<'a> {
    principal: &'a Principal,
    action: &'a str,
    resource: &'a Resource,
    environment: Map<String, Value>,
}

impl<'a> AccessRequest<'a> {
    /// May `principal` do `action` to `resource`?
    #[must_use]
    pub fn new(principal: &'a Principal, action: &'a str, resource: &'a Resource) -> Self {
        Self { principal, action, resource, environment: Map::new() }
    }

    /// Sets a value of the environment, `context` to a policy: the hour, the address, whether TLS is on.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }
}

/// The answer of [`Policies`], and why. The reasons are for logs, never for the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Access {
    /// The policies that permit, if it is allowed.
    pub permitted_by: Vec<String>,
    /// The policies that forbid, if one does. If it is denied and none does, no policy permits.
    pub forbidden_by: Vec<String>,
    /// What could not be evaluated. Any error denies: the policy with the error may be one that forbids.
    pub errors: Vec<String>,
}

impl Access {
    /// Whether it is allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        !self.permitted_by.is_empty() && self.forbidden_by.is_empty() && self.errors.is_empty()
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_allowed() {
            write!(f, "allowed: permitted by {}", self.permitted_by.join(", "))
        } else if !self.errors.is_empty() {
            write!(f, "denied: {}", self.errors.join("; "))
        } else if !self.forbidden_by.is_empty() {
            write!(f, "denied: forbidden by {}", self.forbidden_by.join(", "))
        } else {
            f.write_str("denied: no policy permits it")
        }
    }
}
