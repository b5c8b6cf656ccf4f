//! The lock-free connection table of a core.
//!
//! One cache line a slot. A slot's word holds the generation of its use, whether it is open, and whether
//! somebody has asked for it to be closed. The core alone opens and closes slots; any thread may list them and
//! ask for one to be closed, without a lock and without stopping the core. What is read of a slot counts only if
//! its word was the same before and after, and a request is a compare-and-swap that names the generation, so an
//! old id never reaches a new connection.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sync::{AtomicBool, AtomicU64, Ordering, fence};

/// The atomics of the standard library, or those of loom, which tries every order in which threads can meet.
mod sync {
    #[cfg(not(gimmal_loom))]
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

    #[cfg(gimmal_loom)]
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

const OPEN: u64 = 1;
const CLOSE_REQUESTED: u64 = 2;

fn word(generation: u32, state: u64) -> u64 {
    u64::from(generation) << 32 | state
}

/// Names one connection of this process, for good: slots are used again, their generations are not.
///
/// As text: `CORE.SLOT.GENERATION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    core: u16,
    slot: u32,
    generation: u32,
}

impl ConnectionId {
    /// Which core the connection belongs to, from 0.
    #[must_use]
    pub fn core(self) -> usize {
        usize::from(self.core)
    }

    pub(crate) fn slot(self) -> u32 {
        self.slot
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.core, self.slot, self.generation)
    }
}

/// A text that is no [`ConnectionId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a connection id: write CORE.SLOT.GENERATION")]
pub struct ConnectionIdError(String);

impl FromStr for ConnectionId {
    type Err = ConnectionIdError;

    fn from_str(text: &str) -> Result<Self, ConnectionIdError> {
        let parse = || {
            let (core, rest) = text.split_once('.')?;
            let (slot, generation) = rest.split_once('.')?;
            Some(Self {
                core: core.parse().ok()?,
                slot: slot.parse().ok()?,
                generation: generation.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ConnectionIdError(text.to_owned()))
    }
}

/// What the table tells of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Which connection.
    pub id: ConnectionId,
    /// When it was opened, in seconds since 1970.
    pub opened_at: u64,
    /// Bytes received on it.
    pub received_bytes: u64,
    /// Bytes that the kernel took for sending on it.
    pub sent_bytes: u64,
    /// Whether it has been asked to close.
    pub close_requested: bool,
}

#[repr(align(64))]
#[derive(Debug)]
struct Slot {
    word: AtomicU64,
    opened_at: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

/// The connections of one core, as any thread may see them.
#[derive(Debug)]
pub struct Table {
    core: u16,
    slots: Box<[Slot]>,
    /// Some slot has a close request.
    requests: AtomicBool,
}

impl Table {
    /// How many connections the table has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The connections that are open, each as it was at one moment while the list was made.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        (0..self.slots.len() as u32).filter_map(|slot| self.read(slot)).collect()
    }

    /// A connection that is open.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        self.read(id.slot).filter(|info| info.id == id)
    }

    fn read(&self, index: u32) -> Option<ConnectionInfo> {
        let slot = self.slots.get(index as usize)?;
        let before = slot.word.load(Ordering::Acquire);
        if before & OPEN == 0 {
            return None;
        }
        let info = ConnectionInfo {
            id: ConnectionId { core: self.core, slot: index, generation: (before >> 32) as u32 },
            opened_at: slot.opened_at.load(Ordering::Relaxed),
            received_bytes: slot.received_bytes.load(Ordering::Relaxed),
            sent_bytes: slot.sent_bytes.load(Ordering::Relaxed),
            close_requested: before & CLOSE_REQUESTED != 0,
        };
        // Whoever saw a later connection's figures above sees here that the slot has changed hands.
        fence(Ordering::Acquire);
        let after = slot.word.load(Ordering::Relaxed);
        (before & !CLOSE_REQUESTED == after & !CLOSE_REQUESTED).then_some(info)
    }

