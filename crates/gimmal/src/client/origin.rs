//! Servers, as a client names them, and the way to them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use gimmal_runtime::{Address, Core, Stream as Socket};
use gimmal_security::tls::{TlsClientConfig, TlsError};
use http::{HeaderValue, Uri, uri};

use super::error::{ClientError, Phase};
use super::exchange::Clock;
use super::{ClientOptions, names, roots};
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
        let time = clock.limit(options.connect);
        match self.0.transport {
            Transport::Plain => Ok(Stream::plain(within(time, Phase::Connect, self.open(core, time)).await?)),
            Transport::Tls => {
                let config = match &options.tls {
                    Some(config) => config.clone(),
                    None => within(time, Phase::Connect, roots::platform()).await?,
                };
                let time = clock.limit(options.connect);
                let socket = within(time, Phase::Connect, self.open(core, time)).await?;
                let handshake = self.handshake(socket, &config);
                within(clock.limit(options.handshake), Phase::Handshake, handshake).await
            }
        }
    }

    /// Connects to one of the server's addresses within `time`.
    async fn open(&self, core: &Rc<Core>, time: Duration) -> Result<Socket, ClientError> {
        let until = Instant::now().checked_add(time);
        let addresses = match &self.0.destination {
            Destination::Address(address) => vec![address.clone()],
            Destination::Port(port) => {
                let resolved = names::resolve(&self.0.host).await;
                let ips = resolved.map_err(|source| ClientError::Resolve { server: self.name(), source })?;
                families_in_turn(&ips).map(|ip| SocketAddr::new(ip, *port).into()).collect()
            }
        };
        let opened = first_that_opens(&addresses, until, |address| core.connect(address)).await;
        opened.map_err(|source| ClientError::Connect { server: self.name(), source })
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

/// Orders addresses so that their families take turns, beginning with that of the first (RFC 8305, section 4): a family
/// that has no way to the server holds up one attempt.
fn families_in_turn(ips: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let is_first_family = |ip: &&IpAddr| ip.is_ipv4() == ips[0].is_ipv4();
    let mut firsts = ips.iter().filter(is_first_family);
    let mut others = ips.iter().filter(move |ip| !is_first_family(ip));
    let mut is_firsts_turn = false;
    std::iter::from_fn(move || {
        is_firsts_turn = !is_firsts_turn;
        if is_firsts_turn {
            firsts.next().or_else(|| others.next())
        } else {
            others.next().or_else(|| firsts.next())
        }
        .copied()
    })
}

/// Tries addresses one after the other. Each has an equal share of the time that is left, so that one which swallows
/// what is sent leaves time for the next.
async fn first_that_opens<'a, T, F: Future<Output = io::Result<T>>>(
    addresses: &'a [Address],
    until: Option<Instant>,
    open: impl Fn(&'a Address) -> F,
) -> io::Result<T> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let left = addresses.len() - index;
        let opened = match until {
            Some(until) if left > 1 => {
                let share = until.saturating_duration_since(Instant::now()) / left as u32;
                let timed_out = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
                tokio::time::timeout(share, open(address)).await.unwrap_or_else(timed_out)
            }
            // The last one has all that is left.
            _ => open(address).await,
        };
        match opened {
            Ok(opened) => return Ok(opened),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_leaves_time_for_the_next() {
        let all = addresses(&["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"]);
        let until = Instant::now() + Duration::from_millis(300);
        let open = async |address: &Address| match address.as_tcp().unwrap().ip().to_string().as_str() {
            "192.0.2.3" => Ok("open"),
            _ => std::future::pending().await,
        };
        let opened = tokio::time::timeout_at(until, first_that_opens(&all, Some(until), open)).await;
        assert_eq!(opened.expect("there is time left").unwrap(), "open");
    }

    #[tokio::test]
    async fn the_last_failure_is_told() {
        let all = addresses(&["192.0.2.1:80", "192.0.2.2:80"]);
        let open = async |_: &Address| Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused));
        let error = first_that_opens(&all, None, open).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = first_that_opens(&[], None, open).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn families_of_addresses_take_turns() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let all = ips(&["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"]);
        let expected = ips(&["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]);
        assert_eq!(families_in_turn(&all).collect::<Vec<_>>(), expected);
        assert_eq!(families_in_turn(&[]).count(), 0);
    }
}
