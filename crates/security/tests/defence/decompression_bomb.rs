//! Decompression bombs.

use gimmal_security::decompression::{DecompressionGuard, DecompressionLimits, DecompressionRefused};

#[test]
fn decompression_bomb_is_stopped_by_its_ratio() {
    // Ten megabytes of zeros in ten kilobytes of gzip, in pieces of 32 KiB.
    let mut guard = DecompressionGuard::new(DecompressionLimits::default());
    let mut pieces = 0;
    let refused = loop {
        guard.packed(32);
        match guard.unpacked(32 << 10) {
            Ok(()) => pieces += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, pieces), (DecompressionRefused::Ratio, 2));
    // And it stays refused.
    assert!(guard.unpacked(0).is_err());
}

#[test]
fn decompression_bomb_is_stopped_by_its_size() {
    let mut guard = DecompressionGuard::new(DecompressionLimits::default());
    guard.packed(1 << 20);
    assert_eq!(guard.unpacked(8 << 20), Ok(()));
    assert_eq!(guard.remaining(), 0);
    assert_eq!(guard.unpacked(1), Err(DecompressionRefused::TooLarge));
}

#[test]
fn an_honest_body_passes() {
    let mut guard = DecompressionGuard::new(DecompressionLimits::default());
    for _ in 0..100 {
        guard.packed(1000);
        assert_eq!(guard.unpacked(20_000), Ok(()));
    }
    // A small body of zeros is no harm.
    let mut guard = DecompressionGuard::new(DecompressionLimits::default());
    guard.packed(80);
    assert_eq!((guard.unpacked(64 << 10), guard.remaining()), (Ok(()), 0));
}

#[test]
fn what_remains_is_exact() {
    let limits = DecompressionLimits { bytes: 1000, ratio: 10, ratio_from_bytes: 50 };
    for packed in [0, 3, 5, 20, 99, 100, 500] {
        let mut guard = DecompressionGuard::new(limits);
        guard.packed(packed);
        let remaining = guard.remaining() as usize;
        assert_eq!(guard.unpacked(remaining), Ok(()), "{packed}");
        assert!(guard.unpacked(1).is_err(), "{packed}");
    }
}
