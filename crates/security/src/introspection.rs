//! Opaque access tokens, judged by the authorisation server that issued them (RFC 7662).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use futures_util::lock::Mutex as AsyncMutex;
use http::{StatusCode, Uri};
use serde_json::{Map, Value};

use crate::certificate_binding::{self, CertificateThumbprint};
use crate::client_authentication::ClientAuthentication;
use crate::expiring_map::ExpiringMap;
use crate::fetch::{check_address, send};
use crate::jwt::{AccessToken, Audiences, TOKEN_BYTES_MAX, TokenError, numeric_date, required_text};
use crate::{FetchError, HttpFetch, strict_json};

/// For clocks that differ.
const LEEWAY_SECONDS: u64 = 60;

/// How long answers are kept. A revoked token is taken for as long as the answer that it was active is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntrospectionOptions {
    /// An active token is asked for again after as many seconds, and no later than it expires. 0 asks each time.
    /// Default: 60.
    pub active_seconds_max: u64,
    /// A token that is not active is asked for again after as many seconds. Default: 10.
    pub inactive_seconds: u64,
    /// Answers of each of the two kinds that are kept; the first that came make room. Default: 10 000.
    pub cache_entries_max: usize,
    /// Questions to the authorisation server at a time, over all cores. The same token is never asked for twice at a
    /// time. Default: 16.
    pub requests_max: usize,
    /// Requests that wait for an answer of the authorisation server; more are refused as
    /// [`TokenError::Unavailable`] at once. Default: 256.
    pub waiting_max: usize,
}

impl Default for IntrospectionOptions {
    fn default() -> Self {
        Self {
            active_seconds_max: 60,
            inactive_seconds: 10,
            cache_entries_max: 10_000,
            requests_max: 16,
            waiting_max: 256,
        }
    }
}

/// The SHA-256 of a token: the cache holds nothing that could be used as one.
type TokenHash = [u8; 32];

#[derive(Debug)]
struct Cache {
    active: ExpiringMap<TokenHash, Map<String, Value>>,
    /// Apart, so that a flood of invented tokens drives out no good one.
    inactive: ExpiringMap<TokenHash, ()>,
}

/// What the authorisation server said of a token.
type Answer = Result<Map<String, Value>, FetchError>;

/// One of the questions that are asked at a time. A token always takes the same lane.
#[derive(Debug, Default)]
struct Lane {
    /// Held by the one caller that asks.
    asking: AsyncMutex<()>,
    last: Mutex<Last>,
}

/// The last answer that came on a lane.
#[derive(Debug, Default)]
struct Last {
    number: u64,
    answer: Option<(TokenHash, Answer)>,
}

impl Lane {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that came since `number` and that is good for this token, too: one about itself, or that the server
    /// cannot be reached. Any other error may be of the other token's making.
    fn answer_since(&self, number: u64, hash: &TokenHash) -> Option<Answer> {
        let last = self.last();
        let (about, answer) = last.answer.as_ref().filter(|_| last.number != number)?;
        let is_down = matches!(answer, Err(FetchError::Unreachable(_) | FetchError::TimedOut));
        (about == hash || is_down).then(|| answer.clone())
    }
}

/// A place among those who wait for an answer.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks an authorisation server about opaque tokens.
///
/// A flood of invented tokens reaches that server as [`IntrospectionOptions::requests_max`] questions at a time. What is
/// in the cache is judged meanwhile without it.
///
/// ```
/// # use gimmal_security::{FetchError, HttpFetch, SecretString};
/// # use gimmal_security::client_authentication::ClientAuthentication;
/// # use gimmal_security::introspection::{IntrospectionOptions, Introspector};
/// # async fn example(fetch: &impl HttpFetch, token: &str, now: u64) -> Result<(), Box<dyn std::error::Error>> {
/// let client = ClientAuthentication::basic("api", SecretString::from("from the vault"));
/// let introspector = Introspector::new(
///     "https://login.example",
///     "https://login.example/introspect",
///     client,
///     IntrospectionOptions::default(),
/// )?
/// .with_audience("https://api.example");
/// let principal = introspector.validate(token, None, now, fetch).await?.into_principal();
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Introspector {
    issuer: String,
    endpoint: Uri,
    client: ClientAuthentication,
    options: IntrospectionOptions,
    audience: Option<String>,
    is_binding_required: bool,
    client_prefix: Option<String>,
    roles_path: Vec<String>,
    cache: Mutex<Cache>,
    lanes: Box<[Lane]>,
    waiting: AtomicUsize,
}

