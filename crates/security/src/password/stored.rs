//! Hashes as they are stored, by this crate and by others: PHC strings, the forms of crypt, and what Python's
//! frameworks write.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::PasswordError;
use super::params::Argon2Params;

/// Characters that a stored hash may have.
const TEXT_BYTES_MAX: usize = 512;
/// Bytes that a hash has at least: a shorter one would match too many passwords.
const HASH_BYTES_MIN: usize = 16;
/// Bytes that a hash has at most.
const HASH_BYTES_MAX: usize = 64;
/// log2 of bcrypt's rounds, at most: some seconds.
const BCRYPT_COST_MAX: u8 = 16;
/// Bytes of a password that bcrypt looks at.
const BCRYPT_PASSWORD_BYTES: usize = 72;
/// Rounds of PBKDF2, at most: some seconds.
const PBKDF2_ROUNDS_MAX: u32 = 5_000_000;
/// Bytes of memory for scrypt, at most.
const SCRYPT_MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Bytes that scrypt writes over all its lanes, at most.
const SCRYPT_WORK_BYTES_MAX: u64 = 1 << 30;

/// With or without padding, as this differs from one system to the next.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A stored hash, whose cost is within the limits.
pub(super) enum StoredHash {
    Argon2(Argon2Hash),
    /// A whole string of crypt, known to be well-formed.
    Bcrypt(String),
    Scrypt {
        params: scrypt::Params,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    Pbkdf2 {
        hmac: Pbkdf2Hmac,
        rounds: u32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

#[derive(Clone)]
pub(super) struct Argon2Hash {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) params: Argon2Params,
    pub(super) salt: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

pub(super) enum Pbkdf2Hmac {
    Sha1,
    Sha256,
    Sha512,
}

impl StoredHash {
    /// Reads a stored hash, and refuses one that would take more memory or time than a login may cost, or that is so
    /// short that a wrong password may match it.
    pub(super) fn parse(text: &str) -> Result<Self, PasswordError> {
        if text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
            return Err(PasswordError::HashMalformed);
        }
        let parts: Vec<&str> = text.split('$').collect();
        match *parts.as_slice() {
            ["", "argon2id" | "argon2i" | "argon2d", ..] => parse_argon2(&parts[1..]).map(Self::Argon2),
            ["", "2a" | "2b" | "2y", cost, _] => parse_bcrypt(text, cost),
            ["", "scrypt", params, salt, hash] => {
                let [log_n, r, p] = numbers(params, ["ln", "r", "p"])?;
                let log_n = u8::try_from(log_n).map_err(|_| PasswordError::HashTooCostly)?;
                scrypt(log_n, r, p, base64(salt)?, base64(hash)?)
            }
            [
                "",
                name @ ("pbkdf2" | "pbkdf2-sha1" | "pbkdf2-sha256" | "pbkdf2-sha512"),
                params,
                salt,
                hash,
            ] => {
                // A bare number is how passlib writes the rounds.
                let rounds = match params.split(',').find_map(|param| param.strip_prefix("i=")) {
                    Some(rounds) => number(rounds)?,
                    None => number(params)?,
                };
                pbkdf2(name.strip_prefix("pbkdf2-").unwrap_or("sha1"), rounds, base64(salt)?, base64(hash)?)
            }
            // Django's form.
            [name @ ("pbkdf2_sha1" | "pbkdf2_sha256"), rounds, salt, hash] => {
                pbkdf2(&name["pbkdf2_".len()..], number(rounds)?, salt.into(), base64(hash)?)
            }
            // Werkzeug's forms, which Flask services have.
            [method, salt, hash] => parse_werkzeug(method, salt, hash),
            _ => Err(PasswordError::HashUnknown),
        }
    }

    /// Whether `password` is behind this hash. Slow, as it is meant to be.
    pub(super) fn matches(&self, password: &[u8]) -> Result<bool, PasswordError> {
        match self {
            Self::Argon2(stored) => stored.matches(password),
            Self::Bcrypt(text) => bcrypt::verify(password, text).map_err(|_| PasswordError::HashMalformed),
            Self::Scrypt { params, salt, hash } => {
                let mut output = Zeroizing::new(vec![0; hash.len()]);
                scrypt::scrypt(password, salt, params, &mut output)
                    .map_err(|_| PasswordError::HashMalformed)?;
                Ok(output.ct_eq(hash).into())
            }
            Self::Pbkdf2 { hmac, rounds, salt, hash } => {
                let mut output = Zeroizing::new(vec![0; hash.len()]);
                match hmac {
                    Pbkdf2Hmac::Sha1 => pbkdf2_hmac::<Sha1>(password, salt, *rounds, &mut output),
                    Pbkdf2Hmac::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, *rounds, &mut output),
                    Pbkdf2Hmac::Sha512 => pbkdf2_hmac::<Sha512>(password, salt, *rounds, &mut output),
                }
                Ok(output.ct_eq(hash).into())
            }
        }
    }

    /// Whether all of `password` goes into the hash.
    pub(super) fn covers(&self, password: &[u8]) -> bool {
        !matches!(self, Self::Bcrypt(_)) || password.len() <= BCRYPT_PASSWORD_BYTES
    }
}

impl Argon2Hash {
    /// Makes a hash of `password`.
    pub(super) fn compute(
        algorithm: Algorithm,
        version: Version,
        params: Argon2Params,
        password: &[u8],
        salt: &[u8],
        output: &mut [u8],
    ) -> Result<(), PasswordError> {
        let Argon2Params { memory_kib, passes, lanes } = params;
        let params = Params::new(memory_kib, passes, lanes, Some(output.len()))
            .map_err(|_| PasswordError::HashMalformed)?;
        Argon2::new(algorithm, version, params).hash_password_into(password, salt, output).map_err(|error| {
            match error {
                argon2::Error::OutOfMemory => PasswordError::OutOfMemory,
                _ => PasswordError::HashMalformed,
            }
        })
    }

