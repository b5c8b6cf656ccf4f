//! Servers, as a client names them, and the way to them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;

use gimmal_runtime::{Address, Core, blocking};
use http::{HeaderValue, Uri, uri};

use super::error::ClientError;
use crate::stream::Stream;

/// A server: a scheme, a name and a port, or an address that is connected to in place of the name. Cloning it is
/// cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(Rc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    transport: Transport,
    destination: Destination,
    authority: HeaderValue,
}

/// How bytes travel to it. TLS will be the second way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Transport {
    Plain,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Destination {
    Name { host: Box<str>, port: u16 },
    Address(Address),
}

impl Origin {
    /// The server of a URL; `at` is connected to in place of its host.
    pub(crate) fn of(url: &Uri, at: Option<Address>) -> Result<Self, ClientError> {
        let transport = match url.scheme() {
            Some(scheme) if *scheme == uri::Scheme::HTTP => Transport::Plain,
            Some(scheme) if *scheme == uri::Scheme::HTTPS => {
                return Err(ClientError::Url("https is not spoken yet"));
            }
            _ => return Err(ClientError::Url("its scheme is not http")),
        };
        let authority = url.authority().ok_or(ClientError::Url("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(ClientError::Url("a user name belongs into an Authorization field"));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(ClientError::Url("it names no host"));
        }
        let port = authority.port_u16().unwrap_or(80);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let destination = match (at, host.parse::<IpAddr>()) {
            (Some(address), _) => Destination::Address(address),
            (None, Ok(ip)) => Destination::Address(SocketAddr::new(ip, port).into()),
            (None, Err(_)) => Destination::Name { host: host.to_ascii_lowercase().into(), port },
        };
        let authority =
            HeaderValue::from_str(authority.as_str()).map_err(|_| ClientError::Url("its host"))?;
        Ok(Self(Rc::new(Parts { transport, destination, authority })))
    }

    /// The value of `Host`.
    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.0.authority
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, core: &Rc<Core>) -> Result<Stream, ClientError> {
        match &self.0.destination {
            Destination::Address(address) => {
                core.connect(address).await.map(|stream| self.wrap(stream)).map_err(ClientError::Connect)
            }
            Destination::Name { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for address in resolve(host, *port).await.map_err(ClientError::Resolve)? {
                    match core.connect(&address.into()).await {
                        Ok(stream) => return Ok(self.wrap(stream)),
                        Err(error) => last = error,
                    }
                }
                Err(ClientError::Connect(last))
            }
        }
    }

    fn wrap(&self, stream: gimmal_runtime::Stream) -> Stream {
        match self.0.transport {
            Transport::Plain => Stream::plain(stream),
        }
    }
}

/// The addresses of a name. The system's resolver blocks, so it runs off the core.
fn resolve(host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + use<> {
    let host = host.to_owned();
    async move {
        let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        blocking(look_up).await.map_err(io::Error::other)?
    }
}
