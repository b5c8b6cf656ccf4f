//! JSON that is too deep, too long, or too much once it is parsed.

use gimmal_security::json_guard::{JsonGuard, JsonLimits, JsonRefused, check};
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn deeply_nested_json_is_refused_before_it_is_parsed() {
    let limits = JsonLimits::default();
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        assert_eq!(check(open.repeat(100_000).as_bytes(), limits), Err(JsonRefused::TooDeep));
    }
    let allowed = format!("{}{}", "[".repeat(32), "]".repeat(32));
    assert_eq!(check(allowed.as_bytes(), limits), Ok(()));
    assert_eq!(check(format!("[{allowed}]").as_bytes(), limits), Err(JsonRefused::TooDeep));
}

#[test]
fn brackets_in_strings_do_not_count() {
    let limits = JsonLimits { depth: 1, ..JsonLimits::default() };
    for text in [r#"["[[[["]"#, r#"["\"[[["]"#, r#"["\\", "[["]"#, r#"{"{[": "[{"}"#] {
        assert_eq!(check(text.as_bytes(), limits), Ok(()), "{text}");
    }
    // What ends the string makes the next bracket count.
    assert_eq!(check(br#"["\\"[]"#, limits), Err(JsonRefused::TooDeep));
}

#[test]
fn oversized_json_is_refused() {
    let limits = JsonLimits { bytes: 10, ..JsonLimits::default() };
    assert_eq!(check(b"[1,2,3,4]", limits), Ok(()));
    assert_eq!(check(b"[1,2,3,4,5]", limits), Err(JsonRefused::TooLong));
    let limits = JsonLimits { values: 100, ..JsonLimits::default() };
    assert_eq!(check("[],".repeat(80).as_bytes(), limits), Err(JsonRefused::TooManyValues));
}

#[test]
fn a_refusal_stands() {
    let mut guard = JsonGuard::new(JsonLimits { depth: 1, ..JsonLimits::default() });
    assert_eq!(guard.push(b"[["), Err(JsonRefused::TooDeep));
    assert_eq!(guard.push(b"]]]]]]"), Err(JsonRefused::TooDeep));
}

fn depth(value: &Value) -> u32 {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        r#"[\[\]{}"\\,a-c]{0,6}"#.prop_map(Value::from)
    ];
    leaf.prop_recursive(8, 64, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(r#"[\[\]{}"\\a-c]{0,4}"#, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Against the depth of what serde_json makes of it, cut anywhere.
    #[test]
    fn the_guard_agrees_with_the_parser(value in any_json(), limit in 0_u32..8, cut in any::<prop::sample::Index>()) {
        let text = value.to_string();
        let limits = JsonLimits { depth: limit, ..JsonLimits::default() };
        let (head, tail) = text.as_bytes().split_at(cut.index(text.len()));
        let mut guard = JsonGuard::new(limits);
        let verdict = guard.push(head).and_then(|()| guard.push(tail));
        prop_assert_eq!(verdict, check(text.as_bytes(), limits));
        prop_assert_eq!(verdict.is_ok(), depth(&value) <= limit);
    }
}
