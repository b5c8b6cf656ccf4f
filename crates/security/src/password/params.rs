//! How much work a new hash is.

use super::PasswordError;

/// Memory and passes for Argon2id that OWASP's Password Storage Cheat Sheet holds to be equally strong, and weakest
/// of what it recommends.
const FLOOR: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// The cost of an Argon2id hash (RFC 9106).
///
/// ```
/// use gimmal_security::password::Argon2Params;
///
/// assert_eq!(Argon2Params::default().memory_kib(), 19 * 1024);
/// assert!(Argon2Params::new(64 * 1024, 3, 1).is_ok());
/// assert!(Argon2Params::new(4 * 1024, 2, 1).is_err(), "below OWASP's floor");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Params {
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Argon2Params {
    /// Memory that any one hash may take.
    pub const MEMORY_KIB_MAX: u32 = 256 * 1024;
    /// Memory times passes that any one hash may take.
    pub const WORK_KIB_MAX: u32 = 4 * 1024 * 1024;
    /// Lanes that a hash may have.
    pub const LANES_MAX: u32 = 16;

    /// A cost of one's own: at least what OWASP recommends, which is 46 MiB and one pass, 19 MiB and two, 12 MiB and
    /// three, 9 MiB and four, or 7 MiB and five. The lanes of a hash are computed one after the other here.
    ///
    /// # Errors
    /// [`PasswordError::ParamsTooWeak`] below that floor, [`PasswordError::ParamsTooCostly`] above the limits of
    /// this type.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, PasswordError> {
        let params = Self::within_limits(memory_kib, passes, lanes).ok_or(PasswordError::ParamsTooCostly)?;
        let is_strong = |&(memory_floor, passes_floor)| memory_kib >= memory_floor && passes >= passes_floor;
        if FLOOR.iter().any(is_strong) { Ok(params) } else { Err(PasswordError::ParamsTooWeak) }
    }

    /// Any cost that this machine can bear, as a stored hash of old may have it.
    pub(super) fn within_limits(memory_kib: u32, passes: u32, lanes: u32) -> Option<Self> {
        let params = Self { memory_kib, passes, lanes };
        (memory_kib <= Self::MEMORY_KIB_MAX
            && params.work_kib() <= u64::from(Self::WORK_KIB_MAX)
            && (1..=Self::LANES_MAX).contains(&lanes))
        .then_some(params)
    }

    /// Memory times passes: what one hash writes.
    pub(super) fn work_kib(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Memory that one hash takes.
    #[must_use]
    pub fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    #[must_use]
    pub fn passes(self) -> u32 {
        self.passes
    }

    /// Lanes of the memory.
    #[must_use]
    pub fn lanes(self) -> u32 {
        self.lanes
    }
}

impl Default for Argon2Params {
    /// 19 MiB, two passes, one lane.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_owasps() {
        for (memory_kib, passes) in FLOOR {
            assert!(Argon2Params::new(memory_kib, passes, 1).is_ok());
            assert_eq!(Argon2Params::new(memory_kib - 1, passes, 1), Err(PasswordError::ParamsTooWeak));
        }
        assert_eq!(Argon2Params::new(7_167, 1000, 1), Err(PasswordError::ParamsTooCostly));
        assert_eq!(Argon2Params::new(7_167, 500, 1), Err(PasswordError::ParamsTooWeak));
        assert_eq!(Argon2Params::new(47_104, 0, 1), Err(PasswordError::ParamsTooWeak));
        let default = Argon2Params::default();
        assert_eq!(Argon2Params::new(default.memory_kib, default.passes, default.lanes), Ok(default));
    }

    #[test]
    fn hash_parameter_bomb_in_the_configuration() {
        let bomb = |memory_kib, passes, lanes| Argon2Params::new(memory_kib, passes, lanes);
        for params in [bomb(262_145, 1, 1), bomb(262_144, 17, 1), bomb(65_536, 3, 17), bomb(65_536, 3, 0)] {
            assert_eq!(params, Err(PasswordError::ParamsTooCostly));
        }
        assert_eq!(bomb(u32::MAX, u32::MAX, u32::MAX), Err(PasswordError::ParamsTooCostly));
    }
}
