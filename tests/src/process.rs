//! Servers that run as processes of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::server::eventually;

/// A process, for as long as the value lives.
#[derive(Debug)]
pub struct Process {
    child: Child,
    announced: String,
}

impl Process {
    /// Starts a command that says on its first line where it listens.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn announcing(command: &mut Command) -> Self {
        // Some end when their standard input does.
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the command is installed");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it says where it listens");
        let announced = line.trim().to_owned();
        assert!(!announced.is_empty(), "{command:?} did not start");
        // It may go on to write, and must not meet a closed pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Self { child, announced }
    }

    /// Its first line.
    #[must_use]
    pub fn announced(&self) -> &str {
        &self.announced
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A real `redis-server` on a Unix socket in a folder of its own.
#[derive(Debug)]
pub struct Redis {
    folder: TempDir,
    child: Child,
}

impl Redis {
    /// Starts it.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("there is room for a folder");
        let child = Self::spawn(folder.path());
        Self { folder, child }
    }

    fn spawn(folder: &Path) -> Child {
        let socket = folder.join("socket");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .current_dir(folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        eventually("Redis answers", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        child
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Ends it, and all that it held.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again in the same place.
    pub fn start_again(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(self.socket());
        self.child = Self::spawn(self.folder.path());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
