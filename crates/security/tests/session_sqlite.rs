//! Sessions in an SQLite file.

#[macro_use]
#[allow(unreachable_pub, reason = "shared by test targets")]
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gimmal_security::session::{
    SessionKey, SessionOptions, SessionRecord, SessionStore, SessionStoreError, Sessions, SqliteSessionStore,
};
use gimmal_security::{BlockingPool, Mechanism, Principal};
use tempfile::TempDir;

struct Tokio;

impl BlockingPool for Tokio {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// A pool that takes no work.
struct Full;

impl BlockingPool for Full {
    async fn run<T: Send + 'static>(&self, _work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        None
    }
}

fn open(directory: &TempDir) -> SqliteSessionStore<Tokio> {
    SqliteSessionStore::open(directory.path().join("sessions.db"), Tokio).unwrap()
}

session_tests!(tempfile::tempdir().unwrap(), open);

/// Whoever copies the files finds nothing that a cookie could hold.
#[tokio::test]
async fn theft_by_store_dump() {
    let directory = tempfile::tempdir().unwrap();
    let id = session::id_of_a_stored_session(open(&directory)).await;
    let mut dump = Vec::new();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        dump.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let holds = |text: &[u8]| dump.windows(text.len()).any(|window| window == text);
    assert!(holds(b"alice"));
    assert!(!holds(id.as_bytes()) && !holds(&URL_SAFE_NO_PAD.decode(id).unwrap()));
}

#[tokio::test]
async fn sessions_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    session::id_of_a_stored_session(open(&directory)).await;
    let (store, now) = (open(&directory), session::now());
    let sessions = Sessions::new(store, SessionOptions::default());
    assert_eq!(sessions.list("alice", now).await.unwrap().len(), 1);
    assert_eq!(sessions.store().remove_expired(now).await, Ok(0));
    assert_eq!(sessions.store().remove_expired(now + 3600).await, Ok(1));
    assert_eq!(sessions.list("alice", now).await.unwrap(), []);
}

/// Counts the threads that are at work at the same time.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl BlockingPool for Counted {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let count = Arc::clone(&self.0);
        let work = move || {
            count.fetch_add(1, Ordering::Relaxed);
            let output = work();
            count.fetch_sub(1, Ordering::Relaxed);
            output
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// Another process holds the file for writing: requests that only read their session go on, and those that write wait
/// without taking all threads for blocking work.
#[tokio::test]
async fn a_write_holds_up_no_read_and_few_threads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let threads = Counted::default();
    let store = SqliteSessionStore::open(&path, threads.clone()).unwrap();
    let record = SessionRecord {
        created_at: 1,
        seen_at: 1,
        expires_at: u64::from(u32::MAX),
        principal: Some(Principal::new("alice", Mechanism::Password, 1)),
        data: serde_json::Map::new(),
        labels: vec!["principal:alice".to_owned()],
    };
    let key = SessionKey::from_bytes([7; 32]);
    store.insert(&key, &record).await.unwrap();

    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.load(&key).await, Ok(Some(record)));
    assert_eq!(store.list("principal:alice").await.map(|sessions| sessions.len()), Ok(1));
    let removals: Vec<_> = (0..20)
        .map(|last| {
            let store = store.clone();
            tokio::spawn(async move { store.remove(&SessionKey::from_bytes([last; 32])).await })
        })
        .collect();
    while threads.0.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(threads.0.load(Ordering::Relaxed), 1, "the others wait without a thread");
    other.execute_batch("COMMIT").unwrap();
    for (last, removal) in removals.into_iter().enumerate() {
        assert_eq!(removal.await.unwrap(), Ok(last == 7));
    }
    // What was written is seen at once.
    assert_eq!(store.load(&key).await, Ok(None));
}

/// Without the store nobody is let through.
#[tokio::test]
async fn flood_of_blocking_work() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteSessionStore::open(directory.path().join("sessions.db"), Full).unwrap();
    assert!(matches!(store.list("x").await, Err(SessionStoreError::Failed(_))));
}

#[test]
fn a_file_that_is_no_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    std::fs::write(&path, "not a database, but long enough to be looked at as if it were one".repeat(100))
        .unwrap();
    assert!(matches!(SqliteSessionStore::open(path, Tokio), Err(SessionStoreError::Failed(_))));
}
