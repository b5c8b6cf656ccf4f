//! Brute force, floods of logins, and hashes that grow old.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gimmal::auth::{AccountOptions, Accounts, Authenticator, MemoryUsers, Principal, Requirement, User};
use gimmal::security::attempts::{AttemptLimits, Attempts};
use gimmal::{App, get};

use crate::{PASSWORD, Service, alice, realm};

fn service(accounts: &Accounts) -> Service {
    let app = App::new()
        .route(
            "/",
            get(async |principal: Principal| principal.id().to_owned()).require(Requirement::Authenticated),
        )
        .get("/plaintext", async || "Hello, World!")
        .with(Authenticator::new(realm()).basic(accounts));
    Service::start(app)
}

#[test]
fn brute_force_is_slowed_down_and_locked_out() {
    let limits = AttemptLimits {
        free: 2,
        delay_min: Duration::from_millis(400),
        lock_out_after: Some(4),
        ..AttemptLimits::PAIR
    };
    let attempts = Attempts::new().with_pair_limits(limits);
    let accounts = Accounts::with_options(
        MemoryUsers::new([alice()]),
        AccountOptions { attempts, ..AccountOptions::default() },
    );
    let service = service(&accounts);
    let mut statuses = Vec::new();
    let mut slowest = Duration::ZERO;
    for guess in 0..6 {
        let started = Instant::now();
        let answer = service.curl(&["--user", &format!("alice:guess{guess}")], "/");
        slowest = slowest.max(started.elapsed());
        statuses.push(answer.status);
        if answer.status == 429 {
            let seconds: u64 = answer.fields("retry-after")[0].parse().unwrap();
            assert!((1..=61).contains(&seconds), "{seconds}");
        }
    }
    assert_eq!(statuses, [401, 401, 401, 401, 429, 429]);
    assert!(slowest >= Duration::from_millis(800), "the fourth guess waits twice as long: {slowest:?}");
    // The right password is not looked at, either: a guess learns nothing.
    assert_eq!(service.curl(&["--user", &format!("alice:{PASSWORD}")], "/").status, 429);
    assert_eq!(service.curl(&["--user", "bob:guess"], "/").status, 401);
    assert_eq!(service.curl(&[], "/plaintext").status, 200);
}

/// Counted, not timed: an unknown user takes the work that a wrong password does, and gets the same answer.
#[test]
fn user_enumeration_by_timing() {
    let accounts = Accounts::new(MemoryUsers::new([alice(), User::new("bob")]));
    let service = service(&accounts);
    let ask = |user: &str| {
        let before = accounts.work_kib();
        let answer = service.curl(&["--user", user], "/");
        let challenges: Vec<String> = answer.challenges().into_iter().map(str::to_owned).collect();
        (answer.status, answer.body.clone(), challenges, accounts.work_kib() - before)
    };
    let wrong = ask("alice:wrong");
    assert!(wrong.0 == 401 && wrong.3 > 0, "{wrong:?}");
    assert_eq!(ask("nobody:wrong"), wrong);
    assert_eq!(ask("bob:wrong"), wrong, "bob has no password");
}

/// A hundred logins at a time are hashed in turn, and the only core goes on to answer.
#[test]
fn a_login_flood_stalls_nobody_else() {
    let users = (0..100).map(|n| User::new(format!("user{n}")).with_password_hash(&*crate::HASH));
    let attempts = Attempts::new().with_network_limits(AttemptLimits {
        free: 1000,
        lock_out_after: None,
        ..AttemptLimits::NETWORK
    });
    let options = AccountOptions { attempts, ..AccountOptions::default() };
    let accounts = Accounts::with_options(MemoryUsers::new(users), options);
    let service = service(&accounts);
    assert_eq!(service.curl(&[], "/plaintext").body, "Hello, World!");
    let is_over = AtomicBool::new(false);
    let (slowest, count) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut slowest, mut count) = (Duration::ZERO, 0_u32);
            while !is_over.load(Ordering::Relaxed) {
                let started = Instant::now();
                assert_eq!(plaintext(service.url()), "Hello, World!");
                slowest = slowest.max(started.elapsed());
                count += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            (slowest, count)
        });
        let urls: Vec<_> = (0..100).map(|n| format!("{}/?{n}", service.url())).collect();
        let logins: Vec<_> = urls
            .iter()
            .enumerate()
            .map(|(n, url)| {
                let user = format!("user{n}:{PASSWORD}");
                std::process::Command::new("curl")
                    .args([
                        "--silent",
                        "--max-time",
                        "120",
                        "--write-out",
                        "%{http_code}",
                        "--output",
                        "/dev/null",
                    ])
                    .args(["--user", &user, url])
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for login in logins {
            assert_eq!(login.wait_with_output().unwrap().stdout, b"200");
        }
        is_over.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(count > 10, "{count} answers during the flood");
    assert!(slowest < Duration::from_secs(2), "the slowest of {count} answers took {slowest:?}");
}

fn plaintext(url: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// More logins than may wait are turned away at once.
#[test]
fn a_flood_beyond_the_queue_is_turned_away() {
    let options = AccountOptions { hashes_waiting_max: 0, ..AccountOptions::default() };
    let accounts = Accounts::with_options(MemoryUsers::new([alice()]), options);
    let service = service(&accounts);
    let answer = service.curl(&["--user", &format!("alice:{PASSWORD}")], "/");
    assert_eq!((answer.status, answer.fields("retry-after")), (503, vec!["1"]));
    assert_eq!(accounts.failures("alice"), 0);
}

/// A hash of another system is replaced at the first login.
#[test]
fn a_hash_from_flask_is_replaced() {
    use std::sync::{Arc, Mutex};

    use gimmal::BoxError;
    use gimmal::auth::UserStore;

    struct Table(Arc<Mutex<String>>);

    impl UserStore for Table {
        async fn find(&self, name: &str) -> Result<Option<User>, BoxError> {
            let hash = self.0.lock().unwrap().clone();
            Ok((name == "alice").then(|| User::new("alice").with_password_hash(hash)))
        }

        async fn replace_password_hash(&self, id: &str, old: &str, new: &str) -> Result<bool, BoxError> {
            let mut stored = self.0.lock().unwrap();
            assert_eq!((id, old), ("alice", stored.as_str()));
            new.clone_into(&mut stored);
            Ok(true)
        }
    }

    let werkzeug = "pbkdf2:sha256:2600$w9kxLgsoaWd0E9S5$\
                    ac6ee219544e046635d7997348bab249fec7f805902834f670273a9abfa7ea44";
    let hash = Arc::new(Mutex::new(werkzeug.to_owned()));
    let service = service(&Accounts::new(Table(Arc::clone(&hash))));
    assert_eq!(service.curl(&["--user", "alice:wrong"], "/").status, 401);
    assert_eq!(*hash.lock().unwrap(), werkzeug);
    for _ in 0..2 {
        assert_eq!(service.curl(&["--user", "alice:pässwörd 🔑"], "/").status, 200);
        assert!(hash.lock().unwrap().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    }
}
