//! How other threads reach a core.

use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Waker;

use tokio::sync::oneshot;

use crate::core::Core;
use crate::counters::CoreCounters;
use crate::local_future::LocalFuture;
use crate::table::{ConnectionId, Table};

type Job = Box<dyn FnOnce(&Rc<Core>) + Send>;

#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) jobs: Vec<Job>,
    pub(crate) woken: Vec<u32>,
    /// Wakes the core when it sleeps.
    driver: Option<Waker>,
    closed: bool,
}

/// What other threads have for a core.
#[derive(Default)]
pub(crate) struct Remote {
    inbox: Mutex<Inbox>,
    /// Whether the inbox holds anything; the core looks at this alone on its way round.
    pending: AtomicBool,
}

impl Remote {
    fn post(&self, put: impl FnOnce(&mut Inbox)) -> bool {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.closed {
            return false;
        }
        put(&mut inbox);
        let driver = if self.pending.swap(true, Ordering::AcqRel) { None } else { inbox.driver.clone() };
        drop(inbox);
        if let Some(driver) = driver {
            driver.wake();
        }
        true
    }

    fn wake(&self, task: u32) {
        self.post(|inbox| inbox.woken.push(task));
    }

    /// Moves everything that has been posted into `into`; returns whether there was anything.
    pub(crate) fn take(&self, into: &mut Inbox) -> bool {
        if !self.pending.load(Ordering::Acquire) {
            return false;
        }
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.pending.store(false, Ordering::Release);
        into.jobs.append(&mut inbox.jobs);
        into.woken.append(&mut inbox.woken);
        true
    }

    pub(crate) fn set_driver(&self, waker: &Waker) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if !inbox.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inbox.driver = Some(waker.clone());
        }
    }

    /// Refuses what comes from now on, and drops what has come.
    pub(crate) fn close(&self) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.closed = true;
        let dropped = std::mem::take(&mut *inbox);
        inbox.closed = true;
        drop(inbox);
        drop(dropped);
    }
}

/// The cores of this process, by the number that a waker carries.
static CORES: RwLock<Vec<Option<Arc<Remote>>>> = RwLock::new(Vec::new());

/// Enters a core into the process-wide list; its number is given to another only after [`unregister`].
pub(crate) fn register(remote: &Arc<Remote>) -> u32 {
    let mut cores = CORES.write().unwrap_or_else(PoisonError::into_inner);
    let free = cores.iter().position(Option::is_none).unwrap_or_else(|| {
        cores.push(None);
        cores.len() - 1
    });
    cores[free] = Some(Arc::clone(remote));
    free as u32
}

pub(crate) fn unregister(core: u32) {
    let mut cores = CORES.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = cores.get_mut(core as usize) {
        *entry = None;
    }
}

/// Wakes a task of another thread's core.
pub(crate) fn wake(core: u32, task: u32) {
    let cores = CORES.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(Some(remote)) = cores.get(core as usize) {
        remote.wake(task);
    }
}

/// The core has stopped before the work was done, or the work panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the work was not done: its core has stopped (send it to one that runs, or before the shutdown), or it panicked"
)]
pub struct CoreStopped;

/// A handle to a core that other threads may hold: it sends work there, reads its counters, and lists its
/// connections.
#[derive(Clone)]
pub struct CoreHandle {
    pub(crate) index: usize,
    pub(crate) remote: Arc<Remote>,
    pub(crate) counters: Arc<CoreCounters>,
    pub(crate) table: Arc<Table>,
}

impl CoreHandle {
    /// Which of the cores it is, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Runs `work` on the core, where it makes a future that need not be `Send`, and waits for its output.
    ///
    /// The work runs whether or not the returned future is polled; dropping it does not end the work.
    ///
    /// # Errors
    /// [`CoreStopped`] if the core stops first, or if the work panics.
    ///
    /// ```
    /// let answers = gimmal_runtime::Cores::builder().count(2).run(|core| async move {
    ///     let handle = core.handles()[0].clone();
    ///     // What runs over there may use `Rc`; only the closure and the answer are `Send`.
    ///     handle.run(|| async { *std::rc::Rc::new(42) }).await.unwrap_or(42)
    /// })?;
    /// assert_eq!(answers, [42, 42]);
    /// # Ok::<(), gimmal_runtime::CoresError>(())
    /// ```
    pub fn run<F, W, T>(&self, work: W) -> impl Future<Output = Result<T, CoreStopped>> + Send + use<F, W, T>
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.post(move |core| {
            let future = work();
            core.spawn_boxed(LocalFuture::new(async move {
                // Nobody may be waiting any more.
                let _ = sender.send(future.await);
            }));
        });
        async move { receiver.await.map_err(|_| CoreStopped) }
    }

    /// Begins a graceful shutdown of the core; see [`Core::drain`].
    pub fn drain(&self) {
        self.post(|core| core.drain());
    }

    /// Stops the core at once: tasks are dropped and connections reset.
    pub fn stop(&self) {
        self.post(|core| core.stop_flag().set(true));
    }

    /// Asks for a connection to be closed, as [`Table::request_close`] does, and wakes the core for it.
    #[must_use]
    pub fn request_close(&self, id: ConnectionId) -> bool {
        let is_open = self.table.request_close(id);
        if is_open {
            self.post(|_| {});
        }
        is_open
    }

    fn post(&self, job: impl FnOnce(&Rc<Core>) + Send + 'static) -> bool {
        self.remote.post(|inbox| inbox.jobs.push(Box::new(job)))
    }

    /// The core's counters, as they are now.
    #[must_use]
    pub fn counters(&self) -> crate::counters::Snapshot {
        self.counters.snapshot()
    }

    /// The core's connections; see [`Table`].
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }
}

impl std::fmt::Debug for CoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreHandle").field("index", &self.index).finish_non_exhaustive()
    }
}
