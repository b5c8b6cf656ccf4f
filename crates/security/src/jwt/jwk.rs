//! Keys that check signatures (RFC 7517, RFC 7518 section 6, RFC 8037).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use secrecy::{ExposeSecret, SecretSlice};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::jws;

/// Keys in a set that are looked at; an honest set has a handful.
const KEYS_MAX: usize = 128;

/// One key, for one algorithm or for one family of them.
pub(crate) struct Jwk {
    key_id: Option<String>,
    algorithm: Option<Algorithm>,
    family: AlgorithmFamily,
    /// The one algorithm that goes with the curve.
    curve_algorithm: Option<Algorithm>,
    key: DecodingKey,
}

impl Jwk {
    /// Whether this key is meant for `algorithm`: its family always decides, and its `alg` and curve if it has them.
    /// So no public key can serve as the secret of an HMAC.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.family == algorithm.family()
            && self.algorithm.is_none_or(|own| own == algorithm)
            && self.curve_algorithm.is_none_or(|own| own == algorithm)
    }

    pub(super) fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }
}

/// A set of keys (RFC 7517 section 5).
///
/// ```
/// use gimmal_security::jwt::JwkSet;
///
/// let keys = JwkSet::parse(br#"{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"2026",
///     "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#)?;
/// assert_eq!(keys.len(), 1);
/// # Ok::<(), gimmal_security::jwt::JwkSetError>(())
/// ```
pub struct JwkSet(Vec<Jwk>);

impl JwkSet {
    /// Reads a set of public keys.
    ///
    /// Keys that cannot check a signature here are left out, as RFC 7517 section 5 asks: of an unknown type or curve,
    /// for encryption, RSA below 2048 bits. So are symmetric keys: a secret has no place in a public document.
    ///
    /// # Errors
    /// [`JwkSetError::Malformed`] if this is no set, [`JwkSetError::Empty`] if no key of it can be used.
    pub fn parse(json: &[u8]) -> Result<Self, JwkSetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(json).map_err(|_| JwkSetError::Malformed)?;
        let keys: Vec<Jwk> = document.keys.into_iter().take(KEYS_MAX).filter_map(public_key).collect();
        if keys.is_empty() { Err(JwkSetError::Empty) } else { Ok(Self(keys)) }
    }

    /// The one secret that an issuer shares with this server, for `HS256` (or `HS384`, `HS512`). Whoever checks such
    /// tokens can also make them: prefer public keys. The issuer must also be told to accept the algorithm:
    /// [`Issuer::with_algorithms`](super::Issuer::with_algorithms).
    ///
    /// # Errors
    /// [`JwkSetError::WeakSecret`] for a secret shorter than the hash (RFC 7518 section 3.2) or another algorithm.
    pub fn from_shared_secret(secret: &SecretSlice<u8>, algorithm: Algorithm) -> Result<Self, JwkSetError> {
        let secret = secret.expose_secret();
        let secret_len_min = match algorithm {
            Algorithm::HS256 => 32,
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => return Err(JwkSetError::WeakSecret),
        };
        if secret.len() < secret_len_min {
            return Err(JwkSetError::WeakSecret);
        }
        Ok(Self(vec![Jwk {
            key_id: None,
            algorithm: Some(algorithm),
            family: AlgorithmFamily::Hmac,
            curve_algorithm: None,
            key: decoding_key(|| DecodingKey::from_secret(secret)),
        }]))
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key: never so for a set that was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key for a token. With a `kid`, the key of that name; a key without a name, or a token without one, fits
    /// only if there is no choice.
    pub(super) fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Option<&Jwk> {
        let mut fitting = self.0.iter().filter(|key| key.is_for(algorithm));
        let named = match key_id {
            Some(key_id) => fitting.clone().find(|key| key.key_id.as_deref() == Some(key_id)),
            None => None,
        };
        let only = |key: &&Jwk| key_id.is_none() || key.key_id.is_none();
        named.or_else(|| match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key).filter(only),
            _ => None,
        })
    }
}

impl fmt::Debug for JwkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.key_id.as_deref().unwrap_or("-"))).finish()
    }
}

/// Why a key set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwkSetError {
    /// Not an object with an array `keys`.
    #[error("this is no JSON Web Key Set")]
    Malformed,
    /// No key in it can check a signature.
    #[error("the key set has no key that can check a signature: RSA from 2048 bits, P-256, P-384 or Ed25519")]
    Empty,
    /// A shared secret that is too short for its algorithm.
    #[error(
        "a shared secret is for HS256, HS384 or HS512, and at least as long as the hash: 32, 48 or 64 bytes"
    )]
    WeakSecret,
}

