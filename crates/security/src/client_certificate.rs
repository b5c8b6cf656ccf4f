//! From a TLS client certificate that was verified to a principal.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::principal::{Mechanism, Principal};

/// A name in the certificate's subject alternative name extension (RFC 5280 section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubjectAltName {
    /// `dNSName`
    Dns(String),
    /// `rfc822Name`
    Email(String),
    /// `uniformResourceIdentifier`, such as a SPIFFE id.
    Uri(String),
    /// `iPAddress`
    Ip(IpAddr),
}

impl SubjectAltName {
    /// Whether both are the same name: a host without regard to case, as is the domain of a mail address.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns(one), Self::Dns(other)) => one.eq_ignore_ascii_case(other),
            (Self::Email(one), Self::Email(other)) => match (one.rsplit_once('@'), other.rsplit_once('@')) {
                (Some((one, at)), Some((other, other_at))) => {
                    one == other && at.eq_ignore_ascii_case(other_at)
                }
                _ => false,
            },
            _ => self == other,
        }
    }
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Email(name) | Self::Uri(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// What the handshake says of a client certificate. The TLS stack has verified that it is genuine, valid and of a
/// trusted issuer before it comes here: see [`identity`](crate::tls::ClientCertificate::identity).
#[derive(Clone, Debug)]
pub struct ClientCertificate<'a> {
    /// The subject, in the string form of RFC 4514: `CN=alice,O=Example`.
    pub subject: &'a str,
    /// The subject alternative names.
    pub subject_alt_names: &'a [SubjectAltName],
    /// The SHA-256 hash of the certificate in DER.
    pub fingerprint: [u8; 32],
}

/// What identifies a certificate. Each is compared as a whole: a part of a name proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateMatch {
    /// This very certificate, by the SHA-256 hash of its DER form. It ends with the certificate's renewal.
    Fingerprint([u8; 32]),
    /// Any certificate with this subject alternative name.
    SubjectAltName(SubjectAltName),
    /// Any certificate with a SPIFFE id of this trust domain: `spiffe://trust-domain/...`.
    SpiffeTrustDomain(String),
    /// Any certificate with this subject, exactly as the TLS stack writes it.
    Subject(String),
}

impl CertificateMatch {
    /// What in the certificate matches: the name of the principal if the rule gives none.
    fn find(&self, certificate: &ClientCertificate<'_>) -> Option<String> {
        let find_name = |is: &dyn Fn(&SubjectAltName) -> bool| {
            certificate.subject_alt_names.iter().find(|name| is(name)).map(ToString::to_string)
        };
        match self {
            Self::Fingerprint(fingerprint) => {
                (*fingerprint == certificate.fingerprint).then(|| certificate.subject.to_owned())
            }
            Self::SubjectAltName(name) => find_name(&|other| name.is(other)),
            Self::SpiffeTrustDomain(domain) => find_name(&|other| match other {
                SubjectAltName::Uri(uri) => spiffe_trust_domain(uri) == Some(domain),
                _ => false,
            }),
            Self::Subject(subject) => (subject == certificate.subject).then(|| subject.clone()),
        }
    }
}

/// The trust domain of a SPIFFE id that has a path, or nothing if it is none.
fn spiffe_trust_domain(uri: &str) -> Option<&str> {
    let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    let is_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    (!domain.is_empty()
        && domain.bytes().all(is_domain)
        && path.bytes().all(is_path)
        && path.split('/').all(is_segment))
    .then_some(domain)
}

/// A text is not the hexadecimal form of a SHA-256 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a SHA-256 fingerprint has 64 hexadecimal digits, in pairs that colons may separate")]
pub struct FingerprintError;

