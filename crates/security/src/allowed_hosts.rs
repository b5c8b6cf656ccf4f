//! The hosts that this server answers for.
//!
//! A link in a password mail, or a cached page, that is built from the `Host` field leads wherever the sender of the
//! request liked. So the field must be one of those that the server knows.

use std::borrow::Cow;
use std::collections::HashMap;

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
/// assert_eq!(hosts.check(b"Example.org:443"), Ok("example.org:443".into()));
/// assert!(hosts.check(b"a.b.example.org").is_ok() && hosts.check(b"localhost:8080").is_ok());
/// assert!(hosts.check(b"evil.example").is_err() && hosts.check(b"localhost").is_err());
/// # Ok::<(), gimmal_security::allowed_hosts::AllowedHostError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts {
    hosts: Ports,
    /// Domains whose subdomains are allowed.
    domains: Ports,
}

/// The ports that are allowed for a name; `None` stands for every one.
type Ports = HashMap<String, Vec<Option<u16>>>;

impl AllowedHosts {
    /// Hosts as `example.org`, `example.org:8443` and `[::1]`, and domains as `*.example.org`, which does not include
    /// `example.org` itself.
    ///
    /// # Errors
    /// [`AllowedHostError`] names the first that is neither.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, AllowedHostError> {
        let mut list = Self::default();
        for text in hosts {
            let (names, host) = match text.strip_prefix("*.") {
                Some(domain) => (&mut list.domains, domain),
                None => (&mut list.hosts, text),
            };
            let HostPort { host, port } =
                HostPort::parse(host).ok_or_else(|| AllowedHostError(text.to_owned()))?;
            names.entry(host.trim_end_matches('.').to_ascii_lowercase()).or_default().push(port);
        }
        Ok(list)
    }

    /// Takes the value of `Host`, or the authority of the target, and returns it in lower case and without the dot
    /// that may end a name: the form in which to put it into links and cache keys.
    ///
    /// # Errors
    /// [`HostRefused`] if it is malformed or not on the list.
    pub fn check<'a>(&self, host: &'a [u8]) -> Result<Cow<'a, str>, HostRefused> {
        let text = std::str::from_utf8(host).map_err(|_| HostRefused)?;
        let HostPort { host, port } = HostPort::parse(text).ok_or(HostRefused)?;
        let name = host.strip_suffix('.').unwrap_or(host);
        let is_normal = name.len() == host.len() && !host.bytes().any(|byte| byte.is_ascii_uppercase());
        let normal = if is_normal { Cow::Borrowed(text) } else { Cow::Owned(normal(name, port)) };
        let name = &normal[..name.len()];
        let is_listed = |names: &Ports, name: &str| {
            names.get(name).is_some_and(|ports| ports.contains(&None) || ports.contains(&port))
        };
        if is_listed(&self.hosts, name) || parents(name).any(|parent| is_listed(&self.domains, parent)) {
            Ok(normal)
        } else {
            Err(HostRefused)
        }
    }
}

fn normal(name: &str, port: Option<u16>) -> String {
    let name = name.to_ascii_lowercase();
    match port {
        Some(port) => format!("{name}:{port}"),
        None => name,
    }
}

/// The domains that a host is a subdomain of.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').filter(|&(at, _)| at > 0).map(|(at, _)| &host[at + 1..])
}
