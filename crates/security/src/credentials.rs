//! The grammar that `WWW-Authenticate` and `Authorization` share: a scheme, then a token68 or parameters (RFC 9110
//! sections 11.2 to 11.4).

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

/// Parameters that one challenge, or one set of credentials, may have.
pub const PARAMS_MAX: usize = 32;

/// Why a value of `Authorization` or `WWW-Authenticate` was refused. The proper answer is 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The value does not begin with a token that names a scheme.
    #[error("the authentication scheme is missing or is no token")]
    Scheme,
    /// What follows the scheme is neither a token68 nor a list of `name=value`.
    #[error("what follows the authentication scheme is neither a token68 nor a list of parameters")]
    Params,
    /// A quoted string that is not closed, or holds a control character.
    #[error("a quoted string is not closed or holds a control character")]
    QuotedString,
    /// A name that is given twice.
    #[error("an authentication parameter is given more than once")]
    ParamRepeated,
    /// More than [`PARAMS_MAX`] parameters.
    #[error("more than {PARAMS_MAX} authentication parameters")]
    TooManyParams,
}

/// Credentials as a client sends them, parsed and not yet checked. A challenge has the same form, and
/// [`parse_challenges`] gives each as one of these.
///
/// `Debug` shows the scheme only, as the rest is secret.
///
/// ```
/// use gimmal_security::credentials::Credentials;
///
/// let bearer = Credentials::parse(b"Bearer mF_9.B5f-4.1JqM")?;
/// assert!(bearer.is("bearer"));
/// assert_eq!(bearer.token68(), Some("mF_9.B5f-4.1JqM"));
///
/// let digest = Credentials::parse(br#"Digest username="M\"ufasa", nc=00000001"#)?;
/// assert_eq!(digest.param("Username"), Some(&b"M\"ufasa"[..]));
/// # Ok::<(), gimmal_security::credentials::CredentialsError>(())
/// ```
#[derive(Clone)]
pub struct Credentials<'a> {
    scheme: &'a str,
    token68: Option<&'a str>,
    params: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl<'a> Credentials<'a> {
    /// Parses the value of an `Authorization` field. White space at either end is not part of a field value and is
    /// passed over.
    ///
    /// # Errors
    /// [`CredentialsError`], with the part of the grammar that was broken.
    pub fn parse(value: &'a [u8]) -> Result<Self, CredentialsError> {
        let mut cursor = Cursor { rest: trim_white_space(value) };
        let mut credentials = Self::parse_scheme(&mut cursor)?;
        if cursor.rest.is_empty() {
            return Ok(credentials);
        }
        cursor.space()?;
        if let Some(token68) = cursor.token68_before(<[u8]>::is_empty) {
            credentials.token68 = Some(token68);
            return Ok(credentials);
        }
        loop {
            cursor.skip_commas();
            if cursor.rest.is_empty() {
                break;
            }
            let name = cursor.token().ok_or(CredentialsError::Params)?;
            credentials.parse_param(name, &mut cursor)?;
        }
        if credentials.params.is_empty() { Err(CredentialsError::Params) } else { Ok(credentials) }
    }

    fn parse_scheme(cursor: &mut Cursor<'a>) -> Result<Self, CredentialsError> {
        let scheme = cursor.token().ok_or(CredentialsError::Scheme)?;
        Ok(Self { scheme, token68: None, params: Vec::new() })
    }

    /// Takes `BWS "=" BWS ( token / quoted-string )`, and the end of the list element.
    fn parse_param(&mut self, name: &'a str, cursor: &mut Cursor<'a>) -> Result<(), CredentialsError> {
        cursor.equals().ok_or(CredentialsError::Params)?;
        let value = if cursor.rest.first() == Some(&b'"') {
            cursor.quoted_string()?
        } else {
            Cow::Borrowed(cursor.token().ok_or(CredentialsError::Params)?.as_bytes())
        };
        cursor.skip_white_space();
        if !matches!(cursor.rest.first(), None | Some(b',')) {
            return Err(CredentialsError::Params);
        }
        if self.param(name).is_some() {
            return Err(CredentialsError::ParamRepeated);
        }
        if self.params.len() == PARAMS_MAX {
            return Err(CredentialsError::TooManyParams);
        }
        self.params.push((name, value));
        Ok(())
    }

    /// The scheme, as it was sent.
    #[must_use]
    pub fn scheme(&self) -> &'a str {
        self.scheme
    }

    /// Whether the scheme is `scheme`; case does not matter (RFC 9110 section 11.1).
    #[must_use]
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The token68, if there is one instead of parameters.
    #[must_use]
    pub fn token68(&self) -> Option<&'a str> {
        self.token68
    }

    /// The value of a parameter, without quotes and escapes; the case of the name does not matter. It may hold
    /// bytes beyond ASCII.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        self.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// All parameters, in the order in which they were sent.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, &[u8])> {
        self.params.iter().map(|(name, value)| (*name, &**value))
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// Parses the value of a `WWW-Authenticate` field, which may hold several challenges.
///
/// # Errors
/// [`CredentialsError`], with the part of the grammar that was broken.
///
/// ```
/// let value = br#"Digest realm="a, b", nonce="x", Newauth, Basic realm=c"#;
/// let challenges = gimmal_security::credentials::parse_challenges(value)?;
/// assert_eq!(challenges.len(), 3);
/// assert_eq!(challenges[0].param("realm"), Some(&b"a, b"[..]));
/// assert_eq!(challenges[1].scheme(), "Newauth");
/// # Ok::<(), gimmal_security::credentials::CredentialsError>(())
/// ```
pub fn parse_challenges(value: &[u8]) -> Result<Vec<Credentials<'_>>, CredentialsError> {
    let mut cursor = Cursor { rest: trim_white_space(value) };
    let mut challenges: Vec<Credentials<'_>> = Vec::new();
    loop {
        cursor.skip_commas();
        if cursor.rest.is_empty() {
            break;
        }
        // A comma ends a parameter or a whole challenge: only the "=" tells which of them comes next.
        let before = cursor;
        let name = cursor.token().ok_or(CredentialsError::Scheme)?;
        if cursor.equals().is_some() {
            let challenge = challenges.last_mut().filter(|challenge| !challenge.params.is_empty());
            cursor = before;
            cursor.token();
            challenge.ok_or(CredentialsError::Scheme)?.parse_param(name, &mut cursor)?;
            continue;
        }
        cursor = before;
        let mut challenge = Credentials::parse_scheme(&mut cursor)?;
        let spaced = cursor.rest.first() == Some(&b' ');
        cursor.skip_white_space();
        if !matches!(cursor.rest.first(), None | Some(b',')) {
            if !spaced {
                return Err(CredentialsError::Scheme);
            }
            challenge.token68 =
                cursor.token68_before(|rest| matches!(trim_white_space(rest).first(), None | Some(b',')));
            if challenge.token68.is_none() {
                let name = cursor.token().ok_or(CredentialsError::Params)?;
                challenge.parse_param(name, &mut cursor)?;
            }
            cursor.skip_white_space();
        }
        challenges.push(challenge);
    }
    if challenges.is_empty() { Err(CredentialsError::Scheme) } else { Ok(challenges) }
}

