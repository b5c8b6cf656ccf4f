//! The security parts of a server, without the server: who a client is, what it may do, and the defences against
//! what it may try. Everything here works on bytes and header values; sockets, tasks and routers are the caller's.
#![forbid(unsafe_code)]

#[cfg(feature = "cedar")]
pub mod abac;
pub mod allowed_hosts;
pub mod audit;
pub mod cors;
pub mod csp;
pub mod csrf;
pub mod decompression;
mod finding;
pub mod forwarded;
pub mod json_guard;
mod log_text;
mod origin;
pub mod path;
mod principal;
pub mod proxy_protocol;
mod random;
pub mod rate_limit;
pub mod rbac;
pub mod redaction;
pub mod redirect;
mod requirement;
pub mod security_headers;
mod static_value;

pub use finding::{Finding, Severity};
pub use log_text::LogText;
pub use origin::{Origin, OriginError};
pub use principal::{Mechanism, Principal};
pub use requirement::{Refusal, Requirement, RequirementError};
pub use secrecy::{ExposeSecret, SecretSlice, SecretString};
