//! Cross-site scripting: the policy by which a browser refuses injected script.

use gimmal_security::csp::{Csp, CspError, Directive, Nonce, Source};
use gimmal_security::{Origin, Severity};
use proptest::prelude::*;

fn text(csp: &Csp) -> String {
    csp.value(&Nonce::random()).to_str().unwrap().to_owned()
}

#[test]
fn xss_strict_policy_lets_no_inline_script_run_without_the_nonce() {
    let csp = Csp::strict().build().unwrap();
    let nonce = Nonce::random();
    let value = csp.value(&nonce);
    assert_eq!(
        value.to_str().unwrap(),
        format!(
            "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; \
             img-src 'self' data:; font-src 'self'; connect-src 'self'; media-src 'self'; manifest-src 'self'; \
             worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )
    );
    assert!(csp.has_nonce() && csp.check().is_empty());
    assert_eq!(csp.name(), "content-security-policy");
}

#[test]
fn a_nonce_is_never_used_twice_and_has_128_bits() {
    let nonces: std::collections::HashSet<String> = (0..1000).map(|_| Nonce::random().to_string()).collect();
    assert_eq!(nonces.len(), 1000);
    assert!(nonces.iter().all(|nonce| nonce.len() == 22));
    assert_eq!(format!("{:?}", Nonce::random()), "Nonce([REDACTED])");
}

#[test]
fn csp_injection_is_refused() {
    let bad = [
        "",
        "a b",
        "a;b",
        "a,b",
        "a; script-src *",
        "a\r\nx: y",
        "a\n",
        "'unsafe-inline'",
        "\"",
        "a'b",
        "*",
        "javascript:",
        "data:",
        "https://",
        "https:",
        "ftp://a",
        "a:99999",
        "a/b;c",
        "a/b?c",
        "é",
        "u@a",
        "a/ b",
        "**.a",
        "a.*",
    ];
    for bad in bad {
        assert_eq!(Source::host(bad), Err(CspError::Source(bad.to_owned())), "{bad}");
    }
    for good in [
        "a.example",
        "*.a.example",
        "https://a.example",
        "wss://a:8443",
        "a.example/static/",
        "localhost:3000",
    ] {
        let csp = Csp::builder().directive(Directive::ImgSrc, [Source::host(good).unwrap()]).build().unwrap();
        assert_eq!(text(&csp), format!("img-src {good}"));
    }
    for bad in ["", "a b", "a;b", "a,b", "a\n"] {
        assert!(Csp::builder().report_to(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn csp_source_of_any_text_stays_one_source(host in ".{0,40}") {
        if let Ok(source) = Source::host(&host) {
            let csp = Csp::builder().directive(Directive::ScriptSrc, [source]).build().unwrap();
            let text = text(&csp);
            prop_assert!(!text.contains([';', ',', '\r', '\n', '\'']));
            prop_assert_eq!(text.split(' ').count(), 2);
        }
    }
}

#[test]
fn hashes_name_the_very_code() {
    // The example of CSP Level 3, section 8.3.
    let csp = Csp::builder()
        .directive(Directive::ScriptSrc, [Source::inline("alert('Hello, world.');")])
        .build()
        .unwrap();
    assert_eq!(text(&csp), "script-src 'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='");
}

#[test]
fn all_parts_are_written_in_order() {
    let origin: Origin = "https://cdn.example".parse().unwrap();
    let csp = Csp::builder()
        .directive(Directive::ScriptSrc, [Source::NONCE, Source::STRICT_DYNAMIC])
        .directive(Directive::ImgSrc, [])
        .allow(Directive::ImgSrc, Source::from(&origin))
        .directive(Directive::FrameSrc, [])
        .upgrade_insecure_requests()
        .require_trusted_types()
        .report_to("csp")
        .unwrap()
        .report_only()
        .build()
        .unwrap();
    let nonce = Nonce::random();
    assert_eq!(
        csp.value(&nonce).to_str().unwrap(),
        format!(
            "script-src 'nonce-{nonce}' 'strict-dynamic'; img-src https://cdn.example; frame-src 'none'; \
             upgrade-insecure-requests; require-trusted-types-for 'script'; report-to csp"
        )
    );
    assert_eq!(csp.name(), "content-security-policy-report-only");
    let mixed = Csp::builder().directive(Directive::ImgSrc, [Source::NONE, Source::SELF]).build();
    assert_eq!(mixed.unwrap_err(), CspError::NoneAndMore(Directive::ImgSrc));
}

#[test]
fn a_policy_without_a_nonce_is_the_same_bytes_each_time() {
    let csp = Csp::nothing().build().unwrap();
    let (a, b) = (csp.value(&Nonce::random()), csp.value(&Nonce::random()));
    assert!(!csp.has_nonce());
    assert_eq!(a.as_bytes().as_ptr(), b.as_bytes().as_ptr());
}

#[test]
fn a_policy_that_lets_injected_script_run_is_found() {
    let code = |csp: gimmal_security::csp::CspBuilder| {
        let findings = csp.build().unwrap().check();
        (findings[0].code, findings[0].severity)
    };
    let script = |source| Csp::builder().directive(Directive::ScriptSrc, [source]);
    assert_eq!(code(Csp::builder()), ("csp.no_script_src", Severity::Danger));
    assert_eq!(code(script(Source::UNSAFE_INLINE)), ("csp.unsafe_inline", Severity::Danger));
    assert_eq!(code(script(Source::HTTPS)), ("csp.any_script", Severity::Danger));
    assert_eq!(code(script(Source::UNSAFE_EVAL)), ("csp.unsafe_eval", Severity::Warning));
    assert_eq!(code(Csp::strict().report_only()), ("csp.report_only", Severity::Warning));
    // Next to a nonce, browsers ignore it.
    let both = Csp::builder().directive(Directive::ScriptSrc, [Source::NONCE, Source::UNSAFE_INLINE]);
    assert!(both.build().unwrap().check().is_empty());
    assert!(Csp::strict_dynamic().build().unwrap().check().is_empty());
}
