//! Floods and brute force: rate limits.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gimmal_security::rate_limit::{Decision, Quota, QuotaError, RateLimiter, TooHeavy, address_key, fields};
use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

const START: Duration = Duration::from_secs(1_000_000);

fn weight(weight: u32) -> NonZeroU32 {
    NonZeroU32::new(weight).unwrap()
}

#[test]
fn a_burst_passes_and_then_one_in_each_interval() {
    let limiter = RateLimiter::new(Quota::per_second("q", 10).unwrap().with_burst(3).unwrap(), 100);
    let at = |ms| limiter.check("k", START + Duration::from_millis(ms));
    assert_eq!([at(0), at(0), at(0)].map(|decision| decision.remaining), [2, 1, 0]);
    let refused = at(0);
    assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
    assert_eq!((refused.remaining, refused.reset), (0, Duration::from_millis(300)));
    assert!(!at(99).is_allowed());
    assert!(at(100).is_allowed());
    assert!(!at(100).is_allowed());
    assert!([500, 500, 500].map(at).iter().all(Decision::is_allowed));
}

#[test]
fn a_refused_request_costs_nothing() {
    let limiter = RateLimiter::new(Quota::per_second("q", 1).unwrap(), 100);
    assert!(limiter.check("k", START).is_allowed());
    for _ in 0..1000 {
        assert!(!limiter.check("k", START).is_allowed());
    }
    assert!(limiter.check("k", START + Duration::from_secs(1)).is_allowed());
}

#[test]
fn keys_are_apart_and_can_be_forgotten() {
    let limiter = RateLimiter::new(Quota::per_hour("q", 1).unwrap(), 100);
    assert!(limiter.check("a", START).is_allowed() && limiter.check("b", START).is_allowed());
    assert!(!limiter.check("a", START).is_allowed());
    limiter.forget("a");
    assert!(limiter.check("a", START).is_allowed() && !limiter.check("b", START).is_allowed());
}

#[test]
fn a_heavy_request_is_all_or_nothing() {
    let limiter = RateLimiter::new(Quota::per_second("q", 10).unwrap(), 100);
    let check = |n| limiter.check_weight("k", weight(n), START);
    assert_eq!(check(11), Err(TooHeavy { burst: 10 }));
    assert!(check(7).unwrap().is_allowed());
    assert_eq!(check(4).unwrap().retry_after, Some(Duration::from_millis(100)));
    assert!(check(3).unwrap().is_allowed());
}

/// An attacker who was refused cannot have itself forgotten by way of new keys, however many it has, unless it brings
/// each of them into the same debt first.
#[test]
fn flood_of_new_keys_does_not_free_a_blocked_one() {
    let limiter = RateLimiter::new(Quota::per_minute("login", 5).unwrap(), 150);
    for _ in 0..5 {
        assert!(limiter.check("attacker", START).is_allowed());
    }
    for number in 0..100_000_u32 {
        let _ = limiter.check(&number, START);
        if number % 1000 == 0 {
            assert!(!limiter.check("attacker", START).is_allowed(), "freed after {number} keys");
        }
    }
    assert!(!limiter.check("attacker", START).is_allowed());
}

#[test]
fn a_full_table_refuses_no_newcomer() {
    let limiter = RateLimiter::new(Quota::per_minute("q", 5).unwrap(), 15);
    for number in 0..10_000_u32 {
        assert!(limiter.check(&number, START).is_allowed());
    }
}

#[test]
fn an_ipv6_network_is_one_client() {
    let key = |text: &str| address_key(text.parse::<IpAddr>().unwrap());
    assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
}

#[test]
fn no_more_pass_than_the_quota_from_all_cores_together() {
    let limiter = Arc::new(RateLimiter::new(Quota::per_hour("q", 500).unwrap(), 100));
    let count = |limiter: Arc<RateLimiter>| {
        move || (0..1000).filter(|_| limiter.check("k", START).is_allowed()).count()
    };
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(count(limiter.clone()))).collect();
    let passed: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(passed, 500);
}

