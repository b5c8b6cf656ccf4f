//! Who the client is, when proxies stand before this server.
//!
//! Anybody can send `X-Forwarded-For`. What it says is worth something only as far as a proxy of one's own wrote it,
//! and those write at the right end: so the client is the right-most address that is not a trusted proxy's.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::origin::HostPort;
use crate::{Finding, Severity};

/// Which field the trusted proxies write. A proxy passes on the other ones as the client sent them, so exactly one can
/// be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedField {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and, if it was asked for by name, `X-Forwarded-Host`.
    XForwarded,
}

/// The scheme by which a client speaks to the first proxy, or to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// Some proxies name the scheme of WebSockets instead (RFC 6455 section 3), which says the same of TLS.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let is = |name: &str| text.eq_ignore_ascii_case(name.as_bytes());
        if is("https") || is("wss") {
            Some(Self::Https)
        } else if is("http") || is("ws") {
            Some(Self::Http)
        } else {
            None
        }
    }
}

/// A `Forwarded` field that is not of the form of RFC 7239 section 4: answer 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the Forwarded header field is malformed")]
pub struct ForwardedError;

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; that of a proxy if no more is known.
    pub address: IpAddr,
    /// The scheme that it used, if a trusted proxy said so.
    pub scheme: Option<Scheme>,
    /// The host that it asked for, if a trusted proxy said so: well-formed, not yet
    /// [allowed](crate::allowed_hosts::AllowedHosts).
    pub host: Option<String>,
}

/// Where a request's fields are: all values of a field by name, in the order in which they were received.
pub trait Fields {
    /// The values of the field of this name, which is in lower case.
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]>;
}

impl Fields for http::HeaderMap {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).into_iter().map(http::HeaderValue::as_bytes)
    }
}

/// The proxies whose word is taken, and the field in which they give it.
///
/// ```
/// use gimmal_security::forwarded::{Scheme, TrustedProxies};
/// use http::HeaderMap;
///
/// let proxies = TrustedProxies::x_forwarded(["10.0.0.0/8".parse()?]);
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.2".parse()?); // 1.1.1.1 is a lie
/// headers.insert("x-forwarded-proto", "https".parse()?);
///
/// let client = proxies.client("10.0.0.1:5000".parse()?, &headers)?;
/// assert_eq!(client.address, "203.0.113.9".parse::<std::net::IpAddr>()?);
/// assert_eq!(client.scheme, Some(Scheme::Https));
///
/// // From anybody else it means nothing.
/// let client = proxies.client("198.51.100.4:5000".parse()?, &headers)?;
/// assert_eq!(client.address, "198.51.100.4".parse::<std::net::IpAddr>()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    field: ForwardedField,
    #[serde(default)]
    forwarded_host: bool,
}

impl TrustedProxies {
    /// Trusts proxies in these networks, which write `Forwarded`.
    #[must_use]
    pub fn forwarded(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self::new(ForwardedField::Forwarded, networks)
    }

    /// Trusts proxies in these networks, which write `X-Forwarded-For`, and write or remove `X-Forwarded-Proto`.
    #[must_use]
    pub fn x_forwarded(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self::new(ForwardedField::XForwarded, networks)
    }

    fn new(field: ForwardedField, networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { networks: networks.into_iter().collect(), field, forwarded_host: false }
    }

    /// Takes `X-Forwarded-Host` too. Only where every trusted proxy writes or removes it: many pass on what a client
    /// sent.
    #[must_use]
    pub fn with_forwarded_host(mut self) -> Self {
        self.forwarded_host = true;
        self
    }

