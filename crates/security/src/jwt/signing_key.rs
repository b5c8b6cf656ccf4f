//! Private keys that sign tokens.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// A private key with which this server signs tokens, such as those by which it authenticates itself to an
/// authorisation server ([`ClientAuthentication::private_key_jwt`](crate::client_authentication::ClientAuthentication)).
pub struct SigningKey {
    key_id: String,
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

impl SigningKey {
    /// A key in PKCS #8 PEM (`-----BEGIN PRIVATE KEY-----`, as `openssl genpkey` writes it), known to others as
    /// `key_id`, for ES256, ES384, EdDSA, RS256 or PS256.
    ///
    /// # Errors
    /// [`SigningKeyError`] if this is no such key for that algorithm.
    pub fn from_pem(
        pem: &SecretString,
        algorithm: Algorithm,
        key_id: impl Into<String>,
    ) -> Result<Self, SigningKeyError> {
        let body = pem
            .expose_secret()
            .trim()
            .strip_prefix("-----BEGIN PRIVATE KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PRIVATE KEY-----"))
            .ok_or(SigningKeyError::NoPem)?;
        let body = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
        let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| SigningKeyError::NoPem)?);
        Self::from_pkcs8(&der, algorithm, key_id)
    }

    /// A key in PKCS #8 DER.
    ///
    /// # Errors
    /// [`SigningKeyError`] if this is no such key for that algorithm.
    pub fn from_pkcs8(
        der: &[u8],
        algorithm: Algorithm,
        key_id: impl Into<String>,
    ) -> Result<Self, SigningKeyError> {
        let rsa = |encoding| Some(Key::Rsa(RsaKeyPair::from_pkcs8(der).ok()?, encoding));
        let key = match algorithm {
            Algorithm::ES256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok().map(Key::Ecdsa)
            }
            Algorithm::ES384 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der).ok().map(Key::Ecdsa)
            }
            Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8(der).ok().map(Key::Ed25519),
            Algorithm::RS256 => rsa(&RSA_PKCS1_SHA256),
            Algorithm::PS256 => rsa(&RSA_PSS_SHA256),
            _ => return Err(SigningKeyError::Algorithm),
        };
        let key = key.ok_or(SigningKeyError::Mismatch)?;
        Ok(Self { key_id: key_id.into(), algorithm, key })
    }

    /// The public key as a JSON Web Key (RFC 7517), to be published or registered.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.key {
            Key::Ecdsa(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                let curve = if self.algorithm == Algorithm::ES256 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
            }
            Key::Ed25519(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref()) })
            }
            Key::Rsa(key, _) => {
                let RsaPublicKeyComponents { n, e } =
                    RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "n": text(&n), "e": text(&e) })
            }
        };
        jwk["kid"] = json!(self.key_id);
        jwk["alg"] = json!(format!("{:?}", self.algorithm));
        jwk["use"] = json!("sig");
        jwk
    }

    /// Signs a token of type `token_type` (RFC 7515 section 7.1).
    ///
    /// # Panics
    /// If the system has no randomness to give.
    #[must_use]
    pub fn sign(&self, token_type: &str, claims: &Map<String, Value>) -> String {
        let header = json!({
            "typ": token_type, "alg": format!("{:?}", self.algorithm), "kid": self.key_id,
        });
        let claims = Value::Object(claims.clone()).to_string();
        let mut token =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Ecdsa(key) => {
                let signature = key.sign(&random, token.as_bytes()).expect("the system gives randomness");
                signature.as_ref().to_vec()
            }
            Key::Ed25519(key) => key.sign(token.as_bytes()).as_ref().to_vec(),
            Key::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, token.as_bytes(), &mut signature)
                    .expect("the signature is as long as the modulus");
                signature
            }
        };
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        token
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Why a private key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// No PKCS #8 in PEM.
    #[error("this is no PEM block `PRIVATE KEY`: convert the key with `openssl pkcs8 -topk8 -nocrypt`")]
    NoPem,
    /// An algorithm that is not for signing here.
    #[error("keys sign with ES256, ES384, EdDSA, RS256 or PS256")]
    Algorithm,
    /// The key is of another type than the algorithm, too weak, or broken.
    #[error("the key does not fit the algorithm")]
    Mismatch,
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;

    use super::*;
    use crate::jwt::JwkSet;
    use crate::jwt::jws::Jws;

    fn keys() -> Vec<(Algorithm, Vec<u8>)> {
        let random = SystemRandom::new();
        let ecdsa = |algorithm| EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap().as_ref().to_vec();
        let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let rsa = rsa.as_der().unwrap().as_ref().to_vec();
        vec![
            (Algorithm::ES256, ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING)),
            (Algorithm::ES384, ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING)),
            (Algorithm::EdDSA, Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref().to_vec()),
            (Algorithm::RS256, rsa.clone()),
            (Algorithm::PS256, rsa),
        ]
    }

    #[test]
    fn what_is_signed_holds_under_the_published_key() {
        for (algorithm, der) in keys() {
            let body = STANDARD.encode(&der);
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
            let key = SigningKey::from_pem(&SecretString::from(pem), algorithm, "k1").unwrap();
            let claims = json!({ "sub": "alice" });
            let token = key.sign("JWT", claims.as_object().unwrap());
            let keys = json!({ "keys": [key.public_jwk()] }).to_string();
            let keys = JwkSet::parse(keys.as_bytes()).unwrap();
            let token = Jws::parse(&token).unwrap();
            assert_eq!(token.verify(keys.find(Some("k1"), algorithm).unwrap()), Ok(()), "{algorithm:?}");
            assert_eq!(token.claims, *claims.as_object().unwrap());
        }
    }

    #[test]
    fn keys_that_do_not_fit() {
        let keys = keys();
        for (at, (algorithm, _)) in keys.iter().enumerate() {
            // The two algorithms of RSA share a key.
            let other = &keys[(at + 2) % 4].1;
            let mismatch = SigningKey::from_pkcs8(other, *algorithm, "k").err();
            assert_eq!(mismatch, Some(SigningKeyError::Mismatch), "{algorithm:?}");
        }
        let hmac = SigningKey::from_pkcs8(&keys[0].1, Algorithm::HS256, "k").err();
        assert_eq!(hmac, Some(SigningKeyError::Algorithm));
        for bad in ["", "-----BEGIN RSA PRIVATE KEY-----\nAA==\n-----END RSA PRIVATE KEY-----"] {
            let bad = SigningKey::from_pem(&SecretString::from(bad), Algorithm::ES256, "k").err();
            assert_eq!(bad, Some(SigningKeyError::NoPem));
        }
    }
}
