//! The two back ends, and finding out which of them this host allows.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;
use std::thread;

use io_uring::{IoUring, Probe, opcode};

use crate::cores::CoresError;
use crate::ring::{OPERATIONS, QueueSizes};

/// Which back end to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring where the host allows it, else epoll; the start-up log says which, and why.
    #[default]
    Auto,
    /// io_uring, or an error that says what is missing.
    IoUring,
    /// epoll.
    Epoll,
}

/// The back end that a core runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// io_uring.
    IoUring,
    /// epoll, through Tokio.
    Epoll,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// A text that names no back end.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a back end: write auto, uring or epoll")]
pub struct BackendError(String);

impl FromStr for Backend {
    type Err = BackendError;

    /// `auto`, `uring` (or `io_uring`), `epoll`.
    fn from_str(text: &str) -> Result<Self, BackendError> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" | "io_uring" => Ok(Self::IoUring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(BackendError(text.to_owned())),
        }
    }
}

/// Why io_uring cannot be used here, and how to get it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoUringMissing {
    /// The sysctl `kernel.io_uring_disabled` forbids it.
    #[error("the sysctl kernel.io_uring_disabled is {0}: set it to 0 (`sysctl kernel.io_uring_disabled=0`)")]
    DisabledBySysctl(String),
    /// A seccomp filter refuses the system call, as container engines' default profiles do.
    #[error(
        "a seccomp filter refuses io_uring: allow io_uring_setup, io_uring_enter and io_uring_register in \
         the container's seccomp profile"
    )]
    RefusedBySeccomp,
    /// The kernel has no io_uring.
    #[error("the kernel has no io_uring: use Linux 6.8 or newer, built with CONFIG_IO_URING")]
    NotInKernel,
    /// The kernel is too old for the ring's flags.
    #[error(
        "the kernel ({0}) is too old for a ring with deferred task work and no index array: use Linux 6.8 or newer"
    )]
    KernelTooOld(String),
    /// An operation is missing.
    #[error("the kernel ({kernel}) lacks {operation}: use Linux 6.8 or newer")]
    OperationMissing {
        /// The name of the operation.
        operation: &'static str,
        /// The kernel's release.
        kernel: String,
    },
    /// The limit on locked memory is too small for a ring.
    #[error(
        "the limit on locked memory is too small for a ring: raise it (`ulimit -l`, LimitMEMLOCK= in systemd)"
    )]
    LockedMemory,
    /// The thread that tries it was refused.
    #[error(
        "no thread could be started ({0}): raise the limit on threads (`ulimit -u`, TasksMax= in systemd)"
    )]
    Thread(#[source] io::Error),
    /// Something else.
    #[error("io_uring failed: {0}")]
    Other(#[source] io::Error),
}

/// Looks whether io_uring can be used by this process, with all operations that the server needs.
///
/// Whether the limits on memory and files suffice for all cores shows only when they start.
///
/// # Errors
/// What is missing, in one line, with the cure.
pub fn probe() -> Result<(), IoUringMissing> {
    let mut ring = IoUring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_no_sqarray()
        .build(8)
        .map_err(explain)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(IoUringMissing::Other)?;
    if let Some((operation, _)) = OPERATIONS.iter().find(|(_, code)| !probe.is_supported(*code)) {
        return Err(IoUringMissing::OperationMissing { operation, kernel: kernel_release() });
    }
    // A filter may let the set-up pass and refuse this.
    // SAFETY: the operation does nothing, and names no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }
        .map_err(|full| IoUringMissing::Other(io::Error::other(full)))?;
    match ring.submit_and_wait(1) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => IoUringMissing::RefusedBySeccomp,
            _ => IoUringMissing::Other(error),
        }),
    }
}

/// Probes on a thread of its own: the end of a ring interrupts the system calls of the thread that made it, some
/// milliseconds later.
fn probe_apart() -> Result<(), IoUringMissing> {
    let thread =
        thread::Builder::new().name("gimmal-probe".into()).spawn(probe).map_err(IoUringMissing::Thread)?;
    thread.join().unwrap_or_else(|_| Err(IoUringMissing::Other(io::ErrorKind::Other.into())))
}

