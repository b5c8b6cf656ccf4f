//! Open redirect: a link to this server that leads to another.

use gimmal_security::redirect::{RedirectError, RedirectTargets};
use proptest::prelude::*;

fn targets() -> RedirectTargets {
    RedirectTargets::new().allow("https://shop.example".parse().unwrap())
}

#[test]
fn open_redirect_in_every_spelling_is_refused() {
    let elsewhere = [
        "//evil.example",
        "///evil.example",
        "https://evil.example",
        "https:evil.example",
        "https:/evil.example",
        "https:///evil.example",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "evil.example",
        "",
        "?x",
        "#x",
        "http://shop.example",
        "https://shop.example@evil.example",
        "https://shop.example:1@evil.example/",
        "https://shop.example.evil.example",
        "https://shop.example:8443",
        "https://evil.example#https://shop.example",
        "https://evil.example?https://shop.example/",
        "vbscript:x",
        "./x",
        "../x",
    ];
    for target in elsewhere {
        assert_eq!(targets().location(target), Err(RedirectError::Elsewhere), "{target}");
    }
    let changed = [
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        "/\n/evil.example",
        "/\r/evil",
        " //evil.example",
        "//evil.example ",
        "/a b",
        "/a\r\nSet-Cookie: x=y",
        "/\u{0}",
        "/é",
        "https://shop.example\\@evil",
        "/\u{b}/evil.example",
        "/\u{2028}/evil",
    ];
    for target in changed {
        assert_eq!(targets().location(target), Err(RedirectError::Character), "{target:?}");
    }
}

#[test]
fn paths_and_listed_origins_are_taken() {
    for target in [
        "/",
        "/account",
        "/a?next=//evil.example",
        "/a#b",
        "/%2F%2Fevil.example",
        "https://shop.example",
        "https://shop.example/cart?x",
        "https://shop.example:443/",
        "HTTPS://Shop.Example/",
        "https://shop.example?x=@a",
    ] {
        assert_eq!(targets().location(target).unwrap(), target);
    }
    assert!(RedirectTargets::new().location("https://shop.example").is_err());
}

proptest! {
    #[test]
    fn open_redirect_is_impossible_by_any_text(
        parts in prop::collection::vec(
            prop::sample::select(vec!["/", "//", "\\", "\t", "\n", " ", "https:", "http:", "@", "evil.example", "?", "#", ".", ":"]),
            0..8,
        ),
    ) {
        let target = parts.concat();
        if let Ok(location) = RedirectTargets::new().location(&target) {
            let location = location.to_str().unwrap();
            prop_assert!(location.starts_with('/'));
            prop_assert!(!location.starts_with("//") && !location.starts_with("/\\"));
        }
    }
}
