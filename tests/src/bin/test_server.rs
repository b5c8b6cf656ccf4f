//! A server that gets signals: `test_server BACKEND SHUTDOWN_MS [CERTIFICATE KEY]`. It says where it listens.

use std::time::Duration;

use gimmal::tls::TlsServerConfig;
use gimmal::{App, Path, Server, ServerError, Timeouts};

async fn slow(Path(milliseconds): Path<u64>) -> String {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    format!("after {milliseconds} ms")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let backend = arguments.next().ok_or("which back end?")?.parse::<gimmal::Backend>()?;
    let shutdown = Duration::from_millis(arguments.next().ok_or("how long may stopping take?")?.parse()?);
    let files = arguments.next().zip(arguments.next());
    let app = App::new().get("/fast", async || "fast").get("/slow/{milliseconds}", slow);
    let server =
        Server::new(app).cores(2).backend(backend).timeouts(Timeouts { shutdown, ..Timeouts::default() });
    let server = match files {
        None => server.bind("127.0.0.1:0"),
        Some((certificate, key)) => {
            server.bind_tls("127.0.0.1:0", &TlsServerConfig::from_pem_files(certificate, key)?)
        }
    };
    let running = server.start()?;
    announce(&running.addresses()[0]);
    let joined: Result<(), ServerError> = running.join();
    Ok(joined?)
}

#[expect(clippy::print_stdout, reason = "whoever started it reads this")]
fn announce(address: &gimmal::Address) {
    println!("{address}");
}
