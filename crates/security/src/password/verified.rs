//! Passwords that were verified just now, for schemes that send one with every request.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::mac_key::MacKey;

/// Entries that lie behind one lock.
const SET_ENTRIES: usize = 8;

struct Entry {
    tag: [u8; 32],
    until: Instant,
}

/// Knows for some minutes which passwords [`Passwords::verify`](super::Passwords::verify) found right, so that a client
/// of Basic does not cost a slow hash with every request.
///
/// Kept is an HMAC of user, stored hash and password under a key that only this process has and never shows. A
/// changed password is another stored hash, so an entry for the old one is never found again. One for all cores, of
/// a fixed size.
///
/// What it costs: who can read the memory of the process can try passwords against an entry quickly. Leave it out
/// where that weighs more than the load.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use gimmal_security::SecretString;
/// use gimmal_security::password::VerifiedPasswords;
///
/// let verified = VerifiedPasswords::new(1024, Duration::from_secs(300));
/// let (now, password) = (Instant::now(), SecretString::from("a lion sleeps at noon"));
/// let stored = "$argon2id$v=19$...";
/// assert!(!verified.contains("alice", stored, &password, now));
/// // On a thread for blocking work, Passwords::verify said Verdict::Right.
/// verified.insert("alice", stored, &password, now);
/// assert!(verified.contains("alice", stored, &password, now));
/// assert!(!verified.contains("alice", "$argon2id$v=19$another", &password, now));
/// ```
pub struct VerifiedPasswords {
    key: MacKey,
    sets: Box<[Mutex<Vec<Entry>>]>,
    lifetime: Duration,
}

impl VerifiedPasswords {
    /// Knows at least `capacity` passwords, each for `lifetime` after it was verified.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        let sets = (0..capacity.div_ceil(SET_ENTRIES).max(1)).map(|_| Mutex::default()).collect();
        Self { key: MacKey::random(), sets, lifetime }
    }

    /// Whether this password was right for the user with this stored hash, not long before `now`.
    #[must_use]
    pub fn contains(&self, user: &str, stored: &str, password: &SecretString, now: Instant) -> bool {
        let tag = self.tag(user, stored, password);
        self.set(&tag).iter().any(|entry| bool::from(entry.tag.ct_eq(&tag)) && now < entry.until)
    }

    /// Takes note that this password was verified at `now`, against this stored hash.
    pub fn insert(&self, user: &str, stored: &str, password: &SecretString, now: Instant) {
        let tag = self.tag(user, stored, password);
        let mut set = self.set(&tag);
        set.retain(|entry| entry.tag != tag && now < entry.until);
        if set.len() == SET_ENTRIES {
            // The oldest are at the front.
            set.remove(0);
        }
        set.push(Entry { tag, until: now + self.lifetime });
    }

    fn set(&self, tag: &[u8; 32]) -> MutexGuard<'_, Vec<Entry>> {
        let [a, b, c, d, ..] = *tag;
        let index = u32::from_be_bytes([a, b, c, d]) as usize % self.sets.len();
        self.sets[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag(&self, user: &str, stored: &str, password: &SecretString) -> [u8; 32] {
        self.key.tag("verified password", &[user, stored, password.expose_secret()].map(str::as_bytes))
    }
}

impl fmt::Debug for VerifiedPasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedPasswords").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(300);

    #[test]
    fn an_entry_is_for_its_user_hash_and_password_and_for_its_time() {
        let verified = VerifiedPasswords::new(8, LIFETIME);
        let now = Instant::now();
        let contains = |user, stored, password: &str, after| {
            verified.contains(user, stored, &SecretString::from(password), now + after)
        };
        verified.insert("alice", "hash", &SecretString::from("right"), now);
        assert!(contains("alice", "hash", "right", Duration::ZERO));
        assert!(!contains("bob", "hash", "right", Duration::ZERO));
        assert!(!contains("alice", "other", "right", Duration::ZERO));
        assert!(!contains("alice", "hash", "wrong", Duration::ZERO));
        assert!(!contains("alic", "ehash", "right", Duration::ZERO));
        assert!(contains("alice", "hash", "right", LIFETIME - Duration::from_nanos(1)));
        assert!(!contains("alice", "hash", "right", LIFETIME));
    }

    #[test]
    fn it_never_grows_and_the_oldest_goes_first() {
        let verified = VerifiedPasswords::new(8, LIFETIME);
        let now = Instant::now();
        let password = SecretString::from("right");
        let users: Vec<_> = (0..20).map(|n| format!("user{n}")).collect();
        for user in &users {
            verified.insert(user, "hash", &password, now);
            verified.insert(user, "hash", &password, now);
        }
        let known = users.iter().map(|user| verified.contains(user, "hash", &password, now));
        assert_eq!(known.collect::<Vec<_>>(), (0..20).map(|n| n >= 12).collect::<Vec<_>>());
    }
}
