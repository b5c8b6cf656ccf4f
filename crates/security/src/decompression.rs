//! The counter that stops a decompression bomb: a small body that unpacks to one that fills the memory.

use thiserror::Error;

/// A body unpacks to too much: answer 413 and stop unpacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecompressionRefused {
    /// More bytes in all than the limit.
    #[error("the body is too large when it is unpacked")]
    TooLarge,
    /// So many more bytes than were sent that no honest body has them.
    #[error("the body is packed too tightly to be honest")]
    Ratio,
}

/// How much a body may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressionLimits {
    /// Unpacked bytes in all. 8 MiB by default.
    pub bytes: u64,
    /// Unpacked bytes for each packed one. 100 by default: text packs to a tenth, and gzip can do a thousandth.
    pub ratio: u64,
    /// Up to so many unpacked bytes, the ratio is not looked at: small bodies of zeros are no harm. 64 KiB by default.
    pub ratio_from_bytes: u64,
}

impl Default for DecompressionLimits {
    fn default() -> Self {
        Self { bytes: 8 << 20, ratio: 100, ratio_from_bytes: 64 << 10 }
    }
}

/// Counts what goes into a decoder and what comes out. Count the input before it is unpacked, unpack into a buffer of
/// no more than [`remaining`](Self::remaining) bytes, and count the output before it is used.
///
/// ```
/// use gimmal_security::decompression::{DecompressionGuard, DecompressionLimits, DecompressionRefused};
///
/// let mut guard = DecompressionGuard::new(DecompressionLimits::default());
/// guard.packed(1000);
/// assert_eq!(guard.unpacked(60_000), Ok(()));
/// assert_eq!(guard.unpacked(60_000), Err(DecompressionRefused::Ratio));
/// ```
#[derive(Clone, Debug)]
pub struct DecompressionGuard {
    limits: DecompressionLimits,
    packed: u64,
    unpacked: u64,
}

impl DecompressionGuard {
    /// A guard for one body. For a body that is packed several times over, count the outermost input and each output.
    #[must_use]
    pub fn new(limits: DecompressionLimits) -> Self {
        Self { limits, packed: 0, unpacked: 0 }
    }

    /// Counts bytes that go in.
    pub fn packed(&mut self, bytes: usize) {
        self.packed = self.packed.saturating_add(bytes as u64);
    }

    /// Counts bytes that came out.
    ///
    /// # Errors
    /// [`DecompressionRefused`] if they are too many, now and from then on.
    pub fn unpacked(&mut self, bytes: usize) -> Result<(), DecompressionRefused> {
        self.unpacked = self.unpacked.saturating_add(bytes as u64);
        if self.unpacked > self.limits.bytes {
            return Err(DecompressionRefused::TooLarge);
        }
        let is_tight = self.unpacked > self.packed.saturating_mul(self.limits.ratio);
        if is_tight && self.unpacked > self.limits.ratio_from_bytes {
            return Err(DecompressionRefused::Ratio);
        }
        Ok(())
    }

    /// How many bytes may still come out before it refuses, as far as the packed bytes so far go; a decoder needs one
    /// more than this to show that there are more.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        let by_ratio = self.packed.saturating_mul(self.limits.ratio).max(self.limits.ratio_from_bytes);
        self.limits.bytes.min(by_ratio).saturating_sub(self.unpacked)
    }
}
