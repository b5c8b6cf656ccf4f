//! Futures on the cores of a server that has no server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use gimmal_runtime::Cores;

use crate::server::BACKENDS;

/// Runs `test` on a core of each back end.
///
/// # Panics
/// As `test` does, and if it takes longer than 20 seconds.
pub fn on_a_core<F: Future<Output = ()> + 'static>(test: impl Fn() -> F + Send + Sync + 'static) {
    let test = Arc::new(test);
    for backend in BACKENDS {
        let test = Arc::clone(&test);
        let run = Cores::builder().count(1).backend(backend).run(move |_| {
            let test = test();
            async move { tokio::time::timeout(Duration::from_secs(20), test).await.expect("it does not hang") }
        });
        run.expect("the core runs");
    }
}
