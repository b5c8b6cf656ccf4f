//! A client that sends whatever bytes it is told to, and reads responses with a parser of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long it waits for a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// One message that came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The status.
    pub status: u16,
    /// The fields in order, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, its transfer coding removed.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// The value of a field that comes once; `None` if it is not there.
    ///
    /// # Panics
    /// If it is there several times.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Whether the server says that it closes the connection.
    #[must_use]
    pub fn says_close(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// A connection to a server, over TCP or over anything else that reads and writes.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    stream: S,
    /// Received, and not read yet.
    received: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the server listens")
    }

    /// Connects.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(stream))
    }

    /// Ends the sending side.
    pub fn half_close(&self) {
        // It may have been closed by the server already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl<S: Read + Write> Client<S> {
    /// Speaks on what is connected already.
    #[must_use]
    pub fn over(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// What it speaks on.
    #[must_use]
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// What it speaks on.
    #[must_use]
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What it speaks on, without what has been received and not been read.
    #[must_use]
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the server has gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes what is sent");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the server has gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends a GET and reads the response.
    ///
    /// # Panics
    /// If it does not come.
    pub fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.message()
    }

    /// Reads the next message, interim or final.
    ///
    /// # Panics
    /// If it does not come, or is malformed.
    pub fn message(&mut self) -> Message {
        self.try_message().expect("a response comes")
    }

    /// Reads the next message, interim or final.
    ///
    /// # Errors
    /// If it does not come, or is malformed.
    pub fn try_message(&mut self) -> io::Result<Message> {
        let mut message = self.head()?;
        let length = message.header("content-length").map(str::to_owned);
        if matches!(message.status, 100..200 | 204 | 304) {
            if message.status != 304 && length.is_some() {
                return Err(malformed("a length of what has no body"));
            }
            return Ok(message);
        }
        match (length, message.header("transfer-encoding")) {
            (None, Some("chunked")) => self.chunks(&mut message)?,
            (Some(length), None) => {
                let length = length.parse().map_err(|_| malformed("the length is no number"))?;
                message.body = self.exactly(length)?;
            }
            (None, None) => {
                if !message.says_close() {
                    return Err(malformed("a body without length on a connection that goes on"));
                }
                self.stream.read_to_end(&mut self.received)?;
                message.body = std::mem::take(&mut self.received);
            }
            _ => return Err(malformed("length and transfer coding together, or an unknown coding")),
        }
        Ok(message)
    }

    /// Reads the head of the next message alone: the response to a HEAD or a CONNECT.
    ///
    /// # Errors
    /// If it does not come, or is malformed.
    pub fn head(&mut self) -> io::Result<Message> {
        let status_line = self.line()?;
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..4)?.strip_suffix(' ')?.parse().ok())
            .ok_or_else(|| malformed(&status_line))?;
        Ok(Message { status, headers: self.fields()?, body: Vec::new(), trailers: Vec::new() })
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(": ").ok_or_else(|| malformed(&line))?;
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    fn chunks(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| malformed(&line))?;
            if size == 0 {
                message.trailers = self.fields()?;
                return Ok(());
            }
            message.body.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return Err(malformed("a chunk does not end in CRLF"));
            }
        }
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// If fewer come.
    pub fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < len {
            self.receive()?;
        }
        let rest = self.received.split_off(len);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    /// Reads a line, which ends in CRLF and holds no other line break.
    fn line(&mut self) -> io::Result<String> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.exactly(searched + at + 1)?;
                let line = line.strip_suffix(b"\r\n").ok_or_else(|| malformed("a bare LF"))?;
                return String::from_utf8(line.to_vec()).map_err(|_| malformed("a line is no text"));
            }
            searched = self.received.len();
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }

    /// Waits for the end of the connection: `Ok` if it came in order, and nothing before it.
    ///
    /// # Errors
    /// `ConnectionReset` if it came by a reset, over TLS `UnexpectedEof` if it came without close_notify, and
    /// `InvalidData` with what came instead of it.
    pub fn ended(&mut self) -> io::Result<()> {
        if self.received.is_empty() {
            let mut buffer = [0; 1024];
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.received.extend_from_slice(&buffer[..read]);
        }
        Err(malformed(&String::from_utf8_lossy(&self.received)))
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what:?}"))
}
