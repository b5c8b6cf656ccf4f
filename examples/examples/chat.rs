//! A chat over WebSocket, with a page to try it. Run it with `cargo run --release --example chat`.
//!
//! A message is framed once and shared by all connections of a room, on whatever core they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gimmal::defence::Defences;
use gimmal::files::Embedded;
use gimmal::websocket::{PreparedMessage, WebSocket, WebSocketUpgrade};
use gimmal::{App, Path, Response, ServerError, State};
use gimmal_examples::Args;
use tokio::sync::broadcast;

/// Messages that a slow reader may lag behind before it misses some.
const BACKLOG: usize = 64;

/// The rooms, by name. A room is there for as long as somebody is in it.
#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<HashMap<String, broadcast::Sender<PreparedMessage>>>>);

impl Rooms {
    fn enter(
        &self,
        name: &str,
    ) -> (broadcast::Sender<PreparedMessage>, broadcast::Receiver<PreparedMessage>) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.retain(|_, room| room.receiver_count() > 0);
        let room = rooms.entry(name.to_owned()).or_insert_with(|| broadcast::channel(BACKLOG).0);
        (room.clone(), room.subscribe())
    }
}

async fn talk(socket: WebSocket, rooms: Rooms, name: String) {
    let (room, mut others) = rooms.enter(&name);
    loop {
        tokio::select! {
            said = socket.recv() => match said {
                Some(Ok(message)) => {
                    let Some(text) = message.as_text() else { continue };
                    // Nobody may be listening.
                    let _ = room.send(PreparedMessage::new(text.into()));
                }
                Some(Err(_)) | None => return,
            },
            heard = others.recv() => {
                let sent = match heard {
                    Ok(message) => socket.send_prepared(&message).await,
                    Err(broadcast::error::RecvError::Lagged(count)) => {
                        socket.send(format!("(you missed {count} messages)")).await
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if sent.is_err() {
                    return;
                }
            }
        }
    }
}

async fn join(upgrade: WebSocketUpgrade, Path(room): Path<String>, rooms: State<Rooms>) -> Response {
    let rooms = Rooms::clone(&rooms);
    upgrade.serve(move |socket| talk(socket, rooms, room))
}

fn main() -> Result<(), ServerError> {
    let args = Args::read();
    let pages = Embedded::new()
        .file("index.html", include_bytes!("../pages/chat.html"))
        .file("chat.js", include_bytes!("../pages/chat.js"))
        .file("style.css", include_bytes!("../pages/style.css"));
    let app =
        App::new().get("/rooms/{room}", join).files("/", pages).with(Defences::new()).state(Rooms::default());
    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    gimmal_examples::serve(running, format!("try: open {url} in two windows"))
}
