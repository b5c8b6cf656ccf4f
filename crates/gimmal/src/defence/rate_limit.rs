//! How much a client may ask.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gimmal_security::audit::AuditEvent;
use gimmal_security::rate_limit::{Decision, Quota, RateLimiter, Store, address_key, fields};
use gimmal_security::{Finding, Principal, Severity};
use http::{HeaderName, StatusCode, header};
use sha2::{Digest, Sha256};

use super::around::{Around, middleware};
use super::client_address;
use crate::audit::Recorder;
use crate::clock::unix_seconds;
use crate::error::Error;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Keys in debt at one time that there is room for, in about 2 MiB.
const KEYS: usize = 100_000;

/// Holds each client to a [`Quota`]. Beyond it the answer is 429; every answer says in `RateLimit` and
/// `RateLimit-Policy` what is left, and a refusal in `Retry-After` when to come again.
///
/// Counters are shared by all cores of this machine, and with [`store`](Self::store) by many machines. An IPv6 address
/// counts by its first 64 bits, all of which one client may have.
///
/// ```
/// use gimmal::defence::{Quota, RateLimit};
/// use gimmal::{App, post};
///
/// let app = App::new()
///     .route("/login", post(async || "in").with(RateLimit::by_address(Quota::per_minute("login", 5)?)))
///     .with(RateLimit::by_address(Quota::per_second("all", 50)?));
/// # Ok::<(), gimmal::defence::QuotaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimit {
    key: Key,
    per_route: bool,
    counters: Counters,
    refuses_without_store: bool,
    unrecorded: Arc<Unrecorded>,
}

/// Refusals that the audit log has not been told of: a flood must not fill it, so it gets one record a second, with
/// their number.
#[derive(Debug, Default)]
struct Unrecorded {
    refused: AtomicU64,
    /// When the next record may be made, in seconds since 1970.
    due: AtomicU64,
}

