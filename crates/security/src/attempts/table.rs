//! Counts of attempts: a table of fixed size that all cores share, a lock for each few counts.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limits::AttemptLimits;

/// Counts that lie behind one lock.
const SET_COUNTS: usize = 8;
/// Guesses of which a count remembers that they were tried already.
const GUESSES: usize = 4;

/// What is counted, as a hash under a key of this process.
pub(super) type Key = u64;

/// The count of attempts that are not known to be right.
#[derive(Clone, Debug)]
pub(super) struct Count {
    key: Key,
    /// Failures, of which a part may be forgotten already.
    failures: f64,
    updated: Instant,
    pub(super) locked_until: Option<Instant>,
    /// Until when a success here is remembered.
    pub(super) known_until: Option<Instant>,
    /// Marks of the last guesses. Of 16 bits, too few to tell a password from a memory dump, and 0 for none.
    guesses: [u16; GUESSES],
}

impl Count {
    fn new(key: Key, now: Instant) -> Self {
        Self {
            key,
            failures: 0.0,
            updated: now,
            locked_until: None,
            known_until: None,
            guesses: [0; GUESSES],
        }
    }

    /// Forgets what the time since the last look allows to be forgotten.
    fn forget(&mut self, limits: &AttemptLimits, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated);
        let forgotten = elapsed.as_secs_f64() / limits.forget_one_after.as_secs_f64().max(f64::MIN_POSITIVE);
        self.failures = (self.failures - forgotten).max(0.0);
        self.updated = self.updated.max(now);
    }

    /// Failures, counting one that is half forgotten as one.
    pub(super) fn nth(&self) -> u32 {
        self.failures.ceil() as u32
    }

    /// How long an attempt is to be refused.
    pub(super) fn locked_for(&self, now: Instant) -> Option<Duration> {
        let left = self.locked_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn is_known(&self, now: Instant) -> bool {
        self.known_until.is_some_and(|until| now < until)
    }

    /// Whether the guess with this mark was counted already; from now on it is.
    pub(super) fn has_seen(&mut self, mark: u16) -> bool {
        if self.guesses.contains(&mark) {
            return true;
        }
        self.guesses.rotate_right(1);
        self.guesses[0] = mark;
        false
    }

    /// Makes the guess with this mark count again.
    pub(super) fn forget_guess(&mut self, mark: Option<u16>) {
        for seen in self.guesses.iter_mut().filter(|seen| Some(**seen) == mark) {
            *seen = 0;
        }
    }

    /// Counts an attempt, and gives the delay that it has to bear.
    pub(super) fn add(&mut self, limits: &AttemptLimits, now: Instant) -> Duration {
        self.failures = (self.failures + 1.0).min(f64::from(u32::MAX));
        if let Some(lock_out) = limits.lock_out(self.nth()) {
            self.locked_until = now.checked_add(lock_out);
        }
        limits.delay(self.nth())
    }

    /// The delay that another attempt of a guess that is counted already has to bear.
    pub(super) fn delay(&self, limits: &AttemptLimits) -> Duration {
        limits.delay(self.nth())
    }

    /// Takes one attempt back, and the lock-out that hung on it.
    pub(super) fn take_back(&mut self, limits: &AttemptLimits) {
        self.failures = (self.failures - 1.0).max(0.0);
        if limits.lock_out(self.nth()).is_none() {
            self.locked_until = None;
        }
    }

    /// Forgets all failures.
    pub(super) fn reset(&mut self) {
        self.failures = 0.0;
        self.locked_until = None;
        self.guesses = [0; GUESSES];
    }

    /// When nothing is lost with this count any more.
    fn is_over_at(&self, limits: &AttemptLimits) -> Option<Instant> {
        let forgotten = limits.forget_one_after.saturating_mul(self.nth());
        // Beyond what the clock can express it is not over soon.
        let over = self.updated.checked_add(forgotten)?;
        Some(over.max(self.locked_until.unwrap_or(over)).max(self.known_until.unwrap_or(over)))
    }
}

