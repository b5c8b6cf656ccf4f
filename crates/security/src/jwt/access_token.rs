//! JWT access tokens to principals (RFC 9068).

use std::fmt;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use thiserror::Error;

use super::claims::{Audiences, check_times, numeric_date, required_text, roles, scopes};
use super::jws::Jws;
use super::{KeySource, TokenError};
use crate::certificate_binding::{self, CertificateThumbprint};
use crate::{HttpFetch, Mechanism, Principal};

/// What a good access token says.
#[derive(Clone, PartialEq)]
pub struct AccessToken {
    principal: Principal,
    expires_at: Option<u64>,
    claims: Map<String, Value>,
}

impl AccessToken {
    /// Makes the principal of checked claims: its id is the subject, its scopes are `scope` and `scp`, its roles the
    /// strings at `roles_path`, and its attributes all other claims.
    pub(crate) fn from_claims(
        id: String,
        claims: Map<String, Value>,
        expires_at: Option<u64>,
        roles_path: &[String],
        now: u64,
    ) -> Result<Self, TokenError> {
        let authenticated_at = match numeric_date(&claims, "auth_time")? {
            Some(time) => time,
            None => numeric_date(&claims, "iat")?.unwrap_or(now),
        };
        let mut principal = Principal::new(id, Mechanism::Bearer, authenticated_at);
        for scope in scopes(&claims)? {
            principal = principal.with_scope(scope);
        }
        for role in roles(&claims, roles_path) {
            principal = principal.with_role(role);
        }
        const NO_ATTRIBUTES: [&str; 10] =
            ["sub", "aud", "exp", "nbf", "iat", "jti", "scope", "scp", "cnf", "active"];
        for (name, value) in &claims {
            if !NO_ATTRIBUTES.contains(&name.as_str()) {
                principal = principal.with_attribute(name, value.clone());
            }
        }
        Ok(Self { principal, expires_at, claims })
    }

    /// Who the token stands for.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Who the token stands for, alone.
    #[must_use]
    pub fn into_principal(self) -> Principal {
        self.principal
    }

    /// When it expires, in seconds since 1970. Every JWT says so; an opaque token's server may not.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// All that it says.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("principal", &self.principal.id())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// An authorisation server whose tokens are taken, and on what terms.
///
/// ```
/// use gimmal_security::jwt::{Algorithm, Issuer, KeySource, RemoteKeysOptions};
///
/// let keys = KeySource::remote("https://login.example/jwks", RemoteKeysOptions::default())?;
/// let issuer = Issuer::new("https://login.example", "https://api.example", keys)
///     .with_algorithms([Algorithm::ES256])
///     .with_leeway_seconds(30);
/// # Ok::<(), gimmal_security::FetchError>(())
/// ```
#[derive(Debug)]
pub struct Issuer {
    name: String,
    audiences: Vec<String>,
    keys: KeySource,
    algorithms: Vec<Algorithm>,
    leeway_seconds: u64,
    is_type_checked: bool,
    is_binding_required: bool,
    roles_path: Vec<String>,
    subject_prefix: String,
}

impl Issuer {
    /// Takes the tokens whose `iss` is `name`, character by character, and whose `aud` contains `audience`, the name
    /// of this server.
    ///
    /// Accepted are RS256, PS256, ES256, ES384 and EdDSA; a leeway of 60 seconds; `typ` has to be `at+jwt`; roles come
    /// from the claim `roles` (RFC 9068 section 2.2.3.1).
    #[must_use]
    pub fn new(name: impl Into<String>, audience: impl Into<String>, keys: KeySource) -> Self {
        Self {
            name: name.into(),
            audiences: vec![audience.into()],
            keys,
            algorithms: vec![
                Algorithm::RS256,
                Algorithm::PS256,
                Algorithm::ES256,
                Algorithm::ES384,
                Algorithm::EdDSA,
            ],
            leeway_seconds: 60,
            is_type_checked: true,
            is_binding_required: false,
            roles_path: vec!["roles".to_owned()],
            subject_prefix: String::new(),
        }
    }

    /// Pins these algorithms, instead of the default ones.
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// One more name of this server.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// How far clocks may differ, at most 300 seconds.
    #[must_use]
    pub fn with_leeway_seconds(mut self, leeway_seconds: u64) -> Self {
        self.leeway_seconds = leeway_seconds.min(300);
        self
    }

    /// Takes tokens of any `typ`, for servers that do not follow RFC 9068. Then nothing but `aud` tells an access token
    /// from other tokens of the issuer, such as ID tokens: the audience of access tokens has to be one that no client
    /// has as its id (RFC 9068 section 5).
    #[must_use]
    pub fn without_type_check(mut self) -> Self {
        self.is_type_checked = false;
        self
    }

