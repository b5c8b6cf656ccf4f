//! Starting a thread for each core.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::backend::{Backend, BackendKind, IoUringMissing};
use crate::core::{Core, FILE_BUFFER_BYTES, Parts};
use crate::counters::{CoreCounters, Snapshot};
use crate::cpus;
use crate::driver::Driver;
use crate::local_future::LocalFuture;
use crate::options::Options;
use crate::pinned::BufferPool;
use crate::remote::{CoreHandle, Remote};
use crate::ring::Ring;
use crate::stall::{Heartbeat, StallDetector};
use crate::table::TableOwner;

/// Entries of tokio-uring's own ring, which carries files alone.
const FILE_RING_ENTRIES: u32 = 64;
/// Direct descriptors beyond the connections, for those that close at the same moment as others come.
const SPARE_FILES: u32 = 64;

/// Why the cores could not be started, or one of them ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoresError {
    /// `Backend::IoUring` was asked for and cannot be had.
    #[error("io_uring was asked for and cannot be used: {0}")]
    IoUring(#[from] IoUringMissing),
    /// A size in [`Options`] that cannot be.
    #[error("Options::{0}")]
    Options(&'static str),
    /// A thread, a ring or memory was refused.
    #[error("core {core} could not start: {source}")]
    Start {
        /// Which core.
        core: usize,
        /// What was refused.
        source: io::Error,
    },
    /// A core's ring or its main future failed.
    #[error("core {core} ended: {reason}")]
    Ended {
        /// Which core.
        core: usize,
        /// What happened.
        reason: String,
    },
}

/// How many cores, where, and on what. Made by [`Cores::builder`].
#[derive(Clone, Debug, Default)]
pub struct CoresBuilder {
    count: Option<usize>,
    cpus: Option<Vec<usize>>,
    pin: Option<bool>,
    backend: Backend,
    options: Options,
}

impl CoresBuilder {
    /// How many cores. Default: as many CPUs as the affinity mask and the control groups' quota grant.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    /// The CPUs to pin the cores to, in turn. Default: those of the affinity mask.
    #[must_use]
    pub fn cpus(mut self, cpus: Vec<usize>) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Whether threads are pinned to their CPUs. Default: yes, unless there are more cores than CPUs.
    #[must_use]
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = Some(pin);
        self
    }

    /// Which back end. Default [`Backend::Auto`].
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Limits and sizes of each core.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// How many cores will be started, for who must prepare something for each of them.
    #[must_use]
    pub fn planned(&self) -> usize {
        cpus::choose(self.count, self.cpus.as_deref()).len()
    }

    /// Starts the cores, and on each of them the future that `main` makes there. A core stops when its future
    /// ends.
    ///
    /// # Errors
    /// [`CoresError`] if any core cannot be started; then none runs.
    pub fn start<F, T>(
        self,
        main: impl Fn(Rc<Core>) -> F + Send + Sync + 'static,
    ) -> Result<Cores<T>, CoresError>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let options = self.checked_options()?;
        let backend = self.backend.choose()?;
        let cpus = cpus::choose(self.count, self.cpus.as_deref());
        let distinct = cpus.iter().collect::<std::collections::HashSet<_>>().len();
        let pin = self.pin.unwrap_or(distinct == cpus.len());

        let mut owners = Vec::new();
        let mut handles = Vec::new();
        for index in 0..cpus.len() {
            let owner = TableOwner::new(index as u16, options.connections_max);
            handles.push(CoreHandle {
                index,
                remote: Arc::new(Remote::default()),
                counters: Arc::new(CoreCounters::default()),
                table: Arc::clone(owner.table()),
            });
            owners.push(owner);
        }
        let handles: Arc<[CoreHandle]> = handles.into();
        let heartbeats: Vec<_> = cpus.iter().map(|_| Arc::new(Heartbeat::default())).collect();
        let main = Arc::new(main);
        let (ready, started) = mpsc::channel();
        let mut threads = Vec::new();
        for ((index, cpu), table) in cpus.iter().copied().enumerate().zip(owners) {
            let seed = Seed {
                handle: handles[index].clone(),
                handles: Arc::clone(&handles),
                cpu: pin.then_some(cpu),
                backend,
                options: options.clone(),
                table,
                heartbeat: Arc::clone(&heartbeats[index]),
            };
            let (ready, main) = (ready.clone(), Arc::clone(&main));
            let thread = thread::Builder::new()
                .name(format!("gimmal-{index}"))
                .spawn(move || seed.grow(&ready, &*main))
                .map_err(|source| CoresError::Start { core: index, source })?;
            threads.push(thread);
        }
        drop(ready);
        let failed = started.iter().take(threads.len()).find_map(Result::err);
        let detector = StallDetector::start(options.stall_threshold, heartbeats);
        let cores = Cores { handles, backend, threads, _detector: detector };
        match failed {
            None => Ok(cores),
            Some(error) => {
                cores.stop();
                let _ = cores.join();
                Err(error)
            }
        }
    }

    /// [`start`](Self::start), then waits until every core has stopped: what each one's future came to.
    ///
    /// # Errors
    /// As `start` and [`Cores::join`].
    ///
    /// ```
    /// use gimmal_runtime::{Backend, Cores};
    /// let indices = Cores::builder().count(2).run(|core| async move { core.index() })?;
    /// assert_eq!(indices, [0, 1]);
    /// # Ok::<(), gimmal_runtime::CoresError>(())
    /// ```
    pub fn run<F, T>(self, main: impl Fn(Rc<Core>) -> F + Send + Sync + 'static) -> Result<Vec<T>, CoresError>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        self.start(main)?.join()
    }

    fn checked_options(&self) -> Result<Options, CoresError> {
        let mut options = self.options.clone();
        if !options.receive_buffers.is_power_of_two() || options.receive_buffers > 32_768 {
            return Err(CoresError::Options("receive_buffers must be a power of two, at most 32,768"));
        }
        if options.receive_buffer_bytes < 512 {
            return Err(CoresError::Options("receive_buffer_bytes must be at least 512"));
        }
        if options.connections_max == 0 {
            return Err(CoresError::Options("connections_max must be at least 1"));
        }
        // The kernel allows a ring as many direct descriptors as the process may have files.
        let files = raise_file_limit();
        options.connections_max = options.connections_max.min(files.saturating_sub(2 * SPARE_FILES).max(1));
        Ok(options)
    }
}

