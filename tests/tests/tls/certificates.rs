//! Certificates that are renewed while the server runs.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gimmal::tls::TlsServerConfig;
use gimmal::{App, Backend};
use gimmal_tests::{BACKENDS, TlsClient, eventually, server};
use rustls::ClientConfig;
use rustls::client::Resumption;

use crate::scene::{Scene, Served, about};

/// A client that does not resume: it sees the certificate each time.
fn forgetful(scene: &Scene) -> Arc<ClientConfig> {
    let mut config = (*scene.trusting).clone();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The certificate that a new connection is shown, on which a request is answered.
fn shown(address: SocketAddr, config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut client = TlsClient::connect_tls(address, "localhost", config).expect("a connection");
    assert_eq!(client.get("/").status, 200);
    client.stream().conn.peer_certificates().unwrap()[0].to_vec()
}

/// Writes a new certificate and its key, and gives the former.
fn renew(scene: &Scene) -> Vec<u8> {
    let issued = scene.authority.server(&["localhost"]);
    let _ = issued.write(scene.folder.path(), "server");
    issued.key().certificate().der().to_vec()
}

fn from_files(folder: &Path) -> TlsServerConfig {
    TlsServerConfig::from_pem_files(folder.join("server.pem"), folder.join("server.key")).unwrap()
}

#[test]
fn a_reload_under_load_fails_no_request() {
    let scene = Scene::new();
    let config = forgetful(&scene);
    for backend in BACKENDS {
        let mut current = renew(&scene);
        let tls = from_files(scene.folder.path());
        let server = server(App::new().get("/", about), backend).bind_tls("127.0.0.1:0", &tls);
        let server = Served::start(server);
        let address = server.address();
        // One that stays all the time.
        let mut lasting = scene.connect(address);
        let (seen, stop) = (&Mutex::new(HashMap::<Vec<u8>, usize>::new()), &AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        *seen.lock().unwrap().entry(shown(address, &config)).or_default() += 1;
                    }
                });
            }
            for _ in 0..8 {
                let before = seen.lock().unwrap().values().sum::<usize>();
                eventually("some are served", || seen.lock().unwrap().values().sum::<usize>() > before + 10);
                let new = renew(&scene);
                server.handle().reload_certificates().unwrap();
                assert!(shown(address, &config) == new, "{backend:?}: a new connection gets what is new");
                assert_eq!(lasting.get("/").status, 200, "{backend:?}");
                current = new;
            }
            // Files that are bad: the certificate without its key, half a file, none.
            for bad in 0..3 {
                let path = scene.folder.path().join("server.pem");
                let good = std::fs::read(&path).unwrap();
                match bad {
                    0 => std::fs::write(&path, scene.authority.server(&["localhost"]).chain_pem).unwrap(),
                    1 => std::fs::write(&path, &good[..good.len() / 2]).unwrap(),
                    _ => std::fs::remove_file(&path).unwrap(),
                }
                let errors = server.handle().reload_certificates().unwrap_err();
                assert_eq!(errors.len(), 1, "{backend:?}");
                let text = errors[0].to_string();
                assert!(text.contains("server.pem"), "{backend:?}: it names the file: {text}");
                assert!(shown(address, &config) == current, "{backend:?}: the old one stays");
                assert_eq!(lasting.get("/").status, 200, "{backend:?}");
                std::fs::write(&path, good).unwrap();
            }
            stop.store(true, Ordering::SeqCst);
        });
        let seen = seen.lock().unwrap();
        assert!(seen.len() >= 8, "{backend:?}: {} certificates were seen", seen.len());
        assert_eq!(lasting.get("/").status, 200, "{backend:?}");
    }
}

#[test]
fn files_that_change_are_read_again() {
    let scene = Scene::new();
    let config = forgetful(&scene);
    let old = renew(&scene);
    let servers = BACKENDS.map(|backend| {
        let tls = from_files(scene.folder.path());
        Served::start(server(App::new().get("/", about), backend).bind_tls("127.0.0.1:0", &tls))
    });
    for server in &servers {
        assert!(shown(server.address(), &config) == old);
    }
    let new = renew(&scene);
    for server in &servers {
        eventually("the new certificate is shown", || shown(server.address(), &config) == new);
    }
}

#[test]
fn the_first_end_of_a_certificate_is_a_number_to_watch() {
    let scene = Scene::new();
    let issue = |days| scene.authority.server_for_days(&["localhost"], days);
    for backend in BACKENDS {
        let _ = issue(30).write(scene.folder.path(), "server");
        let later = TlsServerConfig::builder().certificate(issue(60).key()).build().unwrap();
        let first = from_files(scene.folder.path());
        let server =
            server(App::new(), backend).bind_tls("127.0.0.1:0", &later).bind_tls("127.0.0.1:0", &first);
        let server = Served::start(server);
        let in_days = || {
            let end = server.handle().certificates_expire_at().unwrap();
            (end - std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).div_ceil(24 * 3600)
        };
        assert_eq!(in_days(), 30, "{backend:?}");
        let _ = issue(90).write(scene.folder.path(), "server");
        server.handle().reload_certificates().unwrap();
        assert_eq!(in_days(), 60, "{backend:?}");
        let plain = Served::start(gimmal_tests::server(App::new(), backend).bind("127.0.0.1:0"));
        assert_eq!(plain.handle().certificates_expire_at(), None);
    }
}

/// A server in a process of its own, since a signal is for a whole one.
struct Process(Child, SocketAddr);

impl Process {
    fn start(backend: Backend, folder: &Path) -> Self {
        let backend = if backend == Backend::Epoll { "epoll" } else { "uring" };
        let mut child = Command::new(env!("CARGO_BIN_EXE_test_server"))
            .args([backend, "1000"])
            .args([folder.join("server.pem"), folder.join("server.key")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap_or_else(|_| panic!("the server did not start: {line:?}"));
        Self(child, address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sighup_reads_them_again() {
    let scene = Scene::new();
    let config = forgetful(&scene);
    for backend in BACKENDS {
        let old = renew(&scene);
        let started = Instant::now();
        let process = Process::start(backend, scene.folder.path());
        let fast = |address| {
            let mut client = TlsClient::connect_tls(address, "localhost", &config).expect("a connection");
            assert_eq!(client.get("/fast").text(), "fast");
            client.stream().conn.peer_certificates().unwrap()[0].to_vec()
        };
        assert!(fast(process.1) == old, "{backend:?}");
        let new = renew(&scene);
        let kill = Command::new("kill").args(["-HUP", &process.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
        eventually("the new certificate is shown", || fast(process.1) == new);
        // The files themselves are looked at only every five seconds.
        assert!(started.elapsed() < Duration::from_secs(5), "{backend:?}: it was not the signal");
    }
}