/// A table of counts that have their limits in common. When it is full, the count that would be over first makes room.
pub(super) struct Table {
    pub(super) limits: AttemptLimits,
    sets: Box<[Mutex<Vec<Count>>]>,
}

impl Table {
    /// A table for at least `capacity` counts.
    pub(super) fn new(limits: AttemptLimits, capacity: usize) -> Self {
        Self { limits, sets: (0..capacity.div_ceil(SET_COUNTS).max(1)).map(|_| Mutex::default()).collect() }
    }

    fn set(&self, key: Key) -> MutexGuard<'_, Vec<Count>> {
        let index = (key % self.sets.len() as u64) as usize;
        self.sets[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `read` makes of a count, if there is one.
    pub(super) fn read<T>(&self, key: Key, now: Instant, read: impl FnOnce(&mut Count) -> T) -> Option<T> {
        let mut set = self.set(key);
        let count = set.iter_mut().find(|count| count.key == key)?;
        count.forget(&self.limits, now);
        Some(read(count))
    }

    /// What `write` makes of a count, which is made if there is none.
    pub(super) fn write<T>(&self, key: Key, now: Instant, write: impl FnOnce(&mut Count) -> T) -> T {
        let mut set = self.set(key);
        let at = set.iter().position(|count| count.key == key).unwrap_or_else(|| {
            if set.len() == SET_COUNTS {
                let over_first = set.iter().enumerate().min_by_key(|(_, count)| {
                    let over_at = count.is_over_at(&self.limits);
                    (over_at.is_none(), over_at)
                });
                let index = over_first.map_or(0, |(index, _)| index);
                set.swap_remove(index);
            }
            set.push(Count::new(key, now));
            set.len() - 1
        });
        let count = &mut set[at];
        count.forget(&self.limits, now);
        write(count)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sets.iter().map(|set| set.lock().unwrap().len()).sum()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_are_forgotten_one_by_one() {
        let table = Table::new(AttemptLimits { forget_one_after: SECOND * 10, ..AttemptLimits::PAIR }, 8);
        let start = Instant::now();
        for _ in 0..3 {
            table.write(1, start, |count| count.add(&table.limits, start));
        }
        let nth = |secs: u32| table.read(1, start + SECOND * secs, |count| count.nth());
        assert_eq!([0, 5, 10, 25, 40].map(nth), [Some(3), Some(3), Some(2), Some(1), Some(0)]);
        assert_eq!(table.read(2, start, |count| count.nth()), None);
    }

    #[test]
    fn a_full_table_forgets_what_would_be_over_first() {
        let table = Table::new(AttemptLimits::PAIR, 8);
        let now = Instant::now();
        let add = |key, times| {
            for _ in 0..times {
                table.write(key, now, |count| count.add(&table.limits, now));
            }
        };
        add(1, 10);
        table.write(2, now, |count| count.known_until = Some(now + SECOND * 1_000_000));
        for key in 3..10_000 {
            add(key, 1);
        }
        assert_eq!(table.len(), 8);
        assert_eq!(table.read(1, now, |count| count.nth()), Some(10));
        assert_eq!(table.read(2, now, |count| count.is_known(now)), Some(true));
    }

    #[test]
    fn a_lock_out_goes_with_the_attempt_that_made_it() {
        let table = Table::new(AttemptLimits { lock_out_after: Some(2), ..AttemptLimits::PAIR }, 8);
        let now = Instant::now();
        for _ in 0..2 {
            table.write(1, now, |count| count.add(&table.limits, now));
        }
        assert_eq!(table.read(1, now, |count| count.locked_for(now)), Some(Some(SECOND * 60)));
        table.write(1, now, |count| count.take_back(&table.limits));
        assert_eq!(table.read(1, now, |count| count.locked_for(now)), Some(None));
    }
}
