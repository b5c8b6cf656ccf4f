//! Secrets and log injection in the access log.

use gimmal_security::LogText;
use gimmal_security::csp::Nonce;
use gimmal_security::csrf::{CsrfBinding, CsrfTokens};
use gimmal_security::redaction::Redaction;
use proptest::prelude::*;

const SECRET: &str = "s3cr3tV4lue";

#[test]
fn secrets_in_headers_are_left_out() {
    let redaction = Redaction::default();
    let show = |name: &str, value: &str| redaction.header_value(name, value.as_bytes()).to_string();
    for (name, value, shown) in [
        ("Authorization", "Bearer s3cr3tV4lue", "Bearer [REDACTED]"),
        ("authorization", "s3cr3tV4lue", "[REDACTED]"),
        ("authorization", "s3cr3tV4lue with spaces", "[REDACTED]"),
        ("Authorization", "Digest username=\"a\", response=\"s3cr3tV4lue\"", "Digest [REDACTED]"),
        ("Proxy-Authorization", "Basic s3cr3tV4lue", "Basic [REDACTED]"),
        ("Cookie", "a=s3cr3tV4lue; __Host-b=s3cr3tV4lue=s3cr3tV4lue", "a=[REDACTED]; __Host-b=[REDACTED]"),
        ("Cookie", "s3cr3tV4lue", "[REDACTED]"),
        ("Set-Cookie", "id=s3cr3tV4lue; Path=/; Secure", "id=[REDACTED]; Path=/; Secure"),
        ("X-Api-Key", "s3cr3tV4lue", "[REDACTED]"),
        ("X-CSRF-Token", "s3cr3tV4lue", "[REDACTED]"),
        ("Referer", "https://a.example/x?code=s3cr3tV4lue&q=1", "https://a.example/x?code=[REDACTED]&q=1"),
        ("Location", "https://u:s3cr3tV4lue@a.example/x", "https://[REDACTED]@a.example/x"),
        ("Accept", "text/html", "text/html"),
    ] {
        assert_eq!(show(name, value), shown, "{name}");
        assert!(!show(name, value).contains(SECRET));
    }
}

#[test]
fn secrets_in_queries_and_forms_are_left_out() {
    let redaction = Redaction::default();
    for name in [
        "password",
        "Password",
        "new_password",
        "user[password]",
        "pass%77ord",
        "%70assword",
        "token",
        "access_token",
        "refreshToken",
        "id_token_hint",
        "client_secret",
        "api_key",
        "apikey",
        "API-KEY",
        "code",
        "SAMLResponse",
        "sig",
        "otp",
        "session_id",
        "csrf_token",
        "X-Amz-Security-Token",
        "pwd",
    ] {
        let pairs = format!("a=1&{name}={SECRET}&b={SECRET}x");
        let shown = redaction.form(&pairs).to_string();
        assert_eq!(shown, format!("a=1&{name}=[REDACTED]&b={SECRET}x"));
        let shown = redaction.target(&format!("/p?{name}={SECRET}#{name}={SECRET}")).to_string();
        assert_eq!(shown, format!("/p?{name}=[REDACTED]#{name}=[REDACTED]"));
    }
    for target in ["/", "/a/b?x=1&y", "*", "/a?", "/a?=&&", "https://a.example/b@c"] {
        assert_eq!(redaction.target(target).to_string(), target);
    }
}

#[test]
fn secrets_in_json_are_left_out_at_every_depth() {
    let redaction = Redaction::default();
    let text = br#"{"user": "bob", "password": "s3cr3tV4lue", "list": [{"accessToken": {"x": "s3cr3tV4lue"}}], "n": 1}"#;
    let shown = redaction.json(text);
    assert!(!shown.contains(SECRET));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let list = serde_json::json!([{"accessToken": "[REDACTED]"}]);
    assert_eq!(shown, serde_json::json!({"user": "bob", "password": "[REDACTED]", "list": list, "n": 1}));
    // What is no JSON is not shown at all: it may be anything.
    assert_eq!(redaction.json(b"{\"password\": \"s3cr3tV4lue\""), "[26 bytes that are no JSON]");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(redaction.json(deep.as_bytes()).contains("no JSON"));
}

#[test]
fn debug_output_of_this_crate_bears_no_secret() {
    let binding = CsrfBinding { session: SECRET, cookie: SECRET };
    let tokens = CsrfTokens::new(&SECRET.repeat(3).into_bytes().into()).unwrap();
    let nonce = Nonce::random();
    let shown =
        format!("{binding:?} {tokens:?} {nonce:?} {:?}", Redaction::default().form(&format!("pin={SECRET}")));
    assert!(!shown.contains(SECRET) && !shown.contains(nonce.as_str()), "{shown}");
}

#[test]
fn log_injection_by_a_header_or_target_is_escaped() {
    let redaction = Redaction::default();
    let attack = "a\r\nINFO login ok\u{1b}[2K\u{9b}\u{202e}";
    let shown = redaction.header_value("user-agent", attack.as_bytes()).to_string();
    assert_eq!(shown, r"a\u{d}\u{a}INFO login ok\u{1b}[2K\u{9b}\u{202e}");
    for shown in [redaction.target(attack).to_string(), redaction.form(attack).to_string()] {
        assert!(!shown.chars().any(char::is_control));
    }
    assert!(!redaction.json("{\"a\": \"\u{9b}\u{202e}\"}".as_bytes()).contains(['\u{9b}', '\u{202e}']));
    let invalid = redaction.header_value("user-agent", b"\xff\n").to_string();
    assert_eq!(invalid, "\u{fffd}\\u{a}");
}

proptest! {
    #[test]
    fn a_secret_never_shows_whatever_stands_around_it(before in "[a-z&=;]{0,10}", after in "[a-z&=;?#]{0,10}") {
        let redaction = Redaction::default();
        let pairs = format!("{before}&token={SECRET}&{after}");
        prop_assert!(!redaction.form(&pairs).to_string().contains(SECRET));
        let target = format!("/?{pairs}");
        prop_assert!(!redaction.target(&target).to_string().contains(SECRET));
        let cookie = format!("{before}={SECRET}; {after}");
        prop_assert!(!redaction.header_value("cookie", cookie.as_bytes()).to_string().contains(SECRET));
    }

    #[test]
    fn log_text_stays_one_line(text in ".{0,600}") {
        let shown = LogText::new(&text).to_string();
        prop_assert!(!shown.chars().any(char::is_control));
        prop_assert!(shown.len() < 5200);
    }
}
