//! Cross-origin reading (Fetch standard, section 3.2).

use std::time::Duration;

use gimmal_security::cors::{Cors, CorsAnswer, CorsError, CorsHeaders, CorsRefusal, CorsRequest, add_to};
use http::header::{self, HeaderMap};
use http::{HeaderName, Method};

const APP: &str = "https://app.example";

fn cors() -> Cors {
    Cors::builder()
        .origin(APP.parse().unwrap())
        .methods([Method::PUT])
        .headers([header::CONTENT_TYPE, HeaderName::from_static("x-trace")])
        .expose([header::ETAG])
        .credentials()
        .max_age(Duration::from_secs(60))
        .build()
        .unwrap()
}

fn get(origin: Option<&str>) -> CorsRequest<'_> {
    CorsRequest {
        method: &Method::GET,
        origin: origin.map(str::as_bytes),
        request_method: None,
        request_headers: None,
        request_private_network: None,
    }
}

fn preflight<'a>(origin: &'a str, method: &'a str, headers: Option<&'a str>) -> CorsRequest<'a> {
    CorsRequest {
        method: &Method::OPTIONS,
        request_method: Some(method.as_bytes()),
        request_headers: headers.map(str::as_bytes),
        ..get(Some(origin))
    }
}

fn map(cors: CorsHeaders) -> HeaderMap {
    let mut headers = HeaderMap::new();
    add_to(&mut headers, cors);
    headers
}

fn served(cors: &Cors, origin: Option<&str>) -> HeaderMap {
    match cors.answer(&get(origin)) {
        CorsAnswer::Serve(headers) => map(headers),
        other => panic!("{other:?}"),
    }
}

