//! Work that would hold a core, on threads made for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Pieces of work that run at once, process-wide.
pub const BLOCKING_RUNNING_MAX: usize = 64;
/// Pieces of work that may wait for their turn, process-wide; what comes beyond is refused at once, so that a
/// flood of slow work is turned away instead of piling up.
pub const BLOCKING_WAITING_MAX: usize = 1024;

static RUNNING: Semaphore = Semaphore::const_new(BLOCKING_RUNNING_MAX);
static WAITING: LazyLock<Mutex<usize>> = LazyLock::new(Mutex::default);

/// Why blocking work has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockingError {
    /// Too much work waits already.
    #[error(
        "{BLOCKING_WAITING_MAX} pieces of blocking work wait already; shed load, or make the work shorter"
    )]
    Full,
    /// The system refuses a thread for it.
    #[error("no thread could be started: raise the limit on threads (`ulimit -u`, TasksMax= in systemd)")]
    NoThread,
    /// The work panicked, or its core is stopping.
    #[error("the blocking work panicked, or its core is stopping")]
    Failed,
}

/// A place in the queue, given back when it is dropped.
struct Waiting;

impl Waiting {
    fn new() -> Option<Self> {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        (*waiting < BLOCKING_WAITING_MAX).then(|| {
            *waiting += 1;
            Self
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *WAITING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

/// Runs `work` on a thread for blocking work and waits for its output, while the core goes on.
///
/// # Errors
/// [`BlockingError::Full`] when too much waits already, [`BlockingError::NoThread`] when the system refuses a thread,
/// [`BlockingError::Failed`] when `work` panics.
///
/// # Panics
/// If it is polled outside a core (or another Tokio runtime).
///
/// # Cancel safety
/// Dropping the future before its turn has come means that `work` never runs; once it runs, it runs to its end.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let sum = gimmal_runtime::blocking(|| (1..=1000).sum::<u64>()).await;
/// assert_eq!(sum, Ok(500_500));
/// # }
/// ```
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    let waiting = Waiting::new().ok_or(BlockingError::Full)?;
    let permit = RUNNING.acquire().await.map_err(|_| BlockingError::Failed)?;
    drop(waiting);
    let tokio = Handle::current();
    // Taken back when there is no thread: Tokio keeps what it was given, and the permit would be lost with it.
    let given = Arc::new(Mutex::new(Some((permit, work))));
    let taken = Arc::clone(&given);
    let run = move || {
        let (_permit, work) = take(&taken)?;
        Some(work())
    };
    // Tokio panics when it has no thread at all and is refused one.
    match catch_unwind(AssertUnwindSafe(|| tokio.spawn_blocking(run))) {
        Ok(running) => running.await.ok().flatten().ok_or(BlockingError::Failed),
        Err(_) => {
            drop(take(&given));
            Err(BlockingError::NoThread)
        }
    }
}

fn take<T>(given: &Mutex<Option<T>>) -> Option<T> {
    given.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error() {
        assert_eq!(blocking(|| panic!("boom")).await.map(|()| 0), Err(BlockingError::Failed));
        assert_eq!(blocking(|| 5).await, Ok(5));
    }
}
