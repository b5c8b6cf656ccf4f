//! API keys over a store.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use gimmal_security::api_key::{ApiKey, ApiKeyError, StoredApiKey};
use gimmal_security::{Mechanism, Principal};

use super::BoxFuture;
use super::offer::Rejection;
use crate::body::BoxError;
use crate::clock::unix_seconds;

/// Where the API keys of a service are kept. An error is answered with 503.
pub trait ApiKeyStore: Send + Sync + 'static {
    /// The key of that id; `None` if there is none.
    fn find(&self, id: &str) -> impl Future<Output = Result<Option<StoredApiKey>, BoxError>>;

    /// Stores that a key was used `at` seconds since 1970; once a minute at most.
    ///
    /// Change this time alone: a key that was revoked or removed since it was found must stay so. Without this method
    /// the time is not kept.
    fn record_use(&self, id: &str, at: u64) -> impl Future<Output = Result<(), BoxError>> {
        let _ = (id, at);
        async { Ok(()) }
    }
}

/// A store whose type is known to itself alone.
trait DynApiKeyStore: Send + Sync {
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredApiKey>, BoxError>>;
    fn record_use<'a>(&'a self, id: &'a str, at: u64) -> BoxFuture<'a, Result<(), BoxError>>;
}

impl<S: ApiKeyStore> DynApiKeyStore for S {
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredApiKey>, BoxError>> {
        Box::pin(ApiKeyStore::find(self, id))
    }

    fn record_use<'a>(&'a self, id: &'a str, at: u64) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(ApiKeyStore::record_use(self, id, at))
    }
}

/// API keys in memory, by their ids.
#[derive(Debug)]
pub struct MemoryApiKeys(RwLock<HashMap<String, StoredApiKey>>);

impl MemoryApiKeys {
    /// These keys.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = StoredApiKey>) -> Self {
        Self(RwLock::new(keys.into_iter().map(|key| (key.id().to_owned(), key)).collect()))
    }

    /// Adds a key, or replaces the one with its id, as after a rotation.
    ///
    /// A key that was revoked stays revoked, whatever replaces it: the new one may be made from an older copy.
    pub fn insert(&self, mut key: StoredApiKey) {
        let mut keys = self.keys_mut();
        if keys.get(key.id()).is_some_and(StoredApiKey::is_revoked) {
            key.revoke();
        }
        keys.insert(key.id().to_owned(), key);
    }

    /// Revokes the key of that id for good; `false` if there is none.
    pub fn revoke(&self, id: &str) -> bool {
        self.keys_mut().get_mut(id).map(StoredApiKey::revoke).is_some()
    }

    /// Revokes all keys of an owner for good, and gives their number: as when the owner's password changes.
    pub fn revoke_all_of(&self, owner: &str) -> usize {
        let mut keys = self.keys_mut();
        let of_owner = keys.values_mut().filter(|key| key.owner() == owner && !key.is_revoked());
        of_owner.map(StoredApiKey::revoke).count()
    }

    fn keys_mut(&self) -> RwLockWriteGuard<'_, HashMap<String, StoredApiKey>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiKeyStore for MemoryApiKeys {
    async fn find(&self, id: &str) -> Result<Option<StoredApiKey>, BoxError> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned())
    }

    async fn record_use(&self, id: &str, at: u64) -> Result<(), BoxError> {
        if let Some(key) = self.keys_mut().get_mut(id) {
            let _ = key.record_use(at);
        }
        Ok(())
    }
}

pub(super) struct ApiKeys {
    prefix: String,
    store: Box<dyn DynApiKeyStore>,
}

impl ApiKeys {
    pub(super) fn new(prefix: &str, store: impl ApiKeyStore) -> Self {
        Self { prefix: prefix.to_owned(), store: Box::new(store) }
    }

    /// Whether a Bearer token is one of these keys rather than a token of another kind.
    pub(super) fn owns(&self, token: &str) -> bool {
        token.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.starts_with('_'))
    }

    pub(super) async fn authenticate(&self, text: &[u8]) -> Result<Principal, Rejection> {
        let refused = |error: ApiKeyError| Rejection::Refused {
            mechanism: Some(Mechanism::ApiKey),
            reason: error.to_string(),
            bearer: None,
            is_stale: false,
        };
        let key = ApiKey::parse(&self.prefix, text).map_err(refused)?;
        let stored = self.store.find(key.id()).await.map_err(Rejection::Unavailable)?;
        let mut stored = stored.ok_or_else(|| refused(ApiKeyError::Wrong))?;
        let principal = stored.verify(&key, unix_seconds()).map_err(refused)?;
        let now = unix_seconds();
        // The copy is dropped: what is stored may have been revoked since it was made.
        if stored.record_use(now)
            && let Err(error) = self.store.record_use(stored.id(), now).await
        {
            tracing::warn!(error = &*error as &dyn std::error::Error, "the use of an API key was not stored");
        }
        Ok(principal)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