fn refusal(cors: &Cors, request: &CorsRequest<'_>) -> CorsRefusal {
    match cors.answer(request) {
        CorsAnswer::Refuse(refusal, headers) => {
            assert_eq!(map(headers).keys().collect::<Vec<_>>(), [header::VARY]);
            refusal
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listed_origin_may_read_and_no_other() {
    let headers = served(&cors(), Some(APP));
    assert_eq!(headers["access-control-allow-origin"], APP);
    assert_eq!(headers["access-control-allow-credentials"], "true");
    assert_eq!(headers["access-control-expose-headers"], "etag");
    assert_eq!(headers["vary"], "origin");
    let others = [
        "https://evil.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil.example",
        "https://xapp.example",
        "null",
        "",
        "*",
        "https://app.example, https://evil.example",
        "https://app.example/",
    ];
    for origin in others {
        let headers = served(&cors(), Some(origin));
        assert_eq!(headers.keys().collect::<Vec<_>>(), [header::VARY], "{origin}");
    }
}

#[test]
fn cache_poisoning_across_origins_is_prevented_by_vary() {
    assert_eq!(served(&cors(), None)["vary"], "origin");
    let vary = |request| match cors().answer(request) {
        CorsAnswer::Preflight(headers) => map(headers)["vary"].to_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    let vary = vary(&preflight(APP, "PUT", None));
    for name in ["origin", "access-control-request-method", "access-control-request-headers"] {
        assert!(vary.contains(name), "{vary}");
    }
    // What the handler varies on stays.
    let mut headers = HeaderMap::new();
    headers.insert(header::VARY, "accept-encoding".parse().unwrap());
    let CorsAnswer::Serve(cors) = cors().answer(&get(None)) else { panic!() };
    add_to(&mut headers, cors);
    assert_eq!(headers.get_all(header::VARY).iter().count(), 2);
}

#[test]
fn wildcard_beside_credentials_is_refused_at_start() {
    let any = Cors::builder().any_origin().credentials().build();
    assert_eq!(any.unwrap_err(), CorsError::CredentialsForAnyOrigin);
    let null = Cors::builder().origin(APP.parse().unwrap()).null_origin_insecurely().credentials().build();
    assert_eq!(null.unwrap_err(), CorsError::CredentialsForNullOrigin);
    assert_eq!(Cors::builder().build().unwrap_err(), CorsError::NoOrigin);
}

#[test]
fn any_origin_reads_what_is_public_without_credentials() {
    let public = Cors::builder().any_origin().build().unwrap();
    let headers = served(&public, Some("https://anybody.example"));
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(!headers.contains_key("access-control-allow-credentials") && !headers.contains_key("vary"));
    assert!(!served(&public, Some("null")).contains_key("access-control-allow-origin"));
}

#[test]
fn null_origin_is_refused_unless_named() {
    assert_eq!(refusal(&cors(), &preflight("null", "GET", None)), CorsRefusal::Origin);
    let named = Cors::builder().null_origin_insecurely().build().unwrap();
    assert_eq!(served(&named, Some("null"))["access-control-allow-origin"], "null");
    assert!(!served(&named, Some(APP)).contains_key("access-control-allow-origin"));
}

#[test]
fn a_preflight_is_answered_with_what_is_allowed() {
    for (method, headers) in [
        ("PUT", Some("content-type")),
        ("PUT", Some("Content-Type,X-Trace")),
        ("PUT", Some(" x-trace , content-type ,")),
        ("GET", None),
        ("POST", Some("")),
    ] {
        let CorsAnswer::Preflight(answer) = cors().answer(&preflight(APP, method, headers)) else {
            panic!("{method} {headers:?}")
        };
        let answer = map(answer);
        assert_eq!(answer["access-control-allow-origin"], APP);
        assert_eq!(answer["access-control-allow-methods"], "PUT");
        assert_eq!(answer["access-control-allow-headers"], "content-type, x-trace");
        assert_eq!(answer["access-control-allow-credentials"], "true");
        assert_eq!(answer["access-control-max-age"], "60");
    }
}

#[test]
fn a_preflight_for_what_is_not_allowed_is_refused() {
    let cors = cors();
    assert_eq!(refusal(&cors, &preflight("https://evil.example", "PUT", None)), CorsRefusal::Origin);
    for method in ["DELETE", "put", "", "PUT, DELETE"] {
        assert_eq!(refusal(&cors, &preflight(APP, method, None)), CorsRefusal::Method, "{method}");
    }
    for headers in ["authorization", "content-type, authorization", "*", "content-type\r\nx: y"] {
        assert_eq!(refusal(&cors, &preflight(APP, "PUT", Some(headers))), CorsRefusal::Header, "{headers}");
    }
}

#[test]
fn a_private_network_is_reached_by_leave_alone() {
    let request = CorsRequest { request_private_network: Some(b"true"), ..preflight(APP, "GET", None) };
    assert_eq!(refusal(&cors(), &request), CorsRefusal::PrivateNetwork);
    let open = Cors::builder().origin(APP.parse().unwrap()).private_network().build().unwrap();
    let CorsAnswer::Preflight(headers) = open.answer(&request) else { panic!() };
    assert_eq!(map(headers)["access-control-allow-private-network"], "true");
}

#[test]
fn options_without_a_requested_method_is_no_preflight() {
    let request = CorsRequest { method: &Method::OPTIONS, ..get(Some(APP)) };
    assert!(matches!(cors().answer(&request), CorsAnswer::Serve(_)));
}

#[test]
fn a_predicate_sees_the_normal_form() {
    let cors = Cors::builder().origins_that(|origin| origin.as_str().ends_with(".example")).build().unwrap();
    assert_eq!(
        served(&cors, Some("https://A.Example:443"))["access-control-allow-origin"],
        "https://A.Example:443"
    );
    assert!(!served(&cors, Some("https://example.evil")).contains_key("access-control-allow-origin"));
}

#[test]
fn rules_that_are_too_open_are_found() {
    assert!(cors().check().is_empty());
    let codes = |cors: Cors| cors.check().into_iter().map(|finding| finding.code).collect::<Vec<_>>();
    let open = Cors::builder().any_origin().null_origin_insecurely().private_network().build().unwrap();
    assert_eq!(codes(open), ["cors.null_origin", "cors.any_origin", "cors.private_network"]);
}
