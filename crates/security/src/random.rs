//! Random bytes of the kernel.

/// Fresh bytes for secrets.
///
/// # Panics
/// If the kernel gives none, which no Linux since 3.17 does once it is up: to go on would be to use guessable
/// secrets.
pub(crate) fn bytes<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
