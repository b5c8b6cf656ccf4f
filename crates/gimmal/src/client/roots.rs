//! Whom a client trusts that was not told.

use std::sync::OnceLock;

use gimmal_runtime::blocking;
use gimmal_security::tls::TlsClientConfig;

use super::error::ClientError;

/// A configuration with the roots of the platform, which are read once for all cores, when they are first needed. The
/// sessions to be resumed are shared as well.
pub(super) async fn platform() -> Result<TlsClientConfig, ClientError> {
    static PLATFORM: OnceLock<TlsClientConfig> = OnceLock::new();
    if let Some(config) = PLATFORM.get() {
        return Ok(config.clone());
    }
    // It reads files.
    let read =
        blocking(TlsClientConfig::platform).await.map_err(|error| ClientError::Request(error.into()))?;
    let config = read.map_err(ClientError::Roots)?;
    Ok(PLATFORM.get_or_init(|| config).clone())
}
