//! The audit log of a server: what is recorded, and that it goes on after a restart.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use gimmal::audit::{Audit, AuditEvent, AuditLog, ChainHead};
use gimmal::auth::{
    Accounts, Login, Mechanism, MemorySessionStore, MemoryUsers, Principal, Session, SessionOptions,
    Sessions, User,
};
use gimmal::compression::Decompression;
use gimmal::defence::{AllowedHosts, CsrfProtection, Defences, Quota, RateLimit};
use gimmal::security::SecretString;
use gimmal::security::audit::verify;
use gimmal::security::password::Passwords;
use gimmal::test::{TestRequest, TestServer};
use gimmal::{App, Error, Form, Json, Path as PathParameter, post};
use gimmal_tests::{BACKENDS, server, start};
use serde_json::Value;

#[derive(serde::Deserialize)]
struct Credentials {
    name: String,
    password: SecretString,
}

async fn log_in(login: Login, Form(form): Form<Credentials>) -> Result<(), Error> {
    login.password(&form.name, form.password).await?;
    Ok(())
}

/// Ends the other sessions of whoever asks.
async fn revoke(session: Session) -> Result<String, Error> {
    let (own, mut ended) = (session.key(), 0);
    for other in session.list().await? {
        if Some(other.key) != own && session.revoke(&other.key).await? {
            ended += 1;
        }
    }
    Ok(ended.to_string())
}

async fn set_password(principal: Principal, audit: Audit) {
    audit.record(AuditEvent::CredentialChanged { account: principal.id(), mechanism: Mechanism::Password });
}

fn app(log: AuditLog) -> App {
    let hash = Passwords::default().hash(&SecretString::from("secret")).unwrap();
    let sessions = Sessions::new(MemorySessionStore::new(100), SessionOptions::default());
    let limit = RateLimit::by_address(Quota::per_hour("few", 1).unwrap());
    let defences = Defences::new().allowed_hosts(AllowedHosts::new(["localhost", "127.0.0.1"]).unwrap());
    App::new()
        .post("/forged", async || ())
        .route("/few/{word}", post(async |_: PathParameter<String>| ()).with(limit))
        .route("/json", post(async |_: Json<Value>| ()))
        .route("/packed", post(async |text: String| text).with(Decompression::new()))
        .post("/login", log_in)
        .post("/revoke", revoke)
        .post("/password", set_password)
        .with(defences.csrf(CsrfProtection::default()))
        .with(sessions)
        .state(Accounts::new(MemoryUsers::new([User::new("alice").with_password_hash(hash)])))
        .audit_log(log)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(path: &Path) -> Vec<String> {
    lines(path).iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
}

fn verified(path: &Path) -> ChainHead {
    verify(BufReader::new(File::open(path).unwrap()), None).unwrap()
}

fn status(request: TestRequest<&TestServer>) -> u16 {
    request.send().unwrap().status().as_u16()
}

fn log_in_at(server: &TestServer) -> String {
    let answer = server.post("/login").form(&[("name", "alice"), ("password", "secret")]).send().unwrap();
    answer.header("set-cookie").expect("a session begins").split(';').next().unwrap().to_owned()
}

#[test]
fn what_bears_on_security_is_recorded() {
    for backend in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let server = start(server(app(AuditLog::open(&path, None).unwrap()), backend));
        let last = || lines(&path).pop().unwrap();

        assert_eq!(status(server.post("/forged").header("sec-fetch-site", "cross-site")), 403);
        let forged = last();
        assert_eq!((&forged["event"], &forged["path"]), (&"csrf_refused".into(), &"/forged".into()));
        assert_eq!(forged["client"], "127.0.0.1");
        assert_eq!(status(server.post("/forged").header("host", "evil.example")), 421);
        assert_eq!((&last()["event"], &last()["guard"]), (&"attack_refused".into(), &"allowed_hosts".into()));
        let deep = "[".repeat(100_000);
        assert_eq!(status(server.post("/json").header("content-type", "application/json").body(deep)), 400);
        assert_eq!((&last()["event"], &last()["guard"]), (&"attack_refused".into(), &"json".into()));
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 2 << 20), &mut bomb).unwrap();
        let bomb = server.post("/packed").header("content-encoding", "gzip").body(bomb.finish().unwrap());
        assert_eq!(status(bomb), 413);
        assert_eq!((&last()["event"], &last()["guard"]), (&"attack_refused".into(), &"decompression".into()));

        let [mine, other] = [log_in_at(&server), log_in_at(&server)];
        let revoked = server.post("/revoke").header("cookie", &mine).send().unwrap();
        assert_eq!(revoked.text(), "1");
        assert_eq!((&last()["event"], &last()["principal"]), (&"session_revoked".into(), &"alice".into()));
        assert!(!last()["session"].as_str().unwrap().contains(other.split_once('=').unwrap().1));
        assert_eq!(status(server.post("/password").header("cookie", &other)), 401, "it has ended");
        assert_eq!(status(server.post("/password").header("cookie", &mine)), 200);
        let changed = last();
        assert_eq!(
            (&changed["event"], &changed["principal"]),
            (&"credential_changed".into(), &"alice".into())
        );

        let first = events(&path)[0].clone();
        assert_eq!(first, "server_started");
        drop(server);
        assert_eq!(last()["event"], "server_stopped");
        assert_eq!(verified(&path).sequence, lines(&path).len() as u64);
    }
}

/// A flood must not fill the disk.
#[test]
fn a_flood_makes_few_records() {
    for backend in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let server = start(server(app(AuditLog::open(&path, None).unwrap()), backend));
        let started = std::time::Instant::now();
        let refused = (0..200).filter(|number| status(server.post(&format!("/few/{number}"))) == 429).count();
        assert_eq!(refused, 199);
        let records: Vec<Value> =
            lines(&path).into_iter().filter(|line| line["event"] == "rate_limited").collect();
        let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
        assert!((1..=2 + seconds).contains(&records.len()), "{records:?}");
        assert_eq!((&records[0]["quota"], &records[0]["refused"]), (&"few".into(), &1.into()));
        let counted: u64 = records.iter().map(|record| record["refused"].as_u64().unwrap()).sum();
        assert!(counted <= 199, "{records:?}");
    }
}

/// A loss of power tears the last record; the service starts again without anybody's help, and says so.
#[test]
fn a_server_starts_again_after_its_log_was_torn() {
    for backend in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        drop(start(server(app(AuditLog::open(&path, None).unwrap()), backend)));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        let server = start(server(app(AuditLog::open(&path, None).unwrap()), backend));
        assert_eq!(status(server.post("/forged").header("sec-fetch-site", "cross-site")), 403);
        drop(server);
        let events = events(&path);
        assert!(events.contains(&"audit_log_repaired".to_owned()), "{events:?}");
        assert_eq!(events.last().unwrap(), "server_stopped");
        assert_eq!(verified(&path).sequence, events.len() as u64);
    }
}

#[test]
fn a_restart_goes_on_with_the_chain_and_names_what_is_unsafe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    for round in 1..=3 {
        let app = app(AuditLog::open(&path, None).unwrap()).with(Defences::new().without_csrf());
        let server = start(server(app, BACKENDS[1]));
        drop(server);
        assert_eq!(events(&path).iter().filter(|event| *event == "server_stopped").count(), round);
        assert_eq!(verified(&path).sequence, lines(&path).len() as u64);
    }
    let found = lines(&path).into_iter().find(|line| line["code"] == "defences.no_csrf");
    assert_eq!(found.unwrap()["severity"], "warning");
}
