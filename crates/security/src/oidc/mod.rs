//! Login with OpenID Connect (OpenID Connect Core 1.0, RFC 6749, RFC 7636, RFC 9207, RFC 9700).
//!
//! This server is the relying party: it sends a browser to the provider, which sends it back with a code, and changes
//! the code for tokens that say who the user is.
//!
//! 1. `GET /login`: [`RelyingParty::start_login`] gives a redirect and a cookie.
//! 2. `GET /callback`: [`RelyingParty::finish_login`] takes the query and the cookie, and gives a [`Login`]; its
//!    principal goes into a [`Session`](crate::session::Session).
//! 3. `POST /logout`: the session ends, and [`RelyingParty::logout_location`] sends the browser to the provider, so that
//!    it ends its session too.
//! 4. `POST /backchannel-logout`: the provider says that a user has logged out elsewhere;
//!    [`RelyingParty::check_logout_token`] and [`LogoutToken::end_sessions`] end the sessions here.
//!
//! Only the authorisation code flow is spoken, always with PKCE (S256), `state` and `nonce`. All three are bound to the
//! browser by a sealed cookie, so that nobody can finish a login that another browser began.
//!
//! This is written on [`jwt`](crate::jwt) and not on the `openidconnect` crate: that one brings a second implementation
//! of every signature with it (its RSA has an open timing flaw, RUSTSEC-2023-0071), fetches and caches no keys, and
//! knows neither the issuer parameter nor back-channel logout.

mod error;
mod id_token;
mod logout;
mod pending_login;
mod relying_party;
mod tokens;

pub use error::{LoginError, OAuthErrorCode};
pub use logout::{LogoutToken, LogoutTokenError};
pub use relying_party::{Login, LoginRedirect, LoginRequest, RelyingParty};
pub use tokens::Tokens;
