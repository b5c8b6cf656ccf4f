//! Sessions in memory, for one process.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{SessionChange, SessionKey, SessionRecord, SessionStore, SessionStoreError};

/// A power of two, many times the number of cores.
const SHARDS: usize = 64;

/// Sessions that one label may have, unless [`MemorySessionStore::with_sessions_per_principal_max`] says otherwise.
const SESSIONS_PER_LABEL_MAX: usize = 100;

/// A part of the sessions.
#[derive(Debug, Default)]
struct Shard {
    sessions: HashMap<SessionKey, SessionRecord>,
    /// How many of them belong to visitors.
    visitor_count: usize,
}

impl Shard {
    fn insert(&mut self, key: SessionKey, record: SessionRecord) -> Option<SessionRecord> {
        self.visitor_count += usize::from(record.principal.is_none());
        let before = self.sessions.insert(key, record);
        self.visitor_count -= before.as_ref().map_or(0, |before| usize::from(before.principal.is_none()));
        before
    }

    fn remove(&mut self, key: &SessionKey) -> Option<SessionRecord> {
        let removed = self.sessions.remove(key)?;
        self.visitor_count -= usize::from(removed.principal.is_none());
        Some(removed)
    }

    fn remove_expired(&mut self, now: u64) -> Vec<(SessionKey, SessionRecord)> {
        let removed: Vec<_> = self.sessions.extract_if(|_, record| record.expires_at <= now).collect();
        self.visitor_count -= removed.iter().filter(|(_, record)| record.principal.is_none()).count();
        removed
    }

    /// Removes the visitor who was away longest. Visitors have no labels.
    fn remove_visitor(&mut self) -> Option<SessionRecord> {
        if self.visitor_count == 0 {
            return None;
        }
        let visitors = self.sessions.iter().filter(|(_, record)| record.principal.is_none());
        let longest_away = visitors.min_by_key(|(_, record)| record.seen_at).map(|(key, _)| *key)?;
        self.remove(&longest_away)
    }
}

/// Keys of sessions by label.
type Labelled = HashMap<String, HashSet<SessionKey>>;

/// A bounded store in memory, which all cores share: sessions end with the process.
///
/// It is cut into shards, each under a lock of its own that is held for the time of a look-up. When it is full, a new
/// session takes the place of an expired one, then of a visitor who was away long; who is logged in is never thrown out
/// by others. Of one principal there are 100 sessions at most: a new one ends the one that was used least lately.
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
    per_label_max: usize,
    session_count: AtomicUsize,
    shards: [Mutex<Shard>; SHARDS],
    /// When all shards were last searched for expired sessions because the store was full.
    swept_at: AtomicU64,
    /// Held while a session with labels begins, so that whoever looks for a label finds the session or comes before it.
    /// It may be held while a shard is locked, but never the other way round.
    labelled: Mutex<Labelled>,
}

