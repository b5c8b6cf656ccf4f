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

/// Has writes that the system refuses fail with an error, as EFBIG and EPIPE, where their signals would end the process.
/// What the program itself has chosen for these signals stays.
pub(crate) fn survive_refused_writes() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    for signal in [libc::SIGXFSZ, libc::SIGPIPE] {
        // SAFETY: a sigaction is plain data, for which zeroes are valid.
        let mut known: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: the call writes one structure, which lives through it.
        let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut known) };
        if asked != 0 || known.sa_sigaction != libc::SIG_DFL {
            continue;
        }
        // A handler is not inherited by the programs that the process starts; ignoring would be.
        known.sa_sigaction = nothing as *const () as usize;
        known.sa_flags = libc::SA_RESTART;
        // SAFETY: the call reads one structure, which lives through it; the handler does nothing, on any thread.
        unsafe { libc::sigaction(signal, &raw const known, std::ptr::null_mut()) };
    }
}