fn explain(error: io::Error) -> IoUringMissing {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match error.raw_os_error() {
        Some(libc::EPERM) if matches!(sysctl.trim(), "1" | "2") => {
            IoUringMissing::DisabledBySysctl(sysctl.trim().to_owned())
        }
        Some(libc::EPERM | libc::EACCES) => IoUringMissing::RefusedBySeccomp,
        Some(libc::ENOSYS) if sysctl.is_empty() => IoUringMissing::NotInKernel,
        // The call exists, since its sysctl does: a filter answers in its place.
        Some(libc::ENOSYS) => IoUringMissing::RefusedBySeccomp,
        Some(libc::EINVAL) => IoUringMissing::KernelTooOld(kernel_release()),
        Some(libc::ENOMEM) => IoUringMissing::LockedMemory,
        _ => IoUringMissing::Other(error),
    }
}

fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// How all cores are to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) backend: BackendKind,
    pub(crate) queues: QueueSizes,
}

impl Plan {
    const EPOLL: Self = Self { backend: BackendKind::Epoll, queues: QueueSizes::FULL };

    /// Says in the log why the cores run by this plan, and not by a better one.
    pub(crate) fn explain(self, lacking: &CoresError) {
        match self.backend {
            BackendKind::IoUring => {
                tracing::warn!(%lacking, "the rings are smaller than usual, which costs more calls under load");
            }
            BackendKind::Epoll => {
                tracing::warn!(%lacking, "io_uring cannot be used; running on epoll, which is slower");
            }
        }
    }
}

impl Backend {
    /// Decides how to start, and says so in the log where it was left to us.
    pub(crate) fn first_plan(self) -> Result<Plan, IoUringMissing> {
        let ring = Plan { backend: BackendKind::IoUring, queues: QueueSizes::FULL };
        match (self, if self == Self::Epoll { Ok(()) } else { probe_apart() }) {
            (Self::Epoll, _) => Ok(Plan::EPOLL),
            (_, Ok(())) => Ok(ring),
            (Self::IoUring, Err(missing)) => Err(missing),
            (Self::Auto, Err(missing)) => {
                tracing::warn!(%missing, "io_uring cannot be used; running on epoll, which is slower");
                Ok(Plan::EPOLL)
            }
        }
    }

    /// What to try after `failed` has: smaller rings where memory was short, then epoll.
    pub(crate) fn next_plan(self, failed: Plan, error: &CoresError) -> Option<Plan> {
        let smaller = Plan { queues: QueueSizes::SMALL, ..failed };
        match failed.backend {
            BackendKind::Epoll => None,
            BackendKind::IoUring if error.is_about_memory() && failed != smaller => Some(smaller),
            BackendKind::IoUring if self == Self::Auto => Some(Plan::EPOLL),
            BackendKind::IoUring => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse() {
        assert_eq!("auto".parse::<Backend>().unwrap(), Backend::Auto);
        assert_eq!("uring".parse::<Backend>().unwrap(), Backend::IoUring);
        assert_eq!("epoll".parse::<Backend>().unwrap(), Backend::Epoll);
        assert!("kqueue".parse::<Backend>().unwrap_err().to_string().contains("auto, uring or epoll"));
    }

    #[test]
    fn each_errno_is_told_with_its_cure() {
        for (errno, cure) in [(libc::EINVAL, "6.8"), (libc::ENOMEM, "ulimit -l"), (libc::EACCES, "seccomp")] {
            let message = explain(io::Error::from_raw_os_error(errno)).to_string();
            assert!(message.contains(cure), "{message}");
        }
    }

    #[test]
    fn epoll_is_always_there() {
        assert_eq!(Backend::Epoll.first_plan().unwrap(), Plan::EPOLL);
    }
}
