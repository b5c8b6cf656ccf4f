//! The security parts of a server, without the server: who a client is, what it may do, and the defences against
//! what it may try. Everything here works on bytes and header values; sockets, tasks and routers are the caller's.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "key sets, discovery and token requests use the rest of it")]
mod fetch;
mod finding;
mod principal;
#[cfg(feature = "tls")]
pub mod tls;

pub use fetch::{FetchError, HttpFetch, RESPONSE_BYTES_MAX};
pub use finding::{Finding, Severity};
pub mod api_key;
pub mod attempts;
pub mod basic;
pub mod client_certificate;
pub mod credentials;
pub mod digest;
mod mac_key;
pub mod password;
mod random;

pub use mac_key::{MacKey, MacKeyTooShort};
pub mod bearer;
mod blocking;
pub mod certificate_binding;
pub mod client_authentication;
pub mod cookies;
pub mod discovery;
mod expiring_map;
mod fetch;
pub mod introspection;
pub mod jwt;
#[cfg(feature = "oidc")]
pub mod oidc;
pub mod resource_metadata;
pub mod session;
mod strict_json;

pub use blocking::BlockingPool;
pub use fetch::{FetchError, HttpFetch, RESPONSE_BYTES_MAX};
#[cfg(feature = "cedar")]
pub mod abac;
pub mod allowed_hosts;
pub mod audit;
pub mod cors;
pub mod csp;
pub mod csrf;
pub mod decompression;
pub mod forwarded;
pub mod json_guard;
mod log_text;
mod origin;
pub mod path;
pub mod proxy_protocol;
pub mod rate_limit;
pub mod rbac;
pub mod redaction;
pub mod redirect;
mod requirement;
pub mod security_headers;

pub use log_text::LogText;
pub use origin::{Origin, OriginError};
pub use principal::{Mechanism, Principal};
pub use requirement::{Refusal, Requirement, RequirementError};
pub use secrecy::{ExposeSecret, SecretSlice, SecretString};

/// The examples of the guide compile.
#[cfg(all(doctest, feature = "oidc"))]
#[doc = include_str!("../../../docs/login.md")]
struct LoginGuide;
