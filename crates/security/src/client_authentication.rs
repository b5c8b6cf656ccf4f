//! How this server proves to an authorisation server which client it is (RFC 6749 section 2.3, RFC 7523 section 2.2).

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderValue, Request, Uri, header};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::FetchError;
use crate::jwt::SigningKey;

/// An assertion is used at once; this is for clocks that differ.
const ASSERTION_SECONDS: u64 = 60;

/// A client of an authorisation server, and how it authenticates itself.
///
/// ```
/// use gimmal_security::SecretString;
/// use gimmal_security::client_authentication::ClientAuthentication;
///
/// let client = ClientAuthentication::basic("shop", SecretString::from("from the vault"));
/// assert_eq!(client.client_id(), "shop");
/// assert!(!format!("{client:?}").contains("vault"));
/// ```
#[derive(Debug)]
pub struct ClientAuthentication {
    client_id: String,
    method: Method,
}

enum Method {
    /// `none`
    Public,
    /// `client_secret_basic`
    Basic(SecretString),
    /// `client_secret_post`
    Post(SecretString),
    /// `private_key_jwt`
    PrivateKeyJwt(Box<SigningKey>),
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "none",
            Self::Basic(_) => "client_secret_basic",
            Self::Post(_) => "client_secret_post",
            Self::PrivateKeyJwt(_) => "private_key_jwt",
        })
    }
}

impl ClientAuthentication {
    /// A client without a secret. Servers keep secrets; this is for a provider that gives none.
    #[must_use]
    pub fn public(client_id: impl Into<String>) -> Self {
        Self { client_id: client_id.into(), method: Method::Public }
    }

    /// `client_secret_basic`: the secret in the `Authorization` field (RFC 6749 section 2.3.1).
    #[must_use]
    pub fn basic(client_id: impl Into<String>, secret: SecretString) -> Self {
        Self { client_id: client_id.into(), method: Method::Basic(secret) }
    }

    /// `client_secret_post`: the secret in the form, for servers that take it nowhere else.
    #[must_use]
    pub fn post(client_id: impl Into<String>, secret: SecretString) -> Self {
        Self { client_id: client_id.into(), method: Method::Post(secret) }
    }

    /// `private_key_jwt`: a signed assertion (RFC 7523 section 2.2). No secret is shared, and none is sent.
    #[must_use]
    pub fn private_key_jwt(client_id: impl Into<String>, key: SigningKey) -> Self {
        Self { client_id: client_id.into(), method: Method::PrivateKeyJwt(Box::new(key)) }
    }

    /// The client's id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// A POST of a form to `endpoint` that is authenticated as this client. `audience` is the authorisation server's
    /// name.
    pub(crate) fn post_form(
        &self,
        endpoint: &Uri,
        audience: &str,
        form: &[(&str, &str)],
        now: u64,
    ) -> Result<Request<Vec<u8>>, FetchError> {
        let mut form: Vec<(&str, &str)> = form.to_vec();
        let mut authorization = None;
        let assertion;
        match &self.method {
            Method::Public => form.push(("client_id", &self.client_id)),
            Method::Basic(secret) => {
                authorization = Some(basic_credentials(&self.client_id, secret.expose_secret()));
            }
            Method::Post(secret) => {
                form.push(("client_id", &self.client_id));
                form.push(("client_secret", secret.expose_secret()));
            }
            Method::PrivateKeyJwt(key) => {
                assertion = self.assertion(key, audience, now);
                form.push(("client_id", &self.client_id));
                form.push((
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ));
                form.push(("client_assertion", &assertion));
            }
        }
        let unusable = || FetchError::Document("the request cannot be made");
        let body = serde_urlencoded::to_string(&form).map_err(|_| unusable())?;
        let mut request = Request::post(endpoint.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(body.into_bytes())
            .map_err(|_| unusable())?;
        if let Some(authorization) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    fn assertion(&self, key: &SigningKey, audience: &str, now: u64) -> String {
        let mut token_id = [0; 16];
        rand::fill(&mut token_id).expect("the system gives randomness");
        let claims = json!({
            "iss": self.client_id, "sub": self.client_id, "aud": audience,
            "jti": URL_SAFE_NO_PAD.encode(token_id), "iat": now, "exp": now + ASSERTION_SECONDS,
        });
        claims.as_object().map(|claims| key.sign("JWT", claims)).unwrap_or_default()
    }
}

/// RFC 6749 section 2.3.1: both parts are form-encoded first.
fn basic_credentials(client_id: &str, secret: &str) -> HeaderValue {
    let encode = |text: &str| {
        let pair = serde_urlencoded::to_string([("", text)]).unwrap_or_default();
        Zeroizing::new(pair.trim_start_matches('=').to_owned())
    };
    let credentials = Zeroizing::new(format!("{}:{}", *encode(client_id), *encode(secret)));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials.as_bytes())))
        .unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(client: &ClientAuthentication) -> (Option<String>, String) {
        let endpoint = Uri::from_static("https://login.example/token");
        let request = client.post_form(&endpoint, "https://login.example", &[("a", "b c")], 100).unwrap();
        let authorization = request.headers().get(header::AUTHORIZATION);
        assert!(authorization.is_none_or(HeaderValue::is_sensitive));
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        (authorization, String::from_utf8(request.into_body()).unwrap())
    }

    /// RFC 6749 section 2.3.1: the example, and a secret that has to be encoded.
    #[test]
    fn client_secret_basic() {
        let secret = SecretString::from("7Fjfp0ZBr1KtDRbnfVdmIw");
        let (authorization, body) = request(&ClientAuthentication::basic("s6BhdRkqt3", secret));
        assert_eq!(authorization.unwrap(), "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3");
        assert_eq!(body, "a=b+c");
        let (authorization, _) = request(&ClientAuthentication::basic("a:b", SecretString::from("=%& é")));
        assert_eq!(authorization.unwrap(), format!("Basic {}", STANDARD.encode("a%3Ab:%3D%25%26+%C3%A9")));
    }

    #[test]
    fn client_secret_post_and_none() {
        let (authorization, body) = request(&ClientAuthentication::post("shop", SecretString::from("a&b")));
        assert_eq!((authorization, body.as_str()), (None, "a=b+c&client_id=shop&client_secret=a%26b"));
        let (authorization, body) = request(&ClientAuthentication::public("shop"));
        assert_eq!((authorization, body.as_str()), (None, "a=b+c&client_id=shop"));
    }

    /// RFC 7523 section 3.
    #[test]
    fn private_key_jwt() {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let der = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let key = SigningKey::from_pkcs8(der.as_ref(), jsonwebtoken::Algorithm::EdDSA, "k1").unwrap();
        let client = ClientAuthentication::private_key_jwt("shop", key);
        let claims = || {
            let (authorization, body) = request(&client);
            assert_eq!(authorization, None);
            let form: std::collections::HashMap<String, String> = serde_urlencoded::from_str(&body).unwrap();
            let payload = form["client_assertion"].split('.').nth(1).unwrap();
            let json = URL_SAFE_NO_PAD.decode(payload).unwrap();
            serde_json::from_slice::<serde_json::Value>(&json).unwrap()
        };
        let (first, second) = (claims(), claims());
        for (name, value) in [("iss", "shop"), ("sub", "shop"), ("aud", "https://login.example")] {
            assert_eq!(first[name], value);
        }
        assert_eq!((&first["iat"], &first["exp"]), (&json!(100), &json!(160)));
        assert_ne!(first["jti"], second["jti"]);
    }
}
