//! The defences of a web server: middleware that blunts known attacks, each a line, or all of them in one.
//!
//! [`Defences`] puts them around an app in the order in which they must stand; each can be adjusted or left out:
//!
//! ```
//! use gimmal::App;
//! use gimmal::defence::{AllowedHosts, Defences, Quota, RateLimit};
//!
//! let app = App::new().get("/", async || "Hello, World!").with(
//!     Defences::new()
//!         .allowed_hosts(AllowedHosts::new(["example.org", "localhost"])?)
//!         .rate_limit(RateLimit::by_address(Quota::per_minute("all", 600)?)),
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Order
//! From the outside to the inside. Where a part of an app has rules of its own, [`Defences::none`] begins without any:
//!
//! | | defence | blunts | why there |
//! | --- | --- | --- | --- |
//! | 1 | [`TrustedProxies`] | spoofed client addresses | the others ask it who the client is, and over which scheme |
//! | 2 | [`SecurityHeaders`] | injected script, clickjacking, sniffing, leaks, downgrades | refusals have the headers too |
//! | 3 | [`AllowedHosts`] | poisoned `Host` fields | nothing is done for a name that is not the server's |
//! | 4 | [`Cors`] | reading across origins | a page may read why it was refused further in |
//! | 5 | [`RateLimit`] | floods, guessing | before anything that costs |
//! | 6 | [`CsrfProtection`] | requests that another site forges | before whatever changes something |
//!
//! Authentication comes after all of them, and after it a [`RateLimit::by_principal`]. What a middleware refuses, it
//! answers by itself: 400, 403, 421 or 429.
//!
//! The rules are those of `gimmal-security`; what is more open in them than most need is told by
//! [`Server::check`](crate::Server::check).

mod allowed_hosts;
mod around;
pub(crate) mod client_address;
mod cors;
mod csrf;
mod defences;
mod rate_limit;
mod security_headers;

pub use client_address::ClientAddress;
pub use csrf::{CsrfProtection, CsrfToken};
pub use defences::Defences;
pub use rate_limit::RateLimit;

pub use gimmal_security::Origin;
pub use gimmal_security::allowed_hosts::{AllowedHostError, AllowedHosts};
pub use gimmal_security::cors::{Cors, CorsBuilder, CorsError};
pub use gimmal_security::csp::{Csp, CspBuilder, CspError, Directive, Nonce, Source};
pub use gimmal_security::csrf::{CsrfTokenError, CsrfTokens, OriginCheck};
pub use gimmal_security::forwarded::{Scheme, TrustedProxies};
pub use gimmal_security::json_guard::JsonLimits;
pub use gimmal_security::path::{PathError, SafePath};
#[cfg(feature = "redis")]
pub use gimmal_security::rate_limit::RedisStore;
pub use gimmal_security::rate_limit::{Quota, QuotaError, Store, StoreError};
pub use gimmal_security::redirect::RedirectTargets;
pub use gimmal_security::security_headers::{
    Framing, OpenerPolicy, PermissionsPolicy, ReferrerPolicy, ResourcePolicy, SecurityHeaders,
};
