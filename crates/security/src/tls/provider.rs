//! The cryptography and the protocol versions that every session uses.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{SupportedProtocolVersion, version};

/// aws-lc-rs, with the groups in our order: the hybrid with ML-KEM first, so that what is recorded today cannot be
/// read with a quantum computer later.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            ..default_provider()
        })
    });
    Arc::clone(&PROVIDER)
}

/// TLS 1.3, and 1.2 unless it is left out. Older ones do not exist here.
pub(super) fn versions(only_tls13: bool) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    &BOTH[..if only_tls13 { 1 } else { 2 }]
}
