//! The hosts that this server answers for.
//!
//! A link in a password mail, or a cached page, that is built from the `Host` field leads wherever the sender of the
//! request liked. So the field must be one of those that the server knows.

use std::collections::HashSet;

use thiserror::Error;

use crate::origin::HostPort;

/// What is wrong with a name on the list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no host: write example.org, example.org:8443, or *.example.org for its subdomains")]
pub struct AllowedHostError(String);

/// A host that is not on the list: answer 421 (RFC 9110 section 15.5.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this server does not answer for that host")]
pub struct HostRefused;

/// A list of hosts, each with its port or for every port, and of domains with all of their subdomains.
///
/// ```
/// use gimmal_security::allowed_hosts::AllowedHosts;
///
/// let hosts = AllowedHosts::new(["example.org", "*.example.org", "localhost:8080"])?;
/// assert_eq!(hosts.check(b"Example.org:443"), Ok("example.org:443".to_owned()));
/// assert!(hosts.check(b"a.b.example.org").is_ok() && hosts.check(b"localhost:8080").is_ok());
/// assert!(hosts.check(b"evil.example").is_err() && hosts.check(b"localhost").is_err());
/// # Ok::<(), gimmal_security::allowed_hosts::AllowedHostError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts {
    /// With `None`, for every port.
    hosts: HashSet<(String, Option<u16>)>,
    /// Domains whose subdomains are allowed.
    domains: HashSet<(String, Option<u16>)>,
}

impl AllowedHosts {
    /// Hosts as `example.org`, `example.org:8443` and `[::1]`, and domains as `*.example.org`, which does not include
    /// `example.org` itself.
    ///
    /// # Errors
    /// [`AllowedHostError`] names the first that is neither.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, AllowedHostError> {
        let mut list = Self::default();
        for text in hosts {
            let (set, host) = match text.strip_prefix("*.") {
                Some(domain) => (&mut list.domains, domain),
                None => (&mut list.hosts, text),
            };
            let HostPort { host, port } =
                HostPort::parse(host).ok_or_else(|| AllowedHostError(text.to_owned()))?;
            set.insert((host.trim_end_matches('.').to_ascii_lowercase(), port));
        }
        Ok(list)
    }

    /// Takes the value of `Host`, or the authority of the target, and returns it in lower case and without the dot
    /// that may end a name: the form in which to put it into links and cache keys.
    ///
    /// # Errors
    /// [`HostRefused`] if it is malformed or not on the list.
    pub fn check(&self, host: &[u8]) -> Result<String, HostRefused> {
        let text = std::str::from_utf8(host).map_err(|_| HostRefused)?;
        let HostPort { host, port } = HostPort::parse(text).ok_or(HostRefused)?;
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_allowed = contains(&self.hosts, &host, port)
            || parents(&host).any(|parent| contains(&self.domains, parent, port));
        match port {
            _ if !is_allowed => Err(HostRefused),
            Some(port) => Ok(format!("{host}:{port}")),
            None => Ok(host),
        }
    }
}

fn contains(set: &HashSet<(String, Option<u16>)>, host: &str, port: Option<u16>) -> bool {
    set.contains(&(host.to_owned(), None)) || (port.is_some() && set.contains(&(host.to_owned(), port)))
}

/// The domains that a host is a subdomain of.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').filter(|&(at, _)| at > 0).map(|(at, _)| &host[at + 1..])
}
