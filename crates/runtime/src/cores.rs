//! Starting a thread for each core.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::backend::{Backend, BackendKind, IoUringMissing, Plan};
use crate::core::Core;
use crate::counters::{CoreCounters, Snapshot};
use crate::cpus;
use crate::failure::{CoreFailure, FailedCore, Failures, Watch};
use crate::options::Options;
use crate::remote::{CoreHandle, Remote};
use crate::seed::{Seed, Starter, panic_message};
use crate::signal;
use crate::stall::{Heartbeat, StallDetector};
use crate::table::TableOwner;

/// Direct descriptors beyond the connections, for those that close at the same moment as others come.
const SPARE_FILES: u32 = 64;
/// How long the kernel may take to give back the memory of rings that are gone.
const RINGS_GO: Duration = Duration::from_millis(500);

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
    #[error("core {core} could not start: {what}: {source}{}", Cure(source))]
    Start {
        /// Which core.
        core: usize,
        /// What could not be made.
        what: &'static str,
        /// Why it was refused.
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

/// What to do about an error of the start.
struct Cure<'a>(&'a io::Error);

impl fmt::Display for Cure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.raw_os_error() {
            Some(libc::EMFILE) => " (raise the limit on open files: `ulimit -n`, LimitNOFILE= in systemd)",
            Some(libc::ENFILE) => " (raise the sysctl fs.file-max)",
            Some(libc::EAGAIN) => " (raise the limit on threads: `ulimit -u`, TasksMax= in systemd)",
            Some(libc::ENOMEM) => {
                " (raise the limit on locked memory: `ulimit -l`, LimitMEMLOCK= in systemd; or start fewer cores)"
            }
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => " (a seccomp filter or a sysctl forbids it)",
            _ => "",
        })
    }
}

/// How many cores, where, and on what. Made by [`Cores::builder`].
#[derive(Clone, Debug, Default)]
pub struct CoresBuilder {
    count: Option<usize>,
    cpus: Option<Vec<usize>>,
    pin: Option<bool>,
    backend: Backend,
    options: Options,
    on_failure: CoreFailure,
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

    /// Sets what the other cores do when one fails. Default [`CoreFailure::StopAll`].
    #[must_use]
    pub fn on_failure(mut self, then: CoreFailure) -> Self {
        self.on_failure = then;
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
        signal::survive_refused_writes();
        let main = Arc::new(main);
        let mut plan = self.backend.first_plan()?;
        let mut lacking = None;
        loop {
            let error = match self.launch(plan, &options, &main, lacking.is_some()) {
                Ok(cores) => {
                    if let Some(error) = lacking {
                        plan.explain(&error);
                    }
                    return Ok(cores);
                }
                Err(Refused::ToRun(error)) => return Err(error),
                Err(Refused::ToPrepare(error)) => error,
            };
            plan = match self.backend.next_plan(plan, &error) {
                Some(next) => next,
                None => return Err(error),
            };
            lacking.get_or_insert(error);
        }
    }

