//! Notes of a company, for browsers and for programs: what a service looks like that can be let into the open.
//!
//! ```sh
//! cargo run --release --example secure_api
//! ```
//!
//! It prints who may log in. Users, notes and API keys are in SQLite ([`database`]), passwords as Argon2id. People log in
//! on a page and have a session ([`pages`]); programs bring an API key as Bearer token ([`api`]). Roles say which routes
//! one may use, and policies in Cedar (`notes.cedar`) which notes. Around all of it are HTTPS, security headers with a
//! Content-Security-Policy, the check of where a form comes from, rate limits, and the audit log ([`audit`]).

mod api;
mod audit;
mod database;
mod notes;
mod pages;
mod users;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use gimmal::auth::{BlockingThreads, SessionOptions, Sessions};
use gimmal::defence::{AllowedHosts, CsrfProtection, CsrfTokens, Defences, Quota, RateLimit};
use gimmal::security::rbac::RoleModel;
use gimmal::security::session::SqliteSessionStore;
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Error};
use gimmal_examples::Args;

use crate::audit::AuditFile;
use crate::database::{DEMO_USERS, Database};

/// What API keys begin with, so that those who look for leaked secrets find them.
const KEY_PREFIX: &str = "notes";

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
    /// Where the data are kept. Without it, in a folder that is gone at the end.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn app(database: &Database, sessions: Sessions, audit_file: AuditFile) -> Result<App, Error> {
    let roles = RoleModel::new()
        .permissions(["notes:read", "notes:write", "audit:read"])
        .role("member", [], ["notes:*"])
        .role("manager", ["member"], ["audit:read"])
        .build()?;
    // Keys of its own to each start: a service on many machines takes them from a secret store.
    let csrf = CsrfProtection::default().tokens(CsrfTokens::random()).session_cookie("__Host-session");
    let defences = Defences::new()
        .allowed_hosts(AllowedHosts::new(["localhost", "127.0.0.1", "[::1]"])?)
        .rate_limit(RateLimit::by_address(Quota::per_second("all", 100)?))
        .csrf(csrf.always_ask_for_token());
    Ok(App::new()
        .deny_by_default()
        .roles(roles)
        .nest("/api", api::app(database)?)
        .nest("/", pages::app(database, sessions)?)
        .with(pages::error_pages)
        .with(defences)
        .body_limit(64 * 1024)
        .state(database.clone())
        .state(notes::policies()?)
        .audit_log(audit_file.open()?)
        .state(audit_file))
}

fn main() -> Result<(), Error> {
    gimmal_examples::start_log();
    let Options { args, folder } = Options::parse();
    let temporary = tempfile::tempdir()?;
    let folder = folder.unwrap_or_else(|| temporary.path().to_owned());
    let database = Database::open(&folder.join("notes.db"))?;
    let store = SqliteSessionStore::open(folder.join("sessions.db"), BlockingThreads)?;
    let sessions = Sessions::new(store, SessionOptions::default());
    let app = app(&database, sessions, AuditFile::new(folder.join("audit.jsonl")))?;

    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1", "::1"])?;
    let running = args.server(app).access_log(true).bind_tls(&args.addr, &tls).start()?;
    let url = running.url();
    let users = DEMO_USERS.map(|[name, password, role, department]| {
        format!("  {name:<6} {password:<20} {role:<8} {department}\n")
    });
    let hint = format!(
        "open {url}/ in a browser, which will not know the certificate, and log in as\n{}\
         - write <script>alert(1)</script> or <img src=x onerror=alert(1)>: it is text\n\
         - search for ' OR 1=1 --: it finds what was written, no more\n\
         - alice is a manager, and sees the audit log\n\
         - make an API key on the page of your account, and try\n  \
           curl -k {url}/api/notes -H 'Authorization: Bearer KEY'\n\
         - curl -ki {url}/login -H 'Host: evil.example'                              421\n\
         - curl -ki {url}/login -d 'name=bob' -H 'Origin: https://evil.example'      403",
        users.concat()
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
