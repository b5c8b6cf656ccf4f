//! Bearer tokens in requests, and the challenges that ask for them (RFC 6750, RFC 9728 section 5.1).

use std::fmt;

use http::{HeaderValue, StatusCode};
use thiserror::Error;

use crate::Principal;

/// A token as it came with a request. It is not checked in any way yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BearerToken<'a>(&'a str);

impl<'a> BearerToken<'a> {
    /// Reads the value of an `Authorization` field (RFC 6750 section 2.1): `None` if it is for another scheme.
    ///
    /// Tokens in a query or a form are not read: they end in logs and histories (RFC 9700 section 4.3.2).
    ///
    /// # Errors
    /// [`MalformedBearer`] for the scheme `Bearer` without a well-formed token.
    ///
    /// ```
    /// use gimmal_security::bearer::BearerToken;
    ///
    /// let token = BearerToken::parse(b"Bearer mF_9.B5f-4.1JqM")?.unwrap();
    /// assert_eq!(token.as_str(), "mF_9.B5f-4.1JqM");
    /// assert!(BearerToken::parse(b"Basic YTpi")?.is_none());
    /// assert!(BearerToken::parse(b"Bearer two tokens").is_err());
    /// # Ok::<(), gimmal_security::bearer::MalformedBearer>(())
    /// ```
    pub fn parse(authorization: &'a [u8]) -> Result<Option<Self>, MalformedBearer> {
        let scheme_len = authorization.iter().position(|&byte| byte == b' ').unwrap_or(authorization.len());
        let (scheme, rest) = authorization.split_at(scheme_len);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Ok(None);
        }
        // Spaces alone separate, as for every reader of credentials (RFC 9110, section 11.4).
        let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
        let token = &rest[spaces..];
        let unpadded_len = token.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
        let is_b64token = unpadded_len > 0
            && token[..unpadded_len]
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte));
        match std::str::from_utf8(token) {
            Ok(token) if is_b64token => Ok(Some(Self(token))),
            _ => Err(MalformedBearer),
        }
    }

    /// The token. It is a secret: whoever has it can use it.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for BearerToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken([redacted])")
    }
}

/// `Authorization: Bearer` without one well-formed token. The answer is 400 with `invalid_request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("Authorization holds no well-formed bearer token: send `Bearer`, a space and the token")]
pub struct MalformedBearer;

/// The error codes of RFC 6750 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BearerErrorCode {
    /// The request is malformed.
    InvalidRequest,
    /// The token is expired, revoked, malformed or not for this server.
    InvalidToken,
    /// The token is good, but not for this.
    InsufficientScope,
}

impl BearerErrorCode {
    /// The status of the answer: 400, 401 or 403.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope => StatusCode::FORBIDDEN,
        }
    }

    /// The code as it stands in the challenge.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

/// A `WWW-Authenticate` challenge of the scheme `Bearer` (RFC 6750 section 3).
///
/// A request without any token is answered with a challenge without an error; after a refused token the challenge
/// names the error.
///
/// ```
/// use gimmal_security::bearer::{BearerChallenge, BearerErrorCode};
///
/// let challenge = BearerChallenge::new()
///     .with_realm("articles")?
///     .with_resource_metadata("https://api.example/.well-known/oauth-protected-resource")?;
/// assert_eq!(
///     challenge.with_error(BearerErrorCode::InvalidToken, "the token is expired").to_header_value(),
///     "Bearer realm=\"articles\", error=\"invalid_token\", error_description=\"the token is expired\", \
///      resource_metadata=\"https://api.example/.well-known/oauth-protected-resource\""
/// );
/// # Ok::<(), gimmal_security::bearer::InvalidParameter>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BearerChallenge {
    realm: Option<String>,
    scope: Option<String>,
    error: Option<(BearerErrorCode, &'static str)>,
    resource_metadata: Option<String>,
}

impl BearerChallenge {
    /// A challenge without parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the protection space (RFC 9110 section 11.5).
    ///
    /// # Errors
    /// [`InvalidParameter`] for anything but printable ASCII without `"` and `\`.
    pub fn with_realm(mut self, realm: &str) -> Result<Self, InvalidParameter> {
        self.realm = Some(quotable(realm)?);
        Ok(self)
    }

    /// Names the scopes that are needed.
    #[must_use]
    pub fn with_scopes(mut self, scopes: &RequiredScopes) -> Self {
        self.scope = Some(scopes.to_string());
        self
    }

    /// Names the protected-resource metadata document (RFC 9728 section 5.1), by which a client finds the
    /// authorisation server.
    ///
    /// # Errors
    /// [`InvalidParameter`] for anything but printable ASCII without `"` and `\`.
    pub fn with_resource_metadata(mut self, url: &str) -> Result<Self, InvalidParameter> {
        self.resource_metadata = Some(quotable(url)?);
        Ok(self)
    }

    /// The same challenge with an error. `description` is for the client's developer; the characters that RFC 6750
    /// section 3 does not allow are left out.
    #[must_use]
    pub fn with_error(&self, code: BearerErrorCode, description: &'static str) -> Self {
        Self { error: Some((code, description)), ..self.clone() }
    }

