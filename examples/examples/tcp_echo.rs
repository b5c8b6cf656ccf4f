//! A service of raw bytes: it sends back whatever it receives, from the very buffer that it came in.
//! Run it with `cargo run --release --example tcp_echo`.

use gimmal::{App, ServerError, Stream};
use gimmal_examples::Args;

async fn echo(stream: Stream) {
    while let Ok(bytes) = stream.recv().await {
        if bytes.is_empty() || stream.send(bytes).await.is_err() {
            break;
        }
    }
}

fn main() -> Result<(), ServerError> {
    let args = Args::read();
    let running = args.server(App::new()).tcp(&args.addr, echo).start()?;
    let address = running.addresses()[0].to_string();
    let hint = match address.rsplit_once(':') {
        Some((host, port)) if !address.starts_with("unix:") => format!("try: nc {host} {port}"),
        _ => format!("try: socat - UNIX-CONNECT:{}", address.trim_start_matches("unix:")),
    };
    gimmal_examples::serve(running, hint)
}
