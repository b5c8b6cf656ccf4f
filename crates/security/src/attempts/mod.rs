//! Brute force: attempts to log in are slowed down and locked out, by account and by address, in a way that an
//! attacker cannot turn against the owner of an account.
//!
//! Four counts bear on an attempt, and the strictest decides:
//!
//! | count | when it is high | against |
//! | --- | --- | --- |
//! | the account, from this network | delays, then a lock-out | guessing one password |
//! | this network, whatever the account | delays, then a lock-out | spraying one password over many accounts |
//! | for IPv6, the site around the network | the same, eight times as late | spraying from a whole site |
//! | the account, from wherever it is not known | delays, never a lock-out | guessing from many addresses |
//!
//! A network is an IPv4 address or an IPv6 prefix of 64 bits, a site one of 48. An account is known in a network from
//! which someone logged in to it lately, and on a device with the cookie of an earlier login ([`DeviceCookies`]). On a
//! known device attempts have a count of their own that nobody else can raise, and in a known network the slow-down
//! of the whole account does not count: so what goes on elsewhere is nothing that the owner notices.
//!
//! An attempt counts as failed from its start until it is known to be right, so that a thousand at a time get no
//! further than one after the other do. A guess that was just counted is not counted again: a program that sends its
//! password with each of many requests at a time, or that keeps sending a wrong one, makes it no worse. Digest shows no
//! guess: there, begin an attempt when the secret is already looked up, and verify without waiting for anything else.
//!
//! ```
//! use std::time::Instant;
//!
//! use gimmal_security::SecretString;
//! use gimmal_security::attempts::{Attempts, Decision, Source};
//!
//! let attempts = Attempts::new();
//! let now = Instant::now();
//! let source = Source { account: "alice", address: "192.0.2.1".parse().unwrap(), device: None };
//! let attempt = attempts.begin(source, Some(&SecretString::from("guess")), now);
//! match attempt.decision() {
//!     Decision::Allow => {}
//!     Decision::Delay(_) => { /* sleep, and go on */ }
//!     Decision::Refuse { .. } => { /* 429 with Retry-After, and no look at the password */ }
//! }
//! // The password was right. For a wrong one there is nothing to do.
//! attempts.succeeded(attempt, now);
//! ```

mod device;
mod limits;
mod table;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};

pub use self::device::{DeviceCookies, DeviceId};
pub use self::limits::AttemptLimits;
use self::table::{Key, Table};

/// Counts of each kind that are kept, unless [`Attempts::with_capacity`] says otherwise.
pub const ATTEMPTS_CAPACITY: usize = 32_768;
/// How long a network is known for an account after a login.
pub const KNOWN_FOR: Duration = Duration::from_secs(30 * 86_400);
/// How many times more a site of IPv6 may do than one of its networks.
const SITE_FACTOR: u32 = 8;

/// What is to become of an attempt to log in. A longer delay is greater than a shorter one, and a refusal than any
/// delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// Look at the password.
    Allow,
    /// Wait for so long, and then look at the password.
    Delay(Duration),
    /// Do not look at the password. Answer 429.
    Refuse {
        /// When another attempt may be worth it: for `Retry-After`, rounded up to seconds.
        retry_after: Duration,
    },
}

/// Where an attempt comes from, and at which account it is aimed.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The account, in the one form that names it, whether it exists or not.
    pub account: &'a str,
    /// The address of the client; behind proxies, the one that a trusted proxy names.
    pub address: IpAddr,
    /// The device that [`DeviceCookies::check`] knows for this account.
    pub device: Option<DeviceId>,
}

/// An attempt that was begun. Hand it back to [`Attempts::succeeded`] if the password was right, and drop it if it was
/// wrong.
#[derive(Debug)]
#[must_use = "an attempt stands for a failed one until it is handed back"]
pub struct Attempt {
    decision: Decision,
    keys: Keys,
    mark: Option<u16>,
    /// Whether the counts went up.
    counted: bool,
}

