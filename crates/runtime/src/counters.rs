//! Per-core counters that any thread may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer, its core: writing is a plain load and store, with no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters once, as what the core writes and as the [`Snapshot`] that others read.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The counters of one core, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct CoreCounters {
            $(pub(crate) $name: Counter,)+
        }

        impl CoreCounters {
            pub(crate) fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)+ }
            }
        }

        /// The counters of a core at one moment, since its start. Each field is exact; together they are as
        /// consistent as reading them one after the other makes them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Snapshot {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl std::ops::Add for Snapshot {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name.wrapping_add(other.$name),)+ }
            }
        }

        impl std::ops::Sub for Snapshot {
            type Output = Self;

            fn sub(self, other: Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(other.$name),)+ }
            }
        }
    };
}

counters! {
    /// Connections opened, incoming and outgoing.
    opened,
    /// Connections closed.
    closed,
    /// Connections open now.
    open,
    /// Connections turned away because the table was full or the server was stopping.
    refused,
    /// Times that accepting failed, for want of descriptors or memory.
    accept_errors,
    /// Bytes received.
    received_bytes,
    /// Bytes that the kernel took for sending.
    sent_bytes,
    /// Calls of `io_uring_enter`.
    ring_enters,
    /// Operations queued on the ring.
    submissions,
    /// Completions collected from the ring.
    completions,
    /// Times that the completion queue had overflowed.
    cq_overflows,
    /// Sends started, of whatever kind.
    sends,
    /// Sends started without copying.
    zero_copy_sends,
    /// Zero-copy sends that the kernel copied after all.
    zero_copy_copied,
    /// Times that the kernel took a piece of a file for sending, with no copy of it in the process.
    file_sends,
    /// Times that a thread for blocking work had to wait for the disk before that.
    file_sends_from_disk,
    /// Times that no pinned buffer was free for a receive.
    buffers_exhausted,
    /// Receives started again after that.
    receive_rearms,
    /// Receives into memory of the connection's own.
    fallback_receives,
    /// Pinned receive buffers that the program holds now.
    buffers_in_use,
    /// Bytes that are queued on all connections now, and not taken by the kernel.
    unsent_bytes,
    /// Bytes that all connections have received now, and the program has not read.
    unread_bytes,
    /// Tasks spawned.
    tasks_spawned,
    /// Polls of tasks.
    task_polls,
    /// Tasks that ended in a panic.
    panics,
    /// Connection deadlines that passed.
    deadlines_passed,
    /// Times that a task held the core longer than the stall threshold.
    stalls,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_add_and_subtract() {
        let counters = CoreCounters::default();
        counters.opened.add(3);
        let before = counters.snapshot();
        counters.opened.add(4);
        counters.open.set(7);
        let difference = counters.snapshot() - before;
        assert_eq!((difference.opened, difference.open), (4, 7));
        assert_eq!((before + difference).opened, 7);
    }
}
