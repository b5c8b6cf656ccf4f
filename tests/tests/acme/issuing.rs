//! From a server without a certificate to one that renews it, and what happens when it cannot.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gimmal::defence::{AllowedHosts, Defences};
use gimmal::tls::TlsServerConfig;
use gimmal::tls::acme::{AcmeChallenge, AcmeConfig, LETS_ENCRYPT_STAGING};
use gimmal::{App, Backend, Server, Severity, StatusCode};
use gimmal_tests::{Authority, BACKENDS, Client, TlsClient, eventually, server, trusting};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::pebble::Pebble;
use crate::scene::{Served, about};

const NAME: &str = "www.example.org";
const YEAR_SECONDS: u64 = 365 * 24 * 3600;

/// A client that trusts these roots. It does not resume: it sees the certificate each time.
fn forgetful(roots: &[&str]) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.unwrap().with_root_certificates(store).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The certificate that a new connection is shown, on which a request is answered.
fn shown(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Vec<u8>> {
    let mut client = TlsClient::connect_tls(address, NAME, config)?;
    client.try_send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"))?;
    assert_eq!(client.try_message()?.status, 200);
    Ok(client.stream().conn.peer_certificates().unwrap()[0].to_vec())
}

fn wait_until_shown(address: SocketAddr, config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut certificate = None;
    eventually("a certificate is there", || {
        certificate = shown(address, config).ok();
        certificate.is_some()
    });
    certificate.unwrap()
}

fn app() -> App {
    App::new().get("/", about)
}

fn modes(folder: &Path) -> Vec<u32> {
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let mut modes: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| mode(&entry.unwrap().path())).collect();
    modes.push(mode(folder));
    modes
}

/// Nobody who has connected waits.
fn is_alone(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Stores a certificate that is valid, and due to be renewed, as if it had been issued long ago.
fn store_due(tls: &TlsServerConfig, authority: &Authority) -> Vec<u8> {
    let issued = authority.server_for_days(&[NAME], 20);
    fs::write(&tls.files()[0], issued.key_pem.clone() + &issued.chain_pem).unwrap();
    tls.reload().unwrap();
    issued.key().certificate().der().to_vec()
}

/// All that the servers of this process have logged since it was called first.
fn log() -> String {
    static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || Appender(Arc::clone(&writer)))
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    });
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

struct Appender(Arc<Mutex<Vec<u8>>>);

impl Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn tls_alpn_01_brings_the_first_certificate_and_the_next_in_time() {
    for backend in BACKENDS {
        let pebble = Pebble::start(8);
        let trusting = forgetful(&[&pebble.root()]);
        let tls = TlsServerConfig::from_acme(pebble.config(&["example.org", NAME])).unwrap();
        assert!(tls.certificates().is_empty());
        // On several cores: whichever the ACME server comes to can answer.
        let server = Server::new(app()).cores(2).backend(backend).bind_tls(pebble.tls, &tls);
        let server = Served::start(server);
        let first = wait_until_shown(server.address(), &trusting);
        for _ in 0..20 {
            shown(server.address(), &trusting).expect("all cores have it");
        }
        assert_eq!(modes(&pebble.folder.path().join("acme")), [0o600, 0o600, 0o700]);
        // It lives eight seconds, and is renewed after four.
        eventually("it is renewed", || shown(server.address(), &trusting).expect("a connection") != first);
        assert!(server.handle().certificates_expire_at().is_some());
    }
}

