//! What a client sends in `Authorization: Digest` (RFC 7616 section 3.4).

use std::fmt;

use percent_encoding::percent_decode;

use super::algorithm::DigestAlgorithm;
use super::error::DigestError;
use crate::credentials::Credentials;

/// Bytes of a nonce, a client's nonce or an opaque value beyond which credentials are refused.
const NONCE_BYTES_MAX: usize = 512;
/// Bytes of a user name beyond which credentials are refused.
const USERNAME_BYTES_MAX: usize = 1024;

/// Who a client says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DigestUser {
    /// The user name in clear.
    Name(String),
    /// [`DigestAlgorithm::userhash`] of it, in lower-case hexadecimal.
    Hash(String),
}

/// The quality of protection that a request has (RFC 7616 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestQop {
    /// The method and the target are part of the digest.
    Auth,
    /// The body is, too.
    AuthInt,
}

impl DigestQop {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

/// Digest credentials, parsed and not yet checked. Made by
/// [`DigestScheme::read`](super::DigestScheme::read).
///
/// `Debug` leaves out what the client proved itself with.
#[derive(Clone)]
pub struct DigestCredentials {
    pub(super) user: DigestUser,
    pub(super) algorithm: DigestAlgorithm,
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) opaque: String,
    pub(super) uri: String,
    pub(super) qop: DigestQop,
    pub(super) cnonce: String,
    pub(super) count: u32,
    /// The count as it was sent, which is part of the digest.
    pub(super) nc: String,
    pub(super) response: String,
}

impl DigestCredentials {
    pub(super) fn parse(credentials: &Credentials<'_>) -> Result<Self, DigestError> {
        if !credentials.is("Digest") || credentials.token68().is_some() {
            return Err(DigestError::NotDigest);
        }
        let text = |name, bytes_max| text(credentials, name, bytes_max);
        // Without the parameter it is MD5, as it was in RFC 2069.
        let algorithm = match credentials.param("algorithm") {
            Some(name) => DigestAlgorithm::from_name(name).ok_or(DigestError::AlgorithmNotOffered)?,
            None => DigestAlgorithm::Md5,
        };
        let qop = match credentials.param("qop") {
            Some(b"auth") => DigestQop::Auth,
            Some(b"auth-int") => DigestQop::AuthInt,
            _ => return Err(DigestError::Param("qop")),
        };
        let nc = text("nc", 8)?;
        let count = (nc.len() == 8 && nc.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(&nc, 16).ok())
            .flatten()
            .filter(|&count| count > 0)
            .ok_or(DigestError::Param("nc"))?;
        let response = text("response", 64)?.to_ascii_lowercase();
        if response.len() != algorithm.hex_len() {
            return Err(DigestError::Param("response"));
        }
        Ok(Self {
            user: parse_user(credentials, algorithm)?,
            algorithm,
            realm: text("realm", NONCE_BYTES_MAX)?,
            nonce: text("nonce", NONCE_BYTES_MAX)?,
            opaque: text("opaque", NONCE_BYTES_MAX)?,
            uri: text("uri", usize::MAX)?,
            qop,
            cnonce: text("cnonce", NONCE_BYTES_MAX)?,
            count,
            nc,
            response,
        })
    }

    /// Who the client says that it is: the key to look up a [`DigestSecret`](super::DigestSecret).
    #[must_use]
    pub fn user(&self) -> &DigestUser {
        &self.user
    }

    /// The algorithm for which a secret is needed.
    #[must_use]
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// What the digest protects. For [`DigestQop::AuthInt`] the whole body is needed to check it.
    #[must_use]
    pub fn qop(&self) -> DigestQop {
        self.qop
    }
}

impl fmt::Debug for DigestCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestCredentials")
            .field("user", &self.user)
            .field("algorithm", &self.algorithm)
            .field("qop", &self.qop)
            .finish_non_exhaustive()
    }
}

/// A parameter that is printable ASCII and not empty.
fn text(credentials: &Credentials<'_>, name: &'static str, bytes_max: usize) -> Result<String, DigestError> {
    let value = credentials.param(name).unwrap_or_default();
    let printable = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let text = std::str::from_utf8(value).ok().filter(|_| printable);
    text.filter(|text| !text.is_empty() && text.len() <= bytes_max)
        .map(str::to_owned)
        .ok_or(DigestError::Param(name))
}

fn parse_user(credentials: &Credentials<'_>, algorithm: DigestAlgorithm) -> Result<DigestUser, DigestError> {
    let is_hash = match credentials.param("userhash") {
        Some(b"true") => true,
        Some(b"false") | None => false,
        Some(_) => return Err(DigestError::Param("userhash")),
    };
    // RFC 7616 section 3.4: one of the two, and no hash in the extended one.
    let name = match (credentials.param("username"), credentials.param("username*")) {
        (Some(name), None) => decode_plain(name),
        (None, Some(value)) if !is_hash => decode_extended(value).ok_or(DigestError::Param("username*"))?,
        _ => return Err(DigestError::Param("username")),
    };
    if name.is_empty() || name.len() > USERNAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(DigestError::Param("username"));
    }
    if !is_hash {
        return Ok(DigestUser::Name(name));
    }
    if name.len() != algorithm.hex_len() || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(DigestError::Param("username"));
    }
    Ok(DigestUser::Hash(name.to_ascii_lowercase()))
}

/// UTF-8, or else ISO-8859-1, which some clients write into headers even where they hash UTF-8.
fn decode_plain(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => name.iter().copied().map(char::from).collect(),
    }
}

/// `UTF-8'language'percent-encoded` (RFC 8187 section 3.2.1).
fn decode_extended(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?;
    let mut parts = value.splitn(3, '\'');
    let charset = parts.next()?;
    let _language = parts.next()?;
    let encoded = parts.next()?;
    let mut rest = encoded.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'%' => match tail {
                [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
                _ => return None,
            },
            // attr-char
            byte if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) => tail,
            _ => return None,
        };
    }
    let decoded = percent_decode(encoded.as_bytes()).decode_utf8().ok()?;
    charset.eq_ignore_ascii_case("UTF-8").then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_values_of_rfc_8187() {
        let decode = |value: &str| decode_extended(value.as_bytes());
        assert_eq!(decode("UTF-8''%c2%a3%20and%20%e2%82%ac%20rates").as_deref(), Some("£ and € rates"));
        assert_eq!(decode("utf-8'en'a").as_deref(), Some("a"));
        for bad in [
            "",
            "UTF-8",
            "UTF-8'",
            "UTF-8''%",
            "UTF-8''%f",
            "UTF-8''%zz",
            "UTF-8''%ff",
            "UTF-8''a b",
            "UTF-8''a'b",
            "iso-8859-1'en'%A3",
        ] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
