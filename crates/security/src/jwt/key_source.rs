//! Where the keys of an issuer come from: given once, or fetched, cached and rotated.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::lock::Mutex as AsyncMutex;
use http::{HeaderMap, Uri, header};

use super::jws::Jws;
use super::{JwkSet, TokenError};
use crate::fetch::{check_address, get_json};
use crate::{FetchError, HttpFetch};

/// How long fetched keys are kept, and how often they are fetched. All in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteKeysOptions {
    /// Keys are fresh for at least as long, whatever the server says. Default: 1 minute.
    pub fresh_seconds_min: u64,
    /// Keys are fresh for as long if the server says nothing. Default: 15 minutes.
    pub fresh_seconds_default: u64,
    /// Keys are fresh for at most as long, whatever the server says. Default: 24 hours.
    pub fresh_seconds_max: u64,
    /// Keys that are no longer fresh serve for as long while the server gives no new ones; then no token is accepted
    /// until it does. Default: 24 hours.
    pub stale_seconds: u64,
    /// At least as long between two fetches, so that tokens with invented key names cause no flood. Default: 10
    /// seconds.
    pub refetch_seconds_min: u64,
}

impl Default for RemoteKeysOptions {
    fn default() -> Self {
        Self {
            fresh_seconds_min: 60,
            fresh_seconds_default: 15 * 60,
            fresh_seconds_max: 24 * 60 * 60,
            stale_seconds: 24 * 60 * 60,
            refetch_seconds_min: 10,
        }
    }
}

/// The keys of an issuer.
///
/// Remote keys (RFC 7517) are fetched when the first token needs them and kept for as long as the server's
/// `Cache-Control` says, within bounds. A token with an unknown `kid` causes one fetch, at most every few seconds:
/// that is how new keys come in. While one caller fetches, the others wait for that fetch if they have no key, and
/// go on with the old keys if they have.
///
/// ```
/// use gimmal_security::jwt::{KeySource, RemoteKeysOptions};
///
/// let keys = KeySource::remote("https://login.example/jwks", RemoteKeysOptions::default())?;
/// # Ok::<(), gimmal_security::FetchError>(())
/// ```
#[derive(Debug)]
pub struct KeySource(Source);

#[derive(Debug)]
enum Source {
    Fixed(JwkSet),
    Remote(Box<RemoteKeys>),
}

impl KeySource {
    /// Keys that never change.
    #[must_use]
    pub fn fixed(keys: JwkSet) -> Self {
        Self(Source::Fixed(keys))
    }

    /// Keys that are fetched from `uri`.
    ///
    /// # Errors
    /// [`FetchError::Insecure`] if the address is neither `https` nor on loopback.
    pub fn remote(uri: &str, options: RemoteKeysOptions) -> Result<Self, FetchError> {
        let uri: Uri = uri.parse().map_err(|_| FetchError::Insecure)?;
        check_address(&uri)?;
        Ok(Self(Source::Remote(Box::new(RemoteKeys {
            uri,
            options,
            cached: Mutex::new(Cached::default()),
            fetching: AsyncMutex::new(()),
        }))))
    }

    /// Fetches the keys now if they are remote and no longer fresh. A caller that does this from time to time spares
    /// requests the wait.
    ///
    /// # Errors
    /// Why the keys could not be fetched; the old ones go on to serve.
    pub async fn refresh<F: HttpFetch>(&self, now: u64, fetch: &F) -> Result<(), FetchError> {
        let Source::Remote(remote) = &self.0 else { return Ok(()) };
        if remote.cached().is_fresh(now) {
            return Ok(());
        }
        let _fetching = remote.fetching.lock().await;
        if remote.cached().is_fresh(now) { Ok(()) } else { remote.refetch(now, fetch).await }
    }

    /// Checks the signature of a token with the key that it names.
    pub(crate) async fn verify<F: HttpFetch>(
        &self,
        token: &Jws<'_>,
        now: u64,
        fetch: &F,
    ) -> Result<(), TokenError> {
        let keys = match &self.0 {
            Source::Fixed(keys) => return verify_with(keys, token),
            Source::Remote(remote) => remote.keys_for(token, now, fetch).await?,
        };
        verify_with(&keys, token)
    }
}

fn verify_with(keys: &JwkSet, token: &Jws<'_>) -> Result<(), TokenError> {
    token.verify(keys.find(token.key_id.as_deref(), token.algorithm).ok_or(TokenError::UnknownKey)?)
}