#[test]
fn http_01_is_answered_before_redirects_guards_and_hosts() {
    let hosts = || AllowedHosts::new([NAME]).unwrap();
    for backend in BACKENDS {
        for is_redirect in [true, false] {
            let mut pebble = Pebble::start(YEAR_SECONDS);
            let trusting = forgetful(&[&pebble.root()]);
            let config = || pebble.config(&[NAME]).challenge(AcmeChallenge::Http01);
            let tls = TlsServerConfig::from_acme(config()).unwrap();
            let start = |tls: &TlsServerConfig| {
                let app = app().with(Defences::new().allowed_hosts(hosts()));
                let server = server(app, backend).bind_tls("127.0.0.1:0", tls);
                Served::start(if is_redirect {
                    server.redirect_to_https(pebble.http, 443)
                } else {
                    server.bind(pebble.http)
                })
            };
            let served = start(&tls);
            let first = wait_until_shown(served.address(), &trusting);

            // Challenges that are not open, and all else, are answered as ever.
            let mut plain = Client::connect(pebble.http);
            plain.send(format!("GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
            assert_eq!(plain.message().status, 404, "{backend:?}");
            plain.send(format!("GET /a HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
            let response = plain.message();
            if is_redirect {
                assert_eq!(response.status, 308, "{backend:?}");
                assert_eq!(response.header("location"), Some("https://www.example.org/a"), "{backend:?}");
            } else {
                assert_eq!(response.status, 404, "{backend:?}");
            }
            drop(served);

            // After a restart, what is stored is used at once, and nobody is asked.
            let config = config();
            let nobody = pebble.replace();
            let served = {
                let tls = TlsServerConfig::from_acme(config).unwrap();
                Served::start(server(app(), backend).bind_tls("127.0.0.1:0", &tls).bind(pebble.http))
            };
            for _ in 0..20 {
                assert!(shown(served.address(), &trusting).unwrap() == first, "{backend:?}");
                thread::sleep(Duration::from_millis(10));
            }
            assert!(is_alone(&nobody), "{backend:?}");
        }
    }
}

#[test]
fn a_renewal_under_load_fails_no_request() {
    let authority = Authority::new("an earlier root");
    for backend in BACKENDS {
        let pebble = Pebble::start(YEAR_SECONDS);
        let trusting = forgetful(&[&pebble.root(), authority.pem()]);
        let tls = TlsServerConfig::from_acme(pebble.config(&[NAME])).unwrap();
        let old = store_due(&tls, &authority);
        let served = Served::start(server(app(), backend).bind_tls(pebble.tls, &tls));
        let address = served.address();
        let mut lasting = TlsClient::connect_tls(address, NAME, &trusting).unwrap();
        let (seen, stop) = (&Mutex::new(HashMap::<Vec<u8>, usize>::new()), &AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        let certificate = shown(address, &trusting).expect("a connection and an answer");
                        *seen.lock().unwrap().entry(certificate).or_default() += 1;
                        assert!(seen.lock().unwrap().len() <= 2);
                    }
                });
            }
            eventually("many have seen the new one", || {
                assert_eq!(lasting.get("/").status, 200, "{backend:?}");
                let seen = seen.lock().unwrap();
                seen.iter().any(|(certificate, count)| *certificate != old && *count > 50)
            });
            stop.store(true, Ordering::SeqCst);
        });
        assert!(seen.lock().unwrap()[&old] > 0, "{backend:?}: some came before");
    }
}

#[test]
fn a_failing_acme_server_leaves_the_old_certificate() {
    let authority = Authority::new("an earlier root");
    let trusting = forgetful(&[authority.pem()]);
    for backend in BACKENDS {
        let mut pebble = Pebble::start(YEAR_SECONDS);
        let config = pebble.config(&[NAME]);
        let broken = pebble.replace();
        let tls = TlsServerConfig::from_acme(config).unwrap();
        let old = store_due(&tls, &authority);
        let served = Served::start(server(app(), backend).bind_tls(pebble.tls, &tls));
        assert!(shown(served.address(), &trusting).unwrap() == old, "{backend:?}");
        // It is asked, and breaks off.
        drop(broken.accept().unwrap());
        for _ in 0..20 {
            assert!(shown(served.address(), &trusting).unwrap() == old, "{backend:?}");
            thread::sleep(Duration::from_millis(10));
        }
        assert!(is_alone(&broken), "{backend:?}: it is asked again only after a while");
    }
}

