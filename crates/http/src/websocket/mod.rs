//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), without I/O.
//!
//! A handshake takes header fields and gives header fields: [`ServerHandshake`] and [`ClientHandshake`]. After it a
//! [`Decoder`] makes events of bytes, and an [`Encoder`] makes bytes of messages. Neither answers by itself: whoever
//! drives them answers a Ping with a Pong, a Close with a Close, and a [`WebSocketError`] with a Close of its
//! [`close_code`](WebSocketError::close_code).
//!
//! ```
//! use gimmal_http::websocket::{Decoder, Encoder, Event, Role, WebSocketError, WebSocketLimits};
//!
//! /// Echoes everything in `input`, and says whether the connection is over.
//! fn echo(
//!     decoder: &mut Decoder,
//!     encoder: &mut Encoder,
//!     mut input: &mut [u8],
//!     out: &mut Vec<u8>,
//! ) -> Result<bool, Box<dyn std::error::Error>> {
//!     while !input.is_empty() {
//!         let decoded = decoder.decode(input)?;
//!         match decoded.event {
//!             Some(Event::Text(text)) => encoder.message((&*text).into(), out)?,
//!             Some(Event::Binary(bytes)) => encoder.message((&*bytes).into(), out)?,
//!             Some(Event::Ping(payload)) => encoder.pong(payload, out)?,
//!             Some(Event::Close(frame)) => {
//!                 encoder.close(frame, out)?;
//!                 return Ok(true);
//!             }
//!             Some(Event::Pong(_) | Event::Part { .. }) | None => {}
//!         }
//!         let consumed = decoded.consumed;
//!         input = &mut input[consumed..];
//!     }
//!     Ok(false)
//! }
//!
//! let mut decoder = Decoder::new(Role::Server, WebSocketLimits::default(), None);
//! let mut encoder = Encoder::new(Role::Server, None);
//! // RFC 6455 section 5.7: a masked text message.
//! let mut input = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
//! let mut out = Vec::new();
//! assert!(!echo(&mut decoder, &mut encoder, &mut input, &mut out)?);
//! assert_eq!(out, b"\x81\x05Hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod close;
mod decoder;
mod deflate;
mod encoder;
mod error;
mod extension;
mod frame;
mod handshake;
mod limits;
mod mask;
mod message;
mod utf8;

pub use close::{CloseCode, CloseFrame};
pub use decoder::{Decoded, Decoder, Event};
pub use encoder::{Encoder, PreparedMessage};
pub use error::{SendError, WebSocketError};
pub use extension::{Deflate, DeflateConfig};
pub use handshake::{Accepted, ClientHandshake, Confirmed, HandshakeError, ServerHandshake};
pub use limits::WebSocketLimits;
pub use message::{Message, MessageKind};

/// Which end of a connection this is. A client masks what it sends, and a server does not (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that accepted the handshake.
    Server,
    /// The end that began the handshake.
    Client,
}
