//! A server for hosts that grant little: `poor_server BACKEND CORES [ADDRESS]`. It says where it listens and on what, and
//! logs to standard error.

use std::error::Error;
use std::process::ExitCode;

use gimmal::{App, Core, Server};

/// A file that grows beyond what `RLIMIT_FSIZE` allows.
async fn write() -> String {
    let written = gimmal::blocking(|| {
        let file = std::env::temp_dir().join(format!("gimmal-poor-server-{}", std::process::id()));
        let written = std::fs::write(&file, vec![0; 1 << 20]);
        // It may not have been made.
        let _ = std::fs::remove_file(file);
        written
    });
    format!("{:?}", written.await)
}

async fn blocking() -> String {
    format!("{:?}", gimmal::blocking(|| "done").await)
}

async fn core() -> String {
    Core::current().map_or_else(String::new, |core| core.index().to_string())
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    if let Err(error) = run() {
        tracing::error!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let backend = arguments.next().ok_or("which back end?")?.parse::<gimmal::Backend>()?;
    let cores = arguments.next().ok_or("how many cores?")?.parse()?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let app = App::new().get("/", core).get("/write", write).get("/blocking", blocking);
    let running = Server::new(app).cores(cores).backend(backend).bind(address).start()?;
    announce(&running);
    Ok(running.join()?)
}

#[expect(clippy::print_stdout, reason = "whoever started it reads this")]
fn announce(running: &gimmal::Running) {
    println!("{} {}", running.addresses()[0], running.backend());
}
