//! How much a key may ask for, and the algorithm's arithmetic.

use std::num::NonZeroU32;
use std::time::Duration;

use thiserror::Error;

/// What is wrong with a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// No requests at all, a period of nothing, or so many requests that one takes less than a nanosecond.
    #[error("a quota is of at least one request in a period, and at most one in each nanosecond")]
    Rate,
    /// A burst that takes longer than a year to refill.
    #[error("a quota's burst must refill within a year: lower the burst or raise the rate")]
    Burst,
    /// A name that is not of letters, digits, `_`, `-` and `.`.
    #[error("the name of a quota has letters, digits, _ - and . only")]
    Name,
}

/// More was asked for at once than the quota ever has: no waiting will help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the request counts for more than the quota's burst of {burst}")]
pub struct TooHeavy {
    /// The most that can be asked for at once.
    pub burst: u32,
}

/// So many requests in a period, evenly spaced, with a burst on top of silence.
///
/// ```
/// use gimmal_security::rate_limit::Quota;
///
/// let quota = Quota::per_minute("api", 60)?.with_burst(10)?;
/// assert_eq!(quota.interval().as_secs(), 1); // one request a second, and ten at once after a pause
/// # Ok::<(), gimmal_security::rate_limit::QuotaError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    name: String,
    limit: u32,
    period: Duration,
    burst: u32,
    interval_ns: u64,
}

const YEAR_NS: u64 = 366 * 24 * 3600 * 1_000_000_000;

impl Quota {
    /// `limit` requests in each `period`, all of which may come at once. The name appears in the `RateLimit` fields
    /// and in logs.
    ///
    /// # Errors
    /// [`QuotaError`] for a rate of nothing, a burst of more than a year, or a bad name.
    pub fn new(name: &str, limit: u32, period: Duration) -> Result<Self, QuotaError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(QuotaError::Name);
        }
        let period_ns = u64::try_from(period.as_nanos()).map_err(|_| QuotaError::Burst)?;
        let interval_ns =
            period_ns.checked_div(u64::from(limit)).filter(|&ns| ns > 0).ok_or(QuotaError::Rate)?;
        Self { name: name.to_owned(), limit, period, burst: limit, interval_ns }.with_burst(limit)
    }

    /// `limit` requests a second.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn per_second(name: &str, limit: u32) -> Result<Self, QuotaError> {
        Self::new(name, limit, Duration::from_secs(1))
    }

    /// `limit` requests a minute.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn per_minute(name: &str, limit: u32) -> Result<Self, QuotaError> {
        Self::new(name, limit, Duration::from_secs(60))
    }

    /// `limit` requests an hour.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn per_hour(name: &str, limit: u32) -> Result<Self, QuotaError> {
        Self::new(name, limit, Duration::from_secs(3600))
    }

    /// How many may come at once after a pause, in place of the limit.
    ///
    /// # Errors
    /// [`QuotaError`] for none, or for more than refill within a year.
    pub fn with_burst(mut self, burst: u32) -> Result<Self, QuotaError> {
        let refill_ns = self.interval_ns.checked_mul(u64::from(burst));
        match refill_ns {
            Some(0) => Err(QuotaError::Rate),
            Some(ns) if ns <= YEAR_NS => {
                self.burst = burst;
                Ok(self)
            }
            _ => Err(QuotaError::Burst),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Requests in each period.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The period.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How many may come at once after a pause.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time in which one request is paid off.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    /// The time that `weight` requests cost.
    pub(super) fn cost_ns(&self, weight: NonZeroU32) -> Result<u64, TooHeavy> {
        if weight.get() > self.burst {
            Err(TooHeavy { burst: self.burst })
        } else {
            Ok(self.interval_ns * u64::from(weight.get()))
        }
    }

    /// The time that a whole burst costs.
    pub(super) fn burst_ns(&self) -> u64 {
        self.interval_ns * u64::from(self.burst)
    }

    /// The algorithm: `paid_until_ns` is the theoretical arrival time, when all past requests are paid off, and
    /// moves on with each one that is allowed.
    pub(super) fn decide(&self, paid_until_ns: &mut u64, now_ns: u64, cost_ns: u64) -> Decision {
        let next_ns = now_ns.max(*paid_until_ns).saturating_add(cost_ns);
        let latest_ns = now_ns.saturating_add(self.burst_ns());
        let wait_ns = next_ns.saturating_sub(latest_ns);
        if wait_ns == 0 {
            *paid_until_ns = next_ns;
        }
        self.decision(paid_until_ns.saturating_sub(now_ns), wait_ns)
    }

    /// The decision for a key whose past requests are paid off in `debt_ns`.
    pub(super) fn decision(&self, debt_ns: u64, wait_ns: u64) -> Decision {
        let remaining = self.burst_ns().saturating_sub(debt_ns) / self.interval_ns;
        Decision {
            retry_after: (wait_ns > 0).then(|| Duration::from_nanos(wait_ns)),
            // At most the burst, which is 32 bits wide.
            remaining: remaining as u32,
            reset: Duration::from_nanos(debt_ns),
        }
    }
}

/// What a limit says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// `None` if it is allowed, else how long to wait before the same would be allowed: answer 429.
    pub retry_after: Option<Duration>,
    /// How many more are allowed at once.
    pub remaining: u32,
    /// How long until the whole burst is there again, if no more come.
    pub reset: Duration,
}

impl Decision {
    /// Whether the request may go on.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.retry_after.is_none()
    }
}