impl Attempt {
    /// What is to become of it.
    #[must_use]
    pub fn decision(&self) -> Decision {
        self.decision
    }
}

/// What an attempt is counted under.
#[derive(Clone, Copy, Debug)]
struct Keys {
    /// The account, with the device if it is known, and else with the network.
    pair: Key,
    /// The counts that others share, which an attempt from a known device does not go into.
    shared: Option<SharedKeys>,
}

#[derive(Clone, Copy, Debug)]
struct SharedKeys {
    network: Key,
    site: Option<Key>,
    /// Left out in a network in which the account is known.
    account: Option<Key>,
}

/// Counts attempts to log in, and decides about each. One for all cores: memory is fixed, and cores wait for one
/// another only where they count for the same few accounts.
///
/// See the [module](self) for the rules and for an example.
#[derive(Debug)]
pub struct Attempts {
    hasher: RandomState,
    pairs: Table,
    networks: Table,
    sites: Table,
    accounts: Table,
}

impl Attempts {
    /// With the limits [`AttemptLimits::PAIR`], [`AttemptLimits::NETWORK`] and [`AttemptLimits::ACCOUNT`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(ATTEMPTS_CAPACITY)
    }

    /// Keeps so many counts of each of the four kinds: up to 96 bytes each. Beyond that, the counts that
    /// are nearest to being forgotten make room.
    #[must_use]
    pub fn with_capacity(counts: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            pairs: Table::new(AttemptLimits::PAIR, counts),
            networks: Table::new(AttemptLimits::NETWORK, counts),
            sites: Table::new(of_site(AttemptLimits::NETWORK), counts),
            accounts: Table::new(AttemptLimits::ACCOUNT, counts),
        }
    }

    /// Sets the limits for one account from one network or known device.
    #[must_use]
    pub fn with_pair_limits(mut self, limits: AttemptLimits) -> Self {
        self.pairs.limits = limits;
        self
    }

    /// Sets the limits for one network, whatever the account. Those of an IPv6 site are eight times as high.
    #[must_use]
    pub fn with_network_limits(mut self, limits: AttemptLimits) -> Self {
        self.networks.limits = limits;
        self.sites.limits = of_site(limits);
        self
    }

    /// Sets the limits for one account from wherever it is not known. A lock-out among them is left out: anyone
    /// could bring it about.
    #[must_use]
    pub fn with_account_limits(mut self, limits: AttemptLimits) -> Self {
        self.accounts.limits = AttemptLimits { lock_out_after: None, ..limits };
        self
    }

    /// Begins an attempt at `now`, and counts it as failed until it is known to be right. `guess` is the password that
    /// comes with it, where there is one.
    pub fn begin(&self, source: Source<'_>, guess: Option<&SecretString>, now: Instant) -> Attempt {
        let keys = self.keys(source, now);
        let mark = guess.map(|guess| self.mark(guess));
        if let Some(retry_after) = self.locked_for(keys, now) {
            return Attempt { decision: Decision::Refuse { retry_after }, keys, mark, counted: false };
        }
        let (repeated, mut delay) = self.pairs.write(keys.pair, now, |count| {
            if mark.is_some_and(|mark| count.has_seen(mark)) {
                (true, count.delay(&self.pairs.limits))
            } else {
                (false, count.add(&self.pairs.limits, now))
            }
        });
        for (table, key) in self.shared(keys) {
            let other = table.write(key, now, |count| {
                if repeated { count.delay(&table.limits) } else { count.add(&table.limits, now) }
            });
            delay = delay.max(other);
        }
        let decision = if delay.is_zero() { Decision::Allow } else { Decision::Delay(delay) };
        Attempt { decision, keys, mark, counted: !repeated }
    }

    /// Takes note at `now` that an attempt was right. What the account has failed from there is forgotten, and the
    /// network is known for it from now on. Of what others share, only this attempt is taken back: with an account
    /// of one's own one cannot wipe out what one did to others.
    #[expect(clippy::needless_pass_by_value, reason = "an attempt ends once")]
    pub fn succeeded(&self, attempt: Attempt, now: Instant) {
        let Attempt { decision, keys, counted, .. } = attempt;
        if let Decision::Refuse { .. } = decision {
            return;
        }
        self.pairs.write(keys.pair, now, |count| {
            count.reset();
            count.known_until = now.checked_add(KNOWN_FOR);
        });
        if counted {
            self.take_back_shared(keys, now);
        }
    }

    /// Takes back an attempt that came to no end, because the server was too busy to look at the password.
    #[expect(clippy::needless_pass_by_value, reason = "an attempt ends once")]
    pub fn abandoned(&self, attempt: Attempt, now: Instant) {
        let Attempt { keys, mark, counted, .. } = attempt;
        if counted {
            self.pairs.read(keys.pair, now, |count| {
                count.take_back(&self.pairs.limits);
                count.forget_guess(mark);
            });
            self.take_back_shared(keys, now);
        }
    }

    /// Attempts at an account, from wherever it is not known, that failed and are not forgotten at `now`. When there
    /// are many, ask for more than a password, and tell the owner: delays alone do not stop guesses from thousands
    /// of addresses.
    #[must_use]
    pub fn failures(&self, account: &str, now: Instant) -> u32 {
        self.accounts.read(self.account_key(account), now, |count| count.nth()).unwrap_or(0)
    }

    fn take_back_shared(&self, keys: Keys, now: Instant) {
        for (table, key) in self.shared(keys) {
            table.read(key, now, |count| count.take_back(&table.limits));
        }
    }

    /// The longest time for which one of the counts refuses an attempt.
    fn locked_for(&self, keys: Keys, now: Instant) -> Option<Duration> {
        std::iter::once((&self.pairs, keys.pair))
            .chain(self.shared(keys))
            .filter_map(|(table, key)| table.read(key, now, |count| count.locked_for(now)).flatten())
            .max()
    }

    fn shared(&self, keys: Keys) -> impl Iterator<Item = (&Table, Key)> {
        let shared = keys.shared;
        [
            (&self.networks, shared.map(|shared| shared.network)),
            (&self.sites, shared.and_then(|shared| shared.site)),
            (&self.accounts, shared.and_then(|shared| shared.account)),
        ]
        .into_iter()
        .filter_map(|(table, key)| Some((table, key?)))
    }

    fn keys(&self, source: Source<'_>, now: Instant) -> Keys {
        let Source { account, address, device } = source;
        if let Some(DeviceId(device)) = device {
            return Keys { pair: self.hasher.hash_one(("device", account, device)), shared: None };
        }
        let (network, site) = networks(address);
        let pair = self.hasher.hash_one(("pair", account, network));
        let is_known = self.pairs.read(pair, now, |count| count.is_known(now)).unwrap_or(false);
        let shared = SharedKeys {
            network: self.hasher.hash_one(("network", network)),
            site: site.map(|site| self.hasher.hash_one(("site", site))),
            account: (!is_known).then(|| self.account_key(account)),
        };
        Keys { pair, shared: Some(shared) }
    }

    fn account_key(&self, account: &str) -> Key {
        self.hasher.hash_one(("account", account))
    }

    fn mark(&self, guess: &SecretString) -> u16 {
        (self.hasher.hash_one(("guess", guess.expose_secret())) as u16).max(1)
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new()
    }
}

fn of_site(limits: AttemptLimits) -> AttemptLimits {
    AttemptLimits {
        free: limits.free.saturating_mul(SITE_FACTOR),
        lock_out_after: limits.lock_out_after.map(|failures| failures.saturating_mul(SITE_FACTOR)),
        forget_one_after: limits.forget_one_after / SITE_FACTOR,
        ..limits
    }
}

/// The network of an address, and for IPv6 the site around it, each as the bits that are left of the address.
fn networks(address: IpAddr) -> (u128, Option<u128>) {
    match address.to_canonical() {
        IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), None),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits >> 64 << 64, Some(bits >> 80 << 80))
        }
    }
}
