//! The routes that load tests drive. Run it with `cargo run --release --example bench`.

use std::path::PathBuf;

use clap::Parser;
use gimmal::files::Files;
use gimmal::tls::TlsServerConfig;
use gimmal::websocket::{WebSocketLimits, WebSocketUpgrade};
use gimmal::{App, Body, BodyError, Chunk, Error, HeaderValue, Json, Path, Response, post};
use gimmal_examples::Args;
use serde::Serialize;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Serialize)]
struct Message {
    message: &'static str,
}

async fn json() -> Json<Message> {
    Json(Message { message: "Hello, World!" })
}

async fn user(Path(id): Path<u64>) -> String {
    id.to_string()
}

/// As it comes: nothing is put together or copied.
async fn echo(body: Body) -> Body {
    static OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
    body.with_media_type(&OCTETS)
}

/// What `/bytes/{n}` sends, over and over.
static ZEROES: [u8; 1 << 20] = [0; 1 << 20];

async fn bytes(Path(mut left): Path<u64>) -> Body {
    if left <= ZEROES.len() as u64 {
        return Body::from(&ZEROES[..left as usize]);
    }
    let length = left;
    let pieces = std::iter::from_fn(move || {
        let piece = left.min(ZEROES.len() as u64);
        left -= piece;
        (piece > 0).then(|| Ok(Chunk::from(&ZEROES[..piece as usize])))
    });
    Body::sized(length, futures_util::stream::iter(pieces))
}

async fn echo_messages(upgrade: WebSocketUpgrade) -> Response {
    let limits = WebSocketLimits { frame_bytes: 16 << 20, message_bytes: 16 << 20 };
    upgrade.any_origin().limits(limits).serve(|socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

async fn upload(mut body: Body) -> Result<String, BodyError> {
    let mut received = 0;
    while let Some(chunk) = body.chunk().await {
        received += chunk?.len();
    }
    Ok(received.to_string())
}

/// As many routes as a service of some size has, so that finding one is not for free.
const OTHERS: [&str; 24] = [
    "/users",
    "/users/{id}/posts",
    "/users/{id}/posts/{post}",
    "/users/{id}/followers",
    "/users/{id}/settings",
    "/posts",
    "/posts/{post}",
    "/posts/{post}/comments",
    "/posts/{post}/comments/{comment}",
    "/search",
    "/search/users",
    "/search/posts",
    "/login",
    "/logout",
    "/admin",
    "/admin/users",
    "/admin/users/{id}",
    "/admin/posts",
    "/admin/statistics",
    "/health",
    "/metrics",
    "/about",
    "/assets/{*path}",
    "/feed/{kind}/{page}",
];

#[derive(Parser)]
struct BenchArgs {
    #[command(flatten)]
    server: Args,
    /// Speak HTTPS, with a certificate for development.
    #[arg(long)]
    tls: bool,
    /// Speak HTTPS with the certificate chain in this PEM file.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM file with the private key.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
    /// Serve the files of this folder below /files.
    #[arg(long)]
    files: Option<PathBuf>,
}

fn main() -> Result<(), Error> {
    gimmal_examples::start_log();
    let BenchArgs { server: args, tls, certificate, key, files } = BenchArgs::parse();
    let app = OTHERS.iter().fold(App::new(), |app, pattern| app.get(pattern, async || "other"));
    let app = app
        .get("/plaintext", async || "Hello, World!")
        .get("/json", json)
        .get("/users/{id}", user)
        .route("/echo", post(echo).body_limit(16 << 20))
        .get("/bytes/{n}", bytes)
        .get("/websocket", echo_messages)
        .route("/upload", post(upload).body_limit(u64::MAX));
    let app = match files {
        Some(folder) => app.files("/files", Files::open(folder)?),
        None => app,
    };
    let server = args.server(app);
    let server = match certificate.zip(key) {
        Some((chain, key)) => server.bind_tls(&args.addr, &TlsServerConfig::from_pem_files(chain, key)?),
        None if tls => {
            let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1", "::1"])?;
            server.bind_tls(&args.addr, &tls)
        }
        None => server.bind(&args.addr),
    };
    let running = server.start()?;
    let url = running.url();
    Ok(gimmal_examples::serve(running, format!("try: wrk -t1 -c64 -d5 {url}/plaintext"))?)
}
