//! TLS alerts (RFC 8446 section 6).

use std::fmt;

/// A TLS alert: the one byte with which a peer says why it ends a connection (RFC 8446 section 6).
///
/// ```
/// use gimmal_security::tls::Alert;
/// assert_eq!(Alert::UNRECOGNIZED_NAME.to_string(), "unrecognized_name");
/// assert_eq!(Alert(200).to_string(), "alert 200");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alert(pub u8);

impl Alert {
    /// An orderly end of the stream.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message that had no place here.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record that does not decrypt.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record longer than allowed.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// No parameters that both sides support.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// The certificate is damaged, or does not bear the name.
    pub const BAD_CERTIFICATE: Self = Self(42);
    /// A certificate of a kind that is not supported.
    pub const UNSUPPORTED_CERTIFICATE: Self = Self(43);
    /// The certificate was revoked.
    pub const CERTIFICATE_REVOKED: Self = Self(44);
    /// The certificate is out of date.
    pub const CERTIFICATE_EXPIRED: Self = Self(45);
    /// The certificate was refused for another reason.
    pub const CERTIFICATE_UNKNOWN: Self = Self(46);
    /// A field out of range.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// The certificate's authority is not trusted.
    pub const UNKNOWN_CA: Self = Self(48);
    /// A valid certificate that is not let in.
    pub const ACCESS_DENIED: Self = Self(49);
    /// A message that cannot be decoded.
    pub const DECODE_ERROR: Self = Self(50);
    /// A signature or a Finished message that does not verify.
    pub const DECRYPT_ERROR: Self = Self(51);
    /// A protocol version that is not supported.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// Parameters too weak.
    pub const INSUFFICIENT_SECURITY: Self = Self(71);
    /// A fault of the peer's own.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// A retry with a lower version than both sides have.
    pub const INAPPROPRIATE_FALLBACK: Self = Self(86);
    /// The user gave up.
    pub const USER_CANCELED: Self = Self(90);
    /// Renegotiation is refused (TLS 1.2).
    pub const NO_RENEGOTIATION: Self = Self(100);
    /// An extension is missing.
    pub const MISSING_EXTENSION: Self = Self(109);
    /// An extension that was not asked for.
    pub const UNSUPPORTED_EXTENSION: Self = Self(110);
    /// No certificate for the server name (RFC 6066 section 3).
    pub const UNRECOGNIZED_NAME: Self = Self(112);
    /// A client certificate is required.
    pub const CERTIFICATE_REQUIRED: Self = Self(116);
    /// No application protocol in common (RFC 7301).
    pub const NO_APPLICATION_PROTOCOL: Self = Self(120);

    /// Its name in the standards, if it has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::CLOSE_NOTIFY => "close_notify",
            Self::UNEXPECTED_MESSAGE => "unexpected_message",
            Self::BAD_RECORD_MAC => "bad_record_mac",
            Self::RECORD_OVERFLOW => "record_overflow",
            Self::HANDSHAKE_FAILURE => "handshake_failure",
            Self::BAD_CERTIFICATE => "bad_certificate",
            Self::UNSUPPORTED_CERTIFICATE => "unsupported_certificate",
            Self::CERTIFICATE_REVOKED => "certificate_revoked",
            Self::CERTIFICATE_EXPIRED => "certificate_expired",
            Self::CERTIFICATE_UNKNOWN => "certificate_unknown",
            Self::ILLEGAL_PARAMETER => "illegal_parameter",
            Self::UNKNOWN_CA => "unknown_ca",
            Self::ACCESS_DENIED => "access_denied",
            Self::DECODE_ERROR => "decode_error",
            Self::DECRYPT_ERROR => "decrypt_error",
            Self::PROTOCOL_VERSION => "protocol_version",
            Self::INSUFFICIENT_SECURITY => "insufficient_security",
            Self::INTERNAL_ERROR => "internal_error",
            Self::INAPPROPRIATE_FALLBACK => "inappropriate_fallback",
            Self::USER_CANCELED => "user_canceled",
            Self::NO_RENEGOTIATION => "no_renegotiation",
            Self::MISSING_EXTENSION => "missing_extension",
            Self::UNSUPPORTED_EXTENSION => "unsupported_extension",
            Self::UNRECOGNIZED_NAME => "unrecognized_name",
            Self::CERTIFICATE_REQUIRED => "certificate_required",
            Self::NO_APPLICATION_PROTOCOL => "no_application_protocol",
            _ => return None,
        })
    }

    /// What the operator of this side can do when the peer sent it.
    #[must_use]
    pub fn cure(self) -> &'static str {
        match self {
            Self::UNKNOWN_CA | Self::CERTIFICATE_UNKNOWN => {
                "the peer does not trust our certificate: send the whole chain, or have the peer trust its root"
            }
            Self::BAD_CERTIFICATE => {
                "the peer found our certificate damaged or without the name it asked for"
            }
            Self::CERTIFICATE_EXPIRED => {
                "the peer found our certificate out of date: renew it, or set the clocks"
            }
            Self::CERTIFICATE_REVOKED => "our certificate was revoked: get a new one",
            Self::UNSUPPORTED_CERTIFICATE => {
                "our certificate has a key or a purpose that the peer does not take: check its extended key usage"
            }
            Self::PROTOCOL_VERSION => "the peer has neither TLS 1.2 nor TLS 1.3: update it",
            Self::HANDSHAKE_FAILURE | Self::INSUFFICIENT_SECURITY => {
                "no cipher suite, group or signature scheme in common: update the older side"
            }
            Self::CERTIFICATE_REQUIRED => "the peer wants a client certificate: configure one",
            Self::ACCESS_DENIED => "the peer knows the certificate and does not let it in",
            Self::UNRECOGNIZED_NAME => "the peer has no certificate for the name: check the name",
            Self::NO_APPLICATION_PROTOCOL => "no application protocol in common: compare the ALPN lists",
            Self::BAD_RECORD_MAC | Self::DECODE_ERROR | Self::DECRYPT_ERROR => {
                "the peer could not read what was sent: look for something on the way that changes it"
            }
            _ => "see the peer's log",
        }
    }

    /// The alert as a fatal one in a record of its own, before encryption is on (RFC 8446 section 5.1).
    pub(super) fn plaintext_record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self.0]
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "alert {}", self.0),
        }
    }
}
