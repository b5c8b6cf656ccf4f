//! How long and how slow a client may be.

use std::time::Duration;

/// Time-outs of a server, all on by default. They are exact to 50 ms, and never early.
///
/// ```
/// use std::time::Duration;
/// use gimmal::Timeouts;
///
/// let timeouts = Timeouts { idle: Duration::from_secs(15), ..Timeouts::default() };
/// assert_eq!(timeouts.header_read, Duration::from_secs(10));
/// ```
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the start of a connection to the end of its TLS handshake, the wait for its turn included. Default 10 s.
    pub handshake: Duration,
    /// From the first byte of a request to the end of its head, and from the start of a connection to its first
    /// byte. Beyond it 408, or no answer where not a byte has come. Default 10 s.
    pub header_read: Duration,
    /// How long a connection may stay open without a request. Default 60 s.
    pub idle: Duration,
    /// From the end of a request's head to the handler's response, the body's arrival included. Beyond it the
    /// handler is dropped and the answer is 503. Default 300 s.
    pub request: Duration,
    /// How long a client may send nothing of a body that is waited for, or take nothing of what is sent, over what
    /// [`rate_min_bytes`](Self::rate_min_bytes) allows. Default 5 s.
    pub grace: Duration,
    /// Bytes per second that a client must send of a body, and take of a response, on average. Slower than this,
    /// a body ends with 408, and a response with the connection. Default 1024; 0 for any rate.
    pub rate_min_bytes: u32,
    /// How long the server takes at most to stop gracefully; what is then left is cut off. Default 30 s.
    pub shutdown: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            request: Duration::from_secs(300),
            grace: Duration::from_secs(5),
            rate_min_bytes: 1024,
            shutdown: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    /// How long `bytes` may take; `None` for any time.
    pub(crate) fn for_bytes(&self, bytes: u64) -> Option<Duration> {
        let rate = u64::from(self.rate_min_bytes);
        Some(self.grace + Duration::from_millis(bytes.saturating_mul(1000).checked_div(rate)?))
    }
}
