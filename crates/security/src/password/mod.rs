//! Passwords: hashed with Argon2id, verified against hashes from other systems, too, and checked when they are
//! chosen.
//!
//! Everything here that hashes is meant to be slow, and blocks its thread: run it on threads for blocking work, in a
//! queue with a bound, so that a flood of logins is turned away instead of stopping the rest of the server. As
//! each hash takes [`Argon2Params::memory_kib`] of memory, let no more run at a time than there are cores.
//!
//! A login has two steps. The first looks up the stored hash, and may wait for a database. The second is
//! [`Passwords::verify`], whether there was a stored hash or not.
//!
//! ```
//! use gimmal_security::SecretString;
//! use gimmal_security::password::{Passwords, Verdict};
//!
//! let passwords = Passwords::default();
//! // As a Flask service stored it.
//! let mut stored = "pbkdf2:sha256:2600$w9kxLgsoaWd0E9S5$\
//!     ac6ee219544e046635d7997348bab249fec7f805902834f670273a9abfa7ea44".to_owned();
//! let password = SecretString::from("pässwörd 🔑");
//! match passwords.verify(&password, Some(&stored))? {
//!     Verdict::Right => {}
//!     // Store this in the place of the old one.
//!     Verdict::RightRehash(hash) => stored = hash,
//!     Verdict::Wrong => panic!("refuse the login"),
//! }
//! assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
//! assert_eq!(passwords.verify(&password, Some(&stored))?, Verdict::Right);
//! // No such user: the same work, and the same answer.
//! assert_eq!(passwords.verify(&password, None)?, Verdict::Wrong);
//! # Ok::<(), gimmal_security::password::PasswordError>(())
//! ```

mod blocklist;
mod params;
mod policy;
mod stored;
mod verified;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::{Algorithm, Version};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

pub use self::params::Argon2Params;
pub use self::policy::{PasswordPolicy, PasswordPolicyError};
use self::stored::{Argon2Hash, StoredHash};
pub use self::verified::VerifiedPasswords;
use crate::random;

/// Bytes of a password beyond which it is refused unread.
pub const PASSWORD_BYTES_MAX: usize = 4096;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Why there is no hash, or no verdict. None of these is for a client to see: to it, a login that ends in an error
/// was refused like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Parameters below OWASP's floor.
    #[error("these Argon2id parameters are too weak: take at least 19 MiB and two passes")]
    ParamsTooWeak,
    /// Parameters above the limits of [`Argon2Params`].
    #[error("these Argon2id parameters cost too much for a login")]
    ParamsTooCostly,
    /// A password of more than [`PASSWORD_BYTES_MAX`] bytes.
    #[error("the password is longer than {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// A stored hash of a kind that is not known here.
    #[error("the stored hash is of an unknown kind: let the user reset the password")]
    HashUnknown,
    /// A stored hash that is damaged, or shorter than is safe.
    #[error("the stored hash is malformed: let the user reset the password")]
    HashMalformed,
    /// A stored hash that asks for more memory or time than a login may cost.
    #[error("the stored hash asks for too much memory or time: let the user reset the password")]
    HashTooCostly,
    /// No memory for a hash.
    #[error("not enough memory to hash a password: run fewer hashes at a time")]
    OutOfMemory,
}

/// Whether a password was right. `Debug` does not show the new hash.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The password is right.
    Right,
    /// The password is right, and this new hash of it should take the place of the stored one, which is of another
    /// kind or of other parameters.
    RightRehash(String),
    /// The password is wrong, or there is no such user.
    Wrong,
}

impl Verdict {
    /// Whether the password is right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        !matches!(self, Self::Wrong)
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Right => "Right",
            Self::RightRehash(_) => "RightRehash(..)",
            Self::Wrong => "Wrong",
        })
    }
}

/// Makes and verifies hashes of passwords. One for all threads.
///
/// New hashes are Argon2id in PHC form. Verified, and replaced at the next login, are also Argon2 of other kinds and
/// costs, bcrypt (`$2a$`, `$2b$`, `$2y$`), scrypt and PBKDF2 with SHA-1, SHA-256 or SHA-512 in PHC form and in that
/// of passlib, the `scrypt:` and `pbkdf2:` forms of Werkzeug (Flask), and `pbkdf2_sha256` of Django. A stored hash may
/// ask for 256 MiB and some seconds at most.
///
/// An unknown user takes as long as a wrong password for a hash with the current parameters. A user whose hash is still
/// of another kind or cost shows by the time: that the user exists, and which kind the hash is. Where an unknown user
/// took 58 ms, a wrong password took 5 ms for 2,600 rounds of PBKDF2 with SHA-1, 0.2 s for bcrypt at cost 10, 0.5 s for
/// scrypt with N = 2^15 and 0.6 s for Argon2id with 64 MiB and three passes. Nothing evens this out: to hash an unknown
/// user twice would only mark the others. It ends for each user with the first right login, which replaces the hash; take
/// away the hashes of those who do not come back.
///
/// See the [module](self) for an example, and for where to call it.
pub struct Passwords {
    params: Argon2Params,
    /// A hash that no password has, for users that do not exist.
    nobody: Argon2Hash,
    work_kib: AtomicU64,
}