/// Raises the soft limit on open files to the hard one and returns it.
fn raise_file_limit() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: each call reads or writes one rlimit, which lives through it.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
    }
    u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX)
}

/// Threads that each run a core. Made by [`CoresBuilder::start`].
#[derive(Debug)]
pub struct Cores<T = ()> {
    handles: Arc<[CoreHandle]>,
    backend: BackendKind,
    threads: Vec<JoinHandle<Result<T, CoresError>>>,
    _detector: StallDetector,
}

impl Cores<()> {
    /// Cores with defaults that suit a server.
    #[must_use]
    pub fn builder() -> CoresBuilder {
        CoresBuilder::default()
    }
}

impl<T> Cores<T> {
    /// Handles to the cores, by index.
    #[must_use]
    pub fn handles(&self) -> &[CoreHandle] {
        &self.handles
    }

    /// The back end that was chosen.
    #[must_use]
    pub fn backend(&self) -> BackendKind {
        self.backend
    }

    /// The counters of all cores together.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.handles.iter().fold(Snapshot::default(), |sum, core| sum + core.counters())
    }

    /// Begins a graceful shutdown on every core; see [`Core::drain`].
    pub fn drain(&self) {
        for handle in &*self.handles {
            handle.drain();
        }
    }

    /// Stops every core at once: tasks are dropped and connections reset.
    pub fn stop(&self) {
        for handle in &*self.handles {
            handle.stop();
        }
    }

    /// Waits until every core has stopped: what each one's future came to, by index.
    ///
    /// # Errors
    /// The first core that failed, that was [stopped](Self::stop), or whose future panicked.
    pub fn join(self) -> Result<Vec<T>, CoresError> {
        let results: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        results
            .into_iter()
            .enumerate()
            .map(|(core, result)| {
                result.unwrap_or_else(|panic| Err(CoresError::Ended { core, reason: panic_message(&panic) }))
            })
            .collect()
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a panic outside any task: {}", text.unwrap_or("no message"))
}

