//! Clients that do not do what they should. Whatever they do, others are served.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gimmal::{App, Backend, Timeouts};
use gimmal_tests::{BACKENDS, Client, TlsClient, eventually, server};
use rustls::{ClientConfig, ClientConnection};

use crate::scene::{Scene, Served, about};

/// What is to happen at once on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(5);

fn serve(scene: &Scene, backend: Backend, handshake: Duration, handshakes_max: usize) -> Served {
    let timeouts = Timeouts { handshake, ..Timeouts::default() };
    let server =
        server(App::new().get("/", about), backend).timeouts(timeouts).handshakes_max(handshakes_max);
    Served::start(server.bind_tls("127.0.0.1:0", &scene.config()))
}

/// The first flight of a client.
fn hello(scene: &Scene) -> Vec<u8> {
    let name = "localhost".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::clone(&scene.trusting), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

fn dial(address: SocketAddr) -> TcpStream {
    Client::connect(address).into_stream()
}

/// All that comes until the end, be it a reset.
fn all_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server does not close: {error}"),
    }
    all
}

fn is_served(client: &mut TlsClient) {
    let asked = Instant::now();
    assert_eq!(client.get("/").status, 200);
    assert!(asked.elapsed() < AT_ONCE, "served after {:?}", asked.elapsed());
}

#[test]
fn plain_http_is_told_to_speak_https() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(10), 8);
        for request in [
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            "GET / HTTP/1.0\r\n\r\n".to_owned(),
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n".to_owned(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{}",
                "x".repeat(100_000)
            ),
        ] {
            let mut client = Client::connect(server.address());
            client.send(&request);
            let response = client.message();
            assert_eq!(response.status, 400, "{backend:?}");
            assert!(response.text().contains("https://") && response.says_close(), "{backend:?}");
            client.ended().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
        }
        // In crumbs.
        let mut client = Client::connect(server.address());
        for byte in "GET / HT".bytes() {
            client.send([byte]);
        }
        assert_eq!(client.message().status, 400, "{backend:?}");
        let curl = std::process::Command::new("curl")
            .args(["--silent", "--show-error", &format!("http://{}", server.address())])
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&curl.stdout).contains("https://"), "{backend:?}: {curl:?}");
    }
}

#[test]
fn garbage_ends_the_connection() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(10), 8);
        let mut bystander = scene.connect(server.address());
        let mut cases = vec![
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            vec![0; 100_000],
            vec![0xff; 5],
            // A record longer than any may be, a handshake message of 16 MB, an empty handshake record, an alert.
            b"\x16\x03\x01\xff\xff".to_vec(),
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff".to_vec(),
            b"\x16\x03\x01\x00\x00".to_vec(),
            b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
            // Data before the handshake.
            b"\x16\x03\x01\x00\x01\x01\x17\x03\x03\x00\x05hello".to_vec(),
        ];
        // A hello with a bit changed in its middle: in a length, somewhere.
        let hello = hello(&scene);
        for at in [5, 6, 9, 43] {
            let mut bad = hello.clone();
            bad[at] ^= 0x80;
            cases.push(bad);
        }
        for case in &cases {
            let mut stream = dial(server.address());
            // It may be closed before all is sent.
            let _ = stream.write_all(case);
            let _ = stream.shutdown(Shutdown::Write);
            all_of(&mut stream);
            is_served(&mut bystander);
        }
        eventually("all are closed", || server.handle().counters().open == 1);
    }
}

// RFC 8446, sections 5 and 5.1.
#[test]
fn a_client_that_begins_wrongly_is_told_by_an_alert() {
    let scene = Scene::new();
    let (unexpected_message, record_overflow, illegal_parameter) = (10, 22, 47);
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(10), 8);
        let oversized = [&b"\x16\x03\x01\x40\x01"[..], &[1; 0x4001]].concat();
        for (bytes, alert) in [
            (&b"\x14\x03\x03\x00\x01\x01"[..], unexpected_message),
            (b"\x17\x03\x03\x00\x05hello", unexpected_message),
            (b"\x18\x03\x03\x00\x01\x01", unexpected_message),
            (b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", unexpected_message),
            (b"SSH-2.0-OpenSSH_9.2\r\n", unexpected_message),
            (b"\x16\x03\x01\x00\x01\x01\x14\x03\x03\x00\x01\x01", unexpected_message),
            (&oversized, record_overflow),
            (b"\x16\x03\x01\x00\x04\x01\x01\x00\x00", illegal_parameter),
        ] {
            let mut stream = dial(server.address());
            stream.write_all(bytes).unwrap();
            assert_eq!(all_of(&mut stream), [21, 3, 3, 0, 2, 2, alert], "{backend:?}: {:?}", &bytes[..6]);
        }
        is_served(&mut scene.connect(server.address()));
    }
}

/// As of a client with large keys for algorithms to come.
#[test]
fn a_client_with_a_hello_of_60_kb_is_served() {
    let scene = Scene::new();
    let mut talkative = ClientConfig::clone(&scene.trusting);
    talkative.alpn_protocols = (0..600).map(|number| format!("protocol-{number:090}").into_bytes()).collect();
    talkative.alpn_protocols.push(b"http/1.1".to_vec());
    let talkative = Arc::new(talkative);
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(10), 8);
        let mut client = TlsClient::connect_tls(server.address(), "localhost", &talkative).unwrap();
        is_served(&mut client);
    }
}

