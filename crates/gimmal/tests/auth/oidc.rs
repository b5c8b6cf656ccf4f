//! A login with OpenID Connect from end to end, at a provider of the test's own.

use std::sync::Arc;

use gimmal::auth::{
    Authenticator, MemorySessionStore, OidcLogin, Principal, Requirement, SessionOptions, Sessions,
};
use gimmal::security::client_authentication::ClientAuthentication;
use gimmal::security::cookies::CookieKeys;
use gimmal::security::jwt::SigningKey;
use gimmal::security::oidc::RelyingParty;
use gimmal::security::{SecretSlice, SecretString};
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Form, Query, Redirect, Request, get};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mechanisms::{key_set, signing_key};
use crate::{Answer, Service, now, realm};

#[derive(Deserialize)]
struct Authorization {
    redirect_uri: String,
    state: String,
    nonce: String,
    code_challenge: String,
}

#[derive(Deserialize)]
struct TokenRequest {
    code: String,
    code_verifier: String,
}

fn own_url(request: &Request) -> String {
    format!("http://{}", request.authority().unwrap())
}

/// A provider at which everybody is carol. Its codes are the nonces that they have to come back with.
fn provider(key: Arc<SigningKey>) -> App {
    let keys = key_set(&key);
    let metadata = async |request: Request| {
        let url = own_url(&request);
        json!({
            "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/jwks"), "end_session_endpoint": format!("{url}/end"),
            "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
        })
        .to_string()
    };
    let authorize = async |Query(asked): Query<Authorization>| {
        assert_eq!(asked.code_challenge.len(), 43);
        let Authorization { redirect_uri, state, nonce, .. } = asked;
        Redirect::see_other(format!("{redirect_uri}?code={nonce}&state={state}"))
    };
    let token = async move |Form(asked): Form<TokenRequest>, request: Request| {
        assert_eq!(asked.code_verifier.len(), 43);
        let claims = json!({
            "iss": own_url(&request), "aud": "shop", "sub": "carol", "sid": "s1", "nonce": asked.code,
            "iat": now(), "exp": now() + 60, "roles": ["editor"],
        });
        let id_token = key.sign("JWT", claims.as_object().unwrap());
        json!({ "access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": id_token })
            .to_string()
    };
    App::new()
        .get("/.well-known/openid-configuration", metadata)
        .get("/jwks", async move || keys.clone())
        .get("/authorize", authorize)
        .post("/token", token)
}

fn service(issuer: &str) -> Service {
    let sessions = Sessions::new(MemorySessionStore::new(100), SessionOptions::default());
    let login = OidcLogin::new(issuer, |provider| {
        let client = ClientAuthentication::basic("shop", SecretString::from("secret"));
        let keys = CookieKeys::new(&SecretSlice::from(vec![7; 32]))?;
        Ok(RelyingParty::new(provider, client, "https://shop.example/oidc/callback", keys)?)
    });
    let app = App::new()
        .deny_by_default()
        .route("/me", get(async |me: Principal| me.id().to_owned()).require(Requirement::Authenticated))
        .nest("/oidc", login.routes(&sessions))
        .with(sessions)
        .with(Authenticator::new(realm()).login_page("/oidc/login"));
    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1"]).unwrap();
    Service::start_tls(app, &tls)
}

/// What is after the host in the address that an answer leads to.
fn target(answer: &Answer) -> String {
    let location = answer.fields("location")[0];
    let path = location.splitn(4, '/').nth(3).unwrap();
    format!("/{path}")
}

#[test]
fn login_and_both_logouts() {
    let key = Arc::new(signing_key());
    let provider = Service::start(provider(Arc::clone(&key)));
    let service = service(provider.url());
    let jar = tempfile::NamedTempFile::new().unwrap();
    let jar = jar.path().to_str().unwrap();
    let ask = |arguments: &[&str], path: &str| {
        service.curl(&[&["--cookie", jar, "--cookie-jar", jar], arguments].concat(), path)
    };
    let log_in = || {
        let sent = ask(&["--header", "Accept: text/html"], "/me");
        assert_eq!((sent.status, sent.fields("location")[0]), (303, "/oidc/login?next=%2Fme"));
        let started = ask(&[], "/oidc/login?next=%2Fme");
        assert_eq!((started.status, started.fields("cache-control")), (303, vec!["no-store"]));
        target(&provider.curl(&[], &target(&started)))
    };

    let callback = log_in();
    let forged = callback.replace("state=", "state=x");
    assert_eq!(ask(&[], &forged).status, 400, "the state is not that of this browser");
    assert_eq!(service.curl(&[], &callback).status, 400, "another browser did not begin this login");
    let swapped = callback.replace("code=", "code=x");
    assert_eq!(ask(&[], &swapped).status, 502, "an ID token for another login");
    assert_eq!(ask(&[], "/me").status, 401);
    let finished = ask(&[], &callback);
    assert_eq!((finished.status, finished.fields("location")), (303, vec!["/me"]));
    assert_eq!(ask(&[], "/me").body, "carol");

    let out = ask(&["--request", "POST"], "/oidc/logout");
    let location = out.fields("location")[0];
    assert!(
        location.starts_with(&format!("{}/end?client_id=shop&id_token_hint=", provider.url())),
        "{location}"
    );
    assert_eq!(ask(&[], "/me").status, 401);

    assert_eq!(ask(&[], &log_in()).status, 303);
    assert_eq!(ask(&[], "/me").body, "carol");
    let logout = |changes: Value| {
        let mut claims = json!({
            "iss": provider.url(), "aud": "shop", "sid": "s1", "iat": now(), "exp": now() + 60, "jti": "1",
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let token = key.sign("logout+jwt", claims.as_object().unwrap());
        service.curl(&["--data", &format!("logout_token={token}")], "/oidc/backchannel-logout").status
    };
    assert_eq!(logout(json!({ "aud": "other" })), 400);
    assert_eq!(ask(&[], "/me").body, "carol");
    assert_eq!(logout(json!({})), 200);
    assert_eq!(ask(&[], "/me").status, 401);
    assert_eq!(logout(json!({})), 400, "a logout token is used once");
}

#[test]
fn a_provider_that_is_down_is_a_503_and_is_asked_again() {
    let service = service("http://127.0.0.1:1");
    for _ in 0..2 {
        assert_eq!(service.curl(&[], "/oidc/login").status, 503);
    }
}
