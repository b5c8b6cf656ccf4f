//! A certificate authority.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use gimmal::tls::CertifiedKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};

const DAY: i64 = 24 * 3600;

/// A time in seconds from now. rcgen does not name the type of its times.
macro_rules! at {
    ($seconds_from_now:expr) => {
        rcgen::date_time_ymd(1970, 1, 1)
            + Duration::from_secs(
                UNIX_EPOCH.elapsed().unwrap().as_secs().saturating_add_signed($seconds_from_now),
            )
    };
}

/// Issues certificates, and revokes them.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub chain_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl Authority {
    /// A new one of this name.
    ///
    /// # Panics
    /// If the system gives no random bytes.
    #[must_use]
    pub fn new(common_name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server of these names, for 90 days.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(names, "a server", 1, 90, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a server of these names, for so many days from now; with fewer than none it has expired.
    #[must_use]
    pub fn server_for_days(&self, names: &[&str], days: i64) -> Issued {
        self.issue(names, "a server", 1, days, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client.
    #[must_use]
    pub fn client(&self, common_name: &str, serial: u64) -> Issued {
        self.issue(&[], common_name, serial, 90, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        names: &[&str],
        common_name: &str,
        serial: u64,
        days: i64,
        usage: ExtendedKeyUsagePurpose,
    ) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.serial_number = Some(SerialNumber::from(serial));
        parameters.not_before = at!(-100 * DAY);
        parameters.not_after = at!(days * DAY);
        parameters.extended_key_usages = vec![usage];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Issued { chain_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// A list that revokes these serial numbers.
    ///
    /// # Panics
    /// If the list cannot be signed.
    #[must_use]
    pub fn revocation_list(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: at!(-DAY),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at!(-2 * DAY),
            next_update: at!(10 * DAY),
            crl_number: SerialNumber::from(7),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Issued {
    /// For a configuration.
    ///
    /// # Panics
    /// If our own reader refuses what was issued.
    #[must_use]
    pub fn key(&self) -> CertifiedKey {
        CertifiedKey::from_pem(self.chain_pem.as_bytes(), self.key_pem.as_bytes()).unwrap()
    }

    /// Writes `NAME.pem` and `NAME.key`, or over them.
    ///
    /// # Panics
    /// If the folder cannot be written to.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (chain, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&chain, &self.chain_pem).unwrap();
        std::fs::write(&key, &self.key_pem).unwrap();
        (chain, key)
    }
}
