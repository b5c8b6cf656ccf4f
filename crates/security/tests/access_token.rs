//! JWT access tokens from outside: what is taken, and the forgeries that are not (RFC 8725, RFC 9068).

mod authorisation_server;

use authorisation_server::{Server, SigningKey, base64url, json_response, nobody, poll_once};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gimmal_security::bearer::BearerChallenge;
use gimmal_security::certificate_binding::{CertificateBindingError, CertificateThumbprint};
use gimmal_security::jwt::{
    AccessToken, AccessTokenValidator, Algorithm, Issuer, JwkSet, KeySource, RemoteKeysOptions, TokenError,
};
use gimmal_security::{FetchError, Mechanism};
use http::Response;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "https://api.example";

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "jti": "1",
        "iat": NOW, "exp": NOW + 300, "scope": "articles:read articles:write", "roles": ["editor"],
        "department": "news",
    })
}

fn header(key: &SigningKey) -> Value {
    json!({ "typ": "at+jwt", "alg": key.algorithm(), "kid": "k1" })
}

fn fixed(key: &SigningKey) -> KeySource {
    let set = json!({ "keys": [key.public_jwk("k1")] });
    KeySource::fixed(JwkSet::parse(set.to_string().as_bytes()).unwrap())
}

fn issuer(key: &SigningKey) -> Issuer {
    Issuer::new(ISSUER, AUDIENCE, fixed(key))
}

async fn validate(issuer: Issuer, token: &str) -> Result<AccessToken, TokenError> {
    AccessTokenValidator::new(issuer).validate(token, None, NOW, &nobody()).await
}

/// The verdict on the usual claims with these changes.
async fn verdict_with(changes: Value) -> Result<AccessToken, TokenError> {
    let key = SigningKey::ed25519();
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    validate(issuer(&key), &key.token(&header(&key), &claims)).await
}

#[tokio::test]
async fn a_good_token_is_a_principal() {
    for key in [SigningKey::ed25519(), SigningKey::p256(), SigningKey::rsa()] {
        let token = validate(issuer(&key), &key.token(&header(&key), &claims())).await.unwrap();
        assert_eq!(token.expires_at(), Some(NOW + 300));
        let principal = token.into_principal();
        assert_eq!((principal.id(), principal.mechanism()), ("alice", Mechanism::Bearer));
        assert_eq!(principal.authenticated_at(), NOW);
        assert!(principal.has_role("editor") && principal.has_scope("articles:write"));
        assert_eq!(principal.attribute("department"), Some(&json!("news")));
        assert_eq!(principal.attribute("iss"), Some(&json!(ISSUER)));
        assert_eq!(principal.attribute("sub"), None);
    }
}

#[tokio::test]
async fn scopes_and_roles_of_other_servers() {
    let key = SigningKey::p256();
    let mut claims = claims();
    claims["scope"] = Value::Null;
    claims.as_object_mut().unwrap().remove("scope");
    claims["scp"] = json!(["a", "b"]);
    claims["realm_access"] = json!({ "roles": ["admin"] });
    claims["aud"] = json!(["account", AUDIENCE]);
    let token = key.token(&json!({ "typ": "JWT", "alg": "ES256" }), &claims);
    assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::Type));
    let lenient = issuer(&key).without_type_check().with_roles_at(["realm_access", "roles"]);
    let principal = validate(lenient, &token).await.unwrap().into_principal();
    assert_eq!(principal.scopes().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(principal.roles().collect::<Vec<_>>(), ["admin"]);
}

#[tokio::test]
async fn forged_alg_none() {
    let key = SigningKey::ed25519();
    for alg in ["none", "None", "NONE", ""] {
        let token = key.token(&json!({ "typ": "at+jwt", "alg": alg, "kid": "k1" }), &claims());
        let unsigned = &token[..=token.rfind('.').unwrap()];
        for token in [&token, unsigned] {
            assert_eq!(validate(issuer(&key), token).await, Err(TokenError::Algorithm), "{alg}");
        }
    }
    let signed = key.token(&header(&key), &claims());
    let stripped = &signed[..=signed.rfind('.').unwrap()];
    assert_eq!(validate(issuer(&key), stripped).await, Err(TokenError::Signature));
}

