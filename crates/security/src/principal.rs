//! Who a request comes from, whatever the mechanism that proved it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a [`Principal`] was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mechanism {
    /// A password over HTTP Basic (RFC 7617).
    Basic,
    /// HTTP Digest (RFC 7616).
    Digest,
    /// An OAuth 2 access token (RFC 6750).
    Bearer,
    /// A login with OpenID Connect.
    OpenIdConnect,
    /// A password typed into a form.
    Password,
    /// A TLS client certificate.
    ClientCertificate,
    /// An API key.
    ApiKey,
    /// By something else, such as a proxy before the server.
    External,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic => "basic",
            Self::Digest => "digest",
            Self::Bearer => "bearer",
            Self::OpenIdConnect => "openid_connect",
            Self::Password => "password",
            Self::ClientCertificate => "client_certificate",
            Self::ApiKey => "api_key",
            Self::External => "external",
        })
    }
}

/// Who a request comes from: the one answer of every mechanism, and the one question of every rule.
///
/// ```
/// use gimmal_security::{Mechanism, Principal};
///
/// let alice = Principal::new("alice", Mechanism::Basic, 1_700_000_000)
///     .with_role("editor")
///     .with_scope("articles:write")
///     .with_attribute("department", "news");
/// assert!(alice.has_role("editor") && alice.has_scope("articles:write"));
/// assert_eq!(alice.attribute("department").unwrap(), "news");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Principal {
    id: String,
    mechanism: Mechanism,
    /// Seconds since 1970.
    authenticated_at: u64,
    #[serde(default)]
    roles: BTreeSet<String>,
    #[serde(default)]
    scopes: BTreeSet<String>,
    #[serde(default)]
    attributes: BTreeMap<String, Value>,
}

impl Principal {
    /// A principal without roles, scopes or attributes, proved by `mechanism` at `authenticated_at` (seconds since
    /// 1970).
    #[must_use]
    pub fn new(id: impl Into<String>, mechanism: Mechanism, authenticated_at: u64) -> Self {
        Self {
            id: id.into(),
            mechanism,
            authenticated_at,
            roles: BTreeSet::new(),
            scopes: BTreeSet::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// Adds a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.roles.insert(role.into());
        self
    }

    /// Adds a scope.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.insert(scope.into());
        self
    }

    /// Sets an attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// The identifier: unique and stable among those that can be proved here.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it was proved.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// When it was proved, in seconds since 1970.
    #[must_use]
    pub fn authenticated_at(&self) -> u64 {
        self.authenticated_at
    }

    /// Its roles, in order.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    /// Whether it was given this very role; roles that include it are for the caller's role model to know.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    /// Its scopes, in order.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str)
    }

    /// Whether it has this scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }

    /// An attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.get(name)
    }

    /// Its attributes, by name.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value))
    }
}
