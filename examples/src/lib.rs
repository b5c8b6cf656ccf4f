//! What all example servers have in common: their command line, their log, and what they say when they are ready.

use std::fmt::Display;
use std::io::Write as _;

use clap::Parser;
use gimmal::{App, Backend, Running, Server, ServerError};

/// The command line of an example.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Address to listen on: HOST:PORT (port 0 takes a free one), unix:PATH or unix:@NAME.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub addr: String,
    /// Cores to run on; as many as this process may use if it is not given.
    #[arg(long)]
    pub cores: Option<usize>,
    /// auto, uring or epoll.
    #[arg(long, default_value = "auto")]
    pub backend: Backend,
}

impl Args {
    /// Reads the command line and starts the log, which `RUST_LOG` sets up (`RUST_LOG=debug`).
    #[must_use]
    pub fn read() -> Self {
        let args = Self::parse();
        start_log();
        args
    }

    /// A server of `app` as the command line wants it, without an address.
    #[must_use]
    pub fn server(&self, app: App) -> Server {
        let server = Server::new(app).backend(self.backend);
        match self.cores {
            Some(cores) => server.cores(cores),
            None => server,
        }
    }
}

/// Sends the log to standard error; `RUST_LOG` says how much of it, `info` if it is not set.
pub fn start_log() {
    // The audit log has a file where an example has one.
    let usual = |_| "info,gimmal::audit=warn".into();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(usual);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Says where a server listens and what to try, then waits until it has stopped.
///
/// # Errors
/// As [`Running::join`].
pub fn serve(running: Running, hint: impl Display) -> Result<(), ServerError> {
    say(format!("listening on {}\n{hint}", running.url()));
    running.join()
}

/// Writes a line to standard output, where nobody may be reading.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
