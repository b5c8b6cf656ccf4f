//! The tasks of one core.
//!
//! A task is polled by the loop that collects completions, right after the completion that it waited for, with
//! no queue in between. Its waker is two numbers packed into a pointer (which core, which task), so cloning and
//! dropping it costs nothing, and waking it on its own core is a push onto a list. A waker that outlives its
//! task may wake a later task in the same slot once for nothing, which every future allows for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use slab::Slab;

use crate::core;
use crate::local_future::LocalFuture;

const _: () = assert!(usize::BITS >= 64, "a waker packs two 32-bit numbers into a pointer");

struct Task {
    /// `None` while it is being polled.
    future: Option<LocalFuture<()>>,
    queued: bool,
}

#[derive(Default)]
pub(crate) struct Tasks {
    slab: RefCell<Slab<Task>>,
    ready: RefCell<VecDeque<u32>>,
}

/// What a poll of a task came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    Pending,
    Finished,
    Panicked,
}

impl Tasks {
    pub(crate) fn spawn(&self, future: LocalFuture<()>) {
        let task = Task { future: Some(future), queued: true };
        let index = self.slab.borrow_mut().insert(task) as u32;
        self.ready.borrow_mut().push_back(index);
    }

    /// Queues a task to be polled; a task that is queued already, or gone, is left alone.
    pub(crate) fn wake(&self, index: u32) {
        if let Some(task) = self.slab.borrow_mut().get_mut(index as usize)
            && !task.queued
        {
            task.queued = true;
            self.ready.borrow_mut().push_back(index);
        }
    }

    /// Tasks that wait to be polled.
    pub(crate) fn ready(&self) -> usize {
        self.ready.borrow().len()
    }

    pub(crate) fn next_ready(&self) -> Option<u32> {
        self.ready.borrow_mut().pop_front()
    }

    /// Polls a task once. A panic ends that task alone.
    pub(crate) fn poll(&self, core: u32, index: u32) -> Polled {
        let future = self.slab.borrow_mut().get_mut(index as usize).and_then(|task| {
            task.queued = false;
            task.future.take()
        });
        let Some(mut future) = future else { return Polled::Pending };
        let waker = waker(core, index);
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| std::pin::Pin::new(&mut future).poll(&mut context)));
        if let Ok(Poll::Pending) = polled {
            if let Some(task) = self.slab.borrow_mut().get_mut(index as usize) {
                task.future = Some(future);
            }
            return Polled::Pending;
        }
        // What a task leaves behind may panic as well, and must not take the core with it either.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        self.slab.borrow_mut().remove(index as usize);
        if polled.is_ok() && dropped.is_ok() { Polled::Finished } else { Polled::Panicked }
    }

    /// Drops every task, wherever it waits.
    pub(crate) fn abort_all(&self) {
        loop {
            // One at a time, since dropping a task may wake or spawn others.
            let key = self.slab.borrow().iter().next().map(|(key, _)| key);
            let Some(key) = key else { return };
            let task = self.slab.borrow_mut().remove(key);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
        }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake, wake, |_| {});

fn wake(data: *const ()) {
    let packed = data.addr() as u64;
    core::wake_task((packed >> 32) as u32, packed as u32);
}

fn waker(core: u32, index: u32) -> Waker {
    let packed = u64::from(core) << 32 | u64::from(index);
    let data = std::ptr::without_provenance(packed as usize);
    // SAFETY: the data is two numbers and is never dereferenced; clone copies it, drop does nothing, and wake
    // may be called from any thread, on a core or a task that is gone as well: all that the contract of
    // `RawWaker` asks.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}
