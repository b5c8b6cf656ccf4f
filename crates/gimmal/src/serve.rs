//! What runs on each core: accepting, TLS handshakes, and the way to the end.

use std::cell::Cell;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gimmal_runtime::{
    Address, Core, CoreHandle, CoresError, Listener, LocalFuture, Signal, Signals, Stream as Socket,
};
use gimmal_security::forwarded::TrustedProxies;
use gimmal_security::tls::{TlsError, TlsServerConfig};
use tracing::Instrument;

use crate::certificates::Certificates;
use crate::connection;
use crate::handshakes::Handshakes;
use crate::proxy_protocol;
use crate::router::Blueprint;
use crate::server::{Binding, Protocol};
use crate::service::{Config, Service};
use crate::stream::Stream;

/// The answer to a client that speaks plain HTTP where TLS is spoken.
const PLAIN_HTTP: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 53\r\nconnection: close\r\n\r\nThis port speaks HTTPS: write https:// in the address";
/// How long a client that was refused may read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// A socket that is listened on, and what is served on it.
pub(crate) struct Listening {
    pub(crate) socket: OwnedFd,
    pub(crate) binding: Binding,
    /// What answers there in place of the app.
    pub(crate) own: Option<Arc<Blueprint>>,
}

/// The main future of a core: it ends when all connections have.
pub(crate) async fn serve(
    core: Rc<Core>,
    listening: Vec<Listening>,
    blueprint: Arc<Blueprint>,
    config: Config,
) -> Result<(), CoresError> {
    let shutdown = config.timeouts.shutdown;
    let handshakes = Rc::new(Handshakes::new(config.handshakes_max));
    let service = Service::new(&blueprint, config.clone());
    for Listening { socket, binding, own } in listening {
        let service =
            own.map_or_else(|| Rc::clone(&service), |blueprint| Service::new(&blueprint, config.clone()));
        match Listener::new(&core, socket) {
            Ok(listener) => {
                let acceptor = Acceptor { binding, service, handshakes: Rc::clone(&handshakes) };
                core.spawn(accept(Rc::clone(&core), listener, Rc::new(acceptor)));
            }
            Err(source) => {
                tracing::error!(core = core.index(), error = %source, "a socket cannot be accepted on; the server stops");
                core.handles().iter().for_each(CoreHandle::drain);
                return Err(CoresError::Start { core: core.index(), what: "its listener", source });
            }
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
    Ok(())
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
        let serving = match &acceptor.binding {
            Binding { tls: None, proxies: None, .. } => acceptor.serve(Stream::plain(socket)),
            _ => LocalFuture::new(Rc::clone(&acceptor).begin_and_serve(socket)),
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

    async fn begin_and_serve(self: Rc<Self>, socket: Socket) {
        // Boxed, so that an open connection does not keep the room that its beginning took.
        let Some(stream) = Box::pin(self.begin(socket)).await else { return };
        let serving = self.serve(stream);
        drop(self);
        serving.await;
    }

    /// What comes before the service's first byte: a proxy's word on who the client is, and the TLS handshake.
    async fn begin(&self, socket: Socket) -> Option<Stream> {
        let client = match &self.binding.proxies {
            Some(proxies) => self.read_proxy_header(&socket, proxies).await?,
            None => None,
        };
        let stream = match &self.binding.tls {
            Some(tls) => self.handshake(socket, tls).await?,
            None => Stream::plain(socket),
        };
        if let Some(client) = client {
            stream.set_peer(client);
        }
        Some(stream)
    }

    /// The client; `None` inside if the proxy speaks for itself.
    async fn read_proxy_header(&self, socket: &Socket, proxies: &TrustedProxies) -> Option<Option<Address>> {
        socket.set_deadline(Some(self.service.config.timeouts.header_read));
        match proxy_protocol::read(socket, proxies).await {
            Ok(client) => {
                socket.set_deadline(None);
                Some(client)
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was refused where the PROXY protocol is required");
                None
            }
        }
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

/// Stops at SIGTERM and SIGINT, gracefully the first time and at once the second; reads certificates again at SIGHUP.
/// Each core sees to itself, since any of them may have stopped when the second signal comes.
pub(crate) async fn act_on_signals(core: Rc<Core>, certificates: Certificates, does_chores: Rc<Cell<bool>>) {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            return tracing::error!(%error, "signals cannot be watched; only a call stops the server");
        }
    };
    let is_first = core.index() == 0;
    loop {
        match signals.recv().await {
            Signal::Hangup if does_chores.get() => certificates.reload_off_core("SIGHUP").await,
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
}
