//! What can be recorded.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::log_text::cut;
use crate::{Finding, Mechanism};

/// Something that happened and that bears on security.
///
/// The texts that may be a peer's are marked; all are cut and escaped when they are written.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditEvent<'a> {
    /// Somebody proved to be the record's principal.
    LoginSucceeded {
        /// How.
        mechanism: Mechanism,
    },
    /// Somebody did not.
    LoginFailed {
        /// How it was tried.
        mechanism: Mechanism,
        /// The name that was given; the peer's.
        #[serde(serialize_with = "optional_text", skip_serializing_if = "Option::is_none")]
        account: Option<&'a str>,
        /// Why: for the log, more than the client is told.
        #[serde(serialize_with = "text")]
        reason: &'a str,
    },
    /// The principal logged out.
    LoggedOut {
        /// On every device.
        everywhere: bool,
    },
    /// An account or address was locked out after failed logins.
    LockedOut {
        /// The account, if it is one; the peer's.
        #[serde(serialize_with = "optional_text", skip_serializing_if = "Option::is_none")]
        account: Option<&'a str>,
        /// For how long.
        seconds: u64,
    },
    /// A request without a valid login was answered with 401.
    Unauthenticated {
        /// The method; the peer's.
        #[serde(serialize_with = "text")]
        method: &'a str,
        /// The path, without the query; the peer's.
        #[serde(serialize_with = "text")]
        path: &'a str,
    },
    /// A request of the principal was answered with 403.
    Forbidden {
        /// The method; the peer's.
        #[serde(serialize_with = "text")]
        method: &'a str,
        /// The path, without the query; the peer's.
        #[serde(serialize_with = "text")]
        path: &'a str,
        /// What was lacking.
        #[serde(serialize_with = "text")]
        reason: &'a str,
        /// The policies that decided, if policies did.
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        policies: &'a [String],
    },
    /// A request that may have been forged by another site was refused.
    CsrfRefused {
        /// The method; the peer's.
        #[serde(serialize_with = "text")]
        method: &'a str,
        /// The path, without the query; the peer's.
        #[serde(serialize_with = "text")]
        path: &'a str,
        /// Why.
        #[serde(serialize_with = "text")]
        reason: &'a str,
    },
    /// Requests were answered with 429. A flood makes one record a second at most.
    RateLimited {
        /// The name of the quota.
        quota: &'a str,
        /// The path of the last of them, without the query; the peer's.
        #[serde(serialize_with = "text")]
        path: &'a str,
        /// How many there were since the record before, by whomever.
        refused: u64,
    },
    /// A guard refused what looks like an attack: a traversing path, an unknown host, a decompression bomb.
    AttackRefused {
        /// The guard, as `path_traversal`.
        guard: &'a str,
        /// Why.
        #[serde(serialize_with = "text")]
        reason: &'a str,
    },
    /// A session was ended before its time.
    SessionRevoked {
        /// What names the session without being of use to open it, as its stored hash.
        #[serde(serialize_with = "text")]
        session: &'a str,
    },
    /// The principal's password, or another proof, was set anew.
    CredentialChanged {
        /// The account whose it is.
        #[serde(serialize_with = "text")]
        account: &'a str,
        /// What was changed.
        mechanism: Mechanism,
    },
    /// An API key was made.
    ApiKeyCreated {
        /// Its public prefix.
        #[serde(serialize_with = "text")]
        key: &'a str,
    },
    /// An API key was ended.
    ApiKeyRevoked {
        /// Its public prefix.
        #[serde(serialize_with = "text")]
        key: &'a str,
    },
    /// A signing or encryption key was replaced.
    KeyRotated {
        /// What it is for, as `session` or `csrf`.
        purpose: &'a str,
        /// The identifier of the new one.
        #[serde(serialize_with = "text")]
        key: &'a str,
    },
    /// A certificate was loaded anew.
    CertificateReloaded {
        /// The names that it is for.
        names: &'a [String],
        /// When it ends, in seconds since 1970.
        not_after: u64,
    },
    /// A certificate could not be loaded; the old one stays.
    CertificateReloadFailed {
        /// Why.
        #[serde(serialize_with = "text")]
        reason: &'a str,
    },
    /// A set of policies took effect.
    PoliciesReloaded {
        /// How many there are.
        policies: usize,
    },
    /// A set of policies was refused; the old one stays.
    PoliciesReloadFailed {
        /// Why.
        #[serde(serialize_with = "text")]
        reason: &'a str,
    },
    /// The check of the configuration found something.
    ConfigurationFinding {
        /// What.
        #[serde(flatten)]
        finding: &'a Finding,
    },
    /// The log was found with the torn beginning of a record at its end, as after a loss of power.
    AuditLogRepaired {
        /// The bytes that were cut off.
        bytes: u64,
        /// The file that they were added to.
        #[serde(serialize_with = "text")]
        kept_in: &'a str,
    },
    /// The server began to serve.
    ServerStarted,
    /// The server stopped serving.
    ServerStopped,
}