impl Passwords {
    /// New hashes get these parameters.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn new(params: Argon2Params) -> Self {
        let nobody = Argon2Hash {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params,
            salt: random::bytes::<SALT_BYTES>().to_vec(),
            hash: random::bytes::<HASH_BYTES>().to_vec(),
        };
        Self { params, nobody, work_kib: AtomicU64::new(0) }
    }

    /// Hashes a new password. Slow: see the [module](self) for where to call it. Whether the password is a good one
    /// is for a [`PasswordPolicy`] to say.
    ///
    /// # Errors
    /// [`PasswordError::TooLong`], or [`PasswordError::OutOfMemory`].
    ///
    /// # Panics
    /// If the operating system has no randomness.
    pub fn hash(&self, password: &SecretString) -> Result<String, PasswordError> {
        check_len(password)?;
        let salt = random::bytes::<SALT_BYTES>();
        let mut stored = Argon2Hash { salt: salt.to_vec(), hash: vec![0; HASH_BYTES], ..self.nobody.clone() };
        let password = normalized(password);
        self.count(self.params);
        let Argon2Hash { algorithm, version, params, .. } = stored;
        Argon2Hash::compute(algorithm, version, params, password.as_bytes(), &salt, &mut stored.hash)?;
        Ok(stored.to_phc())
    }

    /// Whether `password` is behind the `stored` hash, or behind that of a user who does not exist (`None`), which
    /// takes the same work. Slow: see the [module](self) for where to call it.
    ///
    /// # Errors
    /// [`PasswordError`] if the stored hash is of no use. Refuse the login as if the password were wrong, and
    /// tell the operator.
    pub fn verify(&self, password: &SecretString, stored: Option<&str>) -> Result<Verdict, PasswordError> {
        let parsed = stored.map(StoredHash::parse).transpose();
        match parsed {
            Ok(Some(hash)) if check_len(password).is_ok() => self.verify_against(password, &hash),
            refused => {
                self.argon2_matches(password, &self.nobody)?;
                refused.map(|_| Verdict::Wrong)
            }
        }
    }

    fn verify_against(&self, password: &SecretString, stored: &StoredHash) -> Result<Verdict, PasswordError> {
        let raw = password.expose_secret().as_bytes();
        let (right, current) = match stored {
            StoredHash::Argon2(stored) => {
                let matched = self.argon2_matches(password, stored)?;
                (matched.is_some(), matched == Some(Form::Normalized) && self.is_current(stored))
            }
            // Other systems hash what they are given. What bcrypt did not look at must not become part of the
            // password.
            _ => (stored.matches(raw)?, !stored.covers(raw)),
        };
        Ok(match (right, current) {
            (false, _) => Verdict::Wrong,
            (true, true) => Verdict::Right,
            // A login that is right must not fail for want of memory for its new hash.
            (true, false) => self.hash(password).map_or(Verdict::Right, Verdict::RightRehash),
        })
    }

    /// Which form of the password is behind the hash, if any. The given form, where it differs, is tried as well: a
    /// hash of another system may have been made from it.
    fn argon2_matches(
        &self,
        password: &SecretString,
        stored: &Argon2Hash,
    ) -> Result<Option<Form>, PasswordError> {
        let given = password.expose_secret();
        // One that is too long is not going to be right, and to normalise it takes time for each of its bytes.
        let normalized =
            if given.len() > PASSWORD_BYTES_MAX { Zeroizing::default() } else { normalized(password) };
        self.count(stored.params);
        if stored.matches(normalized.as_bytes())? {
            return Ok(Some(Form::Normalized));
        }
        if *normalized == given || given.len() > PASSWORD_BYTES_MAX {
            return Ok(None);
        }
        self.count(stored.params);
        Ok(stored.matches(given.as_bytes())?.then_some(Form::Given))
    }

    /// Whether the hash is of the kind and the cost that a new one would have. One that costs more is not, either:
    /// it would take longer than an unknown user does.
    fn is_current(&self, stored: &Argon2Hash) -> bool {
        stored.params == self.params
            && stored.algorithm == Algorithm::Argon2id
            && stored.version == Version::V0x13
            && stored.salt.len() >= SALT_BYTES
            && stored.hash.len() >= HASH_BYTES
    }

    /// KiB that Argon2 has written so far, over all hashes that were made or verified: how busy logins keep the
    /// machine.
    #[must_use]
    pub fn work_kib(&self) -> u64 {
        self.work_kib.load(Ordering::Relaxed)
    }

    fn count(&self, params: Argon2Params) {
        self.work_kib.fetch_add(params.work_kib(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("params", &self.params).finish_non_exhaustive()
    }
}

impl Default for Passwords {
    /// With [`Argon2Params::default`].
    fn default() -> Self {
        Self::new(Argon2Params::default())
    }
}

/// Which form of a password was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Normalized,
    Given,
}

fn check_len(password: &SecretString) -> Result<(), PasswordError> {
    if password.expose_secret().len() > PASSWORD_BYTES_MAX { Err(PasswordError::TooLong) } else { Ok(()) }
}

/// The password in NFKC (NIST SP 800-63B section 3.1.1.2), so that it is the same from every keyboard.
fn normalized(password: &SecretString) -> Zeroizing<String> {
    let given = password.expose_secret();
    // Room enough from the start for all but odd cases, so that no copy is left behind by a string that grows.
    let mut normalized = Zeroizing::new(String::with_capacity(given.len() * 3));
    normalized.extend(given.nfkc());
    normalized
}
