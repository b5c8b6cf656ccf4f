//! Why no certificate could be obtained.

use std::io;
use std::path::PathBuf;

use instant_acme::{Error, Problem};
use thiserror::Error as ThisError;

use crate::tls::TlsConfigError;

/// Why no certificate could be obtained, stored or read back. What was in use stays in use.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum AcmeError {
    /// A setting that ACME, or this client, cannot work with.
    #[error("{0}")]
    Config(&'static str),
    /// A name that no certificate can be had for here.
    #[error("{name:?}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A file or folder of the storage failed.
    #[error("cannot use {}: {error}: the server's user must be able to read and write it", .path.display())]
    Storage {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The caller's pool of threads is full, so that nothing can be read or stored.
    #[error("no thread is free for the certificate's files: try again later")]
    Busy,
    /// The account's file is not one.
    #[error("{} is no stored account: restore it, or remove it to open a new account", .0.display())]
    BadAccount(PathBuf),
    /// The certificate that was stored or issued cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Certificate(#[from] TlsConfigError),
    /// The certificate that was issued is not for the names that were asked for.
    #[error("the ACME server issued a certificate for other names: ask its operator")]
    WrongNames,
    /// The certificate that was issued is due to be renewed already, by this machine's clock.
    #[error("the certificate that was issued is to be renewed at once: is this machine's clock right?")]
    DueAtOnce,
    /// The ACME server refused a request. The text is its own.
    #[error("the ACME server refused ({kind}): {detail}")]
    Refused {
        /// The error's type without its common prefix, such as `rateLimited` (RFC 8555 section 6.7).
        kind: String,
        /// What the server said.
        detail: String,
    },
    /// The ACME server could not verify that a name is ours.
    #[error(
        "the ACME server could not verify {name} ({kind}): {detail}: it has to reach this server by that name"
    )]
    ChallengeFailed {
        /// The name.
        name: String,
        /// The error's type without its common prefix.
        kind: String,
        /// What the server said.
        detail: String,
    },
    /// The ACME server does not offer the kind of challenge that can be answered.
    #[error("the ACME server offers no {challenge} challenge for {name}: use the other kind")]
    ChallengeNotOffered {
        /// The name.
        name: String,
        /// The kind.
        challenge: &'static str,
    },
    /// The ACME server took too long to verify or to issue.
    #[error("the ACME server did not get done in time: try again later")]
    TimedOut,
    /// The ACME server cannot be reached, or does not speak ACME.
    #[error("the ACME server cannot be talked to: {0}")]
    Protocol(String),
}

/// The part that all of ACME's error types begin with.
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// An error type without its prefix, and what the server said, of bearable length and in one line.
pub(super) fn words(problem: &Problem) -> (String, String) {
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    let detail = problem.detail.as_deref().unwrap_or("no reason was given");
    let tame = |text: &str| text.chars().filter(|char| !char.is_control()).take(500).collect();
    (tame(kind.strip_prefix(PREFIX).unwrap_or(kind)), tame(detail))
}

impl From<Error> for AcmeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => {
                let (kind, detail) = words(&problem);
                Self::Refused { kind, detail }
            }
            Error::Timeout(_) => Self::TimedOut,
            other => Self::Protocol(other.to_string()),
        }
    }
}
