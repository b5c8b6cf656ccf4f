//! Path traversal: a path that leads out of the folder that is served.

use std::path::{Component, Path};

use gimmal_security::path::{PathError, SafePath, safe_join};
use proptest::prelude::*;

#[test]
fn path_traversal_in_every_spelling_is_refused() {
    let attacks = [
        ("/..", PathError::DotSegment),
        ("/../etc/passwd", PathError::DotSegment),
        ("/a/../../etc/passwd", PathError::DotSegment),
        ("/a/./b", PathError::DotSegment),
        ("/%2e%2e/etc/passwd", PathError::DotSegment),
        ("/%2E./etc/passwd", PathError::DotSegment),
        ("/.%2e/", PathError::DotSegment),
        ("/.../x", PathError::DotSegment),
        ("/.. /x", PathError::DotSegment),
        ("/..%20/x", PathError::DotSegment),
        ("/a%2f..%2f..%2fetc", PathError::Separator),
        ("/..%2fetc", PathError::Separator),
        ("/..\\windows", PathError::Separator),
        ("/..%5cwindows", PathError::Separator),
        ("/%252e%252e/etc", PathError::EncodedTwice),
        ("/%252fetc", PathError::EncodedTwice),
        ("/%255cetc", PathError::EncodedTwice),
        ("/%25%32%65%25%32%65/etc", PathError::EncodedTwice),
        ("/a%00.png", PathError::Control),
        ("/a%0a", PathError::Control),
        ("/a%7f", PathError::Control),
        ("/a%c2%9b", PathError::Control),
        ("/C:/windows", PathError::Colon),
        ("/c%3a/windows", PathError::Colon),
        ("/file.txt::$DATA", PathError::Colon),
        // Overlong forms of `.` and `/` are no UTF-8.
        ("/%c0%ae%c0%ae/etc", PathError::Encoding),
        ("/..%c0%afetc", PathError::Encoding),
        ("/%e0%80%ae/etc", PathError::Encoding),
        ("/%", PathError::Encoding),
        ("/%2", PathError::Encoding),
        ("/%zz", PathError::Encoding),
        ("/%u002e", PathError::Encoding),
        ("", PathError::NotAbsolute),
        ("etc", PathError::NotAbsolute),
        ("../etc", PathError::NotAbsolute),
    ];
    for (path, error) in attacks {
        assert_eq!(safe_join(Path::new("/srv"), path), Err(error), "{path}");
    }
}

#[test]
fn honest_paths_are_found() {
    for (path, place) in [
        ("/", "/srv"),
        ("/a/b.png", "/srv/a/b.png"),
        ("//a///b/", "/srv/a/b"),
        ("/a%20b", "/srv/a b"),
        ("/100%25", "/srv/100%"),
        ("/..a/b..", "/srv/..a/b.."),
        ("/%C3%A9t%C3%A9", "/srv/été"),
        ("/.well-known/acme", "/srv/.well-known/acme"),
    ] {
        assert_eq!(safe_join(Path::new("/srv"), path).unwrap(), Path::new(place), "{path}");
    }
    assert!(SafePath::parse("/a/").unwrap().is_folder() && !SafePath::parse("/a").unwrap().is_folder());
}

#[test]
fn hidden_files_are_known_as_such() {
    for (path, is_hidden) in
        [("/.git/config", true), ("/a/.env", true), ("/.well-known/x", false), ("/a.b", false)]
    {
        assert_eq!(SafePath::parse(path).unwrap().is_hidden(), is_hidden, "{path}");
    }
}

proptest! {
    #[test]
    fn path_traversal_is_impossible_by_any_text(
        path in prop::collection::vec(
            prop::sample::select(vec!["/", ".", "..", "%2e", "%2f", "%5c", "\\", "%", "25", "a", "%00", ":", "é", " "]),
            0..12,
        ),
    ) {
        let path = format!("/{}", path.concat());
        if let Ok(place) = safe_join(Path::new("/srv/www"), &path) {
            prop_assert!(place.starts_with("/srv/www"));
            let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
            prop_assert!(place.components().all(is_plain));
            prop_assert!(!place.to_str().unwrap().contains(['\\', '\0', ':']));
        }
    }
}
