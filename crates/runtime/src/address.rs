//! Addresses of TCP and Unix sockets.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use socket2::SockAddr;

/// The address of a TCP or Unix socket.
///
/// As text: `127.0.0.1:8080`, `[::]:443`, `localhost:8080` (the first address it resolves to),
/// `unix:/run/app.sock`, or `unix:@name` for a name in Linux's abstract namespace.
///
/// ```
/// use gimmal_runtime::Address;
/// let address: Address = "127.0.0.1:8080".parse()?;
/// assert_eq!(address.to_string(), "127.0.0.1:8080");
/// let address: Address = "unix:/run/app.sock".parse()?;
/// assert!(matches!(address, Address::Unix(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A path in the file system.
    Unix(PathBuf),
    /// A name in the abstract namespace, without its leading zero byte.
    UnixAbstract(Vec<u8>),
    /// A Unix socket that was bound to no name, as clients usually are.
    UnixUnnamed,
}

/// A text that is no [`Address`].
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not an address: write HOST:PORT, unix:PATH or unix:@NAME ({reason})")]
pub struct AddressError {
    text: String,
    reason: String,
}

impl Address {
    /// The IP address and port, if it is one.
    #[must_use]
    pub fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            _ => None,
        }
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.as_tcp().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse =
            |reason: &dyn fmt::Display| AddressError { text: text.to_owned(), reason: reason.to_string() };
        match text.strip_prefix("unix:") {
            Some("") => Err(refuse(&"the path is empty")),
            Some(path) => Ok(match path.strip_prefix('@') {
                Some(name) => Self::UnixAbstract(name.as_bytes().to_vec()),
                None => Self::Unix(path.into()),
            }),
            None => {
                let mut addresses = text.to_socket_addrs().map_err(|error| refuse(&error))?;
                addresses.next().map(Self::Tcp).ok_or_else(|| refuse(&"the name has no address"))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
            Self::UnixUnnamed => f.write_str("unix:"),
        }
    }
}

impl TryFrom<SockAddr> for Address {
    type Error = io::Error;

    fn try_from(address: SockAddr) -> io::Result<Self> {
        if let Some(address) = address.as_socket() {
            return Ok(Self::Tcp(address));
        }
        if address.is_unnamed() {
            return Ok(Self::UnixUnnamed);
        }
        if let Some(name) = address.as_abstract_namespace() {
            return Ok(Self::UnixAbstract(name.to_vec()));
        }
        match address.as_pathname() {
            Some(path) => Ok(Self::Unix(path.to_owned())),
            None => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a TCP nor a Unix socket")),
        }
    }
}

impl TryFrom<&Address> for SockAddr {
    type Error = io::Error;

    fn try_from(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Ok((*address).into()),
            Address::Unix(path) => Self::unix(path),
            Address::UnixAbstract(name) => {
                let mut path = vec![0];
                path.extend_from_slice(name);
                Self::unix(std::ffi::OsString::from(String::from_utf8_lossy(&path).into_owned()))
            }
            Address::UnixUnnamed => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "an unnamed Unix socket has no address"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_there_and_back() {
        for text in ["127.0.0.1:80", "[::1]:443", "unix:/run/x.sock", "unix:@name"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_bad_text_is_refused_with_what_to_write() {
        for text in ["", "127.0.0.1", "127.0.0.1:99999", "unix:", "nonsense"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn socket_addresses_go_there_and_back() {
        for text in ["127.0.0.1:80", "[::1]:443", "unix:/run/x.sock", "unix:@name"] {
            let address: Address = text.parse().unwrap();
            let raw = SockAddr::try_from(&address).unwrap();
            assert_eq!(Address::try_from(raw).unwrap(), address);
        }
    }

    #[test]
    fn local_is_loopback_or_unix() {
        for (text, local) in [
            ("127.0.0.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("unix:/x", true),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), local, "{text}");
        }
    }
}
