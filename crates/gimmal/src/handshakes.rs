//! Whose turn it is to do a TLS handshake.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// How long a handshake may take while others wait for a turn: more than the round trip that it needs.
const TURN: Duration = Duration::from_millis(500);

/// Leave to do a handshake: they cost so much, in time and in memory, that no more than so many go on at once. Whoever
/// begins them and does not go on would keep all others out; so who has had its time gives way to those who wait.
pub(crate) struct Handshakes {
    turns: Semaphore,
    waiting: Cell<usize>,
    somebody_waits: Notify,
}

/// One who waits, as long as it lives.
struct Waiting<'a>(&'a Cell<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.update(|waiting| waiting - 1);
    }
}

impl Handshakes {
    pub(crate) fn new(count_max: usize) -> Self {
        Self { turns: Semaphore::new(count_max), waiting: Cell::new(0), somebody_waits: Notify::new() }
    }

    /// Waits for a turn, which lasts as long as what it gives; who has come first has the first.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Some(turn);
        }
        self.waiting.update(|waiting| waiting + 1);
        let _waiting = Waiting(&self.waiting);
        self.somebody_waits.notify_one();
        self.turns.acquire().await.ok()
    }

    /// Ready once a turn that begins now has lasted long enough and somebody else waits for it.
    pub(crate) async fn give_way(&self) {
        tokio::time::sleep(TURN).await;
        while self.waiting.get() == 0 {
            self.somebody_waits.notified().await;
        }
    }
}
