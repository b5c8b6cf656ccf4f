//! An HTTP client over our own TLS sessions: enough of one for ACME.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gimmal_security::tls::{TlsClientConfig, TlsSession, TlsState};
use gimmal_security::{FetchError, HttpFetch};
use http::{Request, Response};

/// Blocks while it works, as the ACME server is another process.
pub(crate) struct BlockingFetch {
    pub(crate) tls: TlsClientConfig,
}

impl HttpFetch for BlockingFetch {
    async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        self.exchange(request).map_err(|error| FetchError::Unreachable(error.to_string()))
    }
}

impl BlockingFetch {
    fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Box<dyn std::error::Error>> {
        let (parts, body) = request.into_parts();
        let (host, port) = (parts.uri.host().unwrap(), parts.uri.port_u16().unwrap_or(443));
        let mut socket = TcpStream::connect((host, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut out = Vec::new();
        let mut session = TlsSession::client(&self.tls, host, &mut out)?;
        let mut plaintext = Vec::new();
        while session.state() == TlsState::Handshaking {
            socket.write_all(&out)?;
            out.clear();
            receive(&mut session, &mut socket, &mut plaintext, &mut out)?;
        }

        // HTTP/1.0, so that the response ends with the stream.
        let mut head = format!("{} {} HTTP/1.0\r\nhost: {host}:{port}\r\n", parts.method, parts.uri.path());
        for (name, value) in &parts.headers {
            head += &format!("{name}: {}\r\n", value.to_str()?);
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        session.send(head.as_bytes(), &mut out)?;
        session.send(&body, &mut out)?;
        socket.write_all(&out)?;
        out.clear();
        while receive(&mut session, &mut socket, &mut plaintext, &mut out)? {}

        let end = plaintext.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no head")?;
        let head = std::str::from_utf8(&plaintext[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status")?;
        let mut response = Response::builder().status(status);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("no header")?;
            response = response.header(name, value.trim());
        }
        Ok(response.body(plaintext[end + 4..].to_vec())?)
    }
}

/// `false` at the peer's close_notify.
fn receive(
    session: &mut TlsSession,
    socket: &mut TcpStream,
    plaintext: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<bool, Box<dyn std::error::Error>> {
    let mut buffer = [0; 8192];
    let count = socket.read(&mut buffer)?;
    if count == 0 {
        session.receive_end()?;
        return Ok(false);
    }
    session.receive(&mut buffer[..count], plaintext, out)?;
    Ok(!session.is_peer_closed())
}
