//! A clock that costs almost nothing to read, and deadlines by connection slot.

use std::cell::{Cell, RefCell};
use std::time::Duration;

/// One tick of the coarse clock.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MILLISECONDS);
const TICK_MILLISECONDS: u64 = 50;

/// Ticks since the core started; 1 is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u32);

impl Tick {
    /// It never comes.
    pub(crate) const NEVER: Self = Self(u32::MAX);

    /// The tick that comes `ticks` later.
    pub(crate) fn after(self, ticks: u32) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    /// How long it takes at most from within `now` until this one has begun.
    pub(crate) fn since(self, now: Self) -> Duration {
        TICK * self.0.saturating_sub(now.0)
    }
}

/// Time as of the last [`refresh`](Self::refresh), which the core makes once a round.
#[derive(Debug)]
pub(crate) struct CoarseClock {
    started_ms: u64,
    now: Cell<Tick>,
    unix_seconds: Cell<u64>,
}

impl CoarseClock {
    pub(crate) fn new() -> Self {
        Self {
            started_ms: milliseconds(libc::CLOCK_MONOTONIC_COARSE),
            now: Cell::new(Tick(1)),
            unix_seconds: Cell::new(unix_seconds()),
        }
    }

    pub(crate) fn refresh(&self) -> Tick {
        let elapsed = milliseconds(libc::CLOCK_MONOTONIC_COARSE) - self.started_ms;
        let now = Tick(1 + (elapsed / TICK_MILLISECONDS) as u32);
        if self.now.replace(now) != now {
            self.unix_seconds.set(unix_seconds());
        }
        now
    }

    /// Seconds since 1970, as of the current tick.
    pub(crate) fn unix_seconds(&self) -> u64 {
        self.unix_seconds.get()
    }

    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }
}

fn unix_seconds() -> u64 {
    milliseconds(libc::CLOCK_REALTIME_COARSE) / 1000
}

fn milliseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, which lives through it; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// A deadline for each slot of the connection table: setting one is a store, and a sweep over the dense array
/// once a tick finds those that have passed.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// The tick at which a slot's deadline has passed; 0 for none.
    ticks: RefCell<Vec<u32>>,
    swept: Cell<Tick>,
    /// No deadline passes before this tick.
    earliest: Cell<u32>,
    /// How long the last one was set for, and what that is in ticks: most are set for the same time.
    last: Cell<(Duration, u32)>,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        let last = Cell::new((Duration::ZERO, ticks_of(Duration::ZERO)));
        Self { ticks: RefCell::default(), swept: Cell::new(Tick(0)), earliest: Cell::new(u32::MAX), last }
    }

    /// Sets a slot's deadline. It is rounded up, by one tick more than the remainder since `now` may lie
    /// anywhere within its own tick: it never passes early.
    pub(crate) fn set(&self, slot: u32, after: Duration, now: Tick) {
        let (known, mut ticks) = self.last.get();
        if known != after {
            ticks = ticks_of(after);
            self.last.set((after, ticks));
        }
        let at = now.0.saturating_add(ticks);
        if at < self.earliest.get() {
            self.earliest.set(at);
        }
        let mut slots = self.ticks.borrow_mut();
        let slot = slot as usize;
        if slot >= slots.len() {
            slots.resize(slot + 1, 0);
        }
        slots[slot] = at;
    }

    pub(crate) fn clear(&self, slot: u32) {
        if let Some(tick) = self.ticks.borrow_mut().get_mut(slot as usize) {
            *tick = 0;
        }
    }

    /// The slots whose deadline has passed by `now`, which are cleared; none if this tick was swept already.
    pub(crate) fn sweep(&self, now: Tick, passed: &mut Vec<u32>) {
        if self.swept.replace(now) >= now {
            return;
        }
        let mut earliest = u32::MAX;
        for (slot, tick) in self.ticks.borrow_mut().iter_mut().enumerate() {
            if *tick != 0 && *tick <= now.0 {
                *tick = 0;
                passed.push(slot as u32);
            } else if *tick != 0 {
                earliest = earliest.min(*tick);
            }
        }
        self.earliest.set(earliest);
    }

    /// A tick before which no deadline passes: until then nobody need sweep.
    pub(crate) fn earliest(&self) -> Tick {
        Tick(self.earliest.get())
    }
}

/// Ticks that are not shorter than `after`, wherever in a tick they begin.
fn ticks_of(after: Duration) -> u32 {
    let ticks = after.as_nanos().div_ceil(TICK.as_nanos()) + 1;
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(deadlines: &Deadlines, now: u32) -> Vec<u32> {
        let mut passed = Vec::new();
        deadlines.sweep(Tick(now), &mut passed);
        passed
    }

    #[test]
    fn a_deadline_passes_once_and_never_early() {
        let deadlines = Deadlines::new();
        deadlines.set(3, Duration::from_millis(120), Tick(10));
        assert_eq!(swept(&deadlines, 13), []);
        assert_eq!(swept(&deadlines, 14), [3]);
        assert_eq!(swept(&deadlines, 15), []);
    }

    #[test]
    fn a_fraction_of_a_millisecond_counts() {
        let deadlines = Deadlines::new();
        deadlines.set(3, TICK + Duration::from_nanos(1), Tick(10));
        assert_eq!(swept(&deadlines, 12), []);
        assert_eq!(swept(&deadlines, 13), [3]);
    }

    #[test]
    fn setting_again_and_clearing_replace_it() {
        let deadlines = Deadlines::new();
        deadlines.set(0, TICK, Tick(1));
        deadlines.set(0, TICK * 10, Tick(1));
        deadlines.set(1, TICK, Tick(1));
        deadlines.clear(1);
        deadlines.clear(99);
        assert_eq!(swept(&deadlines, 11), []);
        assert_eq!(swept(&deadlines, 12), [0]);
    }

    #[test]
    fn an_endless_duration_is_the_last_tick() {
        let deadlines = Deadlines::new();
        deadlines.set(0, Duration::MAX, Tick(5));
        assert_eq!(swept(&deadlines, u32::MAX - 1), []);
    }

    #[test]
    fn nothing_passes_before_the_earliest_deadline_and_a_sweep_finds_it_anew() {
        let deadlines = Deadlines::new();
        assert_eq!(deadlines.earliest(), Tick::NEVER);
        deadlines.set(0, TICK * 8, Tick(1));
        deadlines.set(1, TICK * 2, Tick(1));
        assert_eq!(deadlines.earliest(), Tick(4));
        deadlines.clear(1);
        assert_eq!(swept(&deadlines, 4), []);
        assert_eq!(deadlines.earliest(), Tick(10));
        assert_eq!(swept(&deadlines, 10), [0]);
        assert_eq!(deadlines.earliest(), Tick::NEVER);
    }

    #[test]
    fn the_clock_goes_on() {
        let clock = CoarseClock::new();
        let first = clock.refresh();
        std::thread::sleep(TICK * 3);
        assert!(clock.refresh() > first);
        assert!(clock.unix_seconds() > 1_700_000_000);
    }
}
