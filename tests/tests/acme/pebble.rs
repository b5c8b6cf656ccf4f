//! Pebble, with a DNS in which every name is this machine.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};

use gimmal::tls::TlsClientConfig;
use gimmal::tls::acme::AcmeConfig;
use gimmal_tests::{Authority, TlsClient, eventually, trusting};

pub(crate) struct Pebble {
    processes: [Child; 2],
    authority: Authority,
    address: SocketAddr,
    management: SocketAddr,
    /// Where it asks for HTTP-01 and TLS-ALPN-01, in place of the ports 80 and 443.
    pub(crate) http: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Addresses that nobody listens on; all different, since each is held until all are found.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn spawn(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("pebble is installed: these tests need it")
}

impl Pebble {
    /// Starts one that issues certificates for so many seconds.
    pub(crate) fn start(validity_seconds: u64) -> Self {
        let authority = Authority::new("the root of Pebble's own server");
        let folder = tempfile::tempdir().unwrap();
        let _ = authority.server(&["localhost"]).write(folder.path(), "pebble");
        let [address, management, http, tls, names] = free_addresses();
        let config = format!(
            r#"{{ "pebble": {{
                "listenAddress": "{address}", "managementListenAddress": "{management}",
                "certificate": "pebble.pem", "privateKey": "pebble.key", "ocspResponderURL": "",
                "httpPort": {}, "tlsPort": {}, "certificateValidityPeriod": {validity_seconds}
            }} }}"#,
            http.port(),
            tls.port(),
        );
        fs::write(folder.path().join("config.json"), config).unwrap();
        let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
        let processes = [
            spawn(
                Command::new("pebble-challtestsrv")
                    .args(["-dns01", &dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
                    .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                    .args(["-management", &names.to_string()]),
            ),
            spawn(
                Command::new("pebble")
                    .args(["-config", "config.json", "-dnsserver", &dns])
                    .env("PEBBLE_VA_NOSLEEP", "1")
                    .current_dir(folder.path()),
            ),
        ];
        let listens = |address| TcpStream::connect(address).is_ok();
        eventually("pebble listens", || listens(address) && listens(management));
        Self { processes, authority, address, management, http, tls, folder }
    }

    /// What a server for these names is told.
    pub(crate) fn config(&self, names: &[&str]) -> AcmeConfig {
        let trusting = TlsClientConfig::builder().roots_pem(self.authority.pem().as_bytes()).build().unwrap();
        let directory = format!("https://localhost:{}/dir", self.address.port());
        let config = AcmeConfig::new(directory, names, self.folder.path().join("acme")).unwrap();
        config.contact("mailto:admin@example.org").agree_to_terms_of_service().server_tls(trusting)
    }

    /// The root that it issues from, which is new at each start.
    pub(crate) fn root(&self) -> String {
        let trusting = trusting(self.authority.pem());
        let mut client = TlsClient::connect_tls(self.management, "localhost", &trusting).unwrap();
        client.send("GET /roots/0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.message().text().to_owned()
    }

    /// Ends it, and gives a listener in its place.
    pub(crate) fn replace(&mut self) -> TcpListener {
        self.processes[1].kill().unwrap();
        self.processes[1].wait().unwrap();
        TcpListener::bind(self.address).unwrap()
    }
}
