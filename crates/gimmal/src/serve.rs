//! What runs on each core: accepting, TLS handshakes, and the way to the end.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gimmal_runtime::{Core, Listener, LocalFuture, Signal, Signals, Stream as Socket};
use gimmal_security::tls::{TlsError, TlsServerConfig};
use http::{HeaderValue, StatusCode, header};
use tracing::Instrument;

use crate::app::App;
use crate::certificates::Certificates;
use crate::connection;
use crate::error::Error;
use crate::handshakes::Handshakes;
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::router::{AppError, Blueprint};
use crate::server::{Binding, Protocol};
use crate::service::{Config, Service};
use crate::stream::Stream;

/// The answer to a client that speaks plain HTTP where TLS is spoken.
const PLAIN_HTTP: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 53\r\nconnection: close\r\n\r\nThis port speaks HTTPS: write https:// in the address";
/// How long a client that was refused may read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// The main future of a core: it ends when all connections have.
pub(crate) async fn serve(
    core: Rc<Core>,
    sockets: Vec<(OwnedFd, Binding)>,
    blueprint: Arc<Blueprint>,
    config: Config,
) {
    let shutdown = config.timeouts.shutdown;
    let handshakes = Rc::new(Handshakes::new(config.handshakes_max));
    let service = Service::new(&blueprint, config.clone());
    for (socket, binding) in sockets {
        let service = match binding.protocol {
            Protocol::RedirectToHttps(port) => redirecting(port, &config),
            _ => Ok(Rc::clone(&service)),
        };
        let listener = Listener::new(&core, socket);
        match (service, listener) {
            (Ok(service), Ok(listener)) => {
                let acceptor = Acceptor { binding, service, handshakes: Rc::clone(&handshakes) };
                core.spawn(accept(Rc::clone(&core), listener, Rc::new(acceptor)));
            }
            (Err(error), _) => tracing::error!(core = core.index(), %error, "the redirect cannot be served"),
            (_, Err(error)) => tracing::error!(core = core.index(), %error, "a socket cannot be accepted on"),
        }
    }
    core.draining().await;
    if tokio::time::timeout(shutdown, core.drained()).await.is_err() {
        tracing::warn!(
            core = core.index(),
            connections = core.open_connections(),
            "the time to stop is over; connections are cut off"
        );
    }
}

/// What becomes of the connections of one socket.
struct Acceptor {
    binding: Binding,
    service: Rc<Service>,
    handshakes: Rc<Handshakes>,
}

async fn accept(core: Rc<Core>, listener: Listener, acceptor: Rc<Acceptor>) {
    while let Some(socket) = listener.accept().await {
        let span = tracing::debug_span!("connection", id = %socket.id());
        let serving = match &acceptor.binding.tls {
            Some(_) => LocalFuture::new(Rc::clone(&acceptor).serve_tls(socket)),
            None => acceptor.serve(Stream::plain(socket)),
        };
        if span.is_disabled() {
            core.spawn(serving);
        } else {
            core.spawn(serving.instrument(span));
        }
    }
}

impl Acceptor {
    fn serve(&self, stream: Stream) -> LocalFuture<()> {
        match &self.binding.protocol {
            Protocol::Http | Protocol::RedirectToHttps(_) => {
                LocalFuture::new(connection::serve(stream, Rc::clone(&self.service)))
            }
            Protocol::Tcp(serve) => serve(stream),
        }
    }

    async fn serve_tls(self: Rc<Self>, socket: Socket) {
        let Some(tls) = &self.binding.tls else { return };
        // Boxed, so that an open connection does not keep the room that its handshake took.
        let Some(stream) = Box::pin(self.handshake(socket, tls)).await else { return };
        let serving = self.serve(stream);
        drop(self);
        serving.await;
    }

    async fn handshake(&self, socket: Socket, tls: &TlsServerConfig) -> Option<Stream> {
        socket.set_deadline(Some(self.service.config.timeouts.handshake));
        let turn = tokio::select! {
            biased;
            turn = self.handshakes.turn() => turn?,
            error = poll_fn(|cx| socket.poll_interrupted(cx)) => {
                tracing::debug!(%error, "a client was not taken in: too many handshakes are under way");
                return None;
            }
        };
        let accepted = tokio::select! {
            biased;
            accepted = Stream::accept_tls(socket, tls) => accepted,
            () = self.handshakes.give_way() => {
                tracing::debug!("a client was not taken in: it is slow, and others wait");
                return None;
            }
        };
        drop(turn);
        match accepted {
            Ok(stream) if stream.is_acme_challenge() => None,
            Ok(stream) => {
                stream.set_deadline(None);
                Some(stream)
            }
            Err((error, socket)) => {
                tracing::debug!(reason = error.label(), %error, "a TLS handshake failed");
                if error == TlsError::PlainHttp {
                    socket.queue(PLAIN_HTTP);
                }
                bid_farewell(&socket).await;
                None
            }
        }
    }
}

/// Lets a client read why it was refused: closing at once would reset the connection.
async fn bid_farewell(socket: &Socket) {
    socket.set_deadline(Some(FAREWELL));
    if socket.shutdown().await.is_ok() {
        while let Ok(bytes) = socket.recv().await
            && !bytes.is_empty()
        {}
    }
}

/// A service that sends every client to the same place over HTTPS.
fn redirecting(port: u16, config: &Config) -> Result<Rc<Service>, AppError> {
    let redirect = async move |request: Request| -> Result<Response, Error> {
        let host = request.authority().and_then(|authority| host_of(authority)).ok_or_else(|| {
            Error::new(StatusCode::BAD_REQUEST, "say in a Host field which server the request is for")
        })?;
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let query = request.query().map_or_else(String::new, |query| format!("?{query}"));
        let location = HeaderValue::try_from(format!("https://{host}{port}{}{query}", request.path()))?;
        Ok(([(header::LOCATION, location)], StatusCode::PERMANENT_REDIRECT).into_response())
    };
    let blueprint = Arc::new(Blueprint::new(App::new().fallback(redirect))?);
    Ok(Service::new(&blueprint, config.clone()))
}

/// The host of an authority, without its port. The codec has checked its form.
fn host_of(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    authority.get(..end).filter(|host| !host.is_empty())
}

/// Stops at SIGTERM and SIGINT, gracefully the first time and at once the second; reads certificates again at SIGHUP.
/// Each core sees to itself, since any of them may have stopped when the second signal comes.
pub(crate) async fn act_on_signals(core: Rc<Core>, certificates: Certificates) {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            return tracing::error!(%error, "signals cannot be watched; only a call stops the server");
        }
    };
    let is_first = core.index() == 0;
    loop {
        match signals.recv().await {
            Signal::Hangup if is_first => certificates.reload_off_core("SIGHUP").await,
            Signal::Hangup => {}
            signal if core.is_draining() => {
                tracing::warn!(%signal, core = core.index(), "stopping at once");
                core.handle().stop();
            }
            signal => {
                if is_first {
                    tracing::info!(%signal, "stopping: no new connections, and those that are busy have time to finish");
                }
                core.drain();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_has_the_length_that_it_says() {
        let (_, body) = PLAIN_HTTP.split_once("\r\n\r\n").unwrap();
        assert!(PLAIN_HTTP.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }

    #[test]
    fn a_host_loses_its_port() {
        for (authority, host) in [("a.b:80", "a.b"), ("a", "a"), ("[::1]:8080", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(host_of(authority), Some(host));
        }
        assert_eq!(host_of(":80"), None);
    }
}