#[derive(Debug)]
struct RemoteKeys {
    uri: Uri,
    options: RemoteKeysOptions,
    cached: Mutex<Cached>,
    /// Held by the one caller that fetches.
    fetching: AsyncMutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Cached {
    keys: Option<Arc<JwkSet>>,
    fresh_until: u64,
    usable_until: u64,
    /// No fetch before.
    refetch_from: u64,
    last_error: Option<FetchError>,
}

impl Cached {
    fn is_fresh(&self, now: u64) -> bool {
        self.keys.is_some() && now < self.fresh_until
    }

    fn usable(&self, now: u64) -> Option<&Arc<JwkSet>> {
        self.keys.as_ref().filter(|_| now < self.usable_until)
    }

    fn fitting(&self, token: &Jws<'_>, now: u64) -> Option<Arc<JwkSet>> {
        self.usable(now).filter(|keys| keys.find(token.key_id.as_deref(), token.algorithm).is_some()).cloned()
    }
}

impl RemoteKeys {
    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A set in which the token's key is.
    async fn keys_for<F: HttpFetch>(
        &self,
        token: &Jws<'_>,
        now: u64,
        fetch: &F,
    ) -> Result<Arc<JwkSet>, TokenError> {
        let cached = self.cached().clone();
        let _fetching = match cached.fitting(token, now) {
            Some(keys) if cached.is_fresh(now) => return Ok(keys),
            Some(keys) => match self.fetching.try_lock() {
                Some(fetching) => fetching,
                None => return Ok(keys),
            },
            None => self.fetching.lock().await,
        };
        // Whoever held the lock before may have brought what is needed.
        let cached = self.cached().clone();
        let is_settled = cached.is_fresh(now) && cached.fitting(token, now).is_some();
        if !is_settled && now >= cached.refetch_from {
            // A failure is kept in the cache; old keys may do.
            let _ = self.refetch(now, fetch).await;
        }
        let cached = self.cached().clone();
        if let Some(keys) = cached.fitting(token, now) {
            return Ok(keys);
        }
        if cached.usable(now).is_some() {
            return Err(TokenError::UnknownKey);
        }
        Err(TokenError::Unavailable(cached.last_error.unwrap_or(FetchError::TimedOut)))
    }

    async fn refetch<F: HttpFetch>(&self, now: u64, fetch: &F) -> Result<(), FetchError> {
        // Until an answer has come: whoever is dropped while it fetches holds up the others for a second only.
        self.cached().refetch_from = now.saturating_add(self.options.refetch_seconds_min.min(1));
        let fetched = get_json(fetch, &self.uri).await.and_then(|(headers, body)| {
            let keys =
                JwkSet::parse(&body).map_err(|_| FetchError::Document("no usable JSON Web Key Set"))?;
            Ok((fresh_seconds(&headers, &self.options), keys))
        });
        let mut cached = self.cached();
        cached.refetch_from = now.saturating_add(self.options.refetch_seconds_min);
        match fetched {
            Ok((fresh_seconds, keys)) => {
                cached.keys = Some(Arc::new(keys));
                cached.fresh_until = now.saturating_add(fresh_seconds);
                cached.usable_until = cached.fresh_until.saturating_add(self.options.stale_seconds);
                cached.last_error = None;
                Ok(())
            }
            Err(error) => {
                cached.last_error = Some(error.clone());
                Err(error)
            }
        }
    }
}

/// How long a response is fresh (RFC 9111 section 4.2), within bounds.
fn fresh_seconds(headers: &HeaderMap, options: &RemoteKeysOptions) -> u64 {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut fresh_seconds = None;
    for directive in directives.flat_map(|value| value.split(',')) {
        let (name, argument) = directive.trim().split_once('=').unwrap_or((directive.trim(), ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            fresh_seconds = Some(0);
            break;
        }
        if name.eq_ignore_ascii_case("max-age") {
            fresh_seconds = argument.trim_matches('"').parse::<u64>().ok();
        }
    }
    let age_seconds =
        headers.get(header::AGE).and_then(|age| age.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
    fresh_seconds
        .map_or(options.fresh_seconds_default, |fresh| fresh.saturating_sub(age_seconds))
        .min(options.fresh_seconds_max)
        .max(options.fresh_seconds_min)
}