/// What is still to be parsed.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Takes the bytes for which `is_part` holds, which must be ASCII.
    fn take_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'a str {
        let len = self.rest.iter().position(|&byte| !is_part(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        std::str::from_utf8(taken).unwrap_or_default()
    }

    fn token(&mut self) -> Option<&'a str> {
        Some(self.take_while(is_token_byte)).filter(|token| !token.is_empty())
    }

    /// Takes a token68 after which `is_end` holds, or nothing.
    fn token68_before(&mut self, is_end: impl Fn(&[u8]) -> bool) -> Option<&'a str> {
        let start = self.rest;
        let mut after = *self;
        if after.take_while(is_token68_byte).is_empty() {
            return None;
        }
        after.take_while(|byte| byte == b'=');
        if !is_end(after.rest) {
            return None;
        }
        *self = after;
        std::str::from_utf8(&start[..start.len() - after.rest.len()]).ok()
    }

    /// Takes `1*SP`.
    fn space(&mut self) -> Result<(), CredentialsError> {
        if self.take_while(|byte| byte == b' ').is_empty() { Err(CredentialsError::Scheme) } else { Ok(()) }
    }

    fn skip_white_space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Passes over commas and white space: a list may have empty elements (RFC 9110 section 5.6.1.2).
    fn skip_commas(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b','));
    }

    /// Takes `BWS "=" BWS`.
    fn equals(&mut self) -> Option<()> {
        self.skip_white_space();
        self.rest = self.rest.strip_prefix(b"=")?;
        self.skip_white_space();
        Some(())
    }

    /// Takes a quoted string (RFC 9110 section 5.6.4), which copies only if it holds an escape.
    fn quoted_string(&mut self) -> Result<Cow<'a, [u8]>, CredentialsError> {
        let inner = self.rest.strip_prefix(b"\"").ok_or(CredentialsError::QuotedString)?;
        let mut unescaped: Option<Vec<u8>> = None;
        let mut at = 0;
        loop {
            let byte = *inner.get(at).ok_or(CredentialsError::QuotedString)?;
            let (content, len) = match byte {
                b'"' => break,
                b'\\' => {
                    unescaped.get_or_insert_with(|| inner[..at].to_vec());
                    (*inner.get(at + 1).ok_or(CredentialsError::QuotedString)?, 2)
                }
                byte => (byte, 1),
            };
            if (content < b' ' && content != b'\t') || content == 0x7f {
                return Err(CredentialsError::QuotedString);
            }
            if let Some(unescaped) = &mut unescaped {
                unescaped.push(content);
            }
            at += len;
        }
        self.rest = &inner[at + 1..];
        Ok(unescaped.map_or(Cow::Borrowed(&inner[..at]), Cow::Owned))
    }
}

