//! Logins at a provider that lies: what is refused (OpenID Connect Core 1.0, RFC 9207, RFC 9700).

mod authorisation_server;

use std::cell::RefCell;
use std::collections::HashMap;

use authorisation_server::{Server, SigningKey, base64url, json_response};
use aws_lc_rs::digest;
use gimmal_security::client_authentication::ClientAuthentication;
use gimmal_security::cookies::{CookieKeys, Cookies};
use gimmal_security::discovery::ServerMetadata;
use gimmal_security::jwt::{Algorithm, TokenError};
use gimmal_security::oidc::{
    Login, LoginError, LoginRedirect, LoginRequest, LogoutToken, LogoutTokenError, OAuthErrorCode,
    RelyingParty,
};
use gimmal_security::{ExposeSecret, FetchError, HttpFetch, SecretSlice, SecretString};
use http::{Request, Response};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://login.example";
const ACCESS_TOKEN: &str = "SlAV32hkKG";

type TokenResponse = dyn Fn(&Provider, &str) -> Response<Vec<u8>>;

/// A provider whose answers a test spoils.
struct Provider {
    key: SigningKey,
    /// Puts together the token response for a nonce.
    token_response: RefCell<Box<TokenResponse>>,
    nonce: RefCell<String>,
}

impl Provider {
    fn new() -> Self {
        Self {
            key: SigningKey::ed25519(),
            token_response: RefCell::new(Box::new(|provider, nonce| {
                token_response(&provider.id_token(&claims(nonce)))
            })),
            nonce: RefCell::default(),
        }
    }

    /// From now on, tokens are answered like this.
    fn answer_tokens(&self, response: impl Fn(&Self, &str) -> Response<Vec<u8>> + 'static) {
        *self.token_response.borrow_mut() = Box::new(response);
    }

    fn id_token(&self, claims: &Value) -> String {
        self.key.token(&json!({ "alg": "EdDSA", "kid": "k1" }), claims)
    }

    /// Answers as the provider does.
    fn client(&self) -> impl HttpFetch + '_ {
        Server::new(|request: &Request<Vec<u8>>| match request.uri().path() {
            "/jwks" => json_response(&json!({ "keys": [self.key.public_jwk("k1")] })),
            "/token" => (self.token_response.borrow())(self, &self.nonce.borrow()),
            "/userinfo" => {
                assert_eq!(request.headers()["authorization"], format!("Bearer {ACCESS_TOKEN}"));
                json_response(&json!({ "sub": "alice", "email": "alice@example.org" }))
            }
            path => panic!("unexpected request to {path}"),
        })
    }
}

fn claims(nonce: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": "shop", "sub": "alice", "nonce": nonce, "iat": NOW, "exp": NOW + 300,
        "auth_time": NOW - 10, "sid": "s1", "email": "alice@example.org", "roles": ["editor"],
    })
}

fn token_response(id_token: &str) -> Response<Vec<u8>> {
    json_response(&json!({
        "access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 60, "id_token": id_token,
    }))
}

fn metadata(extra: &Value) -> ServerMetadata {
    let mut document = json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{ISSUER}/jwks"),
        "authorization_endpoint": format!("{ISSUER}/auth?tenant=1"),
        "token_endpoint": format!("{ISSUER}/token"),
        "userinfo_endpoint": format!("{ISSUER}/userinfo"),
        "end_session_endpoint": format!("{ISSUER}/logout"),
        "authorization_response_iss_parameter_supported": true,
        "code_challenge_methods_supported": ["S256", "plain"],
    });
    for (name, value) in extra.as_object().unwrap() {
        document[name] = value.clone();
    }
    ServerMetadata::parse(ISSUER, document.to_string().as_bytes()).unwrap()
}

fn try_relying_party(extra: &Value) -> Result<RelyingParty, LoginError> {
    let client = ClientAuthentication::basic("shop", SecretString::from("s3cret"));
    let keys = CookieKeys::new(&SecretSlice::from(vec![7; 32])).unwrap();
    RelyingParty::new(metadata(extra), client, "https://shop.example/callback", keys)
}

fn relying_party() -> RelyingParty {
    try_relying_party(&json!({})).unwrap()
}

fn pair(redirect: &LoginRedirect) -> String {
    redirect.set_cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
}

fn parameters(location: &str) -> HashMap<String, String> {
    serde_urlencoded::from_str(location.split_once('?').unwrap().1).unwrap()
}

