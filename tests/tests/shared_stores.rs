//! Sessions and limits that several servers share: two processes, one on io_uring and one on epoll, each of two cores,
//! over one SQLite file or one real Redis.

use std::net::SocketAddr;
use std::process::Command;

use gimmal_tests::{Client, Message, Process, Redis, eventually};

const LOGIN: &str = "name=alice&password=secret";

struct Servers([SocketAddr; 2], [Process; 2]);

impl Servers {
    fn start(store: &str, place: &str) -> Self {
        let processes = ["uring", "epoll"].map(|backend| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_store_server"));
            Process::announcing(command.args([backend, store, place]))
        });
        let addresses = [&processes[0], &processes[1]].map(|process| process.announced().parse().unwrap());
        Self(addresses, processes)
    }

    /// Asks one of the two, on a connection of its own, so that either of its cores may answer.
    fn ask(&self, server: usize, method: &str, path: &str, fields: &str, body: &str) -> Message {
        let mut client = Client::connect(self.0[server]);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n{fields}\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ));
        client.message()
    }

    /// Asks as a browser with this cookie does; the text of the answer, or its status.
    fn browser(&self, server: usize, method: &str, path: &str, cookie: &str) -> Result<String, u16> {
        let answer =
            self.ask(server, method, &format!("/browser{path}"), &format!("Cookie: {cookie}\r\n"), "");
        if answer.status == 200 { Ok(answer.text().to_owned()) } else { Err(answer.status) }
    }

    /// Logs Alice in; the cookie of her session.
    fn log_in(&self, server: usize) -> String {
        let answer = self.ask(server, "POST", "/browser/login", "", LOGIN);
        assert_eq!(answer.status, 200, "{answer:?}");
        cookie(&answer).expect("a session begins")
    }

    fn statuses(&self, path: &str, fields: &str, count: usize) -> Vec<u16> {
        (0..count).map(|number| self.ask(number % 2, "GET", path, fields, "").status).collect()
    }
}

fn cookie(answer: &Message) -> Option<String> {
    let set = answer.headers.iter().find(|(name, _)| name == "set-cookie")?;
    set.1.split(';').next().map(str::to_owned)
}

fn a_session_is_known_to_both(servers: &Servers) {
    let first = servers.log_in(0);
    let alice = Ok("alice".to_owned());
    assert_eq!(
        [0, 1].map(|server| servers.browser(server, "GET", "/me", &first)),
        [alice.clone(), alice.clone()]
    );
    // What one writes the other reads.
    for visits in 1..=6 {
        let visits_seen = servers.browser(visits % 2, "GET", "/count", &first);
        assert_eq!(visits_seen, Ok(visits.to_string()));
    }
    // A logout at one holds at the other.
    assert_eq!(servers.browser(1, "POST", "/logout", &first), Ok(String::new()));
    assert_eq!([0, 1].map(|server| servers.browser(server, "GET", "/me", &first)), [Err(401), Err(401)]);

    let browsers = [servers.log_in(0), servers.log_in(1), servers.log_in(0)];
    assert_eq!(servers.browser(1, "POST", "/logout-everywhere", &browsers[0]), Ok("2".to_owned()));
    for browser in &browsers {
        assert_eq!([0, 1].map(|server| servers.browser(server, "GET", "/me", browser)), [Err(401), Err(401)]);
    }
}

#[test]
fn sessions_in_one_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let place = path.to_str().unwrap();
    let mut servers = Servers::start("sqlite", place);
    a_session_is_known_to_both(&servers);

    // Both write to one session at once, and neither is refused.
    let cookie = servers.log_in(0);
    std::thread::scope(|scope| {
        for server in [0, 1] {
            let (servers, cookie) = (&servers, &cookie);
            scope.spawn(move || {
                for _ in 0..20 {
                    assert!(servers.browser(server, "GET", "/count", cookie).is_ok());
                }
            });
        }
    });
    // It outlives both.
    servers.1.iter_mut().for_each(Process::kill);
    let servers = Servers::start("sqlite", place);
    assert_eq!(servers.browser(1, "GET", "/me", &cookie), Ok("alice".to_owned()));
}

#[test]
fn sessions_in_redis() {
    let mut redis = Redis::start();
    let servers = Servers::start("redis", &redis.url());
    a_session_is_known_to_both(&servers);

    // Without the store, nobody is taken for nobody.
    let cookie = servers.log_in(0);
    redis.stop();
    assert_eq!([0, 1].map(|server| servers.browser(server, "GET", "/me", &cookie)), [Err(503), Err(503)]);
    assert_eq!(servers.ask(0, "POST", "/browser/login", "", LOGIN).status, 503);
    redis.start_again();
    // Redis has forgotten it; the servers have found the way back by themselves.
    eventually("both ask Redis again", || {
        [0, 1].map(|server| servers.browser(server, "GET", "/me", &cookie)) == [Err(401), Err(401)]
    });
    let cookie = servers.log_in(1);
    assert_eq!(servers.browser(0, "GET", "/me", &cookie), Ok("alice".to_owned()));
}

#[test]
fn a_limit_is_one_for_both_servers() {
    let redis = Redis::start();
    let servers = Servers::start("redis", &redis.url());
    let refused = [200, 200, 200, 200, 200, 429, 429, 429];
    assert_eq!(servers.statuses("/limited/address", "", 8), refused);
    let answer = servers.ask(1, "GET", "/limited/address", "", "");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert_eq!(answer.header("ratelimit-policy"), Some("\"address\";q=5;w=3600"));

    // By who asks, wherever it is from: one that has used up its own leaves the other's alone.
    let basic = |user: &str| format!("Authorization: Basic {user}\r\n");
    let [alice, bob] = ["YWxpY2U6c2VjcmV0", "Ym9iOnNlY3JldA=="].map(basic);
    assert_eq!(servers.statuses("/limited/principal", &alice, 8), refused);
    assert_eq!(servers.statuses("/limited/principal", &bob, 6)[..5], refused[..5]);
}

#[test]
fn a_limit_without_its_store_passes_unless_it_is_said_to_refuse() {
    let mut redis = Redis::start();
    let servers = Servers::start("redis", &redis.url());
    assert_eq!(servers.statuses("/limited/strict", "", 2), [200, 200]);
    redis.stop();
    assert_eq!(servers.statuses("/limited/address", "", 8), [200; 8]);
    assert_eq!(servers.statuses("/limited/strict", "", 2), [503, 503]);
    redis.start_again();
    eventually("both ask Redis again", || servers.statuses("/limited/strict", "", 2) == [200, 200]);
}
