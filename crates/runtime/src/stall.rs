//! Finding tasks that hold a core too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
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
}

impl Heartbeat {
    pub(crate) fn begin(&self, task: u32) {
        self.polls.store(self.polls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.task.store(u64::from(task) + 1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.task.store(0, Ordering::Relaxed);
    }

    pub(crate) fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }
}

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

fn watch(threshold: Duration, cores: &[Arc<Heartbeat>], stop: &AtomicBool) {
    let pause = (threshold / 4).clamp(Duration::from_millis(1), Duration::from_millis(250));
    let mut seen = vec![Seen { polls: 0, since: Instant::now(), reported: false }; cores.len()];
    while !stop.load(Ordering::Acquire) {
        thread::park_timeout(pause);
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
