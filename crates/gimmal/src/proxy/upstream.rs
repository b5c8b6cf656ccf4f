//! Upstream servers, and which of them is asked.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use gimmal_runtime::Address;
use http::Uri;

use super::ProxyError;
use super::health::Health;
use super::stable_hash::{mix, stable_hash};
use crate::client::Origin;
use crate::request::Request;

/// Where an upstream is.
#[derive(Clone)]
pub(super) struct Place {
    /// As it was written, for the log and the hash.
    pub(super) name: Arc<str>,
    url: Uri,
    at: Option<Address>,
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self, ProxyError> {
        let refuse = |reason: &dyn fmt::Display| ProxyError::Upstream {
            upstream: text.to_owned(),
            reason: reason.to_string(),
        };
        let (url, at) = if text.starts_with("unix:") {
            (Uri::from_static("http://localhost/"), Some(text.parse().map_err(|error| refuse(&error))?))
        } else {
            (text.parse::<Uri>().map_err(|error| refuse(&error))?, None)
        };
        Origin::of(&url, at.clone()).map_err(|error| refuse(&error))?;
        if url.path() != "/" || url.query().is_some() {
            return Err(refuse(&"it may have no path: that of the request is sent"));
        }
        Ok(Self { name: text.into(), url, at })
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::of(&self.url, self.at.clone()).expect("it was checked when it was parsed")
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// By what the next upstream is chosen.
#[derive(Clone)]
pub(super) enum Balance {
    RoundRobin,
    LeastLoaded,
    Peer,
    Key(Arc<dyn Fn(&Request) -> &str + Send + Sync>),
}

/// An upstream on one core.
pub(super) struct Upstream {
    pub(super) name: Arc<str>,
    pub(super) origin: Origin,
    /// Of its name: the same in all proxies of a site, which so agree where a key belongs.
    hash: u64,
    /// Requests of this core that it has not answered to the end.
    load: Rc<Cell<usize>>,
}

impl Upstream {
    pub(super) fn new(place: &Place) -> Self {
        let name = Arc::clone(&place.name);
        Self { hash: stable_hash(name.as_bytes()), name, origin: place.origin(), load: Rc::default() }
    }

    /// Counts a request for as long as the value lives.
    pub(super) fn load(&self) -> Load {
        self.load.set(self.load.get() + 1);
        Load(Rc::clone(&self.load))
    }
}

pub(super) struct Load(Rc<Cell<usize>>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Chooses upstreams for one request, each at most once.
pub(super) struct Choice {
    tried: Vec<usize>,
    /// The hash of what the request is sent by.
    key: Option<u64>,
    /// No upstream was up when the request came: it may try all of them.
    panics: bool,
}

impl Choice {
    pub(super) fn new(balance: &Balance, request: &Request, peer: Option<&Address>) -> Self {
        let key = match balance {
            Balance::RoundRobin | Balance::LeastLoaded => None,
            Balance::Key(key) => Some(stable_hash(key(request).as_bytes())),
            Balance::Peer => Some(match peer {
                Some(Address::Tcp(peer)) => hash_ip(peer.ip()),
                _ => 0,
            }),
        };
        Self { tried: Vec::new(), key, panics: false }
    }

    /// Chooses the next upstream that is up and was not tried; `turn` is the core's. If none is up, all that no health
    /// check has found down are tried: an error of theirs is no worse than one of ours.
    pub(super) fn next(
        &mut self,
        balance: &Balance,
        upstreams: &[Upstream],
        health: &Health,
        turn: &Cell<usize>,
    ) -> Option<usize> {
        let start = turn.get();
        // A second try takes no turn from the next request, which would begin with the same upstream as this one.
        if self.tried.is_empty() {
            turn.set(start.wrapping_add(1));
        }
        let mut left: Vec<usize> = (0..upstreams.len())
            .map(|offset| start.wrapping_add(offset) % upstreams.len())
            .filter(|index| !self.tried.contains(index))
            .collect();
        match (balance, self.key) {
            (_, Some(key)) => left.sort_by_cached_key(|index| mix(key ^ upstreams[*index].hash)),
            // The sort is stable: among equals the turn decides.
            (Balance::LeastLoaded, None) => left.sort_by_key(|index| upstreams[*index].load.get()),
            _ => {}
        }
        let mut chosen = None;
        if !self.panics {
            chosen = left.iter().copied().find(|index| health.admits(*index));
            self.panics = chosen.is_none() && self.tried.is_empty();
        }
        if self.panics {
            chosen = left.into_iter().find(|index| !health.is_found_down(*index));
        }
        self.tried.extend(chosen);
        chosen
    }
}

fn hash_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => stable_hash(&ip.octets()),
        IpAddr::V6(ip) => stable_hash(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn upstreams(count: usize) -> Vec<Upstream> {
        (0..count).map(|n| Upstream::new(&Place::parse(&format!("http://10.0.0.{n}:80")).unwrap())).collect()
    }

    fn choose(
        balance: &Balance,
        key: Option<u64>,
        all: &[Upstream],
        health: &Health,
        turn: &Cell<usize>,
    ) -> usize {
        Choice { tried: Vec::new(), key, panics: false }.next(balance, all, health, turn).unwrap()
    }

    #[test]
    fn round_robin_asks_each_in_turn() {
        let (all, health, turn) = (upstreams(3), Health::new(3), Cell::new(0));
        let chosen: Vec<_> =
            (0..6).map(|_| choose(&Balance::RoundRobin, None, &all, &health, &turn)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_least_loaded_is_asked_and_among_equals_the_next() {
        let (all, health, turn) = (upstreams(3), Health::new(3), Cell::new(0));
        let _busy = (all[0].load(), all[1].load());
        assert_eq!(choose(&Balance::LeastLoaded, None, &all, &health, &turn), 2);
        let _busier = (all[2].load(), all[2].load());
        let chosen: HashSet<_> =
            (0..6).map(|_| choose(&Balance::LeastLoaded, None, &all, &health, &turn)).collect();
        assert_eq!(chosen, HashSet::from([0, 1]));
    }

    #[test]
    fn a_key_stays_where_it_is_unless_its_upstream_goes_down() {
        let (all, health, turn) = (upstreams(4), Health::new(4), Cell::new(0));
        let key = |n: u64| Some(stable_hash(&n.to_le_bytes()));
        let before: Vec<_> =
            (0..1000).map(|n| choose(&Balance::Peer, key(n), &all, &health, &turn)).collect();
        for index in 0..4 {
            let share = before.iter().filter(|chosen| **chosen == index).count();
            assert!((200..300).contains(&share), "{index} has {share} of 1000");
        }
        for _ in 0..health.failures_max {
            health.failed(2);
        }
        for (n, before) in before.iter().enumerate() {
            let after = choose(&Balance::Peer, key(n as u64), &all, &health, &turn);
            assert!(after != 2 && (*before == 2 || after == *before));
        }
    }

    #[test]
    fn one_request_asks_each_upstream_once_at_most() {
        let (all, health, turn) = (upstreams(3), Health::new(3), Cell::new(7));
        let mut choice = Choice { tried: Vec::new(), key: None, panics: false };
        let mut next = || choice.next(&Balance::RoundRobin, &all, &health, &turn);
        let chosen = HashSet::from([next(), next(), next()]);
        assert_eq!(chosen, HashSet::from([Some(0), Some(1), Some(2)]));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_request_tries_all_upstreams_when_none_is_up() {
        let (all, turn) = (upstreams(2), Cell::new(0));
        let health = Health::down_for_tests(2);
        let mut choice = Choice { tried: Vec::new(), key: None, panics: false };
        let mut next = || choice.next(&Balance::RoundRobin, &all, &health, &turn);
        assert_eq!(HashSet::from([next(), next()]), HashSet::from([Some(0), Some(1)]));
        assert_eq!(next(), None);
    }

    #[test]
    fn what_is_no_upstream_is_refused_with_the_reason() {
        for (text, reason) in [
            ("localhost:80", "scheme"),
            ("ftp://a/", "https"),
            ("https://a/path", "path"),
            ("http://a/path", "path"),
            ("http://", "empty"),
            ("unix:", "empty"),
        ] {
            let error = Place::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        for text in ["unix:/run/app.sock", "https://a.example", "https://[::1]:8443/"] {
            assert!(Place::parse(text).is_ok(), "{text}");
        }
    }
}
