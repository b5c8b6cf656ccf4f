//! Each mechanism: let in, refused, and what the refusal says.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gimmal::auth::{
    AccountOptions, Accounts, ApiKeyStore, Authenticator, Fetcher, MemoryApiKeys, MemoryUsers, Principal,
    Requirement, User, UserStore,
};
use gimmal::defence::{Defences, TrustedProxies};
use gimmal::security::api_key::{ApiKey, StoredApiKey};
use gimmal::security::attempts::{AttemptLimits, Attempts};
use gimmal::security::certificate_binding::CertificateThumbprint;
use gimmal::security::client_authentication::ClientAuthentication;
use gimmal::security::client_certificate::{
    CertificateMap, CertificateMatch, CertificateRule, SubjectAltName,
};
use gimmal::security::digest::{DigestAlgorithm, DigestScheme};
use gimmal::security::introspection::{IntrospectionOptions, Introspector};
use gimmal::security::jwt::{
    AccessTokenValidator, Algorithm, Issuer, JwkSet, KeySource, RemoteKeysOptions, SigningKey,
};
use gimmal::security::{ExposeSecret, SecretString};
use gimmal::tls::{Certificate, ClientAuth, TlsServerConfig};
use gimmal::{App, BoxError, Form, HeaderValue, Response, get, header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::{Map, Value, json};

use crate::{PASSWORD, Service, alice, now, realm};

const BASIC: &str = "Basic realm=\"Staff only\", charset=\"UTF-8\"";

async fn who(principal: Principal) -> String {
    format!("{} by {}", principal.id(), principal.mechanism())
}

fn guarded(authenticator: Authenticator) -> App {
    App::new()
        .route("/", get(who).post(who).require(Requirement::Authenticated))
        .route("/write", get(who).require(Requirement::scope("write")))
        .route(
            "/open",
            get(async |principal: Option<Principal>| {
                principal.map_or("nobody".to_owned(), |it| it.id().to_owned())
            }),
        )
        .with(authenticator)
}

fn accounts() -> Accounts {
    let sha256 = DigestAlgorithm::Sha256.secret("alice", &realm(), &SecretString::from(PASSWORD));
    Accounts::new(MemoryUsers::new([alice().with_digest_secret(sha256)]))
}

#[test]
fn basic_with_curl() {
    let service = Service::start(guarded(Authenticator::new(realm()).basic(&accounts())));
    let asked = service.curl(&[], "/");
    assert_eq!((asked.status, asked.challenges(), asked.body.as_str()), (401, vec![BASIC], "Unauthorized"));
    let user = format!("alice:{PASSWORD}");
    let let_in = service.curl(&["--user", &user], "/");
    assert_eq!((let_in.status, let_in.body.as_str()), (200, "alice by basic"));
    assert!(let_in.challenges().is_empty());
    for wrong in ["alice:wrong", "bob:wrong", "alice:"] {
        let refused = service.curl(&["--user", wrong], "/");
        assert_eq!(
            (refused.status, refused.challenges(), refused.body.as_str()),
            (401, vec![BASIC], "Unauthorized")
        );
        // Wrong credentials are refused even where nobody need be logged in.
        assert_eq!(service.curl(&["--user", wrong], "/open").status, 401);
    }
    assert_eq!(service.curl(&[], "/open").body, "nobody");
    assert_eq!(service.curl(&["--user", &user], "/open").body, "alice");
    for malformed in ["Basic !", "Basic", "Basic YQ==", " ,"] {
        let refused = service.curl(&["--header", &format!("Authorization: {malformed}")], "/");
        assert_eq!(refused.status, 400, "{malformed}");
    }
    let twice =
        ["--user", &user, "--header", "Authorization: Basic YTpi", "--header", "authorization: Basic YTpi"];
    assert_eq!(service.curl(&twice, "/").status, 400);
    let other = service.curl(&["--header", "Authorization: Negotiate abc"], "/");
    assert_eq!((other.status, other.challenges()), (401, vec![BASIC]));
}

#[test]
fn digest_with_curl() {
    let authenticator =
        Authenticator::new(realm()).digest(&accounts(), DigestScheme::new(realm()).with_auth_int());
    let service = Service::start(guarded(authenticator));
    let user = format!("alice:{PASSWORD}");
    let asked = service.curl(&[], "/");
    let challenges = asked.challenges();
    assert_eq!((asked.status, challenges.len()), (401, 1));
    assert!(
        challenges[0]
            .starts_with("Digest realm=\"Staff only\", qop=\"auth, auth-int\", algorithm=SHA-256, nonce="),
        "{challenges:?}"
    );
    let let_in = service.curl(&["--digest", "--user", &user], "/");
    assert_eq!((let_in.status, let_in.body.as_str()), (200, "alice by digest"));
    let info = let_in.fields("authentication-info");
    assert!(info.len() == 1 && info[0].starts_with("rspauth=\""), "{info:?}");
    for wrong in ["alice:wrong", "bob:wrong"] {
        let refused = service.curl(&["--digest", "--user", wrong], "/");
        assert_eq!((refused.status, refused.body.as_str()), (401, "Unauthorized"), "{wrong}");
    }
}

/// The digest covers the bodies of both sides (RFC 7616, section 3.4.3).
#[test]
fn digest_auth_int_covers_the_body() {
    let scheme = DigestScheme::new(realm()).with_auth_int_only();
    let app = App::new()
        .route(
            "/",
            gimmal::post(async |body: String| format!("got {body}")).require(Requirement::Authenticated),
        )
        .with(Authenticator::new(realm()).digest(&accounts(), scheme));
    let service = Service::start(app);
    let script = r#"
import hashlib, re, sys, urllib.request, urllib.error
url, password = sys.argv[1], sys.argv[2]
h = lambda *parts: hashlib.sha256(":".join(parts).encode()).hexdigest()
def send(body, covered):
    try:
        urllib.request.urlopen(urllib.request.Request(url + "/", data=body.encode()))
    except urllib.error.HTTPError as error:
        challenge = error.headers["WWW-Authenticate"]
    nonce, opaque = (re.search(name + '="([^"]*)"', challenge).group(1) for name in ("nonce", "opaque"))
    secret = h("alice", "Staff only", password)
    common = (nonce, "00000001", "c0ffee", "auth-int")
    response = h(secret, *common, h("POST", "/", h(covered)))
    value = f'Digest username="alice", realm="Staff only", uri="/", algorithm=SHA-256, nonce="{nonce}", nc=00000001, cnonce="c0ffee", qop=auth-int, opaque="{opaque}", response="{response}"'
    request = urllib.request.Request(url + "/", data=body.encode(), headers={"Authorization": value})
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        return error.code, "", False
    text = answer.read().decode()
    proof = h(secret, *common, h("", "/", h(text)))
    return answer.status, text, f'rspauth="{proof}"' in answer.headers["Authentication-Info"]
print(send("pay 1", "pay 1"), send("pay 9", "pay 1"))
"#;
    let output = Command::new("python3").args(["-c", script, service.url(), PASSWORD]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said.trim(),
        "(200, 'got pay 1', True) (401, '', False)",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_pkcs8(&KeyPair::generate().unwrap().serialize_der(), Algorithm::ES256, "k1").unwrap()
}

pub(crate) fn key_set(key: &SigningKey) -> String {
    json!({ "keys": [key.public_jwk()] }).to_string()
}

fn claims(changes: &Value) -> Map<String, Value> {
    let mut claims = json!({
        "iss": "https://login.example", "aud": "https://api.example", "sub": "alice", "client_id": "app",
        "iat": now(), "exp": now() + 60, "jti": "1", "scope": "read",
    });
    let claims = claims.as_object_mut().unwrap();
    claims.extend(changes.as_object().unwrap().clone());
    claims.clone()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[test]
fn bearer_with_a_jwt() {
    let key = signing_key();
    let keys = KeySource::fixed(JwkSet::parse(key_set(&key).as_bytes()).unwrap());
    let issuer = Issuer::new("https://login.example", "https://api.example", keys);
    let service = Service::start(guarded(Authenticator::new(realm()).jwt(AccessTokenValidator::new(issuer))));
    let ask = |changes: Value, path: &str| {
        service.curl(&["--header", &bearer(&key.sign("at+jwt", &claims(&changes)))], path)
    };
    let let_in = ask(json!({}), "/");
    assert_eq!((let_in.status, let_in.body.as_str()), (200, "alice by bearer"));
    let asked = service.curl(&[], "/");
    assert_eq!((asked.status, asked.challenges()), (401, vec!["Bearer realm=\"Staff only\""]));
    let expired = ask(json!({ "exp": now() - 600 }), "/");
    let challenge =
        "Bearer realm=\"Staff only\", error=\"invalid_token\", error_description=\"the token is expired\"";
    assert_eq!((expired.status, expired.challenges()), (401, vec![challenge]));
    let challenge = "Bearer realm=\"Staff only\", error=\"invalid_token\", error_description=\"the token is not accepted\"";
    for forged in [json!({ "aud": "https://other.example" }), json!({ "iss": "https://evil.example" })] {
        let refused = ask(forged, "/");
        assert_eq!((refused.status, refused.challenges()), (401, vec![challenge]));
    }
    let forged = signing_key().sign("at+jwt", &claims(&json!({})));
    let refused = service.curl(&["--header", &bearer(&forged)], "/");
    assert_eq!((refused.status, refused.challenges()), (401, vec![challenge]));
    // A bound token is of no use without the certificate (RFC 8705).
    let thumbprint = CertificateThumbprint::of_der(b"a certificate").to_string();
    assert_eq!(ask(json!({ "cnf": { "x5t#S256": thumbprint } }), "/").status, 401);
    let lacking = ask(json!({}), "/write");
    assert_eq!((lacking.status, lacking.body.as_str()), (403, "Forbidden"));
    let challenge = "Bearer realm=\"Staff only\", scope=\"write\", error=\"insufficient_scope\", \
                     error_description=\"the token lacks a scope that is needed here\"";
    assert_eq!(lacking.challenges(), [challenge]);
    assert_eq!(ask(json!({ "scope": "read write" }), "/write").status, 200);
    assert_eq!(service.curl(&["--header", "Authorization: Bearer"], "/").status, 400);
}

/// Keys and the state of opaque tokens come from another server, over a socket.
#[test]
fn keys_and_introspection_are_fetched() {
    #[derive(serde::Deserialize)]
    struct Asked {
        token: String,
    }
    let key = signing_key();
    let keys = key_set(&key);
    let provider = App::new()
        .get("/jwks", async move || keys.clone())
        .post("/introspect", async |Form(asked): Form<Asked>| match asked.token.as_str() {
            "good" => json!({ "active": true, "sub": "bob", "scope": "write" }).to_string(),
            _ => json!({ "active": false }).to_string(),
        })
        .get("/huge", async || vec![b' '; 600 * 1024])
        .get("/moved", async || {
            Response::default()
                .with_status(gimmal::StatusCode::FOUND)
                .with_header(header::LOCATION, HeaderValue::from_static("/jwks"))
        });
    let provider = Service::start(provider);
    let issuer = |path: &str| {
        let keys = KeySource::remote(&format!("{}{path}", provider.url()), RemoteKeysOptions::default());
        AccessTokenValidator::new(Issuer::new("https://login.example", "https://api.example", keys.unwrap()))
    };
    let client = ClientAuthentication::basic("api", SecretString::from("secret"));
    let endpoint = format!("{}/introspect", provider.url());
    let introspector =
        Introspector::new("https://login.example", &endpoint, client, IntrospectionOptions::default())
            .unwrap();
    let authenticator =
        Authenticator::new(realm()).jwt(issuer("/jwks")).introspection(introspector).fetcher(Fetcher::new());
    let service = Service::start(guarded(authenticator));
    let token = key.sign("at+jwt", &claims(&json!({})));
    assert_eq!(service.curl(&["--header", &bearer(&token)], "/").body, "alice by bearer");
    assert_eq!(service.curl(&["--header", &bearer("good")], "/write").body, "bob by bearer");
    let revoked = service.curl(&["--header", &bearer("revoked")], "/");
    assert!(revoked.status == 401 && revoked.challenges()[0].contains("invalid_token"), "{revoked:?}");
    // What cannot be judged is not let in, and is not the client's fault.
    for path in ["/huge", "/moved", "/nowhere"] {
        let service = Service::start(guarded(Authenticator::new(realm()).jwt(issuer(path))));
        assert_eq!(service.curl(&["--header", &bearer(&token)], "/").status, 503, "{path}");
    }
    drop(provider);
    let service =
        Service::start(guarded(Authenticator::new(realm()).jwt(AccessTokenValidator::new(Issuer::new(
            "https://login.example",
            "https://api.example",
            KeySource::remote("http://127.0.0.1:1/jwks", RemoteKeysOptions::default()).unwrap(),
        )))));
    assert_eq!(service.curl(&["--header", &bearer(&token)], "/").status, 503);
}

/// Each question over a connection of its own would be a handshake of its own, at this end and at the provider's.
#[test]
fn questions_to_a_provider_share_a_connection() {
    let peers = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let seen = Arc::clone(&peers);
    let provider = Service::start(App::new().route(
        "/introspect",
        gimmal::post(async move |request: gimmal::Request| {
            let peer = request.peer_addr().await.unwrap().to_string();
            seen.lock().unwrap().insert(peer);
            json!({ "active": false }).to_string()
        }),
    ));
    let client = ClientAuthentication::basic("api", SecretString::from("secret"));
    let endpoint = format!("{}/introspect", provider.url());
    let options = IntrospectionOptions::default();
    let introspector = Introspector::new("https://login.example", &endpoint, client, options).unwrap();
    let service = Service::start(guarded(Authenticator::new(realm()).introspection(introspector)));
    let url = service.url();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--parallel-max", "1", "--output", "/dev/null", "--write-out", "%{http_code} "]);
    for number in 0..8 {
        if number > 0 {
            curl.args(["--next", "--silent", "--output", "/dev/null", "--write-out", "%{http_code} "]);
        }
        curl.args(["--header", &bearer(&format!("invented-{number}")), url]);
    }
    let output = curl.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), ["401"; 8].join(" "));
    // One, but for a machine that stands still for longer than a connection is kept.
    assert!(peers.lock().unwrap().len() < 8);
}

#[test]
fn api_keys_in_two_headers() {
    let key = ApiKey::generate("acme").unwrap();
    let revoked = ApiKey::generate("acme").unwrap();
    let mut stored_revoked = StoredApiKey::new(&revoked, "mallory", now());
    stored_revoked.revoke();
    let store =
        MemoryApiKeys::new([StoredApiKey::new(&key, "robot", now()).with_scope("write"), stored_revoked]);
    let service = Service::start(guarded(Authenticator::new(realm()).api_keys("acme", store)));
    let text = |key: &ApiKey| key.expose().expose_secret().to_owned();
    let header = format!("X-API-Key: {}", text(&key));
    assert_eq!(service.curl(&["--header", &header], "/").body, "robot by api_key");
    assert_eq!(service.curl(&["--header", &bearer(&text(&key))], "/write").body, "robot by api_key");
    for wrong in [text(&revoked), text(&ApiKey::generate("acme").unwrap()), "acme_x".to_owned()] {
        let refused = service.curl(&["--header", &format!("X-API-Key: {wrong}")], "/");
        assert_eq!((refused.status, refused.challenges()), (401, vec!["Bearer realm=\"Staff only\""]));
        assert_eq!(service.curl(&["--header", &bearer(&wrong)], "/").status, 401);
    }
}

/// A shared cache spares of itself only responses to `Authorization` (RFC 9111, section 3.5).
#[test]
fn a_response_to_an_api_key_stays_out_of_shared_caches() {
    let key = ApiKey::generate("acme").unwrap();
    let store = MemoryApiKeys::new([StoredApiKey::new(&key, "robot", now())]);
    let app = guarded(Authenticator::new(realm()).api_keys("acme", store)).route(
        "/own",
        get(async || {
            Response::new("own").with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
        }),
    );
    let service = Service::start(app);
    let header = format!("X-API-Key: {}", key.expose().expose_secret());
    let answer = service.curl(&["--header", &header], "/");
    assert_eq!((answer.status, answer.fields("cache-control")), (200, vec!["private"]));
    assert_eq!(answer.fields("vary"), ["authorization", "x-api-key"]);
    assert_eq!(service.curl(&["--header", &header], "/own").fields("cache-control"), ["no-store"]);
    // What anybody gets may be kept, but not for who brings a key.
    let open = service.curl(&[], "/open");
    assert_eq!((open.fields("vary").len(), open.fields("cache-control").len()), (2, 0));
}

/// Each key is revoked right after it was looked up, as by another core.
struct RevokedMeanwhile(Arc<MemoryApiKeys>);

impl ApiKeyStore for RevokedMeanwhile {
    async fn find(&self, id: &str) -> Result<Option<StoredApiKey>, BoxError> {
        let found = ApiKeyStore::find(&*self.0, id).await;
        assert!(self.0.revoke(id));
        found
    }

    async fn record_use(&self, id: &str, at: u64) -> Result<(), BoxError> {
        self.0.record_use(id, at).await
    }
}

#[test]
fn an_api_key_that_is_revoked_while_its_use_is_noted_stays_revoked() {
    let key = ApiKey::generate("acme").unwrap();
    let keys = Arc::new(MemoryApiKeys::new([StoredApiKey::new(&key, "robot", now())]));
    let store = RevokedMeanwhile(Arc::clone(&keys));
    let service = Service::start(guarded(Authenticator::new(realm()).api_keys("acme", store)));
    let header = format!("X-API-Key: {}", key.expose().expose_secret());
    assert_eq!(service.curl(&["--header", &header], "/").status, 200, "it was found before");
    assert_eq!(service.curl(&["--header", &header], "/").status, 401);
    // Nor does an older copy bring it back, as a rotation may write it.
    keys.insert(StoredApiKey::new(&key, "robot", now()));
    assert_eq!(service.curl(&["--header", &header], "/").status, 401);
    assert_eq!(keys.revoke_all_of("robot"), 0, "there was one, and it is revoked");
}

/// When the user was looked up last.
struct Watched(Arc<Mutex<Option<Instant>>>);

impl UserStore for Watched {
    async fn find(&self, _name: &str) -> Result<Option<User>, BoxError> {
        *self.0.lock().unwrap() = Some(Instant::now());
        let secret = DigestAlgorithm::Sha256.secret("alice", &realm(), &SecretString::from(PASSWORD));
        Ok(Some(alice().with_digest_secret(secret)))
    }
}

/// A password that is changed, or a user who is locked, while an attempt is held up must not get in.
#[test]
fn digest_looks_up_the_secret_after_the_delay_of_an_attempt() {
    let delay = Duration::from_millis(700);
    let limits = AttemptLimits { free: 0, delay_min: delay, delay_max: delay, ..AttemptLimits::PAIR };
    let attempts = Attempts::new().with_pair_limits(limits);
    let looked_up = Arc::new(Mutex::new(None));
    let options = AccountOptions { attempts, ..AccountOptions::default() };
    let accounts = Accounts::with_options(Watched(Arc::clone(&looked_up)), options);
    let service =
        Service::start(guarded(Authenticator::new(realm()).digest(&accounts, DigestScheme::new(realm()))));
    let started = Instant::now();
    let answer = service.curl(&["--digest", "--user", &format!("alice:{PASSWORD}")], "/");
    assert_eq!(answer.body, "alice by digest");
    let looked_up = looked_up.lock().unwrap().unwrap();
    assert!(looked_up >= started + delay, "the secret is older than the delay");
}

#[test]
fn one_refusal_offers_all_mechanisms_each_on_a_line_of_its_own() {
    let accounts = accounts();
    let authenticator = Authenticator::new(realm())
        .basic(&accounts)
        .digest(&accounts, DigestScheme::new(realm()))
        .api_keys("acme", MemoryApiKeys::new([]));
    let service = Service::start(guarded(authenticator));
    let refused = service.curl(&[], "/");
    let schemes: Vec<_> = refused.challenges().iter().filter_map(|it| it.split(' ').next()).collect();
    assert_eq!((refused.status, schemes), (401, vec!["Bearer", "Digest", "Basic"]));
    let user = format!("alice:{PASSWORD}");
    assert_eq!(service.curl(&["--user", &user], "/").body, "alice by basic");
    assert_eq!(service.curl(&["--digest", "--user", &user], "/").body, "alice by digest");
    // curl takes the best of what is offered.
    assert_eq!(service.curl(&["--anyauth", "--user", &user], "/").body, "alice by digest");
}

#[test]
fn client_certificates_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the clients' root");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .subject_alt_names
            .push(SanType::URI(format!("spiffe://example.org/{name}").try_into().unwrap()));
        let certificate = params.signed_by(&key, &authority).unwrap();
        let write = |ending: &str, der: &[u8]| {
            let path = directory.path().join(format!("{name}.{ending}"));
            std::fs::write(&path, der).unwrap();
            path.to_str().unwrap().to_owned()
        };
        [write("cert", certificate.der()), write("key", &key.serialize_der())]
    };
    let server = TlsServerConfig::self_signed_for_development(&["localhost"]).unwrap();
    let tls = TlsServerConfig::builder()
        .certificate(server.certificates().remove(0))
        .client_auth(
            ClientAuth::optional()
                .roots_pem(Certificate::from_der(authority.der()).unwrap().pem().as_bytes()),
        )
        .build()
        .unwrap();
    let name = SubjectAltName::Uri("spiffe://example.org/billing".to_owned());
    let rule = CertificateRule::new(CertificateMatch::SubjectAltName(name)).with_scope("write");
    let map = CertificateMap::new().with_rule(rule);
    let service = Service::start_tls(
        guarded(Authenticator::new(realm()).client_certificates(map).basic(&accounts())),
        &tls,
    );
    let ask = |name: &str, arguments: &[&str], path: &str| {
        let [certificate, key] = issue(name);
        let own = ["--cert-type", "DER", "--cert", &certificate, "--key-type", "DER", "--key", &key];
        service.curl(&[&own, arguments].concat(), path)
    };
    let let_in = ask("billing", &[], "/write");
    assert_eq!(
        (let_in.status, let_in.body.as_str()),
        (200, "spiffe://example.org/billing by client_certificate")
    );
    // A certificate of the right issuer that is nobody's.
    assert_eq!(ask("other", &[], "/").status, 401);
    assert_eq!(service.curl(&[], "/").status, 401);
    // Credentials that are sent decide.
    let user = format!("alice:{PASSWORD}");
    assert_eq!(ask("billing", &["--user", &user], "/").body, "alice by basic");
    assert_eq!(ask("billing", &["--user", "alice:wrong"], "/").status, 401);
}