#[test]
fn a_clock_that_steps_back_or_ends_does_no_harm() {
    let limiter = RateLimiter::new(Quota::per_second("q", 1).unwrap(), 100);
    assert!(limiter.check("k", START).is_allowed());
    assert!(!limiter.check("k", START - Duration::from_secs(10)).is_allowed());
    assert!(!limiter.check("k", Duration::ZERO).is_allowed());
    let _ = limiter.check("k", Duration::MAX);
    assert!(limiter.check("other", Duration::ZERO).is_allowed());
}

#[test]
fn quotas_that_make_no_sense_are_refused() {
    assert_eq!(Quota::per_second("q", 0), Err(QuotaError::Rate));
    assert_eq!(Quota::new("q", 1, Duration::ZERO), Err(QuotaError::Rate));
    assert_eq!(Quota::new("q", u32::MAX, Duration::from_secs(1)), Err(QuotaError::Rate));
    assert_eq!(Quota::per_hour("q", 1).unwrap().with_burst(0), Err(QuotaError::Rate));
    assert_eq!(Quota::per_hour("q", 1).unwrap().with_burst(10_000), Err(QuotaError::Burst));
    assert_eq!(Quota::new("q", 1, Duration::MAX), Err(QuotaError::Burst));
    for bad in ["", "a b", "a\"", "a;b", "a,b", "é", "a\n"] {
        assert_eq!(Quota::per_second(bad, 1), Err(QuotaError::Name), "{bad}");
    }
}

#[test]
fn fields_of_several_quotas_are_lists_and_the_longest_wait_wins() {
    let second = RateLimiter::new(Quota::per_second("burst", 2).unwrap(), 10);
    let hour = RateLimiter::new(Quota::per_hour("day-to-day", 2).unwrap(), 10);
    let decide = || [(second.quota(), second.check("k", START)), (hour.quota(), hour.check("k", START))];
    let (_, _) = (decide(), decide());
    let fields = fields(&decide());
    let shown: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(
        shown,
        [
            ("ratelimit-policy", "\"burst\";q=2;w=1, \"day-to-day\";q=2;w=3600"),
            ("ratelimit", "\"burst\";r=0;t=1, \"day-to-day\";r=0;t=3600"),
            ("retry-after", "1800"),
        ]
    );
}

#[test]
fn who_waits_as_told_is_allowed() {
    let limiter = RateLimiter::new(Quota::new("q", 7, Duration::from_secs(3)).unwrap(), 10);
    while limiter.check("k", START).is_allowed() {}
    let wait = limiter.check("k", START).retry_after.unwrap();
    assert!(!limiter.check("k", START + wait - Duration::from_nanos(1)).is_allowed());
    assert!(limiter.check("k", START + wait).is_allowed());
}

proptest! {
    /// Against another implementation of the algorithm.
    #[test]
    fn agrees_with_governor(
        limit in 1_u32..200,
        burst in 1_u32..50,
        steps in prop::collection::vec((0_u64..400_000_000, 1_u32..8), 1..200),
    ) {
        let quota = Quota::per_second("q", limit).unwrap().with_burst(burst).unwrap();
        let interval = quota.interval();
        let limiter = RateLimiter::new(quota, 10);
        let clock = FakeRelativeClock::default();
        let oracle = governor::RateLimiter::direct_with_clock(
            governor::Quota::with_period(interval).unwrap().allow_burst(weight(burst)),
            clock.clone(),
        );
        let mut now = START;
        for (pause_ns, cost) in steps {
            let pause = Duration::from_nanos(pause_ns);
            now += pause;
            clock.advance(pause);
            let ours = limiter.check_weight("k", weight(cost), now).map(|decision| decision.is_allowed());
            let theirs = oracle.check_n(weight(cost)).map(|decision| decision.is_ok());
            prop_assert_eq!(ours.ok(), theirs.ok());
        }
    }

    /// What is left is what a burst at once would be allowed.
    #[test]
    fn what_remains_is_what_passes(burst in 1_u32..20, used in 0_u32..20, pause_ms in 0_u64..3000) {
        let limiter = RateLimiter::new(Quota::per_second("q", 5).unwrap().with_burst(burst).unwrap(), 10);
        for _ in 0..used {
            let _ = limiter.check("k", START);
        }
        let now = START + Duration::from_millis(pause_ms);
        let first = limiter.check("k", now);
        let passed = (0..100).filter(|_| limiter.check("k", now).is_allowed()).count();
        prop_assert_eq!(passed, first.remaining as usize);
    }
}
