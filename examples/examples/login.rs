//! A site with a login page: passwords, sessions, roles, and pages for those who may see them. Run it with
//! `cargo run --release --example login`, and open what it prints in a browser.
//!
//! It speaks HTTPS, with a certificate for development that browsers warn of: the session's cookie is `Secure`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use gimmal::auth::{
    Accounts, Authenticator, Authorizer, Login, MemorySessionStore, MemoryUsers, Principal, Realm,
    Requirement, Session, SessionOptions, Sessions, User,
};
use gimmal::security::attempts::DeviceCookies;
use gimmal::security::password::Passwords;
use gimmal::security::rbac::{RoleModel, Roles};
use gimmal::security::redirect::RedirectTargets;
use gimmal::security::{MacKey, SecretString};
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Error, Form, Html, IntoResponse, Query, Redirect, Response, StatusCode, get, post};
use gimmal_examples::Args;
use serde::Deserialize;

/// Text from outside, as HTML. A template engine would do this by itself.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
        escaped
    })
}

fn page(title: &str, content: impl Display) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{content}"
    ))
}

async fn home(principal: Option<Principal>, authorizer: Authorizer) -> Html<String> {
    let Some(principal) = principal else {
        return page("Welcome", "<p><a href=/account>Your account</a>, <a href=/login>log in</a>");
    };
    let reports = if authorizer.allows("reports:read") { "<p><a href=/reports>The reports</a>" } else { "" };
    let name = escape(principal.id());
    page("Welcome", format!("<p>You are {name}. <a href=/account>Your account</a>{reports}"))
}

/// Where a login leads to.
#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

/// The login page. Its form needs no token: a page of another site that sends it is refused by `Sessions`.
fn login_page(next: &str, complaint: &str) -> Html<String> {
    page(
        "Log in",
        format!(
            "<p>{}<form method=post action=/login><input type=hidden name=next value=\"{}\">\
             <p><label>Name <input name=name autocomplete=username required></label>\
             <p><label>Password <input name=password type=password autocomplete=current-password required></label>\
             <p><button>Log in</button></form>",
            escape(complaint),
            escape(next)
        ),
    )
}

async fn ask(Query(Next { next }): Query<Next>) -> Html<String> {
    login_page(&next, "")
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: SecretString,
    #[serde(default)]
    next: String,
}

async fn log_in(login: Login, Form(form): Form<Credentials>) -> Response {
    if let Err(refused) = login.password(&form.name, form.password).await {
        let complaint = refused.to_string();
        return (refused.status(), login_page(&form.next, &complaint)).into_response();
    }
    // What came with the request may lead to a path of this site, and nowhere else.
    let next = RedirectTargets::new().location(&form.next).is_ok();
    Redirect::see_other(if next { form.next } else { "/".to_owned() }).into_response()
}

async fn log_out(session: Session) -> Redirect {
    session.log_out();
    Redirect::see_other("/")
}

async fn log_out_everywhere(session: Session) -> Result<Redirect, Error> {
    session.log_out_everywhere().await?;
    Ok(Redirect::see_other("/"))
}

async fn account(principal: Principal, session: Session) -> Result<Html<String>, Error> {
    let visits = session.get::<u64>("visits").unwrap_or(0) + 1;
    session.insert("visits", &visits)?;
    let sessions = session.list().await?.len();
    let roles = principal.roles().map(escape).collect::<Vec<_>>().join(", ");
    Ok(page(
        "Your account",
        format!(
            "<p>{} ({roles}), visit {visits} of this session, {sessions} session(s)\
             <form method=post action=/logout><button>Log out</button></form>\
             <form method=post action=/logout-everywhere><button>Log out everywhere</button></form>",
            escape(principal.id())
        ),
    ))
}

async fn reports() -> Html<String> {
    page("The reports", "<p>For those alone who may read them.")
}

fn roles() -> Result<Roles, Error> {
    let model = RoleModel::new().permissions(["reports:read"]);
    Ok(model.role("member", [], []).role("manager", ["member"], ["reports:read"]).build()?)
}

/// The users of the demonstration. A service keeps them in a database, behind a `UserStore`.
fn users() -> Result<MemoryUsers, Error> {
    let passwords = Passwords::default();
    let demo = BTreeMap::from([
        ("alice", ("wonderland is far", "manager")),
        ("bob", ("builder of bridges", "member")),
    ]);
    let users = demo.into_iter().map(|(name, (password, role))| {
        let hash = passwords.hash(&SecretString::from(password))?;
        Ok(User::new(name).with_password_hash(hash).with_role(role))
    });
    Ok(MemoryUsers::new(users.collect::<Result<Vec<_>, Error>>()?))
}

fn app() -> Result<App, Error> {
    let sessions = Sessions::new(MemorySessionStore::new(100_000), SessionOptions::default());
    Ok(App::new()
        .deny_by_default()
        .route("/", get(home).require(Requirement::Public))
        .route("/login", get(ask).post(log_in).require(Requirement::Public))
        .route("/logout", post(log_out).require(Requirement::Public))
        .route("/logout-everywhere", post(log_out_everywhere).require(Requirement::Authenticated))
        .route("/account", get(account).require(Requirement::Authenticated))
        .route("/reports", get(reports).require(Requirement::permission("reports:read")))
        .fallback(async || (StatusCode::NOT_FOUND, page("Not found", "<p><a href=/>Home</a>")))
        .require_for_fallback(Requirement::Public)
        .with(sessions)
        .with(Authenticator::new(Realm::new("Login example")?).login_page("/login"))
        .roles(roles()?)
        .state(Accounts::new(users()?))
        .state(Arc::new(DeviceCookies::new(MacKey::random()))))
}

fn main() -> Result<(), Error> {
    let args = Args::read();
    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1", "::1"])?;
    let running = args.server(app()?).bind_tls(&args.addr, &tls).start()?;
    let url = running.url();
    let hint = format!(
        "try: {url}/ in a browser, as alice (wonderland is far) or as bob (builder of bridges)\n     \
         curl --insecure --cookie-jar jar --cookie jar {url}/login -d name=bob --data-urlencode \
         'password=builder of bridges'\n     \
         curl --insecure --cookie jar {url}/account\n     \
         curl --insecure --cookie jar --include {url}/reports"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
