//! An API that takes a JWT, an API key, Basic or Digest, whichever a client has. Run it with
//! `cargo run --release --example tokens`; it prints a command for each.

use std::time::{SystemTime, UNIX_EPOCH};

use gimmal::auth::{
    Accounts, Authenticator, MemoryApiKeys, MemoryUsers, Principal, Realm, Requirement, User,
};
use gimmal::security::api_key::{ApiKey, StoredApiKey};
use gimmal::security::digest::{DigestAlgorithm, DigestScheme};
use gimmal::security::jwt::{AccessTokenValidator, Algorithm, Issuer, JwkSet, KeySource, SigningKey};
use gimmal::security::password::Passwords;
use gimmal::security::{ExposeSecret, SecretString};
use gimmal::{App, Error, Json, get};
use gimmal_examples::Args;
use rcgen::KeyPair;
use serde::Serialize;
use serde_json::json;

const PASSWORD: &str = "wonderland is far";

#[derive(Serialize)]
struct Asked {
    id: String,
    mechanism: String,
    scopes: Vec<String>,
}

async fn who_am_i(principal: Principal) -> Json<Asked> {
    Json(Asked {
        id: principal.id().to_owned(),
        mechanism: principal.mechanism().to_string(),
        scopes: principal.scopes().map(str::to_owned).collect(),
    })
}

const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "https://api.example";

/// Stands in for an authorisation server: makes its key, and one token that is good for an hour. With a real one, the
/// keys are at `KeySource::remote("https://login.example/jwks", ..)`.
fn authorisation_server(now: u64) -> Result<(KeySource, String), Error> {
    let key = SigningKey::from_pkcs8(&KeyPair::generate()?.serialize_der(), Algorithm::ES256, "demo")?;
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "carol", "client_id": "demo", "jti": "1",
        "iat": now, "exp": now + 3600, "scope": "articles:read articles:write",
    });
    let token = claims.as_object().map(|claims| key.sign("at+jwt", claims)).unwrap_or_default();
    let keys = json!({ "keys": [key.public_jwk()] }).to_string();
    Ok((KeySource::fixed(JwkSet::parse(keys.as_bytes())?), token))
}

fn main() -> Result<(), Error> {
    let args = Args::read();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let realm = Realm::new("Tokens example")?;
    let password = SecretString::from(PASSWORD);
    let alice = User::new("alice")
        .with_password_hash(Passwords::default().hash(&password)?)
        .with_digest_secret(DigestAlgorithm::Sha256.secret("alice", &realm, &password))
        .with_scope("articles:read");
    let accounts = Accounts::new(MemoryUsers::new([alice]));
    let key = ApiKey::generate("demo")?;
    let stored = StoredApiKey::new(&key, "robot", now).with_scope("articles:read");
    let (keys, token) = authorisation_server(now)?;

    let authenticator = Authenticator::new(realm.clone())
        .jwt(AccessTokenValidator::new(Issuer::new(ISSUER, AUDIENCE, keys)))
        .api_keys("demo", MemoryApiKeys::new([stored]))
        .digest(&accounts, DigestScheme::new(realm))
        .basic(&accounts);
    let app = App::new()
        .deny_by_default()
        .route("/me", get(who_am_i).require(Requirement::scope("articles:read")))
        .route("/write", get(who_am_i).require(Requirement::scope("articles:write")))
        .with(authenticator);

    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    let key = key.expose().expose_secret();
    let hint = format!(
        "try: curl --include {url}/me\n     \
         curl {url}/me --user 'alice:{PASSWORD}'\n     \
         curl {url}/me --digest --user 'alice:{PASSWORD}'\n     \
         curl {url}/me --header 'X-API-Key: {key}'\n     \
         curl {url}/write --header 'Authorization: Bearer {token}'\n     \
         curl --include {url}/write --header 'Authorization: Bearer {key}'"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
