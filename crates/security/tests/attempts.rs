//! Brute force, from the side of the attacker and from that of the owner of the account.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use gimmal_security::attempts::{
    Attempt, AttemptLimits, Attempts, Decision, DeviceCookies, DeviceId, KNOWN_FOR, Source,
};
use gimmal_security::{MacKey, SecretString};

const SECOND: Duration = Duration::from_secs(1);

fn v4(last: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xc633_6400 + last).into()
}

fn v6(text: &str) -> IpAddr {
    text.parse::<Ipv6Addr>().unwrap().into()
}

fn source(account: &str, address: IpAddr) -> Source<'_> {
    Source { account, address, device: None }
}

/// A new guess every time.
fn guess(attempts: &Attempts, source: Source<'_>, now: Instant) -> Attempt {
    attempts.begin(source, None, now)
}

fn decide(attempts: &Attempts, source: Source<'_>, now: Instant) -> Decision {
    guess(attempts, source, now).decision()
}

fn log_in(attempts: &Attempts, source: Source<'_>, now: Instant) -> Decision {
    let attempt = guess(attempts, source, now);
    let decision = attempt.decision();
    attempts.succeeded(attempt, now);
    decision
}

fn device(account: &str) -> DeviceId {
    let cookies = DeviceCookies::new(MacKey::random());
    cookies.check(&cookies.issue(account, 0), account, 0).unwrap()
}

fn is_refused(decision: Decision) -> bool {
    matches!(decision, Decision::Refuse { .. })
}

#[test]
fn password_guessing() {
    let attempts = Attempts::new();
    let mut now = Instant::now();
    let alice = source("alice", v4(1));
    let decisions: Vec<_> = (0..11).map(|_| decide(&attempts, alice, now)).collect();
    let expected: Vec<_> = [1, 2, 4, 8, 10, 10, 10].map(|secs| Decision::Delay(SECOND * secs)).into();
    assert_eq!(decisions[..3], [Decision::Allow; 3]);
    assert_eq!(decisions[3..10], expected);
    assert_eq!(decisions[10], Decision::Refuse { retry_after: SECOND * 60 });
    // Attempts while it is locked do not prolong it.
    now += SECOND * 59;
    assert_eq!(decide(&attempts, alice, now), Decision::Refuse { retry_after: SECOND });
    // After it there is one attempt, and then a lock-out of twice the length, up to an hour.
    now += SECOND;
    for lock_out in [120, 240, 480, 960] {
        assert_eq!(decide(&attempts, alice, now), Decision::Delay(SECOND * 10));
        let Decision::Refuse { retry_after } = decide(&attempts, alice, now) else { panic!() };
        assert!(retry_after >= SECOND * lock_out, "{retry_after:?}");
        now += retry_after;
    }
    // In a day all is forgotten.
    assert_eq!(decide(&attempts, alice, now + SECOND * 86_400), Decision::Allow);
}

/// A day of guesses from one address, at the pace that the decisions allow.
#[test]
fn password_guessing_for_a_day() {
    let attempts = Attempts::new();
    let start = Instant::now();
    let (mut now, mut guesses) = (start, 0);
    while now < start + SECOND * 86_400 {
        match decide(&attempts, source("alice", v4(1)), now) {
            Decision::Allow => guesses += 1,
            Decision::Delay(delay) => (guesses, now) = (guesses + 1, now + delay),
            Decision::Refuse { retry_after } => now += retry_after,
        }
    }
    assert!((20..=60).contains(&guesses), "{guesses}");
}

#[test]
fn password_guessing_in_parallel() {
    let attempts = Attempts::new();
    let now = Instant::now();
    let allowed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..250).filter(|_| !is_refused(decide(&attempts, source("alice", v4(1)), now))).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // Each of four threads may be between the look at the lock and the count.
    assert!((10..=13).contains(&allowed), "{allowed}");
}

#[test]
fn password_spray() {
    let attempts = Attempts::new();
    let now = Instant::now();
    let mut decisions = Vec::new();
    for n in 0..200 {
        decisions.push(decide(&attempts, source(&format!("user{n}"), v4(1)), now));
    }
    assert!(decisions[..30].iter().all(|&decision| decision == Decision::Allow));
    assert!(decisions[30..60].iter().all(|decision| matches!(decision, Decision::Delay(_))));
    assert!(decisions[60..].iter().all(|&decision| is_refused(decision)));
    assert_eq!(decide(&attempts, source("user0", v4(2)), now), Decision::Allow, "others are not concerned");
}