/// A login with the provider, up to the redirect back; gives its cookie and the parameters of the redirect to it.
fn start(
    relying_party: &RelyingParty,
    provider: &Provider,
    request: &LoginRequest,
) -> (String, HashMap<String, String>) {
    let redirect = relying_party.start_login(request, &Cookies::parse([]), NOW).unwrap();
    let sent = parameters(&redirect.location);
    provider.nonce.replace(sent["nonce"].clone());
    (pair(&redirect), sent)
}

async fn finish(
    relying_party: &RelyingParty,
    provider: &Provider,
    cookie: &str,
    query: &str,
) -> Result<Login, LoginError> {
    let cookies = Cookies::parse([cookie.as_bytes()]);
    relying_party.finish_login(query, &cookies, NOW + 5, &provider.client()).await
}

fn query(state: &str) -> String {
    serde_urlencoded::to_string([("code", "SplxlOBeZQQYbYS6WxSbIA"), ("state", state), ("iss", ISSUER)])
        .unwrap()
}

async fn log_in_with(provider: &Provider, request: &LoginRequest) -> Result<Login, LoginError> {
    let relying_party = relying_party();
    let (cookie, sent) = start(&relying_party, provider, request);
    finish(&relying_party, provider, &cookie, &query(&sent["state"])).await
}

/// The verdict on an ID token with these changes (`null` removes a claim).
async fn verdict_with(changes: Value) -> Result<Login, LoginError> {
    let provider = Provider::new();
    provider.answer_tokens(move |provider, nonce| {
        let mut claims = claims(nonce);
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        token_response(&provider.id_token(&claims))
    });
    log_in_with(&provider, &LoginRequest::default()).await
}

/// The verdict on what `id_token` makes of the provider and the usual claims.
async fn verdict_on(id_token: impl Fn(&Provider, &Value) -> String + 'static) -> Result<Login, LoginError> {
    let provider = Provider::new();
    provider.answer_tokens(move |provider, nonce| token_response(&id_token(provider, &claims(nonce))));
    log_in_with(&provider, &LoginRequest::default()).await
}

#[track_caller]
fn assert_refused(verdict: Result<Login, LoginError>, error: TokenError) {
    assert_eq!(verdict.map(|login| login.principal.id().to_owned()), Err(LoginError::IdToken(error)));
}

#[tokio::test]
async fn a_login() {
    let provider = Provider::new();
    let relying_party = relying_party().with_scopes(["email"]);
    let request = LoginRequest {
        return_to: "/cart".to_owned(),
        prompt: Some("login".to_owned()),
        login_hint: Some("alice@example.org".to_owned()),
        max_age_seconds: Some(60),
    };
    let (cookie, sent) = start(&relying_party, &provider, &request);
    for (name, value) in [
        ("tenant", "1"),
        ("response_type", "code"),
        ("client_id", "shop"),
        ("redirect_uri", "https://shop.example/callback"),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
        ("prompt", "login"),
        ("login_hint", "alice@example.org"),
        ("max_age", "60"),
    ] {
        assert_eq!(sent[name], value, "{name}");
    }
    // Neither the verifier nor the nonce can be read from the cookie.
    assert!(cookie.starts_with("__Host-login=") && !cookie.contains(&sent["nonce"]));

    let login = finish(&relying_party, &provider, &cookie, &query(&sent["state"])).await.unwrap();
    assert_eq!((login.principal.id(), login.principal.authenticated_at()), ("alice", NOW - 10));
    assert!(login.principal.has_role("editor"));
    assert_eq!(login.principal.attribute("nonce"), None);
    assert_eq!((login.return_to.as_str(), login.provider_session.as_deref()), ("/cart", Some("s1")));
    assert_eq!(login.tokens.expires_at, Some(NOW + 65));
    assert!(!format!("{login:?}").contains(ACCESS_TOKEN));
    let user = relying_party
        .user_info(&login.tokens.access_token, &login.principal, &provider.client())
        .await
        .unwrap();
    assert_eq!(user["email"], "alice@example.org");

    let location =
        relying_party.logout_location(login.tokens.id_token.as_ref(), Some("https://shop.example/"));
    let sent = parameters(&location.unwrap());
    assert_eq!(sent["client_id"], "shop");
    assert_eq!(sent["post_logout_redirect_uri"], "https://shop.example/");
    assert_eq!(sent["id_token_hint"], login.tokens.id_token.unwrap().expose_secret());
}

