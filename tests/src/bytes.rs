//! Bytes that show when one of them is missing, doubled or out of its place.

use std::sync::LazyLock;

static PERIOD: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..251 * 256).map(|at| ((at % 251) ^ (at / 251)) as u8).collect());

/// The bytes from `offset` to `offset + len` of an endless pattern whose period is 251 times 256 bytes, so that no
/// power of two divides it.
#[must_use]
pub fn pattern(offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    let mut at = (offset % PERIOD.len() as u64) as usize;
    while bytes.len() < len {
        let piece = (PERIOD.len() - at).min(len - bytes.len());
        bytes.extend_from_slice(&PERIOD[at..at + piece]);
        at = 0;
    }
    bytes
}

/// FNV-1a, over whatever was hashed before: begin with [`checksum::BEGIN`].
pub mod checksum {
    /// The hash of nothing.
    pub const BEGIN: u64 = 0xcbf2_9ce4_8422_2325;

    /// The hash with `bytes` behind what was hashed before.
    #[must_use]
    pub fn add(hash: u64, bytes: &[u8]) -> u64 {
        bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }
}
