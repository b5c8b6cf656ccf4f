//! Cross-site request forgery.

use gimmal_security::csrf::{
    CsrfBinding, CsrfRefusal, CsrfTokenError, CsrfTokens, OriginCheck, OriginProof, OriginRequest,
};
use http::Method;
use proptest::prelude::*;

fn request<'a>(origin: Option<&'a str>, sec_fetch_site: Option<&'a str>) -> OriginRequest<'a> {
    OriginRequest {
        method: &Method::POST,
        path: "/transfer",
        secure: true,
        host: Some(b"bank.example"),
        origin: origin.map(str::as_bytes),
        sec_fetch_site: sec_fetch_site.map(str::as_bytes),
    }
}

#[test]
fn csrf_by_a_browser_of_today_is_refused() {
    let check = OriginCheck::new();
    for site in ["cross-site", "same-site", "", "same-origin, cross-site", "SAME-ORIGIN", "x"] {
        let refused = check.verify(&request(None, Some(site)));
        assert_eq!(refused, Err(CsrfRefusal::SecFetchSite), "{site}");
        // What Origin claims does not help.
        let refused = check.verify(&request(Some("https://bank.example"), Some(site)));
        assert_eq!(refused, Err(CsrfRefusal::SecFetchSite), "{site}");
    }
    for site in ["same-origin", "none"] {
        assert_eq!(check.verify(&request(None, Some(site))), Ok(OriginProof::SameOrigin));
    }
}

#[test]
fn csrf_by_an_older_browser_is_refused() {
    let check = OriginCheck::new();
    let evil = [
        "https://evil.example",
        "null",
        "",
        "https://bank.example.evil.example",
        "https://bank.example:8443",
        "https://bank.example@evil.example",
        "https://evil.example/bank.example",
        "http://bank.example",
        "bank.example",
        "https://bank.example, https://evil.example",
        "ftp://bank.example",
    ];
    for origin in evil {
        assert_eq!(check.verify(&request(Some(origin), None)), Err(CsrfRefusal::Origin), "{origin}");
    }
    for origin in ["https://bank.example", "https://bank.example:443", "https://BANK.example"] {
        assert_eq!(check.verify(&request(Some(origin), None)), Ok(OriginProof::SameOrigin), "{origin}");
    }
    let no_host = OriginRequest { host: None, ..request(Some("https://bank.example"), None) };
    assert_eq!(check.verify(&no_host), Err(CsrfRefusal::Origin));
}

#[test]
fn csrf_from_plain_http_of_the_same_host_is_refused_over_tls() {
    let check = OriginCheck::new();
    let mut request = request(Some("http://bank.example"), None);
    assert_eq!(check.verify(&request), Err(CsrfRefusal::Origin));
    request.secure = false;
    assert_eq!(check.verify(&request), Ok(OriginProof::SameOrigin));
    // Behind a proxy that it was not told of, the server does not know that the client speaks TLS.
    request.origin = Some(b"https://bank.example");
    assert_eq!(check.verify(&request), Ok(OriginProof::SameOrigin));
}

#[test]
fn csrf_check_lets_safe_methods_and_programs_pass() {
    let check = OriginCheck::new();
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        let request =
            OriginRequest { method: &method, ..request(Some("https://evil.example"), Some("cross-site")) };
        assert_eq!(check.verify(&request), Ok(OriginProof::Safe));
    }
    for method in [Method::PUT, Method::PATCH, Method::DELETE, Method::from_bytes(b"get").unwrap()] {
        let request = OriginRequest { method: &method, ..request(None, Some("cross-site")) };
        assert!(check.verify(&request).is_err(), "{method}");
    }
    assert_eq!(check.verify(&request(None, None)), Ok(OriginProof::Unlabelled));
}

#[test]
fn csrf_exemptions_hold_for_what_they_name_alone() {
    let check = OriginCheck::new()
        .trust("https://app.example".parse().unwrap())
        .bypass_insecurely("webhook", Method::POST, "/hooks/git")
        .unwrap()
        .bypass_insecurely("payments", Method::POST, "/pay/*")
        .unwrap();
    let at = |path, origin| OriginRequest { path, ..request(Some(origin), Some("cross-site")) };
    assert_eq!(check.verify(&at("/transfer", "https://app.example")), Ok(OriginProof::TrustedOrigin));
    assert!(check.verify(&at("/transfer", "http://app.example")).is_err());
    assert!(check.verify(&at("/transfer", "https://sub.app.example")).is_err());

    let evil = "https://evil.example";
    assert_eq!(check.verify(&at("/hooks/git", evil)), Ok(OriginProof::Bypass("webhook")));
    assert_eq!(check.verify(&at("/pay/a/b", evil)), Ok(OriginProof::Bypass("payments")));
    // A router that resolves these leads elsewhere.
    for path in [
        "/hooks/git/",
        "/hooks/git/../x",
        "/pay/../transfer",
        "/pay/%2e%2e/transfer",
        "/pay/..\\x",
        "/pay//x",
        "/pay",
    ] {
        assert!(check.verify(&at(path, evil)).is_err(), "{path}");
    }
    let put = OriginRequest { method: &Method::PUT, ..at("/hooks/git", evil) };
    assert!(check.verify(&put).is_err());
    for bad in ["hooks", "/a*b", "/*/b", ""] {
        assert!(OriginCheck::new().bypass_insecurely("x", Method::POST, bad).is_err(), "{bad}");
    }
}

