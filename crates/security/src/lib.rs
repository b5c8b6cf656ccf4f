//! The security parts of a server, without the server: who a client is, what it may do, and the defences against
//! what it may try. Everything here works on bytes and header values; sockets, tasks and routers are the caller's.
#![forbid(unsafe_code)]

#[cfg(feature = "cedar")]
pub mod abac;
pub mod allowed_hosts;
pub mod api_key;
pub mod attempts;
pub mod audit;
pub mod basic;
pub mod bearer;
mod blocking;
pub mod certificate_binding;
pub mod client_authentication;
pub mod client_certificate;
pub mod cookies;
pub mod cors;
pub mod credentials;
pub mod csp;
pub mod csrf;
pub mod decompression;
pub mod digest;
pub mod discovery;
mod expiring_map;
mod fetch;
mod finding;
pub mod forwarded;
pub mod introspection;
pub mod json_guard;
pub mod jwt;
mod log_text;
mod mac_key;
#[cfg(feature = "oidc")]
pub mod oidc;
mod origin;
pub mod password;
pub mod path;
mod principal;
pub mod proxy_protocol;
mod random;
pub mod rate_limit;
pub mod rbac;
pub mod redaction;
pub mod redirect;
#[cfg(feature = "redis")]
mod redis_connection;
mod requirement;
pub mod resource_metadata;
pub mod security_headers;
pub mod session;
mod static_value;
mod strict_json;
pub mod tls;

pub use blocking::BlockingPool;
pub use fetch::{FetchError, HttpFetch, RESPONSE_BYTES_MAX};
pub use finding::{Finding, Severity};
pub use log_text::LogText;
pub use mac_key::{MacKey, MacKeyTooShort};
pub use origin::{Origin, OriginError};
pub use principal::{Mechanism, Principal};
pub use requirement::{Refusal, Requirement, RequirementError};
pub use secrecy::{ExposeSecret, SecretSlice, SecretString};

/// The examples of the guides compile.
#[cfg(all(doctest, feature = "oidc"))]
#[doc = include_str!("../../../docs/login.md")]
struct LoginGuide;
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tls.md")]
struct TlsGuide;
