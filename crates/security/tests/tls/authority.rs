//! A certificate authority for the tests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gimmal_security::tls::CertifiedKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RevokedCertParams, RsaKeySize, SerialNumber, SignatureAlgorithm,
};

pub(crate) const DAY: i64 = 24 * 3600;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What a certificate is to say. Times are in seconds from now.
pub(crate) struct Leaf<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) names: &'a [&'a str],
    pub(crate) serial: u64,
    pub(crate) starts_in: i64,
    pub(crate) ends_in: i64,
    pub(crate) rsa: bool,
    pub(crate) usage: ExtendedKeyUsagePurpose,
}

impl<'a> Leaf<'a> {
    pub(crate) fn server(names: &'a [&'a str]) -> Self {
        Self {
            common_name: "a server",
            names,
            serial: 1,
            starts_in: -DAY,
            ends_in: 90 * DAY,
            rsa: false,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        }
    }

    pub(crate) fn client(common_name: &'a str, serial: u64) -> Self {
        Self { common_name, serial, usage: ExtendedKeyUsagePurpose::ClientAuth, ..Self::server(&[]) }
    }
}

pub(crate) struct Issued {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
}

impl Issued {
    pub(crate) fn key(&self) -> CertifiedKey {
        CertifiedKey::from_pem(self.chain_pem.as_bytes(), self.key_pem.as_bytes()).unwrap()
    }
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    /// What goes into a chain after a certificate: its issuer, unless that is the root.
    issuers_pem: String,
}

/// A time in seconds from now. rcgen does not name the type of its times.
macro_rules! at {
    ($seconds_from_now:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now().saturating_add_signed($seconds_from_now))
    };
}

impl Authority {
    pub(crate) fn new(common_name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let parameters = Self::parameters(common_name);
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            pem: pem("CERTIFICATE", certificate.der()),
            issuer: Issuer::new(parameters, key),
            issuers_pem: String::new(),
        }
    }

    pub(crate) fn intermediate(&self, common_name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let parameters = Self::parameters(common_name);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let pem = pem("CERTIFICATE", certificate.der());
        Self { issuers_pem: pem.clone(), pem, issuer: Issuer::new(parameters, key) }
    }

    fn parameters(common_name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
    }

    pub(crate) fn issue(&self, leaf: &Leaf<'_>) -> Issued {
        let mut parameters =
            CertificateParams::new(leaf.names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                .unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "Example");
        parameters.distinguished_name.push(DnType::CommonName, leaf.common_name);
        parameters.serial_number = Some(SerialNumber::from(leaf.serial));
        parameters.not_before = at!(leaf.starts_in);
        parameters.not_after = at!(leaf.ends_in);
        parameters.extended_key_usages = vec![leaf.usage.clone()];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = if leaf.rsa { rsa_key(&PKCS_RSA_SHA256) } else { KeyPair::generate().unwrap() };
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Issued {
            chain_pem: pem("CERTIFICATE", certificate.der()) + &self.issuers_pem,
            key_pem: pem("PRIVATE KEY", &key.serialize_der()),
        }
    }

    /// A list that revokes these serial numbers, and is to be followed by the next in `ends_in` seconds.
    pub(crate) fn revocation_list(&self, serials: &[u64], ends_in: i64) -> String {
        let list = CertificateRevocationListParams {
            this_update: at!(-2 * DAY),
            next_update: at!(ends_in),
            crl_number: SerialNumber::from(7),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: at!(-DAY),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        pem("X509 CRL", list.signed_by(&self.issuer).unwrap().der())
    }
}

fn rsa_key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_rsa_for(algorithm, RsaKeySize::_2048).unwrap()
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
