//! A server of its own for a test, and the client that asks it over a socket.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use gimmal_http::{BodyDecoder, Decoded, Limits, Parsed, ResponseHeadParser};

use super::message::{TestRequest, TestResponse, methods};
use crate::app::App;
use crate::server::{Running, Server, ServerError, ServerHandle};

/// How long the test client waits for a byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a free port of this machine, for as long as the value lives, and a client that asks it.
///
/// ```
/// use gimmal::{App, test::TestServer};
///
/// let server = TestServer::start(App::new().get("/", async || "Hello, World!"))?;
/// let response = server.get("/").send()?;
/// assert_eq!(response.text(), "Hello, World!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TestServer {
    running: Option<Running>,
    handle: ServerHandle,
    address: SocketAddr,
}

methods!(TestServer: get GET, head HEAD, post POST, put PUT, patch PATCH, delete DELETE, options OPTIONS);

impl TestServer {
    /// Starts a server of `app` with one core and defaults.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start(app: App) -> Result<Self, ServerError> {
        Self::from_server(Server::new(app).cores(1))
    }

    /// Starts a server that is set up already, on a free port besides the addresses that it has.
    ///
    /// # Errors
    /// As [`Server::start`].
    ///
    /// # Panics
    /// If the first address of the server is not one of TCP.
    pub fn from_server(server: Server) -> Result<Self, ServerError> {
        let running = server.bind_first("127.0.0.1:0").signals(false).start()?;
        let address = running.addresses()[0].as_tcp().expect("it was bound to a TCP address just now");
        Ok(Self { handle: running.handle(), address, running: Some(running) })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The running server, to read its counters or to stop it.
    #[must_use]
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(running) = self.running.take() {
            // It was stopped at once, which counts as a failure.
            let _ = running.join();
        }
    }
}

impl TestRequest<&TestServer> {
    /// Sends the request on a connection of its own and waits for the whole response.
    ///
    /// # Errors
    /// What the socket fails with; `InvalidData` for a response that breaks RFC 9112.
    pub fn send(self) -> io::Result<TestResponse> {
        let mut stream = TcpStream::connect(self.client.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&self.encoded())?;
        receive(&mut stream, &self.method)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Reads the final response to a request of this method.
fn receive(stream: &mut impl Read, method: &http::Method) -> io::Result<TestResponse> {
    let limits = Limits { body_bytes: u64::MAX, ..Limits::default() };
    let mut bytes = Vec::new();
    let mut head = ResponseHeadParser::new();
    loop {
        match head.parse(&bytes, method, &limits).map_err(invalid)? {
            Parsed::Complete(len) if head.status().is_informational() && head.status() != 101 => {
                bytes.drain(..len);
            }
            Parsed::Complete(len) => {
                let headers = head.view(&bytes).to_header_map();
                bytes.drain(..len);
                let mut decoder = BodyDecoder::new(head.framing(), &limits).map_err(invalid)?;
                let body = receive_body(stream, bytes, &mut decoder)?;
                let trailers = decoder.take_trailers();
                return Ok(TestResponse { status: head.status(), headers, body: body.into(), trailers });
            }
            Parsed::Partial => {
                if read_more(stream, &mut bytes)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

fn receive_body(
    stream: &mut impl Read,
    mut bytes: Vec<u8>,
    decoder: &mut BodyDecoder,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match decoder.decode(&bytes).map_err(invalid)? {
            Decoded::Data(range) => {
                body.extend_from_slice(&bytes[range.clone()]);
                bytes.drain(..range.end);
            }
            Decoded::End { .. } => return Ok(body),
            Decoded::Partial => {
                bytes.clear();
                if read_more(stream, &mut bytes)? == 0 {
                    decoder.finish().map_err(invalid)?;
                    return Ok(body);
                }
            }
        }
    }
}

fn read_more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(read) => {
                bytes.extend_from_slice(&buffer[..read]);
                return Ok(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