/// The public key of the server, which everybody has, as the secret of an HMAC.
#[tokio::test]
async fn forged_rs_hs_confusion() {
    let key = SigningKey::rsa();
    let jwk = key.public_jwk("k1");
    for secret in [jwk["n"].to_string().into_bytes(), jwk.to_string().into_bytes()] {
        let header = json!({ "typ": "at+jwt", "alg": "HS256", "kid": "k1" });
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims().to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        let token = format!("{signed}.{}", base64url(tag));
        assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::Algorithm));
        // Even where the issuer may use HMAC, a public key is no secret.
        let careless = issuer(&key).with_algorithms([Algorithm::RS256, Algorithm::HS256]);
        assert_eq!(validate(careless, &token).await, Err(TokenError::UnknownKey));
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_pinned() {
    let key = SigningKey::rsa();
    let token = key.token(&header(&key), &claims());
    let pinned = issuer(&key).with_algorithms([Algorithm::ES256]);
    assert_eq!(validate(pinned, &token).await, Err(TokenError::Algorithm));
    // The key is for RS256, so a PS256 header does not fit it.
    let token = key.token(&json!({ "typ": "at+jwt", "alg": "PS256", "kid": "k1" }), &claims());
    assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn kid_tricks() {
    let key = SigningKey::ed25519();
    for key_id in ["../../etc/passwd", "k1' OR '1'='1", "k1\u{0}", "K1", ""] {
        let token = key.token(&json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": key_id }), &claims());
        assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::UnknownKey), "{key_id}");
    }
    let token = key.token(&json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": ["k1"] }), &claims());
    assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::Malformed));
}

/// A key that the token brings along is never used (RFC 8725 section 3.10).
#[tokio::test]
async fn forged_with_an_embedded_key() {
    let (key, mallory) = (SigningKey::ed25519(), SigningKey::ed25519());
    for key_id in ["k1", "mallory"] {
        let header = json!({
            "typ": "at+jwt", "alg": "EdDSA", "kid": key_id, "jwk": mallory.public_jwk(key_id),
            "jku": "https://mallory.example/jwks", "x5u": "https://mallory.example/cert",
        });
        let verdict = validate(issuer(&key), &mallory.token(&header, &claims())).await;
        assert!(matches!(verdict, Err(TokenError::Signature | TokenError::UnknownKey)), "{verdict:?}");
    }
}

/// Signatures of zeros (CVE-2022-21449), and other encodings and lengths of a good one.
#[tokio::test]
async fn psychic_signatures() {
    let key = SigningKey::p256();
    let good = key.token(&header(&key), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let order: Vec<u8> =
        [0xffff_ffff_0000_0000_u64, 0xffff_ffff_ffff_ffff, 0xbce6_faad_a717_9e84, 0xf3b9_cac2_fc63_2551]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect();
    let der = [&[0x30, 0x46, 0x02, 0x21, 0][..], r, &[0x02, 0x21, 0], s].concat();
    for forged in [
        vec![0; 64],
        [r, &[0; 32]].concat(),
        [&[0; 32], s].concat(),
        [order.as_slice(), &order].concat(),
        [s, r].concat(),
        der,
        signature[..63].to_vec(),
        [&[0], signature.as_slice()].concat(),
        [signature.as_slice(), &[0]].concat(),
    ] {
        let token = format!("{signed}.{}", base64url(&forged));
        assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::Signature), "{forged:?}");
    }
    assert!(validate(issuer(&key), &good).await.is_ok());
}

/// RFC 7515 section 4.1.11, RFC 7797.
#[tokio::test]
async fn critical_headers() {
    let key = SigningKey::ed25519();
    for (name, value) in
        [("crit", json!(["exp"])), ("crit", json!([])), ("b64", json!(false)), ("zip", json!("DEF"))]
    {
        let mut header = header(&key);
        header[name] = value;
        assert_eq!(
            validate(issuer(&key), &key.token(&header, &claims())).await,
            Err(TokenError::CriticalHeader)
        );
    }
}

#[tokio::test]
async fn doubled_claims() {
    let key = SigningKey::ed25519();
    let text = claims().to_string().replacen('{', "{\"sub\":\"admin\",", 1);
    let token = key.token_of_text(&header(&key).to_string(), &text);
    assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::Malformed));
    let doubled = header(&key).to_string().replacen('{', "{\"alg\":\"none\",", 1);
    let token = key.token_of_text(&doubled, &claims().to_string());
    assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::Malformed));
}

