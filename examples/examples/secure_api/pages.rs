//! For browsers: pages behind a login. All that a template puts in between `{{` and `}}` is escaped.

use std::sync::Arc;

use askama::Template;
use gimmal::audit::{Audit, AuditEvent};
use gimmal::auth::{
    Accounts, Authenticator, Authorizer, Login, Mechanism, Principal, Realm, Requirement, Session, Sessions,
};
use gimmal::defence::{CsrfToken, Nonce, Quota, RateLimit};
use gimmal::files::Embedded;
use gimmal::security::api_key::{ApiKey, StoredApiKey};
use gimmal::security::attempts::DeviceCookies;
use gimmal::security::password::PasswordPolicy;
use gimmal::security::{ExposeSecret, MacKey, SecretString};
use gimmal::{
    App, Error, Form, FromRequest, HeaderValue, Html, IntoResponse, Next, Path, Query, Redirect, Request,
    Response, Route, State, StatusCode, get, header, post,
};
use serde::Deserialize;

use crate::audit;
use crate::database::Database;
use crate::notes::{Draft, Note, Notes};
use crate::{KEY_PREFIX, unix_seconds};

const KEY_LIFETIME_SECONDS: u64 = 30 * 24 * 3600;
/// Keys of one user: what users may make has a limit.
const KEYS_MAX: usize = 20;

pub(crate) fn app(database: &Database, sessions: Sessions) -> Result<App, Error> {
    let signed_in = || Requirement::Authenticated;
    let files = Embedded::new()
        .file("style.css", include_bytes!("../../pages/style.css"))
        .cache_control("*", "public, max-age=3600");
    let logins = RateLimit::by_address(Quota::per_minute("login", 30)?);
    Ok(App::new()
        .route("/", get(notes).require(Requirement::permission("notes:read")))
        .route("/notes", post(write).require(Requirement::permission("notes:write")))
        .route("/notes/{id}/delete", post(delete).require(Requirement::permission("notes:write")))
        .route("/account", get(account).require(signed_in()))
        .route("/account/password", post(change_password).require(signed_in()))
        .route("/account/keys", post(add_key).require(signed_in()))
        .route("/account/keys/{id}/delete", post(remove_key).require(signed_in()))
        .route("/audit", get(audit_log).require(Requirement::permission("audit:read")))
        .route("/login", get(ask).post(log_in).with(logins).require(Requirement::Public))
        .route("/logout", post(log_out).require(signed_in()))
        .route("/logout-everywhere", post(log_out_everywhere).require(signed_in()))
        .files("/", Route::from(files).require(Requirement::Public))
        .with(no_store)
        .with(sessions)
        .with(Authenticator::new(Realm::new("Notes")?).login_page("/login"))
        .state(Accounts::new(database.clone()))
        .state(Arc::new(DeviceCookies::new(MacKey::random()))))
}

/// What is around the content of each page: who is logged in, and the token of the forms.
struct Frame {
    user: String,
    reads_audit_log: bool,
    token: CsrfToken,
}

impl FromRequest for Frame {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let authorizer = Authorizer::from_request(request).await?;
        Ok(Self {
            user: authorizer.principal().map(|user| user.id().to_owned()).unwrap_or_default(),
            reads_audit_log: authorizer.allows("audit:read"),
            token: CsrfToken::from_request(request).await?,
        })
    }
}

#[derive(Template)]
#[template(path = "secure_api/notes.html")]
struct NotesPage {
    frame: Frame,
    nonce: Nonce,
    search: String,
    /// Each with whether it may be deleted.
    notes: Vec<(Note, bool)>,
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    search: String,
}

async fn notes(
    frame: Frame,
    nonce: Nonce,
    notes: Notes,
    Query(Search { search }): Query<Search>,
) -> Result<Html<String>, Error> {
    let found = notes.search(search.clone()).await?;
    let found = found.into_iter().map(|note| {
        let deletable = notes.may_delete(&note);
        (note, deletable)
    });
    Ok(Html(NotesPage { frame, nonce, search, notes: found.collect() }.render()?))
}

async fn write(notes: Notes, Form(draft): Form<Draft>) -> Result<Redirect, Error> {
    notes.write(draft).await?;
    Ok(Redirect::see_other("/"))
}

async fn delete(notes: Notes, Path(id): Path<i64>) -> Result<Redirect, Error> {
    notes.delete(id).await?;
    Ok(Redirect::see_other("/"))
}

#[derive(Template)]
#[template(path = "secure_api/login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    complaint: String,
}

/// Where a login leads to.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    next: String,
}

async fn ask(frame: Frame, Query(Wanted { next }): Query<Wanted>) -> Result<Html<String>, Error> {
    Ok(Html(LoginPage { frame, next, complaint: String::new() }.render()?))
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: SecretString,
    #[serde(default)]
    next: String,
}

async fn log_in(frame: Frame, login: Login, Form(form): Form<Credentials>) -> Result<Response, Error> {
    if let Err(refused) = login.password(&form.name, form.password).await {
        let page = LoginPage { frame, next: form.next, complaint: refused.to_string() };
        return Ok((refused.status(), Html(page.render()?)).into_response());
    }
    // What came with the request may lead to a path of this site, and nowhere else.
    Ok(Redirect::local(&form.next).unwrap_or_else(|_| Redirect::see_other("/")).into_response())
}

async fn log_out(session: Session) -> Redirect {
    session.log_out();
    Redirect::see_other("/login")
}