    /// Asks for a connection to be closed; `false` if it is gone. Its core closes it within a second, or 50 ms if it is
    /// not idle or was asked through [`CoreHandle::request_close`](crate::CoreHandle::request_close): what it waits for
    /// fails with `ConnectionAborted`.
    pub fn request_close(&self, id: ConnectionId) -> bool {
        let Some(slot) = self.slots.get(id.slot as usize).filter(|_| id.core == self.core) else {
            return false;
        };
        let open = word(id.generation, OPEN);
        match slot.word.compare_exchange(open, open | CLOSE_REQUESTED, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => {
                // A swap, not a store: it hands on what an earlier request published, which the core would
                // not be sure to see if its flag were merely overwritten.
                self.requests.swap(true, Ordering::AcqRel);
                true
            }
            Err(now) => now == open | CLOSE_REQUESTED,
        }
    }
}

/// The core's own side of its table.
#[derive(Debug)]
pub(crate) struct TableOwner {
    table: Arc<Table>,
    /// Slots that are not open, the next one to use last.
    free: Vec<u32>,
}

impl TableOwner {
    pub(crate) fn new(core: u16, capacity: u32) -> Self {
        let slots = (0..capacity)
            .map(|_| Slot {
                word: AtomicU64::new(0),
                opened_at: AtomicU64::new(0),
                received_bytes: AtomicU64::new(0),
                sent_bytes: AtomicU64::new(0),
            })
            .collect();
        let table = Arc::new(Table { core, slots, requests: AtomicBool::new(false) });
        Self { table, free: (0..capacity).rev().collect() }
    }

    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub(crate) fn len(&self) -> usize {
        self.table.slots.len() - self.free.len()
    }

    /// Slots that are free.
    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    /// Opens the next free slot.
    pub(crate) fn insert(&mut self, opened_at: u64) -> Option<ConnectionId> {
        let index = self.free.pop()?;
        let slot = &self.table.slots[index as usize];
        let generation = ((slot.word.load(Ordering::Relaxed) >> 32) as u32).wrapping_add(1);
        // Pairs with the fence in `read`: the slot is seen as closed by all who see what is written next.
        fence(Ordering::Release);
        slot.opened_at.store(opened_at, Ordering::Relaxed);
        slot.received_bytes.store(0, Ordering::Relaxed);
        slot.sent_bytes.store(0, Ordering::Relaxed);
        slot.word.store(word(generation, OPEN), Ordering::Release);
        Some(ConnectionId { core: self.table.core, slot: index, generation })
    }

    /// Closes a slot. It must be open under this very id.
    pub(crate) fn remove(&mut self, id: ConnectionId) {
        let slot = &self.table.slots[id.slot as usize];
        // A swap, since a close request may come at the same moment.
        let was = slot.word.swap(word(id.generation, 0), Ordering::AcqRel);
        assert_eq!(was & !CLOSE_REQUESTED, word(id.generation, OPEN), "an open connection is removed once");
        self.free.push(id.slot);
    }

    pub(crate) fn add_received(&self, id: ConnectionId, bytes: usize) {
        add(&self.table.slots[id.slot as usize].received_bytes, bytes);
    }

    pub(crate) fn add_sent(&self, id: ConnectionId, bytes: usize) {
        add(&self.table.slots[id.slot as usize].sent_bytes, bytes);
    }

    /// The slots that have been asked to close since the last call, or earlier and are open still.
    pub(crate) fn close_requests(&self) -> Vec<u32> {
        if !self.table.requests.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let asked = |slot: &Slot| slot.word.load(Ordering::Acquire) & CLOSE_REQUESTED != 0;
        let slots = self.table.slots.iter().enumerate();
        slots.filter(|(_, slot)| asked(slot)).map(|(index, _)| index as u32).collect()
    }
}

/// The core is the only writer, so no locked instruction is needed.
fn add(counter: &AtomicU64, bytes: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(bytes as u64), Ordering::Relaxed);
}