/// RFC 7636 section 4.6: what is sent to the token endpoint fits what was sent to the provider.
#[tokio::test]
async fn pkce() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let (cookie, sent) = start(&relying_party, &provider, &LoginRequest::default());
    let server = Server::new(|request| {
        if request.uri().path() == "/jwks" {
            return json_response(&json!({ "keys": [provider.key.public_jwk("k1")] }));
        }
        let form: HashMap<String, String> = serde_urlencoded::from_bytes(request.body()).unwrap();
        let challenge = base64url(digest::digest(&digest::SHA256, form["code_verifier"].as_bytes()));
        assert_eq!(challenge, sent["code_challenge"]);
        assert_eq!(form["grant_type"], "authorization_code");
        assert_eq!(form["redirect_uri"], "https://shop.example/callback");
        token_response(&provider.id_token(&claims(&provider.nonce.borrow())))
    });
    let cookies = Cookies::parse([cookie.as_bytes()]);
    assert!(relying_party.finish_login(&query(&sent["state"]), &cookies, NOW, &server).await.is_ok());
    assert_eq!(
        try_relying_party(&json!({ "code_challenge_methods_supported": ["plain"] })).err(),
        Some(LoginError::Unsupported("PKCE (S256)"))
    );
}

/// An attacker has the victim's browser finish the attacker's login.
#[tokio::test]
async fn login_csrf() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let (mallory, sent) = start(&relying_party, &provider, &LoginRequest::default());
    let (victim, _) = start(&relying_party, &provider, &LoginRequest::default());
    let other_keys = CookieKeys::new(&SecretSlice::from(vec![8; 32])).unwrap();
    let forged = format!("__Host-login={}", other_keys.seal("__Host-login", "[]", NOW + 900));
    let doubled = format!("{victim}; {mallory}");
    for cookie in ["", "__Host-login=", "__Host-login=x", &victim, &forged, &doubled] {
        let verdict = finish(&relying_party, &provider, cookie, &query(&sent["state"])).await;
        assert_eq!(verdict.err(), Some(LoginError::UnknownState), "{cookie}");
    }
    for state in ["", "x", &sent["state"].to_lowercase()] {
        let verdict = finish(&relying_party, &provider, &mallory, &query(state)).await;
        assert_eq!(verdict.err(), Some(LoginError::UnknownState), "{state}");
    }
}

/// A login that took too long is no login.
#[tokio::test]
async fn stale_login() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let (cookie, sent) = start(&relying_party, &provider, &LoginRequest::default());
    let cookies = Cookies::parse([cookie.as_bytes()]);
    let verdict =
        relying_party.finish_login(&query(&sent["state"]), &cookies, NOW + 900, &provider.client()).await;
    assert_eq!(verdict.err(), Some(LoginError::UnknownState));
}

/// Logins in three tabs are finished in any order.
#[tokio::test]
async fn several_tabs() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let mut cookie = String::new();
    let mut sent = Vec::new();
    for tab in ["/1", "/2", "/3"] {
        let request = LoginRequest { return_to: tab.to_owned(), ..LoginRequest::default() };
        let redirect =
            relying_party.start_login(&request, &Cookies::parse([cookie.as_bytes()]), NOW).unwrap();
        cookie = pair(&redirect);
        sent.push((tab, parameters(&redirect.location)));
    }
    for (tab, sent) in [&sent[1], &sent[0], &sent[2]] {
        provider.nonce.replace(sent["nonce"].clone());
        let login = finish(&relying_party, &provider, &cookie, &query(&sent["state"])).await.unwrap();
        assert_eq!(login.return_to, *tab);
        cookie = login.set_cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    }
    assert_eq!(cookie, "__Host-login=");
}

