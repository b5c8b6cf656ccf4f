//! The audit log: what happens to requests that bears on security.
//!
//! [`App::audit_log`](crate::App::audit_log) turns it on. Recorded are log-ins with a password, at an OpenID provider or by
//! Digest that fail, lock-outs, log-outs and revoked sessions, refusals (401, 403), forged requests, clients that ask too
//! much, requests for other hosts, decompression and JSON bombs, what [`Server::check`](crate::Server::check) finds,
//! certificates that are read again, and the start and the stop of the server. Of an app's own events a handler tells by
//! way of [`Audit`].
//!
//! Each record is a line of JSON in a chain of hashes, and a `tracing` event of the target `gimmal::audit`; without an
//! audit log, the latter alone. The command `gimmal-audit`, of the crate `gimmal-security`, verifies the chain.
//!
//! ```no_run
//! use gimmal::{App, Server};
//! use gimmal::audit::AuditLog;
//!
//! let app = App::new().get("/", async || "Hello, World!").audit_log(AuditLog::open("audit.jsonl", None)?);
//! Server::new(app).bind("127.0.0.1:8080").run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use gimmal_security::Principal;
use gimmal_security::audit::AuditRecord;
pub use gimmal_security::audit::{AuditEvent, AuditLog, AuditOpenError, ChainHead};

use crate::defence::ClientAddress;
use crate::error::Error;
use crate::extract::{FromRequest, State};
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
    pub(crate) fn address(&self) -> IpAddr {
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
        write(self.log.as_ref().map(|log| &***log), &record);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Records an event without a request.
pub(crate) fn record_of_server(log: Option<&Arc<AuditLog>>, event: AuditEvent<'_>) {
    write(log.map(|log| &**log), &AuditRecord::new(event));
}

fn write(log: Option<&AuditLog>, record: &AuditRecord<'_>) {
    if let Err(error) = log.unwrap_or(&TRACING_ALONE).record(record, SystemTime::now()) {
        tracing::error!(%error, "the audit log cannot be written");
    }
}

/// Records that the server has stopped, when the last of its cores has.
#[derive(Debug)]
pub(crate) struct RecordsStop(pub(crate) Option<Arc<AuditLog>>);

impl Drop for RecordsStop {
    fn drop(&mut self) {
        record_of_server(self.0.as_ref(), AuditEvent::ServerStopped);
    }
}

/// Records an app's own events of security, with the request and the [`Principal`] in whose they happen.
///
/// ```
/// use gimmal::App;
/// use gimmal::audit::{Audit, AuditEvent};
/// use gimmal::auth::{Mechanism, Principal};
///
/// async fn set_password(principal: Principal, audit: Audit) {
///     // ... store the new one, then:
///     audit.record(AuditEvent::CredentialChanged { account: principal.id(), mechanism: Mechanism::Password });
/// }
/// let app = App::new().post("/password", set_password);
/// ```
#[derive(Debug)]
pub struct Audit {
    recorder: Recorder,
    principal: Option<Principal>,
}

impl Audit {
    /// Records an event. Where the log cannot be written, that is logged as an error, and the event with it.
    pub fn record(&self, event: AuditEvent<'_>) {
        self.recorder.record(event, self.principal.as_ref().map(Principal::id));
    }
}

impl FromRequest for Audit {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let principal = request.extensions().get::<Principal>().cloned();
        Ok(Self { recorder: Recorder::of(request).await, principal })
    }
}
