//! What stands guard over an app, each beside the same app without it.
//!
//! The in-memory client is part of every figure: what a guard costs is its case less the `without` that is named
//! beside it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use futures_util::FutureExt as _;
use gimmal::auth::{Authenticates, Authenticator, Authorizer, Mechanism, Principal, Realm, Requirement};
use gimmal::defence::{AllowedHosts, CsrfProtection, Defences, Quota, RateLimit, SecurityHeaders};
use gimmal::security::abac::{AccessRequest, Policies, Resource, SourceText};
use gimmal::security::jwt::{AccessTokenValidator, Algorithm, Issuer, JwkSet, KeySource, SigningKey};
use gimmal::security::rbac::RoleModel;
use gimmal::test::TestClient;
use gimmal::{App, Error, Next, Request, Response, StatusCode, get};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::json;

use super::Piece;

const ISSUER: &str = "https://login.example";
const API: &str = "https://api.example";

pub(super) fn pieces() -> Vec<Piece> {
    let open = || App::new().get("/", async || "in");
    let limit = Quota::per_second("all", 1_000_000_000).expect("a quota");
    let hosts = AllowedHosts::new(["localhost"]).expect("a host");
    let whole = Defences::new().allowed_hosts(hosts).rate_limit(RateLimit::by_address(limit.clone()));
    let headers = Defences::none().security_headers(SecurityHeaders::default());
    let mut pieces = vec![
        ask("without", open(), &[]),
        ask("security headers", open().with(headers), &[]),
        ask("CSRF check of the origin", open().with(CsrfProtection::default()), &[]),
        ask("rate limit by address", open().with(RateLimit::by_address(limit)), &[]),
        ask("all defences", open().with(whole), &[]),
    ];
    pieces.extend(tokens());
    pieces.extend(decisions());
    pieces
}

/// Access tokens whose keys are at hand.
fn tokens() -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (case, kind, algorithm) in [
        ("JWT, RS256, cached key", &PKCS_RSA_SHA256, Algorithm::RS256),
        ("JWT, ES256, cached key", &PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
    ] {
        let (token, keys) = token(kind, algorithm);
        let validator = AccessTokenValidator::new(Issuer::new(ISSUER, API, keys));
        let authenticator = Authenticator::new(Realm::new("Staff").expect("a realm")).jwt(validator);
        let app =
            App::new().route("/", get(async || "in").require(Requirement::Authenticated)).with(authenticator);
        let bearer: &'static str = format!("Bearer {token}").leak();
        if pieces.is_empty() {
            let open = App::new().get("/", async || "in");
            pieces.push(ask("without, but with the token", open, &[("authorization", bearer)]));
        }
        pieces.push(ask(case, app, &[("authorization", bearer)]));
    }
    pieces
}

/// A token that is good for a day, and the keys that it is checked with.
fn token(kind: &'static SignatureAlgorithm, algorithm: Algorithm) -> (String, KeySource) {
    let pair = KeyPair::generate_for(kind).expect("a key");
    let key = SigningKey::from_pkcs8(&pair.serialize_der(), algorithm, "k1").expect("a key of that kind");
    let keys = json!({ "keys": [key.public_jwk()] }).to_string();
    let now = UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": API, "sub": "alice", "client_id": "app", "iat": now, "exp": now + 86_400, "jti": "1",
        "scope": "read",
    });
    let token = key.sign("at+jwt", claims.as_object().expect("an object"));
    (token, KeySource::fixed(JwkSet::parse(keys.as_bytes()).expect("a key set")))
}

/// Roles and policies, for a principal that costs little to find out.
fn decisions() -> Vec<Piece> {
    async fn known(mut request: Request, next: Next) -> Response {
        request.extensions_mut().insert(Principal::new("alice", Mechanism::External, 0).with_role("editor"));
        next.run(request).await
    }
    let roles = || {
        RoleModel::new()
            .permissions(["articles:read", "articles:write", "articles:delete"])
            .role("reader", [], ["articles:read"])
            .role("editor", ["reader"], ["articles:write"])
            .build()
            .expect("a model without faults")
    };
    let policies = Arc::new(policies());
    let decide = async move |authorizer: Authorizer, principal: Principal| -> Result<&str, Error> {
        let article = Resource::new("Article", "1").attribute("draft", false);
        authorizer.decide(&policies, &AccessRequest::new(&principal, "read", &article))?;
        Ok("in")
    };
    let guarded = |requirement| {
        let app = App::new().route("/", get(async || "in").require(requirement));
        app.roles(roles()).with(Authenticates(known))
    };
    let asking = async |_: Authorizer, _: Principal| "in";
    vec![
        ask("without, but with a principal", App::new().get("/", async || "in").with(known), &[]),
        ask("RBAC, a role that is inherited", guarded(Requirement::role("reader")), &[]),
        ask("RBAC, a permission", guarded(Requirement::permission("articles:read")), &[]),
        ask("without, but with an Authorizer", App::new().get("/", asking).with(Authenticates(known)), &[]),
        ask("Cedar, 10 policies", App::new().get("/", decide).with(Authenticates(known)), &[]),
    ]
}

/// One policy that lets read, and nine that forbid something else.
fn policies() -> Policies {
    let schema = SourceText::new(
        "blog.cedarschema",
        "entity Role; entity User in [Role]; entity Article = { draft: Bool };
         action read, write appliesTo { principal: User, resource: Article };",
    );
    let forbid = |number| {
        format!(
            "forbid (principal == User::\"user{number}\", action == Action::\"write\", resource) when {{ resource.draft }};\n"
        )
    };
    let text = (1..10).map(forbid).collect::<String>()
        + "permit (principal in Role::\"editor\", action == Action::\"read\", resource) when { !resource.draft };";
    let policy = SourceText::new("blog.cedar", &text);
    Policies::load(&schema, &[policy]).expect("valid policies")
}

/// Builds the case, and asks it once to see that it answers.
fn ask(case: &'static str, app: App, fields: &[(&'static str, &'static str)]) -> Piece {
    let fields = fields.to_vec();
    let client = TestClient::new(app).expect("a valid app");
    let run = move || {
        let request =
            fields.iter().fold(client.get("/"), |request, (name, value)| request.header(name, value));
        // Nothing here waits.
        let response = request.send().now_or_never().expect("the response is ready");
        assert_eq!(response.status(), StatusCode::OK);
        black_box(response);
    };
    run();
    Piece::new("guards", case, run)
}
