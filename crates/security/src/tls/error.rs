//! Why a session failed.

use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};
use thiserror::Error as ThisError;

use super::alert::Alert;

/// Why a [`TlsSession`](super::TlsSession) failed. A session that has failed stays so: send what it wrote (the
/// alert for the peer), and close the connection.
///
/// No variant holds a key, or bytes of the peer beyond a checked DNS name.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer speaks plain HTTP on a TLS port. A server can answer it in plain HTTP with 400; nothing was
    /// written for the peer.
    #[error("plain HTTP on a TLS port: use https:// in the address")]
    PlainHttp,
    /// The peer speaks something else than TLS, or begins with a record that has no place there. It is told by the
    /// alert unexpected_message.
    #[error("the peer does not speak TLS: check the port on both sides")]
    NotTls,
    /// No certificate for the name the client asked for, and names are strict (RFC 6066 section 3).
    #[error("no certificate for {}: add one, or allow a default", asked(.name.as_deref()))]
    UnknownServerName {
        /// The name; `None` if the client sent none, as for an address without a name.
        name: Option<Box<str>>,
    },
    /// There is no certificate yet, or no challenge for this name.
    #[error("no certificate to offer: wait for the first one from the ACME server, or add one")]
    NoCertificate,
    /// The peer ended the connection before the handshake was done.
    #[error("the peer went away during the handshake")]
    HandshakeCutShort,
    /// The connection ended without the peer's close_notify: data may be missing (RFC 8446 section 6.1).
    #[error("the peer closed without close_notify: what was received may be cut short, do not trust its end")]
    Truncated,
    /// The peer ended the session with an alert.
    #[error("the peer sent the alert {0}: {cure}", cure = .0.cure())]
    AlertReceived(Alert),
    /// The peer's certificate was refused.
    #[error("the peer's certificate was refused: {0}")]
    Certificate(#[from] CertificateProblem),
    /// A client certificate is required and the client sent none.
    #[error("the client sent no certificate, and one is required")]
    NoClientCertificate,
    /// The two sides have nothing in common.
    #[error("no common ground with the peer: {0}")]
    Incompatible(Incompatibility),
    /// None of the client's application protocols is spoken here (RFC 7301).
    #[error("no application protocol in common: compare the ALPN lists")]
    NoApplicationProtocol,
    /// A record does not decrypt: it was changed on the way, or was never meant for this session.
    #[error("a record does not decrypt: it was changed on the way")]
    BadRecord,
    /// A record, or a handshake message, is longer than allowed.
    #[error("a record or a handshake message is longer than allowed")]
    TooLarge,
    /// The peer broke the protocol; the text names the rule.
    #[error("the peer broke the TLS protocol ({0})")]
    Misbehaved(Box<str>),
    /// Sent before the handshake was done; nothing was sent.
    #[error("the handshake is not done: wait until the session is open")]
    NotOpen,
    /// Sent after close_notify; nothing was sent.
    #[error("the session is closed for sending")]
    Closed,
    /// The keys have encrypted as much as is safe, and TLS 1.2 has no way to renew them.
    #[error("the session's keys are used up: open a new connection")]
    KeysUsedUp,
    /// The name of the server that a client session was to reach is no DNS name and no address.
    #[error("not the name of a server: use a DNS name or an address, without a port")]
    InvalidServerName,
    /// A fault of this side.
    #[error("TLS failed on this side: {0}")]
    Internal(Box<str>),
}

fn asked(name: Option<&str>) -> String {
    name.map_or_else(|| "a client that sends no server name".to_owned(), |name| format!("the name {name}"))
}

impl TlsError {
    /// A short stable name, to count failures by.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::UnknownServerName { .. } => "unknown_server_name",
            Self::NoCertificate => "no_certificate",
            Self::HandshakeCutShort => "handshake_cut_short",
            Self::Truncated => "truncated",
            Self::AlertReceived(_) => "alert_received",
            Self::Certificate(_) => "certificate_refused",
            Self::NoClientCertificate => "no_client_certificate",
            Self::Incompatible(_) => "incompatible",
            Self::NoApplicationProtocol => "no_application_protocol",
            Self::BadRecord => "bad_record",
            Self::TooLarge => "too_large",
            Self::Misbehaved(_) => "misbehaved",
            Self::NotOpen => "not_open",
            Self::Closed => "closed",
            Self::KeysUsedUp => "keys_used_up",
            Self::InvalidServerName => "invalid_server_name",
            Self::Internal(_) => "internal",
        }
    }
}