impl Unrecorded {
    /// Counts a refusal; how many there were, if it is time to record them.
    fn count(&self, now: u64) -> Option<u64> {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let due = self.due.load(Ordering::Relaxed);
        let is_mine = now >= due
            && self.due.compare_exchange(due, now + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_mine.then(|| self.refused.swap(0, Ordering::Relaxed))
    }
}

/// By what clients are told apart.
#[derive(Clone, Debug)]
enum Key {
    Address,
    Principal,
    Header(HeaderName),
    Everyone,
}

#[derive(Clone, Debug)]
enum Counters {
    Memory { limiter: Arc<RateLimiter>, started: Instant },
    Store { quota: Quota, store: Arc<dyn Store> },
}

/// What is counted.
#[derive(Hash)]
enum Counted<'a> {
    Address(IpAddr),
    Principal(&'a str),
    Header(&'a [u8]),
    Everyone,
}

impl RateLimit {
    fn new(key: Key, quota: Quota) -> Self {
        let limiter = Arc::new(RateLimiter::new(quota, KEYS));
        let counters = Counters::Memory { limiter, started: Instant::now() };
        Self { key, per_route: false, counters, refuses_without_store: false, unrecorded: Arc::default() }
    }

    /// Counts by the client's address: that of the connection, or what [`TrustedProxies`](super::TrustedProxies)
    /// say.
    #[must_use]
    pub fn by_address(quota: Quota) -> Self {
        Self::new(Key::Address, quota)
    }

    /// Counts by the [`Principal`] that authentication, which must stand outside of this, has put into the request;
    /// by the client's address where there is none.
    #[must_use]
    pub fn by_principal(quota: Quota) -> Self {
        Self::new(Key::Principal, quota)
    }

    /// Counts by the value of a header field, such as an API key; by the client's address where there is none. Only
    /// behind something that refuses unknown values: whoever may invent them is never limited.
    #[must_use]
    pub fn by_header(quota: Quota, name: HeaderName) -> Self {
        Self::new(Key::Header(name), quota)
    }

    /// Counts all clients together.
    #[must_use]
    pub fn for_everyone(quota: Quota) -> Self {
        Self::new(Key::Everyone, quota)
    }

    /// Counts each route on its own, by its pattern.
    #[must_use]
    pub fn per_route(mut self) -> Self {
        self.per_route = true;
        self
    }

    /// Room for about so many keys in debt at one time, in place of 100,000; each takes about 17 bytes. Counters in a
    /// store have no such bound.
    #[must_use]
    pub fn keys(mut self, keys: usize) -> Self {
        if let Counters::Memory { limiter, .. } = &mut self.counters {
            *limiter = Arc::new(RateLimiter::new(limiter.quota().clone(), keys));
        }
        self
    }

    /// Counts in a store that many machines share, as `RedisStore` (feature `redis`).
    #[must_use]
    pub fn store(mut self, store: impl Store + 'static) -> Self {
        let quota = self.quota().clone();
        self.counters = Counters::Store { quota, store: Arc::new(store) };
        self
    }

    /// Refuses requests with 503 while the store cannot be reached, as for a limit that guards a password. Without
    /// it they pass, and a warning is logged.
    #[must_use]
    pub fn refuse_without_store(mut self) -> Self {
        self.refuses_without_store = true;
        self
    }

    fn quota(&self) -> &Quota {
        match &self.counters {
            Counters::Memory { limiter, .. } => limiter.quota(),
            Counters::Store { quota, .. } => quota,
        }
    }

    pub(super) fn check(&self) -> Vec<Finding> {
        let Key::Header(name) = &self.key else { return Vec::new() };
        vec![Finding {
            severity: Severity::Info,
            code: "rate_limit.by_header",
            what: format!("whoever may send any {name} is not limited by {:?}", self.quota().name()),
            cure: "put what refuses unknown values before it, and a RateLimit::by_address before that"
                .to_owned(),
        }]
    }

    async fn record(&self, request: &Request) {
        if let Some(refused) = self.unrecorded.count(unix_seconds()) {
            let event = AuditEvent::RateLimited { quota: self.quota().name(), path: request.path(), refused };
            let principal = request.extensions().get::<Principal>();
            Recorder::of(request).await.record(event, principal.map(Principal::id));
        }
    }

    /// `None` if the store gave no decision and that is let pass.
    async fn decide(&self, request: &mut Request) -> Result<Option<Decision>, Error> {
        let address = client_address::client(request).await?.address();
        let counted = match &self.key {
            Key::Address => None,
            Key::Principal => request.extensions().get::<Principal>().map(|who| Counted::Principal(who.id())),
            Key::Header(name) => request.header_bytes(name.as_str()).map(Counted::Header),
            Key::Everyone => Some(Counted::Everyone),
        };
        let counted = counted.unwrap_or_else(|| Counted::Address(address_key(address)));
        let route = if self.per_route { request.route() } else { None };
        match &self.counters {
            Counters::Memory { limiter, started } => {
                Ok(Some(limiter.check(&(route, counted), started.elapsed())))
            }
            Counters::Store { quota, store } => {
                let key = text_key(route, &counted);
                match store.check(quota, &key, NonZeroU32::MIN).await {
                    Ok(decision) => Ok(Some(decision)),
                    Err(error) if self.refuses_without_store => {
                        Err(Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source(error))
                    }
                    Err(error) => {
                        tracing::warn!(quota = quota.name(), %error, "a request was not counted");
                        Ok(None)
                    }
                }
            }
        }
    }
}

/// A key for a store. The kind comes first, so that no header is taken for an address.
fn text_key(route: Option<&str>, counted: &Counted<'_>) -> String {
    let (kind, value) = match counted {
        Counted::Address(address) => ("address", address.to_string()),
        Counted::Principal(id) => ("principal", (*id).to_owned()),
        // It may be a secret, which a store must not hold.
        Counted::Header(value) => ("header", digest(value)),
        Counted::Everyone => ("everyone", String::new()),
    };
    format!("{}:{kind}:{value}", route.unwrap_or_default())
}

fn digest(value: &[u8]) -> String {
    Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Around for RateLimit {
    async fn around(&self, mut request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        let decision = match self.decide(&mut request).await {
            Ok(Some(decision)) => decision,
            Ok(None) => return rest(request).await,
            Err(error) => return error.into_response(),
        };
        let mut response = if decision.is_allowed() {
            rest(request).await
        } else {
            self.record(&request).await;
            Error::new(StatusCode::TOO_MANY_REQUESTS, "too many requests: wait as long as Retry-After says")
                .into_response()
        };
        for (name, value) in fields(&[(self.quota(), decision)]) {
            if name == header::RETRY_AFTER {
                response.headers_mut().insert(name, value);
            } else {
                // Several limits make a list.
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

middleware!(RateLimit);