/// Reads a SHA-256 fingerprint, as `openssl x509 -fingerprint -sha256` prints it or without its colons.
///
/// # Errors
/// [`FingerprintError`].
///
/// ```
/// let fingerprint = gimmal_security::client_certificate::parse_fingerprint(&"AB:".repeat(32)[..95])?;
/// assert_eq!(fingerprint, [0xab; 32]);
/// # Ok::<(), gimmal_security::client_certificate::FingerprintError>(())
/// ```
pub fn parse_fingerprint(text: &str) -> Result<[u8; 32], FingerprintError> {
    let digits: Vec<u8> = match text.len() {
        64 => text.bytes().collect(),
        95 if text.bytes().skip(2).step_by(3).all(|byte| byte == b':') => {
            text.as_bytes().chunks(3).flat_map(|chunk| chunk.iter().copied().take(2)).collect()
        }
        _ => return Err(FingerprintError),
    };
    let mut fingerprint = [0; 32];
    for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| pair.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        let (high, low) = digit(0).zip(digit(1)).ok_or(FingerprintError)?;
        *byte = (high << 4 | low) as u8;
    }
    Ok(fingerprint)
}

/// One rule of a [`CertificateMap`].
#[derive(Clone, Debug)]
pub struct CertificateRule {
    matched: CertificateMatch,
    id: Option<String>,
    roles: Vec<String>,
    scopes: Vec<String>,
}

impl CertificateRule {
    /// Certificates that match are principals named after what matched: the subject alternative name, or the subject.
    #[must_use]
    pub fn new(matched: CertificateMatch) -> Self {
        Self { matched, id: None, roles: Vec::new(), scopes: Vec::new() }
    }

    /// Names the principal.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Gives the principal a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Gives the principal a scope.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }
}

/// Who is behind which certificate: the first rule that matches says it, and without one nobody is. That an issuer
/// is trusted is not enough, as it may issue to others, too.
///
/// ```
/// use gimmal_security::client_certificate::{
///     CertificateMap, CertificateMatch, CertificateRule, ClientCertificate, SubjectAltName,
/// };
///
/// let billing = SubjectAltName::Uri("spiffe://example.org/billing".into());
/// let map = CertificateMap::new()
///     .with_rule(CertificateRule::new(CertificateMatch::SubjectAltName(billing.clone())).with_role("billing"))
///     .with_rule(CertificateRule::new(CertificateMatch::SpiffeTrustDomain("example.org".into())));
///
/// let certificate = ClientCertificate {
///     subject: "O=SPIRE",
///     subject_alt_names: &[billing],
///     fingerprint: [7; 32],
/// };
/// let principal = map.principal(&certificate, 1_700_000_000).unwrap();
/// assert_eq!(principal.id(), "spiffe://example.org/billing");
/// assert!(principal.has_role("billing"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct CertificateMap {
    rules: Vec<CertificateRule>,
}

