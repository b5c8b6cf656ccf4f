//! Opaque tokens from outside (RFC 7662).

mod authorisation_server;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use authorisation_server::{Server, json_response};
use gimmal_security::certificate_binding::{CertificateBindingError, CertificateThumbprint};
use gimmal_security::client_authentication::ClientAuthentication;
use gimmal_security::introspection::{IntrospectionOptions, Introspector};
use gimmal_security::jwt::TokenError;
use gimmal_security::{FetchError, HttpFetch, Mechanism, SecretString};
use http::{Request, Response};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const TOKEN: &str = "mF_9.B5f-4.1JqM";

fn introspector(options: IntrospectionOptions) -> Introspector {
    let client = ClientAuthentication::basic("api", SecretString::from("s3cret"));
    Introspector::new("https://login.example", "https://login.example/introspect", client, options)
        .unwrap()
        .with_audience("https://api.example")
}

fn active() -> Value {
    json!({
        "active": true, "sub": "alice", "client_id": "app", "scope": "read write", "exp": NOW + 30,
        "aud": "https://api.example", "iss": "https://login.example", "department": "news",
    })
}

/// Answers with what `answer` holds.
fn server(answer: &RefCell<Value>) -> Server<impl Fn(&Request<Vec<u8>>) -> Response<Vec<u8>> + '_> {
    Server::new(|_| json_response(&answer.borrow()))
}

async fn verdict_on(answer: Value) -> Result<String, TokenError> {
    let answer = RefCell::new(answer);
    let introspector = introspector(IntrospectionOptions::default());
    introspector
        .validate(TOKEN, None, NOW, &server(&answer))
        .await
        .map(|token| token.principal().id().to_owned())
}

/// RFC 7662 section 2.1: what is asked, and how.
#[tokio::test]
async fn an_active_token_is_a_principal() {
    let answer = RefCell::new(active());
    let server = server(&answer);
    let introspector = introspector(IntrospectionOptions::default());
    let token = introspector.validate(TOKEN, None, NOW, &server).await.unwrap();
    assert_eq!(token.expires_at(), Some(NOW + 30));
    let principal = token.into_principal();
    assert_eq!((principal.id(), principal.mechanism()), ("alice", Mechanism::Bearer));
    assert!(principal.has_scope("read") && principal.has_scope("write"));
    assert_eq!(principal.attribute("department"), Some(&json!("news")));
    assert_eq!(principal.attribute("active"), None);

    let requests = server.requests.borrow();
    assert_eq!((requests[0].method().as_str(), requests[0].uri().path()), ("POST", "/introspect"));
    assert_eq!(requests[0].headers()["authorization"], "Basic YXBpOnMzY3JldA==");
    let form: HashMap<String, String> = serde_urlencoded::from_bytes(requests[0].body()).unwrap();
    assert_eq!((form["token"].as_str(), form["token_type_hint"].as_str()), (TOKEN, "access_token"));
}

#[tokio::test]
async fn answers_are_cached_until_the_token_expires() {
    let answer = RefCell::new(active());
    let server = server(&answer);
    let introspector = introspector(IntrospectionOptions::default());
    for after_seconds in [0, 1, 29] {
        assert!(introspector.validate(TOKEN, None, NOW + after_seconds, &server).await.is_ok());
    }
    assert_eq!(server.request_count(), 1);
    // No longer than the token lasts, whatever the cache could do.
    let verdict = introspector.validate(TOKEN, None, NOW + 30, &server).await;
    assert_eq!((verdict, server.request_count()), (Err(TokenError::Expired), 2));
}

/// A server that answers when it is told to.
#[derive(Default)]
struct Slow {
    asked: Cell<usize>,
    asked_at_a_time: Cell<usize>,
    most_at_a_time: Cell<usize>,
    answers: Cell<bool>,
    is_down: Cell<bool>,
}

