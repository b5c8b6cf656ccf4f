//! Clients that prove who they are by a certificate.

use gimmal::App;
use gimmal::tls::ClientAuth;
use gimmal_tests::{Authority, BACKENDS, Issued, server};

use crate::scene::{LAST_GET, Scene, Served, about};

struct Clients {
    scene: Scene,
    authority: Authority,
    alice: Issued,
}

impl Clients {
    fn new() -> Self {
        let (scene, authority) = (Scene::new(), Authority::new("the clients' root"));
        std::fs::write(scene.folder.path().join("clients.pem"), authority.pem()).unwrap();
        let alice = authority.client("alice", 66);
        let _ = alice.write(scene.folder.path(), "alice");
        let _ = Authority::new("another").client("alice", 66).write(scene.folder.path(), "foreign");
        // A certificate for a server is none for a client.
        let _ = authority.server(&["localhost"]).write(scene.folder.path(), "server");
        Self { scene, authority, alice }
    }

    fn revoke(&self, serials: &[u64]) {
        std::fs::write(self.scene.folder.path().join("clients.crl"), self.authority.revocation_list(serials))
            .unwrap();
    }

    /// What the client of this name gets, if it is let in.
    fn ask(&self, served: &Served, name: Option<&str>) -> Result<String, String> {
        let (certificate, key);
        let mut arguments = vec![];
        if let Some(name) = name {
            certificate = self.scene.path(&format!("{name}.pem"));
            key = self.scene.path(&format!("{name}.key"));
            arguments = vec!["--cert", &certificate, "--key", &key];
        }
        let output = self.scene.try_curl(served.address(), "/", &arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

#[test]
fn a_required_certificate_is_accepted_or_refused() {
    let clients = Clients::new();
    let client_auth = ClientAuth::required().roots_file(clients.scene.path("clients.pem"));
    for backend in BACKENDS {
        let tls = clients.scene.builder().client_auth(client_auth.clone()).build().unwrap();
        let server = Served::start(server(App::new().get("/", about), backend).bind_tls("127.0.0.1:0", &tls));
        let text = clients.ask(&server, Some("alice")).unwrap();
        assert!(text.contains(" client=CN=alice "), "{backend:?}: {text}");
        for (name, alert) in [
            (None, "certificate required"),
            (Some("foreign"), "unknown ca"),
            (Some("server"), "unsupported certificate"),
        ] {
            let error = clients.ask(&server, name).unwrap_err();
            assert!(error.contains("alert") && error.contains(alert), "{backend:?}: {name:?}: {error}");
        }
        // In TLS 1.2 as well.
        let (certificate, key) = (clients.scene.path("alice.pem"), clients.scene.path("alice.key"));
        let arguments = ["-tls1_2", "-cert", &certificate, "-key", &key];
        let text = clients.scene.s_client(server.address(), LAST_GET, &arguments);
        assert!(
            text.contains("version=TLSv1.2") && text.contains(" client=CN=alice "),
            "{backend:?}: {text}"
        );
        let text = clients.scene.s_client(server.address(), LAST_GET, &["-tls1_2"]);
        assert!(!text.contains("version=TLSv1.2 group") && text.contains("alert"), "{backend:?}: {text}");
    }
}

#[test]
fn an_optional_certificate_is_still_a_good_one() {
    let clients = Clients::new();
    let client_auth = ClientAuth::optional().roots_file(clients.scene.path("clients.pem"));
    for backend in BACKENDS {
        let tls = clients.scene.builder().client_auth(client_auth.clone()).build().unwrap();
        let server = Served::start(server(App::new().get("/", about), backend).bind_tls("127.0.0.1:0", &tls));
        assert!(clients.ask(&server, Some("alice")).unwrap().contains(" client=CN=alice "), "{backend:?}");
        assert!(clients.ask(&server, None).unwrap().contains(" client=none "), "{backend:?}");
        clients.ask(&server, Some("foreign")).unwrap_err();
    }
}

#[test]
fn a_certificate_that_is_revoked_lets_nobody_in_any_more() {
    let clients = Clients::new();
    let client_auth = ClientAuth::required()
        .roots_file(clients.scene.path("clients.pem"))
        .revocation_list_file(clients.scene.path("clients.crl"));
    for backend in BACKENDS {
        clients.revoke(&[1, 2]);
        let tls = clients.scene.builder().client_auth(client_auth.clone()).build().unwrap();
        let server = Served::start(server(App::new().get("/", about), backend).bind_tls("127.0.0.1:0", &tls));
        assert!(clients.ask(&server, Some("alice")).is_ok(), "{backend:?}");
        // With a session to come back by.
        let (certificate, key) = (clients.scene.path("alice.pem"), clients.scene.path("alice.key"));
        let session = clients.scene.path("session");
        let first = ["-cert", &certificate, "-key", &key, "-sess_out", &session];
        let text = clients.scene.s_client(server.address(), LAST_GET, &first);
        assert!(text.contains(" resumed=false client=CN=alice "), "{backend:?}: {text}");
        let again = ["-cert", &certificate, "-key", &key, "-sess_in", &session];
        let text = clients.scene.s_client(server.address(), LAST_GET, &again);
        assert!(text.contains(" resumed=true client=CN=alice "), "{backend:?}: {text}");

        clients.revoke(&[1, 66]);
        server.handle().reload_certificates().unwrap();
        let error = clients.ask(&server, Some("alice")).unwrap_err();
        assert!(error.contains("certificate revoked"), "{backend:?}: {error}");
        let text = clients.scene.s_client(server.address(), LAST_GET, &again);
        assert!(!text.contains(" client=CN=alice "), "{backend:?}: she comes back by her session: {text}");

        // Another of hers is good.
        let _ = clients.authority.client("alice", 67).write(clients.scene.folder.path(), "renewed");
        assert!(clients.ask(&server, Some("renewed")).unwrap().contains(" client=CN=alice "), "{backend:?}");
    }
    assert_eq!(clients.alice.key().certificate().common_name(), Some("alice"));
}
