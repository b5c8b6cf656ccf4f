//! No client of a core learns anything of another, and none keeps another from its answer.
//!
//! Seeded random traffic on many connections of one core: proper, malformed, unfinished, cut off, pipelined, upgraded,
//! over plain TCP and TLS. Each connection sends a marker of its own. Then probes, whose answers must be those of a
//! server that has served nobody before. No connection may ever receive the marker of another.
//!
//! * `GIMMAL_ISOLATION_SEED=NUMBER` repeats the traffic of a failure, which names its seed.
//! * `GIMMAL_ISOLATION_SECONDS=NUMBER` sets for how long each back end is tried.

mod conversation;
mod marker;
mod panics;
mod probes;
mod random;
mod servers;
mod traffic;
mod wire;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gimmal::Backend;

use conversation::Crowd;
use probes::Expected;
use random::Random;
use servers::Site;

/// How long each back end is tried unless the environment says otherwise.
const SECONDS: u64 = 20;
/// How many times a server is stirred and probed before another takes its place: few, so that a failure is short to
/// repeat.
const EPISODES: u32 = 6;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Says so at once, since a fault may end the whole process.
fn announce(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn stir_and_probe(backend: Backend) {
    let until = Instant::now() + Duration::from_secs(number("GIMMAL_ISOLATION_SECONDS").unwrap_or(SECONDS));
    let site = Site::new();
    let expected = Expected::of_fresh_servers(&site, backend);
    let fixed = number("GIMMAL_ISOLATION_SEED");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    panics::watch();
    let mut seed = fixed.unwrap_or_else(|| now() >> 10);
    let mut lives = 0;
    while lives == 0 || Instant::now() < until {
        announce(&format!("isolation: {backend:?} GIMMAL_ISOLATION_SEED={seed}"));
        if let Err(fault) = live(&site, backend, &expected, seed) {
            let mut report = format!("{backend:?}, GIMMAL_ISOLATION_SEED={seed}: {fault}");
            let _ = write!(report, "\n(server {} of this run)", lives + 1);
            panic!("{report}");
        }
        lives += 1;
        if fixed.is_none() {
            seed = seed.wrapping_add(1);
        }
    }
    announce(&format!("isolation: {backend:?}: {lives} servers, each stirred and probed {EPISODES} times"));
}

/// What one server goes through.
fn live(site: &Site, backend: Backend, expected: &Expected, seed: u64) -> Result<(), String> {
    let served = site.start(backend);
    let mut random = Random::new(seed);
    let mut crowd = Crowd::new(site, &served);
    for episode in 0..EPISODES {
        crowd.stir(&mut random).map_err(|fault| format!("episode {episode}, traffic: {fault}"))?;
        if random.chance(50) {
            crowd.disperse(&mut random);
        }
        site.end_connections_to_upstream();
        // At once, so that many of what is recycled are in use; or one after the other, which get the last used.
        let at_once = random.chance(50);
        expected.check(site, &served, at_once).map_err(|fault| format!("episode {episode}, {fault}"))?;
        panics::none_of_a_core().map_err(|fault| format!("episode {episode}, {fault}"))?;
    }
    Ok(())
}

#[test]
fn what_clients_do_changes_nothing_for_others_on_io_uring() {
    stir_and_probe(Backend::IoUring);
}

#[test]
fn what_clients_do_changes_nothing_for_others_on_epoll() {
    stir_and_probe(Backend::Epoll);
}
