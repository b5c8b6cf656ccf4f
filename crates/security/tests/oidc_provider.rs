//! Logins at a real provider: `oidc-provider` from npm, on loopback, driven as a browser would drive it.
//!
//! `npm ci --prefix tests/oidc-provider` has to come first.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use gimmal_security::client_authentication::ClientAuthentication;
use gimmal_security::cookies::{CookieKeys, Cookies};
use gimmal_security::discovery::ServerMetadata;
use gimmal_security::introspection::{IntrospectionOptions, Introspector};
use gimmal_security::jwt::{AccessTokenValidator, Algorithm, Issuer, SigningKey, TokenError};
use gimmal_security::oidc::{
    Login, LoginError, LoginRequest, LogoutTokenError, OAuthErrorCode, RelyingParty, Tokens,
};
use gimmal_security::session::{MemorySessionStore, SessionOptions, Sessions};
use gimmal_security::{ExposeSecret, FetchError, HttpFetch, Mechanism, SecretSlice, SecretString};
use http::{Request, Response, header};
use serde_json::json;

const REDIRECT_URI: &str = "http://127.0.0.1:1/callback";
const POST_LOGOUT_REDIRECT_URI: &str = "http://127.0.0.1:1/bye";
const API: &str = "https://api.example";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A plain HTTP/1.0 client that follows no redirects: one connection a request, and the body ends with it.
struct Client;

impl Client {
    fn send(&self, request: &Request<Vec<u8>>) -> std::io::Result<Response<Vec<u8>>> {
        let authority = request.uri().authority().unwrap().as_str();
        let target = request.uri().path_and_query().unwrap();
        let mut head =
            format!("{} {target} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n", request.method());
        for (name, value) in request.headers() {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", request.body().len()));
        let mut stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&[head.as_bytes(), request.body()].concat())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let head_len = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let body = bytes.split_off(head_len + 4);
        let head = String::from_utf8(bytes).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let mut response = Response::builder().status(status);
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            response = response.header(name, value.trim());
        }
        Ok(response.body(body).unwrap())
    }
}

impl HttpFetch for Client {
    async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        self.send(&request).map_err(|error| FetchError::Unreachable(error.to_string()))
    }
}

/// The provider, and what it sends to the back-channel logout URI.
struct Provider {
    process: Child,
    /// Kept open: the provider goes on to write.
    _output: BufReader<std::process::ChildStdout>,
    issuer: String,
    logouts: Receiver<Vec<u8>>,
    signer: Vec<u8>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let backchannel_uri = format!("http://{}/backchannel-logout", listener.local_addr().unwrap());
        let (sender, logouts) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if sender.send(take_post(stream.unwrap())).is_err() {
                    return;
                }
            }
        });
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let signer = der.as_ref().to_vec();
        let jwks = json!({ "keys": [signing_key(&signer).public_jwk()] });
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oidc-provider");
        assert!(folder.join("node_modules").exists(), "run `npm ci --prefix tests/oidc-provider` first");
        let mut process = Command::new("node")
            .arg("server.js")
            .args([REDIRECT_URI, POST_LOGOUT_REDIRECT_URI, &backchannel_uri, &jwks.to_string()])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut issuer = String::new();
        output.read_line(&mut issuer).unwrap();
        let issuer = issuer.trim().to_owned();
        assert!(!issuer.is_empty(), "the provider did not start");
        Self { process, _output: output, issuer, logouts, signer }
    }

    async fn metadata(&self) -> ServerMetadata {
        ServerMetadata::discover_openid(&self.issuer, &Client).await.unwrap()
    }

    async fn relying_party(&self, client: ClientAuthentication) -> RelyingParty {
        let keys = CookieKeys::new(&SecretSlice::from(vec![7; 32])).unwrap();
        RelyingParty::new(self.metadata().await, client, REDIRECT_URI, keys).unwrap().with_scopes(["email"])
    }

    async fn shop(&self) -> RelyingParty {
        self.relying_party(shop()).await
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn shop() -> ClientAuthentication {
    ClientAuthentication::basic("shop", SecretString::from("a secret & more"))
}

fn signing_key(der: &[u8]) -> SigningKey {
    SigningKey::from_pkcs8(der, Algorithm::ES256, "signer-1").unwrap()
}

/// Reads a POST, answers 200, and gives the body.
fn take_post(mut stream: TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut body_len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body_len = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; body_len];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    body
}

/// A browser: cookies, redirects, and forms that are filled in.
struct Browser {
    cookies: HashMap<String, String>,
}

