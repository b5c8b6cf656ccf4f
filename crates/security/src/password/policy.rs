//! Which passwords may be chosen (NIST SP 800-63B revision 4, section 3.1.1.2).

use std::collections::HashSet;

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::blocklist::is_common;

/// Letters and digits that have to be left when the words that an attacker knows are taken out of a password.
const REST_CHARS_MIN: usize = 8;
/// Letters of a context word, from which on it is looked for inside passwords.
const CONTEXT_CHARS_MIN: usize = 4;
/// Rows of keys, and letters and digits in order, forwards; each is also looked for backwards.
const WALKS: [&str; 7] = [
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "012345678901234567890123456789012345678901234567890123456789",
    "qwertyuiopasdfghjklzxcvbnmqwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// Why a password may not be chosen, in words for the person who chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PasswordPolicyError {
    /// Fewer characters than the policy asks for.
    #[error("use at least {chars_min} characters: several words are easy to remember")]
    TooShort {
        /// Characters asked for.
        chars_min: usize,
    },
    /// More characters than the policy allows.
    #[error("use at most {chars_max} characters")]
    TooLong {
        /// Characters allowed.
        chars_max: usize,
    },
    /// One that everyone tries first, or little more than that.
    #[error("this password is among those that are tried first: choose another one")]
    Common,
    /// The name of the user or of the service, or little more than that.
    #[error("this password is made of names that anyone can guess: choose another one")]
    Context,
    /// The same few characters over and over, or a row of keys.
    #[error("this password repeats itself or follows the keyboard: choose another one")]
    Pattern,
}

/// Which passwords may be chosen: long ones that are not the first that anyone would try, of any characters, with no
/// rule about digits or punctuation, and for as long as nobody has found them out.
///
/// Characters are Unicode code points after normalisation.
///
/// ```
/// use gimmal_security::SecretString;
/// use gimmal_security::password::{PasswordPolicy, PasswordPolicyError};
///
/// let policy = PasswordPolicy::default();
/// let check = |text: &str| policy.check(&SecretString::from(text), &["mufasa", "Pride Rock"]);
/// assert_eq!(check("a lion sleeps at noon"), Ok(()));
/// assert_eq!(check("hakuna matata"), Err(PasswordPolicyError::TooShort { chars_min: 15 }));
/// assert_eq!(check("Password12345678!"), Err(PasswordPolicyError::Common));
/// assert_eq!(check("PrideRock-Mufasa-1"), Err(PasswordPolicyError::Context));
/// ```
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    chars_min: usize,
    chars_max: usize,
    blocked: HashSet<String>,
}

impl PasswordPolicy {
    /// Characters that a password has at least where it is all that proves who someone is.
    pub const SINGLE_FACTOR_CHARS_MIN: usize = 15;
    /// Characters that a password has at least where it is one of two factors.
    pub const MULTI_FACTOR_CHARS_MIN: usize = 8;
    /// The lowest limit that a policy may set to the length of passwords.
    pub const CHARS_MAX_MIN: usize = 64;

    /// For passwords that are all that proves who someone is: 15 to 256 characters.
    #[must_use]
    pub fn single_factor() -> Self {
        Self { chars_min: Self::SINGLE_FACTOR_CHARS_MIN, chars_max: 256, blocked: HashSet::new() }
    }

    /// For passwords that go together with a second factor: 8 to 256 characters.
    #[must_use]
    pub fn multi_factor() -> Self {
        Self { chars_min: Self::MULTI_FACTOR_CHARS_MIN, ..Self::single_factor() }
    }

    /// Asks for more characters. Fewer than the policy asks for already changes nothing.
    #[must_use]
    pub fn with_chars_min(mut self, chars: usize) -> Self {
        self.chars_min = self.chars_min.max(chars);
        self.chars_max = self.chars_max.max(self.chars_min);
        self
    }

    /// Sets how many characters a password may have; 64 at least, and never fewer than it must have.
    #[must_use]
    pub fn with_chars_max(mut self, chars: usize) -> Self {
        self.chars_max = chars.max(Self::CHARS_MAX_MIN).max(self.chars_min);
        self
    }