/// `value` without spaces and tabs at its ends.
fn trim_white_space(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `token68` of RFC 9110 section 11.2, without the `=` at its end.
fn is_token68_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

/// Why a challenge cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChallengeError {
    /// The scheme or the name of a parameter is no token.
    #[error("a scheme or a parameter name is no token: use letters, digits and hyphens")]
    Token,
    /// A value with anything but printable ASCII, such as CR or LF.
    #[error("a parameter value holds a character that is not printable ASCII")]
    Value,
}

/// One challenge of a `WWW-Authenticate` field, as the server writes it. Several for one route each go into a field
/// line of their own: some clients cannot tell two challenges in one line apart.
///
/// What comes out of [`Display`](fmt::Display) is printable ASCII, whatever the parameters were.
///
/// ```
/// use gimmal_security::credentials::Challenge;
///
/// let challenge = Challenge::new("Bearer")?.with_quoted("realm", "a \"b\"")?.with_token("max_age", "60")?;
/// assert_eq!(challenge.to_string(), r#"Bearer realm="a \"b\"", max_age=60"#);
/// assert!(Challenge::new("Bearer")?.with_quoted("realm", "a\r\nSet-Cookie: b").is_err());
/// # Ok::<(), gimmal_security::credentials::ChallengeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    text: String,
    scheme_len: usize,
}

impl Challenge {
    /// A challenge of `scheme` without parameters.
    ///
    /// # Errors
    /// [`ChallengeError::Token`] if `scheme` is no token.
    pub fn new(scheme: &str) -> Result<Self, ChallengeError> {
        Ok(Self { text: check_token(scheme)?.to_owned(), scheme_len: scheme.len() })
    }

    /// Adds `name="value"`, with `"` and `\` in the value escaped.
    ///
    /// # Errors
    /// [`ChallengeError`] if `name` is no token, or `value` not printable ASCII.
    pub fn with_quoted(mut self, name: &str, value: &str) -> Result<Self, ChallengeError> {
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ChallengeError::Value);
        }
        self.push_name(name)?;
        push_quoted(&mut self.text, value);
        Ok(self)
    }

    /// Adds `name=value`, for a value that is a token.
    ///
    /// # Errors
    /// [`ChallengeError::Token`] if either is no token.
    pub fn with_token(mut self, name: &str, value: &str) -> Result<Self, ChallengeError> {
        check_token(value)?;
        self.push_name(name)?;
        self.text.push_str(value);
        Ok(self)
    }

    fn push_name(&mut self, name: &str) -> Result<(), ChallengeError> {
        check_token(name)?;
        self.text.push_str(if self.text.len() == self.scheme_len { " " } else { ", " });
        self.text.push_str(name);
        self.text.push('=');
        Ok(())
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Appends `value` as a quoted string.
pub(crate) fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

fn check_token(token: &str) -> Result<&str, ChallengeError> {
    let is_token = !token.is_empty() && token.bytes().all(is_token_byte);
    is_token.then_some(token).ok_or(ChallengeError::Token)
}

/// Why a text cannot be the name of a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RealmError {
    /// Empty, or longer than [`Realm::BYTES_MAX`].
    #[error("a realm has 1 to {} characters", Realm::BYTES_MAX)]
    Length,
    /// A character that clients read in different ways, or that does not belong in a header at all.
    #[error("a realm is printable ASCII without quotes, colons and backslashes")]
    Character,
}

/// The name of a protection space (RFC 9110 section 11.5), which clients show to the user.
///
/// Printable ASCII without `"`, `\` and `:`. Clients differ in how they undo escapes and read other alphabets, and
/// Digest hashes the name between colons.
///
/// ```
/// use gimmal_security::credentials::Realm;
///
/// assert_eq!(Realm::new("Staff only")?.as_str(), "Staff only");
/// assert!(Realm::new("a\r\nSet-Cookie: b=c").is_err());
/// # Ok::<(), gimmal_security::credentials::RealmError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Realm(String);

impl Realm {
    /// Characters that a realm may have.
    pub const BYTES_MAX: usize = 128;

    /// Checks a name.
    ///
    /// # Errors
    /// [`RealmError`] if it is too long, empty, or has a character that is not allowed.
    pub fn new(name: impl Into<String>) -> Result<Self, RealmError> {
        let name = name.into();
        if name.is_empty() || name.len() > Self::BYTES_MAX {
            return Err(RealmError::Length);
        }
        let is_safe = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b':');
        if name.bytes().all(is_safe) { Ok(Self(name)) } else { Err(RealmError::Character) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