#[test]
fn a_name_that_leads_elsewhere_is_told_with_the_acme_servers_words() {
    assert!(!log().contains("elsewhere.test"));
    for (backend, name) in BACKENDS.into_iter().zip(["ring.elsewhere.test", "epoll.elsewhere.test"]) {
        let pebble = Pebble::start(YEAR_SECONDS);
        let tls = TlsServerConfig::from_acme(pebble.config(&[name])).unwrap();
        // Nobody listens where the name leads to.
        let served = Served::start(server(app(), backend).bind_tls("127.0.0.1:0", &tls));
        eventually("it is told", || log().contains(&format!("could not verify {name} (")));
        assert!(log().contains("Failed to connect to 127.0.0.1:"), "the ACME server's own words");
        assert!(log().contains(&format!("names=\"{name}\" directory=\"https://localhost:")));
        assert!(tls.certificates().is_empty(), "{backend:?}");
        drop(served);
    }
}

#[test]
fn until_the_first_certificate_is_there_all_but_tls_is_served() {
    for backend in BACKENDS {
        let (folder, silent) = (tempfile::tempdir().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        // It takes connections and never says a word.
        let directory = format!("http://{}/dir", silent.local_addr().unwrap());
        let config = AcmeConfig::new(directory, &[NAME], folder.path()).unwrap().agree_to_terms_of_service();
        let tls = TlsServerConfig::from_acme(config).unwrap();
        let server = server(app(), backend).bind_tls("127.0.0.1:0", &tls).bind("127.0.0.1:0");
        let findings = server.check();
        assert!(
            findings.iter().any(|finding| {
                (finding.code, finding.severity) == ("tls.no_certificate", Severity::Warning)
            }),
            "{findings:?}"
        );
        let served = Served::start(server);
        let (asking, _) = silent.accept().unwrap();
        assert!(shown(served.address(), &trusting(Authority::new("some root").pem())).is_err());
        assert_eq!(Client::connect(served.address_of(1)).get("/").status, 200, "{backend:?}");
        // It stops at once, whatever it waits for.
        let started = Instant::now();
        served.handle().shutdown();
        served.join();
        // An ACME server has ten seconds for an answer.
        assert!(started.elapsed() < Duration::from_secs(5), "{backend:?}: {:?}", started.elapsed());
        drop(asking);
    }
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = || AcmeConfig::new(LETS_ENCRYPT_STAGING, &[NAME], folder.path()).unwrap();
    let error = TlsServerConfig::from_acme(config()).unwrap_err().to_string();
    assert!(error.contains("agree_to_terms_of_service"), "{error}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let not_a_folder = AcmeConfig::new(LETS_ENCRYPT_STAGING, &[NAME], &file).unwrap();
    let error = TlsServerConfig::from_acme(not_a_folder.agree_to_terms_of_service()).unwrap_err().to_string();
    assert!(error.contains("file") && error.contains("must be able to read and write it"), "{error}");

    let codes = |server: &Server| server.check().iter().map(|finding| finding.code).collect::<Vec<_>>();
    let by_http = config().agree_to_terms_of_service().challenge(AcmeChallenge::Http01);
    let tls = TlsServerConfig::from_acme(by_http).unwrap();
    let alone = server(app(), Backend::Auto).bind_tls("127.0.0.1:0", &tls);
    assert!(codes(&alone).contains(&"server.acme_without_http"));
    assert!(codes(&alone).contains(&"tls.acme_staging"));
    let beside = alone.redirect_to_https("127.0.0.1:0", 443);
    assert!(!codes(&beside).contains(&"server.acme_without_http"));
    // The names are the server's own before there is a certificate.
    assert!(!codes(&beside).contains(&"server.redirect_to_any_host"));
    assert!(tls.is_for_host("WWW.example.org.") && !tls.is_for_host("example.org"));

    // What has expired is no reason not to start: it is what the ACME server is asked to replace.
    let expired = Authority::new("a root").server_for_days(&[NAME], -1);
    fs::write(&tls.files()[0], expired.key_pem.clone() + &expired.chain_pem).unwrap();
    tls.reload().unwrap();
    let found = beside.check();
    let found = found.iter().find(|finding| finding.code == "tls.certificate_expired").unwrap();
    assert_eq!(found.severity, Severity::Warning);

    // A route of the app's own in the same place.
    let own = App::new().get("/.well-known/acme-challenge/{file}", async || StatusCode::OK);
    let error = server(own, Backend::Auto).bind_tls("127.0.0.1:0", &tls).bind("127.0.0.1:0").start();
    assert!(error.unwrap_err().to_string().contains("acme-challenge"));
}
