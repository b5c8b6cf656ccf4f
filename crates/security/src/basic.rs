//! The Basic scheme (RFC 7617): a user id and a password in every request, so for HTTPS only.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::credentials::{Challenge, Credentials, Realm};

/// Bytes of a user id, and of a password, beyond which credentials are refused.
pub const BASIC_BYTES_MAX: usize = 1024;

/// Decodes with and without padding: some clients leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why Basic credentials were refused before any password was looked at. The proper answer is 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BasicError {
    /// Another scheme, or parameters in place of a token68.
    #[error("these are no Basic credentials")]
    NotBasic,
    /// What the token68 says is no base64.
    #[error("the Basic credentials are no base64")]
    Base64,
    /// No colon between user id and password.
    #[error("the Basic credentials have no colon between user id and password")]
    ColonMissing,
    /// A control character (RFC 7617 section 2).
    #[error("the Basic credentials hold a control character")]
    ControlCharacter,
    /// A user id or a password of more than [`BASIC_BYTES_MAX`] bytes.
    #[error("the user id or the password is longer than {BASIC_BYTES_MAX} bytes")]
    TooLong,
}

/// The challenge `Basic realm="...", charset="UTF-8"` (RFC 7617 sections 2 and 2.1).
#[must_use]
pub fn basic_challenge(realm: &Realm) -> Challenge {
    Challenge::new("Basic")
        .and_then(|challenge| challenge.with_quoted("realm", realm.as_str()))
        .and_then(|challenge| challenge.with_quoted("charset", "UTF-8"))
        .expect("a realm is printable ASCII")
}

/// What a client says that it is: to be checked against the stored hash of its password, on a thread that may
/// block, by [`Passwords::verify`](crate::password::Passwords::verify).
///
/// ```
/// use gimmal_security::ExposeSecret;
/// use gimmal_security::basic::BasicCredentials;
/// use gimmal_security::credentials::Credentials;
///
/// // RFC 7617 section 2.
/// let credentials = Credentials::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")?;
/// let basic = BasicCredentials::new(&credentials)?;
/// assert_eq!(basic.user_id(), "Aladdin");
/// assert_eq!(basic.password().expose_secret(), "open sesame");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BasicCredentials {
    user_id: String,
    password: SecretString,
}

impl BasicCredentials {
    /// Reads the user id and the password.
    ///
    /// The challenge asks for UTF-8. What is not UTF-8 is read as ISO-8859-1, which older clients send without
    /// regard to the challenge.
    ///
    /// # Errors
    /// [`BasicError`], with the part that was malformed.
    pub fn new(credentials: &Credentials<'_>) -> Result<Self, BasicError> {
        let token68 =
            credentials.token68().filter(|_| credentials.is("Basic")).ok_or(BasicError::NotBasic)?;
        let bytes = Zeroizing::new(BASE64.decode(token68).map_err(|_| BasicError::Base64)?);
        let text = Zeroizing::new(match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().copied().map(char::from).collect(),
        });
        let (user_id, password) = text.split_once(':').ok_or(BasicError::ColonMissing)?;
        if user_id.len() > BASIC_BYTES_MAX || password.len() > BASIC_BYTES_MAX {
            return Err(BasicError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(BasicError::ControlCharacter);
        }
        Ok(Self { user_id: user_id.to_owned(), password: password.into() })
    }

    /// The user id, which never holds a colon and may be empty.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The password.
    #[must_use]
    pub fn password(&self) -> &SecretString {
        &self.password
    }

    /// The user id and the password, taken apart.
    #[must_use]
    pub fn into_parts(self) -> (String, SecretString) {
        (self.user_id, self.password)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn parse(value: &[u8]) -> Result<(String, String), BasicError> {
        let (user_id, password) = BasicCredentials::new(&Credentials::parse(value).unwrap())?.into_parts();
        Ok((user_id, password.expose_secret().to_owned()))
    }

    fn basic(plain: &[u8]) -> Result<(String, String), BasicError> {
        parse(format!("basic {}", BASE64.encode(plain)).as_bytes())
    }

    fn pair(user_id: &str, password: &str) -> Result<(String, String), BasicError> {
        Ok((user_id.to_owned(), password.to_owned()))
    }

    #[test]
    fn examples_of_rfc_7617() {
        assert_eq!(parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(parse(b"Basic dGVzdDoxMjPCow=="), pair("test", "123\u{a3}"));
        let realm = Realm::new("foo").unwrap();
        assert_eq!(basic_challenge(&realm).to_string(), r#"Basic realm="foo", charset="UTF-8""#);
    }

    #[test]
    fn the_first_colon_parts() {
        assert_eq!(basic(b"a:b:c"), pair("a", "b:c"));
        assert_eq!(basic(b":"), pair("", ""));
    }

    #[test]
    fn iso_8859_1_is_understood() {
        assert_eq!(basic(b"test:123\xa3"), pair("test", "123\u{a3}"));
    }

    #[test]
    fn missing_padding_is_understood() {
        assert_eq!(parse(b"Basic dGVzdDoxMjPCow"), pair("test", "123\u{a3}"));
    }

    #[test]
    fn malformed_credentials_are_refused() {
        assert_eq!(basic(b"no colon"), Err(BasicError::ColonMissing));
        assert_eq!(basic(b"a:b\r\nc"), Err(BasicError::ControlCharacter));
        assert_eq!(basic(b"a\0:b"), Err(BasicError::ControlCharacter));
        assert_eq!(basic("a:\u{85}".as_bytes()), Err(BasicError::ControlCharacter));
        assert_eq!(parse(b"Basic a"), Err(BasicError::Base64));
        assert_eq!(parse(b"Basic YTpi-"), Err(BasicError::Base64));
        assert_eq!(parse(b"Basic"), Err(BasicError::NotBasic));
        assert_eq!(parse(b"Basic realm=a"), Err(BasicError::NotBasic));
        assert_eq!(parse(b"Bearer YTpi"), Err(BasicError::NotBasic));
        assert_eq!(basic(&[b"a:", [b'x'; 1025].as_slice()].concat()), Err(BasicError::TooLong));
    }

    #[test]
    fn debug_shows_no_password() {
        let credentials = Credentials::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        let shown = format!("{:?} {credentials:?}", BasicCredentials::new(&credentials).unwrap());
        assert!(!shown.contains("sesame") && !shown.contains("QWxh"), "{shown}");
    }
}
