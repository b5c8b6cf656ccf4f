//! Sessions over HTTPS, with curl's cookie jar as the browser.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gimmal::auth::{
    Accounts, Authenticator, Login, MemorySessionStore, MemoryUsers, Principal, Requirement, Session,
    SessionOptions, Sessions, User, UserStore,
};
use gimmal::defence::{CsrfProtection, CsrfToken, CsrfTokens};
use gimmal::security::attempts::DeviceCookies;
use gimmal::security::session::{SessionChange, SessionKey, SessionRecord, SessionStore, SessionStoreError};
use gimmal::security::{MacKey, SecretString};
use gimmal::tls::TlsServerConfig;
use gimmal::{App, BoxError, Error, Form, HeaderValue, IntoResponse, Redirect, Response, get, header, post};

use crate::{HASH, PASSWORD, Service, alice, realm};

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

/// The token in a page's form.
fn token(page: &str) -> &str {
    page.split("value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap()
}

/// A token is bound to the session that the page leaves in the browser, not to the one that came.
#[test]
fn a_form_in_a_response_that_changes_the_session_is_taken() {
    let sessions = Sessions::new(MemorySessionStore::new(10), SessionOptions::default());
    let csrf = CsrfProtection::default().tokens(CsrfTokens::random()).session_cookie("__Host-session");
    let app = App::new()
        .route("/login", get(async |token: CsrfToken| token.field()).post(log_in))
        .route(
            "/first",
            get(async |token: CsrfToken, session: Session| {
                session.insert("visited", &true)?;
                Ok::<_, Error>(token.field())
            }),
        )
        .with(sessions)
        .with(csrf.always_ask_for_token())
        .state(Accounts::new(MemoryUsers::new([alice()])));
    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1"]).unwrap();
    let service = Service::start_tls(app, &tls);
    let log_in = |browser: &Browser<'_>, token: &str| {
        let (token, password) = (format!("csrf_token={token}"), format!("password={PASSWORD}"));
        let form = ["--data", "name=alice", "--data-urlencode", &password, "--data-urlencode", &token];
        browser.ask(&form, "/login").status
    };
    // A session that has ended: the page deletes its cookie.
    let browser = Browser::new(&service);
    let domain = "127.0.0.1\tFALSE\t/\tTRUE\t0\t__Host-session\t";
    std::fs::write(browser.jar.path(), format!("{domain}{}\n", "A".repeat(43))).unwrap();
    let page = browser.ask(&[], "/login");
    assert!(
        page.fields("set-cookie").iter().any(|cookie| cookie.starts_with("__Host-session=;")),
        "{page:?}"
    );
    assert_eq!(log_in(&browser, token(&page.body)), 303);
    // A session that the page begins.
    let browser = Browser::new(&service);
    let page = browser.ask(&[], "/first");
    assert!(browser.session().is_some());
    assert_eq!(log_in(&browser, token(&page.body)), 303);
    // One from before a login is of no use after it.
    assert_eq!(log_in(&browser, token(&page.body)), 403);
    let page = browser.ask(&[], "/login");
    assert_eq!((page.fields("cache-control"), page.fields("vary")), (vec!["private"], vec!["cookie"]));
    assert_eq!(log_in(&browser, token(&page.body)), 303);
}

