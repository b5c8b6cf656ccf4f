//! Open files, kept for a moment by each core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gimmal_runtime::Core;

use super::coding::Coding;
use super::variant::Variant;

/// Files that are kept open per folder and core.
const ENTRIES_MAX: usize = 256;

/// A file, and what lies beside it compressed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) plain: Variant,
    pub(super) compressed: Vec<(Coding, Variant)>,
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

thread_local! {
    static CACHES: RefCell<HashMap<CacheId, Rc<Cache>>> = RefCell::default();
}

/// What one core keeps open of one folder. A name is looked up again once it is stale, so that a file that was
/// replaced or removed is noticed; the length and time of an open file are never kept.
#[derive(Debug)]
pub(super) struct Cache {
    stale_after: Duration,
    entries: RefCell<HashMap<Key, (Instant, Rc<Entry>)>>,
    sweeps: Cell<bool>,
}

/// A path below the folder as a request has it, escapes and all; one with a space before it is that of the fallback.
type Key = String;

impl Cache {
    /// The cache of this core.
    pub(super) fn of(id: CacheId, stale_after: Duration) -> Rc<Self> {
        let new = || Rc::new(Self { stale_after, entries: RefCell::default(), sweeps: Cell::new(false) });
        CACHES.with_borrow_mut(|caches| Rc::clone(caches.entry(id).or_insert_with(new)))
    }

    pub(super) fn get(&self, key: &str) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let (found, entry) = entries.get(key)?;
        (found.elapsed() < self.stale_after).then(|| Rc::clone(entry))
    }

    pub(super) fn put(self: &Rc<Self>, key: Key, entry: &Rc<Entry>) {
        if self.stale_after.is_zero() {
            return;
        }
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(&key) {
            let oldest = entries.iter().min_by_key(|(_, (found, _))| *found).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| entries.remove(&oldest));
        }
        entries.insert(key, (Instant::now(), Rc::clone(entry)));
        drop(entries);
        if let Some(core) = Core::current()
            && !self.sweeps.replace(true)
        {
            core.spawn(sweep(Rc::downgrade(self), self.stale_after));
        }
    }
}

/// Closes what has become stale, so that a file that was removed gives its room on the disk back.
async fn sweep(cache: Weak<Cache>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(cache) = cache.upgrade() else { return };
        let mut entries = cache.entries.borrow_mut();
        entries.retain(|_, (found, _)| found.elapsed() < every);
        if entries.is_empty() {
            cache.sweeps.set(false);
            return;
        }
    }
}
