//! The contract as an axum application.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Json};
use axum::routing::{get, post};
use bytes::Bytes;
use contract::{Message, OTHER_ROUTES, PIECE, PLAINTEXT};
use http_body::{Body as _, Frame, SizeHint};

const TEXT: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "text/plain")];
const OCTETS: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/octet-stream")];

pub fn router() -> axum::Router {
    let mut router = axum::Router::new()
        .route("/plaintext", get(plaintext))
        .route("/json", get(json))
        .route("/users/{id}", get(user))
        .route("/echo", post(echo))
        .route("/bytes/{n}", get(bytes))
        .route("/upload", post(upload));
    for path in OTHER_ROUTES {
        router = router.route(path, get(other));
    }
    router.layer(DefaultBodyLimit::disable())
}

async fn plaintext() -> impl IntoResponse {
    (TEXT, PLAINTEXT)
}

async fn json() -> Json<Message> {
    Json(contract::message())
}

async fn user(Path(id): Path<String>) -> impl IntoResponse {
    (TEXT, id)
}

async fn echo(body: Body) -> impl IntoResponse {
    (OCTETS, body)
}

async fn bytes(Path(n): Path<usize>) -> impl IntoResponse {
    (OCTETS, Body::new(Pieces(n)))
}

async fn upload(mut body: Body) -> impl IntoResponse {
    let mut bytes = 0;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    (TEXT, bytes.to_string())
}

async fn other() -> &'static str {
    "ok"
}

struct Pieces(usize);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = &PIECE[..PIECE.len().min(self.0)];
        self.0 -= piece.len();
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(Bytes::from_static(piece)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0 as u64)
    }
}
