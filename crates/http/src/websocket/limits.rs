//! The bounds of a WebSocket connection (RFC 6455 section 10.4).

/// How much a peer may send before the connection is closed with 1009.
///
/// Every value is a maximum and inclusive.
///
/// ```
/// use gimmal_http::websocket::WebSocketLimits;
///
/// let limits = WebSocketLimits { message_bytes: 64 << 10, ..WebSocketLimits::default() };
/// assert_eq!(limits.frame_bytes, 2 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// Bytes of one frame's payload as it is sent, 2 MiB by default.
    pub frame_bytes: u64,
    /// Bytes of a whole message after decompression, 2 MiB by default. It is what keeps a small message that expands
    /// to a huge one, or one of endlessly many frames, from filling the memory.
    pub message_bytes: u64,
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        Self { frame_bytes: 2 << 20, message_bytes: 2 << 20 }
    }
}
