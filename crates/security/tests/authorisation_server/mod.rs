//! An authorisation server in memory: its keys, the tokens that it signs, and the documents that it serves.
#![allow(dead_code, unreachable_pub, reason = "each test target uses its part")]

use std::cell::{Cell, RefCell};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gimmal_security::{FetchError, HttpFetch};
use http::{Request, Response};
use serde_json::{Value, json};

/// A private key of the server.
pub enum SigningKey {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    pub fn public_jwk(&self, key_id: &str) -> Value {
        let mut jwk = match self {
            Self::Ed25519(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key()) }),
            Self::P256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) })
            }
            Self::Rsa(key) => {
                let RsaPublicKeyComponents { n, e } =
                    RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
            }
        };
        jwk["kid"] = json!(key_id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm());
        jwk
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token with exactly this header and these claims.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of_text(&header.to_string(), &claims.to_string())
    }

    pub fn token_of_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    }
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Answers requests from a function, and counts them.
pub struct Server<F> {
    answer: F,
    pub requests: RefCell<Vec<Request<Vec<u8>>>>,
    pub is_down: Cell<bool>,
}

impl<F: Fn(&Request<Vec<u8>>) -> Response<Vec<u8>>> Server<F> {
    pub fn new(answer: F) -> Self {
        Self { answer, requests: RefCell::default(), is_down: Cell::new(false) }
    }

    pub fn request_count(&self) -> usize {
        self.requests.borrow().len()
    }
}

impl<F: Fn(&Request<Vec<u8>>) -> Response<Vec<u8>>> HttpFetch for Server<F> {
    async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        self.requests.borrow_mut().push(request.clone());
        // Others get their turn, as they would while bytes travel.
        tokio::task::yield_now().await;
        if self.is_down.get() {
            return Err(FetchError::Unreachable("connection refused".to_owned()));
        }
        Ok((self.answer)(&request))
    }
}

/// A server that must not be asked anything.
pub fn nobody() -> impl HttpFetch {
    Server::new(|request| panic!("unexpected request to {}", request.uri()))
}

pub fn json_response(body: &Value) -> Response<Vec<u8>> {
    Response::builder()
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap()
}

/// Polls a future once, and wakes nobody.
pub fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}