    /// Adds passwords that may not be chosen, with or without digits and punctuation around them, in any case.
    #[must_use]
    pub fn with_blocked<W: AsRef<str>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.blocked.extend(words.into_iter().map(|word| fold(word.as_ref()).to_string()));
        self
    }

    /// Checks a password when it is chosen, not at each login. `context` are names that belong to the user and to
    /// the service, such as the user name, the mail address and the domain.
    ///
    /// # Errors
    /// [`PasswordPolicyError`], with the first rule that it breaks.
    pub fn check(&self, password: &SecretString, context: &[&str]) -> Result<(), PasswordPolicyError> {
        let Self { chars_min, chars_max, .. } = *self;
        // One code point more than allowed is enough to know, whatever the length.
        let chars = password.expose_secret().nfkc().take(chars_max + 1).count();
        if chars > chars_max {
            return Err(PasswordPolicyError::TooLong { chars_max });
        }
        if chars < chars_min {
            return Err(PasswordPolicyError::TooShort { chars_min });
        }
        let folded = fold(password.expose_secret());
        self.check_guessable(&folded)?;
        let mut rest = folded.clone();
        for word in context.iter().flat_map(|text| context_words(text)) {
            rest = Zeroizing::new(rest.replace(word.as_str(), ""));
        }
        if *rest == *folded {
            return Ok(());
        }
        let is_left = rest.chars().filter(|character| character.is_alphanumeric()).count() >= REST_CHARS_MIN;
        if is_left && self.check_guessable(&rest).is_ok() {
            Ok(())
        } else {
            Err(PasswordPolicyError::Context)
        }
    }

    fn check_guessable(&self, folded: &str) -> Result<(), PasswordPolicyError> {
        let core = folded.trim_matches(|character: char| !character.is_alphabetic());
        let unit = repeated_unit(folded);
        for word in [folded, core, unit, repeated_unit(core)] {
            if is_common(word) || self.blocked.contains(word) {
                return Err(PasswordPolicyError::Common);
            }
        }
        let is_repeated = unit.len() < folded.len() && unit.chars().count() < REST_CHARS_MIN;
        if is_repeated || is_walk(folded) { Err(PasswordPolicyError::Pattern) } else { Ok(()) }
    }
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self::single_factor()
    }
}

/// In NFKC and lower case.
fn fold(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.nfkc().flat_map(char::to_lowercase).collect())
}

/// The text itself, without spaces, and its parts between punctuation, if they are long enough to be looked for; the
/// longest first, so that none hides another.
fn context_words(text: &str) -> Vec<String> {
    let folded = fold(text);
    let joined: String = folded.chars().filter(|character| !character.is_whitespace()).collect();
    let parts = folded.split(|character: char| !character.is_alphanumeric()).map(str::to_owned);
    let mut words: Vec<_> = parts.chain([folded.to_string(), joined]).collect();
    words.retain(|word| word.chars().count() >= CONTEXT_CHARS_MIN);
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words
}

/// The shortest text whose repetition gives `text`, where the last one may be cut short.
fn repeated_unit(text: &str) -> &str {
    let is_period = |&len: &usize| {
        text.is_char_boundary(len) && text.as_bytes().iter().zip(&text.as_bytes()[len..]).all(|(a, b)| a == b)
    };
    // More than half of a text says little about the rest.
    let len = (1..=text.len() / 2).find(is_period).unwrap_or(text.len());
    &text[..len]
}

