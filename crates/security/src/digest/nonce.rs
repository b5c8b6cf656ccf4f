//! Nonces that the server need not remember, and the counts that show a replay (RFC 7616 sections 3.3 and 5.5).

use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::mac_key::MacKey;
use crate::random;

const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 16 + TAG_BYTES;
/// Nonces whose counts lie behind one lock.
const SET_NONCES: usize = 4;
/// How far behind the highest count a request may come: a browser's parallel connections overtake one another.
const WINDOW: u32 = 64;

/// A nonce that this server made: when, and a number of its own. On the wire it is both and their tag, in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce {
    /// Seconds since 1970.
    issued_at: u64,
    number: u64,
}

impl Nonce {
    pub(super) fn new(now: u64) -> Self {
        Self { issued_at: now, number: u64::from_ne_bytes(random::bytes()) }
    }

    pub(super) fn age_secs(self, now: u64) -> u64 {
        now.saturating_sub(self.issued_at)
    }

    /// Whether it is not too old. Nor may it be far in the future, where a clock may have been.
    pub(super) fn is_in_use(self, now: u64, lifetime_secs: u64) -> bool {
        self.issued_at.abs_diff(now) <= lifetime_secs
    }

    pub(super) fn encode(self, key: &MacKey, realm: &str) -> String {
        let mut bytes = [0; NONCE_BYTES];
        bytes[..8].copy_from_slice(&self.issued_at.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_be_bytes());
        let tag = key.tag("digest nonce", &[realm.as_bytes(), &bytes[..16]]);
        bytes[16..].copy_from_slice(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The nonce behind `text`, if `key` made it for this realm.
    pub(super) fn decode(text: &str, key: &MacKey, realm: &str) -> Option<Self> {
        let bytes: [u8; NONCE_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let tag = key.tag("digest nonce", &[realm.as_bytes(), &bytes[..16]]);
        let genuine: bool = bytes[16..].ct_eq(&tag[..TAG_BYTES]).into();
        let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        genuine.then_some(Self { issued_at: word(0)?, number: word(8)? })
    }
}

/// What was seen of the counts of one nonce.
#[derive(Clone, Copy)]
struct Counts {
    nonce: Nonce,
    highest: u32,
    /// Bit n stands for the count `highest - n`.
    seen: u64,
}

impl Counts {
    /// Whether `count` comes for the first time, as far as the window tells.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let ahead = count - self.highest;
            self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let bit = if behind < WINDOW { 1 << behind } else { return false };
        let fresh = self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

#[derive(Default)]
struct Set {
    counts: [Option<Counts>; SET_NONCES],
    /// No nonce that was issued then or before is still known, unless `counts` has it.
    forgotten_at: u64,
}

/// The counts of the nonces in use: a table of fixed size that all cores share, a lock for each few nonces.
///
/// When it is full, the oldest nonce of a set is forgotten, and with it whatever else of that age might fall into
/// the set: such a nonce is stale, and its client takes a new one without asking its user. A replay finds no way in.
pub(super) struct NonceCounts {
    sets: Box<[Mutex<Set>]>,
}

impl fmt::Debug for NonceCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceCounts").field("sets", &self.sets.len()).finish_non_exhaustive()
    }
}

impl NonceCounts {
    /// A table for at least `capacity` nonces.
    pub(super) fn new(capacity: usize) -> Self {
        Self { sets: (0..capacity.div_ceil(SET_NONCES).max(1)).map(|_| Mutex::default()).collect() }
    }

    /// Whether the request `count` of `nonce` is no replay. `lifetime_secs` says how long a nonce is in use at all.
    pub(super) fn take(&self, nonce: Nonce, count: u32, now: u64, lifetime_secs: u64) -> bool {
        // The number is random, so it spreads the nonces evenly.
        let index = nonce.number % self.sets.len() as u64;
        let mut set = self.sets[index as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = set.counts.iter_mut().flatten().find(|known| known.nonce == nonce) {
            return known.take(count);
        }
        // What was issued while the clock was ahead is not in use any more.
        if set.forgotten_at > now.saturating_add(lifetime_secs) {
            set.forgotten_at = 0;
        }
        if nonce.issued_at <= set.forgotten_at {
            return false;
        }
        // First comes a place that is empty or out of use, then the oldest.
        let in_use =
            |place: Option<Counts>| place.filter(|counts| counts.nonce.is_in_use(now, lifetime_secs));
        let issued_at = |place: &&mut Option<Counts>| in_use(**place).map(|counts| counts.nonce.issued_at);
        let Some(place) = set.counts.iter_mut().min_by_key(issued_at) else { return false };
        let evicted = in_use(place.replace(Counts { nonce, highest: count, seen: 1 }));
        if let Some(evicted) = evicted {
            set.forgotten_at = set.forgotten_at.max(evicted.nonce.issued_at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIFETIME_SECS: u64 = 300;

    #[test]
    fn digest_nonce_forged() {
        let key = MacKey::random();
        let nonce = Nonce::new(1000);
        let text = nonce.encode(&key, "a");
        assert_eq!(Nonce::decode(&text, &key, "a"), Some(nonce));
        assert_eq!(Nonce::decode(&text, &key, "b"), None);
        assert_eq!(Nonce::decode(&text, &MacKey::random(), "a"), None);
        for forged in ["", "x", &text[1..], &format!("{text}A"), &"A".repeat(43)] {
            assert_eq!(Nonce::decode(forged, &key, "a"), None);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for bit in 0..NONCE_BYTES * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Nonce::decode(&URL_SAFE_NO_PAD.encode(forged), &key, "a"), None, "bit {bit}");
        }
    }

    #[test]
    fn full_table_forgets_without_opening_a_way_for_replays() {
        let table = NonceCounts::new(8);
        let nonces: Vec<_> = (0..64).map(|n| Nonce::new(1000 + n)).collect();
        for nonce in &nonces {
            table.take(*nonce, 1, 1100, LIFETIME_SECS);
        }
        for nonce in &nonces {
            assert!(!table.take(*nonce, 1, 1100, LIFETIME_SECS), "replay of a nonce that may be forgotten");
        }
        // A nonce younger than all that was forgotten goes on to work.
        assert!(table.take(Nonce::new(1100), 1, 1100, LIFETIME_SECS));
    }

    #[test]
    fn nonces_out_of_use_make_room() {
        let table = NonceCounts::new(4);
        for _ in 0..4 {
            assert!(table.take(Nonce::new(1000), 1, 1000, LIFETIME_SECS));
        }
        // Were those still in use, the set would now have to forget the second in which they were issued.
        let later = 1001 + LIFETIME_SECS;
        assert!(table.take(Nonce::new(later), 1, later, LIFETIME_SECS));
        assert!(table.take(Nonce::new(1000), 1, later, LIFETIME_SECS));
    }

    #[test]
    fn a_clock_that_was_ahead_leaves_nothing_behind() {
        let table = NonceCounts::new(4);
        let ahead = 1_000_000;
        for n in 0..20 {
            table.take(Nonce::new(ahead + n), 1, ahead + n, LIFETIME_SECS);
        }
        let nonce = Nonce::new(1000);
        assert!(table.take(nonce, 1, 1000, LIFETIME_SECS));
        assert!(!table.take(nonce, 1, 1000, LIFETIME_SECS));
        assert!(!Nonce::new(ahead).is_in_use(1000, LIFETIME_SECS));
    }

    proptest! {
        /// Against a set of all counts that were ever taken.
        #[test]
        fn no_count_is_taken_twice(steps in vec(0_u32..200, 1..200)) {
            let table = NonceCounts::new(4);
            let nonce = Nonce::new(1000);
            let mut taken = HashSet::new();
            for count in steps {
                let highest = taken.iter().max().copied().unwrap_or(0);
                let fresh = table.take(nonce, count, 1000, LIFETIME_SECS);
                prop_assert_eq!(fresh, !taken.contains(&count) && count + WINDOW > highest);
                if fresh {
                    taken.insert(count);
                }
            }
        }
    }
}