impl CertificateMap {
    /// A map without rules, in which no certificate is anyone's.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule after those that are there.
    #[must_use]
    pub fn with_rule(mut self, rule: CertificateRule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The principal behind a certificate that was verified at `now` (seconds since 1970), or `None` if no rule
    /// matches. Its attribute `certificate_subject` is the subject.
    #[must_use]
    pub fn principal(&self, certificate: &ClientCertificate<'_>, now: u64) -> Option<Principal> {
        let (rule, found) =
            self.rules.iter().find_map(|rule| rule.matched.find(certificate).map(|found| (rule, found)))?;
        let id = rule.id.clone().unwrap_or(found);
        // A certificate without a subject that is matched by its fingerprint has no name.
        if id.is_empty() {
            return None;
        }
        let principal = Principal::new(id, Mechanism::ClientCertificate, now)
            .with_attribute("certificate_subject", certificate.subject);
        let principal = rule.roles.iter().fold(principal, Principal::with_role);
        Some(rule.scopes.iter().fold(principal, Principal::with_scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(matched: CertificateMatch, names: &[SubjectAltName]) -> Option<String> {
        let certificate = ClientCertificate {
            subject: "CN=alice,O=Example",
            subject_alt_names: names,
            fingerprint: [7; 32],
        };
        let map = CertificateMap::new().with_rule(CertificateRule::new(matched));
        map.principal(&certificate, 1).map(|principal| principal.id().to_owned())
    }

    fn uri(uri: &str) -> SubjectAltName {
        SubjectAltName::Uri(uri.into())
    }

    #[test]
    fn each_kind_of_match() {
        let subject = Some("CN=alice,O=Example".to_owned());
        assert_eq!(id(CertificateMatch::Fingerprint([7; 32]), &[]), subject);
        assert_eq!(id(CertificateMatch::Fingerprint([8; 32]), &[]), None);
        assert_eq!(id(CertificateMatch::Subject("CN=alice,O=Example".into()), &[]), subject);
        let dns = |name: &str| SubjectAltName::Dns(name.into());
        let matched = CertificateMatch::SubjectAltName(dns("api.example.org"));
        assert_eq!(
            id(matched.clone(), &[dns("x"), dns("API.example.org")]).as_deref(),
            Some("API.example.org")
        );
        assert_eq!(id(matched, &[dns("example.org")]), None);
        let email = |name: &str| SubjectAltName::Email(name.into());
        let matched = CertificateMatch::SubjectAltName(email("alice@example.org"));
        assert!(id(matched.clone(), &[email("alice@EXAMPLE.org")]).is_some());
        assert!(id(matched, &[email("Alice@example.org")]).is_none());
        let ip = SubjectAltName::Ip("::1".parse().unwrap());
        assert_eq!(id(CertificateMatch::SubjectAltName(ip.clone()), &[ip]).as_deref(), Some("::1"));
    }

    /// A name in one field proves nothing about another, nor does a part of a name.
    #[test]
    fn certificate_name_confusion() {
        let dns = CertificateMatch::SubjectAltName(SubjectAltName::Dns("example.org".into()));
        for name in [uri("example.org"), SubjectAltName::Email("example.org".into())] {
            assert_eq!(id(dns.clone(), &[name]), None);
        }
        for name in ["example.org.evil.test", "evil-example.org", "*.example.org", "example.org\0.evil.test"]
        {
            assert_eq!(id(dns.clone(), &[SubjectAltName::Dns(name.into())]), None);
        }
        for subject in ["CN=alice", "CN=alice,O=Example,OU=x", "CN=alice\\,O=Example", ""] {
            assert_eq!(id(CertificateMatch::Subject(subject.into()), &[]), None);
        }
        let domain = CertificateMatch::SpiffeTrustDomain("example.org".into());
        for name in [
            "spiffe://example.org.evil.test/a",
            "spiffe://example.org@evil.test/a",
            "spiffe://evil.test/example.org",
            "spiffe://evil.test/spiffe://example.org/a",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/../a",
            "spiffe://example.org/a//b",
            "spiffe://example.org/a?b",
            "https://example.org/a",
        ] {
            assert_eq!(id(domain.clone(), &[uri(name)]), None, "{name}");
        }
        let name = "spiffe://example.org/ns/web";
        assert_eq!(id(domain, &[uri(name)]).as_deref(), Some(name));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let map = CertificateMap::new()
            .with_rule(CertificateRule::new(CertificateMatch::Fingerprint([1; 32])).with_id("one"))
            .with_rule(
                CertificateRule::new(CertificateMatch::Fingerprint([7; 32]))
                    .with_id("seven")
                    .with_role("admin")
                    .with_scope("write"),
            )
            .with_rule(CertificateRule::new(CertificateMatch::Subject(String::new())).with_id("rest"));
        let certificate = ClientCertificate { subject: "", subject_alt_names: &[], fingerprint: [7; 32] };
        let principal = map.principal(&certificate, 5).unwrap();
        let expected = Principal::new("seven", Mechanism::ClientCertificate, 5)
            .with_role("admin")
            .with_scope("write")
            .with_attribute("certificate_subject", "");
        assert_eq!(principal, expected);
        assert_eq!(CertificateMap::new().principal(&certificate, 5), None);
        let nameless = CertificateRule::new(CertificateMatch::Fingerprint([7; 32]));
        assert_eq!(CertificateMap::new().with_rule(nameless).principal(&certificate, 5), None);
    }

    #[test]
    fn fingerprints_are_read_strictly() {
        let plain = "0123456789abcdefABCDEF0123456789".repeat(2);
        assert!(parse_fingerprint(&plain).is_ok());
        let colons: Vec<_> = plain.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap()).collect();
        assert_eq!(parse_fingerprint(&colons.join(":")), parse_fingerprint(&plain));
        for bad in
            ["", &plain[2..], &plain.replace('a', "g"), &colons.join("-"), &"é".repeat(32), &":".repeat(95)]
        {
            assert_eq!(parse_fingerprint(bad), Err(FingerprintError), "{bad}");
        }
    }
}