/// RFC 9207: the code of one provider is sent to another.
#[tokio::test]
async fn mix_up_attack() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let (cookie, sent) = start(&relying_party, &provider, &LoginRequest::default());
    let state = &sent["state"];
    for query in [
        format!("code=x&state={state}&iss=https%3A%2F%2Fevil.example"),
        format!("code=x&state={state}&iss="),
        format!("code=x&state={state}"),
        format!("error=access_denied&state={state}"),
    ] {
        let verdict = finish(&relying_party, &provider, &cookie, &query).await;
        assert_eq!(verdict.err(), Some(LoginError::IssuerMismatch), "{query}");
    }
    // A provider that does not promise the parameter may leave it out, but not lie in it.
    let old = try_relying_party(&json!({ "authorization_response_iss_parameter_supported": false })).unwrap();
    let (cookie, sent) = start(&old, &provider, &LoginRequest::default());
    let state = &sent["state"];
    let lie = format!("code=x&state={state}&iss=https%3A%2F%2Fevil.example");
    let verdict = finish(&old, &provider, &cookie, &lie).await;
    assert_eq!(verdict.err(), Some(LoginError::IssuerMismatch));
    assert!(finish(&old, &provider, &cookie, &format!("code=x&state={state}")).await.is_ok());
}

#[tokio::test]
async fn doubled_and_missing_parameters() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let (cookie, sent) = start(&relying_party, &provider, &LoginRequest::default());
    let good = query(&sent["state"]);
    for bad in [
        String::new(),
        "code=x".to_owned(),
        format!("state={}", sent["state"]),
        format!("{good}&code=y"),
        format!("{good}&state=y"),
        format!("{good}&iss=y"),
        format!("{good}&error=access_denied"),
    ] {
        let verdict = finish(&relying_party, &provider, &cookie, &bad).await;
        assert_eq!(verdict.err(), Some(LoginError::MalformedResponse), "{bad}");
    }
    assert!(finish(&relying_party, &provider, &cookie, &format!("{good}&other=1&other=2")).await.is_ok());
}

#[tokio::test]
async fn refusals_of_the_provider() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let (cookie, sent) = start(&relying_party, &provider, &LoginRequest::default());
    for (error, code) in [
        ("access_denied", OAuthErrorCode::AccessDenied),
        ("%3Cscript%3Ealert(1)%3C/script%3E", OAuthErrorCode::Other),
    ] {
        let query = format!("error={error}&state={}&iss=https%3A%2F%2Flogin.example", sent["state"]);
        let refused = finish(&relying_party, &provider, &cookie, &query).await.unwrap_err();
        assert_eq!(refused, LoginError::Refused(code));
        assert!(!refused.to_string().contains("script"));
    }
    provider.answer_tokens(|_, _| {
        Response::builder().status(400).body(br#"{"error":"invalid_grant"}"#.to_vec()).unwrap()
    });
    let verdict = finish(&relying_party, &provider, &cookie, &query(&sent["state"])).await;
    assert_eq!(verdict.err(), Some(LoginError::Refused(OAuthErrorCode::InvalidGrant)));
}

#[tokio::test]
async fn answers_that_are_none() {
    for (response, error) in [
        (Response::new(Vec::new()), FetchError::Document("no token response")),
        (Response::builder().status(500).body(Vec::new()).unwrap(), FetchError::Status(500)),
        (
            json_response(&json!({ "access_token": "a", "token_type": "Bearer" })),
            FetchError::Document("no ID token"),
        ),
        (
            json_response(&json!({ "access_token": "a", "token_type": "DPoP", "id_token": "x" })),
            FetchError::Document("the token is no bearer token"),
        ),
    ] {
        let provider = Provider::new();
        provider.answer_tokens(move |_, _| response.clone());
        let verdict = log_in_with(&provider, &LoginRequest::default()).await;
        assert_eq!(verdict.err(), Some(LoginError::Unavailable(error)));
    }
}

/// A stolen code, or an ID token of another login, is put into the victim's or the attacker's own.
#[tokio::test]
async fn code_injection_and_token_replay() {
    assert_refused(
        verdict_with(json!({ "nonce": "of another login" })).await,
        TokenError::ClaimInvalid("nonce"),
    );
    assert_refused(verdict_with(json!({ "nonce": null })).await, TokenError::ClaimMissing("nonce"));
}