#[cfg(all(test, not(gimmal_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_under_a_new_generation() {
        let mut owner = TableOwner::new(2, 1);
        let first = owner.insert(10).unwrap();
        assert!(owner.room() == 0 && owner.insert(11).is_none());
        owner.add_received(first, 5);
        owner.remove(first);
        let second = owner.insert(12).unwrap();
        assert_ne!(first, second);
        assert_eq!(owner.table().get(first), None);
        let info = owner.table().get(second).unwrap();
        assert_eq!((info.opened_at, info.received_bytes, info.sent_bytes), (12, 0, 0));
    }

    #[test]
    fn an_old_id_closes_nobody() {
        let mut owner = TableOwner::new(0, 4);
        let old = owner.insert(1).unwrap();
        owner.remove(old);
        let new = owner.insert(1).unwrap();
        assert!(!owner.table().request_close(old));
        assert_eq!(owner.close_requests(), []);
        assert!(owner.table().request_close(new) && owner.table().request_close(new));
        assert_eq!(owner.close_requests(), [new.slot()]);
        assert_eq!(owner.close_requests(), []);
    }

    #[test]
    fn connections_lists_what_is_open() {
        let mut owner = TableOwner::new(0, 4);
        let ids: Vec<_> = (0..3).map(|at| owner.insert(at).unwrap()).collect();
        owner.remove(ids[1]);
        owner.add_sent(ids[2], 9);
        let open = owner.table().connections();
        assert_eq!(open.iter().map(|info| info.id).collect::<Vec<_>>(), [ids[0], ids[2]]);
        assert_eq!((open[1].sent_bytes, owner.len()), (9, 2));
    }

    #[test]
    fn ids_go_to_text_and_back() {
        let id = TableOwner::new(3, 1).insert(0).unwrap();
        assert_eq!(id.to_string(), "3.0.1");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("3.0".parse::<ConnectionId>().is_err());
    }
}

#[cfg(all(test, gimmal_loom))]
mod model {
    use super::*;
    use loom::thread;

    /// Figures of a connection equal its `opened_at`, so a mixture would show.
    #[test]
    fn a_reader_never_mixes_two_connections() {
        loom::model(|| {
            let mut owner = TableOwner::new(0, 1);
            let first = owner.insert(1).unwrap();
            owner.add_received(first, 1);
            let table = Arc::clone(owner.table());
            let reader = thread::spawn(move || {
                if let Some(info) = table.read(0) {
                    assert_eq!(u64::from(info.id.generation), info.opened_at);
                    assert!(info.received_bytes == info.opened_at || info.received_bytes == 0);
                }
            });
            owner.remove(first);
            let second = owner.insert(2).unwrap();
            owner.add_received(second, 2);
            reader.join().unwrap();
        });
    }

    #[test]
    fn a_request_for_an_old_id_never_closes_a_new_connection() {
        loom::model(|| {
            let mut owner = TableOwner::new(0, 1);
            let first = owner.insert(1).unwrap();
            let table = Arc::clone(owner.table());
            let closer = thread::spawn(move || table.request_close(first));
            owner.remove(first);
            owner.insert(2).unwrap();
            closer.join().unwrap();
            assert_eq!(owner.close_requests(), []);
        });
    }

    #[test]
    fn a_request_is_never_lost() {
        loom::model(|| {
            let mut owner = TableOwner::new(0, 2);
            let (first, second) = (owner.insert(1).unwrap(), owner.insert(1).unwrap());
            let table = Arc::clone(owner.table());
            let closer = thread::spawn(move || assert!(table.request_close(second)));
            assert!(owner.table().request_close(first));
            let mut seen = owner.close_requests();
            closer.join().unwrap();
            seen.extend(owner.close_requests());
            assert!(seen.contains(&first.slot()) && seen.contains(&second.slot()));
        });
    }
}
