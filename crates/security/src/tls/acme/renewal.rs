//! When to renew, and when to try again.

use std::time::Duration;

use crate::random;

const DAY: u64 = 24 * 3600;

/// When to renew a certificate with this validity, all in seconds since 1970: when a third of its time is left, and
/// half of it for those that live shorter than ten days. That leaves time for many attempts.
///
/// ```
/// use gimmal_security::tls::acme::renewal_time;
///
/// let day = 24 * 3600;
/// assert_eq!(renewal_time(0, 90 * day), 60 * day);
/// assert_eq!(renewal_time(0, 6 * day), 3 * day);
/// ```
#[must_use]
pub fn renewal_time(not_before: u64, not_after: u64) -> u64 {
    let lifetime = not_after.saturating_sub(not_before);
    let left = if lifetime < 10 * DAY { lifetime / 2 } else { lifetime / 3 };
    not_after - left
}

/// How long to wait after so many failures in a row: not at all after none, then a minute, twice as long after each,
/// and six hours at most, so that no rate limit is met (RFC 8555 section 6.6); and by chance up to a quarter longer, so
/// that servers that failed together do not come back together.
///
/// ```
/// use gimmal_security::tls::acme::retry_after;
///
/// for (failures, minutes) in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360].into_iter().enumerate() {
///     let wait = retry_after(failures as u32).as_secs();
///     assert!((minutes * 60..=minutes * 75).contains(&wait));
/// }
/// ```
#[must_use]
pub fn retry_after(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let base = Duration::from_secs((60 << doublings.min(16)).min(6 * 3600));
    let [chance] = random::bytes::<1>();
    base + base.mul_f64(f64::from(chance) / 1024.0)
}
