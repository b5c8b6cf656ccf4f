//! What an authorisation server says of itself (RFC 8414, OpenID Connect Discovery 1.0).

use http::Uri;
use serde::Deserialize;

use crate::fetch::{check_address, get_json};
use crate::jwt::{KeySource, RemoteKeysOptions};
use crate::{FetchError, HttpFetch};

/// The metadata of an authorisation server: where its endpoints are, and what it can do.
///
/// ```
/// # use gimmal_security::{FetchError, HttpFetch, discovery::ServerMetadata, jwt::Issuer};
/// # async fn example(fetch: &impl HttpFetch) -> Result<(), FetchError> {
/// let server = ServerMetadata::discover_openid("https://login.example", fetch).await?;
/// let issuer = Issuer::new(server.issuer(), "https://api.example", server.keys()?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct ServerMetadata {
    issuer: String,
    jwks_uri: Option<String>,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
}

impl ServerMetadata {
    /// Fetches the document of an OpenID provider (OpenID Connect Discovery 1.0 section 4).
    ///
    /// # Errors
    /// [`FetchError`] if there is no such document, or it is of another server.
    pub async fn discover_openid<F: HttpFetch>(issuer: &str, fetch: &F) -> Result<Self, FetchError> {
        let issuer_without_slash = issuer.strip_suffix('/').unwrap_or(issuer);
        Self::fetch(issuer, &format!("{issuer_without_slash}/.well-known/openid-configuration"), fetch).await
    }

    /// Fetches the document of an OAuth 2 authorisation server (RFC 8414 section 3.1).
    ///
    /// # Errors
    /// [`FetchError`] if there is no such document, or it is of another server.
    pub async fn discover_oauth<F: HttpFetch>(issuer: &str, fetch: &F) -> Result<Self, FetchError> {
        let authority_start = issuer.find("://").map_or(0, |at| at + 3);
        let path_start = issuer[authority_start..].find('/').map_or(issuer.len(), |at| authority_start + at);
        let (origin, path) = issuer.split_at(path_start);
        let path = path.trim_end_matches('/');
        Self::fetch(issuer, &format!("{origin}/.well-known/oauth-authorization-server{path}"), fetch).await
    }

    async fn fetch<F: HttpFetch>(issuer: &str, address: &str, fetch: &F) -> Result<Self, FetchError> {
        let (_, document) = get_json(fetch, &safe_address(address)?).await?;
        Self::parse(issuer, &document)
    }

    /// Reads a document that was got elsewhere.
    ///
    /// # Errors
    /// [`FetchError::Document`] if it is no such document or of another server than `issuer`, which is compared
    /// character by character (RFC 8414 section 3.3); [`FetchError::Insecure`] if an endpoint is neither `https` nor on
    /// loopback.
    pub fn parse(issuer: &str, document: &[u8]) -> Result<Self, FetchError> {
        let metadata: Self = serde_json::from_slice(document)
            .map_err(|_| FetchError::Document("no metadata of an authorisation server"))?;
        if metadata.issuer != issuer {
            return Err(FetchError::Document("the metadata are those of another issuer"));
        }
        let addresses = [
            &metadata.jwks_uri,
            &metadata.authorization_endpoint,
            &metadata.token_endpoint,
            &metadata.introspection_endpoint,
            &metadata.userinfo_endpoint,
            &metadata.end_session_endpoint,
        ];
        for address in addresses.into_iter().flatten() {
            safe_address(address)?;
        }
        Ok(metadata)
    }

    /// The issuer identifier, as it stands in `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The server's keys, with the usual options.
    ///
    /// # Errors
    /// [`FetchError::Document`] if the server names no key set.
    pub fn keys(&self) -> Result<KeySource, FetchError> {
        let address = self.jwks_uri.as_deref().ok_or(FetchError::Document("the server names no key set"))?;
        KeySource::remote(address, RemoteKeysOptions::default())
    }

    /// Where users log in.
    #[must_use]
    pub fn authorization_endpoint(&self) -> Option<&str> {
        self.authorization_endpoint.as_deref()
    }

    /// Where codes and refresh tokens become tokens.
    #[must_use]
    pub fn token_endpoint(&self) -> Option<&str> {
        self.token_endpoint.as_deref()
    }

    /// Where opaque tokens are judged.
    #[must_use]
    pub fn introspection_endpoint(&self) -> Option<&str> {
        self.introspection_endpoint.as_deref()
    }

    /// Where more is said of a user.
    #[must_use]
    pub fn userinfo_endpoint(&self) -> Option<&str> {
        self.userinfo_endpoint.as_deref()
    }

    /// Where users log out.
    #[must_use]
    pub fn end_session_endpoint(&self) -> Option<&str> {
        self.end_session_endpoint.as_deref()
    }

    /// Whether each authorisation response names its issuer (RFC 9207).
    #[must_use]
    pub fn names_issuer_in_responses(&self) -> bool {
        self.authorization_response_iss_parameter_supported
    }

    /// Whether the server says that it checks PKCE with S256. Many that do say nothing.
    #[must_use]
    pub fn supports_pkce_s256(&self) -> Option<bool> {
        let methods = self.code_challenge_methods_supported.as_ref()?;
        Some(methods.iter().any(|method| method == "S256"))
    }
}

/// An address that may be asked.
pub(crate) fn safe_address(address: &str) -> Result<Uri, FetchError> {
    let uri: Uri = address.parse().map_err(|_| FetchError::Insecure)?;
    check_address(&uri)?;
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn document(issuer: &str, extra: &str) -> Vec<u8> {
        format!(r#"{{"issuer":"{issuer}"{extra}}}"#).into_bytes()
    }

    /// RFC 8414 section 3.1 and OpenID Connect Discovery 1.0 section 4: where the documents are.
    #[tokio::test]
    async fn addresses() {
        struct Named(&'static str, &'static str);
        impl HttpFetch for Named {
            async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
                assert_eq!(request.uri(), self.1);
                Ok(Response::new(document(self.0, "")))
            }
        }
        for (issuer, openid, oauth) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/issuer1/",
                "https://a.example/issuer1/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/issuer1",
            ),
        ] {
            let found = ServerMetadata::discover_openid(issuer, &Named(issuer, openid)).await.unwrap();
            assert_eq!(found.issuer(), issuer);
            ServerMetadata::discover_oauth(issuer, &Named(issuer, oauth)).await.unwrap();
        }
    }

    #[test]
    fn metadata_of_an_impostor() {
        for other in ["https://evil.example", "https://a.example/", "https://A.example"] {
            let verdict = ServerMetadata::parse("https://a.example", &document(other, ""));
            assert!(matches!(verdict, Err(FetchError::Document(_))), "{other}");
        }
        for name in ["jwks_uri", "token_endpoint", "authorization_endpoint", "userinfo_endpoint"] {
            for address in ["http://a.example/x", "javascript:alert(1)", "/x", "file:///etc/passwd"] {
                let extra = format!(r#","{name}":"{address}""#);
                let verdict =
                    ServerMetadata::parse("https://a.example", &document("https://a.example", &extra));
                assert_eq!(verdict.err(), Some(FetchError::Insecure), "{name} {address}");
            }
        }
    }
}
