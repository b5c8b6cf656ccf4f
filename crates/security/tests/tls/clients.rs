//! rustls' own client, for what ours does not do: TLS 1.2 alone, other groups, early data.

use std::io::{Read, Write};
use std::sync::Arc;

use gimmal_security::tls::{TlsError, TlsServerConfig, TlsSession};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore};

/// A client of TLS 1.2, as `adjust` makes its cryptography.
pub(crate) fn client_of(
    root_pem: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
    adjust: impl FnOnce(&mut CryptoProvider),
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
    let mut provider = aws_lc_rs::default_provider();
    adjust(&mut provider);
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) fn tls12_client(root_pem: &str) -> ClientConfig {
    client_of(root_pem, &[&rustls::version::TLS12], |_| ())
}

pub(crate) struct RustlsClient {
    pub(crate) client: ClientConnection,
    pub(crate) server: TlsSession,
    pub(crate) to_client: Vec<u8>,
    pub(crate) at_server: Vec<u8>,
    pub(crate) early_bytes: usize,
    pub(crate) at_client: Vec<u8>,
    pub(crate) step: usize,
    client_error: Option<Error>,
    closed: bool,
}

impl RustlsClient {
    pub(crate) fn new(client: &ClientConfig, server: &TlsServerConfig, name: &str) -> Self {
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(client.clone()), name).unwrap();
        client.set_buffer_limit(None);
        Self {
            client,
            server: TlsSession::server(server).unwrap(),
            to_client: Vec::new(),
            at_server: Vec::new(),
            early_bytes: 0,
            at_client: Vec::new(),
            step: 1 << 20,
            client_error: None,
            closed: false,
        }
    }

    /// Carries everything over until the wire is silent, or the server has failed and the client has its alert.
    pub(crate) fn settle(&mut self) -> Result<(), TlsError> {
        let mut failure = Ok(());
        loop {
            let mut to_server = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut to_server).unwrap();
            }
            if to_server.is_empty() && self.to_client.is_empty() {
                return failure;
            }
            if failure.is_ok() {
                for piece in to_server.chunks_mut(self.step) {
                    match self.server.receive(piece, &mut self.at_server, &mut self.to_client) {
                        Ok(received) => self.early_bytes += received.early_bytes,
                        Err(error) => {
                            failure = Err(error);
                            break;
                        }
                    }
                }
            }
            let bytes = std::mem::take(&mut self.to_client);
            for mut piece in bytes.chunks(self.step.min(4096)) {
                while !piece.is_empty() && self.client_error.is_none() {
                    if self.client.read_tls(&mut piece).unwrap() == 0 {
                        break;
                    }
                    match self.client.process_new_packets() {
                        Ok(state) => self.closed |= state.peer_has_closed(),
                        Err(error) => self.client_error = Some(error),
                    }
                    let mut buffer = [0; 20_000];
                    while let Ok(read @ 1..) = self.client.reader().read(&mut buffer) {
                        self.at_client.extend_from_slice(&buffer[..read]);
                    }
                }
            }
        }
    }

    pub(crate) fn exchange(&mut self, request: &[u8], response: &[u8]) -> Result<(), TlsError> {
        self.at_server.clear();
        self.at_client.clear();
        self.client.writer().write_all(request).unwrap();
        self.settle()?;
        assert!(self.at_server == request, "the request arrives as it was");
        self.server.send(response, &mut self.to_client)?;
        self.settle()?;
        assert!(self.at_client == response, "the response arrives as it was");
        Ok(())
    }

    pub(crate) fn alert_at_client(&self) -> Option<AlertDescription> {
        match self.client_error {
            Some(Error::AlertReceived(alert)) => Some(alert),
            _ => None,
        }
    }

    pub(crate) fn client_saw_close(&self) -> bool {
        self.closed
    }
}
