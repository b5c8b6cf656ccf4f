//! A thread-per-core io_uring runtime for servers.
//!
//! Each core is a pinned thread with a `tokio-uring` runtime, a networking ring of its own, pinned receive
//! buffers, a lock-free connection table and counters. Everything on a core is `!Send`; the whole Tokio
//! ecosystem works beside it. Where io_uring is not to be had, the same types run on epoll.
//!
//! ```
//! use gimmal_runtime::{Cores, ListenOptions, Listener, Listeners};
//!
//! let listeners = Listeners::bind(&"127.0.0.1:0".parse()?, 1, &ListenOptions::default())?;
//! let address = listeners.address().clone();
//! let sockets = std::sync::Mutex::new(listeners.into_sockets().collect::<Vec<_>>());
//!
//! let echoed = Cores::builder().count(1).run(move |core| {
//!     let socket = sockets.lock().unwrap().pop().unwrap();
//!     let address = address.clone();
//!     async move {
//!         let listener = Listener::new(&core, socket)?;
//!         core.spawn(async move {
//!             while let Some(stream) = listener.accept().await {
//!                 // What was received goes out from the very buffer that the kernel put it in.
//!                 while let Ok(bytes) = stream.recv().await {
//!                     if bytes.is_empty() || stream.send(bytes).await.is_err() {
//!                         break;
//!                     }
//!                 }
//!             }
//!         });
//!         let client = core.connect(&address).await?;
//!         client.send("hello").await?;
//!         Ok::<_, std::io::Error>(client.recv().await?.to_vec())
//!     }
//! })?;
//! assert_eq!(echoed[0].as_deref().unwrap(), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod arena;
mod backend;
mod blocking;
mod bulk;
mod clock;
mod connection;
mod core;
mod cores;
mod counters;
mod cpus;
mod driver;
mod epoll;
mod failure;
mod file;
mod lazy_queue;
mod listener;
mod local_future;
mod options;
mod pinned;
mod provided_ring;
mod remote;
mod ring;
mod seed;
mod send_buf;
mod send_file;
mod signal;
mod stall;
mod stream;
mod table;
mod tally;
mod tasks;

pub use address::{Address, AddressError};
pub use backend::{Backend, BackendError, BackendKind, IoUringMissing, probe};
pub use blocking::{BLOCKING_RUNNING_MAX, BLOCKING_WAITING_MAX, BlockingError, blocking};
pub use core::Core;
pub use cores::{Cores, CoresBuilder, CoresError};
pub use counters::Snapshot;
pub use failure::{CoreFailure, FailedCore};
pub use file::{File, Metadata};
pub use listener::{ListenError, ListenOptions, Listener, Listeners};
pub use local_future::LocalFuture;
pub use options::Options;
pub use pinned::{PinnedBuf, PinnedBytes};
pub use remote::{CoreHandle, CoreStopped};
pub use send_buf::{OutBuf, SendBuf};
pub use signal::{Signal, Signals};
pub use stream::Stream;
pub use table::{ConnectionId, ConnectionIdError, ConnectionInfo, Table};
