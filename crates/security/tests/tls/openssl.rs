//! `openssl s_client` against our server, and our client against `openssl s_server`.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gimmal_security::tls::{
    ClientAuth, Incompatibility, TlsClientConfig, TlsError, TlsServerConfig, TlsSession, TlsState, TlsVersion,
};

use crate::authority::{Authority, Leaf};

/// Whether there is an OpenSSL to test against. Where tests run to be relied on (`CI` is set) there has to be.
fn openssl_is_here() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "install openssl: these tests must run here");
    found
}

/// A session on a socket: enough of a driver for these tests.
struct Bridge {
    session: TlsSession,
    socket: TcpStream,
    plaintext: Vec<u8>,
}

impl Bridge {
    fn new(session: TlsSession, socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { session, socket, plaintext: Vec::new() }
    }

    /// Reads once. `false` at the end of the stream.
    fn receive(&mut self) -> Result<bool, TlsError> {
        let mut buffer = [0; 5000];
        let count = match self.socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        };
        if count == 0 {
            return self.session.receive_end().map(|()| false);
        }
        let mut out = Vec::new();
        let result = self.session.receive(&mut buffer[..count], &mut self.plaintext, &mut out);
        let _ = self.socket.write_all(&out);
        result.map(|_| true)
    }

    fn open(&mut self) -> Result<(), TlsError> {
        while self.session.state() == TlsState::Handshaking {
            self.receive()?;
        }
        Ok(())
    }

    fn receive_line(&mut self) -> Result<String, TlsError> {
        while !self.plaintext.contains(&b'\n') {
            assert!(self.receive()?, "the stream ended");
        }
        Ok(String::from_utf8(std::mem::take(&mut self.plaintext)).unwrap())
    }

    fn send(&mut self, data: &[u8]) {
        let mut out = Vec::new();
        self.session.send(data, &mut out).unwrap();
        self.socket.write_all(&out).unwrap();
    }

    fn close(&mut self) {
        let mut out = Vec::new();
        self.session.close(&mut out);
        self.socket.write_all(&out).unwrap();
    }
}

/// A child that does not outlive its test.
struct Process(Child);

