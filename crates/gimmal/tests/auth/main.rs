//! Authentication and authorisation end to end: real sockets, and curl as the client.

mod guards;
mod mechanisms;
#[cfg(feature = "oidc")]
mod oidc;
mod passwords;
mod sessions;

use std::process::Command;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use gimmal::auth::{Realm, User};
use gimmal::security::SecretString;
use gimmal::security::password::Passwords;
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Running, Server};

const PASSWORD: &str = "correct horse battery staple";

/// The hash of [`PASSWORD`].
static HASH: LazyLock<String> =
    LazyLock::new(|| Passwords::default().hash(&SecretString::from(PASSWORD)).unwrap());

fn alice() -> User {
    User::new("alice").with_password_hash(&*HASH).with_role("editor")
}

fn realm() -> Realm {
    Realm::new("Staff only").unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A server on a free port, for as long as the value lives.
struct Service(Option<Running>, String);

impl Service {
    fn start(app: App) -> Self {
        Self::run(Server::new(app).bind("127.0.0.1:0"))
    }

    fn start_tls(app: App, tls: &TlsServerConfig) -> Self {
        Self::run(Server::new(app).bind_tls("127.0.0.1:0", tls))
    }

    fn run(server: Server) -> Self {
        let running = server.cores(1).signals(false).start().unwrap();
        let url = running.url();
        Self(Some(running), url)
    }

    /// Asks with curl: `arguments`, then the URL of `path`.
    fn curl(&self, arguments: &[&str], path: &str) -> Answer {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--insecure", "--include", "--max-time", "60"])
            .args(arguments)
            .arg(format!("{}{path}", self.1))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Answer::parse(&String::from_utf8(output.stdout).unwrap())
    }

    fn url(&self) -> &str {
        &self.1
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.handle().stop();
            // It was stopped at once, which counts as a failure.
            let _ = running.join();
        }
    }
}

/// The last response that curl saw.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(output: &str) -> Self {
        let mut rest = output;
        loop {
            let (head, body) = rest.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            if body.starts_with("HTTP/1.1 ") {
                rest = body;
                continue;
            }
            return Self { status, head: head.to_owned(), body: body.to_owned() };
        }
    }

    fn fields(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    fn challenges(&self) -> Vec<&str> {
        self.fields("www-authenticate")
    }
}
