//! Pebble, with a DNS in which every name is this machine.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gimmal_security::tls::TlsClientConfig;
use gimmal_security::{BlockingPool, HttpFetch};
use http::Request;

use crate::authority::{Authority, Leaf};
use crate::fetch::BlockingFetch;

/// Tokio's threads for blocking work.
pub(crate) struct TokioPool;

impl BlockingPool for TokioPool {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        tokio::task::spawn_blocking(work).await.ok()
    }
}

pub(crate) struct Pebble {
    processes: Vec<Child>,
    port: u16,
    management_port: u16,
    /// Where it looks for HTTP-01 and TLS-ALPN-01, in place of 80 and 443.
    pub(crate) http_port: u16,
    pub(crate) tls_port: u16,
    pub(crate) fetch: BlockingFetch,
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

/// Ports that nobody listens on; all different, since each is held until all are found.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

impl Pebble {
    /// `more` goes into its configuration.
    pub(crate) fn start(more: &str) -> Self {
        let authority = Authority::new("the root of Pebble's own server");
        let issued = authority.issue(&Leaf::server(&["localhost"]));
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cert.pem"), &issued.chain_pem).unwrap();
        std::fs::write(path("key.pem"), &issued.key_pem).unwrap();
        let [port, management_port, http_port, tls_port, names_port] = free_ports();
        let config = format!(
            r#"{{ "pebble": {{
                "listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{management_port}",
                "certificate": "cert.pem", "privateKey": "key.pem", "ocspResponderURL": "",
                "httpPort": {http_port}, "tlsPort": {tls_port}{more}
            }} }}"#
        );
        std::fs::write(path("config.json"), config).unwrap();

        let dns = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let names = Command::new("pebble-challtestsrv")
            .args(["-dns01", &dns.to_string(), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-management", &format!("127.0.0.1:{names_port}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Command::new("pebble")
            .args(["-config", "config.json", "-dnsserver", &dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tls = TlsClientConfig::builder().roots_pem(authority.pem.as_bytes()).build().unwrap();
        let this = Self {
            processes: vec![names, server],
            port,
            management_port,
            http_port,
            tls_port,
            fetch: BlockingFetch { tls },
            folder,
        };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return this;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("pebble does not listen");
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The root that it issues from, which is new at each start.
    pub(crate) async fn root_pem(&self) -> Vec<u8> {
        let uri = format!("https://localhost:{}/roots/0", self.management_port);
        self.fetch.fetch(Request::get(uri).body(Vec::new()).unwrap()).await.unwrap().into_body()
    }
}
