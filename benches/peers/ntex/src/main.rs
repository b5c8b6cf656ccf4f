//! ntex on its own io_uring runtime (`neon-uring`).

use std::error::Error;
use std::rc::Rc;

use contract::{BODY_BYTES_MAX, OTHER_ROUTES, PIECE, PLAINTEXT};
use futures_util::{StreamExt as _, stream};
use ntex::SharedCfg;
use ntex::http::body::SizedStream;
use ntex::http::{HttpServiceConfig, KeepAlive};
use ntex::time::Seconds;
use ntex::util::Bytes;
use ntex::web::{self, App, HttpResponse, HttpServer, WebAppConfig};

#[ntex::main]
async fn main() -> std::io::Result<()> {
    let (args, listener) = contract::listen_once();
    let http = HttpServiceConfig::new()
        .set_keepalive(KeepAlive::Os)
        .set_client_timeout(Seconds::ZERO)
        .set_headers_vec(true);
    let app = WebAppConfig::new().set_state(web::types::PayloadConfig::new(BODY_BYTES_MAX));
    let server = HttpServer::new(async |_| {
        let mut app = App::new()
            .route("/plaintext", web::get().to(plaintext))
            .route("/json", web::get().to(json))
            .route("/users/{id}", web::get().to(user))
            .route("/echo", web::post().to(echo))
            .route("/bytes/{n}", web::get().to(bytes))
            .route("/upload", web::post().to(upload));
        for path in OTHER_ROUTES {
            app = app.route(path, web::get().to(other));
        }
        app
    })
    .workers(args.cores)
    .backlog(4096)
    .max_connections(100_000)
    .listen(listener, SharedCfg::new("peer").add(http).add(app))?;
    contract::announce(args.addr);
    server.run().await
}

fn text(body: impl Into<ntex::http::body::Body>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body(body)
}

async fn plaintext() -> HttpResponse {
    text(PLAINTEXT)
}

async fn json() -> HttpResponse {
    HttpResponse::Ok().json(&contract::message())
}

async fn user(id: web::types::Path<String>) -> HttpResponse {
    text(id.into_inner())
}

async fn echo(body: Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("application/octet-stream").body(body)
}

async fn bytes(n: web::types::Path<usize>) -> HttpResponse {
    let n = n.into_inner();
    let pieces = stream::unfold(n, async |left| {
        let piece = &PIECE[..PIECE.len().min(left)];
        (!piece.is_empty()).then(|| (Ok::<_, Rc<dyn Error>>(Bytes::from_static(piece)), left - piece.len()))
    });
    let body = SizedStream::new(n as u64, Box::pin(pieces));
    HttpResponse::Ok().content_type("application/octet-stream").body(body)
}

async fn upload(mut body: web::types::Payload) -> HttpResponse {
    let mut bytes = 0;
    while let Some(Ok(piece)) = body.next().await {
        bytes += piece.len();
    }
    text(bytes.to_string())
}

async fn other() -> &'static str {
    "ok"
}
