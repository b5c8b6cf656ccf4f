//! What the tests have in common: an authority, files, servers, and the programs that ask them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use gimmal::tls::{TlsClientConfig, TlsClientConfigBuilder, TlsServerConfig, TlsServerConfigBuilder};
use gimmal::{App, Backend, Core, Request, Running, Server, ServerHandle};
use gimmal_tests::{Authority, Issued, TlsClient, server, trusting};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig, ServerConnection, StreamOwned};

/// A server that runs as long as the value lives.
pub(crate) struct Served {
    running: Option<Running>,
    handle: ServerHandle,
}

impl Served {
    pub(crate) fn start(server: Server) -> Self {
        let running = server.signals(false).start().expect("the server starts");
        Self { handle: running.handle(), running: Some(running) }
    }

    /// The address that was bound as the `index`th.
    pub(crate) fn address_of(&self, index: usize) -> SocketAddr {
        let running = self.running.as_ref().expect("it runs");
        running.addresses()[index].as_tcp().expect("an address of TCP")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    pub(crate) fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Waits for the end, which must be in order.
    pub(crate) fn join(mut self) {
        self.running.take().expect("it runs").join().expect("an end in order");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(running) = self.running.take() {
            // It was stopped at once, which counts as a failure.
            let _ = running.join();
        }
    }
}

/// An authority, a folder with its certificate, and who trusts it.
pub(crate) struct Scene {
    pub(crate) authority: Authority,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) trusting: Arc<ClientConfig>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("the root");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), authority.pem()).unwrap();
        let trusting = trusting(authority.pem());
        Self { authority, folder, trusting }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A configuration for `localhost` to add to.
    pub(crate) fn builder(&self) -> TlsServerConfigBuilder {
        TlsServerConfig::builder().certificate(self.authority.server(&["localhost"]).key())
    }

    pub(crate) fn config(&self) -> TlsServerConfig {
        self.builder().build().unwrap()
    }

    /// A server of `app` for `localhost`, of one core.
    pub(crate) fn serve(&self, app: App, backend: Backend) -> Served {
        Served::start(server(app, backend).bind_tls("127.0.0.1:0", &self.config()))
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> TlsClient {
        TlsClient::connect_tls(address, "localhost", &self.trusting).expect("the server takes a client in")
    }

    fn curl_command(&self, address: SocketAddr, path: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "60", "--cacert", &self.path("root.pem")])
            .args(["--resolve", &format!("*:{}:127.0.0.1", address.port())])
            .args(arguments)
            .arg(format!("https://localhost:{}{path}", address.port()))
            .stdin(Stdio::null());
        command
    }

    /// What curl prints.
    pub(crate) fn curl(&self, address: SocketAddr, path: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.try_curl(address, path, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}: {error}", output.status);
        output.stdout
    }

    pub(crate) fn curl_text(&self, address: SocketAddr, path: &str, arguments: &[&str]) -> String {
        String::from_utf8(self.curl(address, path, arguments)).expect("the output is text")
    }

    pub(crate) fn try_curl(&self, address: SocketAddr, path: &str, arguments: &[&str]) -> Output {
        self.curl_command(address, path, arguments).output().expect("curl is installed: these tests need it")
    }

    /// All that `openssl s_client` prints that sends `input` and listens until the server has closed.
    pub(crate) fn s_client(&self, address: SocketAddr, input: &str, arguments: &[&str]) -> String {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &address.to_string(), "-ign_eof"])
            .args(["-CAfile", &self.path("root.pem"), "-verify_return_error"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed: these tests need it");
        // It may have ended already.
        let _ = child.stdin.as_mut().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// Trusts `authority` and nobody else.
pub(crate) fn trusting_client(authority: &Authority) -> TlsClientConfigBuilder {
    TlsClientConfig::builder().roots_pem(authority.pem().as_bytes())
}

/// A program that does not outlive its test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `openssl s_server`.
pub(crate) struct SServer {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl SServer {
    pub(crate) fn start(certificate: &Path, key: &Path, arguments: &[&str]) -> Self {
        let child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0"])
            .args(arguments)
            .arg("-cert")
            .arg(certificate)
            .arg("-key")
            .arg(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed: these tests need it");
        let mut process = Process(child);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(|address| address.parse().unwrap()))
            .expect("it says where it listens");
        // What else it prints is thrown away, so that it does not wait for a reader.
        thread::spawn(move || lines.for_each(drop));
        Self { _process: process, address }
    }
}

/// A server by rustls that answers each connection with half a body, and ends with close_notify or without.
pub(crate) fn serve_half_a_body(issued: &Issued, says_close: bool) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), socket);
            let mut request = [0; 1024];
            let Ok(read) = stream.read(&mut request) else { continue };
            assert!(request[..read].ends_with(b"\r\n\r\n"));
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of what").unwrap();
            if says_close {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
        }
    });
    address
}

/// A request after which the server closes.
pub(crate) const LAST_GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What was agreed on, and with whom.
pub(crate) async fn about(request: Request) -> String {
    let Some(tls) = request.tls() else { return "plain text\n".to_owned() };
    let alpn = tls.alpn.map(|alpn| String::from_utf8(alpn).unwrap());
    let client = request.client_certificate();
    let subject = client.as_ref().map(|client| client.certificate().subject().to_owned());
    format!(
        "version={} group={} alpn={} name={} resumed={} client={} core={}\n",
        tls.version,
        tls.key_exchange_group.unwrap_or("none"),
        alpn.as_deref().unwrap_or("none"),
        tls.server_name.as_deref().unwrap_or("none"),
        tls.resumed,
        subject.as_deref().unwrap_or("none"),
        Core::current().unwrap().index(),
    )
}
