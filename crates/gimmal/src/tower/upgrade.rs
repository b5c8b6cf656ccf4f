//! Upgrades for services that wait for hyper's `OnUpgrade`.
//!
//! Only a connection of hyper's own makes one. So a request that asks for an upgrade is shown to such a connection, at
//! the other end of a pipe in memory, and its `OnUpgrade` is lent to the service. If the service switches protocols,
//! the pipe is tied to the real connection.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use gimmal_runtime::{LocalFuture, OutBuf};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use crate::request::Request;
use crate::stream::Stream;

/// Bytes that each direction of the pipe holds.
const PIPE_BYTES: usize = 64 * 1024;
/// What hyper is asked; the service sees the real request.
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nhost: pipe\r\nconnection: upgrade\r\nupgrade: pipe\r\n\r\n";

/// An `OnUpgrade` that was given out, and what it takes to keep its promise.
pub(super) struct Offer {
    /// Drives hyper's end of the pipe.
    connection: LocalFuture<()>,
    accept: oneshot::Sender<()>,
    pipe: DuplexStream,
}

impl Offer {
    /// Puts an `OnUpgrade` into `extensions` if the request asks for an upgrade.
    pub(super) async fn make(request: &Request, extensions: &mut http::Extensions) -> Option<Self> {
        if !request.head().parsed.upgrade() && *request.method() != Method::CONNECT {
            return None;
        }
        let (mut pipe, far_end) = tokio::io::duplex(PIPE_BYTES);
        // There is room for it.
        pipe.write_all(QUESTION).await.ok()?;
        let (offer, mut offered) = oneshot::channel();
        let (accept, accepted) = oneshot::channel();
        let mut connection = connect(far_end, offer, accepted);
        let on_upgrade = poll_fn(|cx| {
            if let Poll::Ready(()) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(None);
            }
            Pin::new(&mut offered).poll(cx).map(Result::ok)
        })
        .await?;
        extensions.insert(on_upgrade);
        Some(Self { connection, accept, pipe })
    }

    /// Ties the pipe to the connection, which the service has answered with a switch of protocols.
    pub(super) async fn take_over(self, stream: Stream) {
        let _ = self.accept.send(());
        let (from_service, to_service) = tokio::io::split(self.pipe);
        let inwards = async {
            tokio::join!(self.connection, carry_in(&stream, to_service));
            // The service may have more to say to a client that has ended its side.
            pending::<()>().await;
        };
        tokio::select! {
            () = carry_out(from_service, &stream) => {}
            () = inwards => {}
        }
    }
}

/// A connection of hyper's over the far end of the pipe, which answers one request with a switch of protocols once
/// that is accepted.
fn connect(
    far_end: DuplexStream,
    offer: oneshot::Sender<OnUpgrade>,
    accepted: oneshot::Receiver<()>,
) -> LocalFuture<()> {
    let ends = Cell::new(Some((offer, accepted)));
    let service = service_fn(move |request| {
        let ends = ends.take();
        async move {
            let mut response = http::Response::new(String::new());
            if let Some((offer, accepted)) = ends {
                let _ = offer.send(hyper::upgrade::on(request));
                if accepted.await.is_ok() {
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    let headers = response.headers_mut();
                    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                    headers.insert(header::UPGRADE, HeaderValue::from_static("pipe"));
                }
            }
            Ok::<_, Infallible>(response)
        }
    });
    LocalFuture::new(async move {
        let served = http1::Builder::new().serve_connection(TokioIo::new(far_end), service).with_upgrades();
        if let Err(error) = served.await {
            tracing::debug!(%error, "a connection could not be given to a service");
        }
    })
}

async fn carry_in(stream: &Stream, mut to_service: WriteHalf<DuplexStream>) {
    while let Ok(bytes) = stream.recv().await {
        if bytes.is_empty() || to_service.write_all(&bytes).await.is_err() {
            break;
        }
    }
    let _ = to_service.shutdown().await;
}

async fn carry_out(mut from_service: ReadHalf<DuplexStream>, stream: &Stream) {
    let mut out = OutBuf::take();
    // Hyper's own answer to the question is nobody's business.
    let answer_end = loop {
        match from_service.read_buf(&mut *out).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(at) = out.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
    };
    out.drain(..answer_end);
    loop {
        if !out.is_empty() && stream.send(std::mem::replace(&mut out, OutBuf::take())).await.is_err() {
            return;
        }
        match from_service.read_buf(&mut *out).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let _ = stream.shutdown().await;
}