    /// Starts all cores by one plan. After others have failed, it has patience with the kernel.
    fn launch<F, T>(
        &self,
        plan: Plan,
        options: &Options,
        main: &Arc<impl Fn(Rc<Core>) -> F + Send + Sync + 'static>,
        after_others: bool,
    ) -> Result<Cores<T>, Refused>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let until = Instant::now() + RINGS_GO;
        loop {
            match self.try_launch(plan, options, main) {
                Err(Refused::ToPrepare(error))
                    if after_others && error.is_about_memory() && Instant::now() < until =>
                {
                    thread::sleep(RINGS_GO / 10);
                }
                result => return result,
            }
        }
    }

    fn try_launch<F, T>(
        &self,
        plan: Plan,
        options: &Options,
        main: &Arc<impl Fn(Rc<Core>) -> F + Send + Sync + 'static>,
    ) -> Result<Cores<T>, Refused>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
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
        let watch = Watch {
            handles: Arc::clone(&handles),
            on_failure: self.on_failure,
            failures: Failures::default(),
        };
        let heartbeats: Vec<_> = cpus.iter().map(|_| Arc::new(Heartbeat::default())).collect();
        let (reports, reported) = mpsc::channel();
        let (mut threads, mut leave) = (Vec::new(), Vec::new());
        let mut started = Ok(());
        for ((core, cpu), table) in cpus.iter().copied().enumerate().zip(owners) {
            let (go, wait) = mpsc::channel();
            let seed = Seed {
                handle: handles[core].clone(),
                handles: Arc::clone(&handles),
                cpu: pin.then_some(cpu),
                plan,
                options: options.clone(),
                table,
                heartbeat: Arc::clone(&heartbeats[core]),
                watch: watch.clone(),
                starter: Starter { core, reports: reports.clone(), go: wait, reported: Cell::new(false) },
            };
            let main = Arc::clone(main);
            let thread = thread::Builder::new().name(format!("gimmal-{core}"));
            match thread.spawn(move || seed.grow(&*main)) {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    started = Err(CoresError::Start { core, what: "its thread", source });
                    break;
                }
            }
            leave.push(go);
        }
        drop(reports);
        let hear_from_all = || {
            let mut heard = reported.iter();
            threads.iter().try_for_each(|_| heard.next().unwrap_or(Ok(())))
        };
        let prepared = started.and_then(|()| hear_from_all());
        let running = match prepared {
            Ok(()) => {
                for go in &leave {
                    // A thread that has ended in between has said why.
                    let _ = go.send(());
                }
                hear_from_all().map_err(Refused::ToRun)
            }
            Err(error) => Err(Refused::ToPrepare(error)),
        };
        drop(leave);
        if let Err(refused) = running {
            handles.iter().for_each(CoreHandle::stop);
            for thread in threads {
                // What it ended with has been reported.
                let _ = thread.join();
            }
            return Err(refused);
        }
        let detector = StallDetector::start(options.stall_threshold, heartbeats);
        Ok(Cores { handles, backend: plan.backend, threads, failures: watch.failures, _detector: detector })
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
        if options.file_buffers == 0 {
            return Err(CoresError::Options("file_buffers must be at least 1"));
        }
        // The kernel allows a ring as many direct descriptors as the process may have files.
        let files = raise_file_limit();
        let room = (files - 2 * spare_files(files)).max(1);
        if room < options.connections_max {
            tracing::warn!(
                limit = files,
                connections_max = room,
                wanted = options.connections_max,
                "the limit on open files (RLIMIT_NOFILE) is low, and a core holds fewer connections at once: raise it \
                 (`ulimit -n`, LimitNOFILE= in systemd)"
            );
            options.connections_max = room;
        }
        Ok(options)
    }
}

/// Direct descriptors of a core beyond its connections, where a process may have `limit` files.
fn spare_files(limit: u32) -> u32 {
    SPARE_FILES.min(limit / 4)
}

/// Direct descriptors that a core registers: the kernel allows no more than the process may have files.
pub(crate) fn direct_files(connections_max: u32) -> u32 {
    connections_max + spare_files(clamped(file_limit().rlim_cur))
}

/// Raises the soft limit on open files to the hard one and returns it.
fn raise_file_limit() -> u32 {
    let mut limit = file_limit();
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the call reads one rlimit, which lives through it.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    clamped(file_limit().rlim_cur)
}

fn file_limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one rlimit, which lives through it.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit
}

fn clamped(limit: libc::rlim_t) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// Threads that each run a core. Made by [`CoresBuilder::start`].
#[derive(Debug)]
pub struct Cores<T = ()> {
    handles: Arc<[CoreHandle]>,
    backend: BackendKind,
    threads: Vec<JoinHandle<Result<T, CoresError>>>,
    failures: Failures,
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

    /// Lists the cores that have failed so far, the first one first.
    #[must_use]
    pub fn failures(&self) -> Vec<FailedCore> {
        self.failures.all()
    }

    /// Gives a function that lists the cores that have failed so far, for another thread.
    pub fn watch_failures(&self) -> impl Fn() -> Vec<FailedCore> + Clone + Send + Sync + use<T> {
        let failures = self.failures.clone();
        move || failures.all()
    }

    /// Waits until every core has stopped: what each one's future came to, by index.
    ///
    /// # Errors
    /// The core that failed first; or else one that was [stopped](Self::stop).
    pub fn join(self) -> Result<Vec<T>, CoresError> {
        let results: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        if let Some(FailedCore { core, cause }) = self.failures.all().into_iter().next() {
            return Err(CoresError::Ended { core, reason: cause });
        }
        results
            .into_iter()
            .enumerate()
            .map(|(core, result)| {
                let ended = |panic: &_| CoresError::Ended { core, reason: panic_message(panic) };
                result.unwrap_or_else(|panic| Err(ended(&*panic)))
            })
            .collect()
    }
}

/// At which point cores did not start.
enum Refused {
    /// Nothing has run yet: it can be tried with less.
    ToPrepare(CoresError),
    ToRun(CoresError),
}

impl CoresError {
    pub(crate) fn is_about_memory(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.raw_os_error() == Some(libc::ENOMEM))
    }
}
