//! An axum app on Gimmal: routes, state, extractors, layers of tower-http, server-sent events, a WebSocket and an
//! upload that is streamed, all as axum has them. One line is another: the one that serves it.
//! Run it with `cargo run --release --example axum_app`, and with `-- --axum` on axum's own server.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use clap::Parser;
use futures_util::{Stream, StreamExt as _};
use gimmal::App;
use gimmal_examples::Args;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::trace::TraceLayer;

#[derive(Clone, Serialize, Deserialize)]
struct Note {
    text: String,
}

type Notes = Arc<Mutex<Vec<Note>>>;

async fn notes(State(notes): State<Notes>, Query(page): Query<Page>) -> Json<Vec<Note>> {
    let notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    Json(notes.iter().take(page.limit).cloned().collect())
}

#[derive(Deserialize)]
struct Page {
    #[serde(default = "Page::limit")]
    limit: usize,
}

impl Page {
    fn limit() -> usize {
        100
    }
}

async fn add_note(State(notes): State<Notes>, Json(note): Json<Note>) -> impl IntoResponse {
    notes.lock().unwrap_or_else(PoisonError::into_inner).push(note.clone());
    (StatusCode::CREATED, Json(note))
}

async fn greet(Path(name): Path<String>) -> String {
    format!("Hello, {name}!\n")
}

/// Where a request comes from.
#[derive(Clone)]
struct Peer(String);

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(stream.remote_addr().to_string())
    }
}

async fn who(ConnectInfo(Peer(peer)): ConnectInfo<Peer>) -> String {
    format!("You are {peer}.\n")
}

/// Three ticks, 100 ms apart.
async fn ticks() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = futures_util::stream::iter(1..=3).then(async |number| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(Event::default().id(number.to_string()).event("tick").data(format!("number {number}")))
    });
    Sse::new(ticks).keep_alive(KeepAlive::default())
}

/// Counts what is uploaded, however long it is.
async fn upload(body: Body) -> Result<String, (StatusCode, String)> {
    let mut received = 0;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        received += piece.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?.len();
    }
    Ok(format!("{received}\n"))
}

/// Sends the body back while it arrives.
async fn mirror(body: Body) -> Body {
    body
}

async fn echo(upgrade: WebSocketUpgrade) -> impl IntoResponse {
    upgrade.on_upgrade(|mut socket: WebSocket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || Html("<!doctype html><title>axum on Gimmal</title><h1>It works.</h1>\n")))
        .route("/greet/{name}", get(greet))
        .route("/notes", get(notes).post(add_note))
        .route("/who", get(who))
        .route("/ticks", get(ticks))
        .route("/upload", post(upload))
        .route("/mirror", post(mirror))
        .route("/echo", get(echo))
        .route("/long", get(async || "a line that compresses well\n".repeat(1000)))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(TraceLayer::new_for_http())
        .with_state(Notes::default())
}

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
    /// Serve with `axum::serve` instead.
    #[arg(long)]
    axum: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    gimmal_examples::start_log();
    if options.axum {
        return serve_with_axum(&options.args.addr);
    }
    let service = gimmal::tower::service(router()).with_peer(|peer| ConnectInfo(Peer(peer.to_string())));
    let app = App::new().fallback(service).body_limit(u64::MAX);
    let running = options.args.server(app).bind(&options.args.addr).start()?;
    let url = running.url();
    gimmal_examples::serve(running, format!("try: curl {url}/greet/Ada"))?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn serve_with_axum(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(address).await?;
    gimmal_examples::say(format!("listening on http://{}", listener.local_addr()?));
    axum::serve(listener, router().into_make_service_with_connect_info::<Peer>()).await?;
    Ok(())
}
