//! The counters of one machine, in fixed memory.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::quota::{Decision, Quota, TooHeavy};

/// Slots that share one lock: with this many, keys of one set seldom drive each other out.
const SET_SLOTS: usize = 15;

/// A key's counter. A slot whose time has passed is as good as empty: a key without a counter is one that owes
/// nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    paid_until_ns: u64,
}

/// A lock and its slots on four cache lines of their own, so that two cores meet only on the same keys.
#[derive(Debug, Default)]
#[repr(align(256))]
struct Set(Mutex<[Slot; SET_SLOTS]>);

/// Holds each key to a [`Quota`], for all cores of one machine.
///
/// The memory is fixed at the start, about 17 bytes a key, and no key allocates. Keys are kept as 64-bit hashes under a
/// random secret, so nobody can aim at another's counter, and the table holds no addresses.
///
/// When a set of 15 keys is full, the key that owes least is forgotten. A client that was refused owes most of all: to
/// have itself forgotten it would have to bring 15 other keys of a set that it cannot know into worse debt. Flooding
/// the table with new addresses frees nobody.
///
/// Time is passed in, as elapsed since any fixed point, the same for all calls.
///
/// ```
/// use std::time::Duration;
///
/// use gimmal_security::rate_limit::{Quota, RateLimiter, address_key};
///
/// let limiter = RateLimiter::new(Quota::per_second("login", 2)?, 10_000);
/// let (client, now) = (address_key("192.0.2.7".parse()?), Duration::from_secs(100));
/// assert!(limiter.check(&client, now).is_allowed());
/// assert!(limiter.check(&client, now).is_allowed());
/// let refused = limiter.check(&client, now);
/// assert_eq!(refused.retry_after, Some(Duration::from_millis(500)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RateLimiter {
    quota: Quota,
    secret: RandomState,
    sets: Box<[Set]>,
}

impl RateLimiter {
    /// A limiter with room for about `keys` keys in debt at one time. Give twice as many as you expect.
    #[must_use]
    pub fn new(quota: Quota, keys: usize) -> Self {
        let sets = keys.div_ceil(SET_SLOTS).max(1).next_power_of_two();
        Self { quota, secret: RandomState::new(), sets: (0..sets).map(|_| Set::default()).collect() }
    }

    /// The quota.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// The keys that there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.sets.len() * SET_SLOTS
    }

    /// Counts one request of `key` at `now`, if it is allowed.
    pub fn check(&self, key: &(impl Hash + ?Sized), now: Duration) -> Decision {
        let interval_ns = self.quota.interval().as_nanos() as u64;
        self.charge(key, now, interval_ns)
    }

    /// Counts a request of `key` that weighs as much as `weight` plain ones, if it is allowed; all or nothing.
    ///
    /// # Errors
    /// [`TooHeavy`] if it weighs more than the burst: it can never be allowed.
    pub fn check_weight(
        &self,
        key: &(impl Hash + ?Sized),
        weight: NonZeroU32,
        now: Duration,
    ) -> Result<Decision, TooHeavy> {
        let cost_ns = self.quota.cost_ns(weight)?;
        Ok(self.charge(key, now, cost_ns))
    }

    /// Forgets what a key owes, as after a login that succeeded.
    pub fn forget(&self, key: &(impl Hash + ?Sized)) {
        let (set, key) = self.find(key);
        let mut slots = set.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.key == key) {
            *slot = Slot::default();
        }
    }

    fn charge(&self, key: &(impl Hash + ?Sized), now: Duration, cost_ns: u64) -> Decision {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let (set, key) = self.find(key);
        let mut slots = set.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match slots.iter().position(|slot| slot.key == key) {
            Some(index) => index,
            None => {
                let owes_least = (0..SET_SLOTS).min_by_key(|&index| slots[index].paid_until_ns).unwrap_or(0);
                slots[owes_least] = Slot { key, paid_until_ns: 0 };
                owes_least
            }
        };
        self.quota.decide(&mut slots[index].paid_until_ns, now_ns, cost_ns)
    }

    fn find(&self, key: &(impl Hash + ?Sized)) -> (&Set, u64) {
        let hash = self.secret.hash_one(key);
        // The number of sets is a power of two. Zero is the key of an empty slot.
        (&self.sets[hash as usize & (self.sets.len() - 1)], hash.max(1))
    }
}

/// The key by which to limit an address: an IPv4 address, or the first 64 bits of an IPv6 address, as whoever has one
/// of those has all 2⁶⁴ of them.
#[must_use]
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
        address @ IpAddr::V4(_) => address,
    }
}
