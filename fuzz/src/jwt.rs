//! Signed tokens, sets of keys, and the claims of tokens whose signature is right.

use std::sync::LazyLock;

use gimmal_security::jwt::{AccessTokenValidator, Algorithm, Issuer, JwkSet, KeySource, SigningKey};
use gimmal_security::{FetchError, HttpFetch, SecretSlice};
use http::{Request, Response};
use rcgen::KeyPair;
use serde_json::{Map, Value, json};

use crate::cookies::at_once;

const NOW: u64 = 1_800_000_000;

struct Nobody;

impl HttpFetch for Nobody {
    async fn fetch(&self, _: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        panic!("the keys are here")
    }
}

fn validator(keys: JwkSet) -> AccessTokenValidator {
    AccessTokenValidator::new(Issuer::new("https://a", "https://b", KeySource::fixed(keys)))
}

static SIGNED: LazyLock<(SigningKey, AccessTokenValidator)> = LazyLock::new(|| {
    let pair = KeyPair::generate().expect("a key").serialize_der();
    let key = SigningKey::from_pkcs8(&pair, Algorithm::ES256, "k1").expect("a key");
    let keys = json!({ "keys": [key.public_jwk()] }).to_string();
    (key, validator(JwkSet::parse(keys.as_bytes()).expect("a set of keys")))
});

static SHARED: LazyLock<AccessTokenValidator> = LazyLock::new(|| {
    let secret = SecretSlice::from(vec![7; 32]);
    validator(JwkSet::from_shared_secret(&secret, Algorithm::HS256).expect("a key"))
});

/// The first byte says what the rest is.
pub fn run(data: &[u8]) {
    let Some((selector, rest)) = data.split_first() else { return };
    match selector % 3 {
        // A whole token: nobody knows the keys.
        0 => {
            let Ok(token) = std::str::from_utf8(rest) else { return };
            assert!(at_once(SIGNED.1.validate(token, None, NOW, &Nobody)).is_err());
            assert!(at_once(SHARED.validate(token, None, NOW, &Nobody)).is_err());
        }
        // The claims of a token that was really signed, beside those that every token needs.
        1 => {
            let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(rest) else { return };
            let mut all = json!({
                "iss": "https://a", "aud": "https://b", "sub": "alice", "client_id": "app", "iat": NOW, "exp": NOW + 60,
                "jti": "1",
            });
            let all = all.as_object_mut().expect("an object");
            all.extend(claims);
            let token = SIGNED.0.sign("at+jwt", all);
            let Ok(token) = at_once(SIGNED.1.validate(&token, None, NOW, &Nobody)) else { return };
            assert!(token.expires_at().is_some_and(|at| at + 60 > NOW), "an expired token");
            assert_eq!(all["iss"], "https://a");
            assert_eq!(Some(token.principal().id()), all["sub"].as_str());
        }
        _ => {
            if let Ok(keys) = JwkSet::parse(rest) {
                assert!(!keys.is_empty());
            }
        }
    }
}
