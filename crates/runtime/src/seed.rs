//! The life of a core's thread: it prepares, waits until all cores have prepared, runs, and says how it ended.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use crate::backend::{BackendKind, Plan};
use crate::bulk;
use crate::core::{Core, FILE_BUFFER_BYTES, Parts};
use crate::cores::{CoresError, direct_files};
use crate::cpus;
use crate::driver::Driver;
use crate::failure::Watch;
use crate::local_future::LocalFuture;
use crate::options::Options;
use crate::pinned::BufferPool;
use crate::remote::CoreHandle;
use crate::ring::Ring;
use crate::stall::Heartbeat;
use crate::table::TableOwner;

/// Entries of tokio-uring's own ring, which carries files alone.
const FILE_RING_ENTRIES: u32 = 64;

/// What a thread needs to become a core.
pub(crate) struct Seed {
    pub(crate) handle: CoreHandle,
    pub(crate) handles: Arc<[CoreHandle]>,
    pub(crate) cpu: Option<usize>,
    pub(crate) plan: Plan,
    pub(crate) options: Options,
    pub(crate) table: TableOwner,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) watch: Watch,
    pub(crate) starter: Starter,
}

/// The thread's side of the start: it reports twice, once it has prepared and once it runs, or an error.
pub(crate) struct Starter {
    pub(crate) core: usize,
    pub(crate) reports: mpsc::Sender<Result<(), CoresError>>,
    /// Says that all cores have prepared; nothing comes when one could not.
    pub(crate) go: mpsc::Receiver<()>,
    pub(crate) reported: Cell<bool>,
}

/// How a core ended.
enum End<T> {
    Finished(T),
    Stopped,
    Failed(String),
    NotStarted(CoresError),
}

impl Starter {
    /// Reports that the core has prepared. Returns whether it is to run.
    fn has_prepared(&self) -> bool {
        self.reports.send(Ok(())).is_ok() && self.go.recv().is_ok()
    }

    fn runs(&self) {
        self.reported.set(true);
        // Whoever starts the cores waits for this.
        let _ = self.reports.send(Ok(()));
    }

    fn error(&self, what: &'static str, source: io::Error) -> CoresError {
        CoresError::Start { core: self.core, what, source }
    }

    fn fails(&self, error: CoresError) {
        if !self.reported.replace(true) {
            // Whoever starts the cores may have given up already.
            let _ = self.reports.send(Err(error));
        }
    }
}

/// A thread that ends in a way that nobody thought of is reported as well.
impl Drop for Starter {
    fn drop(&mut self) {
        self.fails(self.error("its thread", io::Error::other("it ended before the core ran")));
    }
}