#[test]
fn a_response_that_depends_on_a_session_stays_out_of_shared_caches() {
    let own = |value: &'static str| {
        get(async move || {
            Response::new("page").with_header(header::CACHE_CONTROL, HeaderValue::from_static(value))
        })
    };
    let sessions = Sessions::new(MemorySessionStore::new(10), SessionOptions::default());
    let app = app(sessions.clone()).nest(
        "/pages",
        App::new()
            .get("/same", async || "for all")
            .get("/greeting", async |who: Option<Principal>| who.map_or("hello", |_| "welcome back"))
            .route("/strict", own("no-store"))
            .route("/public", own("public, max-age=60"))
            .with(sessions),
    );
    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1"]).unwrap();
    let service = Service::start_tls(app, &tls);
    let browser = Browser::new(&service);
    let cached = |path: &str| {
        let answer = browser.ask(&[], path);
        assert_eq!(answer.status, 200, "{path}");
        [answer.fields("cache-control").join(", "), answer.fields("vary").join(", ")]
    };
    assert_eq!(cached("/pages/same"), ["", ""], "nobody is logged in, and nobody asked");
    assert_eq!(cached("/pages/greeting"), ["private", "cookie"], "who is logged in gets another page");
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    for path in ["/me", "/pages/greeting", "/pages/same"] {
        assert_eq!(cached(path), ["private", "cookie"], "{path}");
    }
    assert_eq!(cached("/pages/strict"), ["no-store", "cookie"]);
    assert_eq!(cached("/pages/public"), ["public, max-age=60", "cookie"]);
}

/// Users whose passwords are changed right after they were looked up so many times.
struct ChangedMeanwhile(AtomicUsize);

impl UserStore for ChangedMeanwhile {
    async fn find(&self, _name: &str) -> Result<Option<User>, BoxError> {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        Ok((left > 0).then(alice))
    }
}

/// Whoever changes a password stores it and ends all sessions: a login that is under way must not begin another.
#[test]
fn a_login_that_a_change_of_the_password_overtakes_begins_no_session() {
    // A request may prove its user more than once.
    async fn log_in_twice(login: Login, Form(form): Form<Credentials>) -> Result<(), Error> {
        login.password(&form.name, form.password.clone()).await?;
        login.password(&form.name, form.password).await?;
        Ok(())
    }
    let store = Arc::new(MemorySessionStore::new(10));
    let form = ["--data", "name=alice", "--data-urlencode", &format!("password={PASSWORD}")];
    for (path, look_ups) in [("/login", 1), ("/twice", 2)] {
        let sessions = Sessions::new(Arc::clone(&store), SessionOptions::default());
        let accounts = Accounts::new(ChangedMeanwhile(AtomicUsize::new(look_ups)));
        let app = App::new().route("/login", post(log_in)).route("/twice", post(log_in_twice));
        let service = Service::start(app.with(sessions).state(accounts));
        let answer = service.curl(&form, path);
        let seen = (answer.status, answer.fields("set-cookie").len(), store.len());
        assert_eq!(seen, (401, 0, 0), "{path}");
    }
}

/// A user proves again who he is to change his password; he stays logged in, or logs out everywhere.
#[test]
fn a_change_of_ones_own_password_is_no_login_that_was_overtaken() {
    let users = Arc::new(MemoryUsers::new([alice()]));
    let changed = Arc::clone(&users);
    let change = async move |login: Login, session: Session, Form(form): Form<Credentials>| {
        login.password(&form.name, form.password).await?;
        assert!(changed.replace_password_hash("alice", &HASH, "another").await.unwrap());
        session.log_out_everywhere().await?;
        Ok::<_, Error>("changed")
    };
    let store = Arc::new(MemorySessionStore::new(10));
    let sessions = Sessions::new(Arc::clone(&store), SessionOptions::default());
    let app = App::new()
        .route("/login", post(log_in))
        .route("/password", post(change))
        .with(sessions)
        .state(Accounts::new(Shared(users)));
    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1"]).unwrap();
    let service = Service::start_tls(app, &tls);
    let browser = Browser::new(&service);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let form = ["--data", "name=alice", "--data-urlencode", &format!("password={PASSWORD}")];
    let answer = browser.ask(&form, "/password");
    assert_eq!((answer.status, answer.body.as_str(), store.len()), (200, "changed", 0));
}

/// Users that the test changes, too.
struct Shared(Arc<MemoryUsers>);

impl UserStore for Shared {
    async fn find(&self, name: &str) -> Result<Option<User>, BoxError> {
        self.0.find(name).await
    }
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