/// With an account of one's own one cannot wipe out what one did to others.
#[test]
fn password_spray_with_logins_in_between() {
    let attempts = Attempts::new();
    let now = Instant::now();
    let own = SecretString::from("own");
    let mut refused = 0;
    for n in 0..200 {
        refused += usize::from(is_refused(decide(&attempts, source(&format!("user{n}"), v4(1)), now)));
        // Many at a time with the same password, of which only one is counted.
        let burst: Vec<_> =
            (0..8).map(|_| attempts.begin(source("mallory", v4(1)), Some(&own), now)).collect();
        for attempt in burst {
            attempts.succeeded(attempt, now);
        }
    }
    assert!(refused >= 140, "{refused}");
}

#[test]
fn password_spray_from_an_ipv6_network_and_site() {
    let now = Instant::now();
    let refused_of = |address: &dyn Fn(usize) -> String| {
        let attempts = Attempts::new();
        (0..1000)
            .filter(|&n| is_refused(decide(&attempts, source(&format!("user{n}"), v6(&address(n))), now)))
            .count()
    };
    // A new address in the same /64 every time.
    assert_eq!(refused_of(&|n| format!("2001:db8:1:1::{n:x}")), 940);
    // A new /64 in the same /48 every time.
    assert_eq!(refused_of(&|n| format!("2001:db8:1:{n:x}::1")), 520);
    // IPv4 in the form of IPv6 is one address like another.
    assert_eq!(refused_of(&|n| format!("::ffff:{}.{}.1.1", n / 250 + 1, n % 250)), 0);
    assert_eq!(refused_of(&|_| "::ffff:192.0.2.1".to_owned()), 940);
}

/// Guesses from many addresses, as of a botnet.
#[test]
fn password_guessing_from_many_addresses() {
    let attempts = Attempts::new();
    let now = Instant::now();
    let decisions: Vec<_> = (0..1000).map(|n| decide(&attempts, source("alice", v4(n)), now)).collect();
    assert!(decisions[..30].iter().all(|&decision| decision == Decision::Allow));
    assert!(decisions[30..].iter().all(|decision| matches!(decision, Decision::Delay(_))));
    assert_eq!(decisions[999], Decision::Delay(SECOND * 10));
    assert_eq!(attempts.failures("alice", now), 1000);
    assert_eq!(attempts.failures("alice", now + SECOND * 1200), 990);
    assert_eq!(attempts.failures("bob", now), 0);
}

#[test]
fn victim_lockout() {
    let attempts = Attempts::new();
    let start = Instant::now();
    let phone = device("alice");
    assert_eq!(log_in(&attempts, source("alice", v4(1)), start), Decision::Allow);
    // The attacker: from everywhere, and from the victim's own address as well.
    for n in 0..2000 {
        let _ = guess(&attempts, source("alice", v4(100 + n % 500)), start);
    }
    // From where she logged in before she notices nothing.
    assert_eq!(log_in(&attempts, source("alice", v4(1)), start), Decision::Allow);
    // From a new place she waits, but gets in.
    let from_new_place = decide(&attempts, source("alice", v4(2)), start);
    assert!(matches!(from_new_place, Decision::Delay(delay) if delay <= SECOND * 10), "{from_new_place:?}");
    // From the same network as the attacker she gets in on a device that is known.
    for _ in 0..100 {
        let _ = guess(&attempts, source("alice", v4(1)), start);
    }
    assert!(is_refused(decide(&attempts, source("alice", v4(1)), start)));
    let on_phone = Source { device: Some(phone), ..source("alice", v4(1)) };
    assert_eq!(log_in(&attempts, on_phone, start), Decision::Allow);
    // An address is not known forever.
    let later = start + KNOWN_FOR + SECOND;
    for n in 0..1000 {
        let _ = guess(&attempts, source("alice", v4(1000 + n)), later);
    }
    assert_eq!(decide(&attempts, source("alice", v4(1)), later), Decision::Delay(SECOND * 10));
}