#[tokio::test]
async fn malformed_and_oversized_tokens() {
    let key = SigningKey::ed25519();
    let good = key.token(&header(&key), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for bad in ["", ".", "..", "a.b.c", "a.b.c.d.e", signed, &good.replace('.', ""), &format!("{good}.")] {
        let verdict = validate(issuer(&key), bad).await;
        assert!(matches!(verdict, Err(TokenError::Malformed | TokenError::Signature)), "{bad}: {verdict:?}");
    }
    // The same bytes in other characters: padding, the other alphabet, white space.
    for twin in
        [format!("{good}="), format!("{good}\n"), format!(" {good}"), format!("{signed}. {signature}")]
    {
        let verdict = validate(issuer(&key), &twin).await;
        assert!(matches!(verdict, Err(TokenError::Malformed | TokenError::Signature)), "{twin}: {verdict:?}");
    }
    let mut huge = claims();
    huge["padding"] = json!("x".repeat(16 * 1024));
    assert_eq!(validate(issuer(&key), &key.token(&header(&key), &huge)).await, Err(TokenError::TooLong));
}

#[tokio::test]
async fn wrong_issuer_and_audience() {
    for iss in ["https://login.example/", "http://login.example", "https://LOGIN.example", "mallory"] {
        assert_eq!(verdict_with(json!({ "iss": iss })).await, Err(TokenError::Issuer), "{iss}");
    }
    assert_eq!(verdict_with(json!({ "iss": null })).await, Err(TokenError::ClaimMissing("iss")));
    assert_eq!(verdict_with(json!({ "iss": [ISSUER] })).await, Err(TokenError::ClaimInvalid("iss")));
    for aud in [json!("https://other.example"), json!([]), json!(["https://api.example/"])] {
        assert_eq!(verdict_with(json!({ "aud": aud })).await, Err(TokenError::Audience), "{aud}");
    }
    assert_eq!(verdict_with(json!({ "aud": null })).await, Err(TokenError::ClaimMissing("aud")));
    for aud in [json!({}), json!(1), json!([AUDIENCE, 1])] {
        assert_eq!(verdict_with(json!({ "aud": aud })).await, Err(TokenError::ClaimInvalid("aud")), "{aud}");
    }
}

#[tokio::test]
async fn expired_and_premature_tokens() {
    assert_eq!(verdict_with(json!({ "exp": NOW - 60 })).await, Err(TokenError::Expired));
    assert!(verdict_with(json!({ "exp": NOW - 59 })).await.is_ok());
    assert_eq!(verdict_with(json!({ "exp": null })).await, Err(TokenError::ClaimMissing("exp")));
    assert_eq!(verdict_with(json!({ "nbf": NOW + 61 })).await, Err(TokenError::NotYetValid));
    assert!(verdict_with(json!({ "nbf": NOW + 60 })).await.is_ok());
    assert_eq!(verdict_with(json!({ "iat": NOW + 61 })).await, Err(TokenError::NotYetValid));
    assert!(verdict_with(json!({ "exp": NOW as f64 + 0.5 })).await.is_ok());
}

/// Times of another type must not be taken for no times.
#[tokio::test]
async fn time_type_confusion() {
    for time in [json!("9999999999"), json!(true), json!([NOW]), json!(-1), json!(1e300), json!({})] {
        assert_eq!(
            verdict_with(json!({ "exp": time })).await,
            Err(TokenError::ClaimInvalid("exp")),
            "{time}"
        );
        assert_eq!(
            verdict_with(json!({ "nbf": time })).await,
            Err(TokenError::ClaimInvalid("nbf")),
            "{time}"
        );
    }
    assert!(verdict_with(json!({ "exp": u64::MAX })).await.is_ok());
}

#[tokio::test]
async fn a_token_without_a_subject() {
    for (sub, error) in [
        (Value::Null, TokenError::ClaimMissing("sub")),
        (json!(""), TokenError::ClaimInvalid("sub")),
        (json!(7), TokenError::ClaimInvalid("sub")),
    ] {
        assert_eq!(verdict_with(json!({ "sub": sub })).await, Err(error));
    }
}

/// An ID token is no access token (RFC 9068 section 4, RFC 8725 section 3.11).
#[tokio::test]
async fn cross_jwt_confusion() {
    let key = SigningKey::ed25519();
    for typ in [json!("JWT"), json!("logout+jwt"), json!(""), json!("at+jwt+x")] {
        let token = key.token(&json!({ "typ": typ, "alg": "EdDSA", "kid": "k1" }), &claims());
        assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::Type), "{typ}");
    }
    let token = key.token(&json!({ "alg": "EdDSA", "kid": "k1" }), &claims());
    assert_eq!(validate(issuer(&key), &token).await, Err(TokenError::Type));
    let token = key.token(&json!({ "typ": "application/AT+JWT", "alg": "EdDSA", "kid": "k1" }), &claims());
    assert!(validate(issuer(&key), &token).await.is_ok());
}