impl AuditEvent<'_> {
    /// The name by which a record tells events apart.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::LoginSucceeded { .. } => "login_succeeded",
            Self::LoginFailed { .. } => "login_failed",
            Self::LoggedOut { .. } => "logged_out",
            Self::LockedOut { .. } => "locked_out",
            Self::Unauthenticated { .. } => "unauthenticated",
            Self::Forbidden { .. } => "forbidden",
            Self::CsrfRefused { .. } => "csrf_refused",
            Self::RateLimited { .. } => "rate_limited",
            Self::AttackRefused { .. } => "attack_refused",
            Self::SessionRevoked { .. } => "session_revoked",
            Self::CredentialChanged { .. } => "credential_changed",
            Self::ApiKeyCreated { .. } => "api_key_created",
            Self::ApiKeyRevoked { .. } => "api_key_revoked",
            Self::KeyRotated { .. } => "key_rotated",
            Self::CertificateReloaded { .. } => "certificate_reloaded",
            Self::CertificateReloadFailed { .. } => "certificate_reload_failed",
            Self::PoliciesReloaded { .. } => "policies_reloaded",
            Self::PoliciesReloadFailed { .. } => "policies_reload_failed",
            Self::ConfigurationFinding { .. } => "configuration_finding",
            Self::AuditLogRepaired { .. } => "audit_log_repaired",
            Self::ServerStarted => "server_started",
            Self::ServerStopped => "server_stopped",
        }
    }

    /// Whether it is one that a person should look at, rather than a sign of ordinary life.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        !matches!(
            self,
            Self::LoginSucceeded { .. }
                | Self::LoggedOut { .. }
                | Self::Unauthenticated { .. }
                | Self::SessionRevoked { .. }
                | Self::CredentialChanged { .. }
                | Self::ApiKeyCreated { .. }
                | Self::ApiKeyRevoked { .. }
                | Self::KeyRotated { .. }
                | Self::CertificateReloaded { .. }
                | Self::PoliciesReloaded { .. }
                | Self::ServerStarted
                | Self::ServerStopped
        )
    }
}

/// An event, and in whose request it happened.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRecord<'a> {
    #[serde(flatten)]
    pub(super) event: AuditEvent<'a>,
    #[serde(serialize_with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<IpAddr>,
    #[serde(serialize_with = "optional_text", skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
}

impl<'a> AuditRecord<'a> {
    /// A record of an event without a request.
    #[must_use]
    pub fn new(event: AuditEvent<'a>) -> Self {
        Self { event, principal: None, client: None, request: None }
    }

    /// Whose request it was: the identifier of the principal.
    #[must_use]
    pub fn principal(mut self, id: &'a str) -> Self {
        self.principal = Some(id);
        self
    }

    /// From which address.
    #[must_use]
    pub fn client(mut self, address: IpAddr) -> Self {
        self.client = Some(address);
        self
    }

    /// The identifier of the request in other logs.
    #[must_use]
    pub fn request(mut self, id: &'a str) -> Self {
        self.request = Some(id);
        self
    }
}

fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text))
}

fn optional_text<S: Serializer>(optional: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    text(optional.unwrap_or_default(), serializer)
}
