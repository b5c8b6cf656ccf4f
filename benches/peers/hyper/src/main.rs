//! hyper: a single-threaded Tokio runtime on each core, HTTP/1 only, pipelined answers flushed together. With files named
//! by TLS_CERTIFICATE and TLS_KEY it speaks HTTPS by tokio-rustls, with tickets that are shared among the cores.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use contract::{OTHER_ROUTES, PIECE, PLAINTEXT};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use matchit::Router;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

#[derive(Clone, Copy)]
enum Route {
    Plaintext,
    Json,
    User,
    Echo,
    Bytes,
    Upload,
    Other,
}

static ROUTER: LazyLock<Router<Route>> = LazyLock::new(|| {
    let mut router = Router::new();
    for (path, route) in [
        ("/plaintext", Route::Plaintext),
        ("/json", Route::Json),
        ("/users/{id}", Route::User),
        ("/echo", Route::Echo),
        ("/bytes/{n}", Route::Bytes),
        ("/upload", Route::Upload),
    ] {
        router.insert(path, route).unwrap();
    }
    for path in OTHER_ROUTES {
        router.insert(path, Route::Other).unwrap();
    }
    router
});

fn main() {
    let tls = tls();
    contract::on_each_core(move |listener| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, serve(listener, tls.clone()));
    });
}

fn tls() -> Option<TlsAcceptor> {
    let (certificate, key) = std::env::var("TLS_CERTIFICATE").ok().zip(std::env::var("TLS_KEY").ok())?;
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut http = http1::Builder::new();
    http.pipeline_flush(true);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        match &tls {
            None => drop(tokio::task::spawn_local(
                http.serve_connection(TokioIo::new(stream), service_fn(answer)),
            )),
            Some(tls) => {
                let (handshake, http) = (tls.accept(stream), http.clone());
                tokio::task::spawn_local(async move {
                    let Ok(stream) = Box::pin(handshake).await else { return };
                    let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                });
            }
        }
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let Ok(matched) = ROUTER.at(request.uri().path()) else {
        let mut response = Response::new(Answer::Full(None));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    let (content_type, body) = match matched.value {
        Route::Plaintext => ("text/plain", Answer::full(PLAINTEXT)),
        Route::Json => ("application/json", Answer::full(serde_json::to_vec(&contract::message()).unwrap())),
        Route::User => ("text/plain", Answer::full(matched.params.get("id").unwrap().to_owned())),
        Route::Echo => ("application/octet-stream", Answer::Echo(request.into_body())),
        Route::Bytes => {
            let bytes = matched.params.get("n").unwrap().parse().unwrap_or(0);
            ("application/octet-stream", Answer::Bytes(bytes))
        }
        Route::Upload => ("text/plain", Answer::full(count(request.body_mut()).await.to_string())),
        Route::Other => ("text/plain", Answer::full("ok")),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

async fn count(body: &mut Incoming) -> usize {
    let mut bytes = 0;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    bytes
}

enum Answer {
    Full(Option<Bytes>),
    Echo(Incoming),
    Bytes(usize),
}

impl Answer {
    fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Echo(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Bytes(0) => Poll::Ready(None),
            Self::Bytes(left) => {
                let piece = &PIECE[..PIECE.len().min(*left)];
                *left -= piece.len();
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Echo(incoming) => incoming.is_end_stream(),
            Self::Bytes(left) => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Echo(incoming) => incoming.size_hint(),
            Self::Bytes(left) => SizeHint::with_exact(*left as u64),
        }
    }
}
