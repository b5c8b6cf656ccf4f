//! Attacks over real sockets, and what the defences make of them. Each test bears the name of its attack.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use gimmal::defence::{
    AllowedHosts, ClientAddress, Cors, CorsError, CsrfProtection, CsrfToken, CsrfTokens, Defences,
    JsonLimits, Nonce, OriginCheck, Quota, RateLimit, RedirectTargets, Scheme, TrustedProxies,
};
use gimmal::security::audit::{AuditLog, verify};
use gimmal::test::{TestRequest, TestResponse, TestServer};
use gimmal::{App, Error, HeaderValue, Html, Json, Path, Query, Redirect, Response, Server, Severity, get};
use serde::Deserialize;

fn start(app: App) -> TestServer {
    TestServer::start(app).unwrap()
}

fn sent(request: TestRequest<&TestServer>) -> TestResponse {
    request.send().unwrap()
}

fn status(request: TestRequest<&TestServer>) -> u16 {
    sent(request).status().as_u16()
}

/// Sends bytes that no honest client sends, and returns all that comes back.
fn raw(server: &TestServer, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn csrf_tokens() -> CsrfTokens {
    CsrfTokens::new(&vec![7; 32].into()).unwrap()
}

#[derive(Deserialize)]
struct Transfer {
    to: String,
}

#[test]
fn csrf_cross_site_post() {
    let app = App::new().post("/transfer", async || "done").get("/", async || "page").with(Defences::new());
    let server = start(app);
    let post = || server.post("/transfer").header("cookie", "session=victim");

    // A browser of today says where the page is from.
    assert_eq!(status(post().header("sec-fetch-site", "cross-site")), 403);
    assert_eq!(status(post().header("sec-fetch-site", "same-site")), 403);
    assert_eq!(status(post().header("sec-fetch-site", "same-origin")), 200);
    // An older one names the origin.
    assert_eq!(status(post().header("origin", "https://evil.example")), 403);
    assert_eq!(status(post().header("origin", "null")), 403);
    assert_eq!(status(post().header("origin", "http://localhost.evil.example")), 403);
    assert_eq!(status(post().header("origin", "http://localhost")), 200);
    // What changes nothing may come from a link anywhere.
    assert_eq!(status(server.get("/").header("sec-fetch-site", "cross-site")), 200);
}

#[test]
fn csrf_is_in_the_audit_log() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let app = App::new()
        .post("/transfer", async || "done")
        .state(Arc::new(AuditLog::new(file.reopen().unwrap(), None)))
        .with(Defences::new().csrf(CsrfProtection::default().tokens(CsrfTokens::random())));
    let server = start(app);
    let post = || server.post("/transfer").header("cookie", "session=victim");
    assert_eq!(status(post().header("sec-fetch-site", "cross-site")), 403);
    assert_eq!(status(post().header("x-csrf-token", "made up")), 403);
    assert_eq!(status(post().header("sec-fetch-site", "same-origin")), 200);
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(verify(text.as_bytes(), None).unwrap().sequence, 2);
    assert!(text.lines().all(|line| line.contains(r#""event":"csrf_refused""#)), "{text}");
    assert!(text.lines().all(|line| line.contains(r#""path":"/transfer""#)), "{text}");
}

#[test]
fn csrf_by_a_browser_that_says_nothing() {
    async fn transfer(gimmal::Form(transfer): gimmal::Form<Transfer>) -> String {
        format!("to {}", transfer.to)
    }
    let csrf = CsrfProtection::default().tokens(csrf_tokens()).session_cookie("session");
    let app = App::new()
        .route("/transfer", get(async |token: CsrfToken| token.to_string()).post(transfer))
        .with(Defences::new().csrf(csrf));
    let server = start(app);

    let page = sent(server.get("/transfer").header("cookie", "session=victim"));
    let set_cookie = page.header("set-cookie").unwrap();
    assert!(
        set_cookie.starts_with("__Host-csrf=") && set_cookie.contains("; Secure; HttpOnly"),
        "{set_cookie}"
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let cookies = format!("session=victim; {}", set_cookie.split(';').next().unwrap());
    let post = |cookies: &str, fields: &[(&str, &str)]| {
        sent(server.post("/transfer").header("cookie", cookies).form(&fields))
    };

    // The form of the site itself, whose handler still gets the body.
    let accepted = post(&cookies, &[("to", "bob"), ("csrf_token", page.text())]);
    assert_eq!((accepted.status().as_u16(), accepted.text()), (200, "to bob"));
    let header = server.post("/transfer").header("cookie", &cookies).header("x-csrf-token", page.text());
    assert_eq!(status(header.form(&[("to", "bob")])), 200);
    // One of another site, which knows no token, or has one of its own.
    assert_eq!(post(&cookies, &[("to", "mallory")]).status(), 403);
    assert_eq!(post(&cookies, &[("to", "mallory"), ("csrf_token", "guess")]).status(), 403);
    let stranger = sent(server.get("/transfer").header("cookie", "session=mallory"));
    assert_eq!(post(&cookies, &[("to", "mallory"), ("csrf_token", stranger.text())]).status(), 403);
    // Login CSRF: there is no session yet, but a form all the same.
    assert_eq!(post("theme=dark", &[("to", "mallory")]).status(), 403);
    assert_eq!(status(server.post("/transfer").form(&[("to", "mallory")])), 403);
    // No form can send this, and a browser adds nothing to it.
    let program =
        server.post("/transfer").header("authorization", "Bearer abc").header("content-type", "x/y");
    assert_eq!(status(program.body("to=bob")), 415);
    let basic = server.post("/transfer").header("authorization", "Basic YTpi").header("content-type", "x/y");
    assert_eq!(status(basic.body("to=bob")), 403);
}

#[test]
fn csrf_from_the_same_origin_needs_a_token_where_one_is_always_asked_for() {
    let csrf = CsrfProtection::default().tokens(csrf_tokens()).always_ask_for_token();
    let server = start(App::new().post("/", async || "done").with(csrf));
    let post = server.post("/").header("sec-fetch-site", "same-origin").header("cookie", "session=victim");
    assert_eq!(status(post), 403);
}

#[test]
fn clickjacking_and_injected_script() {
    let page = async |nonce: Nonce| Html(nonce.to_string());
    let server = start(App::new().get("/", page).with(Defences::new()));
    let [first, second] = [sent(server.get("/")), sent(server.get("/"))];
    assert_eq!(first.header("x-frame-options"), Some("DENY"));
    let policy = first.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains(&format!("script-src 'self' 'nonce-{}'", first.text())), "{policy}");
    assert!(!policy.contains("unsafe-inline"), "{policy}");
    assert_ne!(first.text(), second.text(), "a nonce is used once");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(first.header(name), Some(value));
    }
    // Refusals have them too.
    let refused = sent(server.post("/").header("sec-fetch-site", "cross-site"));
    assert_eq!((refused.status().as_u16(), refused.header("x-frame-options")), (403, Some("DENY")));
    assert_eq!(sent(server.get("/nowhere")).header("x-frame-options"), Some("DENY"));
}

/// What no handler has made has them as well.
#[test]
fn clickjacking_of_answers_that_no_handler_made() {
    let app = App::new()
        .get("/", async || "page")
        .get("/panic", async || -> &str { panic!("it broke") })
        .get("/slow", async || std::future::pending::<()>().await)
        .get("/inner/x", async || "x")
        .with(Defences::new());
    let timeouts = gimmal::Timeouts {
        request: Duration::from_millis(100),
        header_read: Duration::from_millis(300),
        ..gimmal::Timeouts::default()
    };
    let server = TestServer::from_server(Server::new(app).cores(1).timeouts(timeouts)).unwrap();
    let ask = |request: &str| raw(&server, request.as_bytes());
    let many = "X-Field: value\r\n".repeat(5000);
    for (request, status) in [
        ("GET /panic HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 500),
        ("GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 503),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        ("PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\n bad: folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a\r\n", 408),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        (&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000)), 414),
    ] {
        let answer = ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        for field in ["x-frame-options: DENY", "x-content-type-options: nosniff", "content-security-policy: "]
        {
            assert_eq!(answer.matches(field).count(), 1, "{field} in {answer}");
        }
    }
    // Where an app has none, they have none.
    let bare = start(App::new().get("/panic", async || -> &str { panic!("it broke") }));
    assert!(!raw(&bare, b"GET /panic HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").contains("x-frame"));
}

#[test]
fn host_header_poisoning() {
    let hosts = AllowedHosts::new(["example.org", "*.example.org"]).unwrap();
    let link = async |client: ClientAddress| format!("https://{}/reset", client.host().unwrap_or("nowhere"));
    let server = start(App::new().get("/", link).with(Defences::new().allowed_hosts(hosts)));
    let get = |host: &str| sent(server.get("/").header("host", host));

    assert_eq!(get("Example.ORG.").text(), "https://example.org/reset");
    assert_eq!(get("www.example.org:8443").text(), "https://www.example.org:8443/reset");
    for host in [
        "evil.example",
        "example.org.evil.example",
        "evilexample.org",
        "127.0.0.1",
        "example.org@evil.example",
    ] {
        let refused = get(host);
        assert!(matches!(refused.status().as_u16(), 400 | 421), "{host}: {}", refused.status());
        assert!(!refused.text().contains("evil"), "{host}");
    }
    // Nobody here takes the word of a field that anybody can send.
    let request = server.get("/").header("host", "example.org").header("x-forwarded-host", "evil.example");
    assert_eq!(sent(request).text(), "https://example.org/reset");
    let absolute =
        raw(&server, b"GET http://evil.example/ HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
    assert!(absolute.starts_with("HTTP/1.1 421 ") || absolute.starts_with("HTTP/1.1 400 "), "{absolute}");
    let none = raw(&server, b"GET / HTTP/1.0\r\n\r\n");
    assert!(none.starts_with("HTTP/1.1 421 ") || none.starts_with("HTTP/1.0 421 "), "{none}");
}

async fn who(client: ClientAddress) -> String {
    let scheme = if client.scheme() == Scheme::Https { "https" } else { "http" };
    format!("{} {scheme}", client.address())
}

#[test]
fn x_forwarded_for_spoofing() {
    // Nobody is trusted: the connection alone counts.
    let server = start(App::new().get("/", who).with(Defences::new()));
    let spoofed = server.get("/").header("x-forwarded-for", "10.9.9.9").header("x-forwarded-proto", "https");
    assert_eq!(sent(spoofed).text(), "127.0.0.1 http");
    let spoofed = sent(server.get("/").header("forwarded", "for=10.9.9.9;proto=https"));
    assert_eq!(spoofed.text(), "127.0.0.1 http");

    // Behind a proxy, what the client had sent stands to the left of what the proxy saw.
    let proxies = TrustedProxies::x_forwarded(["127.0.0.0/8".parse().unwrap()]);
    let server = start(App::new().get("/", who).with(Defences::new().trusted_proxies(proxies)));
    let proxied = server.get("/").header("x-forwarded-for", "10.9.9.9, 203.0.113.9");
    assert_eq!(sent(proxied.header("x-forwarded-proto", "https")).text(), "203.0.113.9 https");
    let other_field =
        server.get("/").header("x-forwarded-for", "203.0.113.9").header("forwarded", "for=10.9.9.9");
    assert_eq!(sent(other_field).text(), "203.0.113.9 http");

    // A quote that the client leaves open would swallow what the proxy adds.
    let proxies = TrustedProxies::forwarded(["127.0.0.0/8".parse().unwrap()]);
    let server = start(App::new().get("/", who).with(Defences::new().trusted_proxies(proxies)));
    assert_eq!(status(server.get("/").header("forwarded", "for=\"10.9.9.9, for=203.0.113.9")), 400);
    assert_eq!(
        sent(server.get("/").header("forwarded", "for=10.9.9.9, for=203.0.113.9")).text(),
        "203.0.113.9 http"
    );
}

#[derive(Deserialize)]
struct Next {
    next: String,
}

#[test]
fn open_redirect() {
    let local = async |Query(query): Query<Next>| Redirect::local(&query.next);
    let shop = async |Query(query): Query<Next>| {
        let targets = RedirectTargets::new().allow("https://shop.example.org".parse()?);
        Redirect::within(&targets, &query.next)
    };
    let server = start(App::new().get("/local", local).get("/shop", shop));
    let go = |path: &str| sent(server.get(path));
    assert_eq!(go("/local?next=/account%3Ftab=1").header("location"), Some("/account?tab=1"));
    for evil in [
        "https://evil.example",
        "//evil.example",
        "/%5Cevil.example",
        "/%09/evil.example",
        "%20//evil.example",
        "javascript:alert(1)",
        "evil.example",
    ] {
        let refused = go(&format!("/local?next={evil}"));
        assert_eq!((refused.status().as_u16(), refused.header("location")), (400, None), "{evil}");
    }
    assert_eq!(
        go("/shop?next=https://shop.example.org/a").header("location"),
        Some("https://shop.example.org/a")
    );
    assert_eq!(go("/shop?next=https://shop.example.org@evil.example").status(), 400);
    assert_eq!(go("/shop?next=https://shop.example.org.evil.example").status(), 400);
}

#[test]
fn header_injection() {
    #[derive(Deserialize)]
    struct Language {
        language: String,
    }
    let echo = async |Query(query): Query<Language>| -> Result<Response, Error> {
        Ok(Response::new("set").with_header("x-language".parse()?, HeaderValue::try_from(query.language)?))
    };
    let go = async |Query(query): Query<Language>| Redirect::see_other(query.language);
    let server = start(App::new().get("/echo", echo).get("/go", go));
    assert_eq!(sent(server.get("/echo?language=en")).header("x-language"), Some("en"));
    for path in ["/echo", "/go"] {
        for end in ["%0d%0a", "%0a", "%0d", "%00"] {
            let request = format!("{path}?language=en{end}Set-Cookie:%20session=evil{end}{end}<script>");
            let response = sent(server.get(&request));
            assert_eq!(response.header("set-cookie"), None, "{request}");
            assert!(response.status().is_server_error(), "{request}: {}", response.status());
            assert!(!response.text().contains("script"), "{request}");
        }
    }
    // A bare line feed does not smuggle a field into a request either.
    let smuggled = raw(&server, b"GET /echo?language=en HTTP/1.1\r\nHost: a\nX-Evil: 1\r\n\r\n");
    assert!(smuggled.starts_with("HTTP/1.1 400 "), "{smuggled}");
}

#[test]
fn path_traversal_on_routes() {
    let app = App::new()
        .get("/files/{*path}", async |Path(path): Path<String>| {
            let safe = gimmal::defence::SafePath::parse(&format!("/{path}"));
            safe.map(|_| path).map_err(|_| Error::status_only(gimmal::StatusCode::NOT_FOUND))
        })
        .get("/admin/keys", async || "secret");
    let server = start(app);
    assert_eq!(sent(server.get("/files/a/b.txt")).text(), "a/b.txt");
    for path in [
        "/files/../admin/keys",
        "/files/%2e%2e/admin/keys",
        "/files/..%2fadmin/keys",
        "/files/%2e%2e%2fadmin%2fkeys",
        "/files/..%5cadmin",
        "/files/....//../etc/passwd",
        "/files/%252e%252e/etc/passwd",
        "/files/a%00.png",
    ] {
        let answer =
            raw(&server, format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "),
            "{path}: {answer}"
        );
        assert!(!answer.contains("secret"), "{path}");
    }
}

#[test]
fn json_bomb() {
    let app = App::new().post("/", async |Json(_): Json<serde_json::Value>| "taken").body_limit(2 << 20);
    let server = start(app);
    let post = |server: &TestServer, text: String| {
        status(server.post("/").header("content-type", "application/json").body(text))
    };
    assert_eq!(post(&server, "[[[1]]]".to_owned()), 200);
    assert_eq!(post(&server, "[".repeat(1 << 20)), 400);
    assert_eq!(post(&server, r#"{"a":"#.repeat(200_000)), 400);
    assert_eq!(post(&server, format!("[{}1]", "1,".repeat(200_000))), 413);
    assert_eq!(post(&server, format!("\"{}\"", "a".repeat(3 << 20))), 413);

    let strict = JsonLimits { depth: 2, ..JsonLimits::default() };
    let server = start(App::new().post("/", async |Json(_): Json<serde_json::Value>| "taken").state(strict));
    assert_eq!((post(&server, "[[1]]".to_owned()), post(&server, "[[[1]]]".to_owned())), (200, 400));
}

#[test]
fn rate_limit_evasion_by_ipv6() {
    let proxies = TrustedProxies::x_forwarded(["127.0.0.0/8".parse().unwrap()]);
    let limit = RateLimit::by_address(Quota::per_hour("all", 3).unwrap());
    let app = App::new()
        .get("/", async || "served")
        .with(Defences::new().trusted_proxies(proxies).rate_limit(limit));
    let server = start(app);
    let from = |address: &str| sent(server.get("/").header("x-forwarded-for", address));

    // All addresses of one /64 are one client's.
    for host in 1..=3 {
        assert_eq!(from(&format!("2001:db8::{host}")).status(), 200);
    }
    let refused = from("2001:db8::ffff:4");
    assert_eq!(refused.status(), 429);
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&retry_after), "{retry_after}");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"all\";q=3;w=3600"));
    assert!(refused.header("ratelimit").unwrap().starts_with("\"all\";r=0;t="));
    assert_eq!(from("2001:db8:0:1::1").status(), 200);
    // An IPv4 address counts as the same however it is written.
    for address in ["192.0.2.1", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:99"] {
        assert_eq!(from(address).status(), 200);
    }
    assert_eq!(from("192.0.2.1").status(), 429);
}

#[test]
fn rate_limit_evasion_by_other_routes_and_cores() {
    let limit = RateLimit::by_address(Quota::per_hour("login", 5).unwrap());
    let everywhere = App::new().get("/a", async || ()).get("/b", async || ()).with(limit.clone());
    let server = TestServer::from_server(Server::new(everywhere).cores(2)).unwrap();
    let paths = ["/a", "/b", "/a", "/nowhere", "/b", "/a", "/b", "/nowhere"];
    let statuses: Vec<u16> = paths.iter().map(|path| status(server.get(path))).collect();
    assert_eq!(statuses, [200, 200, 200, 404, 200, 429, 429, 429]);

    let quota = Quota::per_hour("each", 1).unwrap();
    let each = App::new()
        .get("/a", async || ())
        .get("/b", async || ())
        .with(RateLimit::by_header(quota, "x-api-key".parse().unwrap()).per_route());
    let server = start(each);
    let ask = |path: &str, key: &str| status(server.get(path).header("x-api-key", key));
    assert_eq!([ask("/a", "k"), ask("/a", "k"), ask("/b", "k"), ask("/a", "other")], [200, 429, 200, 200]);
}

#[test]
fn cors_wildcard_with_credentials() {
    let careless = Cors::builder().any_origin().credentials().build();
    assert_eq!(careless.unwrap_err(), CorsError::CredentialsForAnyOrigin);

    let cors =
        Cors::builder().origin("https://app.example.org".parse().unwrap()).credentials().build().unwrap();
    let server = start(App::new().get("/", async || "data").with(Defences::new().cors(cors)));
    let evil = sent(server.get("/").header("origin", "https://evil.example"));
    assert_eq!((evil.status().as_u16(), evil.header("access-control-allow-origin")), (200, None));
    assert_eq!(evil.header("vary"), Some("origin"));
    let own = sent(server.get("/").header("origin", "https://app.example.org"));
    assert_eq!(own.header("access-control-allow-origin"), Some("https://app.example.org"));
    assert_eq!(own.header("access-control-allow-credentials"), Some("true"));

    let preflight = |origin: &str, method: &str| {
        let request = server.options("/").header("origin", origin);
        sent(request.header("access-control-request-method", method))
    };
    assert_eq!(preflight("https://app.example.org", "GET").status(), 204);
    assert_eq!(preflight("https://app.example.org", "DELETE").status(), 403);
    let refused = preflight("https://evil.example", "GET");
    assert_eq!((refused.status().as_u16(), refused.header("access-control-allow-origin")), (403, None));
}

#[test]
fn unsafe_configurations_are_found_before_the_start() {
    let codes = |app: App| {
        let findings = Server::new(app).bind("127.0.0.1:0").check();
        findings.into_iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>()
    };
    assert_eq!(codes(App::new()), []);
    assert_eq!(codes(App::new().with(Defences::new())), [("defences.any_host", Severity::Info)]);

    let open = Defences::new().without_csrf().without_security_headers();
    let nested = App::new().nest("/inner", App::new().get("/", async || ()).with(open));
    let open = codes(nested);
    assert!(open.contains(&("defences.no_csrf", Severity::Warning)), "{open:?}");
    assert!(open.contains(&("defences.no_security_headers", Severity::Warning)), "{open:?}");

    let bypass = OriginCheck::new().bypass_insecurely("hook", gimmal::Method::POST, "/hook").unwrap();
    let on_routes = App::new()
        .route("/hook", get(async || ()).with(CsrfProtection::new(bypass.clone())))
        .route("/other", get(async || ()).with(CsrfProtection::new(bypass)));
    assert_eq!(codes(on_routes), [("csrf.bypass", Severity::Warning)], "told once");

    let everybody = TrustedProxies::forwarded(["0.0.0.0/0".parse().unwrap()]);
    let server = Server::new(App::new().with(Defences::none().trusted_proxies(everybody)));
    let refused = server.bind("127.0.0.1:0").start().unwrap_err().to_string();
    assert!(refused.contains("proxies.wide_network"), "{refused}");

    let exposed = Server::new(App::new()).bind("0.0.0.0:0").check();
    assert!(exposed.iter().any(|finding| finding.code == "server.no_security_headers"), "{exposed:?}");
    let defended = Server::new(App::new().with(Defences::new())).bind("0.0.0.0:0").check();
    assert!(!defended.iter().any(|finding| finding.code == "server.no_security_headers"), "{defended:?}");
}

#[test]
fn http_to_https_downgrade() {
    let proxies = TrustedProxies::x_forwarded(["127.0.0.0/8".parse().unwrap()]);
    let app =
        App::new().get("/", who).post("/", async || "done").with(Defences::new().trusted_proxies(proxies));
    let server = TestServer::start(app).unwrap();
    // Strict-Transport-Security counts over TLS alone (RFC 6797, section 7.2).
    assert_eq!(sent(server.get("/")).header("strict-transport-security"), None);
    let secure =
        || server.get("/").header("x-forwarded-for", "203.0.113.9").header("x-forwarded-proto", "https");
    let hsts = sent(secure());
    assert_eq!(hsts.header("strict-transport-security"), Some("max-age=63072000; includeSubDomains"));
    // A page that somebody on the way put on the plain port is another origin.
    let post = |origin: &str| {
        let request =
            server.post("/").header("x-forwarded-for", "203.0.113.9").header("x-forwarded-proto", "https");
        status(request.header("origin", origin))
    };
    assert_eq!((post("http://localhost"), post("https://localhost")), (403, 200));
}

#[test]
fn hsts_and_redirect_over_tls() {
    let tls = gimmal::tls::TlsServerConfig::self_signed_for_development(&["localhost"]).unwrap();
    let app = App::new().get("/", who).with(Defences::new());
    let server = Server::new(app)
        .cores(1)
        .signals(false)
        .bind_tls("127.0.0.1:0", &tls)
        .redirect_to_https("127.0.0.1:0", 443)
        .start()
        .unwrap();
    let [secure, plain] = [0, 1].map(|index| server.addresses()[index].as_tcp().unwrap());

    let mut stream = TcpStream::connect(plain).unwrap();
    stream.write_all(b"GET /a?b=c HTTP/1.1\r\nHost: localhost:8080\r\nConnection: close\r\n\r\n").unwrap();
    let mut redirect = String::new();
    stream.read_to_string(&mut redirect).unwrap();
    assert!(redirect.starts_with("HTTP/1.1 308 "), "{redirect}");
    assert!(redirect.contains("location: https://localhost/a?b=c\r\n"), "{redirect}");

    let output = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--insecure", "--max-time", "20"])
        .arg(format!("https://{secure}/"))
        .output()
        .expect("curl is installed");
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(answer.contains("strict-transport-security: max-age=63072000; includeSubDomains"), "{answer}");
    assert!(answer.ends_with("127.0.0.1 https"), "{answer}");
    server.handle().stop();
    let _ = server.join();
}

/// A server that requires the PROXY protocol from this machine, or from nobody here; its second address does.
fn behind_proxy(trusted: &str, server: Server) -> (TestServer, std::net::SocketAddr) {
    // `TestServer` listens on an address of its own before it, which a free port cannot be told from.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = server.cores(1).bind(port).proxy_protocol([trusted.parse().unwrap()]);
    (TestServer::from_server(server).unwrap(), port)
}

/// What comes back for `pieces`, each sent on its own.
fn ask_in_pieces(address: std::net::SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        // What is refused may be closed before all of it has gone out.
        let _ = stream.write_all(piece);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn version_2(command: u8, source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12]);
    header.extend(source);
    header.extend([192, 0, 2, 1, 0x1f, 0x90, 0, 80]);
    header
}

#[test]
fn proxy_protocol_header_is_read_however_it_is_split() {
    let (_server, address) = behind_proxy("127.0.0.0/8", Server::new(App::new().get("/", who)));
    let line = b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 80\r\n".to_vec();
    for header in [line, version_2(1, [203, 0, 113, 9])] {
        let bytes = [&header[..], REQUEST].concat();
        for at in 1..bytes.len() {
            let answer = ask_in_pieces(address, &[&bytes[..at], &bytes[at..]]);
            assert!(answer.ends_with("203.0.113.9 http"), "split at {at}: {answer}");
        }
    }
    let each_byte: Vec<u8> = [&version_2(1, [203, 0, 113, 9])[..], REQUEST].concat();
    let each_byte: Vec<&[u8]> = each_byte.chunks(1).collect();
    assert!(ask_in_pieces(address, &each_byte).ends_with("203.0.113.9 http"));
    // A health check of the proxy itself.
    let local = [&version_2(0, [203, 0, 113, 9])[..], REQUEST].concat();
    assert!(ask_in_pieces(address, &[&local]).ends_with("127.0.0.1 http"));
}

#[test]
fn proxy_protocol_spoofing() {
    let header = b"PROXY TCP4 10.9.9.9 192.0.2.1 51234 80\r\n";
    // Whoever is no proxy is closed without an answer.
    let (_server, untrusted) = behind_proxy("192.0.2.0/24", Server::new(App::new().get("/", who)));
    assert_eq!(ask_in_pieces(untrusted, &[header, REQUEST]), "");
    assert_eq!(ask_in_pieces(untrusted, &[REQUEST]), "");
    // So is a proxy that does not say who the client is, or says it twice over.
    let (server, trusted) = behind_proxy("127.0.0.0/8", Server::new(App::new().get("/", who)));
    assert_eq!(ask_in_pieces(trusted, &[REQUEST]), "");
    assert_eq!(ask_in_pieces(trusted, &[b"PROXY TCP4 999.9.9.9 1.1.1.1 1 1\r\n", REQUEST]), "");
    let twice = ask_in_pieces(trusted, &[header, header, REQUEST]);
    assert!(twice.starts_with("HTTP/1.1 400 "), "{twice}");
    // Where it is not required, it is no HTTP.
    let elsewhere = ask_in_pieces(server.address(), &[header, REQUEST]);
    assert!(elsewhere.starts_with("HTTP/1.1 400 "), "{elsewhere}");
}

#[test]
fn slowloris_in_the_proxy_protocol_header() {
    let timeouts =
        gimmal::Timeouts { header_read: Duration::from_millis(300), ..gimmal::Timeouts::default() };
    let server = Server::new(App::new().get("/", who)).timeouts(timeouts);
    let (_server, address) = behind_proxy("127.0.0.0/8", server);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"PROXY TCP4 203.0").unwrap();
    let started = std::time::Instant::now();
    let closed = stream.read(&mut [0; 16]);
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn proxy_protocol_comes_before_tls() {
    let tls = gimmal::tls::TlsServerConfig::self_signed_for_development(&["localhost"]).unwrap();
    let server = Server::new(App::new().get("/", who))
        .cores(1)
        .signals(false)
        .bind_tls("127.0.0.1:0", &tls)
        .proxy_protocol(["127.0.0.0/8".parse().unwrap()])
        .start()
        .unwrap();
    let output = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--max-time", "20", "--haproxy-protocol"])
        .arg(format!("https://{}/", server.addresses()[0]))
        .output()
        .expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "127.0.0.1 https");
    server.handle().stop();
    let _ = server.join();
}
