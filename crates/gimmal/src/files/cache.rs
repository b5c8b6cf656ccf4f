//! Open files, kept for a moment by each core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gimmal_runtime::Core;
use http::StatusCode;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::coding::Coding;
use super::variant::Variant;
use crate::error::Error;

/// Files that are kept open per folder and core.
const ENTRIES_MAX: usize = 256;
/// Of the descriptors that the process may have, all cores together keep one of so many open. Most are for connections.
const SHARE: u64 = 16;
/// How long is waited before a file is opened again that no descriptor was left for: other cores let theirs go, and
/// responses end.
const WAITS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(50), Duration::from_millis(200)];

/// How often the process has run out of descriptors.
static SHORTAGES: AtomicU64 = AtomicU64::new(0);
/// Threads that keep files open.
static KEEPERS: AtomicUsize = AtomicUsize::new(0);
/// Descriptors that all of them together may keep open.
static DESCRIPTORS_MAX: LazyLock<usize> = LazyLock::new(|| {
    // `None` stands for no limit.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / SHARE).unwrap_or(usize::MAX)
});

/// A file, and what lies beside it compressed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) plain: Variant,
    pub(super) compressed: Vec<(Coding, Variant)>,
}

impl Entry {
    fn descriptors(&self) -> usize {
        1 + self.compressed.len()
    }
}

/// Names one folder that is served, in all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheId(u64);

impl CacheId {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The caches of a thread.
#[derive(Debug)]
struct Caches(HashMap<CacheId, Rc<Cache>>);

impl Caches {
    fn new() -> Self {
        KEEPERS.fetch_add(1, Ordering::Relaxed);
        Self(HashMap::new())
    }

    /// Descriptors that this thread may keep open.
    fn descriptors_max() -> usize {
        *DESCRIPTORS_MAX / KEEPERS.load(Ordering::Relaxed).max(1)
    }

    fn descriptors(&self) -> usize {
        self.0.values().map(|cache| cache.descriptors.get()).sum()
    }

    /// Closes what has been open for longest; whether there was anything.
    fn close_oldest(&self) -> bool {
        let oldest = self
            .0
            .values()
            .filter_map(|cache| Some((cache.oldest()?, cache)))
            .min_by_key(|(found, _)| *found);
        let Some((_, cache)) = oldest else { return false };
        cache.close_oldest();
        true
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        KEEPERS.fetch_sub(1, Ordering::Relaxed);
    }
}

thread_local! {
    static CACHES: RefCell<Caches> = RefCell::new(Caches::new());
}

/// What one core keeps open of one folder. A name is looked up again once it is stale, so that a file that was
/// replaced or removed is noticed; the length and time of an open file are never kept.
#[derive(Debug)]
pub(super) struct Cache {
    stale_after: Duration,
    entries: RefCell<HashMap<Key, (Instant, Rc<Entry>)>>,
    /// How many `entries` hold.
    descriptors: Cell<usize>,
    /// The shortages for which this cache has been emptied.
    shortages: Cell<u64>,
    sweeps: Cell<bool>,
}

/// A path below the folder as a request has it, escapes and all; one with a space before it is that of the fallback.
type Key = String;

impl Cache {
    /// The cache of this core.
    pub(super) fn of(id: CacheId, stale_after: Duration) -> Rc<Self> {
        let new = || {
            Rc::new(Self {
                stale_after,
                entries: RefCell::default(),
                descriptors: Cell::new(0),
                shortages: Cell::new(SHORTAGES.load(Ordering::Relaxed)),
                sweeps: Cell::new(false),
            })
        };
        CACHES.with_borrow_mut(|caches| Rc::clone(caches.0.entry(id).or_insert_with(new)))
    }

    pub(super) fn get(&self, key: &str) -> Option<Rc<Entry>> {
        self.heed_shortage();
        let entries = self.entries.borrow();
        let (found, entry) = entries.get(key)?;
        (found.elapsed() < self.stale_after).then(|| Rc::clone(entry))
    }

    pub(super) fn put(self: &Rc<Self>, key: Key, entry: &Rc<Entry>) {
        if self.stale_after.is_zero() {
            return;
        }
        self.remove(&key);
        if self.entries.borrow().len() >= ENTRIES_MAX {
            self.close_oldest();
        }
        let has_room = CACHES.with_borrow(|caches| {
            let max = Caches::descriptors_max();
            while caches.descriptors() + entry.descriptors() > max {
                if !caches.close_oldest() {
                    return false;
                }
            }
            true
        });
        if !has_room {
            return;
        }
        self.descriptors.set(self.descriptors.get() + entry.descriptors());
        self.entries.borrow_mut().insert(key, (Instant::now(), Rc::clone(entry)));
        if let Some(core) = Core::current()
            && !self.sweeps.replace(true)
        {
            core.spawn(sweep(Rc::downgrade(self), self.stale_after));
        }
    }

    /// Empties the cache if the process has run out of descriptors since it was last used.
    fn heed_shortage(&self) {
        let shortages = SHORTAGES.load(Ordering::Relaxed);
        if self.shortages.replace(shortages) != shortages {
            self.retain(|_| false);
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.entries.borrow().values().map(|(found, _)| *found).min()
    }

    fn close_oldest(&self) {
        let entries = self.entries.borrow();
        let oldest = entries.iter().min_by_key(|(_, (found, _))| *found).map(|(key, _)| key.clone());
        drop(entries);
        if let Some(oldest) = oldest {
            self.remove(&oldest);
        }
    }

    fn remove(&self, key: &str) {
        if let Some((_, entry)) = self.entries.borrow_mut().remove(key) {
            self.descriptors.set(self.descriptors.get() - entry.descriptors());
        }
    }

    /// Keeps what was found at a time that `keeps` says yes to.
    fn retain(&self, keeps: impl Fn(Instant) -> bool) {
        let mut entries = self.entries.borrow_mut();
        entries.retain(|_, (found, _)| keeps(*found));
        self.descriptors.set(entries.values().map(|(_, entry)| entry.descriptors()).sum());
    }
}

/// Closes what has become stale, so that a file that was removed gives its room on the disk back.
async fn sweep(cache: Weak<Cache>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(cache) = cache.upgrade() else { return };
        cache.heed_shortage();
        cache.retain(|found| found.elapsed() < every);
        if cache.entries.borrow().is_empty() {
            cache.sweeps.set(false);
            return;
        }
    }
}

/// Opens a file; where no descriptor is left for it, all cores close what they keep, and it is tried again.
///
/// # Errors
/// 503 if there is none for a quarter of a second; else what opening fails with.
pub(super) async fn making_room<T>(open: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let mut opened = open().await;
    for wait in WAITS {
        if !opened.as_ref().is_err_and(is_shortage) {
            return opened;
        }
        SHORTAGES.fetch_add(1, Ordering::Relaxed);
        CACHES.with_borrow(|caches| caches.0.values().for_each(|cache| cache.heed_shortage()));
        if Core::current().is_some() && !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        opened = open().await;
    }
    match opened {
        Err(error) if is_shortage(&error) => {
            Err(Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source(OutOfDescriptors))
        }
        opened => opened,
    }
}

/// Why no file is sent.
#[derive(Debug, thiserror::Error)]
#[error("no descriptor is left to open a file: raise the limit on open files (ulimit -n)")]
struct OutOfDescriptors;

/// Whether the process or the system may open no more files.
fn is_shortage(error: &Error) -> bool {
    let errno =
        error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(Errno::from_io_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}
