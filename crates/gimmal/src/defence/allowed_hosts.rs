//! Requests for hosts that are not this server's are refused.

use gimmal_security::allowed_hosts::AllowedHosts;
use gimmal_security::audit::AuditEvent;
use http::StatusCode;

use super::around::Around;
use super::client_address;
use crate::audit::Recorder;
use crate::error::Error;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

impl Around for AllowedHosts {
    async fn around(&self, mut request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        match admit(self, &mut request).await {
            Ok(()) => rest(request).await,
            Err(error) => {
                let event = AuditEvent::AttackRefused { guard: "allowed_hosts", reason: error.message() };
                Recorder::of(&request).await.record(event, None);
                error.into_response()
            }
        }
    }
}

async fn admit(hosts: &AllowedHosts, request: &mut Request) -> Result<(), Error> {
    let asked = client_address::host(request).unwrap_or_default();
    let host = hosts.check(asked.as_bytes()).map_err(|refused| {
        let message = "this server does not answer for that host";
        Error::new(StatusCode::MISDIRECTED_REQUEST, message).with_source(refused)
    })?;
    let host = host.into_owned();
    client_address::set_host(request, host).await?;
    Ok(())
}
