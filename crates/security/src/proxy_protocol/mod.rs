//! The PROXY protocol, versions 1 and 2 (as HAProxy 2.8's `proxy-protocol.txt` defines them): the line or block in
//! which a load balancer says, before the first byte of the client, who the client is.
//!
//! Sans-I/O: hand [`parse`] what was received so far until it gives a [`Header`]. Only read it on listeners that
//! trusted proxies alone can reach, and require it there: whoever can send it can claim any address.
//!
//! ```
//! use gimmal_security::proxy_protocol::{Limits, Parsed, parse};
//!
//! let bytes = b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\nGET / HTTP/1.1\r\n";
//! let Parsed::Complete { header, len } = parse(bytes, &Limits::default())? else { unreachable!() };
//! assert_eq!(header.source, Some("203.0.113.9:51234".parse().unwrap()));
//! assert_eq!(&bytes[len..], b"GET / HTTP/1.1\r\n");
//! assert_eq!(parse(&bytes[..20], &Limits::default())?, Parsed::Incomplete);
//! # Ok::<(), gimmal_security::proxy_protocol::ProxyProtocolError>(())
//! ```

mod tlv;
mod v1;
mod v2;

use std::net::SocketAddr;

use thiserror::Error;

pub use tlv::{SslInfo, Tlv, Tlvs};

/// Why a header was refused: close the connection without an answer, as whoever sent it is no proxy of yours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyProtocolError {
    /// Neither version's signature.
    #[error(
        "the connection does not begin with a PROXY protocol header: require it only behind a proxy that sends it"
    )]
    Signature,
    /// A version 1 line that is not of the specified form.
    #[error("the PROXY protocol line is malformed")]
    Line,
    /// A version 1 line of more than 107 bytes.
    #[error("the PROXY protocol line is too long")]
    LineTooLong,
    /// A version, command, family or protocol that version 2 does not define.
    #[error("the PROXY protocol header has an unknown version, command or address family")]
    Unknown,
    /// Longer than [`Limits::header_bytes`].
    #[error("the PROXY protocol header is too long: raise the limit if the proxy sends large fields")]
    TooLong,
    /// Too short for the addresses that it announces.
    #[error("the PROXY protocol header is shorter than its addresses")]
    Addresses,
    /// A field that is longer than what holds it, or of the wrong length for its type.
    #[error("a field of the PROXY protocol header is malformed")]
    Tlv,
    /// A CRC-32C that does not fit.
    #[error("the checksum of the PROXY protocol header does not match")]
    Checksum,
}

/// How large a header may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest version 2 header in bytes, the first 16 included. 4096 by default: client certificates' names and
    /// vendors' fields come in it.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { header_bytes: 4096 }
    }
}

/// What was found at the beginning of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A header in good order so far: call again with more.
    Incomplete,
    /// A header, and its length: the client's own bytes follow.
    Complete {
        /// The header.
        header: Header<'a>,
        /// Its length in bytes.
        len: usize,
    },
}

/// What a proxy says of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The client. `None` if the proxy speaks for itself, as in a health check, or for a client without an IP
    /// address: then the address of the connection stands.
    pub source: Option<SocketAddr>,
    /// What the client connected to; `None` with `source`.
    pub destination: Option<SocketAddr>,
    /// Whether the proxy speaks for itself (`LOCAL`).
    pub is_local: bool,
    /// What else it says (version 2).
    pub tlvs: Tlvs<'a>,
}

/// Reads a header from the bytes received so far. A call looks at all of them, of which there are at most
/// [`Limits::header_bytes`].
///
/// # Errors
/// [`ProxyProtocolError`] as soon as it is certain that no header can come of it.
pub fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Parsed<'a>, ProxyProtocolError> {
    if is_prefix_of(bytes, v2::SIGNATURE) {
        v2::parse(bytes, limits)
    } else if is_prefix_of(bytes, v1::SIGNATURE) {
        v1::parse(bytes)
    } else {
        Err(ProxyProtocolError::Signature)
    }
}

/// Whether the bytes begin with the signature, or could if more came.
fn is_prefix_of(bytes: &[u8], signature: &[u8]) -> bool {
    let len = bytes.len().min(signature.len());
    bytes[..len] == signature[..len]
}
