//! Bytes from the operating system's random generator.

/// `N` random bytes, fit for keys.
///
/// # Panics
/// If the operating system has no randomness, as a server must not go on with keys that can be guessed. Linux has
/// had it since early boot.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives no random bytes");
    bytes
}
