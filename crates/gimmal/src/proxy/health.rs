//! Which upstreams are up: by what becomes of requests, and by asking.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gimmal_runtime::Core;
use http::{HeaderMap, Method, header};

use super::upstream::Upstream;
use crate::body::Body;
use crate::client::{Client, ClientError, ClientOptions, Outgoing, exchange};

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
    /// The check has found it down.
    is_down: AtomicBool,
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

    /// Whether a request may be sent to an upstream. To one that has been down for its time, one request may.
    pub(super) fn admits(&self, index: usize) -> bool {
        let state = &self.states[index];
        if state.is_down.load(Ordering::Relaxed) {
            return false;
        }
        if state.failures.load(Ordering::Relaxed) < self.failures_max {
            return true;
        }
        let (until, now) = (state.down_until.load(Ordering::Relaxed), self.now());
        let next = now + self.down.as_millis() as u64;
        now >= until
            && state.down_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn succeeded(&self, index: usize) {
        let failures = &self.states[index].failures;
        if failures.load(Ordering::Relaxed) > 0 {
            failures.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a failure; whether the upstream is down from now on.
    pub(super) fn failed(&self, index: usize) -> bool {
        let state = &self.states[index];
        let failures = state.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= self.failures_max {
            state.down_until.store(self.now() + self.down.as_millis() as u64, Ordering::Relaxed);
        }
        failures == self.failures_max
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
            state.failures.store(0, Ordering::Relaxed);
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
        whole: Some(check.timeout),
    };
    let response = exchange(client, &upstream.origin, &mut request).await;
    let response = response.map_err(|error: ClientError| error.to_string())?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        status => Err(format!("it answered with {status}")),
    }
}
