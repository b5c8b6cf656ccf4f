//! Attacks and logins with everything logged that can be, at TRACE: none of the secrets that were used is in any line,
//! and nobody has written a line of his own.
//!
//! The log is taken down by a layer that escapes and leaves out nothing, so that what is safe here is safe with any.

use std::fmt::{self, Debug, Write as _};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gimmal::audit::AuditLog;
use gimmal::auth::{
    Accounts, Authenticator, Login, MemoryApiKeys, MemorySessionStore, MemoryUsers, Principal, Realm,
    Requirement, Session, SessionOptions, Sessions, User,
};
use gimmal::defence::{AllowedHosts, CsrfProtection, CsrfToken, CsrfTokens, Defences, Quota, RateLimit};
use gimmal::security::api_key::{ApiKey, StoredApiKey};
use gimmal::security::attempts::DeviceCookies;
use gimmal::security::client_authentication::ClientAuthentication;
use gimmal::security::digest::{DigestAlgorithm, DigestScheme};
use gimmal::security::introspection::{IntrospectionOptions, Introspector};
use gimmal::security::jwt::{AccessTokenValidator, Algorithm, Issuer, JwkSet, KeySource, SigningKey};
use gimmal::security::password::Passwords;
use gimmal::security::{ExposeSecret, MacKey, SecretString};
use gimmal::{App, Error, Form, Json, Query, get, post};
use gimmal_tests::{BACKENDS, Client, Message, server, start};
use serde_json::{Map, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes everything down as it is: one entry for each event, span, and change of a span.
struct Everything;

struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {field}={value}");
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let _ = write!(self.0, " {field}={value}/{value:?}");
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(self.0, ": {error}/{error:?}");
            cause = error.source();
        }
    }
}

fn take_down(metadata: &tracing::Metadata<'_>, record: impl FnOnce(&mut Text)) {
    let mut text = Text(format!("{} {} {}", metadata.level(), metadata.target(), metadata.name()));
    record(&mut text);
    LOG.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
}

impl<S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>> Layer<S> for Everything {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        take_down(event.metadata(), |text| event.record(text));
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        take_down(attributes.metadata(), |text| attributes.record(text));
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            take_down(span.metadata(), |text| values.record(text));
        }
    }
}

#[derive(serde::Deserialize)]
struct Credentials {
    name: String,
    password: SecretString,
}

#[derive(Debug, serde::Deserialize)]
#[expect(dead_code, reason = "it is only read")]
struct Payment {
    amount: u64,
    card: SecretString,
}

#[derive(serde::Deserialize)]
struct Reset {
    #[expect(dead_code, reason = "it is only read")]
    user: u64,
}

/// A failure that quotes nothing of the request.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database is gone")
    }
}

impl std::error::Error for Broken {}

async fn log_in(login: Login, Form(form): Form<Credentials>) -> Result<String, Error> {
    Ok(login.password(&form.name, form.password).await?.id().to_owned())
}

/// What somebody who reads the logs would like to have.
struct Secrets {
    password: String,
    signing_key: SigningKey,
    api_key: ApiKey,
    client_secret: String,
    csrf_key: Vec<u8>,
}

fn issuer_name() -> &'static str {
    "https://login.example"
}

