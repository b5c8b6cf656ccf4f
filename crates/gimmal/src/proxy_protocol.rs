//! The PROXY protocol on a connection: what a proxy says of the client before the client's first byte.

use std::io;
use std::net::Ipv4Addr;

use gimmal_runtime::{Address, Stream as Socket};
use gimmal_security::forwarded::TrustedProxies;
use gimmal_security::proxy_protocol::{Limits, Parsed, ProxyProtocolError, parse};

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedProxy {
    #[error("{0} is none of the trusted proxies")]
    Untrusted(Address),
    #[error("the proxy ended the connection within its header")]
    Ended,
    #[error(transparent)]
    Header(#[from] ProxyProtocolError),
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// Reads the header, and leaves what comes after it to be received next. `None` if the proxy speaks for itself, or for a
/// client without an IP address.
pub(crate) async fn read(socket: &Socket, proxies: &TrustedProxies) -> Result<Option<Address>, RefusedProxy> {
    let peer = socket.peer_addr().await?;
    // Whoever can open a Unix socket is on this machine.
    let address = peer.as_tcp().map_or(Ipv4Addr::LOCALHOST.into(), |peer| peer.ip());
    if !proxies.trusts(address) {
        return Err(RefusedProxy::Untrusted(peer));
    }
    let mut received = Vec::new();
    loop {
        let mut bytes = socket.recv().await?;
        if bytes.is_empty() {
            return Err(RefusedProxy::Ended);
        }
        let before = received.len();
        received.extend_from_slice(&bytes);
        if let Parsed::Complete { header, len } = parse(&received, &Limits::default())? {
            // The header ends in what came last: it was incomplete before.
            bytes.advance(len - before);
            if !bytes.is_empty() {
                socket.unrecv(bytes);
            }
            return Ok(header.source.map(Address::Tcp));
        }
    }
}