impl Introspector {
    /// Asks at `endpoint` of the authorisation server `issuer`, as `client`.
    ///
    /// # Errors
    /// [`FetchError::Insecure`] if the address is neither `https` nor on loopback.
    pub fn new(
        issuer: impl Into<String>,
        endpoint: &str,
        client: ClientAuthentication,
        options: IntrospectionOptions,
    ) -> Result<Self, FetchError> {
        let endpoint: Uri = endpoint.parse().map_err(|_| FetchError::Insecure)?;
        check_address(&endpoint)?;
        Ok(Self {
            issuer: issuer.into(),
            endpoint,
            client,
            options,
            audience: None,
            is_binding_required: false,
            client_prefix: None,
            roles_path: vec!["roles".to_owned()],
            cache: Mutex::new(Cache {
                active: ExpiringMap::new(options.cache_entries_max),
                inactive: ExpiringMap::new(options.cache_entries_max),
            }),
            lanes: (0..options.requests_max.max(1)).map(|_| Lane::default()).collect(),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Takes only tokens whose `aud` contains this name of this server. Without it the authorisation server alone
    /// decides whether a token is for this server (RFC 7662 section 4).
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Refuses tokens that are not bound to a client certificate (RFC 8705).
    #[must_use]
    pub fn with_certificate_binding_required(mut self) -> Self {
        self.is_binding_required = true;
        self
    }

    /// Takes tokens without a subject, which a client got for itself: the principal's id is `prefix` and the client's
    /// id. No subject of the server may begin with the prefix.
    #[must_use]
    pub fn with_client_principals(mut self, prefix: impl Into<String>) -> Self {
        self.client_prefix = Some(prefix.into());
        self
    }

    /// Where the roles are: the names of the members on the way to an array of strings; `["roles"]` by default.
    #[must_use]
    pub fn with_roles_at<S: Into<String>>(mut self, path: impl IntoIterator<Item = S>) -> Self {
        self.roles_path = path.into_iter().map(Into::into).collect();
        self
    }

    /// Judges a token at `now`, in seconds since 1970. `certificate` is that of the client's end of the connection.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with the token, or that it cannot be judged now.
    pub async fn validate<F: HttpFetch>(
        &self,
        token: &str,
        certificate: Option<&CertificateThumbprint>,
        now: u64,
        fetch: &F,
    ) -> Result<AccessToken, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let claims = self.active_claims(token, now, fetch).await?;
        // What depends on the time and the connection is checked each time, not only when the answer comes.
        let expires_at = numeric_date(&claims, "exp")?;
        if expires_at.is_some_and(|at| at <= now) {
            return Err(TokenError::Expired);
        }
        if numeric_date(&claims, "nbf")?.is_some_and(|from| from > now.saturating_add(LEEWAY_SECONDS)) {
            return Err(TokenError::NotYetValid);
        }
        if claims.get("iss").is_some_and(|iss| iss.as_str() != Some(&self.issuer)) {
            return Err(TokenError::Issuer);
        }
        if let Some(audience) = &self.audience
            && !Audiences::of(&claims)?.contain(audience)
        {
            return Err(TokenError::Audience);
        }
        certificate_binding::check(&claims, certificate, self.is_binding_required)?;
        let id = match (&self.client_prefix, claims.contains_key("sub")) {
            (Some(prefix), false) => format!("{prefix}{}", required_text(&claims, "client_id")?),
            _ => required_text(&claims, "sub")?.to_owned(),
        };
        AccessToken::from_claims(id, claims, expires_at, &self.roles_path, now)
    }

    /// What the server says of a token that is active.
    async fn active_claims<F: HttpFetch>(
        &self,
        token: &str,
        now: u64,
        fetch: &F,
    ) -> Result<Map<String, Value>, TokenError> {
        let mut hash: TokenHash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        if let Some(known) = self.known(&hash, now) {
            return known;
        }
        let claims = self.answer(token, &hash, now, fetch).await.map_err(TokenError::Unavailable)?;
        let mut cache = self.cache();
        if claims.get("active") != Some(&Value::Bool(true)) {
            cache.inactive.insert(hash, (), now.saturating_add(self.options.inactive_seconds));
            return Err(TokenError::Inactive);
        }
        let kept_until = now.saturating_add(self.options.active_seconds_max);
        let expires_at = numeric_date(&claims, "exp")?.unwrap_or(u64::MAX);
        cache.active.insert(hash, claims.clone(), kept_until.min(expires_at));
        Ok(claims)
    }

    /// What the cache says of a token.
    fn known(&self, hash: &TokenHash, now: u64) -> Option<Result<Map<String, Value>, TokenError>> {
        let cache = self.cache();
        match cache.active.get(hash, now) {
            Some(claims) => Some(Ok(claims.clone())),
            None => cache.inactive.get(hash, now).map(|()| Err(TokenError::Inactive)),
        }
    }

    /// The server's answer, in turn: to this call, or to another one that asked the same meanwhile.
    async fn answer<F: HttpFetch>(&self, token: &str, hash: &TokenHash, now: u64, fetch: &F) -> Answer {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        if waiting >= self.options.waiting_max {
            return Err(FetchError::Busy);
        }
        let [first, second, ..] = *hash;
        let lane = &self.lanes[usize::from(u16::from_be_bytes([first, second])) % self.lanes.len()];
        let number = lane.last().number;
        let _asking = lane.asking.lock().await;
        if let Some(answer) = lane.answer_since(number, hash) {
            return answer;
        }
        let answer = self.introspect(token, now, fetch).await;
        let mut last = lane.last();
        last.number += 1;
        last.answer = Some((*hash, answer.clone()));
        answer
    }

    async fn introspect<F: HttpFetch>(&self, token: &str, now: u64, fetch: &F) -> Answer {
        let form = [("token", token), ("token_type_hint", "access_token")];
        let ask = || self.client.post_form(&self.endpoint, &self.issuer, &form, now);
        let response = match send(fetch, ask()?).await {
            // The server may have closed a connection that was kept open; to ask once more changes nothing there.
            Err(FetchError::Unreachable(_)) => send(fetch, ask()?).await?,
            answer => answer?,
        };
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let claims = strict_json::parse_object(response.body())
            .map_err(|_| FetchError::Document("no introspection response"))?;
        match claims.get("active") {
            Some(Value::Bool(_)) => Ok(claims),
            _ => Err(FetchError::Document("an introspection response without `active`")),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