fn app(secrets: &Secrets, log: AuditLog) -> App {
    let realm = Realm::new("Staff").unwrap();
    let password = SecretString::from(secrets.password.as_str());
    let alice = User::new("alice")
        .with_password_hash(Passwords::default().hash(&password).unwrap())
        .with_digest_secret(DigestAlgorithm::Sha256.secret("alice", &realm, &password));
    let accounts = Accounts::new(MemoryUsers::new([alice]));
    let keys = json!({ "keys": [secrets.signing_key.public_jwk()] }).to_string();
    let keys = KeySource::fixed(JwkSet::parse(keys.as_bytes()).unwrap());
    let client = ClientAuthentication::basic("api", SecretString::from(secrets.client_secret.as_str()));
    // Nobody listens there.
    let endpoint = "http://127.0.0.1:1/introspect";
    let introspector = Introspector::new(issuer_name(), endpoint, client, IntrospectionOptions::default());
    let authenticator = Authenticator::new(realm.clone())
        .basic(&accounts)
        .digest(&accounts, DigestScheme::new(realm))
        .jwt(AccessTokenValidator::new(Issuer::new(issuer_name(), "https://api.example", keys)))
        .introspection(introspector.unwrap())
        .api_keys("acme", MemoryApiKeys::new([StoredApiKey::new(&secrets.api_key, "robot", 0)]));
    let programs = App::new()
        .get("/me", async |principal: Principal| principal.id().to_owned())
        .route("/write", get(async || "written").require(Requirement::scope("write")))
        .post("/pay", async |_: Json<Payment>| "paid")
        .get("/broken", async || -> Result<&str, Error> { Err(Broken.into()) })
        .get("/reset", async |_: Query<Reset>| "reset")
        .with(authenticator);
    let csrf = CsrfProtection::default().tokens(CsrfTokens::new(&secrets.csrf_key.clone().into()).unwrap());
    let browsers = App::new()
        .route("/login", post(log_in))
        .get("/token", async |token: CsrfToken, session: Session| {
            session.insert("cart", &"a book")?;
            Ok::<_, Error>(token.to_string())
        })
        .route("/logout", post(async |session: Session| session.log_out()))
        .with(Sessions::new(MemorySessionStore::new(100), SessionOptions::default()))
        .with(csrf);
    let hosts = AllowedHosts::new(["localhost", "127.0.0.1", "a"]).unwrap();
    let limit = RateLimit::by_header(Quota::per_hour("keys", 1).unwrap(), "x-api-key".parse().unwrap());
    App::new()
        .nest("/api", programs)
        .nest("/web", browsers)
        .route("/few", get(async || "one").with(limit))
        .with(Defences::new().without_csrf().allowed_hosts(hosts))
        .state(accounts)
        .state(std::sync::Arc::new(DeviceCookies::new(MacKey::random())))
        .audit_log(log)
}

/// Text that nothing else has in it.
fn unique(name: &str) -> String {
    format!("s3cr3t-{name}-{}", uuid())
}

fn uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

/// Asks, and notes what of it nobody must read.
struct Attacker {
    address: std::net::SocketAddr,
    secrets: Vec<String>,
}

impl Attacker {
    fn note(&mut self, secret: impl Into<String>) -> String {
        let secret = secret.into();
        self.secrets.push(secret.clone());
        secret
    }

    fn invent(&mut self, name: &str) -> String {
        self.note(unique(name))
    }

    fn ask(&mut self, request_line: &str, fields: &[(&str, &str)], body: &str) -> Message {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let mut client = Client::connect(self.address);
        client.send(format!(
            "{request_line} HTTP/1.1\r\nHost: a\r\n{fields}{length}Connection: close\r\n\r\n{body}"
        ));
        let answer = client.message();
        for (name, value) in &answer.headers {
            if name == "set-cookie" {
                let value = value.split(';').next().unwrap().split_once('=').unwrap().1;
                self.note(value);
            }
        }
        answer
    }

    fn status(&mut self, request_line: &str, fields: &[(&str, &str)], body: &str) -> u16 {
        self.ask(request_line, fields, body).status
    }

