//! Clickjacking, sniffing, leaks and downgrades: the fields against them.

use gimmal_security::csp::{Csp, Nonce};
use gimmal_security::security_headers::{
    Framing, OpenerPolicy, PermissionsPolicy, ReferrerPolicy, ResourcePolicy, SecurityHeaders,
};
use http::HeaderMap;

fn map(security: &SecurityHeaders, secure: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    security.apply(&mut headers, &Nonce::random(), secure);
    headers
}

/// What the usual scanners ask for: the OWASP Secure Headers Project's list, and the criteria of Mozilla's Observatory
/// and of securityheaders.com for their top marks.
#[test]
fn default_has_all_that_scanners_ask_for() {
    let headers = map(&SecurityHeaders::default(), true);
    let expected = [
        ("strict-transport-security", "max-age=63072000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "same-origin"),
        ("origin-agent-cluster", "?1"),
        ("x-permitted-cross-domain-policies", "none"),
    ];
    for (name, value) in expected {
        assert_eq!(headers[name], value);
    }
    let csp = headers["content-security-policy"].to_str().unwrap();
    assert!(csp.contains("default-src 'none'") && csp.contains("frame-ancestors 'none'"));
    assert!(!csp.contains("unsafe") && csp.contains("'nonce-"));
    let permissions = headers["permissions-policy"].to_str().unwrap();
    for feature in ["camera=()", "geolocation=()", "microphone=()", "browsing-topics=()"] {
        assert!(permissions.contains(feature));
    }
    assert!(!headers.contains_key("x-xss-protection"));
    assert_eq!(headers.len(), 11);
    assert!(SecurityHeaders::default().check().is_empty());
}

#[test]
fn hsts_is_sent_over_tls_alone() {
    // RFC 6797 section 7.2.
    assert!(!map(&SecurityHeaders::default(), false).contains_key("strict-transport-security"));
}

#[test]
fn each_field_is_adjusted_or_left_out_by_its_name() {
    type Change = fn(SecurityHeaders) -> SecurityHeaders;
    let removals: [(&str, Change); 11] = [
        ("content-security-policy", SecurityHeaders::without_csp),
        ("strict-transport-security", SecurityHeaders::without_strict_transport_security),
        ("x-content-type-options", SecurityHeaders::without_content_type_options),
        ("x-frame-options", SecurityHeaders::without_frame_options),
        ("referrer-policy", SecurityHeaders::without_referrer_policy),
        ("permissions-policy", SecurityHeaders::without_permissions_policy),
        ("cross-origin-opener-policy", SecurityHeaders::without_opener_policy),
        ("cross-origin-embedder-policy", SecurityHeaders::without_embedder_policy),
        ("cross-origin-resource-policy", SecurityHeaders::without_resource_policy),
        ("origin-agent-cluster", SecurityHeaders::without_agent_cluster),
        ("x-permitted-cross-domain-policies", SecurityHeaders::without_cross_domain_policies),
    ];
    for (name, remove) in removals {
        let headers = map(&remove(SecurityHeaders::default()), true);
        assert!(!headers.contains_key(name) && headers.len() == 10, "{name}");
    }
    let changes: [(&str, &str, Change); 6] = [
        (
            "content-security-policy",
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            |headers| headers.with_csp(Csp::nothing().build().unwrap()),
        ),
        ("strict-transport-security", "max-age=300", |headers| {
            headers.with_strict_transport_security(300, false)
        }),
        (
            "strict-transport-security",
            "max-age=63072000; includeSubDomains; preload",
            SecurityHeaders::with_strict_transport_security_preload,
        ),
        ("referrer-policy", "strict-origin", |headers| {
            headers.with_referrer_policy(ReferrerPolicy::StrictOrigin)
        }),
        ("cross-origin-opener-policy", "same-origin-allow-popups", |headers| {
            headers.with_opener_policy(OpenerPolicy::SameOriginAllowPopups)
        }),
        ("cross-origin-resource-policy", "cross-origin", |headers| {
            headers.with_resource_policy(ResourcePolicy::CrossOrigin)
        }),
    ];
    for (name, value, change) in changes {
        assert_eq!(map(&change(SecurityHeaders::default()), true)[name], value);
    }
}

#[test]
fn clickjacking_is_refused_in_both_fields_alike() {
    let headers = map(&SecurityHeaders::default().with_framing(Framing::SameOrigin), true);
    assert_eq!(headers["x-frame-options"], "SAMEORIGIN");
    assert!(headers["content-security-policy"].to_str().unwrap().ends_with("frame-ancestors 'self'"));
    let open = SecurityHeaders::default().without_csp().without_frame_options();
    assert!(open.check().iter().any(|finding| finding.code == "headers.framing"));
}

#[test]
fn what_a_handler_set_stands() {
    let mut headers = HeaderMap::new();
    headers.insert("referrer-policy", "origin".parse().unwrap());
    SecurityHeaders::default().apply(&mut headers, &Nonce::random(), true);
    assert_eq!(headers["referrer-policy"], "origin");
}

#[test]
fn values_are_made_once_but_for_the_nonce() {
    let security = SecurityHeaders::default();
    let collect = || security.iter(&Nonce::random(), true).collect::<Vec<_>>();
    for ((name, a), (_, b)) in collect().iter().zip(&collect()) {
        let is_shared = a.as_bytes().as_ptr() == b.as_bytes().as_ptr();
        assert_eq!(is_shared, name != "content-security-policy", "{name}");
    }
}

#[test]
fn permissions_policy_refuses_injection() {
    for bad in ["", "camera=*", "camera, geolocation", "Camera", "a\r\nb"] {
        assert!(PermissionsPolicy::deny_all().allow_self(bad).is_err(), "{bad}");
    }
}

#[test]
fn reports_have_a_collector() {
    let security = SecurityHeaders::default().with_reporting_endpoint("csp", "/reports?kind=csp").unwrap();
    assert_eq!(map(&security, true)["reporting-endpoints"], "csp=\"/reports?kind=csp\"");
    for (group, address) in
        [("", "/a"), ("a b", "/a"), ("a", "a"), ("a", "/a\", b=\"/c"), ("a", "/\r\n"), ("a", "http://a")]
    {
        assert!(
            SecurityHeaders::default().with_reporting_endpoint(group, address).is_err(),
            "{group} {address}"
        );
    }
}
