//! The routes that load tests drive. Run it with `cargo run --release --example bench`.

use gimmal::{App, Body, BodyError, Bytes, Chunk, Json, Path, ServerError, post};
use gimmal_examples::Args;
use serde::Serialize;

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

async fn echo(body: Bytes) -> Bytes {
    body
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

fn main() -> Result<(), ServerError> {
    let args = Args::read();
    let app = OTHERS.iter().fold(App::new(), |app, pattern| app.get(pattern, async || "other"));
    let app = app
        .get("/plaintext", async || "Hello, World!")
        .get("/json", json)
        .get("/users/{id}", user)
        .route("/echo", post(echo).body_limit(16 << 20))
        .get("/bytes/{n}", bytes)
        .route("/upload", post(upload).body_limit(u64::MAX));
    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    gimmal_examples::serve(running, format!("try: wrk -t1 -c64 -d5 {url}/plaintext"))
}