    pub(super) fn matches(&self, password: &[u8]) -> Result<bool, PasswordError> {
        let mut output = Zeroizing::new(vec![0; self.hash.len()]);
        Self::compute(self.algorithm, self.version, self.params, password, &self.salt, &mut output)?;
        Ok(output.ct_eq(&self.hash).into())
    }

    /// The PHC string.
    pub(super) fn to_phc(&self) -> String {
        let Argon2Params { memory_kib, passes, lanes } = self.params;
        let [salt, hash] = [&self.salt, &self.hash].map(|bytes| BASE64.encode(bytes));
        let (name, version) = (self.algorithm.as_str(), u32::from(self.version));
        format!("${name}$v={version}$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

fn parse_argon2(parts: &[&str]) -> Result<Argon2Hash, PasswordError> {
    let (name, version, params, salt, hash) = match *parts {
        [name, version, params, salt, hash] => (name, version, params, salt, hash),
        // Before version 1.3 there was none in the string.
        [name, params, salt, hash] => (name, "v=16", params, salt, hash),
        _ => return Err(PasswordError::HashMalformed),
    };
    let algorithm = Algorithm::new(name).map_err(|_| PasswordError::HashUnknown)?;
    let version = match version {
        "v=19" => Version::V0x13,
        "v=16" => Version::V0x10,
        _ => return Err(PasswordError::HashUnknown),
    };
    let [memory_kib, passes, lanes] = numbers(params, ["m", "t", "p"])?;
    let params =
        Argon2Params::within_limits(memory_kib, passes, lanes).ok_or(PasswordError::HashTooCostly)?;
    Ok(Argon2Hash { algorithm, version, params, salt: base64(salt)?, hash: check_len(base64(hash)?)? })
}

fn parse_bcrypt(text: &str, cost: &str) -> Result<StoredHash, PasswordError> {
    let cost = u8::try_from(number(cost)?).map_err(|_| PasswordError::HashTooCostly)?;
    if cost > BCRYPT_COST_MAX {
        return Err(PasswordError::HashTooCostly);
    }
    // Parses the rest, and computes nothing.
    text.parse::<bcrypt::HashParts>().map_err(|_| PasswordError::HashMalformed)?;
    Ok(StoredHash::Bcrypt(text.to_owned()))
}

/// `scrypt:N:r:p$salt$hash` and `pbkdf2:hash:rounds$salt$hash`, with a salt of letters and a hash in hexadecimal.
fn parse_werkzeug(method: &str, salt: &str, hash: &str) -> Result<StoredHash, PasswordError> {
    let hash = hexadecimal(hash)?;
    let method: Vec<&str> = method.split(':').collect();
    match *method.as_slice() {
        ["scrypt", n, r, p] => {
            let n = number(n)?;
            if !n.is_power_of_two() {
                return Err(PasswordError::HashMalformed);
            }
            scrypt(n.ilog2() as u8, number(r)?, number(p)?, salt.into(), hash)
        }
        ["pbkdf2", name, rounds] => pbkdf2(name, number(rounds)?, salt.into(), hash),
        _ => Err(PasswordError::HashUnknown),
    }
}

fn scrypt(log_n: u8, r: u32, p: u32, salt: Vec<u8>, hash: Vec<u8>) -> Result<StoredHash, PasswordError> {
    let memory_bytes = 1_u64.checked_shl(log_n.into()).and_then(|n| n.checked_mul(128 * u64::from(r)));
    let work_bytes = memory_bytes.and_then(|bytes| bytes.checked_mul(p.into()));
    let within = |bytes: Option<u64>, max| bytes.is_some_and(|bytes| bytes <= max);
    if !within(memory_bytes, SCRYPT_MEMORY_BYTES_MAX) || !within(work_bytes, SCRYPT_WORK_BYTES_MAX) {
        return Err(PasswordError::HashTooCostly);
    }
    // RFC 7914 section 2: N is more than 1.
    if log_n == 0 {
        return Err(PasswordError::HashMalformed);
    }
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| PasswordError::HashMalformed)?;
    Ok(StoredHash::Scrypt { params, salt, hash: check_len(hash)? })
}

fn pbkdf2(name: &str, rounds: u32, salt: Vec<u8>, hash: Vec<u8>) -> Result<StoredHash, PasswordError> {
    let hmac = match name {
        "sha1" => Pbkdf2Hmac::Sha1,
        "sha256" => Pbkdf2Hmac::Sha256,
        "sha512" => Pbkdf2Hmac::Sha512,
        _ => return Err(PasswordError::HashUnknown),
    };
    match rounds {
        0 => Err(PasswordError::HashMalformed),
        1..=PBKDF2_ROUNDS_MAX => Ok(StoredHash::Pbkdf2 { hmac, rounds, salt, hash: check_len(hash)? }),
        _ => Err(PasswordError::HashTooCostly),
    }
}

fn check_len(hash: Vec<u8>) -> Result<Vec<u8>, PasswordError> {
    let is_right = (HASH_BYTES_MIN..=HASH_BYTES_MAX).contains(&hash.len());
    is_right.then_some(hash).ok_or(PasswordError::HashMalformed)
}

/// The values of `name=number,...`: these names and no others, in this order.
fn numbers<const N: usize>(params: &str, names: [&str; N]) -> Result<[u32; N], PasswordError> {
    let mut values = [0; N];
    let mut params = params.split(',');
    for (value, name) in values.iter_mut().zip(names) {
        let param = params.next().and_then(|param| param.strip_prefix(name)?.strip_prefix('='));
        *value = number(param.ok_or(PasswordError::HashMalformed)?)?;
    }
    if params.next().is_some() { Err(PasswordError::HashMalformed) } else { Ok(values) }
}

/// Plain decimal digits. A number too large for its type is one that costs too much.
fn number(digits: &str) -> Result<u32, PasswordError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PasswordError::HashMalformed);
    }
    digits.parse().map_err(|_| PasswordError::HashTooCostly)
}

