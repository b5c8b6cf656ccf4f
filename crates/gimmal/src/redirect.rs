//! Plain HTTP that leads to HTTPS.

use std::borrow::Cow;

use gimmal_security::allowed_hosts::AllowedHosts;
use gimmal_security::tls::TlsServerConfig;
use http::{HeaderValue, StatusCode, header};

use crate::app::App;
use crate::error::Error;
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::server::{Binding, Protocol};

/// The hosts that clients may be sent to: never one that a client made up.
#[derive(Clone, Debug)]
pub(crate) enum RedirectHosts {
    /// Those that the app answers for.
    Allowed(AllowedHosts),
    /// Those that this server has certificates for.
    Certified(Vec<TlsServerConfig>),
    /// Nobody has said which are the server's own.
    Any,
}

impl RedirectHosts {
    pub(crate) fn of(app: &App, bindings: &[Binding]) -> Self {
        if let Some(hosts) = app.middleware.iter().find_map(|middleware| middleware.allowed_hosts.clone()) {
            return Self::Allowed(hosts);
        }
        let https = bindings.iter().filter(|binding| matches!(binding.protocol, Protocol::Http));
        let certified: Vec<_> = https.filter_map(|binding| binding.tls.clone()).collect();
        if certified.is_empty() { Self::Any } else { Self::Certified(certified) }
    }

    /// The authority to send a client to that asks for `host`, if it is one of the server's.
    fn authority(&self, host: &str, port: u16) -> Option<String> {
        let authority = if port == 443 { Cow::Borrowed(host) } else { format!("{host}:{port}").into() };
        match self {
            Self::Allowed(hosts) => hosts.check(authority.as_bytes()).ok().map(Cow::into_owned),
            Self::Certified(configs) => {
                configs.iter().any(|tls| tls.is_for_host(host)).then(|| authority.into_owned())
            }
            Self::Any => Some(authority.into_owned()),
        }
    }
}

/// Sends every client to the same place over HTTPS, on this port.
pub(crate) fn to_https(port: u16, hosts: RedirectHosts) -> App {
    App::new().fallback(async move |request: Request| -> Result<Response, Error> {
        let host = request.authority().and_then(host_of).ok_or_else(|| {
            Error::new(StatusCode::BAD_REQUEST, "say in a Host field which server the request is for")
        })?;
        let authority = hosts.authority(host, port).ok_or_else(|| {
            Error::new(StatusCode::MISDIRECTED_REQUEST, "this server does not answer for that host")
        })?;
        let query = request.query().map_or_else(String::new, |query| format!("?{query}"));
        let location = HeaderValue::try_from(format!("https://{authority}{}{query}", request.path()))?;
        Ok(([(header::LOCATION, location)], StatusCode::PERMANENT_REDIRECT).into_response())
    })
}

/// The host of an authority, without its port. The codec has checked its form.
fn host_of(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    authority.get(..end).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_loses_its_port() {
        for (authority, host) in [("a.b:80", "a.b"), ("a", "a"), ("[::1]:8080", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(host_of(authority), Some(host));
        }
        assert_eq!(host_of(":80"), None);
    }
}