impl Seed {
    /// Runs the core until its main future has ended.
    pub(crate) fn grow<F, T>(self, main: &dyn Fn(Rc<Core>) -> F) -> Result<T, CoresError>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let core = self.handle.index;
        let watch = self.watch.clone();
        let running = Cell::new(false);
        let ended = catch_unwind(AssertUnwindSafe(|| self.live(main, &running)));
        let ended = ended.unwrap_or_else(|panic| match panic_message(&*panic) {
            cause if running.get() => End::Failed(watch.tell(core, cause)),
            cause => End::NotStarted(CoresError::Ended { core, reason: cause }),
        });
        match ended {
            End::Finished(output) => Ok(output),
            End::Stopped => Err(CoresError::Ended { core, reason: "it was stopped at once".into() }),
            End::NotStarted(error) => Err(error),
            End::Failed(reason) => Err(CoresError::Ended { core, reason }),
        }
    }

    fn live<F, T>(self, main: &dyn Fn(Rc<Core>) -> F, runs: &Cell<bool>) -> End<T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let Self { handle, handles, cpu, plan, options, table, heartbeat, watch, starter } = self;
        let refused = |what, source: io::Error| {
            let copy = io::Error::new(source.kind(), source.to_string());
            let copy = source.raw_os_error().map_or(copy, io::Error::from_raw_os_error);
            starter.fails(starter.error(what, source));
            End::NotStarted(starter.error(what, copy))
        };
        if let Some(cpu) = cpu
            && let Err(error) = cpus::pin(cpu)
        {
            tracing::warn!(core = handle.index, cpu, %error, "a core is not pinned to its CPU: sched_setaffinity failed");
        }
        // Tokio's side comes first: what it takes is little, and it cannot give it back when it fails half-way.
        let runtime = match Runtime::new(plan.backend) {
            Ok(runtime) => runtime,
            Err(error) => return refused("its Tokio runtime", error),
        };
        let (count, bytes, lock) =
            (options.receive_buffers, options.receive_buffer_bytes, options.lock_memory);
        let receive_buffers = match plan.backend {
            BackendKind::Epoll => BufferPool::with_free_list(count, bytes, lock),
            BackendKind::IoUring => BufferPool::with_provided_ring(count, bytes, lock),
        };
        let buffers = receive_buffers.and_then(|receive_buffers| {
            Ok((receive_buffers, BufferPool::with_free_list(options.file_buffers, FILE_BUFFER_BYTES, false)?))
        });
        let (receive_buffers, file_buffers) = match buffers {
            Ok(buffers) => buffers,
            Err(error) => return refused("its buffers", error),
        };
        let ring = match plan.backend {
            BackendKind::Epoll => None,
            BackendKind::IoUring => {
                let files = direct_files(options.connections_max);
                let ring = eventfd().and_then(|wake| {
                    let (buffers, counters) = (Rc::clone(&receive_buffers), Arc::clone(&handle.counters));
                    Ok((Ring::new(files, plan.queues, buffers, &wake, counters)?, wake))
                });
                match ring {
                    Ok(ring) => Some(ring),
                    Err(error) => return refused("its ring", error),
                }
            }
        };
        let (ring, wake) = ring.unzip();
        tracing::debug!(
            core = handle.index,
            cpu,
            backend = %plan.backend,
            buffers_locked = receive_buffers.is_locked(),
            connections_max = options.connections_max,
            "core prepared"
        );
        let parts = Parts {
            handle,
            handles,
            backend: plan.backend,
            options,
            table,
            receive_buffers,
            file_buffers,
            ring,
            heartbeat,
        };
        runtime.block_on(async {
            let core = Core::enter(parts);
            let leave = Leave(Rc::clone(&core));
            bulk::keep_on_this_thread();
            let stop = core.stop_flag();
            let driver = match Driver::new(&core, wake, Rc::clone(&stop)) {
                Ok(driver) => driver,
                Err(error) => return refused("its ring's eventfd", error),
            };
            if !starter.has_prepared() {
                return refused("it", io::Error::other("another core could not"));
            }
            let main = match catch_unwind(AssertUnwindSafe(|| main(Rc::clone(&core)))) {
                Ok(main) => main,
                Err(panic) => return refused("its main future", io::Error::other(panic_message(&*panic))),
            };
            let output = Rc::new(RefCell::new(None));
            let sink = Rc::clone(&output);
            let panicked = Rc::new(Cell::new(false));
            let finish = Finish { stop, finished: false, panicked: Rc::clone(&panicked) };
            core.spawn_boxed(LocalFuture::new(async move {
                let mut finish = finish;
                let value = main.await;
                *sink.borrow_mut() = Some(value);
                finish.finished = true;
            }));
            runs.set(true);
            starter.runs();
            let driven = tokio::task::unconstrained(driver).await;
            // Nothing listens any more when a failure is told.
            drop(leave);
            let output = output.take();
            let index = core.index();
            match (driven, output) {
                (Err(cause), _) => End::Failed(watch.tell(index, cause)),
                (Ok(()), Some(output)) => End::Finished(output),
                (Ok(()), None) if panicked.get() => {
                    End::Failed(watch.tell(index, "its main future panicked".into()))
                }
                (Ok(()), None) => End::Stopped,
            }
        })
    }
}

/// The Tokio runtime of a core.
enum Runtime {
    Uring(tokio_uring::Runtime),
    Tokio(tokio::runtime::Runtime),
}

impl Runtime {
    fn new(backend: BackendKind) -> io::Result<Self> {
        // Both panic where descriptors are short.
        let made = catch_unwind(|| match backend {
            BackendKind::IoUring => {
                tokio_uring::Runtime::new(tokio_uring::builder().entries(FILE_RING_ENTRIES)).map(Self::Uring)
            }
            BackendKind::Epoll => {
                tokio::runtime::Builder::new_current_thread().enable_all().build().map(Self::Tokio)
            }
        });
        made.unwrap_or_else(|panic| Err(io::Error::other(panic_message(&*panic))))
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Tokio(runtime) => runtime.block_on(tokio::task::LocalSet::new().run_until(future)),
        }
    }
}

/// Leaves the core in whatever way its thread ends, so that its sockets are closed.
struct Leave(Rc<Core>);

impl Drop for Leave {
    fn drop(&mut self) {
        if catch_unwind(AssertUnwindSafe(|| self.0.leave())).is_err() {
            tracing::error!(core = self.0.index(), "a core panicked while it ended; its memory is kept");
            // The kernel may still write to it.
            std::mem::forget(Rc::clone(&self.0));
        }
    }
}

/// Stops the core when its main future has ended, in whatever way.
struct Finish {
    stop: Rc<Cell<bool>>,
    finished: bool,
    panicked: Rc<Cell<bool>>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        // Whoever stops the core has the future dropped unfinished, and that is no failure.
        let stopped = self.stop.replace(true);
        self.panicked.set(!stopped && !self.finished);
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a panic outside any task: {}", text.unwrap_or("no message"))
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