/// RFC 8705 section 3.
#[tokio::test]
async fn theft_of_a_bound_token() {
    let key = SigningKey::ed25519();
    let alice = CertificateThumbprint::of_der(b"alice's certificate");
    let mallory = CertificateThumbprint::of_der(b"mallory's certificate");
    let mut claims = claims();
    claims["cnf"] = json!({ "x5t#S256": alice.to_string() });
    let token = key.token(&header(&key), &claims);
    let validator = AccessTokenValidator::new(issuer(&key));
    assert!(validator.validate(&token, Some(&alice), NOW, &nobody()).await.is_ok());
    for thief in [None, Some(&mallory)] {
        let verdict = validator.validate(&token, thief, NOW, &nobody()).await;
        assert!(matches!(verdict, Err(TokenError::CertificateBinding(_))));
    }
    let unbound = key.token(&header(&key), &self::claims());
    let strict = AccessTokenValidator::new(issuer(&key).with_certificate_binding_required());
    assert_eq!(
        strict.validate(&unbound, Some(&alice), NOW, &nobody()).await,
        Err(TokenError::CertificateBinding(CertificateBindingError::NotBound))
    );
}

/// A subject of one issuer is not the same subject of another.
#[tokio::test]
async fn one_subject_of_two_issuers() {
    let (key, other_key) = (SigningKey::ed25519(), SigningKey::p256());
    let other = || Issuer::new("https://other.example", AUDIENCE, fixed(&other_key));
    let validator = AccessTokenValidator::new(issuer(&key));
    assert!(validator.with_issuer(other()).is_err());
    let validator = AccessTokenValidator::new(issuer(&key).with_subject_prefix("login:"))
        .with_issuer(other().with_subject_prefix("other:"))
        .unwrap();
    let id = async |key: &SigningKey, iss: &str| {
        let mut claims = claims();
        claims["iss"] = json!(iss);
        let token = key.token(&header(key), &claims);
        validator
            .validate(&token, None, NOW, &nobody())
            .await
            .map(|token| token.into_principal().id().to_owned())
    };
    assert_eq!(id(&key, ISSUER).await.unwrap(), "login:alice");
    assert_eq!(id(&other_key, "https://other.example").await.unwrap(), "other:alice");
    // A key of one does not sign for the other.
    assert_eq!(id(&key, "https://other.example").await, Err(TokenError::UnknownKey));
}

#[test]
fn a_refusal_says_little() {
    let base = BearerChallenge::new();
    let said = |error: TokenError| error.challenge(&base).to_header_value().to_str().unwrap().to_owned();
    assert_eq!(said(TokenError::Signature), said(TokenError::UnknownKey));
    assert!(said(TokenError::Expired).contains("expired"));
    assert_eq!(TokenError::Signature.status(), 401);
    assert_eq!(TokenError::Unavailable(FetchError::TimedOut).status(), 503);
}

/// A validator with remote keys, and a token for each key of the set.
struct Remote {
    validator: AccessTokenValidator,
    keys: [SigningKey; 2],
}

impl Remote {
    fn new() -> Self {
        let source = KeySource::remote("https://login.example/jwks", RemoteKeysOptions::default()).unwrap();
        Self {
            validator: AccessTokenValidator::new(Issuer::new(ISSUER, AUDIENCE, source)),
            keys: [SigningKey::ed25519(), SigningKey::ed25519()],
        }
    }

    /// The response with the first `count` keys.
    fn jwks(&self, count: usize, cache_control: &str) -> Response<Vec<u8>> {
        let jwks: Vec<Value> = self.keys[..count]
            .iter()
            .enumerate()
            .map(|(at, key)| key.public_jwk(&format!("k{at}")))
            .collect();
        let mut response = json_response(&json!({ "keys": jwks }));
        response.headers_mut().insert("cache-control", cache_control.parse().unwrap());
        response
    }