    fn basic(&mut self, user: &str, password: &str) -> String {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        self.note(credentials.clone());
        format!("Basic {credentials}")
    }
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn run(attacker: &mut Attacker, secrets: &Secrets) {
    let password = attacker.note(&secrets.password);
    attacker.note(&secrets.client_secret);
    let api_key = attacker.note(secrets.api_key.expose().expose_secret());

    // Passwords: right, wrong, and where they do not belong.
    let right = attacker.basic("alice", &password);
    assert_eq!(attacker.status("GET /api/me", &[("Authorization", &right)], ""), 200);
    for user in ["alice", "nobody"] {
        let wrong = attacker.invent("wrong-password");
        let wrong = attacker.basic(user, &wrong);
        assert_eq!(attacker.status("GET /api/me", &[("Authorization", &wrong)], ""), 401);
    }
    let malformed = attacker.invent("malformed");
    assert_eq!(attacker.status("GET /api/me", &[("Authorization", &format!("Basic {malformed}!"))], ""), 400);
    let other = attacker.invent("other-scheme");
    assert_eq!(attacker.status("GET /api/me", &[("Authorization", &format!("Negotiate {other}"))], ""), 401);
    let twice = [("Authorization", right.as_str()), ("Authorization", right.as_str())];
    assert_eq!(attacker.status("GET /api/me", &twice, ""), 400);
    let digest = Command::new("curl")
        .args(["--silent", "--max-time", "30", "--digest", "--user", &format!("alice:{password}")])
        .arg(format!("http://{}/api/me", attacker.address).replace("127.0.0.1", "localhost"))
        .output()
        .unwrap();
    assert_eq!(digest.stdout, b"alice");

    // Tokens and keys.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = |audience: &str| -> Map<String, serde_json::Value> {
        let claims = json!({
            "iss": issuer_name(), "aud": audience, "sub": "alice", "client_id": "app", "iat": now, "exp": now + 60,
            "jti": "1", "scope": "read",
        });
        claims.as_object().unwrap().clone()
    };
    let good = attacker.note(secrets.signing_key.sign("at+jwt", &claims("https://api.example")));
    let bad = attacker.note(secrets.signing_key.sign("at+jwt", &claims("https://other.example")));
    let opaque = attacker.invent("opaque-token");
    for (token, status) in [(good.clone(), 200), (bad, 401), (opaque, 503)] {
        let bearer = format!("Bearer {token}");
        assert_eq!(attacker.status("GET /api/me", &[("Authorization", &bearer)], ""), status);
    }
    let bearer = format!("Bearer {good}");
    assert_eq!(attacker.status("GET /api/write", &[("Authorization", &bearer)], ""), 403);
    assert_eq!(attacker.status("GET /api/me", &[("X-API-Key", &api_key)], ""), 200);
    let unknown = attacker.note(ApiKey::generate("acme").unwrap().expose().expose_secret());
    assert_eq!(attacker.status("GET /api/me", &[("X-API-Key", &unknown)], ""), 401);
    for status in [200, 429] {
        assert_eq!(attacker.status("GET /few", &[("X-API-Key", &unknown)], ""), status);
    }