    /// The value of the `WWW-Authenticate` field.
    #[must_use]
    pub fn to_header_value(&self) -> HeaderValue {
        let mut value = String::from("Bearer");
        let mut parameter = |name: &str, text: &str| {
            value.push_str(if value.len() == "Bearer".len() { " " } else { ", " });
            value.push_str(name);
            value.push_str("=\"");
            value.extend(text.chars().filter(|&character| is_quotable(character)));
            value.push('"');
        };
        if let Some(realm) = &self.realm {
            parameter("realm", realm);
        }
        if let Some(scope) = &self.scope {
            parameter("scope", scope);
        }
        if let Some((code, description)) = self.error {
            parameter("error", code.as_str());
            parameter("error_description", description);
        }
        if let Some(url) = &self.resource_metadata {
            parameter("resource_metadata", url);
        }
        // What is no printable ASCII was left out above, so this cannot fail.
        HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// The characters of `error_description` in RFC 6750 section 3, which need no escape in a quoted string.
fn is_quotable(character: char) -> bool {
    matches!(character, ' '..='~') && !matches!(character, '"' | '\\')
}

fn quotable(text: &str) -> Result<String, InvalidParameter> {
    if text.chars().all(is_quotable) { Ok(text.to_owned()) } else { Err(InvalidParameter) }
}

/// A challenge parameter or a scope with a character that it may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("only printable ASCII without `\"` and `\\` may stand here (and no space in a scope)")]
pub struct InvalidParameter;

/// The scopes that a route asks for; a principal needs all of them.
///
/// ```
/// use gimmal_security::{Mechanism, Principal, bearer::{BearerChallenge, RequiredScopes}};
///
/// let needed = RequiredScopes::new(["articles:read", "articles:write"])?;
/// let reader = Principal::new("alice", Mechanism::Bearer, 0).with_scope("articles:read");
/// let refusal = needed.check(&reader).unwrap_err();
/// assert_eq!(
///     refusal.challenge(&BearerChallenge::new()).to_header_value(),
///     "Bearer scope=\"articles:read articles:write\", error=\"insufficient_scope\", \
///      error_description=\"the token lacks a scope that is needed here\""
/// );
/// assert!(needed.check(&reader.with_scope("articles:write")).is_ok());
/// # Ok::<(), gimmal_security::bearer::InvalidParameter>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredScopes(Vec<String>);

impl RequiredScopes {
    /// The scopes, each a scope-token of RFC 6749 section 3.3.
    ///
    /// # Errors
    /// [`InvalidParameter`] if one is empty or has a forbidden character.
    pub fn new<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, InvalidParameter> {
        let scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
        let is_token =
            |scope: &String| !scope.is_empty() && scope.chars().all(|c| c != ' ' && is_quotable(c));
        if scopes.iter().all(is_token) { Ok(Self(scopes)) } else { Err(InvalidParameter) }
    }

    /// The scopes, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Checks that the principal has them all.
    ///
    /// # Errors
    /// [`InsufficientScope`] if it lacks one.
    pub fn check(&self, principal: &Principal) -> Result<(), InsufficientScope> {
        if self.iter().all(|scope| principal.has_scope(scope)) {
            Ok(())
        } else {
            Err(InsufficientScope { needed: self.clone() })
        }
    }
}

impl fmt::Display for RequiredScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// A principal without a scope that a route needs: 403.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the scopes `{needed}` are needed: ask the authorisation server for them")]
pub struct InsufficientScope {
    needed: RequiredScopes,
}

impl InsufficientScope {
    /// The challenge of the 403 answer, which names the scopes.
    #[must_use]
    pub fn challenge(&self, base: &BearerChallenge) -> BearerChallenge {
        base.clone()
            .with_scopes(&self.needed)
            .with_error(BearerErrorCode::InsufficientScope, "the token lacks a scope that is needed here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6750 section 2.1.
    #[test]
    fn parses_the_authorization_field() {
        for good in ["Bearer abc", "bearer abc", "BEARER   abc", "Bearer abc=="] {
            let token = BearerToken::parse(good.as_bytes()).unwrap().unwrap();
            assert_eq!(token.as_str().trim_end_matches('='), "abc", "{good}");
        }
        for other in ["Basic abc", "Bearerabc", "", "DPoP abc", " Bearer abc"] {
            assert_eq!(BearerToken::parse(other.as_bytes()), Ok(None), "{other}");
        }
        for bad in [
            "Bearer",
            "Bearer ",
            "Bearer \tabc",
            "Bearer abc\t",
            "Bearer ==",
            "Bearer a b",
            "Bearer a=b",
            "Bearer \"a\"",
            "Bearer a,b",
        ] {
            assert_eq!(BearerToken::parse(bad.as_bytes()), Err(MalformedBearer), "{bad}");
        }
        assert_eq!(BearerToken::parse(b"Bearer \xff"), Err(MalformedBearer));
    }

    #[test]
    fn a_token_does_not_print() {
        let token = BearerToken::parse(b"Bearer hunter2").unwrap();
        assert!(!format!("{token:?}").contains("hunter2"));
    }

    /// RFC 6750 section 3: the examples.
    #[test]
    fn challenges() {
        let base = BearerChallenge::new().with_realm("example").unwrap();
        assert_eq!(base.to_header_value(), "Bearer realm=\"example\"");
        assert_eq!(
            base.with_error(BearerErrorCode::InvalidToken, "The access token expired").to_header_value(),
            "Bearer realm=\"example\", error=\"invalid_token\", error_description=\"The access token expired\""
        );
        assert_eq!(BearerChallenge::new().to_header_value(), "Bearer");
    }

    #[test]
    fn header_injection_through_a_parameter() {
        for bad in ["a\"b", "a\\b", "a\r\nSet-Cookie: x=1", "\u{e9}"] {
            assert_eq!(BearerChallenge::new().with_realm(bad), Err(InvalidParameter), "{bad}");
            assert_eq!(RequiredScopes::new([bad]), Err(InvalidParameter), "{bad}");
        }
        assert_eq!(RequiredScopes::new(["a b"]), Err(InvalidParameter));
        let value = BearerChallenge::new()
            .with_error(BearerErrorCode::InvalidRequest, "a\"\r\n, realm=\"b")
            .to_header_value();
        assert_eq!(value, "Bearer error=\"invalid_request\", error_description=\"a, realm=b\"");
    }
}