#[tokio::test]
async fn id_tokens_for_others() {
    for (changes, error) in [
        (json!({ "iss": "https://evil.example" }), TokenError::Issuer),
        (json!({ "iss": "https://login.example/" }), TokenError::Issuer),
        (json!({ "aud": "other" }), TokenError::Audience),
        (json!({ "aud": [] }), TokenError::Audience),
        (json!({ "aud": ["shop", "other"] }), TokenError::ClaimInvalid("azp")),
        (json!({ "aud": ["shop", "other"], "azp": "other" }), TokenError::ClaimInvalid("azp")),
        (json!({ "azp": "other" }), TokenError::ClaimInvalid("azp")),
        (json!({ "exp": NOW - 56 }), TokenError::Expired),
        (json!({ "exp": null }), TokenError::ClaimMissing("exp")),
        (json!({ "iat": null }), TokenError::ClaimMissing("iat")),
        (json!({ "iat": NOW + 100 }), TokenError::NotYetValid),
        (json!({ "sub": null }), TokenError::ClaimMissing("sub")),
    ] {
        assert_refused(verdict_with(changes).await, error);
    }
    assert!(verdict_with(json!({ "aud": ["shop", "other"], "azp": "shop" })).await.is_ok());
}

/// OpenID Connect Core 1.0 section 3.1.3.8.
#[tokio::test]
async fn access_token_swap() {
    let half = |text: &str| base64url(&digest::digest(&digest::SHA512, text.as_bytes()).as_ref()[..32]);
    assert!(verdict_with(json!({ "at_hash": half(ACCESS_TOKEN) })).await.is_ok());
    for hash in [json!(half("another")), json!(""), json!(7)] {
        assert_refused(verdict_with(json!({ "at_hash": hash })).await, TokenError::ClaimInvalid("at_hash"));
    }
}

#[tokio::test]
async fn forged_id_tokens() {
    let mallory = SigningKey::ed25519();
    let forged =
        move |_: &Provider, claims: &Value| mallory.token(&json!({ "alg": "EdDSA", "kid": "k1" }), claims);
    assert_refused(verdict_on(forged).await, TokenError::Signature);
    let none = |_: &Provider, claims: &Value| {
        format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(claims.to_string()))
    };
    assert_refused(verdict_on(none).await, TokenError::Algorithm);
    for typ in ["at+jwt", "logout+jwt"] {
        let typed = move |provider: &Provider, claims: &Value| {
            provider.key.token(&json!({ "alg": "EdDSA", "kid": "k1", "typ": typ }), claims)
        };
        assert_refused(verdict_on(typed).await, TokenError::Type);
    }
    let provider = Provider::new();
    let pinned = relying_party().with_algorithms([Algorithm::ES256]);
    let (cookie, sent) = start(&pinned, &provider, &LoginRequest::default());
    let verdict = finish(&pinned, &provider, &cookie, &query(&sent["state"])).await;
    assert_refused(verdict, TokenError::Algorithm);
}

/// The provider was to ask the user again, and did not.
#[tokio::test]
async fn stale_authentication() {
    let request = |seconds| LoginRequest { max_age_seconds: Some(seconds), ..LoginRequest::default() };
    let provider = Provider::new();
    for (age_seconds, is_taken) in [(10, true), (65, true), (71, false)] {
        provider.answer_tokens(move |provider, nonce| {
            let mut claims = claims(nonce);
            claims["auth_time"] = json!(NOW + 5 - age_seconds);
            token_response(&provider.id_token(&claims))
        });
        let verdict = log_in_with(&provider, &request(10)).await;
        assert_eq!(verdict.is_ok(), is_taken, "{age_seconds}");
    }
    provider.answer_tokens(|provider, nonce| {
        let mut claims = claims(nonce);
        claims.as_object_mut().unwrap().remove("auth_time");
        token_response(&provider.id_token(&claims))
    });
    assert_refused(log_in_with(&provider, &request(10)).await, TokenError::ClaimMissing("auth_time"));
}

/// A userinfo answer about somebody else (OpenID Connect Core 1.0 section 5.3.2).
#[tokio::test]
async fn userinfo_swap() {
    let provider = Provider::new();
    let login = log_in_with(&provider, &LoginRequest::default()).await.unwrap();
    let answers = |body: &'static str| Server::new(move |_| Response::new(body.as_bytes().to_vec()));
    for (body, error) in [
        (r#"{"sub":"bob"}"#, LoginError::SubjectMismatch),
        (r#"{"email":"a@b"}"#, LoginError::Unavailable(FetchError::Document("userinfo without a subject"))),
        (
            r#"{"sub":"bob","sub":"alice"}"#,
            LoginError::Unavailable(FetchError::Document("no userinfo response")),
        ),
    ] {
        let verdict =
            relying_party().user_info(&login.tokens.access_token, &login.principal, &answers(body)).await;
        assert_eq!(verdict, Err(error), "{body}");
    }
}

fn logout_claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "shop", "iat": NOW, "exp": NOW + 120, "jti": "bWJq", "sub": "alice", "sid": "s1",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    })
}

