//! Limits and sizes of a core.

use std::time::Duration;

/// Limits and sizes of one core, with defaults that suit a server of small and large messages alike.
///
/// ```
/// let options = gimmal_runtime::Options { connections_max: 1000, ..Default::default() };
/// assert_eq!(options.receive_buffers, 512);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections that a core holds at once. At the limit it stops accepting, and goes on when one has
    /// closed; who comes in between waits in the listener's backlog. Default 16,384; lowered, with a
    /// warning, to what `RLIMIT_NOFILE` allows.
    pub connections_max: u32,
    /// Pinned receive buffers of a core: a power of two, at most 32,768. Default 512.
    pub receive_buffers: u16,
    /// Bytes of a receive buffer. Default 8 KiB.
    pub receive_buffer_bytes: u32,
    /// Pinned buffers for files that are read, and for what is encrypted, of 68 KiB each. Those that are never used
    /// take no memory. At least 1; default 128.
    pub file_buffers: u16,
    /// Bytes that a connection may have received and not read before its receive is stopped, so that one slow
    /// reader cannot take all buffers of the core. Default 64 KiB.
    pub unread_bytes_max: usize,
    /// Bytes that may be queued on a connection, and not taken by the kernel, before `send` waits.
    /// Default 256 KiB.
    pub unsent_bytes_max: usize,
    /// Bytes that all connections of a core together may have queued, and not taken by the kernel. Beyond it, `send` waits
    /// until the connection itself has nothing unsent, whatever `unsent_bytes_max` says. Default 256 MiB.
    pub core_unsent_bytes_max: usize,
    /// Bytes that all connections of a core together may have received and not read. Beyond it, each receives one pinned
    /// buffer at a time, and the next when that is read. Default 128 MiB.
    pub core_unread_bytes_max: usize,
    /// How long a dropped connection may take to send what is queued. Default 30 s.
    pub linger: Duration,
    /// How long an idle connection is kept once a graceful shutdown has begun, for a request that is under
    /// way already. Default 500 ms.
    pub drain_idle: Duration,
    /// How long a task may hold the core before it is reported. Default 100 ms; zero turns it off.
    pub stall_threshold: Duration,
    /// Whether receive buffers are asked to be locked into memory, on huge pages. Where the limit on locked
    /// memory refuses, they are not, and the start-up line says so. Default true.
    pub lock_memory: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            receive_buffers: 512,
            receive_buffer_bytes: 8 * 1024,
            file_buffers: 128,
            unread_bytes_max: 64 * 1024,
            unsent_bytes_max: 256 * 1024,
            core_unsent_bytes_max: 256 * 1024 * 1024,
            core_unread_bytes_max: 128 * 1024 * 1024,
            linger: Duration::from_secs(30),
            drain_idle: Duration::from_millis(500),
            stall_threshold: Duration::from_millis(100),
            lock_memory: true,
        }
    }
}
