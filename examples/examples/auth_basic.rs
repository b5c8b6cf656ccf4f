//! The page behind a password that every tutorial has, but right: over HTTPS, with a slow hash, with guesses slowed down
//! and locked out. Run it with `cargo run --release --example auth_basic`.

use gimmal::auth::{Accounts, Authenticator, MemoryUsers, Principal, Realm, Requirement, User};
use gimmal::defence::Defences;
use gimmal::security::password::Passwords;
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Error};
use gimmal_examples::Args;

async fn hello(user: Principal) -> String {
    format!("Hello, {}!", user.id())
}

fn main() -> Result<(), Error> {
    let args = Args::read();
    // A service has the hashes in its database; those that Flask (Werkzeug) has made there will do.
    let hash = |password: &str| Passwords::default().hash(&password.into());
    let users = MemoryUsers::new([
        User::new("john").with_password_hash(hash("hello from john")?),
        User::new("susan").with_password_hash(hash("goodbye from susan")?),
    ]);
    let app = App::new()
        .get("/", hello)
        .require(Requirement::Authenticated)
        .with(Defences::new())
        .with(Authenticator::new(Realm::new("Hello")?).basic(&Accounts::new(users)));

    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1", "::1"])?;
    let running = args.server(app).bind_tls(&args.addr, &tls).start()?;
    let url = running.url();
    let hint = format!(
        "open {url}/ in a browser, as john (hello from john) or susan (goodbye from susan), or try:\n     \
         curl --insecure {url}/ --user 'john:hello from john'"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
