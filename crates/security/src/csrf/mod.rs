//! Cross-site request forgery: another site makes a browser send a request that carries the user's cookies.
//!
//! [`OriginCheck`] refuses such requests by what the browser itself says about where they come from; it needs no
//! state and no change to any page. [`CsrfTokens`] are the second line, for browsers from before 2020 and for forms:
//! a request passes only with a token that another site cannot know.

mod origin_check;
mod token;

pub use origin_check::{BypassError, CsrfRefusal, OriginCheck, OriginProof, OriginRequest};
pub use token::{CSRF_COOKIE, CsrfBinding, CsrfTokenError, CsrfTokens};
