//! An API that takes a JWT, an API key, Basic or Digest, whichever a client has. Run it with
//! `cargo run --release --example tokens`; it prints a command for each.

use gimmal::auth::{
    Accounts, Authenticator, Authorizer, MemoryApiKeys, MemoryUsers, Principal, Realm, Requirement, User,
};
use gimmal::security::api_key::{ApiKey, StoredApiKey};
use gimmal::security::digest::{DigestAlgorithm, DigestScheme};
use gimmal::security::jwt::{AccessTokenValidator, Algorithm, Issuer, JwkSet, KeySource};
use gimmal::security::password::Passwords;
use gimmal::security::{ExposeSecret, SecretSlice, SecretString};
use gimmal::{App, Error, Json, get};
use gimmal_examples::Args;
use serde::Serialize;

const PASSWORD: &str = "wonderland is far";

#[derive(Serialize)]
struct Asked {
    id: String,
    mechanism: String,
    scopes: Vec<String>,
    may_write: bool,
}

async fn who_am_i(principal: Principal, authorizer: Authorizer) -> Json<Asked> {
    Json(Asked {
        id: principal.id().to_owned(),
        mechanism: principal.mechanism().to_string(),
        scopes: principal.scopes().map(str::to_owned).collect(),
        may_write: authorizer.require(&Requirement::scope("articles:write")).is_ok(),
    })
}