#[derive(Deserialize)]
struct Parameters {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// A public key for signatures, or `None` if this is something else.
fn public_key(value: Value) -> Option<Jwk> {
    let parameters: Parameters = serde_json::from_value(value).ok()?;
    let Parameters { kty, kid, alg, usage, key_ops, crv, x, y, n, e } = parameters;
    let is_for_signatures = usage.is_none_or(|usage| usage == "sig")
        && key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    if !is_for_signatures {
        return None;
    }
    let algorithm = match alg {
        Some(name) => Some(jws::algorithm(&name)?),
        None => None,
    };
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    let (family, curve_algorithm, key) = match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (bytes(n)?, bytes(e)?);
            let modulus_len = n.iter().skip_while(|&&byte| byte == 0).count();
            if !(256..=1024).contains(&modulus_len) {
                return None;
            }
            (AlgorithmFamily::Rsa, None, decoding_key(|| DecodingKey::from_rsa_raw_components(&n, &e)))
        }
        ("EC", Some(curve @ ("P-256" | "P-384"))) => {
            let (algorithm, coordinate_len) =
                if curve == "P-256" { (Algorithm::ES256, 32) } else { (Algorithm::ES384, 48) };
            let (x, y) = (bytes(x)?, bytes(y)?);
            if x.len() != coordinate_len || y.len() != coordinate_len {
                return None;
            }
            // An uncompressed point (SEC 1 section 2.3.3).
            let point = [&[4], &x[..], &y[..]].concat();
            (AlgorithmFamily::Ec, Some(algorithm), decoding_key(|| DecodingKey::from_ec_der(&point)))
        }
        ("OKP", Some("Ed25519")) => {
            let x = bytes(x).filter(|x| x.len() == 32)?;
            (AlgorithmFamily::Ed, Some(Algorithm::EdDSA), decoding_key(|| DecodingKey::from_ed_der(&x)))
        }
        _ => return None,
    };
    let jwk = Jwk { key_id: kid, algorithm, family, curve_algorithm, key };
    // A key whose `alg` contradicts its type serves for nothing.
    algorithm.is_none_or(|algorithm| jwk.is_for(algorithm)).then_some(jwk)
}

/// Makes a key, and sees to it that a back end is chosen by the time it is used: if another crate switches on
/// `jsonwebtoken`'s other back end, it would not choose by itself.
fn decoding_key(make: impl FnOnce() -> DecodingKey) -> DecodingKey {
    // An error means that the program has chosen already.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    make()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn set(keys: &Value) -> Result<JwkSet, JwkSetError> {
        JwkSet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn ed25519(key_id: &str) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": key_id, "x": X })
    }

    /// RFC 7517 section 5: what is not understood is left out.
    #[test]
    fn unusable_keys_are_left_out() {
        let weak_rsa = json!({ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xff; 128]) });
        let unusable = [
            weak_rsa,
            json!({ "kty": "RSA", "e": "AQAB", "n": "" }),
            json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32]) }),
            json!({ "kty": "EC", "crv": "P-521", "x": X, "y": X }),
            json!({ "kty": "EC", "crv": "P-256", "x": X, "y": "AA" }),
            json!({ "kty": "OKP", "crv": "X25519", "x": X }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "use": "enc" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "alg": "RS256" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "key_ops": ["sign"] }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "A".repeat(44) }),
            json!({ "kty": "new" }),
            json!(7),
        ];
        for key in &unusable {
            assert_eq!(set(&json!([key])).err(), Some(JwkSetError::Empty), "{key}");
        }
        let mut keys = unusable.to_vec();
        keys.push(ed25519("a"));
        assert_eq!(set(&json!(keys)).unwrap().len(), 1);
    }

    #[test]
    fn malformed_sets() {
        for bad in ["", "[]", "{}", r#"{"keys":{}}"#, "\u{feff}{\"keys\":[]}"] {
            assert_eq!(JwkSet::parse(bad.as_bytes()).err(), Some(JwkSetError::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_name_or_without_choice() {
        let find = |keys: &JwkSet, key_id| {
            keys.find(key_id, Algorithm::EdDSA).map(|key| key.key_id.clone().unwrap_or_default())
        };
        let two = set(&json!([ed25519("a"), ed25519("b")])).unwrap();
        assert_eq!(find(&two, Some("b")).as_deref(), Some("b"));
        assert_eq!(find(&two, Some("c")), None);
        assert_eq!(find(&two, None), None);
        assert!(two.find(Some("a"), Algorithm::RS256).is_none());
        let one = set(&json!([ed25519("a")])).unwrap();
        assert_eq!(find(&one, None).as_deref(), Some("a"));
        assert_eq!(find(&one, Some("c")), None);
        let nameless = set(&json!([{ "kty": "OKP", "crv": "Ed25519", "x": X }])).unwrap();
        assert_eq!(find(&nameless, Some("c")).as_deref(), Some(""));
    }

    /// RFC 7518 section 3.2.
    #[test]
    fn weak_shared_secret() {
        let secret = |len| SecretSlice::from(vec![7; len]);
        for (algorithm, len) in [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)] {
            assert!(JwkSet::from_shared_secret(&secret(len), algorithm).is_ok());
            let weak = JwkSet::from_shared_secret(&secret(len - 1), algorithm);
            assert_eq!(weak.err(), Some(JwkSetError::WeakSecret));
        }
        let wrong = JwkSet::from_shared_secret(&secret(64), Algorithm::RS256);
        assert_eq!(wrong.err(), Some(JwkSetError::WeakSecret));
    }
}
