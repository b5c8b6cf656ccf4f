//! actix-web: its own workers, keep-alive left to the client.

use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::KeepAlive;
use actix_web::http::header::ContentType;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use contract::{BODY_BYTES_MAX, OTHER_ROUTES, PIECE, PLAINTEXT};
use futures_util::{StreamExt as _, stream};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (args, listener) = contract::listen_once();
    let server = HttpServer::new(|| {
        let mut app = App::new()
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
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
    .keep_alive(KeepAlive::Os)
    .client_request_timeout(Duration::ZERO)
    .max_connections(100_000)
    .listen(listener)?;
    contract::announce(args.addr);
    server.run().await
}

fn text(body: impl actix_web::body::MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok().insert_header(("content-type", "text/plain")).body(body)
}

async fn plaintext() -> HttpResponse {
    text(PLAINTEXT)
}

async fn json() -> HttpResponse {
    HttpResponse::Ok().json(contract::message())
}

async fn user(id: web::Path<String>) -> HttpResponse {
    text(id.into_inner())
}

async fn echo(body: Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::octet_stream()).body(body)
}

async fn bytes(n: web::Path<usize>) -> HttpResponse {
    let n = n.into_inner();
    let pieces = stream::unfold(n, async |left| {
        let piece = &PIECE[..PIECE.len().min(left)];
        (!piece.is_empty()).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(piece)), left - piece.len()))
    });
    let body = SizedStream::new(n as u64, Box::pin(pieces));
    HttpResponse::Ok().content_type(ContentType::octet_stream()).body(body)
}

async fn upload(mut body: web::Payload) -> HttpResponse {
    let mut bytes = 0;
    while let Some(Ok(piece)) = body.next().await {
        bytes += piece.len();
    }
    text(bytes.to_string())
}

async fn other() -> &'static str {
    "ok"
}