impl HttpFetch for Slow {
    async fn fetch(&self, _: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        self.asked.set(self.asked.get() + 1);
        self.asked_at_a_time.set(self.asked_at_a_time.get() + 1);
        self.most_at_a_time.set(self.most_at_a_time.get().max(self.asked_at_a_time.get()));
        while !self.answers.get() {
            tokio::task::yield_now().await;
        }
        self.asked_at_a_time.set(self.asked_at_a_time.get() - 1);
        if self.is_down.get() {
            Err(FetchError::TimedOut)
        } else {
            Ok(json_response(&json!({ "active": false })))
        }
    }
}

/// Judges all tokens at once; the server answers when all that is going to be asked was asked.
async fn verdicts(introspector: &Introspector, server: &Slow, tokens: &[String]) -> Vec<TokenError> {
    let judged = tokens.iter().map(|token| introspector.validate(token, None, NOW, server));
    let answer = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        server.answers.set(true);
    };
    let (judged, ()) = futures_util::future::join(futures_util::future::join_all(judged), answer).await;
    judged.into_iter().map(Result::unwrap_err).collect()
}

/// A flood must not be handed on to the provider as it comes.
#[tokio::test]
async fn a_flood_of_invented_tokens_asks_the_provider_few_at_a_time() {
    let options = IntrospectionOptions { requests_max: 4, waiting_max: 50, ..Default::default() };
    let (introspector, server) = (introspector(options), Slow::default());
    let tokens: Vec<_> = (0..200).map(|number| format!("invented-{number}")).collect();
    let verdicts = verdicts(&introspector, &server, &tokens).await;
    let refused = verdicts.iter().filter(|verdict| **verdict == TokenError::Unavailable(FetchError::Busy));
    assert_eq!((refused.count(), server.asked.get()), (150, 50));
    assert!(server.most_at_a_time.get() <= 4, "{}", server.most_at_a_time.get());
    // Who gives up makes room again.
    assert_eq!(introspector.validate("another", None, NOW, &server).await.unwrap_err(), TokenError::Inactive);
}

/// Many requests with one token, and an answer that may not be kept.
#[tokio::test]
async fn requests_with_one_token_share_one_question() {
    let options = IntrospectionOptions { cache_entries_max: 0, ..Default::default() };
    let (introspector, server) = (introspector(options), Slow::default());
    let verdicts = verdicts(&introspector, &server, &vec!["one".to_owned(); 100]).await;
    assert!(verdicts.iter().all(|verdict| *verdict == TokenError::Inactive), "{verdicts:?}");
    assert_eq!(server.asked.get(), 1);
    let _ = introspector.validate("one", None, NOW, &server).await;
    assert_eq!(server.asked.get(), 2, "whoever comes later asks anew");
}

/// Those who wait behind a question that found no server do not each wait for the next.
#[tokio::test]
async fn a_provider_that_is_down_is_found_out_once() {
    let options = IntrospectionOptions { requests_max: 1, ..Default::default() };
    let (introspector, server) = (introspector(options), Slow::default());
    server.is_down.set(true);
    let tokens: Vec<_> = (0..100).map(|number| format!("token-{number}")).collect();
    let verdicts = verdicts(&introspector, &server, &tokens).await;
    let down = TokenError::Unavailable(FetchError::TimedOut);
    assert!(verdicts.iter().all(|verdict| *verdict == down), "{verdicts:?}");
    assert_eq!(server.asked.get(), 1);
    server.is_down.set(false);
    assert_eq!(introspector.validate("later", None, NOW, &server).await.unwrap_err(), TokenError::Inactive);
}

/// What the provider says to a token that it cannot read is no answer to the next one.
#[tokio::test]
async fn the_refusal_of_one_token_does_not_answer_another() {
    struct Strict(Slow);
    impl HttpFetch for Strict {
        async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
            let is_odd = request.body().windows(3).any(|bytes| bytes == b"odd");
            let answer = self.0.fetch(request).await?;
            if !is_odd {
                return Ok(answer);
            }
            Ok(Response::builder().status(400).body(Vec::new()).unwrap())
        }
    }
    let options = IntrospectionOptions { requests_max: 1, ..Default::default() };
    let (introspector, server) = (introspector(options), Strict(Slow::default()));
    let judge = |token| introspector.validate(token, None, NOW, &server);
    let answer = async {
        tokio::task::yield_now().await;
        server.0.answers.set(true);
    };
    let (odd, again, other, ()) =
        futures_util::future::join4(judge("odd"), judge("odd"), judge("one"), answer).await;
    let refused = TokenError::Unavailable(FetchError::Status(400));
    assert_eq!((odd.unwrap_err(), again.unwrap_err()), (refused.clone(), refused));
    assert_eq!(other.unwrap_err(), TokenError::Inactive);
}