#[test]
fn a_bad_record_ends_the_session_with_an_alert() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(10), 8);
        let bad_records: [&[u8]; 2] = [
            b"\x17\x03\x03\x00\x20................................",
            // Twice what a record may hold.
            b"\x17\x03\x03\x80\x00",
        ];
        for bad in bad_records {
            let mut client = scene.connect(server.address());
            is_served(&mut client);
            client.stream_mut().sock.write_all(bad).unwrap();
            let error = client.ended().unwrap_err().to_string();
            // rustls says decode_error where RFC 8446 has record_overflow.
            assert!(error.contains("BadRecordMac") || error.contains("DecodeError"), "{backend:?}: {error}");
        }
        // In plain text what should be encrypted.
        let mut client = scene.connect(server.address());
        client.stream_mut().sock.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let error = client.ended().unwrap_err();
        assert!(error.to_string().contains("fatal alert"), "{backend:?}: {error}");
        eventually("all are closed", || server.handle().counters().open == 0);
    }
}

/// An alert behind a close_notify would be out of place.
#[test]
fn a_bad_record_after_the_server_has_closed_is_not_read() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(10), 8);
        let mut client = scene.connect(server.address());
        // It may be still sending, so the server waits a little.
        client.send("GET / HTTP/1.1\r\nBad Name: 1\r\n\r\n");
        assert_eq!(client.message().status, 400, "{backend:?}");
        client.ended().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
        let socket = &mut client.stream_mut().sock;
        socket.write_all(b"\x17\x03\x03\x00\x20................................").unwrap();
        // It may be closed already.
        let _ = socket.shutdown(Shutdown::Write);
        assert_eq!(all_of(socket), b"", "{backend:?}: no alert comes behind close_notify");
        eventually("it is closed", || server.handle().counters().open == 0);
        assert_eq!(server.handle().counters().panics, 0, "{backend:?}");
    }
}

#[test]
fn whoever_stalls_in_the_handshake_is_gone_at_the_deadline() {
    let scene = Scene::new();
    let hello = hello(&scene);
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_millis(400), 100);
        let started = Instant::now();
        // Nothing, one byte, half a hello, a hello whose answer is not answered.
        let mut stalled: Vec<_> = [0, 1, hello.len() / 2, hello.len()]
            .into_iter()
            .map(|length| {
                let mut stream = dial(server.address());
                stream.write_all(&hello[..length]).unwrap();
                stream
            })
            .collect();
        // And one that is never quite done.
        let mut crumbs = dial(server.address());
        let (address, hello) = (server.address(), hello.clone());
        let feeding = thread::spawn(move || {
            for byte in hello {
                if crumbs.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        for stream in &mut stalled {
            all_of(stream);
        }
        assert!(started.elapsed() >= Duration::from_millis(400), "{backend:?}: not before the deadline");
        assert!(started.elapsed() < AT_ONCE, "{backend:?}: {:?}", started.elapsed());
        eventually("all are closed", || server.handle().counters().open == 0);
        feeding.join().unwrap();
        // The deadline is for the handshake alone.
        let mut client = scene.connect(address);
        thread::sleep(Duration::from_millis(600));
        is_served(&mut client);
    }
}

#[test]
fn a_client_that_leaves_in_the_handshake_leaves_nothing_behind() {
    let scene = Scene::new();
    let hello = hello(&scene);
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(10), 4);
        for length in [0, 1, hello.len() / 2, hello.len()] {
            // In order, half-open, and by a reset.
            for ends in 0..3 {
                let mut stream = dial(server.address());
                stream.write_all(&hello[..length]).unwrap();
                match ends {
                    0 => {}
                    1 => {
                        stream.shutdown(Shutdown::Write).unwrap();
                        all_of(&mut stream);
                    }
                    _ => {
                        let socket = socket2::SockRef::from(&stream);
                        socket.set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
            }
        }
        eventually("all are closed", || server.handle().counters().open == 0);
        // Their turns are free again.
        is_served(&mut scene.connect(server.address()));
    }
}

/// More clients at once than may do their handshake at a time: they wait for their turn.
#[test]
fn a_crowd_is_taken_in_one_after_the_other() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(20), 2);
        let mut bystander = scene.connect(server.address());
        let address = server.address();
        thread::scope(|scope| {
            let crowd: Vec<_> =
                (0..40).map(|_| scope.spawn(|| is_served(&mut scene.connect(address)))).collect();
            while !crowd.iter().all(thread::ScopedJoinHandle::is_finished) {
                is_served(&mut bystander);
            }
        });
    }
}

/// A flood of handshakes that are begun and not finished, without end. Who is in is served, and who is honest comes in.
#[test]
fn a_flood_of_stalled_handshakes_keeps_nobody_out() {
    let scene = Scene::new();
    let hello = hello(&scene);
    for backend in BACKENDS {
        let server = serve(&scene, backend, Duration::from_secs(3), 8);
        let address = server.address();
        let mut bystander = scene.connect(address);
        let mut flood: Vec<_> = (0..200).map(|_| dial(address)).collect();
        for stream in &mut flood {
            stream.write_all(&hello).unwrap();
        }
        for _ in 0..20 {
            is_served(&mut bystander);
        }
        // It goes on: each that is closed is followed by another.
        let started = Instant::now();
        let (mut tries, mut served) = (0, false);
        while !served && started.elapsed() < Duration::from_secs(10) {
            for _ in 0..8 {
                let mut stream = dial(address);
                stream.write_all(&hello).unwrap();
                flood.push(stream);
            }
            tries += 1;
            served = TlsClient::connect_tls(address, "localhost", &scene.trusting).is_ok();
            is_served(&mut bystander);
        }
        assert!(served, "{backend:?}: nobody comes in any more, after {tries} tries");
        drop(flood);
        eventually("all others are closed", || server.handle().counters().open == 1);
    }
}