    /// Refuses tokens that are not bound to a client certificate (RFC 8705).
    #[must_use]
    pub fn with_certificate_binding_required(mut self) -> Self {
        self.is_binding_required = true;
        self
    }

    /// Where the roles are: the names of the members on the way to an array of strings, such as
    /// `["realm_access", "roles"]`.
    #[must_use]
    pub fn with_roles_at<S: Into<String>>(mut self, path: impl IntoIterator<Item = S>) -> Self {
        self.roles_path = path.into_iter().map(Into::into).collect();
        self
    }

    /// Puts `prefix` before the subject in the principal's id. Subjects are unique within their issuer only.
    #[must_use]
    pub fn with_subject_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.subject_prefix = prefix.into();
        self
    }

    /// The keys, to [refresh](KeySource::refresh) them ahead of need.
    #[must_use]
    pub fn keys(&self) -> &KeySource {
        &self.keys
    }

    async fn validate<F: HttpFetch>(
        &self,
        token: Jws<'_>,
        certificate: Option<&CertificateThumbprint>,
        now: u64,
        fetch: &F,
    ) -> Result<AccessToken, TokenError> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(TokenError::Algorithm);
        }
        if self.is_type_checked && token.token_type.as_deref() != Some("at+jwt") {
            return Err(TokenError::Type);
        }
        self.keys.verify(&token, now, fetch).await?;
        let claims = token.claims;
        let expires_at = check_times(&claims, now, self.leeway_seconds)?;
        let audiences = Audiences::of(&claims)?;
        if !self.audiences.iter().any(|audience| audiences.contain(audience)) {
            return Err(TokenError::Audience);
        }
        certificate_binding::check(&claims, certificate, self.is_binding_required)?;
        let id = format!("{}{}", self.subject_prefix, required_text(&claims, "sub")?);
        AccessToken::from_claims(id, claims, Some(expires_at), &self.roles_path, now)
    }
}

/// Two issuers whose principals could not be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the principals of the issuers `{0}` and `{1}` could not be told apart: use other names, or \
     Issuer::with_subject_prefix with two prefixes, neither of which begins with the other"
)]
pub struct AmbiguousIssuers(String, String);

/// Checks JWT access tokens (RFC 9068 section 4, RFC 8725).
///
/// ```
/// # use gimmal_security::{FetchError, HttpFetch};
/// # use gimmal_security::jwt::{AccessTokenValidator, Issuer, KeySource, RemoteKeysOptions};
/// # async fn example(fetch: &impl HttpFetch, token: &str, now: u64) -> Result<(), Box<dyn std::error::Error>> {
/// let keys = KeySource::remote("https://login.example/jwks", RemoteKeysOptions::default())?;
/// let validator =
///     AccessTokenValidator::new(Issuer::new("https://login.example", "https://api.example", keys));
/// let principal = validator.validate(token, None, now, fetch).await?.into_principal();
/// assert!(principal.has_scope("articles:read"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AccessTokenValidator {
    issuers: Vec<Issuer>,
}

impl AccessTokenValidator {
    /// Takes the tokens of one issuer.
    #[must_use]
    pub fn new(issuer: Issuer) -> Self {
        Self { issuers: vec![issuer] }
    }

    /// Takes the tokens of one more issuer.
    ///
    /// # Errors
    /// [`AmbiguousIssuers`] if two issuers have one name, or one subject of both would be one principal.
    pub fn with_issuer(mut self, issuer: Issuer) -> Result<Self, AmbiguousIssuers> {
        for other in &self.issuers {
            if other.name == issuer.name
                || other.subject_prefix.starts_with(&issuer.subject_prefix)
                || issuer.subject_prefix.starts_with(&other.subject_prefix)
            {
                return Err(AmbiguousIssuers(other.name.clone(), issuer.name));
            }
        }
        self.issuers.push(issuer);
        Ok(self)
    }

    /// The issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.iter()
    }

    /// Checks a token at `now`, in seconds since 1970. `certificate` is that of the client's end of the connection, for
    /// tokens that are bound to one. With the issuer's keys in the cache this is done at the first poll.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with the token, or that it cannot be judged now.
    ///
    /// # Cancel safety
    /// Dropping the future ends a fetch of keys that it drives; another caller then fetches them.
    pub async fn validate<F: HttpFetch>(
        &self,
        token: &str,
        certificate: Option<&CertificateThumbprint>,
        now: u64,
        fetch: &F,
    ) -> Result<AccessToken, TokenError> {
        let token = Jws::parse(token)?;
        // Not checked yet; it only chooses the keys that will have to hold.
        let name = required_text(&token.claims, "iss")?;
        let issuer = self.issuers.iter().find(|issuer| issuer.name == name).ok_or(TokenError::Issuer)?;
        issuer.validate(token, certificate, now, fetch).await
    }
}
