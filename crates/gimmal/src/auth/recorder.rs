//! What happens to requests that bears on security, on its way to the audit log.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use gimmal_runtime::Address;
use gimmal_security::audit::{AuditEvent, AuditLog, AuditRecord};

use crate::extract::State;
use crate::request::{Request, RequestId};

/// Where events go in an app without an audit log: to `tracing` alone.
static TRACING_ALONE: LazyLock<AuditLog> = LazyLock::new(|| AuditLog::new(std::io::sink(), None));

/// Records the events of one request.
#[derive(Clone)]
pub(super) struct Recorder {
    log: Option<State<Arc<AuditLog>>>,
    client: Option<IpAddr>,
    request: RequestId,
}

impl Recorder {
    pub(super) async fn of(request: &Request) -> Self {
        let client = request.peer_addr().await.ok();
        Self {
            log: request.state().map(State),
            client: client.and_then(|address| address.as_tcp()).map(|address| address.ip()),
            request: request.id(),
        }
    }

    /// The address under which attempts are counted. Whoever comes over a Unix socket counts as this machine.
    pub(super) fn address(&self) -> IpAddr {
        self.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    pub(super) fn record(&self, event: AuditEvent<'_>, principal: Option<&str>) {
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

/// Whether nobody on the way can read what the client sends: TLS, or a client on this machine.
pub(super) fn is_confidential(is_tls: bool, peer: Option<&Address>) -> bool {
    is_tls || peer.is_some_and(Address::is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_over_plain_http_is_safe_on_this_machine_alone() {
        let confidential = |is_tls, peer: &str| is_confidential(is_tls, Some(&peer.parse().unwrap()));
        assert!(confidential(false, "127.0.0.1:5000"));
        assert!(confidential(false, "[::1]:5000"));
        assert!(confidential(false, "unix:/run/x.sock"));
        assert!(confidential(true, "192.0.2.1:5000"));
        assert!(!confidential(false, "192.0.2.1:5000"));
        assert!(!confidential(false, "10.0.0.1:5000"));
        assert!(!is_confidential(false, None), "a peer that is gone");
    }
}
