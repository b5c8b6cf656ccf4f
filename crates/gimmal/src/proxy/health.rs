//! Which upstreams are up: by what becomes of requests, and by asking.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gimmal_runtime::Core;
use http::{HeaderMap, Method, header};

use super::upstream::Upstream;
use crate::body::Body;
use crate::client::{Client, ClientOptions, Outgoing, exchange};

/// How upstreams are asked whether they are well: by a GET, which any status from 200 to 399 answers well. It is sent
/// as requests are: over TLS to an `https` upstream, which has to prove itself.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// The path, with a query if there is one. Default `/`.
    pub path: String,
    /// The time between two questions. Default 5 s.
    pub interval: Duration,
    /// How long the answer may take. Default 2 s.
    pub timeout: Duration,
    /// How many good answers in a row bring an upstream up. Default 2.
    pub up_after: u32,
    /// How many bad answers in a row bring it down. Default 2.
    pub down_after: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            up_after: 2,
            down_after: 2,
        }
    }
}

/// How long an upstream is left alone at first; twice as long after each try that fails, up to what was set. One that
/// restarts quickly is so back at once, and one that is away for long costs few requests a try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How many bad responses to different paths, none in between that is well, weigh as much as one failure to connect. Each
/// alone may be the request's fault, and a client has as many bad requests as it likes.
pub(super) const RESPONSES_PER_FAILURE: u32 = 5;
/// Beyond so many an upstream is not judged by responses at all.
const RESPONSES_MAX: u32 = 1024;

/// What is known of the upstreams, by all cores. It is written only when something goes wrong, or right again.
pub(super) struct Health {
    states: Box<[State]>,
    /// The zero of the times in `states`.
    began: Instant,
    pub(super) failures_max: u32,
    pub(super) down: Duration,
    pub(super) check: Option<HealthCheck>,
    /// A core asks the upstreams.
    is_checked: AtomicBool,
}

#[derive(Default)]
struct State {
    /// In a row.
    failures: AtomicU32,
    /// Milliseconds since `began` before which no request is sent.
    down_until: AtomicU64,
    /// Milliseconds for which it was left alone last.
    pause: AtomicU64,
    /// The check has found it down.
    is_down: AtomicBool,
    bad_responses: Mutex<BadResponses>,
    has_bad_responses: AtomicBool,
}

/// Bad responses in a row.
#[derive(Default)]
struct BadResponses {
    /// Hashes of the paths that were asked for.
    paths: Vec<u64>,
    weight: u32,
}

impl State {
    fn bad_responses(&self) -> MutexGuard<'_, BadResponses> {
        self.bad_responses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the failures.
    fn clear(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.has_bad_responses.load(Ordering::Relaxed) {
            self.has_bad_responses.store(false, Ordering::Relaxed);
            *self.bad_responses() = BadResponses::default();
        }
    }
}

/// A copy knows nothing yet.
impl Clone for Health {
    fn clone(&self) -> Self {
        let Self { failures_max, down, ref check, .. } = *self;
        Self { failures_max, down, check: check.clone(), ..Self::new(self.states.len()) }
    }
}

