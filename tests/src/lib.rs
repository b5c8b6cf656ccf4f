//! What the end-to-end tests have in common: servers on both back ends, and a client that trusts nothing of ours.

pub mod allocations;
mod authority;
mod bytes;
mod client;
mod cores;
mod held;
pub mod peers;
mod process;
pub mod proxies;
mod server;
mod tls;
mod upgrade;

pub use authority::{Authority, Issued};
pub use bytes::{checksum, pattern};
pub use client::{Client, Message};
pub use cores::on_a_core;
pub use held::Held;
pub use process::{Process, Redis};
pub use server::{BACKENDS, eventually, on_both, server, start};
pub use tls::{TlsClient, trusting};
pub use upgrade::echo_after_upgrade;
