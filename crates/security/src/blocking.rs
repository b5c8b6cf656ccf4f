//! The one way in which this crate does work that would hold a core: the caller's pool of threads.

use std::future::Future;

/// A pool of threads for blocking work, as far as this crate needs one.
///
/// ```
/// use gimmal_security::BlockingPool;
///
/// /// Tokio's own pool.
/// struct Tokio;
///
/// impl BlockingPool for Tokio {
///     async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
///         tokio::task::spawn_blocking(work).await.ok()
///     }
/// }
/// ```
pub trait BlockingPool {
    /// Runs `work` on a thread of the pool and gives its output, or `None` if the pool is full or the work failed.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>>;
}
