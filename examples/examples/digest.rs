//! A page behind Digest (RFC 7616): the password never crosses the wire, and what does is worth nothing a second time.
//! Run it with `cargo run --release --example digest`.
//!
//! It is for clients that have nothing better. Over HTTPS, Basic with a slow hash (the example `auth_basic`) guards the
//! store of passwords better: what Digest keeps of a password is quick to try guesses against.

use gimmal::auth::{Accounts, Authenticator, MemoryUsers, Principal, Realm, Requirement, User};
use gimmal::defence::Defences;
use gimmal::security::SecretString;
use gimmal::security::digest::{DigestAlgorithm, DigestScheme};
use gimmal::{App, Error};
use gimmal_examples::Args;

async fn hello(user: Principal) -> String {
    format!("Hello, {}! You were proved by {}.", user.id(), user.mechanism())
}

fn main() -> Result<(), Error> {
    let args = Args::read();
    let realm = Realm::new("Mountain hut")?;
    // A service keeps this secret in its database, and forgets the password.
    let password = SecretString::from("a song on the summit");
    let secret = DigestAlgorithm::Sha256.secret("heidi", &realm, &password);
    let accounts = Accounts::new(MemoryUsers::new([User::new("heidi").with_digest_secret(secret)]));
    let app = App::new()
        .get("/", hello)
        .require(Requirement::Authenticated)
        .with(Defences::new())
        .with(Authenticator::new(realm.clone()).digest(&accounts, DigestScheme::new(realm)));

    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    let hint = format!(
        "open {url}/ in a browser, as heidi (a song on the summit), or try:\n     \
         curl --digest {url}/ --user 'heidi:a song on the summit' --include"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
