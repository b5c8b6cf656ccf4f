//! The response fields of draft-ietf-httpapi-ratelimit-headers-11 (May 2026), and Retry-After (RFC 9110 section
//! 10.2.3).

use std::time::Duration;

use http::header::{HeaderName, HeaderValue, RETRY_AFTER};

use super::quota::{Decision, Quota};

/// `RateLimit`: what is left of each quota.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// `RateLimit-Policy`: the quotas.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The fields that tell a client of its limits: `RateLimit-Policy` (`q` requests in `w` seconds), `RateLimit` (`r`
/// requests remaining, `t` seconds until all are there again), and `Retry-After` if it was refused, with seconds
/// rounded up so that a client that waits as told is allowed.
///
/// The policy states the burst as quota and the time to refill it as window: it is what a client may at most ask for
/// at once, and never a promise of more.
///
/// ```
/// use std::time::Duration;
///
/// use gimmal_security::rate_limit::{Quota, RateLimiter, fields};
///
/// let limiter = RateLimiter::new(Quota::per_minute("api", 60)?.with_burst(10)?, 1000);
/// let decision = limiter.check("key", Duration::ZERO);
/// let [policy, limit] = &fields(&[(limiter.quota(), decision)])[..] else { unreachable!() };
/// assert_eq!((policy.0.as_str(), policy.1.to_str()?), ("ratelimit-policy", "\"api\";q=10;w=10"));
/// assert_eq!((limit.0.as_str(), limit.1.to_str()?), ("ratelimit", "\"api\";r=9;t=1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn fields(decisions: &[(&Quota, Decision)]) -> Vec<(HeaderName, HeaderValue)> {
    let list = |item: fn(&(&Quota, Decision)) -> String| {
        HeaderValue::try_from(decisions.iter().map(item).collect::<Vec<_>>().join(", ")).ok()
    };
    let policy = list(|(quota, _)| {
        let window = seconds(quota.interval() * quota.burst());
        format!("\"{}\";q={};w={window}", quota.name(), quota.burst())
    });
    let limit = list(|(quota, decision)| {
        format!("\"{}\";r={};t={}", quota.name(), decision.remaining, seconds(decision.reset))
    });
    let wait = decisions.iter().filter_map(|(_, decision)| decision.retry_after).max();
    let wait = wait.map(|wait| HeaderValue::from(seconds(wait)));
    [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit), (RETRY_AFTER, wait)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
