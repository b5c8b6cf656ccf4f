//! Why a WebSocket connection fails, and what cannot be sent on it.

use thiserror::Error;

use super::close::CloseCode;

/// Why what the peer sent was refused. Send a Close with [`close_code`](Self::close_code) and end the connection (RFC
/// 6455 section 7.1.7).
///
/// ```
/// use gimmal_http::websocket::{CloseCode, Decoder, Role, WebSocketError, WebSocketLimits};
///
/// let mut decoder = Decoder::new(Role::Server, WebSocketLimits::default(), None);
/// let error = decoder.decode(&mut [0x81, 0x01, b'a']).unwrap_err();
/// assert_eq!(error, WebSocketError::MaskMissing);
/// assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// RSV2, RSV3, or RSV1 where no extension gave it a meaning (RFC 6455 section 5.2, RFC 7692 section 6.1).
    #[error("a reserved bit is set")]
    ReservedBit,
    /// An opcode from 3 to 7 or from 11 to 15 (RFC 6455 section 5.2).
    #[error("a reserved opcode")]
    Opcode,
    /// A length that is not in its shortest form, or of more than 63 bits (RFC 6455 section 5.2).
    #[error("a payload length is malformed")]
    Length,
    /// A frame of a client without a mask (RFC 6455 section 5.1).
    #[error("a frame to a server is not masked")]
    MaskMissing,
    /// A frame of a server with a mask (RFC 6455 section 5.1).
    #[error("a frame to a client is masked")]
    MaskForbidden,
    /// A control frame in fragments (RFC 6455 section 5.5).
    #[error("a control frame is fragmented")]
    ControlFragmented,
    /// A control frame of more than 125 bytes (RFC 6455 section 5.5).
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A continuation frame without a message to continue (RFC 6455 section 5.4).
    #[error("a continuation frame continues nothing")]
    ContinuationUnexpected,
    /// A new message before the one before it ended (RFC 6455 section 5.4).
    #[error("a message begins within another one")]
    ContinuationMissing,
    /// A text message, or the reason of a Close, that is not UTF-8 (RFC 6455 section 8.1).
    #[error("a text is not UTF-8")]
    Utf8,
    /// A Close of one byte, or with a code that may not be sent (RFC 6455 sections 5.5.1 and 7.4).
    #[error("a Close frame is malformed")]
    Close,
    /// Compressed data that is not DEFLATE (RFC 7692 section 7.2.2).
    #[error("a message cannot be decompressed")]
    Deflate,
    /// More than [`WebSocketLimits::frame_bytes`](super::WebSocketLimits::frame_bytes).
    #[error("a frame is too large")]
    FrameTooLarge,
    /// More than [`WebSocketLimits::message_bytes`](super::WebSocketLimits::message_bytes).
    #[error("a message is too large")]
    MessageTooLarge,
}

impl WebSocketError {
    /// The code to close with: 1002, 1007 or 1009 (RFC 6455 section 7.4.1).
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Utf8 | Self::Deflate => CloseCode::INVALID_PAYLOAD,
            Self::FrameTooLarge | Self::MessageTooLarge => CloseCode::TOO_LARGE,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Why something was not written. Nothing was appended, and the connection is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// A Close was sent, and nothing may follow it (RFC 6455 section 5.5.1).
    #[error("the connection is closing: nothing may be sent after a Close frame")]
    Closed,
    /// A message in parts has not ended, or is of another kind than this part (RFC 6455 section 5.4).
    #[error("a message is being sent in parts: end it first")]
    MessageOpen,
    /// A control frame of more than 125 bytes, or the reason of a Close of more than 123 (RFC 6455 section 5.5).
    #[error("the payload of a control frame is longer than 125 bytes: shorten it")]
    ControlTooLong,
}
