//! What a check of a configuration finds before the server starts.

use std::fmt;

use serde::Serialize;

/// How bad a [`Finding`] is. In order: `Info < Warning < Danger`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is at risk.
    Info,
    /// Weaker than the default.
    Warning,
    /// Open to a known attack.
    Danger,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Danger => "danger",
        })
    }
}

/// One thing that is unsafe, or worth knowing, in a configuration, and how to put it right.
///
/// ```
/// use gimmal_security::security_headers::SecurityHeaders;
/// use gimmal_security::{Finding, Severity};
///
/// assert!(SecurityHeaders::default().check().is_empty());
///
/// let findings = SecurityHeaders::default().without_strict_transport_security().check();
/// assert_eq!((findings[0].severity, findings[0].code), (Severity::Warning, "headers.no_hsts"));
/// println!("{}", findings[0]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name, `subject.what`, to search for or to silence by.
    pub code: &'static str,
    /// What is the case.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, code, what, cure } = self;
        write!(f, "{severity} [{code}]: {what}: {cure}")
    }
}
