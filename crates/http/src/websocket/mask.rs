//! Masking (RFC 6455 section 5.3).

/// Masks `data`, or takes its mask off: both are the same. The first byte is paired with the first byte of `key`.
pub(super) fn apply(data: &mut [u8], key: [u8; 4]) {
    // The loop over words is one that the compiler makes of vector instructions.
    let word = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// The key for what follows `len` masked bytes.
pub(super) fn advance(mut key: [u8; 4], len: usize) -> [u8; 4] {
    key.rotate_left(len % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6455_5_3_octet_i_is_paired_with_key_octet_i_mod_4() {
        let key = [1, 20, 40, 80];
        for len in 0..40 {
            let plain: Vec<u8> = (100..100 + len).collect();
            let expected: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            for cut in 0..=plain.len() {
                let mut data = plain.clone();
                apply(&mut data[..cut], key);
                apply(&mut data[cut..], advance(key, cut));
                assert_eq!(data, expected, "{len} bytes cut at {cut}");
            }
        }
    }
}