#[test]
fn device_cookie_stolen() {
    let attempts = Attempts::new();
    let now = Instant::now();
    let stolen = Source { device: Some(device("alice")), ..source("alice", v4(1)) };
    let refused = (0..100).filter(|_| is_refused(decide(&attempts, stolen, now))).count();
    assert_eq!(refused, 90, "it helps no further than an address does");
    // From wherever it is used.
    assert!(is_refused(decide(&attempts, Source { address: v4(2), ..stolen }, now)));
    // Another device of the same owner has its own count.
    let other = Source { device: Some(device("alice")), ..stolen };
    assert_eq!(decide(&attempts, other, now), Decision::Allow);
}

/// A program that sends its password with each request, many at a time, as with Basic.
#[test]
fn many_requests_with_one_password() {
    let attempts = Attempts::new();
    let now = Instant::now();
    let begin =
        |password: &str| attempts.begin(source("robot", v4(1)), Some(&SecretString::from(password)), now);
    let right: Vec<_> = (0..500).map(|_| begin("right")).collect();
    assert!(right.iter().all(|attempt| attempt.decision() == Decision::Allow));
    for attempt in right {
        attempts.succeeded(attempt, now);
    }
    // One that was set up with a wrong password locks out nobody either.
    assert!((0..500).all(|_| begin("wrong").decision() == Decision::Allow));
    let after = begin("right");
    assert_eq!(after.decision(), Decision::Allow);
    attempts.succeeded(after, now);
    // Other guesses count, whatever comes between them.
    let refused = (0..100)
        .filter(|n| {
            let _ = begin("wrong");
            is_refused(begin(&format!("guess {n}")).decision())
        })
        .count();
    assert!(refused >= 85, "{refused}");
}

#[test]
fn attempts_that_came_to_no_end_are_taken_back() {
    let attempts = Attempts::new();
    let now = Instant::now();
    for _ in 0..1000 {
        let attempt = guess(&attempts, source("alice", v4(1)), now);
        assert_eq!(attempt.decision(), Decision::Allow);
        attempts.abandoned(attempt, now);
    }
    // Nor does an end that never came make a guess free.
    let begin =
        |password: &str| attempts.begin(source("alice", v4(1)), Some(&SecretString::from(password)), now);
    attempts.abandoned(begin("guess"), now);
    let _ = (begin("guess"), begin("two"), begin("three"));
    assert_eq!(begin("four").decision(), Decision::Delay(SECOND));
}

#[test]
fn limits_can_be_set_but_no_lock_out_of_whole_accounts() {
    let strict = AttemptLimits { free: 0, lock_out_after: Some(1), ..AttemptLimits::PAIR };
    let now = Instant::now();
    let by_account = Attempts::new().with_account_limits(strict);
    for n in 0..100 {
        assert!(matches!(decide(&by_account, source("alice", v4(n)), now), Decision::Delay(_)));
    }
    let by_network = Attempts::new().with_network_limits(strict);
    assert!(!is_refused(decide(&by_network, source("alice", v4(1)), now)));
    assert!(is_refused(decide(&by_network, source("bob", v4(1)), now)));
    let by_pair = Attempts::new().with_pair_limits(strict);
    assert!(!is_refused(decide(&by_pair, source("alice", v4(1)), now)));
    assert!(is_refused(decide(&by_pair, source("alice", v4(1)), now)));
    assert!(!is_refused(decide(&by_pair, source("bob", v4(1)), now)));
}

/// Memory is bounded, and a flood of other accounts does not free one that is locked.
#[test]
fn counts_flooded() {
    let attempts = Attempts::with_capacity(256);
    let now = Instant::now();
    for _ in 0..10 {
        let _ = guess(&attempts, source("alice", v4(1)), now);
    }
    for n in 0..20_000 {
        let _ = guess(&attempts, source(&format!("user{n}"), v4(2 + n)), now);
    }
    assert!(is_refused(decide(&attempts, source("alice", v4(1)), now)));
}

#[test]
fn decisions_are_in_order_of_severity() {
    let refuse = |secs| Decision::Refuse { retry_after: SECOND * secs };
    let ordered =
        [Decision::Allow, Decision::Delay(SECOND), Decision::Delay(SECOND * 2), refuse(1), refuse(2)];
    assert!(ordered.is_sorted());
}
