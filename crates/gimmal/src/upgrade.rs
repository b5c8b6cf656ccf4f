//! Switching a connection to another protocol (RFC 9110, section 7.8).

use std::fmt;
use std::future::Future;

use gimmal_runtime::LocalFuture;
use http::{HeaderValue, StatusCode, header};

use crate::response::Response;
use crate::stream::Stream;

/// What goes on with a connection after its last HTTP response.
pub(crate) struct Upgrade(Box<dyn FnOnce(Stream) -> LocalFuture<()>>);

impl Upgrade {
    pub(crate) fn run(self, stream: Stream) -> LocalFuture<()> {
        (self.0)(stream)
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}

impl Response {
    /// A `101 Switching Protocols` to `protocol`, after which `serve` has the connection. Answer with it only a
    /// request that asks for the protocol in its `Upgrade` field; for any other it becomes a 500.
    ///
    /// ```
    /// use gimmal::{App, HeaderValue, Response};
    ///
    /// async fn upgrade() -> Response {
    ///     Response::switching_protocols(HeaderValue::from_static("echo"), |stream| async move {
    ///         while let Ok(bytes) = stream.recv().await {
    ///             if bytes.is_empty() || stream.send(bytes).await.is_err() {
    ///                 break;
    ///             }
    ///         }
    ///     })
    /// }
    /// let app = App::new().get("/echo", upgrade);
    /// ```
    pub fn switching_protocols<F: Future<Output = ()> + 'static>(
        protocol: HeaderValue,
        serve: impl FnOnce(Stream) -> F + 'static,
    ) -> Self {
        let mut response = Self::default()
            .with_status(StatusCode::SWITCHING_PROTOCOLS)
            .with_header(header::CONNECTION, HeaderValue::from_static("upgrade"))
            .with_header(header::UPGRADE, protocol);
        response.set_upgrade(Upgrade(Box::new(move |stream| LocalFuture::new(serve(stream)))));
        response
    }

    /// The 200 that opens the tunnel of a CONNECT request (RFC 9110, section 9.3.6), after which `serve` has the
    /// connection.
    ///
    /// No other success answers a CONNECT, since it would promise a tunnel: it becomes a 501. After every answer
    /// that opens no tunnel the connection is closed, so that nothing meant for the tunnel is read as a request.
    pub fn tunnel<F: Future<Output = ()> + 'static>(serve: impl FnOnce(Stream) -> F + 'static) -> Self {
        let mut response = Self::default();
        response.set_upgrade(Upgrade(Box::new(move |stream| LocalFuture::new(serve(stream)))));
        response
    }
}
