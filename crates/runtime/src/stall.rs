//! Finding tasks that hold a core too long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// What a core tells about itself: which poll it is in. Two relaxed stores a poll, and no clock.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Heartbeat {
    /// Counts polls.
    polls: AtomicU64,
    /// The task being polled, plus one; 0 between polls.
    task: AtomicU64,
    stalls: AtomicU64,
    /// The thread that watches rests, since no core has done anything for a while.
    resting: AtomicBool,
    watcher: OnceLock<Thread>,
}

impl Heartbeat {
    pub(crate) fn begin(&self, task: u32) {
        self.polls.store(self.polls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.task.store(u64::from(task) + 1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.task.store(0, Ordering::Relaxed);
    }

    /// Says that a task is to be polled. It costs a load, unless the watcher rests.
    pub(crate) fn wake_watcher(&self) {
        if self.resting.load(Ordering::Relaxed)
            && self.resting.swap(false, Ordering::AcqRel)
            && let Some(watcher) = self.watcher.get()
        {
            watcher.unpark();
        }
    }

    pub(crate) fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }
}

/// Looks at quiet cores before the watcher rests.
const QUIET_LOOKS: u32 = 8;
/// How long it rests at most: a core that goes on at the very moment at which it lies down may fail to wake it.
const REST: Duration = Duration::from_secs(2);

/// A thread that looks at every core now and then, and reports one that sits in the same poll for too long.
#[derive(Debug)]
pub(crate) struct StallDetector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StallDetector {
    /// A zero `threshold` watches nothing.
    pub(crate) fn start(threshold: Duration, cores: Vec<Arc<Heartbeat>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = (!threshold.is_zero()).then(|| {
            thread::Builder::new()
                .name("gimmal-stall".into())
                .spawn(move || watch(threshold, &cores, &stopped))
        });
        // Without the thread the server lacks a report, and nothing else.
        Self { stop, thread: thread.and_then(Result::ok) }
    }
}

impl Drop for StallDetector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic; were it to, the report is all that is lost.
            let _ = thread.join();
        }
    }
}

/// What was seen of a core at the last look.
#[derive(Clone, Copy)]
struct Seen {
    polls: u64,
    since: Instant,
    reported: bool,
}

impl Heartbeat {
    fn is_quiet_since(&self, seen: &Seen) -> bool {
        self.task.load(Ordering::Relaxed) == 0 && self.polls.load(Ordering::Relaxed) == seen.polls
    }
}

/// Sleeps until a core goes on, or for a while. Returns whether one does.
fn rest(cores: &[Arc<Heartbeat>], seen: &[Seen]) -> bool {
    for core in cores {
        core.resting.store(true, Ordering::SeqCst);
    }
    if cores.iter().zip(seen).all(|(core, seen)| core.is_quiet_since(seen)) {
        thread::park_timeout(REST);
    }
    let mut goes_on = false;
    for core in cores {
        goes_on |= !core.resting.swap(false, Ordering::AcqRel);
    }
    goes_on
}

fn watch(threshold: Duration, cores: &[Arc<Heartbeat>], stop: &AtomicBool) {
    let pause = (threshold / 4).clamp(Duration::from_millis(1), Duration::from_millis(250));
    let mut seen = vec![Seen { polls: 0, since: Instant::now(), reported: false }; cores.len()];
    for core in cores {
        // Nobody else sets it.
        let _ = core.watcher.set(thread::current());
    }
    let mut quiet_looks = 0;
    while !stop.load(Ordering::Acquire) {
        if quiet_looks < QUIET_LOOKS {
            thread::park_timeout(pause);
        } else if rest(cores, &seen) {
            quiet_looks = 0;
        }
        let is_quiet = |(core, seen): (&Arc<Heartbeat>, &Seen)| core.is_quiet_since(seen);
        quiet_looks =
            if cores.iter().zip(&seen).all(is_quiet) { QUIET_LOOKS.min(quiet_looks + 1) } else { 0 };
        for (index, (core, seen)) in cores.iter().zip(&mut seen).enumerate() {
            let (task, polls) = (core.task.load(Ordering::Relaxed), core.polls.load(Ordering::Relaxed));
            if task == 0 || polls != seen.polls {
                *seen = Seen { polls, since: Instant::now(), reported: false };
            } else if !seen.reported && seen.since.elapsed() >= threshold {
                seen.reported = true;
                core.stalls.store(core.stalls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                tracing::warn!(
                    core = index,
                    task = task - 1,
                    held_ms = seen.since.elapsed().as_millis() as u64,
                    "a task holds its core; every other connection on it waits: move blocking or long work to \
                     gimmal_runtime::blocking"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eventually(what: impl Fn() -> bool) -> bool {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if what() {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    #[test]
    fn a_long_poll_is_reported_once() {
        let core = Arc::new(Heartbeat::default());
        let detector = StallDetector::start(Duration::from_millis(20), vec![Arc::clone(&core)]);
        core.begin(7);
        assert!(eventually(|| core.stalls() == 1));
        thread::sleep(Duration::from_millis(60));
        core.end();
        drop(detector);
        assert_eq!(core.stalls(), 1);
    }

    #[test]
    fn a_stall_after_a_long_rest_is_reported_at_once() {
        let core = Arc::new(Heartbeat::default());
        let _detector = StallDetector::start(Duration::from_millis(20), vec![Arc::clone(&core)]);
        assert!(eventually(|| core.resting.load(Ordering::Relaxed)));
        core.wake_watcher();
        assert!(!core.resting.load(Ordering::Relaxed));
        core.begin(7);
        assert!(eventually(|| core.stalls() == 1));
    }

    #[test]
    fn a_busy_core_that_goes_on_is_left_alone() {
        let core = Arc::new(Heartbeat::default());
        let detector = StallDetector::start(Duration::from_secs(2), vec![Arc::clone(&core)]);
        for task in 0..100 {
            core.begin(task);
            thread::sleep(Duration::from_millis(1));
            core.end();
        }
        drop(detector);
        assert_eq!(core.stalls(), 0);
    }
}
