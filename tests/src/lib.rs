//! What the end-to-end tests have in common: servers on both back ends, and a client that trusts nothing of ours.

pub mod allocations;
mod bytes;
mod client;
mod held;
mod server;

pub use bytes::{checksum, pattern};
pub use client::{Client, Message};
pub use held::Held;
pub use server::{BACKENDS, eventually, on_both, server, start};
