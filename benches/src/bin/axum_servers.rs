//! One axum app on three servers, each on one core: axum's own, Gimmal through `gimmal::tower`, and hyper's HTTP/1 on
//! Gimmal's streams.

use axum::Router;
use axum::routing::{get, post};
use clap::{Parser, ValueEnum};
use gimmal::{App, Backend, Server, Stream};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// `axum::serve` on a runtime of one thread.
    Axum,
    /// The router as a handler.
    Tower,
    /// hyper on Gimmal's streams, for what the codec costs.
    Hyper,
    /// The same routes as Gimmal's own handlers.
    Gimmal,
}

#[derive(Parser)]
struct Options {
    #[arg(long)]
    server: Kind,
    #[arg(long, default_value = "127.0.0.1:8080")]
    addr: String,
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// The CPU to run on.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

#[derive(Serialize)]
struct Message {
    message: &'static str,
}

fn router() -> Router {
    Router::new()
        .route("/plaintext", get(async || "Hello, World!"))
        .route("/json", get(async || axum::Json(Message { message: "Hello, World!" })))
        .route("/echo", post(async |body: axum::body::Bytes| body))
}

fn gimmal() -> App {
    App::new()
        .get("/plaintext", async || "Hello, World!")
        .get("/json", async || gimmal::Json(Message { message: "Hello, World!" }))
        .post("/echo", async |body: gimmal::Bytes| body)
}

async fn hyper(stream: Stream) {
    thread_local! {
        static ROUTER: Router = router();
    }
    let service = TowerToHyperService::new(ROUTER.with(Clone::clone));
    // A client that goes in the middle of a request is none of the benchmark's business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Options { server, addr, backend, cpu } = Options::parse();
    let app = match server {
        Kind::Axum => return serve_with_axum(&addr),
        Kind::Tower => App::new().fallback(gimmal::tower::service(router())),
        Kind::Gimmal => gimmal(),
        Kind::Hyper => App::new(),
    };
    let one_core = Server::new(app).cores(1).cpus(vec![cpu]).backend(backend);
    match server {
        Kind::Hyper => one_core.tcp(&addr, hyper).run()?,
        _ => one_core.bind(&addr).run()?,
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn serve_with_axum(addr: &str) -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind(addr).await?;
    axum::serve(listener, router()).await?;
    Ok(())
}