impl Health {
    pub(super) fn new(upstreams: usize) -> Self {
        Self {
            states: (0..upstreams).map(|_| State::default()).collect(),
            began: Instant::now(),
            failures_max: 3,
            down: Duration::from_secs(10),
            check: None,
            is_checked: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Tells whether a request may be sent to an upstream. To one that has been down for its time, one request may.
    pub(super) fn admits(&self, index: usize) -> bool {
        let state = &self.states[index];
        if state.is_down.load(Ordering::Relaxed) {
            return false;
        }
        if state.failures.load(Ordering::Relaxed) < self.failures_max {
            return true;
        }
        let (until, now) = (state.down_until.load(Ordering::Relaxed), self.now());
        if now < until {
            return false;
        }
        let pause = (2 * state.pause.load(Ordering::Relaxed)).min(self.down.as_millis() as u64);
        let tries =
            state.down_until.compare_exchange(until, now + pause, Ordering::Relaxed, Ordering::Relaxed);
        if tries.is_ok() {
            state.pause.store(pause, Ordering::Relaxed);
        }
        tries.is_ok()
    }

    /// Tells whether the check has found an upstream down.
    pub(super) fn is_found_down(&self, index: usize) -> bool {
        self.states[index].is_down.load(Ordering::Relaxed)
    }

    fn is_up(&self, state: &State) -> bool {
        !state.is_down.load(Ordering::Relaxed) && state.failures.load(Ordering::Relaxed) < self.failures_max
    }

    pub(super) fn succeeded(&self, index: usize) {
        self.states[index].clear();
    }

    /// Notes a failure that is the upstream's; returns whether it is down from now on. The last one that is up stays
    /// up: requests that fail there would fail here all the same, and it is back as soon as it is back.
    pub(super) fn failed(&self, index: usize) -> bool {
        let state = &self.states[index];
        let failures = state.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures < self.failures_max {
            return false;
        }
        let is_last =
            !self.states.iter().enumerate().any(|(other, state)| other != index && self.is_up(state));
        if is_last && failures == self.failures_max {
            state.failures.store(self.failures_max - 1, Ordering::Relaxed);
            return false;
        }
        if failures == self.failures_max {
            let pause = FIRST_PAUSE.min(self.down).as_millis() as u64;
            state.pause.store(pause, Ordering::Relaxed);
            state.down_until.store(self.now() + pause, Ordering::Relaxed);
        }
        failures == self.failures_max
    }

    /// Notes that a response to a request for this path failed, which may be the request's fault, and weighs so much of
    /// [`RESPONSES_PER_FAILURE`]; returns whether the upstream is down from now on. Requests for one path count once,
    /// however often they come.
    pub(super) fn response_failed(&self, index: usize, path_hash: u64, weight: u32) -> bool {
        let max = self.failures_max.saturating_mul(RESPONSES_PER_FAILURE);
        if max > RESPONSES_MAX {
            return false;
        }
        let state = &self.states[index];
        {
            let mut bad = state.bad_responses();
            if bad.paths.contains(&path_hash) {
                return false;
            }
            bad.paths.push(path_hash);
            state.has_bad_responses.store(true, Ordering::Relaxed);
            let before = bad.weight / RESPONSES_PER_FAILURE;
            bad.weight += weight;
            let is_enough = bad.weight / RESPONSES_PER_FAILURE > before;
            if bad.weight >= max {
                *bad = BadResponses::default();
            }
            if !is_enough {
                return false;
            }
        }
        self.failed(index)
    }

    /// One whose upstreams are all down.
    #[cfg(test)]
    pub(super) fn down_for_tests(upstreams: usize) -> Self {
        let health = Self::new(upstreams);
        for state in &health.states {
            state.failures.store(health.failures_max, Ordering::Relaxed);
            state.down_until.store(u64::MAX, Ordering::Relaxed);
        }
        health
    }

    /// Starts asking the upstreams, if that is wanted and no core does it yet.
    pub(super) fn start_check(self: &Arc<Self>, upstreams: &Rc<[Upstream]>, options: &ClientOptions) {
        let (Some(check), Some(core)) = (&self.check, Core::current()) else { return };
        if self.is_checked.swap(true, Ordering::Relaxed) {
            return;
        }
        for (index, upstream) in upstreams.iter().enumerate() {
            let (health, upstreams, check) = (Arc::clone(self), Rc::clone(upstreams), check.clone());
            tracing::debug!(upstream = %upstream.name, "its health is checked");
            let client = Client::with_options(options.clone());
            let (asking, stops) = (Rc::clone(&core), Rc::clone(&core));
            asking.spawn(async move {
                tokio::select! {
                    () = stops.draining() => {}
                    () = watch(&client, &health, index, &upstreams[index], &check) => {}
                }
            });
        }
    }
}

/// Asks one upstream for ever.
async fn watch(client: &Client, health: &Health, index: usize, upstream: &Upstream, check: &HealthCheck) {
    let state = &health.states[index];
    let (mut good, mut bad) = (0_u32, 0_u32);
    loop {
        let outcome = ask(client, upstream, check).await;
        if outcome.is_ok() {
            (good, bad) = (good.saturating_add(1), 0);
        } else {
            (good, bad) = (0, bad.saturating_add(1));
        }
        if bad >= check.down_after && !state.is_down.swap(true, Ordering::Relaxed) {
            let reason = outcome.err().unwrap_or_default();
            tracing::warn!(upstream = %upstream.name, reason, "an upstream is down");
        }
        if good >= check.up_after {
            state.clear();
            if state.is_down.swap(false, Ordering::Relaxed) {
                tracing::info!(upstream = %upstream.name, "an upstream is up again");
            }
        }
        tokio::time::sleep(check.interval).await;
    }
}

/// Asks one upstream once; what is wrong with it.
async fn ask(client: &Client, upstream: &Upstream, check: &HealthCheck) -> Result<(), String> {
    let mut request = Outgoing {
        method: Method::GET,
        target: check.path.clone(),
        headers: HeaderMap::from_iter([(header::HOST, upstream.origin.authority().clone())]),
        body: Body::empty(),
        until: Instant::now().checked_add(check.timeout),
    };
    let response = exchange(client, &upstream.origin, &mut request, &mut |_, _, _| {}).await;
    let response = response.map_err(|failed| failed.error.to_string())?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        status => Err(format!("it answered with {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(health: &Health, index: usize, times: u32) {
        for _ in 0..times {
            health.failed(index);
        }
    }

    #[test]
    fn the_last_upstream_that_is_up_is_never_taken_out() {
        let health = Health::new(3);
        for index in 0..3 {
            fail(&health, index, 10 * health.failures_max);
        }
        assert!(!health.admits(0) && !health.admits(1));
        assert!((0..100).all(|_| health.admits(2)));
        // When another is well again, it is no longer the last.
        health.succeeded(0);
        fail(&health, 2, 1);
        assert!(health.admits(0) && !health.admits(2));

        let only = Health::new(1);
        fail(&only, 0, 100);
        assert!(only.admits(0));
    }

    #[test]
    fn one_that_is_down_is_tried_by_one_request_at_a_time_and_ever_more_rarely() {
        let mut health = Health::new(2);
        health.down = Duration::from_millis(40);
        fail(&health, 0, health.failures_max);
        assert!(!health.admits(0));
        std::thread::sleep(Duration::from_millis(50));
        assert!(health.admits(0), "one tries it");
        assert!(!health.admits(0), "and no other");
        fail(&health, 0, 50);
        assert_eq!(health.states[0].pause.load(Ordering::Relaxed), 40, "no longer than was set");
        health.succeeded(0);
        assert!(health.admits(0) && health.admits(0));

        health.down = Duration::from_secs(10);
        fail(&health, 0, 1000);
        let until = health.states[0].down_until.load(Ordering::Relaxed);
        assert!(until <= health.now() + 250, "many that fail together count as one try");
    }

    #[test]
    fn bad_responses_to_one_path_count_once_and_many_different_ones_count() {
        for weight in [1, RESPONSES_PER_FAILURE] {
            let health = Health::new(2);
            assert!(!(0..1000).any(|_| health.response_failed(0, 7, weight)));
            let needed = u64::from(health.failures_max * RESPONSES_PER_FAILURE / weight);
            health.succeeded(0);
            // One that is well in between: they are no longer in a row.
            assert!(!(1..needed).any(|path| health.response_failed(0, path, weight)));
            health.succeeded(0);
            assert!(!(1..needed).any(|path| health.response_failed(0, path, weight)));
            assert!(health.admits(0));
            assert!(health.response_failed(0, needed, weight));
            assert!(!health.admits(0) && health.admits(1));
        }
    }
}