    // In queries and bodies.
    let query = attacker.invent("query");
    for path in ["/api/broken", "/api/reset", "/nowhere", "/api/me"] {
        let target = format!("GET {path}?token={query}&password={query}&code={query}&user={query}");
        assert!(attacker.status(&target, &[("Authorization", &bearer)], "") >= 200);
    }
    let card = attacker.invent("card");
    for body in [
        format!(r#"{{"amount":1,"card":"{card}"}}"#),
        format!(r#"{{"amount":"{card}","card":"{card}"}}"#),
        format!(r#"{{"amount":1,"card":"{card}"#),
        format!(r#"{{"amount":1,"card":"{card}","deep":{}"#, "[".repeat(1000)),
    ] {
        assert!(attacker.status("POST /api/pay", &[JSON, ("Authorization", &bearer)], &body) >= 200);
    }

    // A browser: its cookies, tokens and forms.
    let page = attacker.ask("GET /web/token", &[], "");
    let token = attacker.note(page.text());
    let cookies: Vec<&str> = page
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, set)| set.split(';').next().unwrap())
        .collect();
    assert_eq!(cookies.len(), 2, "{page:?}");
    let cookies = cookies.join("; ");
    let wrong = attacker.invent("wrong-form-password");
    for (password, token, status) in [(&wrong, &token, 401), (&wrong, &wrong, 403), (&password, &token, 200)]
    {
        let body = format!("name=alice&password={password}&csrf_token={token}");
        assert_eq!(attacker.status("POST /web/login", &[FORM, ("Cookie", &cookies)], &body), status);
    }
    let invented =
        format!("__Host-session={}; theme={}", attacker.invent("session"), attacker.invent("cookie"));
    assert_eq!(attacker.status("GET /web/token", &[("Cookie", &invented)], ""), 200);
    let from_elsewhere = [("Cookie", cookies.as_str()), ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(attacker.status("POST /web/logout", &from_elsewhere, ""), 403);

    // What is no request at all.
    let broken = attacker.invent("broken");
    for request in [
        format!(
            "GET /?token={broken} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {broken}\r\n folded\r\n\r\n"
        ),
        format!("GET /?token={broken} HTTP/9.9\r\nHost: a\r\n\r\n"),
        format!("{broken}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {broken}@a\r\nCookie: a={broken}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {broken}\0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {broken}\r\nContent-Length: {broken}\r\n\r\n"),
    ] {
        let mut client = Client::connect(attacker.address);
        client.send(request);
        assert!((400..=505).contains(&client.message().status));
    }
}

/// What would look like a line of the log, or move the cursor of whoever reads it.
fn inject(attacker: &mut Attacker) {
    let escaped = "%0d%0aINFO%20forged%20line%1b%5b2K%1b%5b31m%c2%9b%e2%80%ae%00";
    for path in ["/nowhere", "/api/me", "/web/login", "/api/broken"] {
        assert!(attacker.status(&format!("GET {path}/{escaped}?x={escaped}"), &[], "") >= 200);
    }
    let raw = "\r\nINFO forged line\u{1b}[2K\u{1b}[31m\u{9b}\u{202e}";
    let user = attacker.basic(&raw.replace(['\r', '\n'], " "), "x");
    let lines = attacker.basic(raw, "x");
    for credentials in [user, lines] {
        assert!(matches!(attacker.status("GET /api/me", &[("Authorization", &credentials)], ""), 400 | 401));
    }
    let page = attacker.ask("GET /web/token", &[], "");
    let cookies: Vec<&str> = page
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, set)| set.split(';').next().unwrap())
        .collect();
    let body = format!("name={escaped}&password=x&csrf_token={}", page.text());
    assert_eq!(attacker.status("POST /web/login", &[FORM, ("Cookie", &cookies.join("; "))], &body), 401);
    let direction = "\u{202e}\u{2066}forged line\u{2028}";
    let fields = [("User-Agent", direction), ("X-Forwarded-For", direction), ("Origin", direction)];
    assert!(attacker.status(&format!("POST /web/login/{direction}"), &fields, "") >= 200);
}

#[test]
fn no_secret_and_no_forged_line_is_in_any_log() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Everything)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (number, backend) in BACKENDS.into_iter().enumerate() {
        let path = folder.path().join(format!("audit.{number}.jsonl"));
        let der = rcgen::KeyPair::generate().unwrap().serialize_der();
        let secrets = Secrets {
            password: unique("password"),
            signing_key: SigningKey::from_pkcs8(&der, Algorithm::ES256, "k1").unwrap(),
            api_key: ApiKey::generate("acme").unwrap(),
            client_secret: unique("client-secret"),
            csrf_key: unique("csrf-key").into_bytes(),
        };
        let app = app(&secrets, AuditLog::open(&path, None).unwrap());
        let running = start(server(app, backend).access_log(true));
        let mut attacker = Attacker { address: running.address(), secrets: Vec::new() };
        run(&mut attacker, &secrets);
        inject(&mut attacker);
        drop(running);

        let log = std::mem::take(&mut *LOG.lock().unwrap_or_else(PoisonError::into_inner));
        let audit_log = std::fs::read_to_string(&path).unwrap();
        // The control: what should be there is.
        for (what, entries_min) in [
            ("gimmal::access", 30),
            ("gimmal::audit", 10),
            ("a handler failed", 1),
            ("a malformed request was refused", 6),
            ("path=/api/me", 10),
            ("DEBUG", 40),
        ] {
            let entries = log.iter().filter(|entry| entry.contains(what)).count();
            assert!(entries >= entries_min, "{what}: {entries} in {log:#?}");
        }
        assert!(attacker.secrets.len() > 30, "{:?}", attacker.secrets);
        let lines = || log.iter().map(String::as_str).chain(audit_log.lines());
        for secret in &attacker.secrets {
            let bare = secret.trim_start_matches("acme_");
            let found: Vec<_> = lines().filter(|line| line.contains(bare)).collect();
            assert!(found.is_empty(), "{secret} is in {found:#?}");
        }
        for line in lines() {
            let is_forged = |character: char| {
                character.is_control() || matches!(character, '\u{2028}' | '\u{202e}' | '\u{2066}')
            };
            assert!(!line.contains(is_forged), "{line:?}");
        }
        for line in audit_log.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    }
}