    fn token(&self, at: usize) -> String {
        let mut claims = claims();
        claims["exp"] = json!(NOW + 1_000_000);
        let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": format!("k{at}") });
        self.keys[at].token(&header, &claims)
    }
}

#[tokio::test]
async fn remote_keys_are_cached() {
    let remote = Remote::new();
    let server = Server::new(|_| remote.jwks(1, "public, max-age=600"));
    let token = remote.token(0);
    for (after_seconds, request_count) in [(0, 1), (1, 1), (599, 1), (600, 2), (601, 2)] {
        let verdict = remote.validator.validate(&token, None, NOW + after_seconds, &server).await;
        assert!(verdict.is_ok());
        assert_eq!(server.request_count(), request_count, "{after_seconds}");
    }
}

#[tokio::test]
async fn cache_control_within_bounds() {
    for (cache_control, fresh_seconds) in [
        ("no-store", 60),
        ("max-age=0", 60),
        ("max-age=99999999999", 24 * 60 * 60),
        ("private", 15 * 60),
        ("max-age=junk", 15 * 60),
    ] {
        let remote = Remote::new();
        let server = Server::new(|_| remote.jwks(1, cache_control));
        let token = remote.token(0);
        for (after_seconds, request_count) in [(0, 1), (fresh_seconds - 1, 1), (fresh_seconds, 2)] {
            remote.validator.validate(&token, None, NOW + after_seconds, &server).await.unwrap();
            assert_eq!(server.request_count(), request_count, "{cache_control} {after_seconds}");
        }
    }
}

#[tokio::test]
async fn a_rotated_key_comes_in() {
    let remote = Remote::new();
    let key_count = std::cell::Cell::new(1);
    let server = Server::new(|_| remote.jwks(key_count.get(), "max-age=600"));
    remote.validator.validate(&remote.token(0), None, NOW, &server).await.unwrap();
    key_count.set(2);
    remote.validator.validate(&remote.token(1), None, NOW + 20, &server).await.unwrap();
    remote.validator.validate(&remote.token(0), None, NOW + 20, &server).await.unwrap();
    assert_eq!(server.request_count(), 2);
}

#[tokio::test]
async fn flood_of_unknown_key_names() {
    let remote = Remote::new();
    let server = Server::new(|_| remote.jwks(1, "max-age=600"));
    for at in 0..1000 {
        let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": format!("invented {at}") });
        let token = remote.keys[0].token(&header, &claims());
        let verdict = remote.validator.validate(&token, None, NOW + at / 50, &server).await;
        assert_eq!(verdict, Err(TokenError::UnknownKey));
    }
    // 20 seconds, one fetch in ten.
    assert_eq!(server.request_count(), 2);
}

#[tokio::test]
async fn one_fetch_for_many_callers() {
    let remote = Remote::new();
    let server = Server::new(|_| remote.jwks(1, "max-age=600"));
    let token = remote.token(0);
    let callers = (0..100).map(|_| remote.validator.validate(&token, None, NOW, &server));
    let verdicts = futures_util::future::join_all(callers).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(server.request_count(), 1);
}

/// A client that hangs up while it drives the fetch leaves nothing behind that keeps others from it.
#[tokio::test]
async fn a_dropped_fetch_is_taken_over() {
    let remote = Remote::new();
    let server = Server::new(|_| remote.jwks(1, "max-age=600"));
    let token = remote.token(0);
    let mut first = Box::pin(remote.validator.validate(&token, None, NOW, &server));
    assert!(poll_once(first.as_mut()).is_pending());
    drop(first);
    let verdict = remote.validator.validate(&token, None, NOW, &server).await;
    assert_eq!(verdict, Err(TokenError::Unavailable(FetchError::TimedOut)));
    assert!(remote.validator.validate(&token, None, NOW + 1, &server).await.is_ok());
}