/// A revoked token is refused once the cached answer is old.
#[tokio::test]
async fn replay_after_revocation() {
    let mut long = active();
    long["exp"] = json!(NOW + 3600);
    let answer = RefCell::new(long);
    let server = server(&answer);
    let introspector = introspector(IntrospectionOptions::default());
    assert!(introspector.validate(TOKEN, None, NOW, &server).await.is_ok());
    answer.replace(json!({ "active": false }));
    assert!(introspector.validate(TOKEN, None, NOW + 59, &server).await.is_ok());
    assert_eq!(introspector.validate(TOKEN, None, NOW + 60, &server).await, Err(TokenError::Inactive));
    // Without a cache, at once.
    let uncached = self::introspector(IntrospectionOptions { active_seconds_max: 0, ..Default::default() });
    answer.replace(active());
    assert!(uncached.validate(TOKEN, None, NOW, &server).await.is_ok());
    answer.replace(json!({ "active": false }));
    assert_eq!(uncached.validate(TOKEN, None, NOW, &server).await, Err(TokenError::Inactive));
}

#[tokio::test]
async fn refusals_are_cached() {
    let answer = RefCell::new(json!({ "active": false }));
    let server = server(&answer);
    let introspector = introspector(IntrospectionOptions::default());
    for (after_seconds, request_count) in [(0, 1), (9, 1), (10, 2)] {
        let verdict = introspector.validate(TOKEN, None, NOW + after_seconds, &server).await;
        assert_eq!((verdict, server.request_count()), (Err(TokenError::Inactive), request_count));
    }
}

/// Invented tokens drive no good one out of the cache.
#[tokio::test]
async fn flood_of_invented_tokens() {
    let server = Server::new(|request| {
        let form: HashMap<String, String> = serde_urlencoded::from_bytes(request.body()).unwrap();
        json_response(&if form["token"] == TOKEN { active() } else { json!({ "active": false }) })
    });
    let introspector = introspector(IntrospectionOptions { cache_entries_max: 10, ..Default::default() });
    assert!(introspector.validate(TOKEN, None, NOW, &server).await.is_ok());
    for at in 0..1000 {
        let verdict = introspector.validate(&format!("invented{at}"), None, NOW, &server).await;
        assert_eq!(verdict, Err(TokenError::Inactive));
    }
    assert!(introspector.validate(TOKEN, None, NOW, &server).await.is_ok());
    assert_eq!(server.request_count(), 1001);
    let huge = introspector.validate(&"x".repeat(20_000), None, NOW, &server).await;
    assert_eq!((huge, server.request_count()), (Err(TokenError::TooLong), 1001));
}

/// A cache that leaks must leak no tokens.
#[tokio::test]
async fn theft_by_cache_dump() {
    let answer = RefCell::new(active());
    let introspector = introspector(IntrospectionOptions::default());
    introspector.validate(TOKEN, None, NOW, &server(&answer)).await.unwrap();
    let dump = format!("{introspector:?}");
    assert!(dump.contains("alice"));
    assert!(!dump.contains(TOKEN) && !dump.contains("s3cret"));
}

