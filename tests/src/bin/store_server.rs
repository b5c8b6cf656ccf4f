//! A server that shares its store with others: `store_server BACKEND redis URL`, or `store_server BACKEND sqlite PATH`.
//! It says where it listens. With Redis, limits of the rate are shared, too.

use gimmal::auth::{
    AccountOptions, Accounts, Authenticator, BlockingThreads, Login, MemoryUsers, Principal, Realm,
    Requirement, Session, SessionOptions, Sessions, User,
};
use gimmal::defence::{Quota, RateLimit, RedisStore};
use gimmal::security::SecretString;
use gimmal::security::password::Passwords;
use gimmal::security::session::{RedisSessionStore, SqliteSessionStore};
use gimmal::{App, BoxError, Error, Form, IntoResponse, Response, Server, get, post};

#[derive(serde::Deserialize)]
struct Credentials {
    name: String,
    password: SecretString,
}

async fn log_in(login: Login, Form(form): Form<Credentials>) -> Response {
    match login.password(&form.name, form.password).await {
        Ok(principal) => principal.id().to_owned().into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.get::<u64>("visits").unwrap_or(0) + 1;
    session.insert("visits", &visits)?;
    Ok(visits.to_string())
}

async fn who(principal: Principal) -> String {
    principal.id().to_owned()
}

/// Browsers with sessions.
fn browsers(sessions: Sessions, accounts: Accounts) -> App {
    App::new()
        .route("/login", post(log_in))
        .route("/me", get(who))
        .route("/count", get(count))
        .route("/logout", post(async |session: Session| session.log_out()))
        .route(
            "/logout-everywhere",
            post(async |session: Session| session.log_out_everywhere().await.map(|ended| ended.to_string())),
        )
        .with(sessions)
        .state(accounts)
}

/// Clients that are held to limits, five an hour each, which are counted in Redis.
fn limited(url: &SecretString, accounts: &Accounts) -> Result<App, BoxError> {
    let limit = |make: fn(Quota) -> RateLimit, name: &str| -> Result<RateLimit, BoxError> {
        Ok(make(Quota::per_hour(name, 5)?).store(RedisStore::new(url, "test")?))
    };
    let of_principal = App::new()
        .get("/", who)
        .require(Requirement::Authenticated)
        .with(Authenticator::new(Realm::new("Staff")?).basic(accounts))
        .with(limit(RateLimit::by_principal, "principal")?);
    let strict = limit(RateLimit::by_address, "strict")?.refuse_without_store();
    Ok(App::new()
        .nest("/principal", of_principal)
        .route("/address", get(async || "in").with(limit(RateLimit::by_address, "address")?))
        .route("/strict", get(async || "in").with(strict)))
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, store, place] = &arguments[..] else { return Err("BACKEND STORE PLACE".into()) };
    let hash = Passwords::default().hash(&SecretString::from("secret"))?;
    let users = ["alice", "bob"].map(|name| User::new(name).with_password_hash(&hash));
    let accounts = Accounts::with_options(MemoryUsers::new(users), AccountOptions::default());
    let options = SessionOptions::default();
    let app = if store == "redis" {
        let url = SecretString::from(place.as_str());
        let sessions = Sessions::new(RedisSessionStore::new(&url, "test")?, options);
        App::new().nest("/limited", limited(&url, &accounts)?).nest("/browser", browsers(sessions, accounts))
    } else {
        let sessions = Sessions::new(SqliteSessionStore::open(place, BlockingThreads)?, options);
        App::new().nest("/browser", browsers(sessions, accounts))
    };
    let running = Server::new(app).cores(2).backend(backend.parse()?).bind("127.0.0.1:0").start()?;
    announce(&running.addresses()[0]);
    Ok(running.join()?)
}

#[expect(clippy::print_stdout, reason = "whoever started it reads this")]
fn announce(address: &gimmal::Address) {
    println!("{address}");
}
