//! How many failures have which consequence.

use std::time::Duration;

/// What failed attempts lead to: first nothing, then delays that double, then, where it is allowed, a lock-out
/// whose length doubles. Failures are forgotten one by one as time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Failures without any consequence.
    pub free: u32,
    /// The delay after the first failure that is not free. It doubles with each one after it.
    pub delay_min: Duration,
    /// The longest delay.
    pub delay_max: Duration,
    /// Failures from which on there is a lock-out, or `None` if there never is.
    pub lock_out_after: Option<u32>,
    /// The first lock-out. It doubles with each failure after it.
    pub lock_out_min: Duration,
    /// The longest lock-out.
    pub lock_out_max: Duration,
    /// The time after which one failure is forgotten.
    pub forget_one_after: Duration,
}

impl AttemptLimits {
    /// For one account from one network, or from one known device: three free failures, then delays from 1 second
    /// on, and from the tenth on a lock-out of 1 minute that doubles up to 1 hour. One is forgotten in 1 hour.
    pub const PAIR: Self = Self {
        free: 3,
        delay_min: Duration::from_secs(1),
        delay_max: Duration::from_secs(10),
        lock_out_after: Some(10),
        lock_out_min: Duration::from_secs(60),
        lock_out_max: Duration::from_secs(3600),
        forget_one_after: Duration::from_secs(3600),
    };
    /// For one network, whatever the account: 30 free failures, then delays from half a second on, and from the 60th
    /// on a lock-out of 1 minute that doubles up to 1 hour. One is forgotten in 1 minute.
    pub const NETWORK: Self = Self {
        free: 30,
        delay_min: Duration::from_millis(500),
        lock_out_after: Some(60),
        forget_one_after: Duration::from_secs(60),
        ..Self::PAIR
    };
    /// For one account, from wherever it is not known: 30 free failures, then delays from half a second to 10
    /// seconds. There is no lock-out: anyone could bring it about. One is forgotten in 2 minutes.
    pub const ACCOUNT: Self = Self {
        free: 30,
        delay_min: Duration::from_millis(500),
        lock_out_after: None,
        forget_one_after: Duration::from_secs(120),
        ..Self::PAIR
    };

    /// The delay of an attempt that is the `nth` not known to be right.
    pub(super) fn delay(&self, nth: u32) -> Duration {
        match nth.checked_sub(self.free) {
            None | Some(0) => Duration::ZERO,
            Some(over) => doubled(self.delay_min, over - 1, self.delay_max),
        }
    }

    /// How long others are refused after the `nth` attempt that is not known to be right.
    pub(super) fn lock_out(&self, nth: u32) -> Option<Duration> {
        let over = nth.checked_sub(self.lock_out_after?)?;
        Some(doubled(self.lock_out_min, over, self.lock_out_max))
    }
}

/// `min`, doubled so many times, but no more than `max`.
fn doubled(min: Duration, times: u32, max: Duration) -> Duration {
    min.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_and_lock_outs_double_up_to_their_limits() {
        let secs = |nth| AttemptLimits::PAIR.delay(nth).as_secs();
        assert_eq!([0, 3, 4, 5, 6, 7, 8, 40, u32::MAX].map(secs), [0, 0, 1, 2, 4, 8, 10, 10, 10]);
        let secs = |nth| AttemptLimits::PAIR.lock_out(nth).map(|lock_out| lock_out.as_secs());
        assert_eq!(
            [9, 10, 11, 15, 16, 100].map(secs),
            [None, Some(60), Some(120), Some(1920), Some(3600), Some(3600)]
        );
        assert_eq!(AttemptLimits::ACCOUNT.lock_out(u32::MAX), None);
    }
}
