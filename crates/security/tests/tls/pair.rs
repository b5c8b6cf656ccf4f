//! A server and a client in memory, and the wire between them.

use gimmal_security::tls::{TlsClientConfig, TlsError, TlsServerConfig, TlsSession, TlsState};

use crate::authority::{Authority, Leaf};

pub(crate) struct Pair {
    pub(crate) server: TlsSession,
    pub(crate) client: TlsSession,
    pub(crate) at_server: Vec<u8>,
    pub(crate) at_client: Vec<u8>,
    /// On the way, both directions.
    pub(crate) to_server: Vec<u8>,
    pub(crate) to_client: Vec<u8>,
    /// How many bytes arrive at once.
    pub(crate) step: usize,
}

/// Who failed, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Server(TlsError),
    Client(TlsError),
}

impl Pair {
    pub(crate) fn new(server: &TlsServerConfig, client: &TlsClientConfig, name: &str) -> Self {
        let mut to_server = Vec::new();
        Self {
            client: TlsSession::client(client, name, &mut to_server).unwrap(),
            server: TlsSession::server(server).unwrap(),
            at_server: Vec::new(),
            at_client: Vec::new(),
            to_server,
            to_client: Vec::new(),
            step: usize::MAX,
        }
    }

    /// Carries everything over, `step` bytes at a time, until the wire is silent.
    pub(crate) fn settle(&mut self) -> Result<(), Fault> {
        while !self.to_server.is_empty() || !self.to_client.is_empty() {
            let mut bytes = std::mem::take(&mut self.to_server);
            for piece in bytes.chunks_mut(self.step.min(1 << 20)) {
                let result = self.server.receive(piece, &mut self.at_server, &mut self.to_client);
                result.map_err(Fault::Server)?;
            }
            let mut bytes = std::mem::take(&mut self.to_client);
            for piece in bytes.chunks_mut(self.step.min(1 << 20)) {
                let result = self.client.receive(piece, &mut self.at_client, &mut self.to_server);
                result.map_err(Fault::Client)?;
            }
        }
        Ok(())
    }

    pub(crate) fn connect(
        server: &TlsServerConfig,
        client: &TlsClientConfig,
        name: &str,
    ) -> Result<Self, Fault> {
        let mut pair = Self::new(server, client, name);
        pair.settle()?;
        assert_eq!((pair.server.state(), pair.client.state()), (TlsState::Open, TlsState::Open));
        Ok(pair)
    }

    /// The handshake, and one message each way: a TLS 1.3 server learns of a refused client only after the client
    /// thinks that all is well.
    pub(crate) fn greet(
        server: &TlsServerConfig,
        client: &TlsClientConfig,
        name: &str,
    ) -> Result<Self, Fault> {
        let mut pair = Self::connect(server, client, name)?;
        pair.exchange(b"ping", b"pong")?;
        Ok(pair)
    }

    pub(crate) fn exchange(&mut self, request: &[u8], response: &[u8]) -> Result<(), Fault> {
        self.at_server.clear();
        self.at_client.clear();
        self.client.send(request, &mut self.to_server).map_err(Fault::Client)?;
        self.settle()?;
        assert!(self.at_server == request, "the request arrives as it was");
        self.server.send(response, &mut self.to_client).map_err(Fault::Server)?;
        self.settle()?;
        assert!(self.at_client == response, "the response arrives as it was");
        Ok(())
    }

    /// Goes on after a fault of one side until the other has its alert.
    pub(crate) fn deliver_alert(&mut self) -> Result<(), Fault> {
        self.settle()
    }
}

/// An authority, a server for `localhost` and a client that trusts it.
pub(crate) fn localhost() -> (Authority, TlsServerConfig, TlsClientConfig) {
    let authority = Authority::new("the root");
    let server = TlsServerConfig::builder()
        .certificate(authority.issue(&Leaf::server(&["localhost"])).key())
        .build()
        .unwrap();
    let client = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
    (authority, server, client)
}