/// What a thread needs to become a core.
struct Seed {
    handle: CoreHandle,
    handles: Arc<[CoreHandle]>,
    cpu: Option<usize>,
    backend: BackendKind,
    options: Options,
    table: TableOwner,
    heartbeat: Arc<Heartbeat>,
}

impl Seed {
    fn grow<F, T>(
        self,
        ready: &mpsc::Sender<Result<(), CoresError>>,
        main: &dyn Fn(Rc<Core>) -> F,
    ) -> Result<T, CoresError>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let (index, backend) = (self.handle.index, self.backend);
        let (parts, wake) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(source) => {
                // The starter waits for it.
                let _ = ready.send(Err(CoresError::Start { core: index, source }));
                return Err(CoresError::Ended { core: index, reason: "it could not start".into() });
            }
        };
        let running = async {
            let core = Core::enter(parts);
            let stop = core.stop_flag();
            let output = Rc::new(RefCell::new(None));
            let (main, sink) = (main(Rc::clone(&core)), Rc::clone(&output));
            let stop_after = Rc::clone(&stop);
            core.spawn_boxed(LocalFuture::new(async move {
                let _stop = StopOnDrop(stop_after);
                let value = main.await;
                *sink.borrow_mut() = Some(value);
            }));
            let driver = Driver::new(&core, wake, stop);
            // The starter may have given up already.
            let _ = ready.send(match &driver {
                Ok(_) => Ok(()),
                Err(error) => Err(CoresError::Start {
                    core: index,
                    source: io::Error::new(error.kind(), error.to_string()),
                }),
            });
            let driven = match driver {
                Ok(driver) => tokio::task::unconstrained(driver).await,
                Err(error) => Err(error),
            };
            core.leave();
            let ended = |reason: String| CoresError::Ended { core: index, reason };
            driven.map_err(|error| ended(format!("its ring failed: {error}")))?;
            output.take().ok_or_else(|| ended("it was stopped, or its main future panicked".into()))
        };
        match backend {
            BackendKind::IoUring => tokio_uring::builder().entries(FILE_RING_ENTRIES).start(running),
            BackendKind::Epoll => {
                let tokio = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|source| CoresError::Start { core: index, source })?;
                tokio.block_on(tokio::task::LocalSet::new().run_until(running))
            }
        }
    }

    fn prepare(self) -> io::Result<(Parts, Option<OwnedFd>)> {
        if let Some(cpu) = self.cpu {
            cpus::pin(cpu)?;
        }
        let (count, bytes, lock) =
            (self.options.receive_buffers, self.options.receive_buffer_bytes, self.options.lock_memory);
        let (receive_buffers, ring, wake) = match self.backend {
            BackendKind::Epoll => (BufferPool::with_free_list(count, bytes, lock)?, None, None),
            BackendKind::IoUring => {
                let buffers = BufferPool::with_provided_ring(count, bytes, lock)?;
                let wake = eventfd()?;
                let files = self.options.connections_max + SPARE_FILES;
                let ring = Ring::new(files, Rc::clone(&buffers), &wake, Arc::clone(&self.handle.counters))?;
                (buffers, Some(ring), Some(wake))
            }
        };
        tracing::debug!(
            core = self.handle.index,
            cpu = self.cpu,
            backend = %self.backend,
            buffers_locked = receive_buffers.is_locked(),
            connections_max = self.options.connections_max,
            "core started"
        );
        let parts = Parts {
            handle: self.handle,
            handles: self.handles,
            backend: self.backend,
            file_buffers: BufferPool::with_free_list(self.options.file_buffers, FILE_BUFFER_BYTES, false)?,
            options: self.options,
            table: self.table,
            receive_buffers,
            ring,
            heartbeat: self.heartbeat,
        };
        Ok((parts, wake))
    }
}

/// Stops the core when its main future has ended, in whatever way.
struct StopOnDrop(Rc<Cell<bool>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: makes a new descriptor, which is checked and owned from here on.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
