//! A thread-per-core io_uring runtime for servers.

mod local_future;

pub use local_future::LocalFuture;