/// Everywhere is wherever somebody acts in the user's name: programs with API keys are out, too.
async fn log_out_everywhere(account: Account) -> Result<Redirect, Error> {
    let keys = account.database.remove_keys_of(account.principal.id()).await?;
    account.record_revoked(&keys);
    account.session.log_out_everywhere().await?;
    Ok(Redirect::see_other("/login"))
}

#[derive(Template)]
#[template(path = "secure_api/account.html")]
struct AccountPage<'a> {
    frame: &'a Frame,
    principal: &'a Principal,
    sessions: usize,
    keys: Vec<String>,
    /// A key that was made just now, and is never seen again.
    new_key: &'a str,
    complaint: &'a str,
}

/// What the page of one's own account is made of.
struct Account {
    frame: Frame,
    principal: Principal,
    session: Session,
    database: State<Database>,
    audit: Audit,
}

impl FromRequest for Account {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(Self {
            frame: Frame::from_request(request).await?,
            principal: Principal::from_request(request).await?,
            session: Session::from_request(request).await?,
            database: State::from_request(request).await?,
            audit: Audit::from_request(request).await?,
        })
    }
}

impl Account {
    fn record_revoked(&self, keys: &[String]) {
        for key in keys {
            self.audit.record(AuditEvent::ApiKeyRevoked { key });
        }
    }

    async fn page(&self, new_key: &str, complaint: &str) -> Result<Html<String>, Error> {
        let Self { frame, principal, session, database, .. } = self;
        let sessions = session.list().await?.len();
        let keys = database.keys_of(principal.id()).await?;
        Ok(Html(AccountPage { frame, principal, sessions, keys, new_key, complaint }.render()?))
    }
}

async fn account(account: Account) -> Result<Html<String>, Error> {
    account.page("", "").await
}

#[derive(Deserialize)]
struct PasswordChange {
    current: SecretString,
    new: SecretString,
}

async fn change_password(
    account: Account,
    login: Login,
    accounts: State<Accounts>,
    Form(form): Form<PasswordChange>,
) -> Result<Response, Error> {
    let name = account.principal.id();
    if let Err(refused) = PasswordPolicy::default().check(&form.new, &[name, "Notes"]) {
        let page = account.page("", &refused.to_string()).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    if let Err(refused) = login.password(name, form.current).await {
        return Ok((refused.status(), account.page("", &refused.to_string()).await?).into_response());
    }
    let hash = accounts.hash(form.new).await?;
    let keys = account.database.change_password(name, &hash).await?;
    account.record_revoked(&keys);
    account.audit.record(AuditEvent::CredentialChanged { account: name, mechanism: Mechanism::Password });
    // Whoever knew the old password is out, too: by a session or by a key. The password comes first: a login with the
    // old one that is under way now ends itself.
    account.session.log_out_everywhere().await?;
    Ok(Redirect::see_other("/login").into_response())
}

#[derive(Deserialize)]
struct NewKey {
    #[serde(default)]
    scope: Vec<String>,
}

async fn add_key(account: Account, Form(form): Form<NewKey>) -> Result<Response, Error> {
    if account.database.keys_of(account.principal.id()).await?.len() >= KEYS_MAX {
        let page = account.page("", "you have as many keys as you may: delete one first").await?;
        return Ok((StatusCode::CONFLICT, page).into_response());
    }
    let key = ApiKey::generate(KEY_PREFIX)?;
    let now = unix_seconds();
    let stored = StoredApiKey::new(&key, account.principal.id(), now).with_expiry(now + KEY_LIFETIME_SECONDS);
    let stored = form.scope.into_iter().fold(stored, StoredApiKey::with_scope);
    account.database.add_key(&stored).await?;
    Ok(account.page(key.expose().expose_secret(), "").await?.into_response())
}

async fn remove_key(account: Account, Path(id): Path<String>) -> Result<Redirect, Error> {
    account.database.remove_key(account.principal.id(), id).await?;
    Ok(Redirect::see_other("/account"))
}

#[derive(Template)]
#[template(path = "secure_api/audit.html")]
struct AuditPage {
    frame: Frame,
    audit: audit::Report,
}

async fn audit_log(frame: Frame, file: State<audit::AuditFile>) -> Result<Html<String>, Error> {
    let file = audit::AuditFile::clone(&file);
    let audit = gimmal::blocking(move || file.report()).await??;
    Ok(Html(AuditPage { frame, audit }.render()?))
}

#[derive(Template)]
#[template(path = "secure_api/error.html")]
struct ErrorPage {
    status: u16,
    reason: &'static str,
}

/// Makes a page of an error in plain text, for browsers. It goes around everything else.
pub(crate) async fn error_pages(request: Request, next: Next) -> Result<Response, Error> {
    let wants_page = request.header("accept").is_some_and(|accept| accept.contains("text/html"));
    let mut response = next.run(request).await;
    let status = response.status();
    let is_page =
        response.body().media_type().is_some_and(|media_type| media_type == "text/html; charset=utf-8");
    if wants_page && !is_page && (status.is_client_error() || status.is_server_error()) {
        let reason = status.canonical_reason().unwrap_or("Error");
        response.set_body(
            Html(ErrorPage { status: status.as_u16(), reason }.render()?).into_response().take_body(),
        );
    }
    Ok(response)
}

/// Nobody finds in a browser's cache what was there before the logout.
async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
    response
}
