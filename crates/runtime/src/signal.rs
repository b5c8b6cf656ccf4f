//! The signals by which a server is told what to do.

use std::fmt;
use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A signal that a server acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`: stop.
    Terminate,
    /// `SIGINT`, as by Ctrl-C: stop.
    Interrupt,
    /// `SIGHUP`: read the configuration again.
    Hangup,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Hangup => "SIGHUP",
        })
    }
}

/// `SIGTERM`, `SIGINT` and `SIGHUP`, which no longer end the process once this exists.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Takes the signals over, for the whole process and for good.
    ///
    /// # Errors
    /// What the operating system refuses.
    ///
    /// # Panics
    /// Outside of a core (or another Tokio runtime).
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    /// No signal is lost by dropping the future.
    pub async fn recv(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.hangup.recv() => Signal::Hangup,
        }
    }
}
