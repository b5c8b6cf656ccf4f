//! Why Digest credentials were refused.

use thiserror::Error;

/// Why Digest credentials were refused, and with it the proper answer: [`status`](Self::status), and with 401 the
/// challenges of [`DigestScheme::challenges`](super::DigestScheme::challenges).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DigestError {
    /// Another scheme, or a token68 in place of parameters.
    #[error("these are no Digest credentials")]
    NotDigest,
    /// A parameter is missing, or is not what RFC 7616 section 3.4 says.
    #[error("the Digest parameter {0} is missing or malformed")]
    Param(&'static str),
    /// The `uri` is not the target of the request (RFC 7616 section 3.4.6).
    #[error("the Digest parameter uri is not the target of the request")]
    UriMismatch,
    /// An answer to a challenge for another realm.
    #[error("the Digest credentials are for another realm")]
    Realm,
    /// An algorithm that was not offered, such as a `-sess` variant, or MD5 where it is not allowed.
    #[error("the Digest algorithm was not offered")]
    AlgorithmNotOffered,
    /// A quality of protection that was not offered.
    #[error("the Digest quality of protection was not offered")]
    QopNotOffered,
    /// A hashed user name, which was not offered.
    #[error("hashed user names were not offered")]
    UserhashNotOffered,
    /// No such user, or another password: which of the two is not told.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// The digest is right, but the nonce is too old, was not made here, or was used already. The challenge says
    /// `stale=true`, so that the client takes a new nonce without asking its user.
    #[error("the nonce is not valid any more")]
    Stale,
}

impl DigestError {
    /// The status to answer with: 400 for what is malformed, otherwise 401.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::NotDigest | Self::Param(_) | Self::UriMismatch => 400,
            _ => 401,
        }
    }

    /// Whether someone tried a wrong user name or password, which is what counts against brute force.
    #[must_use]
    pub fn is_wrong_password(self) -> bool {
        self == Self::Wrong
    }
}