impl MemorySessionStore {
    /// A store for at most `sessions_max` sessions.
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self {
            sessions_max,
            per_label_max: SESSIONS_PER_LABEL_MAX,
            session_count: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
            swept_at: AtomicU64::new(0),
            labelled: Mutex::default(),
        }
    }

    /// Sets how many sessions one principal may have, at least 1.
    ///
    /// The same goes for the sessions that begin in one session of an OpenID provider.
    #[must_use]
    pub fn with_sessions_per_principal_max(mut self, sessions_max: usize) -> Self {
        self.per_label_max = sessions_max.max(1);
        self
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

    fn shard_number(key: &SessionKey) -> usize {
        // The keys are hashes already.
        usize::from(key.as_bytes()[0]) % SHARDS
    }

    fn shard(&self, key: &SessionKey) -> MutexGuard<'_, Shard> {
        lock(&self.shards[Self::shard_number(key)])
    }

    /// Counts one session more, and makes room for it if it must be.
    fn reserve(&self, key: &SessionKey, now: u64, labelled: &mut Labelled) -> Result<(), SessionStoreError> {
        if self.session_count.fetch_add(1, Ordering::Relaxed) < self.sessions_max {
            return Ok(());
        }
        self.remove_expired_once(now, labelled);
        if self.len() <= self.sessions_max || self.remove_visitor(Self::shard_number(key)) {
            return Ok(());
        }
        self.session_count.fetch_sub(1, Ordering::Relaxed);
        Err(SessionStoreError::Full)
    }

    /// Looks for expired sessions everywhere, once a second at most: a flood must not make each insertion search all.
    fn remove_expired_once(&self, now: u64, labelled: &mut Labelled) {
        if self.swept_at.swap(now, Ordering::Relaxed) == now {
            return;
        }
        for shard in &self.shards {
            let removed = lock(shard).remove_expired(now);
            self.forget(&removed, labelled);
        }
    }

    /// Removes a visitor who was away long, from the first shard that has one.
    fn remove_visitor(&self, first: usize) -> bool {
        let (before, from) = self.shards.split_at(first);
        let is_removed = from.iter().chain(before).any(|shard| lock(shard).remove_visitor().is_some());
        self.session_count.fetch_sub(usize::from(is_removed), Ordering::Relaxed);
        is_removed
    }

    /// Ends the least lately used sessions of a label until there is room for one more.
    fn make_room_of_label(&self, label: &str, labelled: &mut Labelled) {
        loop {
            let Some(keys) = labelled.get(label).filter(|keys| keys.len() >= self.per_label_max) else {
                return;
            };
            let seen_at = |key: &SessionKey| self.shard(key).sessions.get(key).map(|record| record.seen_at);
            let Some(oldest) = keys.iter().min_by_key(|key| seen_at(key)).copied() else { return };
            let removed = self.shard(&oldest).remove(&oldest);
            match removed {
                Some(record) => self.forget(&[(oldest, record)], labelled),
                // It was removed just now, and its labels are about to be.
                None => remove_label(label, &oldest, labelled),
            }
        }
    }

    /// Counts removed sessions, and forgets their labels.
    fn forget(&self, removed: &[(SessionKey, SessionRecord)], labelled: &mut Labelled) {
        self.session_count.fetch_sub(removed.len(), Ordering::Relaxed);
        for (key, record) in removed {
            for label in &record.labels {
                remove_label(label, key, labelled);
            }
        }
    }
}