async fn check_logout(
    relying_party: &RelyingParty,
    provider: &Provider,
    header: &Value,
    claims: &Value,
) -> Result<LogoutToken, LogoutTokenError> {
    let body = format!("logout_token={}", provider.key.token(header, claims));
    relying_party.check_logout_token(body.as_bytes(), NOW, &provider.client()).await
}

/// OpenID Connect Back-Channel Logout 1.0 section 2.6.
#[tokio::test]
async fn logout_tokens() {
    let (provider, relying_party) = (Provider::new(), relying_party().with_subject_prefix("login:"));
    let header = |typ: &str| json!({ "alg": "EdDSA", "kid": "k1", "typ": typ });
    let typed = header("logout+jwt");
    let token = check_logout(&relying_party, &provider, &typed, &logout_claims()).await.unwrap();
    assert_eq!((token.principal_id(), token.session_id()), (Some("login:alice"), Some("s1")));

    let with = |name: &str, value: Value| {
        let mut claims = logout_claims();
        claims["jti"] = json!(format!("another {name}"));
        claims[name] = value;
        claims
    };
    let without = |names: &[&str]| {
        let mut claims = with("jti", json!(format!("without {names:?}")));
        names.iter().for_each(|name| drop(claims.as_object_mut().unwrap().remove(*name)));
        claims
    };
    for (claims, error) in [
        (with("iss", json!("https://evil.example")), TokenError::Issuer),
        (with("aud", json!("other")), TokenError::Audience),
        (with("exp", json!(NOW - 60)), TokenError::Expired),
        (with("nonce", json!("n")), TokenError::ClaimInvalid("nonce")),
        (with("events", json!({})), TokenError::ClaimInvalid("events")),
        (with("events", json!("x")), TokenError::ClaimInvalid("events")),
        (without(&["events"]), TokenError::ClaimInvalid("events")),
        (without(&["sub", "sid"]), TokenError::ClaimMissing("sub")),
        (without(&["jti"]), TokenError::ClaimMissing("jti")),
        (without(&["iat"]), TokenError::ClaimMissing("iat")),
        (with("sid", json!(7)), TokenError::ClaimInvalid("sid")),
    ] {
        let verdict = check_logout(&relying_party, &provider, &typed, &claims).await;
        assert_eq!(verdict, Err(LogoutTokenError::Token(error)), "{claims}");
    }
    let verdict = check_logout(&relying_party, &provider, &header("at+jwt"), &with("jti", json!("2"))).await;
    assert_eq!(verdict, Err(LogoutTokenError::Token(TokenError::Type)));
    let only_subject = without(&["sid"]);
    let token = check_logout(&relying_party, &provider, &header("JWT"), &only_subject).await.unwrap();
    assert_eq!((token.principal_id(), token.session_id()), (Some("login:alice"), None));
    for body in [&b""[..], b"x=y", b"logout_token=a&logout_token=b", b"\xff"] {
        let verdict = relying_party.check_logout_token(body, NOW, &provider.client()).await.unwrap_err();
        assert_eq!(verdict.status(), 400);
    }
}

/// A captured logout token does not throw the user out again and again.
#[tokio::test]
async fn logout_token_replay() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let header = json!({ "alg": "EdDSA", "kid": "k1", "typ": "logout+jwt" });
    assert!(check_logout(&relying_party, &provider, &header, &logout_claims()).await.is_ok());
    let replayed = check_logout(&relying_party, &provider, &header, &logout_claims()).await;
    assert_eq!(replayed, Err(LogoutTokenError::Replayed));
}

/// An ID token is sent where a logout token should be, to throw somebody out.
#[tokio::test]
async fn id_token_as_logout_token() {
    let (provider, relying_party) = (Provider::new(), relying_party());
    let verdict =
        check_logout(&relying_party, &provider, &json!({ "alg": "EdDSA", "kid": "k1" }), &claims("n")).await;
    assert_eq!(verdict, Err(LogoutTokenError::Token(TokenError::ClaimInvalid("events"))));
}

#[test]
fn one_relying_party_serves_all_cores() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<RelyingParty>();
}
