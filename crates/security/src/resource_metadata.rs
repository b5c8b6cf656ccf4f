//! The document by which a client learns which authorisation servers a protected resource trusts (RFC 9728).

use http::Uri;
use serde::Serialize;
use thiserror::Error;

use crate::bearer::RequiredScopes;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata of a protected resource.
///
/// It is served as `application/json` at [`path`](Self::path), and its [`url`](Self::url) is named in challenges
/// ([`BearerChallenge::with_resource_metadata`](crate::bearer::BearerChallenge::with_resource_metadata)).
///
/// ```
/// use gimmal_security::bearer::RequiredScopes;
/// use gimmal_security::resource_metadata::ResourceMetadata;
///
/// let metadata = ResourceMetadata::new("https://api.example/articles")?
///     .with_authorization_server("https://login.example")
///     .with_scopes(&RequiredScopes::new(["articles:read"])?);
/// assert_eq!(metadata.path(), "/.well-known/oauth-protected-resource/articles");
/// assert_eq!(metadata.url(), "https://api.example/.well-known/oauth-protected-resource/articles");
/// assert_eq!(
///     metadata.to_json(),
///     r#"{"resource":"https://api.example/articles","authorization_servers":["https://login.example"],"scopes_supported":["articles:read"],"bearer_methods_supported":["header"]}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResourceMetadata {
    resource: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_documentation: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_client_certificate_bound_access_tokens: bool,
}

impl ResourceMetadata {
    /// The metadata of the resource with this identifier, which is also the audience of its tokens: an `https` URL
    /// without a fragment (RFC 9728 section 1.2).
    ///
    /// # Errors
    /// [`InvalidResource`] for anything else; `http` is taken on loopback.
    pub fn new(resource: impl Into<String>) -> Result<Self, InvalidResource> {
        let resource = resource.into();
        let uri: Uri = resource.parse().map_err(|_| InvalidResource)?;
        if crate::fetch::check_address(&uri).is_err() || resource.contains('#') {
            return Err(InvalidResource);
        }
        Ok(Self {
            resource,
            authorization_servers: Vec::new(),
            scopes_supported: Vec::new(),
            bearer_methods_supported: ["header"],
            resource_name: None,
            resource_documentation: None,
            tls_client_certificate_bound_access_tokens: false,
        })
    }

    /// One more authorisation server whose tokens are taken: its issuer identifier (RFC 8414).
    #[must_use]
    pub fn with_authorization_server(mut self, issuer: impl Into<String>) -> Self {
        self.authorization_servers.push(issuer.into());
        self
    }

    /// Scopes that are used here.
    #[must_use]
    pub fn with_scopes(mut self, scopes: &RequiredScopes) -> Self {
        self.scopes_supported.extend(scopes.iter().map(str::to_owned));
        self
    }

    /// The name of the resource, for people.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.resource_name = Some(name.into());
        self
    }

    /// Where its documentation is.
    #[must_use]
    pub fn with_documentation(mut self, url: impl Into<String>) -> Self {
        self.resource_documentation = Some(url.into());
        self
    }

    /// Says that tokens have to be bound to client certificates (RFC 8705).
    #[must_use]
    pub fn with_certificate_bound_tokens(mut self) -> Self {
        self.tls_client_certificate_bound_access_tokens = true;
        self
    }

    /// The path of the document: the well-known path before that of the resource (RFC 9728 section 3.1).
    #[must_use]
    pub fn path(&self) -> String {
        format!("{WELL_KNOWN}{}", self.resource[self.path_start()..].trim_end_matches('/'))
    }

    /// The URL of the document.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{}", &self.resource[..self.path_start()], self.path())
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Where path and query begin.
    fn path_start(&self) -> usize {
        let authority_start = self.resource.find("://").map_or(0, |at| at + 3);
        self.resource[authority_start..]
            .find(['/', '?'])
            .map_or(self.resource.len(), |at| authority_start + at)
    }
}

/// A resource identifier that is no `https` URL without a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a resource identifier is an `https` URL without a fragment")]
pub struct InvalidResource;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9728 section 3.1: the examples, and a query.
    #[test]
    fn paths() {
        for (resource, path) in [
            ("https://resource.example.com", "/.well-known/oauth-protected-resource"),
            ("https://resource.example.com/", "/.well-known/oauth-protected-resource"),
            ("https://resource.example.com/resource1", "/.well-known/oauth-protected-resource/resource1"),
            ("https://resource.example.com/a?b=c", "/.well-known/oauth-protected-resource/a?b=c"),
            ("http://127.0.0.1:8080/a", "/.well-known/oauth-protected-resource/a"),
        ] {
            assert_eq!(ResourceMetadata::new(resource).unwrap().path(), path, "{resource}");
        }
        let metadata = ResourceMetadata::new("https://resource.example.com/resource1").unwrap();
        assert_eq!(
            metadata.url(),
            "https://resource.example.com/.well-known/oauth-protected-resource/resource1"
        );
    }

    #[test]
    fn no_resource_identifiers() {
        for bad in ["", "resource.example.com", "http://resource.example.com", "https://a.example/#b", "/a"] {
            assert_eq!(ResourceMetadata::new(bad), Err(InvalidResource), "{bad}");
        }
    }
}
