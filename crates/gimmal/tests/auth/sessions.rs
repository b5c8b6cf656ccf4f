//! Sessions over HTTPS, with curl's cookie jar as the browser.

use std::sync::Arc;

use gimmal::auth::{
    Accounts, Authenticator, Login, MemorySessionStore, MemoryUsers, Principal, Requirement, Session,
    SessionOptions, Sessions,
};
use gimmal::security::attempts::DeviceCookies;
use gimmal::security::session::{SessionChange, SessionKey, SessionRecord, SessionStore, SessionStoreError};
use gimmal::security::{MacKey, SecretString};
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Error, Form, IntoResponse, Redirect, Response, get, post};

use crate::{PASSWORD, Service, alice, realm};

#[derive(serde::Deserialize)]
struct Credentials {
    name: String,
    password: SecretString,
}

async fn log_in(login: Login, Form(form): Form<Credentials>) -> Response {
    match login.password(&form.name, form.password).await {
        Ok(_) => Redirect::see_other("/me").into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.get::<u64>("visits").unwrap_or(0) + 1;
    session.insert("visits", &visits)?;
    Ok(visits.to_string())
}

fn app(sessions: Sessions) -> App {
    App::new()
        .get("/count", count)
        .route(
            "/me",
            get(async |principal: Principal| principal.id().to_owned()).require(Requirement::Authenticated),
        )
        .route("/login", post(log_in))
        .route("/logout", post(async |session: Session| session.log_out()))
        .route(
            "/logout-everywhere",
            post(async |session: Session| session.log_out_everywhere().await.map(|ended| ended.to_string())),
        )
        .with(sessions)
        .state(Accounts::new(MemoryUsers::new([alice()])))
        .state(Arc::new(DeviceCookies::new(MacKey::random())))
}

fn service() -> Service {
    let store = MemorySessionStore::new(1000);
    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1"]).unwrap();
    Service::start_tls(app(Sessions::new(store, SessionOptions::default())), &tls)
}

/// A browser with its cookies.
struct Browser<'a> {
    service: &'a Service,
    jar: tempfile::NamedTempFile,
}

impl<'a> Browser<'a> {
    fn new(service: &'a Service) -> Self {
        Self { service, jar: tempfile::NamedTempFile::new().unwrap() }
    }

    fn ask(&self, arguments: &[&str], path: &str) -> crate::Answer {
        let jar = self.jar.path().to_str().unwrap();
        self.service.curl(&[&["--cookie", jar, "--cookie-jar", jar], arguments].concat(), path)
    }

    fn log_in(&self, password: &str) -> crate::Answer {
        let password = format!("password={password}");
        self.ask(&["--data", "name=alice", "--data-urlencode", &password], "/login")
    }

    /// The value of the session cookie.
    fn session(&self) -> Option<String> {
        let jar = std::fs::read_to_string(self.jar.path()).unwrap();
        let line = jar.lines().find(|line| line.contains("__Host-session"))?;
        line.split('\t').next_back().map(str::to_owned)
    }
}

#[test]
fn a_login_gives_a_new_session_and_a_logout_ends_it() {
    let service = service();
    let browser = Browser::new(&service);
    assert_eq!(browser.ask(&[], "/me").status, 401);
    assert_eq!(browser.session(), None, "nothing to keep, no cookie");
    let first = browser.ask(&[], "/count");
    let cookies = first.fields("set-cookie");
    assert_eq!(
        (first.body.as_str(), cookies.len(), first.fields("cache-control")),
        ("1", 1, vec!["no-store"])
    );
    for part in ["__Host-session=", "HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
        assert!(cookies[0].contains(part), "{cookies:?}");
    }
    assert_eq!(browser.ask(&[], "/count").body, "2");
    let planted = browser.session().unwrap();

    let wrong = browser.log_in("wrong");
    assert_eq!((wrong.status, wrong.body.as_str()), (401, "the user name or the password is wrong"));
    let logged_in = browser.log_in(PASSWORD);
    assert_eq!((logged_in.status, logged_in.fields("location")), (303, vec!["/me"]));
    assert_eq!(logged_in.fields("set-cookie").len(), 2, "session and device: {logged_in:?}");
    let own = browser.session().unwrap();
    assert_ne!(own, planted, "session fixation");
    assert_eq!(browser.ask(&[], "/me").body, "alice");
    assert_eq!(browser.ask(&[], "/count").body, "3", "what a visitor has collected stays");
    let with = |session: &str| format!("__Host-session={session}");
    assert_eq!(service.curl(&["--cookie", &with(&planted)], "/me").status, 401);
    assert_eq!(service.curl(&["--cookie", &with(&own)], "/me").status, 200);

    assert_eq!(browser.ask(&["--request", "POST"], "/logout").status, 200);
    assert_eq!(browser.session(), None);
    assert_eq!(
        service.curl(&["--cookie", &with(&own)], "/me").status,
        401,
        "the id is worth nothing any more"
    );
    // The device is known again, and gets no second cookie.
    assert_eq!(browser.log_in(PASSWORD).fields("set-cookie").len(), 1);
}