    /// Whether this address is a trusted proxy's.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether more is trusted than proxies can be: the whole of the internet, or a large part of it.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let is_wide = |network: &&IpNet| match network {
            IpNet::V4(network) => network.prefix_len() < 8,
            IpNet::V6(network) => network.prefix_len() < 7,
        };
        let finding = |network: &IpNet| Finding {
            severity: Severity::Danger,
            code: "proxies.wide_network",
            what: format!("every address in {network} may claim to be any client"),
            cure: "name the networks of your proxies alone".to_owned(),
        };
        self.networks.iter().filter(is_wide).map(finding).collect()
    }

    /// Who the client is, of a request that came from `peer` with these fields. An address that cannot be read, an
    /// obfuscated one included (RFC 7239 section 6.3), ends the chain: the client is then the proxy that wrote it.
    ///
    /// # Errors
    /// [`ForwardedError`] if a trusted proxy passed on a `Forwarded` field that is malformed: answer 400. What a client
    /// left open, as a quote, may swallow what the proxy added, and the client would pass for the proxy.
    pub fn client(&self, peer: SocketAddr, fields: &impl Fields) -> Result<Client, ForwardedError> {
        let peer = peer.ip().to_canonical();
        if !self.trusts(peer) {
            return Ok(Client { address: peer, scheme: None, host: None });
        }
        match self.field {
            ForwardedField::Forwarded => self.by_forwarded(peer, fields),
            ForwardedField::XForwarded => Ok(self.by_x_forwarded(peer, fields)),
        }
    }

    fn by_x_forwarded(&self, peer: IpAddr, fields: &impl Fields) -> Client {
        let hops = list(fields, "x-forwarded-for");
        let mut address = peer;
        let mut position = hops.len();
        while position > 0 && self.trusts(address) {
            let Some(next) = parse_node(hops[position - 1]) else { break };
            address = next;
            position -= 1;
        }
        let at = |name| {
            let values = list(fields, name);
            // One value for each hop, or else one for all of them.
            let is_aligned = values.len() == hops.len() && position < hops.len();
            if is_aligned { Some(values[position]) } else { values.last().copied() }
        };
        Client {
            address,
            scheme: at("x-forwarded-proto").and_then(Scheme::parse),
            host: self.forwarded_host.then(|| at("x-forwarded-host").and_then(parse_host)).flatten(),
        }
    }

    fn by_forwarded(&self, peer: IpAddr, fields: &impl Fields) -> Result<Client, ForwardedError> {
        let mut client = Client { address: peer, scheme: None, host: None };
        let mut hops = Vec::new();
        for value in fields.values("forwarded") {
            hops.extend(parse_forwarded(value).ok_or(ForwardedError)?);
        }
        for hop in hops.iter().rev() {
            if !self.trusts(client.address) {
                break;
            }
            // The element that names the client was written by the proxy that saw it, with the scheme and host that
            // the client used.
            client.scheme = hop.proto.as_deref().and_then(Scheme::parse);
            client.host = hop.host.as_deref().and_then(parse_host);
            match hop.node.as_deref().and_then(parse_node) {
                Some(address) => client.address = address,
                None => break,
            }
        }
        Ok(client)
    }
}

/// The members of a list field, over all of its lines. An empty one stands for an address that a proxy did not know, and
/// is kept: what is to the left of it was written by whoever has that address.
fn list<'a>(fields: &'a impl Fields, name: &'static str) -> Vec<&'a [u8]> {
    let lines = fields.values(name).filter(|value| !value.trim_ascii().is_empty());
    lines.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii).collect()
}

/// The address in `1.2.3.4`, `1.2.3.4:80`, `[::1]`, `[::1]:80` or `::1`.
fn parse_node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let address = text.parse::<IpAddr>().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

fn parse_host(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    HostPort::parse(text).map(|_| text.to_ascii_lowercase())
}

#[derive(Debug, Default)]
struct Element {
    node: Option<Vec<u8>>,
    proto: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
}

/// The elements of one `Forwarded` value (RFC 7239 section 4); `None` if any part of it is malformed or doubled. One
/// without a `for` counts: its client wrote what is to the left of it.
fn parse_forwarded(value: &[u8]) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut element: Option<Element> = None;
    let mut rest = value;
    loop {
        rest = rest.trim_ascii_start();
        let name_len = rest.iter().position(|&byte| !is_token(byte)).unwrap_or(rest.len());
        let (name, after_name) = rest.split_at(name_len);
        rest = after_name;
        if name_len > 0 {
            let (parameter, after) = parse_value(rest.strip_prefix(b"=")?)?;
            rest = after;
            let element = element.get_or_insert_default();
            let place = match name.to_ascii_lowercase().as_slice() {
                b"for" => Some(&mut element.node),
                b"proto" => Some(&mut element.proto),
                b"host" => Some(&mut element.host),
                _ => None,
            };
            if let Some(place) = place
                && place.replace(parameter).is_some()
            {
                return None;
            }
        }
        rest = rest.trim_ascii_start();
        match rest.split_first() {
            Some((b';', after)) => rest = after,
            Some((b',', after)) => {
                elements.extend(element.take());
                rest = after;
            }
            Some(_) => return None,
            None => {
                elements.extend(element);
                return Some(elements);
            }
        }
    }
}

/// A token or a quoted string (RFC 9110 section 5.6), and what follows it.
fn parse_value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        // Wider than a token: proxies write addresses and ports without quotes.
        let is_plain = |&byte: &u8| is_token(byte) || b":[]".contains(&byte);
        let len = text.iter().position(|byte| !is_plain(byte)).unwrap_or(text.len());
        return (len > 0).then(|| (text[..len].to_vec(), &text[len..]));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((index, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, &quoted[index + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            _ => value.push(byte),
        }
    }
    None
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
