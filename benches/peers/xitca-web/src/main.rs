//! xitca-web on io_uring.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use contract::{Message, PIECE, PLAINTEXT};
use xitca_web::App;
use xitca_web::body::{Body, BodyExt as _, Frame, RequestBody, ResponseBody, SizeHint};
use xitca_web::bytes::Bytes;
use xitca_web::handler::body::Body as RequestStream;
use xitca_web::handler::handler_service;
use xitca_web::handler::json::Json;
use xitca_web::handler::params::Params;
use xitca_web::http::WebResponse;
use xitca_web::http::header::{CONTENT_TYPE, HeaderValue};
use xitca_web::route::{get, post};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The application with all of [`contract::OTHER_ROUTES`]: each changes its type, so they cannot come from a loop.
macro_rules! with_other_routes {
    ($app:expr, $($path:literal)*) => {
        $app$(.at($path, get(handler_service(other))))*
    };
}

fn main() -> std::io::Result<()> {
    let (args, listener) = contract::listen_once();
    let app = App::new()
        .at("/plaintext", get(handler_service(plaintext)))
        .at("/json", get(handler_service(json)))
        .at("/users/{id}", get(handler_service(user)))
        .at("/echo", post(handler_service(echo)))
        .at("/bytes/{n}", get(handler_service(bytes)))
        .at("/upload", post(handler_service(upload)));
    let app = with_other_routes!(
        app,
        "/" "/health" "/metrics" "/users" "/users/{id}/posts" "/users/{id}/posts/{post}" "/users/{id}/followers"
        "/users/{id}/settings" "/posts" "/posts/{post}" "/posts/{post}/comments" "/posts/{post}/comments/{comment}"
        "/posts/{post}/likes" "/tags" "/tags/{tag}" "/search" "/login" "/logout" "/sessions/{session}"
        "/files/{name}" "/orders" "/orders/{order}" "/orders/{order}/items/{item}" "/admin/reports/{year}/{month}"
    );
    let server = app
        .serve()
        .enable_io_uring()
        .worker_threads(args.cores)
        .backlog(4096)
        .disable_vectored_write()
        .listen(listener)?
        .run();
    contract::announce(args.addr);
    std::io::stdout().flush()?;
    server.wait()
}

fn with_type(content_type: HeaderValue, body: ResponseBody) -> WebResponse {
    let mut response = WebResponse::new(body);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

async fn plaintext() -> WebResponse {
    with_type(TEXT, ResponseBody::bytes(PLAINTEXT))
}

async fn json() -> Json<Message> {
    Json(contract::message())
}

async fn user(Params(id): Params<String>) -> WebResponse {
    with_type(TEXT, ResponseBody::bytes(id))
}

async fn echo(body: Vec<u8>) -> WebResponse {
    with_type(OCTETS, ResponseBody::bytes(body))
}

async fn bytes(Params(n): Params<usize>) -> WebResponse {
    with_type(OCTETS, ResponseBody::boxed(Pieces(n)))
}

async fn upload(RequestStream(body): RequestStream<RequestBody>) -> WebResponse {
    let mut body = pin!(body);
    let mut bytes = 0;
    while let Some(Ok(piece)) = body.as_mut().data().await {
        bytes += piece.len();
    }
    with_type(TEXT, ResponseBody::bytes(bytes.to_string()))
}

async fn other() -> &'static str {
    "ok"
}

struct Pieces(usize);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = &PIECE[..PIECE.len().min(self.0)];
        self.0 -= piece.len();
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::Data(Bytes::from_static(piece)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::Exact(self.0 as u64)
    }
}
