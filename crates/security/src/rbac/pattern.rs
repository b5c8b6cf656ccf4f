//! The grammar of permissions, and of the patterns that grant them.

/// Whether this is a well-formed permission: segments between colons.
pub(super) fn is_permission(text: &str) -> bool {
    text.split(':').all(is_name)
}

/// Whether this is a well-formed pattern: as a permission, with `*` in place of any segment.
pub(super) fn is_pattern(text: &str) -> bool {
    text.split(':').all(|segment| segment == "*" || is_name(segment))
}

/// Whether this is a well-formed segment, or role.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// Whether a pattern grants a permission; see the module's documentation for the rules.
pub(super) fn grants(pattern: &str, permission: &str) -> bool {
    let mut segments = permission.split(':');
    let mut patterns = pattern.split(':').peekable();
    while let Some(pattern) = patterns.next() {
        let Some(segment) = segments.next() else { return false };
        match pattern {
            "*" if patterns.peek().is_none() => return true,
            "*" => {}
            _ if pattern == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment_and_in_last_place_one_or_more() {
        for (pattern, permission) in [
            ("articles:write", "articles:write"),
            ("articles:*", "articles:write"),
            ("articles:*", "articles:comments:delete"),
            ("*:read", "articles:read"),
            ("*:comments:*", "articles:comments:delete"),
            ("*", "articles"),
            ("*", "articles:comments:delete"),
        ] {
            assert!(grants(pattern, permission), "{pattern} {permission}");
        }
        for (pattern, permission) in [
            ("articles:write", "articles:read"),
            ("articles", "articles:write"),
            ("articles:write", "articles"),
            ("articles:*", "articles"),
            ("articles:*", "articlesx:write"),
            ("*:read", "articles:comments:read"),
            ("*:read", "read"),
        ] {
            assert!(!grants(pattern, permission), "{pattern} {permission}");
        }
    }

    #[test]
    fn a_star_is_a_whole_segment_or_an_error() {
        assert!(is_pattern("*:read") && is_pattern("a.b:c_d:*"));
        for bad in ["", "articles:", ":read", "articles:wr*", "**", "a b", "a:\n", "ä:read"] {
            assert!(!is_pattern(bad), "{bad}");
        }
        assert!(!is_permission("articles:*"));
    }
}
