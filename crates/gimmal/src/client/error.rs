//! Why a request did not get its response.

use std::io;

use gimmal_http::ResponseError;
use gimmal_security::tls::{TlsConfigError, TlsError};
use http::StatusCode;

use crate::body::BodyError;

/// What a request was at when its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Opening a connection.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Sending the request.
    Send,
    /// Waiting for the head of the response.
    Head,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "opening a connection",
            Self::Handshake => "the TLS handshake",
            Self::Send => "sending the request",
            Self::Head => "waiting for the response",
        })
    }
}

/// Why a request did not get its response. What goes wrong in the body of the response is a
/// [`BodyError`] of the body.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The calling thread is not a core.
    #[error("a client works on a core alone: use it in a handler, or in a future of Cores")]
    NoCore,
    /// Neither `http://HOST[:PORT]/PATH[?QUERY]` nor the same with `https`.
    #[error("the URL is malformed: write http://HOST[:PORT]/PATH[?QUERY], or https in place of http ({0})")]
    Url(&'static str),
    /// A header field or a body that was to be made from a value could not be.
    #[error("the request cannot be made: {0}")]
    Request(#[source] Box<dyn std::error::Error>),
    /// The name of the server has no address.
    #[error("the name of {server} cannot be resolved: {source}")]
    Resolve {
        /// The server as the URL names it.
        server: Box<str>,
        /// What the system's resolver said.
        source: io::Error,
    },
    /// No connection could be opened; nothing was sent.
    #[error("{server} cannot be connected to: {source}")]
    Connect {
        /// The server as the URL names it.
        server: Box<str>,
        /// What connecting failed with.
        source: io::Error,
    },
    /// The system has no roots to trust; nothing was sent.
    #[error("HTTPS needs somebody to trust: {0}")]
    Roots(#[source] TlsConfigError),
    /// The server has not proved itself, or the two sides have nothing in common; nothing was sent.
    #[error("the TLS handshake with {server} failed: {source}")]
    Handshake {
        /// The server as the URL names it.
        server: Box<str>,
        /// What is wrong, and what to do.
        source: TlsError,
    },
    /// The server has closed the connection, or it broke, before the head of a response had come. Over TLS 1.3 this
    /// is also how a server refuses a client without a certificate: a [`TlsError`] is in the error then.
    #[error("the connection to {server} ended before the response: {source}")]
    Closed {
        /// The server as the URL names it.
        server: Box<str>,
        /// What ended it.
        source: io::Error,
    },
    /// It took longer than the options allow.
    #[error("{0} took too long")]
    TimedOut(Phase),
    /// A response that breaks RFC 9112, or is ambiguous.
    #[error("the response is malformed: {0}")]
    Malformed(#[source] ResponseError),
    /// The server switches to another protocol, of which nothing was said.
    #[error("the server switches to a protocol that it was not asked for")]
    UnaskedUpgrade,
    /// The server sends one interim response after the other (RFC 9110, section 15.2), and no final one.
    #[error("the server sends too many interim responses, and no final one")]
    TooManyInterim,
    /// The body of the request failed.
    #[error("the body of the request failed: {0}")]
    Body(#[source] BodyError),
    /// The server redirects in circles, or to where no request can go.
    #[error("a redirect cannot be followed: {0}")]
    Redirect(&'static str),
}

impl ClientError {
    /// Returns the status with which a server answers when it needed the response.
    ///
    /// | What | Status |
    /// | --- | --- |
    /// | the server that was asked cannot be reached, breaks off or makes no sense | 502 |
    /// | it took too long | 504 |
    /// | this server has as many connections as it may have | 503 |
    /// | the body of the request failed | that of [`BodyError::status`] |
    /// | the request could not be made | 500 |
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoCore | Self::Url(_) | Self::Request(_) | Self::Roots(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Connect { source, .. } | Self::Resolve { source, .. }
                if source.kind() == io::ErrorKind::ResourceBusy =>
            {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Body(error) => error.status(),
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::Closed { .. }
            | Self::Malformed(_)
            | Self::UnaskedUpgrade
            | Self::TooManyInterim
            | Self::Redirect(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether it is certain that the server has seen nothing of the request, so that it can be sent to another.
    #[must_use]
    pub fn is_before_sending(&self) -> bool {
        matches!(
            self,
            Self::NoCore
                | Self::Url(_)
                | Self::Request(_)
                | Self::Resolve { .. }
                | Self::Connect { .. }
                | Self::Roots(_)
                | Self::Handshake { .. }
                | Self::TimedOut(Phase::Connect | Phase::Handshake)
        )
    }
}