struct Broken;

impl UserStore for Broken {
    async fn find(&self, _name: &str) -> Result<Option<User>, BoxError> {
        Err("the database is gone".into())
    }
}

impl ApiKeyStore for Broken {
    async fn find(&self, _id: &str) -> Result<Option<StoredApiKey>, BoxError> {
        Err("the database is gone".into())
    }
}

#[test]
fn a_store_that_fails_lets_nobody_in() {
    let accounts = Accounts::new(Broken);
    let authenticator = Authenticator::new(realm())
        .basic(&accounts)
        .digest(&accounts, DigestScheme::new(realm()))
        .api_keys("acme", Broken);
    let service = Service::start(guarded(authenticator));
    let key = ApiKey::generate("acme").unwrap();
    let key = format!("X-API-Key: {}", key.expose().expose_secret());
    for arguments in
        [["--user", "alice:x"].as_slice(), &["--digest", "--user", "alice:x"], &["--header", &key]]
    {
        let answer = service.curl(arguments, "/");
        assert_eq!(answer.status, 503, "{arguments:?}");
        assert!(!answer.body.contains("database"), "{}", answer.body);
    }
    // The attempts were taken back.
    assert_eq!(accounts.failures("alice"), 0);
}

/// A password, a token or a key that others could read on its way is not taken, nor asked for.
#[test]
fn credentials_over_plain_http() {
    let key = ApiKey::generate("acme").unwrap();
    let store = || MemoryApiKeys::new([StoredApiKey::new(&key, "robot", now())]);
    let authenticator = || {
        let digest = DigestScheme::new(realm());
        Authenticator::new(realm()).basic(&accounts()).digest(&accounts(), digest).api_keys("acme", store())
    };
    let proxies = TrustedProxies::x_forwarded(["127.0.0.0/8".parse().unwrap()]);
    let behind = |authenticator| {
        let app = App::new().nest("/", guarded(authenticator));
        Service::start(app.with(Defences::new().trusted_proxies(proxies.clone())))
    };
    let service = behind(authenticator());
    let user = format!("alice:{PASSWORD}");
    let (key_field, bearer_field) =
        (format!("X-API-Key: {}", key.expose().expose_secret()), bearer(key.expose().expose_secret()));
    let ask = |service: &Service, scheme: &str, arguments: &[&str]| {
        let scheme = format!("X-Forwarded-Proto: {scheme}");
        let proxied = ["--header", "X-Forwarded-For: 192.0.2.1", "--header", &scheme];
        service.curl(&[&proxied, arguments].concat(), "/")
    };
    let asked = ask(&service, "http", &[]);
    assert_eq!(asked.challenges().len(), 1);
    assert!(asked.status == 401 && asked.challenges()[0].starts_with("Digest "), "{asked:?}");
    assert_eq!(ask(&service, "https", &[]).challenges().len(), 3);
    for arguments in [["--user", &user], ["--header", &key_field], ["--header", &bearer_field]] {
        assert_eq!(ask(&service, "http", &arguments).status, 403, "{arguments:?}");
        assert_eq!(ask(&service, "https", &arguments).status, 200, "{arguments:?}");
    }
    assert_eq!(ask(&service, "http", &["--digest", "--user", &user]).status, 200);
    let allowed = behind(authenticator().allow_plain_http());
    assert_eq!(ask(&allowed, "http", &["--user", &user]).status, 200);
}
