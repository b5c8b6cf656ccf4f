//! Redirects to an address that came with the request, as `?next=/account`.

use http::HeaderValue;
use thiserror::Error;

use crate::Origin;

/// Why a target was refused: redirect to a fixed page in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// A control character, white space, a backslash or a character outside ASCII. Browsers remove tabs and line
    /// ends and read a backslash as a slash, so `/\evil` and `/<TAB>/evil` lead away.
    #[error("the redirect target has a character that browsers change")]
    Character,
    /// Neither a path on this host nor an address of a listed origin.
    #[error("the redirect target leads to another host: list its origin to allow it")]
    Elsewhere,
}

/// Where a request may have itself redirected to: paths on this host, and listed origins.
///
/// ```
/// use gimmal_security::redirect::{RedirectError, RedirectTargets};
///
/// let targets = RedirectTargets::new().allow("https://shop.example.org".parse()?);
/// assert_eq!(targets.location("/account?tab=1")?, "/account?tab=1");
/// assert_eq!(targets.location("https://shop.example.org/cart")?, "https://shop.example.org/cart");
/// assert_eq!(targets.location("//evil.example"), Err(RedirectError::Elsewhere));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RedirectTargets {
    origins: Vec<Origin>,
}

impl RedirectTargets {
    /// Paths on this host alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows addresses of another origin.
    #[must_use]
    pub fn allow(mut self, origin: Origin) -> Self {
        self.origins.push(origin);
        self
    }

    /// The value of `Location` for a target that came with the request.
    ///
    /// # Errors
    /// [`RedirectError`] for what leads elsewhere, or what a browser could read so.
    pub fn location(&self, target: &str) -> Result<HeaderValue, RedirectError> {
        if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(RedirectError::Character);
        }
        let is_path = target.starts_with('/') && !target.starts_with("//");
        if !is_path && !self.is_listed(target) {
            return Err(RedirectError::Elsewhere);
        }
        HeaderValue::from_str(target).map_err(|_| RedirectError::Character)
    }

    fn is_listed(&self, target: &str) -> bool {
        let Some((scheme, rest)) = target.split_once("://") else { return false };
        let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // An origin has no user name, so `https://shop.example.org@evil` is none.
        let origin = format!("{scheme}://{}", &rest[..authority_len]);
        let is_web = |origin: &Origin| matches!(origin.scheme(), "http" | "https");
        origin.parse().is_ok_and(|origin| is_web(&origin) && self.origins.contains(&origin))
    }
}
