//! What happens to requests that bears on security, on its way to the audit log.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use gimmal_runtime::Address;
use gimmal_security::audit::{AuditEvent, AuditLog, AuditRecord};

use crate::defence::ClientAddress;
use crate::extract::State;
use crate::request::{Request, RequestId};

/// Where events go in an app without an audit log: to `tracing` alone.
static TRACING_ALONE: LazyLock<AuditLog> = LazyLock::new(|| AuditLog::new(std::io::sink(), None));

/// Records the events of one request.
#[derive(Clone)]
pub(crate) struct Recorder {
    log: Option<State<Arc<AuditLog>>>,
    client: Option<IpAddr>,
    request: RequestId,
}

impl Recorder {
    pub(crate) async fn of(request: &Request) -> Self {
        // What trusted proxies say comes before what the connection does.
        let client = match request.extensions().get::<ClientAddress>() {
            Some(client) => Some(client.address()),
            None => request.peer_addr().await.ok().and_then(|address| address.as_tcp()).map(|peer| peer.ip()),
        };
        Self { log: request.state().map(State), client, request: request.id() }
    }

    /// The address under which attempts are counted. Whoever comes over a Unix socket counts as this machine.
    pub(super) fn address(&self) -> IpAddr {
        self.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    pub(crate) fn record(&self, event: AuditEvent<'_>, principal: Option<&str>) {
        let request = self.request.to_string();
        let mut record = AuditRecord::new(event).request(&request);
        if let Some(principal) = principal {
            record = record.principal(principal);
        }
        if let Some(client) = self.client {
            record = record.client(client);
        }
        let log = self.log.as_ref().map_or(&*TRACING_ALONE, |log| &***log);
        if let Err(error) = log.record(&record, SystemTime::now()) {
            tracing::error!(%error, request, "the audit log cannot be written");
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Whether the client speaks TLS, to this server or to a trusted proxy before it.
pub(super) fn is_secure(request: &Request) -> bool {
    request.extensions().get().map_or_else(|| request.is_tls(), ClientAddress::is_secure)
}

/// Whether nobody on the way can read what the client sends: TLS, or a client on this machine.
pub(super) async fn is_confidential(request: &Request) -> bool {
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
