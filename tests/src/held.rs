//! Connections that another process holds, since one process may not have descriptors for both ends of all of them.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Idle connections, held by a process of their own for as long as this value lives.
#[derive(Debug)]
pub struct Held {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Held {
    /// Connects so many clients by the program `idle_clients` at `program`; each has asked once when this returns.
    ///
    /// # Panics
    /// If one of them cannot connect, or is not served.
    #[must_use]
    pub fn connect(program: &str, address: SocketAddr, count: usize) -> Self {
        Self::start(program, &[address.to_string(), count.to_string()], count)
    }

    /// The same over TLS, by clients that trust the certificate in the file `root`.
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    #[must_use]
    pub fn connect_tls(program: &str, address: SocketAddr, count: usize, root: &str) -> Self {
        Self::start(program, &[address.to_string(), count.to_string(), root.to_owned()], count)
    }

    fn start(program: &str, arguments: &[String], count: usize) -> Self {
        // The shell raises the limit on open files as far as it may.
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"", "sh", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the clients start");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut held = Self { child, input, output };
        held.served(count);
        held
    }

    /// Asks once more on each connection.
    ///
    /// # Panics
    /// If one of them is not served.
    pub fn ask(&mut self, count: usize) {
        writeln!(self.input).expect("the clients live");
        self.served(count);
    }

    fn served(&mut self, count: usize) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the clients live");
        assert_eq!(line.trim(), format!("{count} served"));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
