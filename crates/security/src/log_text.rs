//! Text of a peer, made safe to be written into a log.

use std::fmt::{self, Write};

/// Shows a text of a peer in a log so that it stays one piece of one line: control characters (line ends, ANSI escapes,
/// C1), the separators U+2028 and U+2029, and the marks that turn the direction of text are written as `\u{…}`, and a
/// long text is cut.
///
/// ```
/// use gimmal_security::LogText;
///
/// let name = "bob\r\n2026-01-01 INFO login ok user=root\u{1b}[2K";
/// assert_eq!(
///     LogText::new(name).to_string(),
///     r"bob\u{d}\u{a}2026-01-01 INFO login ok user=root\u{1b}[2K"
/// );
/// ```
#[derive(Clone, Copy)]
pub struct LogText<'a>(&'a str);

/// The most bytes of a peer's text that a log takes.
pub(crate) const TEXT_LEN_MAX: usize = 512;

impl<'a> LogText<'a> {
    /// The text, to be shown.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }
}

impl fmt::Display for LogText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = cut(self.0);
        for character in text.chars() {
            if is_unsafe(character) {
                write!(f, "\\u{{{:x}}}", u32::from(character))?;
            } else {
                f.write_char(character)?;
            }
        }
        if text.len() < self.0.len() { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}

impl fmt::Debug for LogText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The beginning of a text, no longer than a log takes.
pub(crate) fn cut(text: &str) -> &str {
    let mut len = text.len().min(TEXT_LEN_MAX);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}

/// Whether a terminal, an editor or a log reader may do more with a character than show it.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(character, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Escapes what serde_json leaves as it is and a terminal may not: C1 controls, separators, marks of direction. All of
/// it stands within strings, as the rest of JSON is ASCII.
pub(crate) fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() + 128);
    for character in json.chars() {
        if is_unsafe(character) {
            // None of them is beyond U+FFFF.
            let written = write!(escaped, "\\u{:04x}", u32::from(character));
            debug_assert!(written.is_ok(), "a String takes what is written to it");
        } else {
            escaped.push(character);
        }
    }
    escaped
}
