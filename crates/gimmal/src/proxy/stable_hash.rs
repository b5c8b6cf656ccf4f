//! A hash that stays the same over processes, machines and releases of Rust.

/// Hashes bytes: FNV-1a, whose result is then mixed so that each bit of it depends on all of them.
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

/// Spreads every bit over the whole word (the finalizer of MurmurHash3).
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These numbers never change: proxies of different releases have to send a key to the same upstream.
    #[test]
    fn hashes_are_those_of_every_release() {
        assert_eq!(mix(0), 0);
        assert_eq!(mix(0xcbf2_9ce4_8422_2325), stable_hash(b""));
        assert_eq!(stable_hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(stable_hash(b"a"), 0x82a2_a958_a9be_ce5b);
        assert_eq!(stable_hash(b"http://10.0.0.1:80"), 0xd9eb_4e5a_b980_14b4);
    }
}
