//! Server-sent events with a page that shows them. Run it with `cargo run --release --example events`, open the page in
//! two windows, and write something.

use std::error::Error;

use futures_util::stream;
use gimmal::defence::Defences;
use gimmal::files::Embedded;
use gimmal::sse::{Event, Events, LastEventId};
use gimmal::{App, Form, State, StatusCode};
use gimmal_examples::Args;
use tokio::sync::watch;

/// All that was written, for whoever connects again; every core waits for the same value.
type Messages = watch::Sender<Vec<String>>;

/// Messages that are kept.
const MESSAGES_MAX: usize = 10_000;

#[derive(serde::Deserialize)]
struct Message {
    text: String,
}

async fn write(messages: State<Messages>, Form(message): Form<Message>) -> StatusCode {
    if message.text.is_empty() || message.text.len() > 1000 {
        return StatusCode::UNPROCESSABLE_ENTITY;
    }
    let is_written = messages.send_if_modified(|all| {
        let has_room = all.len() < MESSAGES_MAX;
        if has_room {
            all.push(message.text.clone());
        }
        has_room
    });
    if is_written { StatusCode::NO_CONTENT } else { StatusCode::INSUFFICIENT_STORAGE }
}

/// What the client has not seen yet, then what is written from now on.
async fn events(LastEventId(last): LastEventId, messages: State<Messages>) -> Events {
    let seen = last.and_then(|last| last.parse().ok()).unwrap_or(0_usize);
    Events::new(stream::unfold((messages.subscribe(), seen), |(mut messages, seen)| async move {
        let text = messages.wait_for(|all| all.len() > seen).await.ok()?[seen].clone();
        let event = Event::data(text).with_id((seen + 1).to_string());
        Some((Ok(event), (messages, seen + 1)))
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::read();
    let pages = Embedded::new()
        .file("index.html", include_bytes!("../pages/events.html"))
        .file("events.js", include_bytes!("../pages/events.js"))
        .file("style.css", include_bytes!("../pages/style.css"));
    let app = App::new()
        .state(watch::Sender::new(Vec::<String>::new()))
        .get("/events", events)
        .post("/messages", write)
        .files("/", pages)
        .with(Defences::new());
    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    let hint = format!(
        "open {url}/ in two windows, or try: curl --no-buffer {url}/events & curl -d text=hello {url}/messages"
    );
    gimmal_examples::serve(running, hint)?;
    Ok(())
}
