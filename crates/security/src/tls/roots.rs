//! Trusted roots from PEM.

use rustls::RootCertStore;

use super::config_error::TlsConfigError;
use super::pem;
use super::source::PemSource;

/// Adds every certificate of `source` to `store`, and gives their DER to `seen`.
pub(super) fn add(
    store: &mut RootCertStore,
    source: &PemSource,
    mut seen: impl FnMut(&[u8]),
) -> Result<(), TlsConfigError> {
    let origin = source.origin();
    for (index, der) in pem::certificates(&source.read()?, &origin)?.into_iter().enumerate() {
        seen(&der);
        store.add(der).map_err(|error| TlsConfigError::BadRoot {
            origin: origin.clone(),
            number: index + 1,
            reason: error.to_string(),
        })?;
    }
    Ok(())
}
