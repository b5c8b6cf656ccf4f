//! API keys over a store.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{PoisonError, RwLock};

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

    /// Stores when a key was last used: once a minute at most. Without it that is not kept.
    fn record_use(&self, key: &StoredApiKey) -> impl Future<Output = Result<(), BoxError>> {
        let _ = key;
        async { Ok(()) }
    }
}

/// A store whose type is known to itself alone.
trait DynApiKeyStore: Send + Sync {
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredApiKey>, BoxError>>;
    fn record_use<'a>(&'a self, key: &'a StoredApiKey) -> BoxFuture<'a, Result<(), BoxError>>;
}

impl<S: ApiKeyStore> DynApiKeyStore for S {
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredApiKey>, BoxError>> {
        Box::pin(ApiKeyStore::find(self, id))
    }

    fn record_use<'a>(&'a self, key: &'a StoredApiKey) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(ApiKeyStore::record_use(self, key))
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

    /// Adds a key, or puts it in the place of the one with its id: as after a rotation.
    pub fn insert(&self, key: StoredApiKey) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key.id().to_owned(), key);
    }
}

impl ApiKeyStore for MemoryApiKeys {
    async fn find(&self, id: &str) -> Result<Option<StoredApiKey>, BoxError> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned())
    }

    async fn record_use(&self, key: &StoredApiKey) -> Result<(), BoxError> {
        self.insert(key.clone());
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
        if stored.record_use(unix_seconds())
            && let Err(error) = self.store.record_use(&stored).await
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
