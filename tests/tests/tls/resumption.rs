//! Sessions that resume, on whichever core the client lands.

use std::net::SocketAddr;

use gimmal::{App, Server};
use gimmal_tests::BACKENDS;

use crate::scene::{LAST_GET, Scene, Served, about};

/// Connections until both cores of two have been met: that one of them is missed in 64 will not be seen by anybody.
const TRIES: usize = 64;

/// On which core a client was served that came with the session in `file`, if it was resumed there.
fn resumes(scene: &Scene, address: SocketAddr, file: &str, arguments: &[&str]) -> usize {
    let text = scene.s_client(address, LAST_GET, &[&["-sess_in", file], arguments].concat());
    assert!(text.contains(" resumed=true "), "{arguments:?}: {text}");
    assert!(text.contains("Reused, TLSv1."), "{arguments:?}: {text}");
    let core = text.split(" core=").nth(1).expect("the server says on which core it is");
    core.trim_start()[..1].parse().unwrap()
}

#[test]
fn sessions_are_resumed_across_cores() {
    let scene = Scene::new();
    for backend in BACKENDS {
        let server = Served::start(
            Server::new(App::new().get("/", about))
                .cores(2)
                .backend(backend)
                .bind_tls("127.0.0.1:0", &scene.config()),
        );
        // By ticket in both versions, and from the cache.
        for arguments in [["-tls1_3"].as_slice(), &["-tls1_2"], &["-tls1_2", "-no_ticket"]] {
            let file = scene.path("session");
            let first = [&["-sess_out", &file], arguments].concat();
            let text = scene.s_client(server.address(), LAST_GET, &first);
            assert!(text.contains(" resumed=false "), "{backend:?}: {arguments:?}: {text}");
            let mut seen = [false; 2];
            for _ in 0..TRIES {
                seen[resumes(&scene, server.address(), &file, arguments)] = true;
                if seen == [true; 2] {
                    break;
                }
            }
            assert_eq!(seen, [true; 2], "{backend:?}: {arguments:?}: not both cores resume");
        }
        // OpenSSL's own way to try: five more connections with the session of the first.
        let text = scene.s_client(server.address(), LAST_GET, &["-tls1_2", "-reconnect"]);
        assert_eq!(text.matches("Reused, TLSv1.2").count(), 5, "{backend:?}: {text}");
    }
}