impl Process {
    fn say(&mut self, line: &str) {
        self.0.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// All that it prints, once it has ended.
    fn output(&mut self) -> String {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Scene {
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { authority: Authority::new("the root"), folder: tempfile::tempdir().unwrap() };
        scene.write("root.pem", &scene.authority.pem);
        scene
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts `openssl s_client` towards one connection of `config`.
    fn start_s_client(&self, config: &TlsServerConfig, arguments: &[&str]) -> (Process, Bridge) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let root = self.path("root.pem");
        let child = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-CAfile", &root, "-verify_return_error"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let bridge = Bridge::new(TlsSession::server(config).unwrap(), listener.accept().unwrap().0);
        (Process(child), bridge)
    }

    /// Has it say a line, answers with another, and closes; gives what OpenSSL printed, and how the server's side
    /// ended.
    fn s_client(&self, config: &TlsServerConfig, arguments: &[&str]) -> (String, Result<Bridge, TlsError>) {
        let (mut client, mut bridge) = self.start_s_client(config, &[&["-ign_eof"], arguments].concat());
        client.say("ping\n");
        let result = (|| {
            bridge.open()?;
            assert_eq!(bridge.receive_line()?, "ping\n");
            bridge.send(b"pong from gimmal\n");
            bridge.close();
            // OpenSSL answers with its close_notify.
            while bridge.receive()? {}
            Ok(bridge)
        })();
        (client.output(), result)
    }
}

#[test]
fn s_client_speaks_both_versions_with_our_server_and_sees_a_clean_end() {
    if !openssl_is_here() {
        return;
    }
    let scene = Scene::new();
    let server = TlsServerConfig::builder()
        .certificate(scene.authority.issue(&Leaf::server(&["localhost"])).key())
        .certificate(scene.authority.issue(&Leaf { rsa: true, ..Leaf::server(&["localhost"]) }).key())
        .build()
        .unwrap();
    for (argument, version) in [("-tls1_3", TlsVersion::Tls13), ("-tls1_2", TlsVersion::Tls12)] {
        let arguments =
            [argument, "-servername", "localhost", "-verify_hostname", "localhost", "-alpn", "h2,http/1.1"];
        let (text, result) = scene.s_client(&server, &arguments);
        let bridge = result.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(text.contains("pong from gimmal") && text.contains("Verify return code: 0 (ok)"), "{text}");
        assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
        assert_eq!(bridge.session.version(), Some(version));
        assert_eq!(bridge.session.server_name(), Some("localhost"));
    }
    // A client that can verify RSA alone.
    let (text, result) =
        scene.s_client(&server, &["-tls1_3", "-sigalgs", "RSA-PSS+SHA256", "-servername", "localhost"]);
    // The root's signature is ECDSA, which such a client has not, so it refuses the chain; but RSA it was shown.
    assert!(text.contains("rsaEncryption") || result.is_ok(), "{text}");
    let (text, result) = scene.s_client(&server, &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]);
    assert!(result.is_ok() && text.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{text}");
}

#[test]
fn s_client_resumes() {
    if !openssl_is_here() {
        return;
    }
    let scene = Scene::new();
    let server = TlsServerConfig::builder()
        .certificate(scene.authority.issue(&Leaf::server(&["localhost"])).key())
        .build()
        .unwrap();
    for version in ["-tls1_3", "-tls1_2"] {
        let session = scene.path("session");
        let (text, result) = scene.s_client(&server, &[version, "-sess_out", &session]);
        assert!(!result.unwrap().session.is_resumed(), "{text}");
        let (text, result) = scene.s_client(&server, &[version, "-sess_in", &session]);
        assert!(result.unwrap().session.is_resumed(), "{text}");
        assert!(text.contains("Reused"), "{text}");
    }
}

// RFC 8446 section 4.6.3. `k` has s_client change its key, `K` also ask the server to.
#[test]
fn s_client_updates_the_keys_of_both_sides() {
    if !openssl_is_here() {
        return;
    }
    let scene = Scene::new();
    let server = TlsServerConfig::builder()
        .certificate(scene.authority.issue(&Leaf::server(&["localhost"])).key())
        .build()
        .unwrap();
    let (mut client, mut bridge) = scene.start_s_client(&server, &["-tls1_3"]);
    bridge.open().unwrap();
    for command in ["k\n", "K\n", "K\n", "k\n"] {
        client.say(command);
        // Commands are looked for at the start of what was read: one read each.
        std::thread::sleep(Duration::from_millis(100));
        client.say("ping\n");
        assert_eq!(bridge.receive_line().unwrap(), "ping\n");
        bridge.send(b"pong\n");
    }
    bridge.close();
    let text = client.output();
    assert_eq!(text.matches("pong").count(), 4, "{text}");
    assert_eq!(text.matches("KEYUPDATE").count(), 4, "{text}");
}

// RFC 5746; CVE-2009-3555, CVE-2011-1473. `R` has s_client renegotiate.
#[test]
fn s_client_is_refused_renegotiation() {
    if !openssl_is_here() {
        return;
    }
    let scene = Scene::new();
    let server = TlsServerConfig::builder()
        .certificate(scene.authority.issue(&Leaf::server(&["localhost"])).key())
        .build()
        .unwrap();
    let (mut client, mut bridge) = scene.start_s_client(&server, &["-tls1_2"]);
    bridge.open().unwrap();
    client.say("ping\n");
    assert_eq!(bridge.receive_line().unwrap(), "ping\n");
    client.say("R\n");
    while matches!(bridge.receive(), Ok(true)) {}
    let text = client.output();
    assert!(text.contains("RENEGOTIATING") && text.contains("no renegotiation"), "{text}");
}

#[test]
fn s_client_is_refused_old_versions_and_unknown_names_with_the_right_alert() {
    if !openssl_is_here() {
        return;
    }
    let scene = Scene::new();
    let server = TlsServerConfig::builder()
        .certificate(scene.authority.issue(&Leaf::server(&["localhost"])).key())
        .strict_server_names()
        .build()
        .unwrap();
    let (text, result) = scene.s_client(&server, &["-servername", "example.com"]);
    assert!(text.contains("unrecognized name"), "{text}");
    assert!(matches!(result.map(drop), Err(TlsError::UnknownServerName { .. })));

    let (text, result) =
        scene.s_client(&server, &["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0", "-servername", "localhost"]);
    assert!(text.contains("SSL alert number 40"), "{text}");
    assert_eq!(result.map(drop).unwrap_err(), TlsError::Incompatible(Incompatibility::Version));
}

#[test]
fn s_client_is_let_in_with_a_certificate_and_not_without_one() {
    if !openssl_is_here() {
        return;
    }
    let scene = Scene::new();
    let clients = Authority::new("the clients' root");
    let server = TlsServerConfig::builder()
        .certificate(scene.authority.issue(&Leaf::server(&["localhost"])).key())
        .client_auth(ClientAuth::required().roots_pem(clients.pem.as_bytes()))
        .build()
        .unwrap();
    let alice = clients.issue(&Leaf::client("alice", 7));
    let (chain, key) = (scene.write("alice.pem", &alice.chain_pem), scene.write("alice.key", &alice.key_pem));
    for version in ["-tls1_3", "-tls1_2"] {
        let (text, result) = scene.s_client(&server, &[version, "-cert", &chain, "-key", &key]);
        let bridge = result.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(bridge.session.client_certificate().unwrap().certificate().common_name(), Some("alice"));
        let (text, result) = scene.s_client(&server, &[version]);
        assert!(matches!(result.map(drop), Err(TlsError::NoClientCertificate)), "{text}");
    }
    let (text, _) = scene.s_client(&server, &["-tls1_3"]);
    assert!(text.contains("certificate required") && text.contains("CN = the clients' root"), "{text}");
}

/// `openssl s_server`, which answers each line with the same line backwards.
fn s_server(folder: &Path, port: u16, arguments: &[&str]) -> Process {
    let child = Command::new("openssl")
        .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-rev"])
        .args(["-cert", "server.pem", "-key", "server.key"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

fn connect(port: u16) -> TcpStream {
    for _ in 0..200 {
        if let Ok(socket) = TcpStream::connect(("127.0.0.1", port)) {
            return socket;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("openssl s_server does not listen");
}

#[test]
fn our_client_speaks_with_s_server() {
    if !openssl_is_here() {
        return;
    }
    let scene = Scene::new();
    let issued = scene.authority.issue(&Leaf::server(&["localhost"]));
    scene.write("server.pem", &issued.chain_pem);
    scene.write("server.key", &issued.key_pem);
    let alice = scene.authority.issue(&Leaf::client("alice", 7)).key();
    for (argument, version) in [("-tls1_3", TlsVersion::Tls13), ("-tls1_2", TlsVersion::Tls12)] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments =
            [argument, "-Verify", "1", "-CAfile", "root.pem", "-verify_return_error", "-alpn", "http/1.1"];
        // Its own store of sessions: those of TLS 1.3 would be tried first.
        let client = TlsClientConfig::builder()
            .roots_pem(scene.authority.pem.as_bytes())
            .certificate(alice.clone())
            .build()
            .unwrap();
        let _server = s_server(scene.folder.path(), port, &arguments);
        for resumed in [false, true] {
            let mut socket = connect(port);
            let mut hello = Vec::new();
            let session = TlsSession::client(&client, "localhost", &mut hello).unwrap();
            socket.write_all(&hello).unwrap();
            let mut bridge = Bridge::new(session, socket);
            bridge.open().unwrap();
            bridge.send(b"hello\n");
            assert_eq!(bridge.receive_line().unwrap(), "olleh\n");
            assert_eq!(bridge.session.version(), Some(version));
            assert_eq!(bridge.session.alpn(), Some(&b"http/1.1"[..]));
            assert_eq!(bridge.session.is_resumed(), resumed, "{argument}");
            bridge.close();
        }
    }
}
