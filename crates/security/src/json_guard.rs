//! Size and depth of JSON, checked before anything is built from it.
//!
//! A parser that recurses runs out of stack on `[[[[…`, and a value tree is many times as large as its text. The guard
//! looks at the bytes alone, in pieces as they come, and needs no memory.

use thiserror::Error;

/// Why JSON was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JsonRefused {
    /// Too many bytes: answer 413.
    #[error("the JSON text is too long")]
    TooLong,
    /// Too many arrays and objects within each other: answer 400.
    #[error("the JSON text is nested too deeply")]
    TooDeep,
    /// Too many values in all: answer 413.
    #[error("the JSON text has too many values")]
    TooManyValues,
}

/// How much JSON to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLimits {
    /// Bytes of text. 1 MiB by default.
    pub bytes: usize,
    /// Arrays and objects within each other. 32 by default.
    pub depth: u32,
    /// Members of arrays and objects, in all. 100,000 by default: each takes a parser some 30 bytes or more.
    pub values: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self { bytes: 1 << 20, depth: 32, values: 100_000 }
    }
}

/// Watches the bytes of one JSON text go by. Whether they are JSON is for the parser to say.
///
/// ```
/// use gimmal_security::json_guard::{JsonGuard, JsonLimits, JsonRefused};
///
/// let mut guard = JsonGuard::new(JsonLimits { depth: 2, ..JsonLimits::default() });
/// guard.push(br#"{"a": ["[[[", "#)?;
/// assert_eq!(guard.push(b"[1]]}"), Err(JsonRefused::TooDeep));
/// # Ok::<(), JsonRefused>(())
/// ```
#[derive(Clone, Debug)]
pub struct JsonGuard {
    limits: JsonLimits,
    bytes: usize,
    depth: u32,
    values: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Outside,
    InString,
    /// After a backslash in a string.
    Escaped,
}

impl JsonGuard {
    /// A guard for one text.
    #[must_use]
    pub fn new(limits: JsonLimits) -> Self {
        Self { limits, bytes: 0, depth: 0, values: 0, state: State::Outside }
    }

    /// Looks at the next bytes. Once it has refused, so it does all that follows.
    ///
    /// # Errors
    /// [`JsonRefused`] at the first byte that is too much.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), JsonRefused> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Outside, b'"') | (State::Escaped, _) => State::InString,
                (State::Outside, byte) => {
                    self.count(byte);
                    State::Outside
                }
                (State::InString, b'"') => State::Outside,
                (State::InString, b'\\') => State::Escaped,
                (State::InString, _) => State::InString,
            };
            if self.depth > self.limits.depth {
                return Err(JsonRefused::TooDeep);
            }
        }
        if self.bytes > self.limits.bytes {
            Err(JsonRefused::TooLong)
        } else if self.values > self.limits.values {
            Err(JsonRefused::TooManyValues)
        } else {
            Ok(())
        }
    }

    fn count(&mut self, byte: u8) {
        match byte {
            b'[' | b'{' => {
                self.depth += 1;
                self.values += 1;
            }
            // A refusal stands: what would close the depth comes too late.
            b']' | b'}' if self.depth <= self.limits.depth => self.depth = self.depth.saturating_sub(1),
            b',' => self.values += 1,
            _ => {}
        }
    }
}

/// Looks at a whole text.
///
/// # Errors
/// [`JsonRefused`] if it is too much.
pub fn check(text: &[u8], limits: JsonLimits) -> Result<(), JsonRefused> {
    if text.len() > limits.bytes { Err(JsonRefused::TooLong) } else { JsonGuard::new(limits).push(text) }
}
