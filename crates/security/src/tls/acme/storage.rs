//! The account and the certificate on disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;

use super::config::AcmeConfig;
use super::error::AcmeError;
use crate::tls::CertifiedKey;
use crate::tls::certificate::Sha256;

/// Where the account of one ACME server, and the certificate of one set of names from it, are kept. Files and folder
/// are for their owner alone, and are replaced whole.
#[derive(Debug)]
pub(super) struct Storage {
    folder: PathBuf,
    account: PathBuf,
    /// Private key, certificate and issuers in one file, so that they can never be of different orders.
    certificate: PathBuf,
}

impl Storage {
    pub(super) fn open(config: &AcmeConfig) -> Result<Self, AcmeError> {
        let folder = config.storage().to_owned();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| failed(&folder, error))?;
        // Other servers and other names have other files: a certificate from a server for tests is not taken for a
        // real one.
        let mut names = config.names().to_vec();
        names.sort();
        let server = short(config.directory_url());
        let order = short(&format!("{} {}", config.directory_url(), names.join(" ")));
        Ok(Self {
            account: folder.join(format!("account-{server}.json")),
            certificate: folder.join(format!("certificate-{order}.pem")),
            folder,
        })
    }

    pub(super) fn certificate_path(&self) -> &Path {
        &self.certificate
    }

    pub(super) fn load_account(&self) -> Result<Option<AccountCredentials>, AcmeError> {
        let bytes = match fs::read(&self.account) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&self.account, error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|_| AcmeError::BadAccount(self.account.clone()))
    }

    pub(super) fn save_account(&self, credentials: &AccountCredentials) -> Result<(), AcmeError> {
        let json =
            serde_json::to_vec(credentials).map_err(|_| AcmeError::BadAccount(self.account.clone()))?;
        self.save(&self.account, &json)
    }

    pub(super) fn load_certificate(&self) -> Result<Option<CertifiedKey>, AcmeError> {
        match self.certificate.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(CertifiedKey::from_pem_files(&self.certificate, &self.certificate)?)),
            Err(error) => Err(failed(&self.certificate, error)),
        }
    }

    pub(super) fn save_certificate(&self, key_pem: &str, chain_pem: &str) -> Result<(), AcmeError> {
        self.save(&self.certificate, format!("{key_pem}{chain_pem}").as_bytes())
    }

    /// Writes beside the old file, and puts the new one in its place once it is on the disk.
    fn save(&self, path: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
        let new = path.with_extension("new");
        let written = (|| -> io::Result<()> {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(&self.folder)?.sync_all()
        })();
        written.map_err(|error| failed(path, error))
    }
}

fn failed(path: &Path, error: io::Error) -> AcmeError {
    AcmeError::Storage { path: path.to_owned(), error }
}

/// Enough of a digest to tell files apart by.
fn short(text: &str) -> String {
    Sha256::of(text.as_bytes()).to_string()[..16].to_owned()
}
