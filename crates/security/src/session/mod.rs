//! Sessions: who a browser is, from one request to the next.
//!
//! The cookie holds 256 random bits, the store only their SHA-256, so that whoever reads the store can take over no
//! session. A session begins when there is something to keep; an id that a client brings and that no store knows is
//! never taken over; a login gives the session a new id. A session ends when it was not used for a while, when it is
//! old, at log-out, or when its owner logs out everywhere.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use gimmal_security::cookies::Cookies;
//! use gimmal_security::session::{MemorySessionStore, SessionOptions, Sessions};
//! use gimmal_security::{Mechanism, Principal};
//!
//! let sessions = Sessions::new(MemorySessionStore::new(1000), SessionOptions::default());
//! let now = 1_800_000_000;
//!
//! // A request without a cookie, in which Alice proves who she is.
//! let mut session = sessions.load(&Cookies::parse([]), now).await?;
//! assert!(session.principal().is_none());
//! session.log_in(Principal::new("alice", Mechanism::Password, now));
//! let set_cookie = sessions.commit(session, now).await?.expect("the session is new");
//!
//! // The next request brings the cookie.
//! let pair = set_cookie.as_bytes().split(|&byte| byte == b';').next().unwrap();
//! let session = sessions.load(&Cookies::parse([pair]), now + 5).await?;
//! assert_eq!(session.principal().unwrap().id(), "alice");
//! # Ok(()) }
//! ```

mod id;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod sessions;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use id::SessionKey;
pub use memory::MemorySessionStore;
#[cfg(feature = "redis")]
pub use redis::RedisSessionStore;
pub use sessions::{
    CookieAfter, Session, SessionError, SessionOptions, SessionOptionsError, SessionSummary, Sessions,
};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteSessionStore;
pub use store::{SessionChange, SessionRecord, SessionStore, SessionStoreError};