/// Why a peer's certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// Its time is over.
    #[error("it has expired: the peer has to renew it")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet: compare the clocks of both sides")]
    NotYetValid,
    /// No trusted root stands behind it.
    #[error("its issuer is not among the trusted roots, or an intermediate certificate is missing")]
    UnknownIssuer,
    /// Its issuer has revoked it.
    #[error("its issuer has revoked it")]
    Revoked,
    /// No revocation list speaks for its issuer.
    #[error(
        "no revocation list speaks for its issuer: add that issuer's list, or allow unknown revocation status"
    )]
    UnknownRevocationStatus,
    /// The revocation list is out of date.
    #[error("its issuer's revocation list is out of date: fetch a new one and reload")]
    ExpiredRevocationList,
    /// It names another server.
    #[error("it does not bear the name that was asked for")]
    WrongName,
    /// It may not be used for this side of TLS.
    #[error("its extended key usage does not allow this side of TLS")]
    WrongPurpose,
    /// A signature in the chain, or over the handshake, does not verify.
    #[error("a signature does not verify, or uses an algorithm that is not supported")]
    BadSignature,
    /// Its public key is not one of the pinned ones.
    #[error("its public key is not pinned: if the server has a new key, pin that one as well")]
    NotPinned,
    /// It breaks a rule for certificates (RFC 5280), which the text names. `CaUsedAsEndEntity` is the usual one: an
    /// authority's certificate, as `openssl req -x509` makes them, cannot be a server's own.
    #[error(
        "it breaks a rule for certificates ({0}): issue it anew; to be its own root, one that `openssl req -x509` makes \
         needs -addext basicConstraints=critical,CA:FALSE"
    )]
    Rule(Box<str>),
    /// It cannot be read.
    #[error("it is malformed")]
    Malformed,
}

/// What the two sides do not have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Incompatibility {
    /// Neither TLS 1.2 nor TLS 1.3, or not the one that is on.
    #[error("no TLS version in common, only 1.2 and 1.3 are spoken: update the peer")]
    Version,
    /// No cipher suite.
    #[error("no cipher suite in common: update the peer")]
    CipherSuite,
    /// No key exchange group.
    #[error("no key exchange group in common: update the peer")]
    Group,
    /// No signature scheme for any certificate.
    #[error(
        "no signature scheme in common with any certificate: add an RSA or an ECDSA certificate beside it"
    )]
    SignatureScheme,
    /// An extension that TLS as spoken here needs.
    #[error("the peer lacks an extension that is needed: update it")]
    Extension,
}

impl From<&Error> for TlsError {
    fn from(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::AlertReceived(Alert(u8::from(*alert))),
            Error::InvalidCertificate(error) => Self::Certificate(error.into()),
            Error::NoCertificatesPresented => Self::NoClientCertificate,
            Error::PeerIncompatible(incompatible) => Self::Incompatible(incompatible.into()),
            Error::NoApplicationProtocol => Self::NoApplicationProtocol,
            Error::DecryptError => Self::BadRecord,
            Error::PeerSentOversizedRecord
            | Error::InvalidMessage(
                InvalidMessage::HandshakePayloadTooLarge
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::CertificatePayloadTooLarge,
            ) => Self::TooLarge,
            Error::InvalidMessage(reason) => Self::Misbehaved(format!("{reason:?}").into()),
            Error::PeerMisbehaved(reason) => Self::Misbehaved(format!("{reason:?}").into()),
            Error::InappropriateMessage { got_type, .. } => {
                Self::Misbehaved(format!("unexpected record of type {got_type:?}").into())
            }
            Error::InappropriateHandshakeMessage { got_type, .. } => {
                Self::Misbehaved(format!("unexpected message {got_type:?}").into())
            }
            other => Self::Internal(other.to_string().into()),
        }
    }
}

impl From<&CertificateError> for CertificateProblem {
    fn from(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::UnknownRevocationStatus => Self::UnknownRevocationStatus,
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::ExpiredRevocationList,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose
            }
            CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::BadSignature,
            // Only our own check of pins says this.
            CertificateError::ApplicationVerificationFailure => Self::NotPinned,
            CertificateError::Other(rule) => Self::Rule(rule.to_string().into()),
            _ => Self::Malformed,
        }
    }
}

impl From<&PeerIncompatible> for Incompatibility {
    fn from(incompatible: &PeerIncompatible) -> Self {
        match incompatible {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // It came with TLS 1.2.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => Self::Version,
            PeerIncompatible::NoCipherSuitesInCommon => Self::CipherSuite,
            PeerIncompatible::NoKxGroupsInCommon => Self::Group,
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => Self::SignatureScheme,
            _ => Self::Extension,
        }
    }
}
