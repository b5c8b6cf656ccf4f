//! Certificates that change while the server runs, and files that are wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use gimmal_security::tls::{
    Certificate, CertifiedKey, ClientAuth, Origin, TlsClientConfig, TlsConfigError, TlsServerConfig,
};
use tempfile::TempDir;

use crate::authority::{Authority, Issued, Leaf, pem};
use crate::pair::Pair;

struct Files {
    authority: Authority,
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { authority: Authority::new("the root"), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn issue(&self, common_name: &str) -> Issued {
        self.authority.issue(&Leaf { common_name, ..Leaf::server(&["localhost"]) })
    }

    fn write_pair(&self, issued: &Issued) {
        self.write("server.pem", &issued.chain_pem);
        self.write("server.key", &issued.key_pem);
    }

    fn load(&self) -> Result<TlsServerConfig, TlsConfigError> {
        TlsServerConfig::from_pem_files(self.path("server.pem"), self.path("server.key"))
    }

    /// Whom a new connection is shown.
    fn shown(&self, server: &TlsServerConfig) -> String {
        let client = TlsClientConfig::builder().roots_pem(self.authority.pem.as_bytes()).build().unwrap();
        let pair = Pair::greet(server, &client, "localhost").unwrap();
        let der = pair.client.peer_certificates().next().unwrap();
        Certificate::from_der(der).unwrap().common_name().unwrap().to_owned()
    }
}

#[test]
fn a_new_certificate_is_for_new_sessions_and_old_ones_live_on() {
    let files = Files::new();
    files.write_pair(&files.issue("old"));
    let server = files.load().unwrap();
    let client = TlsClientConfig::builder().roots_pem(files.authority.pem.as_bytes()).build().unwrap();
    let mut open = Pair::greet(&server, &client, "localhost").unwrap();
    let mut handshaking = Pair::new(&server, &client, "localhost");
    assert!(!server.reload_if_changed().unwrap());

    files.write_pair(&files.issue("new"));
    assert!(server.reload_if_changed().unwrap());
    assert!(!server.reload_if_changed().unwrap(), "once a change");
    assert_eq!(files.shown(&server), "new");
    open.exchange(b"still", b"here").unwrap();
    handshaking.settle().unwrap();
    handshaking.exchange(b"also", b"here").unwrap();
}

#[test]
fn clones_and_cores_see_a_reload() {
    let files = Files::new();
    files.write_pair(&files.issue("old"));
    let server = files.load().unwrap();
    let core = server.clone();
    files.write_pair(&files.issue("new"));
    server.reload().unwrap();
    assert_eq!(files.shown(&core), "new");
}

#[test]
fn reloads_among_handshakes_fail_none() {
    let files = Files::new();
    files.write_pair(&files.issue("old"));
    let server = files.load().unwrap();
    let client = TlsClientConfig::builder().roots_pem(files.authority.pem.as_bytes()).build().unwrap();
    std::thread::scope(|scope| {
        let handshakes: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..150 {
                        Pair::greet(&server, &client, "localhost").unwrap();
                    }
                })
            })
            .collect();
        while handshakes.iter().any(|handshake| !handshake.is_finished()) {
            server.reload().unwrap();
        }
    });
}

#[test]
fn a_bad_new_file_keeps_the_old_one_and_is_told_of_once() {
    let files = Files::new();
    files.write_pair(&files.issue("old"));
    let server = files.load().unwrap();

    let new = files.issue("new");
    // Half of the pair is there: the key is still the old one's.
    files.write("server.pem", &new.chain_pem);
    let error = server.reload_if_changed().unwrap_err();
    assert!(matches!(error, TlsConfigError::KeyMismatch { .. }), "{error}");
    assert_eq!(files.shown(&server), "old");
    assert!(!server.reload_if_changed().unwrap());
    assert!(server.reload().is_err(), "when asked, it tries again");

    files.write("server.key", &new.key_pem);
    assert!(server.reload_if_changed().unwrap());
    assert_eq!(files.shown(&server), "new");

    fs::remove_file(files.path("server.pem")).unwrap();
    assert!(matches!(server.reload_if_changed(), Err(TlsConfigError::Unreadable { .. })));
    assert_eq!(files.shown(&server), "new");
    files.write("server.pem", &new.chain_pem);
    assert!(server.reload_if_changed().unwrap());
}

#[test]
fn a_touched_file_is_no_change() {
    let files = Files::new();
    let issued = files.issue("same");
    files.write_pair(&issued);
    let server = files.load().unwrap();
    files.write_pair(&issued);
    assert!(!server.reload_if_changed().unwrap());
    // Put in its place by a rename, as certbot and Kubernetes do.
    let new = files.issue("renamed");
    files.write("new.pem", &new.chain_pem);
    files.write("new.key", &new.key_pem);
    fs::rename(files.path("new.pem"), files.path("server.pem")).unwrap();
    fs::rename(files.path("new.key"), files.path("server.key")).unwrap();
    assert!(server.reload_if_changed().unwrap());
    assert_eq!(files.shown(&server), "renamed");
}