/// Whether the whole text is one walk over the keyboard, the alphabet or the digits.
fn is_walk(text: &str) -> bool {
    let reversed: Zeroizing<String> = Zeroizing::new(text.chars().rev().collect());
    WALKS.iter().any(|walk| walk.contains(text) || walk.contains(reversed.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(policy: &PasswordPolicy, password: &str) -> Result<(), PasswordPolicyError> {
        policy.check(&SecretString::from(password), &["mufasa@pride-rock.example", "Lion King"])
    }

    #[test]
    fn length_is_counted_in_code_points_after_normalisation() {
        let policy = PasswordPolicy::single_factor();
        assert_eq!(check(&policy, "fourteen chars"), Err(PasswordPolicyError::TooShort { chars_min: 15 }));
        assert_eq!(check(&policy, "fifteen letters"), Ok(()));
        assert_eq!(check(&policy, "höchst geheim!!"), Ok(()));
        // Fourteen code points, of which one is written as two.
        let decomposed = "ho\u{308}chst geheim!";
        assert_eq!(check(&policy, decomposed), Err(PasswordPolicyError::TooShort { chars_min: 15 }));
        let multi_factor = PasswordPolicy::multi_factor();
        assert_eq!(check(&multi_factor, "b7#kq0Zx"), Ok(()));
        let too_short = Err(PasswordPolicyError::TooShort { chars_min: 8 });
        assert_eq!(check(&multi_factor, "b7#kq0Z"), too_short);
    }

    #[test]
    fn limits_cannot_be_set_below_the_standard() {
        let policy = PasswordPolicy::multi_factor().with_chars_min(1).with_chars_max(10);
        assert_eq!((policy.chars_min, policy.chars_max), (8, 64));
        let long = "a lion sleeps ".repeat(5);
        assert_eq!(check(&policy, &long), Err(PasswordPolicyError::TooLong { chars_max: 64 }));
        assert_eq!(check(&policy.with_chars_max(70), &long), Ok(()));
        let raised = PasswordPolicy::single_factor().with_chars_min(300);
        assert_eq!((raised.chars_min, raised.chars_max), (300, 300));
    }

    #[test]
    fn no_composition_rules() {
        let policy = PasswordPolicy::single_factor();
        for good in [
            "xkqzvbnwhjtmlyr",
            "seventeen lions sleep",
            "ライオンは正午に静かに眠っている",
            "4920 1867 3345 0",
        ] {
            assert_eq!(check(&policy, good), Ok(()), "{good}");
        }
    }

    #[test]
    fn common_passwords_and_what_is_made_of_them() {
        let policy = PasswordPolicy::multi_factor().with_blocked(["Savannah Sunrise"]);
        for common in [
            "password",
            "PassWord",
            "password2026!",
            "!!!letmein!!!",
            "PASSWORD",
            "ｐａｓｓｗｏｒｄ",
            "passwordpassword",
            "1234567890",
            "trustno1",
            "correcthorsebatterystaple",
            "savannah sunrise",
            "1savannah sunrise1",
            "admin1234567890",
            "qwertyqwerty",
        ] {
            assert_eq!(check(&policy, common), Err(PasswordPolicyError::Common), "{common}");
        }
    }

    #[test]
    fn patterns() {
        let policy = PasswordPolicy::single_factor();
        for pattern in [
            "aaaaaaaaaaaaaaa",
            "xyxyxyxyxyxyxyxy",
            "abcdefghijklmnopq",
            "zyxwvutsrqponml",
            "123456789012345",
            "qwertyuiopasdfg",
            "1qaz2wsx3edc4rfv",
            "éééééééééééééééé",
            "               ",
        ] {
            assert_eq!(check(&policy, pattern), Err(PasswordPolicyError::Pattern), "{pattern}");
        }
    }

    #[test]
    fn names_of_user_and_service() {
        let policy = PasswordPolicy::multi_factor();
        for guessable in [
            "mufasa01",
            "Mufasa-Mufasa",
            "mufasa@pride-rock.example",
            "lionking2026",
            "Lion King 1994",
            "lion-king-mufasa",
            "mufasa123456789",
            "password-mufasa",
        ] {
            assert_eq!(check(&policy, guessable), Err(PasswordPolicyError::Context), "{guessable}");
        }
        assert_eq!(check(&policy, "mufasa ate two zebras"), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text in "\\PC{0,40}", context in "\\PC{0,12}") {
            let policy = PasswordPolicy::multi_factor();
            let _ = policy.check(&SecretString::from(text), &[&context]);
        }
    }
}
