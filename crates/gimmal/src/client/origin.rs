//! Servers, as a client names them, and the way to them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use gimmal_runtime::{Address, Core, Stream as Socket, blocking};
use gimmal_security::tls::{TlsClientConfig, TlsError};
use http::{HeaderValue, Uri, uri};

use super::error::{ClientError, Phase};
use super::exchange::Clock;
use super::{ClientOptions, roots};
use crate::stream::Stream;

/// A server: a scheme, a name and a port, or an address that is connected to in place of the name. Cloning it is
/// cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(Rc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    transport: Transport,
    /// Without brackets: what the server's certificate has to bear.
    host: Box<str>,
    destination: Destination,
    authority: HeaderValue,
}

/// How bytes travel to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Transport {
    Plain,
    Tls,
}

impl Transport {
    fn default_port(self) -> u16 {
        match self {
            Self::Plain => 80,
            Self::Tls => 443,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Destination {
    /// Of the host.
    Port(u16),
    Address(Address),
}

impl Origin {
    /// The server of a URL; `at` is connected to in place of its host.
    pub(crate) fn of(url: &Uri, at: Option<Address>) -> Result<Self, ClientError> {
        let transport = match url.scheme() {
            Some(scheme) if *scheme == uri::Scheme::HTTP => Transport::Plain,
            Some(scheme) if *scheme == uri::Scheme::HTTPS => Transport::Tls,
            _ => return Err(ClientError::Url("its scheme is neither http nor https")),
        };
        let authority = url.authority().ok_or(ClientError::Url("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(ClientError::Url("a user name belongs into an Authorization field"));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(ClientError::Url("it names no host"));
        }
        let port = authority.port_u16().unwrap_or_else(|| transport.default_port());
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let destination = match (at, host.parse::<IpAddr>()) {
            (Some(address), _) => Destination::Address(address),
            (None, Ok(ip)) => Destination::Address(SocketAddr::new(ip, port).into()),
            (None, Err(_)) => Destination::Port(port),
        };
        let host = host.to_ascii_lowercase().into();
        let authority =
            HeaderValue::from_str(authority.as_str()).map_err(|_| ClientError::Url("its host"))?;
        Ok(Self(Rc::new(Parts { transport, host, destination, authority })))
    }

    /// The value of `Host`.
    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.0.authority
    }

    /// Its name in errors.
    pub(super) fn name(&self) -> Box<str> {
        self.0.authority.to_str().unwrap_or(&self.0.host).into()
    }

    /// Opens a connection that is ready for a request.
    pub(super) async fn connect(
        &self,
        core: &Rc<Core>,
        options: &ClientOptions,
        clock: Clock,
    ) -> Result<Stream, ClientError> {
        match self.0.transport {
            Transport::Plain => {
                let socket = within(clock.limit(options.connect), Phase::Connect, self.open(core)).await?;
                Ok(Stream::plain(socket))
            }
            Transport::Tls => {
                let config = match &options.tls {
                    Some(config) => config.clone(),
                    None => roots::platform().await?,
                };
                let socket = within(clock.limit(options.connect), Phase::Connect, self.open(core)).await?;
                let handshake = self.handshake(socket, &config);
                within(clock.limit(options.handshake), Phase::Handshake, handshake).await
            }
        }
    }

    async fn open(&self, core: &Rc<Core>) -> Result<Socket, ClientError> {
        let mut addresses = match &self.0.destination {
            Destination::Address(address) => vec![address.clone()],
            Destination::Port(port) => resolve(&self.0.host, *port)
                .await
                .map_err(|source| ClientError::Resolve { server: self.name(), source })?,
        }
        .into_iter();
        let mut source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        loop {
            let Some(address) = addresses.next() else {
                return Err(ClientError::Connect { server: self.name(), source });
            };
            match core.connect(&address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => source = error,
            }
        }
    }

    async fn handshake(&self, socket: Socket, config: &TlsClientConfig) -> Result<Stream, ClientError> {
        let failed = |source| ClientError::Handshake { server: self.name(), source };
        let stream = Stream::introduce(socket, &self.0.host, config).await.map_err(failed)?;
        match stream.tls().and_then(|tls| tls.alpn) {
            // A server that says nothing speaks HTTP/1.1.
            None => Ok(stream),
            Some(protocol) if protocol == b"http/1.1" => Ok(stream),
            Some(_) => Err(failed(TlsError::NoApplicationProtocol)),
        }
    }
}

async fn within<T>(
    time: Duration,
    phase: Phase,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(time, work).await.unwrap_or(Err(ClientError::TimedOut(phase)))
}

/// The addresses of a name. The system's resolver blocks, so it runs off the core.
fn resolve(host: &str, port: u16) -> impl Future<Output = io::Result<Vec<Address>>> + use<> {
    let host = host.to_owned();
    async move {
        let look_up = move || {
            let addresses = (host.as_str(), port).to_socket_addrs()?;
            Ok(addresses.map(Address::from).collect())
        };
        blocking(look_up).await.map_err(io::Error::other)?
    }
}
