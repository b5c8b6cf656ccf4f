//! tokio-tungstenite: a single-threaded Tokio runtime on each core, one task for each connection, every message sent back;
//! what is read at one go is flushed together.

use std::net::TcpListener;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Result;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Its default of 128 KiB is cleared for each read, which costs 10 us, and is held by every idle connection.
const READ_BYTES: usize = 16 * 1024;

fn main() {
    contract::on_each_core(|listener| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, serve(listener));
    });
}

async fn serve(listener: TcpListener) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::task::spawn_local(async move {
            let _ = echo(stream).await;
        });
    }
}

async fn echo(stream: TcpStream) -> Result<()> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .max_message_size(Some(contract::BODY_BYTES_MAX));
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    loop {
        let message = match socket.next().now_or_never() {
            Some(message) => message,
            None => {
                socket.flush().await?;
                socket.next().await
            }
        };
        match message.transpose()? {
            None => return Ok(()),
            Some(message) if message.is_text() || message.is_binary() => socket.feed(message).await?,
            Some(_) => {}
        }
    }
}
