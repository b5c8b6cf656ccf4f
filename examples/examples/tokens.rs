//! An API that takes access tokens of an authorisation server (OAuth 2, RFC 9068). Run it with
//! `cargo run --release --example tokens`; it prints a token to try it with.

use std::time::{SystemTime, UNIX_EPOCH};

use gimmal::auth::{Authenticator, Principal, Realm, Requirement};
use gimmal::security::jwt::{AccessTokenValidator, Algorithm, Issuer, JwkSet, KeySource, SigningKey};
use gimmal::{App, Error, Json, get, post};
use gimmal_examples::Args;
use rcgen::KeyPair;
use serde_json::{Value, json};

const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "https://api.example";

async fn read(principal: Principal) -> Json<Value> {
    Json(json!({ "for": principal.id(), "scopes": principal.scopes().collect::<Vec<_>>() }))
}

/// Stands in for an authorisation server: makes its key, and one token that is good for an hour.
fn authorisation_server() -> Result<(JwkSet, String), Error> {
    let key = SigningKey::from_pkcs8(&KeyPair::generate()?.serialize_der(), Algorithm::ES256, "demo")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "carol", "client_id": "demo", "jti": "1",
        "iat": now, "exp": now + 3600, "scope": "articles:read",
    });
    let token = claims.as_object().map(|claims| key.sign("at+jwt", claims)).unwrap_or_default();
    let keys = json!({ "keys": [key.public_jwk()] }).to_string();
    Ok((JwkSet::parse(keys.as_bytes())?, token))
}

fn main() -> Result<(), Error> {
    let args = Args::read();
    let (keys, token) = authorisation_server()?;
    // Of a real one: KeySource::remote("https://login.example/jwks", ..), which fetches, caches and rotates them.
    let issuer = Issuer::new(ISSUER, AUDIENCE, KeySource::fixed(keys));
    let app = App::new()
        .deny_by_default()
        .route("/articles", get(read).require(Requirement::scope("articles:read")))
        .route("/articles", post(read).require(Requirement::scope("articles:write")))
        .with(Authenticator::new(Realm::new("Articles")?).jwt(AccessTokenValidator::new(issuer)));

    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    let hint = format!(
        "try: curl --include {url}/articles\n     \
         curl {url}/articles --header 'Authorization: Bearer {token}'\n     \
         curl --include --request POST {url}/articles --header 'Authorization: Bearer {token}'"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
