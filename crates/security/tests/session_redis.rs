//! Sessions in a real Redis server, one for each test, on a socket in a folder of its own.

#[macro_use]
#[allow(unreachable_pub, reason = "shared by test targets")]
mod session;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gimmal_security::SecretString;
use gimmal_security::session::{
    RedisSessionStore, SessionOptions, SessionStore, SessionStoreError, Sessions,
};
use tempfile::TempDir;

struct Server {
    directory: TempDir,
    process: Child,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = Self::spawn(&directory);
        Self { directory, process }
    }

    fn spawn(directory: &TempDir) -> Child {
        let socket = directory.path().join("redis.sock");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    fn store(&self) -> RedisSessionStore {
        let url = SecretString::from(format!("unix://{}", self.socket().display()));
        RedisSessionStore::new(&url, "test").unwrap()
    }

    fn connection(&self) -> redis::Connection {
        redis::Client::open(format!("unix://{}", self.socket().display())).unwrap().get_connection().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

session_tests!(Server::start(), Server::store);

/// Whoever reads all of the server finds nothing that a cookie could hold.
#[tokio::test]
async fn theft_by_store_dump() {
    let server = Server::start();
    let id = session::id_of_a_stored_session(server.store()).await;
    let mut connection = server.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert_eq!(keys.len(), 2);
    let mut dump = keys.join(" ").into_bytes();
    for key in &keys {
        let bytes: Vec<u8> = redis::cmd("DUMP").arg(key).query(&mut connection).unwrap();
        dump.extend(bytes);
    }
    let holds = |text: &[u8]| dump.windows(text.len()).any(|window| window == text);
    assert!(holds(b"alice"));
    assert!(!holds(id.as_bytes()) && !holds(&URL_SAFE_NO_PAD.decode(id).unwrap()));
}

/// Nothing stays in the server for ever.
#[tokio::test]
async fn all_keys_expire() {
    let server = Server::start();
    let (store, now) = (server.store(), session::now());
    session::id_of_a_stored_session(&store).await;
    let sessions = Sessions::new(&store, SessionOptions::default());
    let list = sessions.list("alice", now).await.unwrap();
    let mut connection = server.connection();
    let ttls = |connection: &mut redis::Connection| -> Vec<i64> {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(connection).unwrap();
        keys.iter().map(|key| redis::cmd("TTL").arg(key).query(connection).unwrap()).collect()
    };
    let before = ttls(&mut connection);
    assert!(before.len() == 2 && before.iter().all(|ttl| (1790..=1800).contains(ttl)), "{before:?}");
    let later = gimmal_security::session::SessionChange {
        seen_at: now,
        expires_at: now + 9000,
        data: std::collections::BTreeMap::new(),
    };
    assert_eq!(store.update(&list[0].key, &later).await, Ok(true));
    let after = ttls(&mut connection);
    assert!(after.len() == 2 && after.iter().all(|ttl| *ttl > 8900), "{after:?}");
    assert_eq!(sessions.log_out_everywhere("alice", None).await, Ok(1));
    assert!(ttls(&mut connection).is_empty());
}

/// A restart of the server costs no request that comes after it; while it is down nobody is let through.
#[tokio::test]
async fn a_lost_connection_is_opened_again() {
    let mut server = Server::start();
    let store = server.store();
    assert_eq!(store.list("x").await, Ok(vec![]));
    server.stop();
    assert!(matches!(store.list("x").await, Err(SessionStoreError::Failed(_))));
    server.process = Server::spawn(&server.directory);
    assert_eq!(store.list("x").await, Ok(vec![]));
}

/// Errors do not repeat the address, which may hold a password.
#[tokio::test]
async fn password_leak_by_an_error() {
    let store =
        RedisSessionStore::new(&SecretString::from("redis://:hunter2@127.0.0.1:1/0"), "test").unwrap();
    let error = store.list("x").await.unwrap_err();
    assert!(!format!("{error} {error:?} {store:?}").contains("hunter2"));
}
