//! Permissions-Policy: which features of the browser a page may use.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::Origin;

/// The features that browsers know and that ask for something of the user or the device. Without those that Chromium
/// knows on some systems alone (`bluetooth`, `web-share`): elsewhere it warns of them on every page.
const FEATURES: [&str; 22] = [
    "accelerometer",
    "autoplay",
    "browsing-topics",
    "camera",
    "display-capture",
    "encrypted-media",
    "fullscreen",
    "gamepad",
    "geolocation",
    "gyroscope",
    "hid",
    "idle-detection",
    "local-fonts",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "publickey-credentials-get",
    "screen-wake-lock",
    "serial",
    "usb",
    "xr-spatial-tracking",
];

/// A name that is no feature's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no name of a browser feature: use lower-case letters, digits and -")]
pub struct PermissionsPolicyError(String);

/// Which features of the browser a page, and the frames in it, may use.
///
/// ```
/// use gimmal_security::security_headers::PermissionsPolicy;
///
/// let policy = PermissionsPolicy::deny_all()
///     .allow_self("camera")?
///     .allow("geolocation", ["https://maps.example.org".parse()?])?;
/// let text = policy.text();
/// assert!(text.contains("camera=(self)") && text.contains("microphone=()"));
/// assert!(text.contains("geolocation=(self \"https://maps.example.org\")"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionsPolicy(BTreeMap<String, String>);

impl PermissionsPolicy {
    /// All features off, for the page and all in it.
    #[must_use]
    pub fn deny_all() -> Self {
        Self(FEATURES.iter().map(|&feature| (feature.to_owned(), "()".to_owned())).collect())
    }

    /// Lets the page's own origin use a feature.
    ///
    /// # Errors
    /// [`PermissionsPolicyError`] if it is no name of a feature.
    pub fn allow_self(self, feature: &str) -> Result<Self, PermissionsPolicyError> {
        self.allow(feature, [])
    }

    /// Lets the page's own origin and frames of these use a feature.
    ///
    /// # Errors
    /// [`PermissionsPolicyError`] if it is no name of a feature.
    pub fn allow(
        mut self,
        feature: &str,
        origins: impl IntoIterator<Item = Origin>,
    ) -> Result<Self, PermissionsPolicyError> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if feature.is_empty() || !feature.bytes().all(is_name) {
            return Err(PermissionsPolicyError(feature.to_owned()));
        }
        let mut list = "(self".to_owned();
        for origin in origins {
            list.extend([" \"", origin.as_str(), "\""]);
        }
        list.push(')');
        self.0.insert(feature.to_owned(), list);
        Ok(self)
    }

    /// The value of the field, of which names and origins were checked when they were added.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().map(|(feature, list)| format!("{feature}={list}")).collect::<Vec<_>>().join(", ")
    }
}