#[test]
fn logging_out_everywhere_ends_the_sessions_of_all_browsers() {
    let service = service();
    let browsers = [(); 3].map(|()| Browser::new(&service));
    for browser in &browsers {
        assert_eq!(browser.log_in(PASSWORD).status, 303);
        assert_eq!(browser.ask(&[], "/me").body, "alice");
    }
    assert_eq!(browsers[0].ask(&["--request", "POST"], "/logout-everywhere").body, "2");
    for browser in &browsers {
        assert_eq!(browser.ask(&[], "/me").status, 401);
    }
}

#[test]
fn cross_site_request_forgery() {
    let service = service();
    let browser = Browser::new(&service);
    browser.log_in(PASSWORD);
    for label in [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Origin: https://evil.example",
        "Origin: null",
    ] {
        assert_eq!(browser.ask(&["--header", label, "--request", "POST"], "/logout").status, 403, "{label}");
        // Nor can the visitor be logged in as the attacker.
        let forged = ["--header", label, "--data", "name=alice&password=x"];
        assert_eq!(service.curl(&forged, "/login").status, 403, "{label}");
    }
    assert_eq!(
        browser.ask(&["--header", "Sec-Fetch-Site: cross-site"], "/me").body,
        "alice",
        "a link may lead here"
    );
    let own = format!("Origin: {}", service.url());
    assert_eq!(browser.ask(&["--header", &own, "--request", "POST"], "/logout").status, 200);
}

#[test]
fn browsers_are_sent_to_the_login_page_and_programs_are_not() {
    let sessions = Sessions::new(MemorySessionStore::new(10), SessionOptions::default());
    let app = app(sessions).with(Authenticator::new(realm()).login_page("/login"));
    let service = Service::start(app);
    let sent = service.curl(&["--header", "Accept: text/html,*/*"], "/me?tab=1");
    assert_eq!((sent.status, sent.fields("location")), (303, vec!["/login?next=%2Fme%3Ftab%3D1"]));
    assert_eq!(service.curl(&[], "/me").status, 401);
}

struct Broken;

impl SessionStore for Broken {
    async fn load(&self, _: &SessionKey) -> Result<Option<SessionRecord>, SessionStoreError> {
        Err(SessionStoreError::Failed("gone".to_owned()))
    }

    async fn insert(&self, _: &SessionKey, _: &SessionRecord) -> Result<(), SessionStoreError> {
        Err(SessionStoreError::Failed("gone".to_owned()))
    }

    async fn update(&self, _: &SessionKey, _: &SessionChange) -> Result<bool, SessionStoreError> {
        Err(SessionStoreError::Failed("gone".to_owned()))
    }

    async fn remove(&self, _: &SessionKey) -> Result<bool, SessionStoreError> {
        Err(SessionStoreError::Failed("gone".to_owned()))
    }

    async fn list(&self, _: &str) -> Result<Vec<(SessionKey, SessionRecord)>, SessionStoreError> {
        Err(SessionStoreError::Failed("gone".to_owned()))
    }

    async fn remove_expired(&self, _: u64) -> Result<usize, SessionStoreError> {
        Err(SessionStoreError::Failed("gone".to_owned()))
    }
}

#[test]
fn a_session_store_that_fails_is_a_503() {
    let service = Service::start(app(Sessions::new(Broken, SessionOptions::default())));
    let id = format!("Cookie: __Host-session={}", "A".repeat(43));
    assert_eq!(service.curl(&["--header", &id], "/me").status, 503);
    // Nothing that the response says was kept: it does not go out.
    let login = service
        .curl(&["--data", "name=alice", "--data-urlencode", &format!("password={PASSWORD}")], "/login");
    assert_eq!((login.status, login.fields("set-cookie").len()), (503, 0));
}
