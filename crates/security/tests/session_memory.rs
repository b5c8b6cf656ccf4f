//! Sessions in memory.

#[macro_use]
#[allow(unreachable_pub, reason = "shared by test targets")]
mod session;

use std::sync::Arc;

use gimmal_security::session::MemorySessionStore;

session_tests!((), |_: &()| MemorySessionStore::new(1000));

/// Whoever reads the store's memory finds nothing that a cookie could hold.
#[tokio::test]
async fn theft_by_store_dump() {
    let store = Arc::new(MemorySessionStore::new(10));
    let id = session::id_of_a_stored_session(Arc::clone(&store)).await;
    let dump = format!("{store:?}");
    assert!(dump.contains("alice"));
    assert!(!dump.contains(&id));
}
