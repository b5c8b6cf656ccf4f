//! Requests whose answers do not depend on what other clients have done.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gimmal::Backend;
use rustls::{ClientConnection, StreamOwned};

use crate::servers::{Served, Site};
use crate::traffic::frame;

/// How long an answer may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Each ends its connection, so that all that comes is its answer.
struct Probe {
    name: &'static str,
    bytes: Vec<u8>,
}

fn probes() -> Vec<Probe> {
    let close = "Host: a\r\nConnection: close\r\n";
    let form = "--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nprobe\r\n--b--\r\n";
    let websocket = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut probes = Vec::new();
    let mut add = |name, bytes: String| probes.push(Probe { name, bytes: bytes.into_bytes() });
    // As many requests before it as a task answers in its turn; and before others have used the connections to the
    // upstream that it may get.
    let many = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n".repeat(63);
    add(
        "upload to the upstream at the end of a turn",
        format!("{many}POST /up/echo/probe HTTP/1.1\r\n{close}Content-Length: 5\r\n\r\nhello"),
    );
    // The shortest that there is: whatever is kept of another's head is longer.
    add("shortest", "GET / HTTP/1.0\r\n\r\n".to_owned());
    add("plaintext", format!("GET /plaintext HTTP/1.1\r\n{close}\r\n"));
    add("head", format!("HEAD /plaintext HTTP/1.1\r\n{close}\r\n"));
    add("extractors", format!("GET /seen?a=1&b=2 HTTP/1.1\r\n{close}X-Probe: yes\r\n\r\n"));
    add("extractors without a query", format!("PUT /seen HTTP/1.1\r\n{close}\r\n"));
    add("extractors in HTTP/1.0", "DELETE /seen HTTP/1.0\r\n\r\n".to_owned());
    add("echo", format!("POST /echo HTTP/1.1\r\n{close}Content-Length: 5\r\n\r\nhello"));
    add(
        "echo of chunks",
        format!(
            "POST /echo HTTP/1.1\r\n{close}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        ),
    );
    // Streamed bodies in HTTP/1.0, whose bytes do not tell in which pieces they came.
    add("mirror", "POST /mirror HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello".to_owned());
    add("events", "GET /events/probe HTTP/1.0\r\n\r\n".to_owned());
    add(
        "json",
        format!(
            "POST /json HTTP/1.1\r\n{close}Content-Type: application/json\r\nContent-Length: 29\r\n\r\n{{\"name\":\"probe\",\"numbers\":[]}}"
        ),
    );
    add(
        "no json",
        format!(
            "POST /json HTTP/1.1\r\n{close}Content-Type: application/json\r\nContent-Length: 3\r\n\r\n{{\"n"
        ),
    );
    add("file", format!("GET /files/small.txt HTTP/1.1\r\n{close}\r\n"));
    add("large file", format!("GET /files/large.bin HTTP/1.1\r\n{close}\r\n"));
    add(
        "part of a file",
        format!("GET /files/large.bin HTTP/1.1\r\n{close}Range: bytes=100000-100100\r\n\r\n"),
    );
    add("no file", format!("GET /files/none HTTP/1.1\r\n{close}\r\n"));
    add("compressed", format!("GET /text HTTP/1.1\r\n{close}Accept-Encoding: gzip\r\n\r\n"));
    add("tower", format!("GET /tower/hello/probe HTTP/1.1\r\n{close}\r\n"));
    add("tower's echo", format!("POST /tower/echo HTTP/1.1\r\n{close}Content-Length: 5\r\n\r\nhello"));
    add(
        "upload",
        format!(
            "POST /upload HTTP/1.1\r\n{close}Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    );
    add("upstream", format!("GET /up/echo/probe HTTP/1.1\r\n{close}\r\n"));
    add(
        "upload to the upstream",
        format!("POST /up/echo/probe HTTP/1.1\r\n{close}Content-Length: 5\r\n\r\nhello"),
    );
    add(
        "pipelined",
        format!(
            "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\nGET /seen?x HTTP/1.1\r\nHost: a\r\n\r\nGET /none HTTP/1.1\r\n{close}\r\n"
        ),
    );
    add("malformed", "GET /plaintext HTTP/1.1\r\nBad Name: 1\r\n\r\n".to_owned());
    add("no such method here", format!("DELETE /plaintext HTTP/1.1\r\n{close}\r\n"));
    add(
        "upgrade",
        "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nquit probe"
            .to_owned(),
    );
    let frames = [frame(0x81, b"probe"), frame(0x88, b"\x03\xe8")].concat();
    probes.push(Probe { name: "websocket", bytes: [websocket.as_bytes(), &frames].concat() });
    probes
}

/// What servers answer that have served nobody before.
pub(crate) struct Expected(Vec<Asked>);

/// A probe on its way, and its answer.
struct Asked {
    probe: Probe,
    is_tls: bool,
    answer: Vec<u8>,
}

impl Asked {
    fn begin(&self, site: &Site, served: &Served) -> Result<Answer, String> {
        Answer::begin(site, served, self.is_tls, &self.probe).map_err(|error| self.fault(&error))
    }

    fn check(&self, answer: Answer) -> Result<(), String> {
        let came = answer.end().map_err(|error| self.fault(&error))?;
        if came == self.answer { Ok(()) } else { Err(self.fault(&difference(&self.answer, &came))) }
    }

    fn fault(&self, what: &str) -> String {
        let over = if self.is_tls { " over TLS" } else { "" };
        format!("probe \"{}\"{over}: {what}", self.probe.name)
    }
}

impl Expected {
    /// Asks a new server for each.
    pub(crate) fn of_fresh_servers(site: &Site, backend: Backend) -> Self {
        let asked = |is_tls| {
            probes().into_iter().map(move |probe| {
                let served = site.start(backend);
                let answer = Answer::begin(site, &served, is_tls, &probe).and_then(Answer::end);
                let answer = answer
                    .unwrap_or_else(|error| panic!("{}: a new server does not answer: {error}", probe.name));
                assert!(!answer.is_empty(), "{}: a new server says nothing", probe.name);
                Asked { probe, is_tls, answer }
            })
        };
        Self(asked(false).chain(asked(true)).collect())
    }

    /// Whether this server answers as new ones do.
    pub(crate) fn check(&self, site: &Site, served: &Served, at_once: bool) -> Result<(), String> {
        if !at_once {
            return self.0.iter().try_for_each(|asked| asked.check(asked.begin(site, served)?));
        }
        let begun: Result<Vec<_>, _> = self.0.iter().map(|asked| asked.begin(site, served)).collect();
        self.0.iter().zip(begun?).try_for_each(|(asked, answer)| asked.check(answer))
    }
}

fn difference(expected: &[u8], came: &[u8]) -> String {
    let same = expected.iter().zip(came).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let part = &bytes[same.saturating_sub(200).min(bytes.len())..(same + 200).min(bytes.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    format!(
        "another answer than a new server's from byte {same} on\n--- a new server ({} bytes)\n{}\n--- this one ({} bytes)\n{}",
        expected.len(),
        around(expected),
        came.len(),
        around(came)
    )
}

/// An answer that is on its way.
struct Answer {
    wire: Blocking,
    until: Instant,
}

enum Blocking {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Answer {
    fn begin(site: &Site, served: &Served, is_tls: bool, probe: &Probe) -> Result<Self, String> {
        let address = if is_tls { served.tls } else { served.plain };
        let socket = TcpStream::connect(address).map_err(|error| format!("cannot connect: {error}"))?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        let mut wire = if is_tls {
            let name = "localhost".try_into().expect("it is a name");
            let session = ClientConnection::new(Arc::clone(&site.trusting), name);
            Blocking::Tls(Box::new(StreamOwned::new(session.map_err(|error| error.to_string())?, socket)))
        } else {
            Blocking::Plain(socket)
        };
        let sent = match &mut wire {
            Blocking::Plain(socket) => socket.write_all(&probe.bytes),
            Blocking::Tls(stream) => stream.write_all(&probe.bytes).and_then(|()| stream.flush()),
        };
        sent.map_err(|error| format!("cannot send: {error}"))?;
        Ok(Self { wire, until: Instant::now() + PATIENCE })
    }

    /// All of it, without what tells the time.
    fn end(mut self) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = match &mut self.wire {
                Blocking::Plain(socket) => socket.read(&mut buffer),
                Blocking::Tls(stream) => stream.read(&mut buffer),
            };
            match read {
                Ok(0) => return Ok(without_dates(&all)),
                Ok(read) => all.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let text = String::from_utf8_lossy(&all[..all.len().min(500)]).into_owned();
                    return Err(format!(
                        "no end of the answer, but {error}, after {} bytes: {text}",
                        all.len()
                    ));
                }
            }
            if Instant::now() > self.until {
                return Err(format!("no end of the answer within {PATIENCE:?}"));
            }
        }
    }
}

fn without_dates(answer: &[u8]) -> Vec<u8> {
    let lines = answer.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.to_ascii_lowercase().starts_with(b"date: ")).flatten().copied().collect()
}