impl Browser {
    fn new() -> Self {
        Self { cookies: HashMap::new() }
    }

    fn set_cookie(&mut self, field: &str) {
        let (name, value) = field.split(';').next().unwrap().split_once('=').unwrap();
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    fn cookie_field(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// Goes to `address` and on until it is sent to one that begins with `end`, filling in what it is asked on the way:
    /// the first fields of `answers` that fit a form.
    fn go(&mut self, address: &str, end: &str, answers: &[(&str, &str)]) -> String {
        let mut request = Request::get(address).body(Vec::new()).unwrap();
        for _ in 0..20 {
            let base = format!("http://{}", request.uri().authority().unwrap());
            request.headers_mut().insert(header::COOKIE, self.cookie_field().parse().unwrap());
            let response = Client.send(&request).unwrap();
            for field in response.headers().get_all(header::SET_COOKIE) {
                self.set_cookie(field.to_str().unwrap());
            }
            let body = String::from_utf8(response.body().clone()).unwrap();
            if let Some(location) = response.headers().get(header::LOCATION) {
                let location = location.to_str().unwrap();
                if location.starts_with(end) {
                    return location.to_owned();
                }
                let location =
                    if location.starts_with('/') { format!("{base}{location}") } else { location.to_owned() };
                request = Request::get(location).body(Vec::new()).unwrap();
                continue;
            }
            assert_eq!(response.status(), 200, "{body}");
            let (action, mut fields) = form(&body);
            let mut named = |name: &str, value: &str| {
                if body.contains(&format!("name=\"{name}\"")) && !fields.iter().any(|(own, _)| own == name) {
                    fields.push((name.to_owned(), value.to_owned()));
                }
            };
            answers.iter().for_each(|(name, value)| named(name, value));
            request = Request::post(action)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(serde_urlencoded::to_string(fields).unwrap().into_bytes())
                .unwrap();
        }
        panic!("the provider leads nowhere");
    }

    /// Logs `user` in, and gives the query of the callback.
    fn log_in(&mut self, location: &str, user: &str) -> String {
        let answers = [("login", user), ("password", "any")];
        let callback = self.go(location, REDIRECT_URI, &answers);
        callback.split_once('?').unwrap().1.to_owned()
    }
}

/// The action of a page's form, and its hidden fields.
fn form(page: &str) -> (String, Vec<(String, String)>) {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split_once(&format!("{name}=\""))?.1;
        Some(value.split('"').next().unwrap_or_default().to_owned())
    };
    let form = page.split_once("<form").unwrap_or_else(|| panic!("no form in {page}")).1;
    let tags = form.split('<').filter(|tag| tag.starts_with("input") && tag.contains("type=\"hidden\""));
    let fields = tags.map(|tag| (attribute(tag, "name").unwrap(), attribute(tag, "value").unwrap()));
    (attribute(form, "action").unwrap(), fields.collect())
}

/// The whole login of `user` in `browser`.
async fn log_in(
    relying_party: &RelyingParty,
    browser: &mut Browser,
    request: &LoginRequest,
    user: &str,
) -> Login {
    let cookie = browser.cookie_field();
    let redirect = relying_party.start_login(request, &Cookies::parse([cookie.as_bytes()]), now()).unwrap();
    browser.set_cookie(redirect.set_cookie.to_str().unwrap());
    let query = browser.log_in(&redirect.location, user);
    let cookie = browser.cookie_field();
    let cookies = Cookies::parse([cookie.as_bytes()]);
    relying_party.finish_login(&query, &cookies, now(), &Client).await.unwrap()
}

#[tokio::test]
async fn login_refresh_and_logout() {
    let provider = Provider::start();
    let relying_party = provider.shop().await.with_scopes(["offline_access"]);
    let mut browser = Browser::new();
    let request = LoginRequest {
        return_to: "/cart".to_owned(),
        // The provider gives a refresh token only where the user was asked.
        prompt: Some("consent".to_owned()),
        max_age_seconds: Some(3600),
        ..LoginRequest::default()
    };
    let login = log_in(&relying_party, &mut browser, &request, "alice").await;
    assert_eq!((login.principal.id(), login.principal.mechanism()), ("alice", Mechanism::OpenIdConnect));
    assert!(login.principal.has_role("editor"));
    assert_eq!(login.principal.attribute("email"), Some(&json!("alice@example.org")));
    assert!(now() - login.principal.authenticated_at() < 60);
    assert_eq!(login.return_to, "/cart");
    assert!(login.set_cookie.to_str().unwrap().starts_with("__Host-login=;"));

    let user = relying_party.user_info(&login.tokens.access_token, &login.principal, &Client).await.unwrap();
    assert_eq!(user["email"], "alice@example.org");

    // Refresh; the provider rotates the refresh token and takes the old one no more.
    let refresh_token = login.tokens.refresh_token.clone().unwrap();
    let refresh =
        async |token: SecretString| relying_party.refresh(&token, &login.principal, now(), &Client).await;
    let refreshed: Tokens = refresh(refresh_token.clone()).await.unwrap();
    assert_ne!(refreshed.access_token.expose_secret(), login.tokens.access_token.expose_secret());
    assert!(refreshed.id_token.is_some() && refreshed.expires_at.unwrap() > now());
    let other = gimmal_security::Principal::new("bob", Mechanism::OpenIdConnect, now());
    let token = refreshed.refresh_token.clone().unwrap();
    let swapped = relying_party.refresh(&token, &other, now(), &Client).await;
    assert_eq!(swapped.err(), Some(LoginError::SubjectMismatch));
    let replayed = refresh(refresh_token).await;
    assert_eq!(replayed.err(), Some(LoginError::Refused(OAuthErrorCode::InvalidGrant)));

    // RP-initiated logout: the provider asks, and sends the browser back.
    let location = relying_party
        .logout_location(login.tokens.id_token.as_ref(), Some(POST_LOGOUT_REDIRECT_URI))
        .unwrap();
    browser.go(&location, POST_LOGOUT_REDIRECT_URI, &[("logout", "yes")]);
    // Who logs in next is asked who they are.
    let login = log_in(&relying_party, &mut browser, &LoginRequest::default(), "bob").await;
    assert_eq!(login.principal.id(), "bob");
}

#[tokio::test]
async fn back_channel_logout_ends_the_session() {
    let provider = Provider::start();
    let relying_party = provider.shop().await;
    let sessions = Sessions::new(Arc::new(MemorySessionStore::new(10)), SessionOptions::default());
    let mut browser = Browser::new();
    let login = log_in(&relying_party, &mut browser, &LoginRequest::default(), "alice").await;
    assert!(login.provider_session.is_some());
    let mut session = sessions.load(&Cookies::parse([]), now()).await.unwrap();
    login.log_in(&mut session);
    let set_cookie = sessions.commit(session, now()).await.unwrap().unwrap();
    let pair = set_cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    let who = || async {
        let session = sessions.load(&Cookies::parse([pair.as_bytes()]), now()).await.unwrap();
        session.principal().map(|principal| principal.id().to_owned())
    };
    assert_eq!(who().await.as_deref(), Some("alice"));

    let location = relying_party.logout_location(login.tokens.id_token.as_ref(), None).unwrap();
    browser.go(&location, &format!("{}/session/end/success", provider.issuer), &[("logout", "yes")]);
    let body =
        provider.logouts.recv_timeout(Duration::from_secs(10)).expect("the provider sends a logout token");
    let token = relying_party.check_logout_token(&body, now(), &Client).await.unwrap();
    assert_eq!(token.session_id(), login.provider_session.as_deref());
    assert_eq!(token.end_sessions(&sessions).await, Ok(1));
    assert_eq!(who().await, None);
    let replayed = relying_party.check_logout_token(&body, now(), &Client).await;
    assert_eq!(replayed, Err(LogoutTokenError::Replayed));
}

/// A client that signs its requests, and gets JWT access tokens for a server that checks them.
#[tokio::test]
async fn jwt_access_tokens_and_a_signing_client() {
    let provider = Provider::start();
    let client = ClientAuthentication::private_key_jwt("signer", signing_key(&provider.signer));
    let relying_party =
        provider.relying_party(client).await.with_scopes(["articles:read"]).with_resource(API);
    let login = log_in(&relying_party, &mut Browser::new(), &LoginRequest::default(), "alice").await;
    let access_token = login.tokens.access_token.expose_secret();

    let keys = || async { provider.metadata().await.keys().unwrap() };
    let issuer = Issuer::new(&provider.issuer, API, keys().await);
    let validator = AccessTokenValidator::new(issuer);
    let principal = validator.validate(access_token, None, now(), &Client).await.unwrap().into_principal();
    assert_eq!((principal.id(), principal.mechanism()), ("alice", Mechanism::Bearer));
    assert_eq!(principal.scopes().collect::<Vec<_>>(), ["articles:read"]);
    assert_eq!(principal.attribute("client_id"), Some(&json!("signer")));

    // An ID token of the same user is no access token, not even for a server that does not look at `typ`.
    let id_token = login.tokens.id_token.as_ref().unwrap().expose_secret();
    let verdict = validator.validate(id_token, None, now(), &Client).await;
    assert_eq!(verdict, Err(TokenError::Type));
    let careless = Issuer::new(&provider.issuer, API, keys().await).without_type_check();
    let verdict = AccessTokenValidator::new(careless).validate(id_token, None, now(), &Client).await;
    assert_eq!(verdict, Err(TokenError::Audience));
}

#[tokio::test]
async fn opaque_access_tokens() {
    let provider = Provider::start();
    let login = log_in(&provider.shop().await, &mut Browser::new(), &LoginRequest::default(), "alice").await;
    let metadata = provider.metadata().await;
    let introspector = Introspector::new(
        metadata.issuer(),
        metadata.introspection_endpoint().unwrap(),
        shop(),
        IntrospectionOptions::default(),
    )
    .unwrap();
    let validate = async |token: String| introspector.validate(&token, None, now(), &Client).await;
    let token = validate(login.tokens.access_token.expose_secret().to_owned()).await.unwrap();
    assert_eq!(token.principal().id(), "alice");
    assert!(token.principal().has_scope("openid") && token.expires_at().unwrap() > now());
    assert_eq!(validate("invented".to_owned()).await, Err(TokenError::Inactive));
}

/// An attacker's code does not log the victim's browser in, and a code is good for one login.
#[tokio::test]
async fn login_csrf_and_code_replay() {
    let provider = Provider::start();
    let relying_party = provider.shop().await;
    let mut mallory = Browser::new();
    let start = |browser: &mut Browser| {
        let redirect =
            relying_party.start_login(&LoginRequest::default(), &Cookies::parse([]), now()).unwrap();
        browser.set_cookie(redirect.set_cookie.to_str().unwrap());
        redirect.location
    };
    let finish = |query: String, browser: &Browser| {
        let (cookie, relying_party) = (browser.cookie_field(), &relying_party);
        async move {
            let cookies = Cookies::parse([cookie.as_bytes()]);
            relying_party.finish_login(&query, &cookies, now(), &Client).await.map(|login| login.return_to)
        }
    };
    let location = start(&mut mallory);
    let query = mallory.log_in(&location, "mallory");
    let mut victim = Browser::new();
    assert_eq!(finish(query.clone(), &victim).await, Err(LoginError::UnknownState));
    start(&mut victim);
    assert_eq!(finish(query.clone(), &victim).await, Err(LoginError::UnknownState));
    assert_eq!(finish(query.clone(), &mallory).await, Ok("/".to_owned()));
    let replayed = finish(query, &mallory).await;
    assert_eq!(replayed, Err(LoginError::Refused(OAuthErrorCode::InvalidGrant)));
}

/// A user who says no, and a client with a wrong secret.
#[tokio::test]
async fn refusals() {
    let provider = Provider::start();
    let relying_party = provider.shop().await;
    let mut browser = Browser::new();
    let request = LoginRequest { prompt: Some("none".to_owned()), ..LoginRequest::default() };
    let redirect = relying_party.start_login(&request, &Cookies::parse([]), now()).unwrap();
    browser.set_cookie(redirect.set_cookie.to_str().unwrap());
    let query = browser.log_in(&redirect.location, "alice");
    let cookie = browser.cookie_field();
    let finished =
        relying_party.finish_login(&query, &Cookies::parse([cookie.as_bytes()]), now(), &Client).await;
    assert_eq!(finished.err(), Some(LoginError::Refused(OAuthErrorCode::LoginRequired)));

    let wrong = ClientAuthentication::basic("shop", SecretString::from("wrong"));
    let wrong = provider.relying_party(wrong).await;
    let mut browser = Browser::new();
    let redirect = wrong.start_login(&LoginRequest::default(), &Cookies::parse([]), now()).unwrap();
    browser.set_cookie(redirect.set_cookie.to_str().unwrap());
    let query = browser.log_in(&redirect.location, "alice");
    let cookie = browser.cookie_field();
    let finished = wrong.finish_login(&query, &Cookies::parse([cookie.as_bytes()]), now(), &Client).await;
    assert_eq!(finished.err(), Some(LoginError::Refused(OAuthErrorCode::InvalidClient)));
}
