//! The users of a service, as whoever keeps them gives them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{PoisonError, RwLock};

use gimmal_security::digest::{DigestAlgorithm, DigestSecret};
use gimmal_security::{Mechanism, Principal};
use serde_json::Value;

use super::BoxFuture;
use crate::body::BoxError;

/// A user as a [`UserStore`] gives one: who it is, what it may do, and what its password is checked against.
#[derive(Clone)]
pub struct User {
    pub(super) id: String,
    pub(super) password_hash: Option<String>,
    pub(super) digest_secrets: Vec<DigestSecret>,
    roles: BTreeSet<String>,
    scopes: BTreeSet<String>,
    attributes: BTreeMap<String, Value>,
}

impl User {
    /// A user who cannot log in yet, and may do nothing. `id` becomes the principal's.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            password_hash: None,
            digest_secrets: Vec::new(),
            roles: BTreeSet::new(),
            scopes: BTreeSet::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// The stored hash of the password, as [`Accounts::hash`](super::Accounts::hash) made it or another system: see
    /// [`Passwords`](gimmal_security::password::Passwords).
    #[must_use]
    pub fn with_password_hash(mut self, hash: impl Into<String>) -> Self {
        self.password_hash = Some(hash.into());
        self
    }

    /// What Digest needs of the password: one secret for each algorithm that is offered.
    #[must_use]
    pub fn with_digest_secret(mut self, secret: DigestSecret) -> Self {
        self.digest_secrets.push(secret);
        self
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

    /// Sets an attribute, for policies.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// The principal that the user is once proved.
    pub(super) fn principal(self, mechanism: Mechanism, now: u64) -> Principal {
        let principal = Principal::new(self.id, mechanism, now);
        let principal = self.roles.into_iter().fold(principal, Principal::with_role);
        let principal = self.scopes.into_iter().fold(principal, Principal::with_scope);
        self.attributes
            .into_iter()
            .fold(principal, |principal, (name, value)| principal.with_attribute(name, value))
    }

    pub(super) fn digest_secret(&self, algorithm: DigestAlgorithm) -> Option<&DigestSecret> {
        self.digest_secrets.iter().find(|secret| secret.algorithm() == algorithm)
    }
}

/// Without what is secret.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("roles", &self.roles).finish_non_exhaustive()
    }
}

/// Where the users of a service are kept: a database, a directory, a file.
///
/// An error is answered with 503: nobody is let in because a store could not tell. Ask what blocks on
/// [`gimmal::blocking`](crate::blocking).
///
/// ```
/// use gimmal::BoxError;
/// use gimmal::auth::{User, UserStore};
///
/// struct Table(Vec<(&'static str, String)>);
///
/// impl UserStore for Table {
///     async fn find(&self, name: &str) -> Result<Option<User>, BoxError> {
///         let row = self.0.iter().find(|(known, _)| *known == name);
///         Ok(row.map(|(name, hash)| User::new(*name).with_password_hash(hash)))
///     }
/// }
/// ```
pub trait UserStore: Send + Sync + 'static {
    /// The user of that name; `None` if there is none.
    fn find(&self, name: &str) -> impl Future<Output = Result<Option<User>, BoxError>>;

    /// The user whose name has this hash, for Digest with
    /// [`with_userhash`](gimmal_security::digest::DigestScheme::with_userhash). Without it there is none.
    fn find_by_userhash(
        &self,
        userhash: &str,
        algorithm: DigestAlgorithm,
    ) -> impl Future<Output = Result<Option<User>, BoxError>> {
        let _ = (userhash, algorithm);
        async { Ok(None) }
    }

    /// Replaces the hash `old` by `new`, which is of the same password, and gives whether it did.
    ///
    /// Do nothing if another hash than `old` is stored by now: the password was changed meanwhile, and must not come
    /// back. In SQL that is `UPDATE .. WHERE id = .. AND password_hash = old`. Without this method the old hash stays.
    fn replace_password_hash(
        &self,
        id: &str,
        old: &str,
        new: &str,
    ) -> impl Future<Output = Result<bool, BoxError>> {
        let _ = (id, old, new);
        async { Ok(false) }
    }

    /// The one form of a name, under which attempts to log in are counted. A store in which `Alice` and `alice` are one
    /// user has to say so, or each way to write the name has guesses of its own.
    fn canonical<'a>(&self, name: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(name)
    }
}

/// A store whose type is known to itself alone.
pub(super) trait DynUserStore: Send + Sync {
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<User>, BoxError>>;
    fn find_by_userhash<'a>(
        &'a self,
        userhash: &'a str,
        algorithm: DigestAlgorithm,
    ) -> BoxFuture<'a, Result<Option<User>, BoxError>>;
    fn replace_password_hash<'a>(
        &'a self,
        id: &'a str,
        old: &'a str,
        new: &'a str,
    ) -> BoxFuture<'a, Result<bool, BoxError>>;
    fn canonical<'a>(&self, name: &'a str) -> Cow<'a, str>;
}

impl<S: UserStore> DynUserStore for S {
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<User>, BoxError>> {
        Box::pin(UserStore::find(self, name))
    }

    fn find_by_userhash<'a>(
        &'a self,
        userhash: &'a str,
        algorithm: DigestAlgorithm,
    ) -> BoxFuture<'a, Result<Option<User>, BoxError>> {
        Box::pin(UserStore::find_by_userhash(self, userhash, algorithm))
    }

    fn replace_password_hash<'a>(
        &'a self,
        id: &'a str,
        old: &'a str,
        new: &'a str,
    ) -> BoxFuture<'a, Result<bool, BoxError>> {
        Box::pin(UserStore::replace_password_hash(self, id, old, new))
    }

    fn canonical<'a>(&self, name: &'a str) -> Cow<'a, str> {
        UserStore::canonical(self, name)
    }
}

/// Users in memory, by their ids: for a service with a handful of them, and for tests.
#[derive(Debug)]
pub struct MemoryUsers(RwLock<HashMap<String, User>>);

impl MemoryUsers {
    /// These users. Of two with one id, the later one counts.
    #[must_use]
    pub fn new(users: impl IntoIterator<Item = User>) -> Self {
        Self(RwLock::new(users.into_iter().map(|user| (user.id.clone(), user)).collect()))
    }
}

impl UserStore for MemoryUsers {
    async fn find(&self, name: &str) -> Result<Option<User>, BoxError> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    async fn replace_password_hash(&self, id: &str, old: &str, new: &str) -> Result<bool, BoxError> {
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let user = users.get_mut(id).filter(|user| user.password_hash.as_deref() == Some(old));
        Ok(user.map(|user| user.password_hash = Some(new.to_owned())).is_some())
    }
}
