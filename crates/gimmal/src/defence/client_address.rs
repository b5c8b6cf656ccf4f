//! Who the client is, directly or behind trusted proxies.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gimmal_runtime::Address;
use gimmal_security::audit::AuditEvent;
use gimmal_security::forwarded::{Fields, Scheme, TrustedProxies};
use http::StatusCode;

use super::around::Around;
use crate::audit::Recorder;
use crate::error::Error;
use crate::extract::FromRequest;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Where a request comes from: the client's address, the scheme that it speaks, and the host that it asks for.
///
/// Without [`TrustedProxies`] it is what the connection itself says, whatever the request claims.
///
/// ```
/// use gimmal::App;
/// use gimmal::defence::{ClientAddress, Defences, TrustedProxies};
///
/// async fn who(client: ClientAddress) -> String {
///     format!("{} over TLS: {}", client.address(), client.is_secure())
/// }
/// // A proxy on this machine writes X-Forwarded-For.
/// let proxies = TrustedProxies::x_forwarded(["127.0.0.0/8".parse()?]);
/// let app = App::new().get("/", who).with(Defences::new().trusted_proxies(proxies));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    address: IpAddr,
    scheme: Scheme,
    host: Option<String>,
}

impl ClientAddress {
    /// The address. For a client on a Unix socket it is 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The scheme by which the client speaks to this server, or to the proxy before it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether the client speaks TLS, to this server or to the proxy before it.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The host and port that it asks for. With [`AllowedHosts`](super::AllowedHosts) it is one of those, in lower
    /// case; without, do not build links from it.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// What the connection says.
    async fn direct(request: &Request) -> io::Result<Self> {
        Ok(Self {
            address: peer(request).await?.ip().to_canonical(),
            scheme: scheme(request),
            host: request.authority().map(str::to_owned),
        })
    }
}

impl FromRequest for ClientAddress {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(client(request).await?.clone())
    }
}

/// Who is at the other end of the connection. Whoever can open a Unix socket is on this machine.
async fn peer(request: &Request) -> io::Result<SocketAddr> {
    let peer = request.peer_addr().await?;
    Ok(peer.as_tcp().unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()))
}

fn scheme(request: &Request) -> Scheme {
    if request.is_tls() { Scheme::Https } else { Scheme::Http }
}

/// What is known of the client: what trusted proxies say, or else what the connection does.
pub(super) async fn client(request: &mut Request) -> io::Result<&ClientAddress> {
    if request.extensions().get::<ClientAddress>().is_none() {
        let direct = ClientAddress::direct(request).await?;
        request.extensions_mut().insert(direct);
    }
    Ok(request.extensions().get().expect("it was put in just now"))
}

/// Whether the client speaks TLS.
pub(crate) fn is_secure(request: &Request) -> bool {
    request.extensions().get().map_or_else(|| request.is_tls(), ClientAddress::is_secure)
}

/// Whether nobody on the way can read what the client sends: TLS, or a client on this machine.
pub(crate) async fn is_confidential(request: &Request) -> bool {
    if is_secure(request) {
        return true;
    }
    let client = request.extensions().get().map(ClientAddress::address);
    is_on_this_machine(request.peer_addr().await.ok().as_ref(), client)
}

/// Behind a proxy on this machine, `client` is whom it speaks for.
fn is_on_this_machine(peer: Option<&Address>, client: Option<IpAddr>) -> bool {
    peer.is_some_and(Address::is_local) && client.is_none_or(|client| client.to_canonical().is_loopback())
}

/// The host that the client asks for.
pub(crate) fn host(request: &Request) -> Option<&str> {
    match request.extensions().get::<ClientAddress>() {
        Some(client) => client.host(),
        None => request.authority(),
    }
}

/// Notes the name by which the server knows the host.
pub(super) async fn set_host(request: &mut Request, host: String) -> io::Result<()> {
    client(request).await?;
    if let Some(client) = request.extensions_mut().get_mut::<ClientAddress>() {
        client.host = Some(host);
    }
    Ok(())
}

impl Fields for Request {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.header_all(name)
    }
}

impl Around for TrustedProxies {
    async fn around(&self, mut request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        match identify(self, &request).await {
            Ok(client) => {
                request.extensions_mut().insert(client);
                rest(request).await
            }
            Err(error) => {
                let event = AuditEvent::AttackRefused { guard: "trusted_proxies", reason: error.message() };
                Recorder::of(&request).await.record(event, None);
                error.into_response()
            }
        }
    }
}

async fn identify(proxies: &TrustedProxies, request: &Request) -> Result<ClientAddress, Error> {
    let client = proxies.client(peer(request).await?, request).map_err(|malformed| {
        Error::new(StatusCode::BAD_REQUEST, "the Forwarded field is malformed").with_source(malformed)
    })?;
    Ok(ClientAddress {
        address: client.address,
        scheme: client.scheme.unwrap_or_else(|| scheme(request)),
        host: client.host.or_else(|| request.authority().map(str::to_owned)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_over_plain_http_is_safe_on_this_machine_alone() {
        let local = |peer: &str, client: Option<&str>| {
            is_on_this_machine(Some(&peer.parse().unwrap()), client.map(|client| client.parse().unwrap()))
        };
        for peer in ["127.0.0.1:5000", "[::1]:5000", "unix:/run/x.sock"] {
            assert!(local(peer, None) && local(peer, Some("127.0.0.1")), "{peer}");
            assert!(!local(peer, Some("192.0.2.1")), "{peer} is a proxy");
        }
        for peer in ["192.0.2.1:5000", "10.0.0.1:5000", "[2001:db8::1]:5000"] {
            assert!(!local(peer, None) && !local(peer, Some("127.0.0.1")), "{peer}");
        }
        assert!(!is_on_this_machine(None, None), "a peer that is gone");
    }
}
