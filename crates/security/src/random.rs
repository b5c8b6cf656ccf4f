//! Random bytes of the kernel.

use std::cell::RefCell;

/// A thread asks the kernel for so many bytes at a time: a call costs as much as the rest of a response.
const POOL_LEN: usize = 512;

/// Bytes of the kernel that were given to nobody yet.
struct Pool {
    bytes: [u8; POOL_LEN],
    /// How many there are, at the beginning.
    len: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_LEN], len: 0 }) };
}

/// Fresh bytes for secrets, of which no copy stays behind.
///
/// # Panics
/// If the kernel gives none, which no Linux since 3.17 does once it is up: to go on would be to use guessable
/// secrets.
pub(crate) fn bytes<const LEN: usize>() -> [u8; LEN] {
    const { assert!(LEN <= POOL_LEN, "a secret is smaller than the pool") };
    POOL.with_borrow_mut(|pool| {
        if pool.len < LEN {
            getrandom::fill(&mut pool.bytes).expect("the kernel gives random bytes");
            pool.len = POOL_LEN;
        }
        pool.len -= LEN;
        let mut taken = [0; LEN];
        taken.swap_with_slice(&mut pool.bytes[pool.len..pool.len + LEN]);
        taken
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_bytes_are_given_twice() {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            assert!(seen.insert(bytes::<16>().to_vec()));
            assert!(seen.insert(bytes::<40>()[..16].to_vec()));
        }
        assert!(!seen.contains([0; 16].as_slice()));
    }
}