/// Base64, also with the `.` that passlib writes for `+`.
fn base64(text: &str) -> Result<Vec<u8>, PasswordError> {
    BASE64.decode(text.replace('.', "+")).map_err(|_| PasswordError::HashMalformed)
}

fn hexadecimal(text: &str) -> Result<Vec<u8>, PasswordError> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(PasswordError::HashMalformed);
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(PasswordError::HashMalformed);
    }
    pairs.map(|pair| Ok((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_hashes_never_panic(text in "\\PC{0,80}") {
            let _ = StoredHash::parse(&text);
        }

        #[test]
        fn arbitrary_hashes_of_known_kinds_never_panic(
            kind in "(\\$argon2(id|i|d)\\$v=19|\\$2[aby]|\\$scrypt|\\$pbkdf2(-sha(1|256|512))?|scrypt:[0-9]{1,11}:[0-9]{1,11}:[0-9]{1,11}|pbkdf2:sha(1|256|512):[0-9]{1,11}|pbkdf2_sha256)",
            params in "(m|ln|i)?=?[0-9]{0,11}(,(t|r|l)=[0-9]{0,11})?(,p=[0-9]{0,11})?",
            rest in "(\\$[0-9A-Za-z+/.=]{0,64}){0,3}",
        ) {
            let _ = StoredHash::parse(&format!("{kind}${params}{rest}"));
            let _ = StoredHash::parse(&format!("{kind}{rest}"));
        }

        /// What is written is read as it was.
        #[test]
        fn phc_strings_are_read_as_they_were_written(
            salt in prop::collection::vec(any::<u8>(), 8..=48),
            hash in prop::collection::vec(any::<u8>(), HASH_BYTES_MIN..=HASH_BYTES_MAX),
            (memory_kib, passes, lanes) in (8..1000_u32, 1..5_u32, 1..16_u32),
        ) {
            let params = Argon2Params::within_limits(memory_kib, passes, lanes).unwrap();
            let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
            let written = Argon2Hash { algorithm, version, params, salt: salt.clone(), hash: hash.clone() };
            let Ok(StoredHash::Argon2(read)) = StoredHash::parse(&written.to_phc()) else { panic!() };
            prop_assert_eq!((read.algorithm, read.version), (algorithm, version));
            prop_assert_eq!((read.params, read.salt, read.hash), (params, salt, hash));
        }
    }
}