#[tokio::test]
async fn stale_keys_serve_while_the_server_is_down() {
    let remote = Remote::new();
    let server = Server::new(|_| remote.jwks(1, "max-age=600"));
    let token = remote.token(0);
    server.is_down.set(true);
    let verdict = remote.validator.validate(&token, None, NOW, &server).await;
    assert!(matches!(verdict, Err(TokenError::Unavailable(_))), "{verdict:?}");
    // Not asked again at once.
    let verdict = remote.validator.validate(&token, None, NOW + 9, &server).await;
    assert!(matches!(verdict, Err(TokenError::Unavailable(_))), "{verdict:?}");
    assert_eq!(server.request_count(), 1);
    server.is_down.set(false);
    assert!(remote.validator.validate(&token, None, NOW + 10, &server).await.is_ok());
    server.is_down.set(true);
    let day_seconds = 24 * 60 * 60;
    for after_seconds in [610, 611, day_seconds, day_seconds + 609] {
        assert!(remote.validator.validate(&token, None, NOW + after_seconds, &server).await.is_ok());
    }
    let verdict = remote.validator.validate(&token, None, NOW + day_seconds + 610, &server).await;
    assert!(matches!(verdict, Err(TokenError::Unavailable(_))), "{verdict:?}");
}

/// While one caller fetches, those whose old key is known do not wait.
#[tokio::test]
async fn stale_keys_serve_while_new_ones_come() {
    let remote = Remote::new();
    let server = Server::new(|_| remote.jwks(1, "max-age=600"));
    let token = remote.token(0);
    remote.validator.validate(&token, None, NOW, &server).await.unwrap();
    let mut leader = Box::pin(remote.validator.validate(&token, None, NOW + 700, &server));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut other = Box::pin(remote.validator.validate(&token, None, NOW + 700, &server));
    assert!(matches!(poll_once(other.as_mut()), std::task::Poll::Ready(Ok(_))));
    assert!(leader.await.is_ok());
    assert_eq!(server.request_count(), 2);
}

#[tokio::test]
async fn documents_that_are_no_key_set() {
    for body in ["", "<html>", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
        let remote = Remote::new();
        let server = Server::new(|_| Response::new(body.as_bytes().to_vec()));
        let verdict = remote.validator.validate(&remote.token(0), None, NOW, &server).await;
        assert!(matches!(verdict, Err(TokenError::Unavailable(FetchError::Document(_)))), "{verdict:?}");
    }
    let remote = Remote::new();
    let server = Server::new(|_| Response::new(vec![b' '; gimmal_security::RESPONSE_BYTES_MAX + 1]));
    let verdict = remote.validator.validate(&remote.token(0), None, NOW, &server).await;
    assert_eq!(verdict, Err(TokenError::Unavailable(FetchError::TooLarge)));
    let server = Server::new(|_| Response::builder().status(500).body(Vec::new()).unwrap());
    let verdict = Remote::new().validator.validate(&remote.token(0), None, NOW, &server).await;
    assert_eq!(verdict, Err(TokenError::Unavailable(FetchError::Status(500))));
}

/// The keys of one validator serve every core.
#[test]
fn a_validator_is_shared_across_cores() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<AccessTokenValidator>();
}

proptest! {
    /// A changed byte anywhere in a good token makes it a bad one.
    #[test]
    fn tampering(at in any::<prop::sample::Index>(), byte in 0x20..0x7f_u8) {
        static KEY: std::sync::LazyLock<SigningKey> = std::sync::LazyLock::new(SigningKey::ed25519);
        let good = KEY.token(&header(&KEY), &claims());
        let mut token = good.clone().into_bytes();
        let at = at.index(token.len());
        token[at] = byte;
        let token = String::from_utf8(token).unwrap();
        let validator = AccessTokenValidator::new(issuer(&KEY));
        let fetch = nobody();
        let verdict = std::pin::pin!(validator.validate(&token, None, NOW, &fetch));
        let std::task::Poll::Ready(verdict) = poll_once(verdict) else {
            panic!("fixed keys are there at once");
        };
        prop_assert_eq!(verdict.is_ok(), token == good);
    }

    /// Whatever comes instead of a token is refused without a panic.
    #[test]
    fn junk(token in "[A-Za-z0-9_.\\-=]{0,200}") {
        static KEY: std::sync::LazyLock<SigningKey> = std::sync::LazyLock::new(SigningKey::ed25519);
        let validator = AccessTokenValidator::new(issuer(&KEY));
        let fetch = nobody();
        let verdict = std::pin::pin!(validator.validate(&token, None, NOW, &fetch));
        prop_assert!(matches!(poll_once(verdict), std::task::Poll::Ready(Err(_))));
    }
}
