//! The security parts of a server, without the server: who a client is, what it may do, and the defences against
//! what it may try. Everything here works on bytes and header values; sockets, tasks and routers are the caller's.
#![forbid(unsafe_code)]

mod finding;
mod principal;
#[cfg(feature = "tls")]
pub mod tls;

pub use finding::{Finding, Severity};
pub use principal::{Mechanism, Principal};
pub use secrecy::{ExposeSecret, SecretSlice, SecretString};
