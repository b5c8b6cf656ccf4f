//! A client's end of a connection, in plain text or over TLS, which never blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection};

pub(crate) struct Wire {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    has_sent: bool,
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) bytes: Vec<u8>,
    /// Whether the server has ended its side, in whatever way.
    pub(crate) ended: bool,
    /// How the server broke TLS.
    pub(crate) broken: Option<rustls::Error>,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let session = |config: &Arc<ClientConfig>| {
            let name = "localhost".try_into().expect("it is a name");
            ClientConnection::new(Arc::clone(config), name).map(Box::new).map_err(io::Error::other)
        };
        Ok(Self { socket, tls: tls.map(session).transpose()?, unsent: Vec::new(), has_sent: false })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the server has been sent anything, be it the end.
    pub(crate) fn has_sent(&self) -> bool {
        self.has_sent
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            // Into memory, which takes as much as rustls' limit allows; what it refuses is not sent.
            Some(session) => drop(session.writer().write(bytes)),
            None => self.unsent.extend_from_slice(bytes),
        }
    }

    /// Sends bytes beneath TLS.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Sends what the socket takes, and receives what is there.
    pub(crate) fn progress(&mut self) -> Came {
        let mut came = Came::default();
        let result = self.push().and_then(|()| self.pull(&mut came));
        came.ended |= result.is_err();
        came
    }

    fn push(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            while session.wants_write() {
                session.write_tls(&mut self.unsent)?;
            }
        }
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(sent) => {
                    self.has_sent = true;
                    self.unsent.drain(..sent);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn pull(&mut self, came: &mut Came) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        // Not all that a fast server has to say at once: others have their turns.
        for _ in 0..4 {
            let read = match self.socket.read(&mut buffer) {
                Ok(0) => {
                    came.ended = true;
                    return Ok(());
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let Some(session) = &mut self.tls else {
                came.bytes.extend_from_slice(&buffer[..read]);
                continue;
            };
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                session.read_tls(&mut rest)?;
                if let Err(error) = session.process_new_packets() {
                    came.broken = Some(error);
                    came.ended = true;
                    return Ok(());
                }
                let mut plaintext = [0; 16 * 1024];
                while let Ok(read @ 1..) = session.reader().read(&mut plaintext) {
                    came.bytes.extend_from_slice(&plaintext[..read]);
                }
            }
            self.push()?;
        }
        Ok(())
    }

    /// Ends the sending side.
    pub(crate) fn finish(&mut self) {
        if let Some(session) = &mut self.tls {
            session.send_close_notify();
        }
        let _ = self.push();
        self.has_sent = true;
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}
