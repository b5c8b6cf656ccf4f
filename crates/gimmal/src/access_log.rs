//! One line for each request.

use std::sync::LazyLock;
use std::time::Instant;

use gimmal_security::redaction::Redaction;
use http::{Method, StatusCode};

use crate::connection::Connection;
use crate::request::{Head, RequestId};

/// Keeps a path on one line of sensible length.
static REDACTION: LazyLock<Redaction> = LazyLock::new(Redaction::default);

/// What is known of a request before its handler runs.
pub(crate) struct AccessRecord {
    started: Instant,
    id: RequestId,
    method: Method,
    /// Without the query, which may hold what is secret.
    path: String,
}

impl AccessRecord {
    pub(crate) fn new(connection: &Connection, head: &Head) -> Self {
        Self {
            started: Instant::now(),
            id: RequestId::new(connection.id(), connection.number()),
            method: head.parsed.method().clone(),
            path: head.path().to_owned(),
        }
    }

    /// Writes the line, as an event of the target `gimmal::access`. `bytes` are those of the body, where it was sent
    /// to its end.
    pub(crate) async fn write(self, connection: &Connection, status: StatusCode, bytes: Option<u64>) {
        let peer = connection.peer_addr().await.ok();
        tracing::info!(
            target: "gimmal::access",
            request = %self.id,
            peer = peer.map(tracing::field::display),
            method = %self.method,
            path = %REDACTION.target(&self.path),
            status = status.as_u16(),
            bytes,
            duration_us = self.started.elapsed().as_micros() as u64,
        );
    }
}
