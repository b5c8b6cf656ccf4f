//! Who asks, and what they may do: authentication and authorisation of requests.
//!
//! * [`Sessions`] is the middleware for browsers: it loads the session of a request, and commits it before the
//!   response goes out. A handler takes the [`Session`], and logs people in with [`Login`].
//! * [`Authenticator`] is the middleware for programs: Basic, Digest, Bearer tokens, API keys and client certificates,
//!   as many of them as are switched on. What is refused is answered with one 401 that offers them all.
//! * `OidcLogin` (cargo feature `oidc`) is the login at an OpenID provider, as routes.
//! * Whatever proved it, a handler takes a [`Principal`], or an `Option<Principal>` where nobody need be logged in.
//! * [`Route::require`](crate::Route::require) and [`App::require`](crate::App::require) are the guards, and
//!   [`Authorizer`] asks within a handler. [`App::deny_by_default`](crate::App::deny_by_default) makes a route without a
//!   guard an error at start.
//!
//! Refusals tell the client no more than a status. The reason goes to the [audit log](crate::audit).
//!
//! ```
//! use gimmal::auth::{Accounts, Authenticator, MemoryUsers, Realm, Requirement, User};
//! use gimmal::security::rbac::RoleModel;
//! use gimmal::{App, auth::Principal, get};
//!
//! async fn hello(principal: Principal) -> String {
//!     format!("Hello, {}!", principal.id())
//! }
//!
//! # fn app(hash: &str) -> Result<App, Box<dyn std::error::Error>> {
//! let users = MemoryUsers::new([User::new("alice").with_password_hash(hash).with_role("editor")]);
//! let roles = RoleModel::new().permissions(["articles:write"]).role("editor", [], ["articles:*"]).build()?;
//! let app = App::new()
//!     .deny_by_default()
//!     .roles(roles)
//!     .with(Authenticator::new(Realm::new("Staff only")?).basic(&Accounts::new(users)))
//!     .route("/", get(async || "anybody").require(Requirement::Public))
//!     .route("/hello", get(hello).require(Requirement::Authenticated))
//!     .route("/write", get(async || "done").require(Requirement::permission("articles:write")));
//! # Ok(app) }
//! # app("$argon2id$").unwrap();
//! ```

mod accounts;
mod api_keys;
mod authenticates;
mod authenticator;
mod authorizer;
pub(crate) mod caching;
mod digest;
mod fetcher;
mod guard;
mod login;
mod offer;
#[cfg(feature = "oidc")]
mod oidc;
mod session;
mod tokens;
mod users;

use std::future::Future;
use std::pin::Pin;

pub use accounts::{AccountOptions, Accounts, LoginError};
pub use api_keys::{ApiKeyStore, MemoryApiKeys};
pub use authenticates::Authenticates;
pub use authenticator::Authenticator;
pub use authorizer::Authorizer;
pub(crate) use authorizer::NO_ROLES;
pub use fetcher::{BlockingThreads, Fetcher};
pub use gimmal_security::credentials::Realm;
pub use gimmal_security::session::{MemorySessionStore, SessionOptions};
pub use gimmal_security::{Mechanism, Principal, Requirement};
pub(crate) use guard::Guard;
pub use guard::Refused;
pub use login::Login;
#[cfg(feature = "oidc")]
pub use oidc::OidcLogin;
pub use session::{Session, Sessions};
pub use users::{MemoryUsers, User, UserStore};

/// A future of a store whose type is known to itself alone.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The examples of the guide compile.
#[cfg(all(doctest, feature = "cedar", feature = "oidc", feature = "sqlite"))]
#[doc = include_str!("../../../../docs/authentication.md")]
struct AuthenticationGuide;
