//! Where sessions are kept.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;

use serde_json::{Map, Value};
use thiserror::Error;

use super::SessionKey;
use crate::Principal;

/// A session as a store keeps it. All times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRecord {
    /// When it began.
    pub created_at: u64,
    /// When it was last used, as far as the store was told.
    pub seen_at: u64,
    /// When it ends if it is not used.
    pub expires_at: u64,
    /// Who is logged in. It never changes within a record.
    pub principal: Option<Principal>,
    /// What the application keeps.
    pub data: Map<String, Value>,
    /// By what it can be found. They never change within a record.
    pub labels: Vec<String>,
}

/// What changed in a session since it was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionChange {
    /// The new time of last use, in seconds since 1970.
    pub seen_at: u64,
    /// The new end, in seconds since 1970.
    pub expires_at: u64,
    /// New values by name; `None` removes a value. What is not named stays, so that two requests of one session that
    /// change different values both succeed.
    pub data: BTreeMap<String, Option<Value>>,
}

/// A store of sessions. Each call is atomic.
///
/// The futures need not be [`Send`], but may be. [`Sessions`](super::Sessions) sees to expiry; a store may drop an
/// expired session at any time.
pub trait SessionStore {
    /// The session of that key.
    fn load(
        &self,
        key: &SessionKey,
    ) -> impl Future<Output = Result<Option<SessionRecord>, SessionStoreError>>;

    /// Keeps a new session.
    fn insert(
        &self,
        key: &SessionKey,
        record: &SessionRecord,
    ) -> impl Future<Output = Result<(), SessionStoreError>>;

    /// Changes a session. `false` if there is none of that key: a store never brings back a removed session.
    fn update(
        &self,
        key: &SessionKey,
        change: &SessionChange,
    ) -> impl Future<Output = Result<bool, SessionStoreError>>;

    /// Removes a session; `false` if there was none.
    fn remove(&self, key: &SessionKey) -> impl Future<Output = Result<bool, SessionStoreError>>;

    /// The sessions with that label.
    fn list(
        &self,
        label: &str,
    ) -> impl Future<Output = Result<Vec<(SessionKey, SessionRecord)>, SessionStoreError>>;

    /// Removes the sessions that have ended by `now`, in seconds since 1970, and gives their number. To be called from
    /// time to time.
    fn remove_expired(&self, now: u64) -> impl Future<Output = Result<usize, SessionStoreError>>;
}

/// A store behind a reference or a pointer, such as an [`Arc`](std::sync::Arc) that all cores share.
impl<P> SessionStore for P
where
    P: Deref,
    P::Target: SessionStore,
{
    fn load(
        &self,
        key: &SessionKey,
    ) -> impl Future<Output = Result<Option<SessionRecord>, SessionStoreError>> {
        (**self).load(key)
    }

    fn insert(
        &self,
        key: &SessionKey,
        record: &SessionRecord,
    ) -> impl Future<Output = Result<(), SessionStoreError>> {
        (**self).insert(key, record)
    }

    fn update(
        &self,
        key: &SessionKey,
        change: &SessionChange,
    ) -> impl Future<Output = Result<bool, SessionStoreError>> {
        (**self).update(key, change)
    }

    fn remove(&self, key: &SessionKey) -> impl Future<Output = Result<bool, SessionStoreError>> {
        (**self).remove(key)
    }

    fn list(
        &self,
        label: &str,
    ) -> impl Future<Output = Result<Vec<(SessionKey, SessionRecord)>, SessionStoreError>> {
        (**self).list(label)
    }

    fn remove_expired(&self, now: u64) -> impl Future<Output = Result<usize, SessionStoreError>> {
        (**self).remove_expired(now)
    }
}

/// Why a store could not do its work. The answer is 503: without its session a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionStoreError {
    /// As many sessions as there may be, all of them logged in.
    #[error("the session store is full: raise its limit, or shorten the time-outs")]
    Full,
    /// The store cannot be reached, or failed.
    #[error("the session store failed: {0}")]
    Failed(String),
    /// What the store gave is no session.
    #[error("the session store gave what is no session: is something else writing to it?")]
    Corrupt,
}
