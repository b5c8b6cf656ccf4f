//! Sessions in an SQLite file.

#[macro_use]
#[allow(unreachable_pub, reason = "shared by test targets")]
mod session;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gimmal_security::BlockingPool;
use gimmal_security::session::{
    SessionOptions, SessionStore, SessionStoreError, Sessions, SqliteSessionStore,
};
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