#[test]
fn client_roots_and_lists_are_watched_too() {
    let files = Files::new();
    files.write_pair(&files.issue("server"));
    let roots = files.write("roots.pem", &files.authority.pem);
    let list = files.write("list.crl", &files.authority.revocation_list(&[], 1000));
    let server = TlsServerConfig::builder()
        .pem_files(files.path("server.pem"), files.path("server.key"))
        .client_auth(ClientAuth::optional().roots_file(&roots).revocation_list_file(&list))
        .build()
        .unwrap();
    assert_eq!(
        server.files(),
        [files.path("server.pem"), files.path("server.key"), roots.clone(), list.clone()]
    );
    fs::write(&list, files.authority.revocation_list(&[4], 1000)).unwrap();
    assert!(server.reload_if_changed().unwrap());
    fs::write(&roots, "nothing").unwrap();
    let error = server.reload_if_changed().unwrap_err();
    assert!(error.to_string().contains("roots.pem"), "{error}");
    assert_eq!(files.shown(&server), "server");
}

#[test]
fn one_file_may_hold_both() {
    let files = Files::new();
    let issued = files.issue("both");
    let path = files.write("both.pem", &(issued.key_pem.clone() + &issued.chain_pem));
    let server = TlsServerConfig::from_pem_files(&path, &path).unwrap();
    assert_eq!(files.shown(&server), "both");
    assert_eq!(server.files(), [path]);
}

/// Each mistake, and what its message has to say.
#[test]
fn errors_name_the_file_and_the_cure() {
    let files = Files::new();
    let (one, other) = (files.issue("one"), files.issue("other"));
    let cut = &one.chain_pem[..one.chain_pem.len() / 2];
    let damaged = one.chain_pem.replacen("MII", "M!I", 1);
    let two = format!("{}{}", one.chain_pem, damaged);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let malformed = pem("CERTIFICATE", b"no certificate");
    let weak_key = pem("PRIVATE KEY", b"no key");
    let wrong_order = format!("{}{}", files.authority.pem, one.chain_pem);
    let key = &one.key_pem;
    for (chain, key, file, words) in [
        (other.chain_pem.as_str(), key.as_str(), "server.key", "does not belong to the certificate in"),
        (key, &one.chain_pem, "server.pem", "swapped"),
        (&one.chain_pem, &other.chain_pem, "server.key", "swapped"),
        (&one.chain_pem, encrypted, "server.key", "encrypted: decrypt it with"),
        (&one.chain_pem, "", "server.key", "holds no private key"),
        ("", key, "server.pem", "holds no certificate"),
        (cut, key, "server.pem, line 1", "cut short"),
        (&two, key, "server.pem, line", "damaged"),
        (&malformed, key, "server.pem", "certificate 1 of the chain is malformed"),
        (&one.chain_pem, &weak_key, "server.key", "cannot be used"),
        (&wrong_order, key, "server.pem", "wrong order"),
        ("0\u{82}\u{1}", key, "server.pem, line 1", "DER"),
    ] {
        files.write("server.pem", chain);
        files.write("server.key", key);
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(words), "{words}: {error}");
        let body = one.key_pem.lines().nth(1).unwrap();
        assert!(!error.contains(body), "no key in a message");
    }
    let error = TlsServerConfig::from_pem_files("/nowhere/server.pem", "/nowhere/server.key").unwrap_err();
    assert!(error.to_string().contains("cannot read /nowhere/server.pem"), "{error}");
    let line =
        two.lines().position(|line| line.contains("BEGIN CERT")).unwrap() + one.chain_pem.lines().count() + 1;
    files.write("server.pem", &two);
    assert!(files.load().unwrap_err().to_string().contains(&format!("line {line}:")));
}

#[test]
fn pem_in_memory_is_told_by_what_it_is_for() {
    let files = Files::new();
    let (one, other) = (files.issue("one"), files.issue("other"));
    let error = CertifiedKey::from_pem(one.chain_pem.as_bytes(), other.key_pem.as_bytes()).unwrap_err();
    let TlsConfigError::KeyMismatch { certificate, key, subject } = error else { panic!("{error}") };
    assert_eq!((certificate, key), (Origin::Memory("certificate chain"), Origin::Memory("private key")));
    assert_eq!(subject, "localhost");
}

#[test]
fn the_first_end_of_all_certificates_is_exported() {
    let authority = Authority::new("the root");
    let until = |name, ends_in| authority.issue(&Leaf { ends_in, ..Leaf::server(&[name]) }).key();
    let (late, soon) = (until("late.example.org", 9000), until("soon.example.org", 5000));
    let expected = soon.certificate().not_after();
    let server = TlsServerConfig::builder().certificate(late).certificate(soon).build().unwrap();
    assert_eq!(server.not_after(), Some(expected));
    assert!(expected.abs_diff(crate::authority::now() + 5000) < 60);
}