#[test]
fn csrf_exemptions_are_found_by_the_check_of_the_configuration() {
    assert!(OriginCheck::new().trust("https://app.example".parse().unwrap()).check().is_empty());
    let check = OriginCheck::new().trust("http://app.example".parse().unwrap());
    let check = check.bypass_insecurely("webhook", Method::POST, "/hooks/*").unwrap();
    let codes: Vec<_> = check.check().into_iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["csrf.bypass", "csrf.plain_origin"]);
}

const NOW: u64 = 1_700_000_000;

fn tokens(key: u8) -> CsrfTokens {
    CsrfTokens::new(&vec![key; 32].into()).unwrap().with_lifetime_seconds(60)
}

#[test]
fn csrf_token_of_another_session_cookie_or_server_is_refused() {
    let tokens = tokens(1);
    let binding = CsrfBinding { session: "s1", cookie: "c1" };
    let token = tokens.issue(binding, NOW);
    assert_eq!(tokens.verify(&token, binding, NOW), Ok(()));
    let others = [
        CsrfBinding { session: "s2", ..binding },
        CsrfBinding { cookie: "c2", ..binding },
        CsrfBinding { session: "", ..binding },
        // The same letters, cut elsewhere.
        CsrfBinding { session: "s1c", cookie: "1" },
    ];
    for other in others {
        assert_eq!(tokens.verify(&token, other, NOW), Err(CsrfTokenError::Invalid));
    }
    assert_eq!(self::tokens(2).verify(&token, binding, NOW), Err(CsrfTokenError::Invalid));
    let no_cookie = CsrfBinding { cookie: "", ..binding };
    assert_eq!(tokens.verify(&token, no_cookie, NOW), Err(CsrfTokenError::CookieMissing));
}

#[test]
fn csrf_token_expires_and_survives_a_new_key() {
    let (old, binding) = (tokens(1), CsrfBinding { session: "s", cookie: "c" });
    let token = old.issue(binding, NOW);
    assert_eq!(old.verify(&token, binding, NOW + 60), Ok(()));
    assert_eq!(old.verify(&token, binding, NOW + 61), Err(CsrfTokenError::Expired));
    let new = tokens(2).with_previous_key(&vec![1; 32].into()).unwrap();
    assert_eq!(new.verify(&token, binding, NOW), Ok(()));
    assert_eq!(CsrfTokens::new(&vec![1; 31].into()).unwrap_err(), CsrfTokenError::KeyTooShort);
}

#[test]
fn breach_finds_no_two_tokens_with_the_same_bytes() {
    let (tokens, binding) = (tokens(1), CsrfBinding { session: "s", cookie: "c" });
    let (a, b) = (tokens.issue(binding, NOW), tokens.issue(binding, NOW));
    let same = a.bytes().zip(b.bytes()).filter(|(a, b)| a == b).count();
    // Of 107 characters, one in 64 agrees by chance.
    assert!(same < 20, "{same} characters of two tokens agree");
}

#[test]
fn csrf_cookie_is_out_of_reach_of_sibling_hosts_and_scripts() {
    let tokens = tokens(1);
    let cookie = tokens.new_cookie();
    assert_ne!(cookie, tokens.new_cookie());
    let field = tokens.set_cookie(&cookie);
    assert_eq!(field, format!("__Host-csrf={cookie}; Path=/; Secure; HttpOnly; SameSite=Strict"));
}

proptest! {
    #[test]
    fn csrf_token_with_any_change_is_refused(at in 0_usize..107, to in "[A-Za-z0-9_-]") {
        let (tokens, binding) = (tokens(1), CsrfBinding { session: "s", cookie: "c" });
        let token = tokens.issue(binding, NOW);
        let mut forged = token.clone();
        forged.replace_range(at..=at, &to);
        prop_assume!(forged != token);
        prop_assert_eq!(tokens.verify(&forged, binding, NOW), Err(CsrfTokenError::Invalid));
    }

    #[test]
    fn csrf_token_of_any_text_is_refused(text in ".*") {
        let binding = CsrfBinding { session: "s", cookie: "c" };
        prop_assert_eq!(tokens(1).verify(&text, binding, NOW), Err(CsrfTokenError::Invalid));
    }
}
