//! Bytes from the operating system's random generator.

/// `N` random bytes, fit for keys.
///
/// # Panics
/// If the operating system has no randomness, as a server must not go on with keys that can be guessed. Linux has
/// had it since early boot.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives no random bytes");
//! Random bytes of the kernel.

/// Fresh bytes for secrets.
/// If the kernel gives none, which no Linux since 3.17 does once it is up: to go on would be to use guessable
/// secrets.
pub(crate) fn bytes<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
