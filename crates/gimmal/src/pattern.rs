//! Patterns of routes, written as the paths of requests come.

use std::fmt::Write;

/// Why a pattern can match no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("it does not begin with a slash")]
    NoSlash,
    #[error("it has a `{0}`, which no path of a request has: a query or a fragment is not part of a pattern")]
    BehindPath(char),
    #[error("it has a `%` that begins no escape: write `%25`")]
    Escape,
    #[error("it has a control character")]
    Control,
    #[error("it has a brace without its other: write `{{{{` or `}}}}` for a brace of the path")]
    Brace,
}

/// Writes a pattern as [`normalize_path`](crate::request::normalize_path) writes the paths that it is to match: what a
/// path holds as an escape alone is escaped, and needless escapes are undone. Parameters stay as they are.
pub(crate) fn normalize_pattern(pattern: &str) -> Result<String, PatternError> {
    if !pattern.starts_with('/') {
        return Err(PatternError::NoSlash);
    }
    let mut normalized = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let mut len = character.len_utf8();
        match character {
            '?' | '#' => return Err(PatternError::BehindPath(character)),
            _ if character.is_control() => return Err(PatternError::Control),
            '{' | '}' if rest[1..].starts_with(character) => {
                escape(&mut normalized, &rest[..1]);
                len = 2;
            }
            '{' => {
                len = rest.find('}').ok_or(PatternError::Brace)? + 1;
                normalized.push_str(&rest[..len]);
            }
            '}' => return Err(PatternError::Brace),
            '%' => {
                let escape = rest.get(..3).ok_or(PatternError::Escape)?;
                if !escape.bytes().skip(1).all(|digit| digit.is_ascii_hexdigit()) {
                    return Err(PatternError::Escape);
                }
                normalized.push_str(&crate::request::normalize_path(escape).unwrap_or_default());
                len = 3;
            }
            '"' | '<' | '>' | '\\' | '^' | '`' | ' ' => escape(&mut normalized, &rest[..len]),
            _ if !character.is_ascii() => escape(&mut normalized, &rest[..len]),
            _ => normalized.push(character),
        }
        rest = &rest[len..];
    }
    Ok(normalized)
}

fn escape(to: &mut String, text: &str) {
    for byte in text.bytes() {
        write!(to, "%{byte:02X}").expect("a String takes all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_written_as_requests_come() {
        for (pattern, expected) in [
            ("/", "/"),
            ("/a b", "/a%20b"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/%7Euser", "/~user"),
            ("/a%7Cb", "/a|b"),
            ("/a|b[]", "/a|b[]"),
            ("/\"q\"<>\\^`", "/%22q%22%3C%3E%5C%5E%60"),
            ("/{{x}}", "/%7Bx%7D"),
            ("/{na\u{ef}ve}/{*rest of it}", "/{na\u{ef}ve}/{*rest of it}"),
            ("/\u{e9}/{id}.json", "/%C3%A9/{id}.json"),
            ("/a%2Fb%2fc", "/a%2Fb%2Fc"),
            ("/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@"),
        ] {
            assert_eq!(normalize_pattern(pattern).as_deref(), Ok(expected), "{pattern}");
            assert_eq!(normalize_pattern(expected).as_deref(), Ok(expected), "{expected}");
        }
    }

    #[test]
    fn what_no_request_can_match_is_refused() {
        for (pattern, error) in [
            ("", PatternError::NoSlash),
            ("a", PatternError::NoSlash),
            ("/a?b", PatternError::BehindPath('?')),
            ("/a#b", PatternError::BehindPath('#')),
            ("/100%", PatternError::Escape),
            ("/%2", PatternError::Escape),
            ("/%zz", PatternError::Escape),
            ("/%+1", PatternError::Escape),
            ("/%\u{e9}", PatternError::Escape),
            ("/a\tb", PatternError::Control),
            ("/{a", PatternError::Brace),
            ("/a}", PatternError::Brace),
        ] {
            assert_eq!(normalize_pattern(pattern), Err(error), "{pattern}");
        }
    }
}
