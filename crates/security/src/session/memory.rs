//! Sessions in memory, for one process.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{SessionChange, SessionKey, SessionRecord, SessionStore, SessionStoreError};

/// A power of two, many times the number of cores.
const SHARDS: usize = 64;

type Shard = HashMap<SessionKey, SessionRecord>;

/// A bounded store in memory, which all cores share: sessions end with the process.
///
/// It is cut into shards, each under a lock of its own that is held for the time of a look-up. When it is full, a new
/// session takes the place of an expired one, then of the visitor who was away longest; who is logged in is never
/// thrown out by others.
///
/// ```
/// use std::sync::Arc;
/// use gimmal_security::session::{MemorySessionStore, SessionOptions, Sessions};
///
/// let store = Arc::new(MemorySessionStore::new(100_000));
/// let sessions_of_this_core = Sessions::new(Arc::clone(&store), SessionOptions::default());
/// ```
#[derive(Debug)]
pub struct MemorySessionStore {
    sessions_max: usize,
    session_count: AtomicUsize,
    shards: [Mutex<Shard>; SHARDS],
    /// Keys by label. An entry may outlive its session for a moment.
    labelled: [Mutex<HashMap<String, HashSet<SessionKey>>>; SHARDS],
}

impl MemorySessionStore {
    /// A store for at most `sessions_max` sessions.
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self {
            sessions_max,
            session_count: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
            labelled: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The number of sessions, expired ones that nobody missed yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.session_count.load(Ordering::Relaxed)
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &SessionKey) -> MutexGuard<'_, Shard> {
        // The keys are hashes already.
        lock(&self.shards[usize::from(key.as_bytes()[0]) % SHARDS])
    }

    fn labelled(&self, label: &str) -> MutexGuard<'_, HashMap<String, HashSet<SessionKey>>> {
        let sum =
            label.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        lock(&self.labelled[sum % SHARDS])
    }

    /// Makes room in a shard for one more session, if it must be.
    fn make_room(
        &self,
        shard: &mut Shard,
        now: u64,
    ) -> Result<Vec<(SessionKey, SessionRecord)>, SessionStoreError> {
        if self.len() < self.sessions_max {
            return Ok(Vec::new());
        }
        let mut removed: Vec<_> = shard.extract_if(|_, record| record.expires_at <= now).collect();
        if removed.is_empty() {
            let visitors = shard.iter().filter(|(_, record)| record.principal.is_none());
            let longest_away = visitors.min_by_key(|(_, record)| record.seen_at).map(|(key, _)| *key);
            let key = longest_away.ok_or(SessionStoreError::Full)?;
            removed.extend(shard.remove(&key).map(|record| (key, record)));
        }
        self.session_count.fetch_sub(removed.len(), Ordering::Relaxed);
        Ok(removed)
    }

    /// Forgets the labels of removed sessions. No shard may be locked.
    fn forget_labels(&self, removed: &[(SessionKey, SessionRecord)]) {
        for (key, record) in removed {
            for label in &record.labels {
                let mut labelled = self.labelled(label);
                if let Some(keys) = labelled.get_mut(label) {
                    keys.remove(key);
                    if keys.is_empty() {
                        labelled.remove(label);
                    }
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SessionStore for MemorySessionStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<SessionRecord>, SessionStoreError> {
        Ok(self.shard(key).get(key).cloned())
    }

    async fn insert(&self, key: &SessionKey, record: &SessionRecord) -> Result<(), SessionStoreError> {
        let removed = {
            let mut shard = self.shard(key);
            let removed = self.make_room(&mut shard, record.seen_at)?;
            if shard.insert(*key, record.clone()).is_none() {
                self.session_count.fetch_add(1, Ordering::Relaxed);
            }
            removed
        };
        self.forget_labels(&removed);
        for label in &record.labels {
            self.labelled(label).entry(label.clone()).or_default().insert(*key);
        }
        Ok(())
    }

    async fn update(&self, key: &SessionKey, change: &SessionChange) -> Result<bool, SessionStoreError> {
        let mut shard = self.shard(key);
        let Some(record) = shard.get_mut(key) else { return Ok(false) };
        record.seen_at = change.seen_at;
        record.expires_at = change.expires_at;
        for (name, value) in &change.data {
            match value {
                Some(value) => record.data.insert(name.clone(), value.clone()),
                None => record.data.remove(name),
            };
        }
        Ok(true)
    }

    async fn remove(&self, key: &SessionKey) -> Result<bool, SessionStoreError> {
        let Some(record) = self.shard(key).remove(key) else { return Ok(false) };
        self.session_count.fetch_sub(1, Ordering::Relaxed);
        self.forget_labels(&[(*key, record)]);
        Ok(true)
    }

    async fn list(&self, label: &str) -> Result<Vec<(SessionKey, SessionRecord)>, SessionStoreError> {
        let keys: Vec<SessionKey> = self.labelled(label).get(label).into_iter().flatten().copied().collect();
        let with_record = |key: SessionKey| Some((key, self.shard(&key).get(&key)?.clone()));
        Ok(keys.into_iter().filter_map(with_record).collect())
    }

    async fn remove_expired(&self, now: u64) -> Result<usize, SessionStoreError> {
        let mut removed_count = 0;
        for shard in &self.shards {
            let removed: Vec<_> = lock(shard).extract_if(|_, record| record.expires_at <= now).collect();
            self.session_count.fetch_sub(removed.len(), Ordering::Relaxed);
            self.forget_labels(&removed);
            removed_count += removed.len();
        }
        Ok(removed_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mechanism, Principal};

    fn record(seen_at: u64, expires_at: u64, user: Option<&str>) -> SessionRecord {
        SessionRecord {
            created_at: seen_at,
            seen_at,
            expires_at,
            principal: user.map(|user| Principal::new(user, Mechanism::Password, seen_at)),
            data: serde_json::Map::new(),
            labels: user.map(|user| format!("principal:{user}")).into_iter().collect(),
        }
    }

    /// All in one shard.
    fn key(last: u8) -> SessionKey {
        let mut bytes = [0; 32];
        bytes[31] = last;
        SessionKey::from_bytes(bytes)
    }

    /// A flood of visitors without a login throws out visitors, and nobody who is logged in.
    #[tokio::test]
    async fn flood_of_new_sessions() {
        let store = MemorySessionStore::new(3);
        store.insert(&key(1), &record(10, 100, Some("alice"))).await.unwrap();
        for at in 0..50 {
            store.insert(&key(2 + at), &record(20 + u64::from(at), 100, None)).await.unwrap();
            assert!(store.len() <= 3);
        }
        assert!(store.load(&key(1)).await.unwrap().is_some());
        assert!(store.load(&key(51)).await.unwrap().is_some());
        assert!(store.load(&key(2)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_full_store_refuses_and_expiry_makes_room() {
        let store = MemorySessionStore::new(2);
        store.insert(&key(1), &record(10, 100, Some("alice"))).await.unwrap();
        store.insert(&key(2), &record(10, 200, Some("bob"))).await.unwrap();
        let full = store.insert(&key(3), &record(99, 300, Some("carol"))).await;
        assert_eq!(full, Err(SessionStoreError::Full));
        store.insert(&key(3), &record(100, 300, Some("carol"))).await.unwrap();
        assert!(store.load(&key(1)).await.unwrap().is_none());
        assert_eq!(store.list("principal:alice").await.unwrap(), []);
        assert_eq!(store.len(), 2);
    }

    #[tokio::test]
    async fn no_label_is_left_behind() {
        let store = MemorySessionStore::new(10);
        store.insert(&key(1), &record(1, 100, Some("alice"))).await.unwrap();
        store.insert(&key(2), &record(1, 50, Some("alice"))).await.unwrap();
        assert_eq!(store.remove_expired(50).await, Ok(1));
        assert_eq!(store.list("principal:alice").await.unwrap().len(), 1);
        assert_eq!(store.remove(&key(1)).await, Ok(true));
        assert_eq!(store.remove(&key(1)).await, Ok(false));
        assert!(store.labelled.iter().all(|labelled| lock(labelled).is_empty()) && store.is_empty());
    }

    #[test]
    fn all_cores_share_it() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<MemorySessionStore>();
    }
}