fn remove_label(label: &str, key: &SessionKey, labelled: &mut Labelled) {
    if let Some(keys) = labelled.get_mut(label) {
        keys.remove(key);
        if keys.is_empty() {
            labelled.remove(label);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SessionStore for MemorySessionStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<SessionRecord>, SessionStoreError> {
        Ok(self.shard(key).sessions.get(key).cloned())
    }

    async fn insert(&self, key: &SessionKey, record: &SessionRecord) -> Result<(), SessionStoreError> {
        let labelled = &mut *lock(&self.labelled);
        for label in &record.labels {
            self.make_room_of_label(label, labelled);
        }
        self.reserve(key, record.seen_at, labelled)?;
        for label in &record.labels {
            labelled.entry(label.clone()).or_default().insert(*key);
        }
        let before = self.shard(key).insert(*key, record.clone());
        self.session_count.fetch_sub(usize::from(before.is_some()), Ordering::Relaxed);
        Ok(())
    }

    async fn update(&self, key: &SessionKey, change: &SessionChange) -> Result<bool, SessionStoreError> {
        let mut shard = self.shard(key);
        let Some(record) = shard.sessions.get_mut(key) else { return Ok(false) };
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
        self.forget(&[(*key, record)], &mut lock(&self.labelled));
        Ok(true)
    }

    async fn list(&self, label: &str) -> Result<Vec<(SessionKey, SessionRecord)>, SessionStoreError> {
        let labelled = lock(&self.labelled);
        let keys: Vec<SessionKey> = labelled.get(label).into_iter().flatten().copied().collect();
        drop(labelled);
        let with_record = |key: SessionKey| Some((key, self.shard(&key).sessions.get(&key)?.clone()));
        Ok(keys.into_iter().filter_map(with_record).collect())
    }

    async fn remove_expired(&self, now: u64) -> Result<usize, SessionStoreError> {
        let mut removed_count = 0;
        for shard in &self.shards {
            let removed = lock(shard).remove_expired(now);
            self.forget(&removed, &mut lock(&self.labelled));
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
        assert!(lock(&store.labelled).is_empty() && store.is_empty());
    }

    /// A key in a shard of its own.
    fn key_in(shard: u8, last: u8) -> SessionKey {
        let mut bytes = *key(last).as_bytes();
        bytes[0] = shard;
        SessionKey::from_bytes(bytes)
    }

    /// Visitors in other shards make room for who logs in, whichever shard the new session falls into.
    #[tokio::test]
    async fn flood_of_visitors_in_other_shards_locks_nobody_out() {
        let store = MemorySessionStore::new(3);
        store.insert(&key_in(0, 0), &record(10, 100, Some("alice"))).await.unwrap();
        for shard in 1..60 {
            store.insert(&key_in(shard, 0), &record(20, 100, None)).await.unwrap();
            assert!(store.len() <= 3);
        }
        for (shard, user) in [(0, "bob"), (63, "carol")] {
            store.insert(&key_in(shard, 1), &record(20, 100, Some(user))).await.unwrap();
        }
        let full = store.insert(&key_in(5, 1), &record(20, 100, None)).await;
        assert_eq!((full, store.len()), (Err(SessionStoreError::Full), 3));
        assert!(store.load(&key_in(0, 0)).await.unwrap().is_some());
    }

    /// An expired session in any shard makes room.
    #[tokio::test]
    async fn expired_sessions_of_other_shards_make_room() {
        let store = MemorySessionStore::new(2);
        store.insert(&key_in(1, 0), &record(10, 100, Some("alice"))).await.unwrap();
        store.insert(&key_in(2, 0), &record(10, 100, Some("bob"))).await.unwrap();
        store.insert(&key_in(3, 0), &record(100, 300, Some("carol"))).await.unwrap();
        assert_eq!((store.len(), store.list("principal:alice").await.unwrap().len()), (1, 0));
    }

    /// Who logs in often drives out sessions of his own, and nobody else's.
    #[tokio::test]
    async fn one_account_cannot_fill_the_store() {
        let store = MemorySessionStore::new(20).with_sessions_per_principal_max(5);
        store.insert(&key_in(1, 200), &record(1, 1000, Some("bob"))).await.unwrap();
        for number in 0..100 {
            let key = key_in(number, number);
            store.insert(&key, &record(10 + u64::from(number), 1000, Some("alice"))).await.unwrap();
        }
        let mut kept: Vec<u64> =
            store.list("principal:alice").await.unwrap().iter().map(|(_, record)| record.seen_at).collect();
        kept.sort_unstable();
        assert_eq!((kept, store.len()), ((105..110).collect(), 6));
        assert!(store.load(&key_in(1, 200)).await.unwrap().is_some());
    }

    /// Either the log-out finds the session of a login that is under way, or the session begins after it.
    #[test]
    fn a_session_is_never_in_the_store_without_its_label() {
        let store = MemorySessionStore::new(1000);
        let is_running = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..2000_u32 {
                    let mut bytes = [0; 32];
                    bytes[..4].copy_from_slice(&number.to_le_bytes());
                    let key = SessionKey::from_bytes(bytes);
                    let record = record(1, 100, Some("alice"));
                    let inserted = store.insert(&key, &record);
                    futures_util::FutureExt::now_or_never(inserted).unwrap().unwrap();
                    futures_util::FutureExt::now_or_never(store.remove(&key)).unwrap().unwrap();
                }
                is_running.store(false, Ordering::Relaxed);
            });
            while is_running.load(Ordering::Relaxed) {
                // What a log-out everywhere would look up at this moment.
                let labelled = lock(&store.labelled);
                let known: HashSet<_> = labelled.get("principal:alice").cloned().unwrap_or_default();
                for shard in &store.shards {
                    assert!(lock(shard).sessions.keys().all(|key| known.contains(key)));
                }
            }
        });
    }

    #[test]
    fn all_cores_share_it() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<MemorySessionStore>();
    }
}