#[tokio::test]
async fn answers_that_do_not_fit() {
    let with = |name: &str, value: Value| {
        let mut answer = active();
        answer[name] = value;
        answer
    };
    for (answer, error) in [
        (with("aud", json!("https://other.example")), TokenError::Audience),
        (with("iss", json!("https://other.example")), TokenError::Issuer),
        (with("iss", json!(7)), TokenError::Issuer),
        (with("exp", json!(NOW)), TokenError::Expired),
        (with("exp", json!("never")), TokenError::ClaimInvalid("exp")),
        (with("nbf", json!(NOW + 61)), TokenError::NotYetValid),
        (with("sub", json!("")), TokenError::ClaimInvalid("sub")),
    ] {
        assert_eq!(verdict_on(answer.clone()).await, Err(error), "{answer}");
    }
    let mut without_subject = active();
    without_subject.as_object_mut().unwrap().remove("sub");
    assert_eq!(verdict_on(without_subject.clone()).await, Err(TokenError::ClaimMissing("sub")));
    let answer = RefCell::new(without_subject);
    let lenient = introspector(IntrospectionOptions::default()).with_client_principals("client:");
    let token = lenient.validate(TOKEN, None, NOW, &server(&answer)).await.unwrap();
    assert_eq!(token.principal().id(), "client:app");
}

/// An answer that cannot be understood is no permission.
#[tokio::test]
async fn fail_open() {
    let document = |response: fn() -> Response<Vec<u8>>| async move {
        let server = Server::new(|_| response());
        introspector(IntrospectionOptions::default()).validate(TOKEN, None, NOW, &server).await
    };
    for response in [
        (|| Response::new(Vec::new())) as fn() -> Response<Vec<u8>>,
        || Response::new(b"<html>".to_vec()),
        || json_response(&json!({})),
        || json_response(&json!({ "active": "true", "sub": "alice" })),
        || json_response(&json!({ "active": 1, "sub": "alice" })),
        || Response::new(br#"{"active":false,"active":true,"sub":"alice"}"#.to_vec()),
        || Response::builder().status(401).body(br#"{"active":true}"#.to_vec()).unwrap(),
        || Response::builder().status(302).header("location", "/").body(Vec::new()).unwrap(),
    ] {
        let verdict = document(response).await;
        assert!(matches!(verdict, Err(TokenError::Unavailable(_))), "{verdict:?}");
    }
    let answer = RefCell::new(active());
    let server = server(&answer);
    server.is_down.set(true);
    let introspector = introspector(IntrospectionOptions::default());
    let verdict = introspector.validate(TOKEN, None, NOW, &server).await;
    assert!(matches!(verdict, Err(TokenError::Unavailable(FetchError::Unreachable(_)))));
    // A failure is not kept.
    server.is_down.set(false);
    assert!(introspector.validate(TOKEN, None, NOW, &server).await.is_ok());
}

/// RFC 8705 section 3.2: the binding is checked for each connection, cached or not.
#[tokio::test]
async fn theft_of_a_bound_token() {
    let alice = CertificateThumbprint::of_der(b"alice's certificate");
    let mut bound = active();
    bound["cnf"] = json!({ "x5t#S256": alice.to_string() });
    let answer = RefCell::new(bound);
    let server = server(&answer);
    let introspector = introspector(IntrospectionOptions::default());
    assert!(introspector.validate(TOKEN, Some(&alice), NOW, &server).await.is_ok());
    assert_eq!(
        introspector.validate(TOKEN, None, NOW, &server).await,
        Err(TokenError::CertificateBinding(CertificateBindingError::CertificateMissing))
    );
    assert_eq!(server.request_count(), 1);
}

#[test]
fn an_endpoint_without_tls() {
    let client = ClientAuthentication::public("api");
    let options = IntrospectionOptions::default();
    let insecure = Introspector::new("x", "http://login.example/introspect", client, options);
    assert_eq!(insecure.err(), Some(FetchError::Insecure));
}

/// A future that is `Send` stays so if the client's is.
#[test]
fn send_is_not_forbidden() {
    struct SendClient;
    impl HttpFetch for SendClient {
        async fn fetch(&self, _: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
            Err(FetchError::TimedOut)
        }
    }
    fn is_send<T: Send>(_: T) {}
    let introspector = introspector(IntrospectionOptions::default());
    is_send(introspector.validate(TOKEN, None, NOW, &SendClient));
    // And one that is not may be used.
    let not_send = Cell::new(0);
    let server = Server::new(|_| {
        not_send.set(1);
        json_response(&json!({}))
    });
    drop(introspector.validate(TOKEN, None, NOW, &server));
}
