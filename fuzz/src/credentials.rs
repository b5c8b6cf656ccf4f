//! What comes in `Authorization` and `X-API-Key`, and challenges as a client receives them.

use std::sync::LazyLock;

use gimmal_security::api_key::ApiKey;
use gimmal_security::basic::BasicCredentials;
use gimmal_security::bearer::BearerToken;
use gimmal_security::credentials::{Credentials, Realm, parse_challenges};
use gimmal_security::digest::{DigestAlgorithm, DigestRequest, DigestScheme, DigestSecret};
use gimmal_security::{ExposeSecret, SecretString};
use http::HeaderValue;

const NOW: u64 = 1_800_000_000;

static DIGEST: LazyLock<(DigestScheme, DigestSecret)> = LazyLock::new(|| {
    let realm = Realm::new("http-auth@example.org").expect("a realm");
    let secret = DigestAlgorithm::Sha256.secret("Mufasa", &realm, &SecretString::from("Circle of Life"));
    (DigestScheme::new(realm).with_auth_int().with_userhash().allow_md5(), secret)
});

/// What can stand in a field once the parser of heads has taken it.
fn is_field_value(data: &[u8]) -> bool {
    HeaderValue::from_bytes(data).is_ok() && data.trim_ascii() == data
}

fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// The general form, Basic, Bearer and API keys.
pub fn run(data: &[u8]) {
    if !is_field_value(data) {
        return;
    }
    let parsed = Credentials::parse(data);
    let bearer = BearerToken::parse(data);
    if let Ok(Some(token)) = &bearer {
        assert!(!token.as_str().is_empty() && token.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        let credentials = parsed.as_ref().expect("a Bearer token is credentials");
        assert!(credentials.is("bearer"));
        assert_eq!(credentials.token68(), Some(token.as_str()));
    }
    if let Ok(credentials) = &parsed {
        assert!(is_token(credentials.scheme()));
        assert!(credentials.token68().is_none() || credentials.params().next().is_none(), "one or the other");
        for (name, value) in credentials.params() {
            assert!(is_token(name));
            assert_eq!(
                credentials.param(&name.to_ascii_uppercase()),
                Some(value),
                "a name comes once, in any case"
            );
        }
        if let Ok(basic) = BasicCredentials::new(credentials) {
            let (name, password) = basic.into_parts();
            assert!(!name.contains(':'));
            let is_control = |text: &str| text.chars().any(char::is_control);
            assert!(!is_control(&name) && !is_control(password.expose_secret()));
        }
        if let Ok(key) = ApiKey::from_bearer("acme", credentials) {
            assert_eq!(Some(key.expose().expose_secret()), credentials.token68());
        }
    }
    let _ = ApiKey::parse("acme", data);
    if let Ok(challenges) = parse_challenges(data) {
        assert!(challenges.iter().all(|challenge| is_token(challenge.scheme())));
    }
}

/// Digest: no input is right, as none knows a nonce of this process.
pub fn run_digest(data: &[u8]) {
    let (scheme, secret) = &*DIGEST;
    if !is_field_value(data) {
        return;
    }
    let Ok(credentials) = Credentials::parse(data) else { return };
    let Ok(credentials) = scheme.read(&credentials) else { return };
    for target in ["/", "/dir/index.html"] {
        let request = DigestRequest { method: "GET", target, body: b"" };
        for secret in [Some(secret), None] {
            assert!(scheme.verify(&credentials, request, secret, NOW).is_err());
        }
    }
}
