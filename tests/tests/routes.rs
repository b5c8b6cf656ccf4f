//! Which requests a route answers, over real sockets on both back ends.

use gimmal::{App, any};
use gimmal_tests::{Client, on_both};

/// What follows a CONNECT would be a tunnel to a proxy before the server, and further requests to the server.
#[test]
fn connect_is_no_request_for_any_method_and_smuggles_nothing() {
    let apps: [fn() -> App; 4] = [
        || App::new().any("/", async || "any"),
        || App::new().fallback(async || "any"),
        || App::new().route("/", any(async || "any")).fallback(async || "any"),
        || App::new().any("/{*path}", async || "any"),
    ];
    for app in apps {
        on_both(app, |server| {
            let mut client = Client::connect(server.address());
            client.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
            let answer = client.message();
            assert_eq!(answer.status, 405);
            assert!(answer.header("allow").is_some_and(|allow| !allow.contains("CONNECT")), "{answer:?}");
        });
    }
}

#[test]
fn a_pattern_matches_what_clients_make_of_it() {
    let app = || {
        let paths = ["/a b", "/caf\u{e9}", "/th%c3%a9", "/%7Euser", "/a%7Cb", "/\"q\"", "/{{x}}"];
        paths.iter().fold(App::new(), |app, path| app.get(path, async || "found"))
    };
    on_both(app, |server| {
        let mut client = Client::connect(server.address());
        for path in [
            "/a%20b",
            "/caf%C3%A9",
            "/caf%c3%a9",
            "/th%C3%A9",
            "/~user",
            "/%7euser",
            "/a|b",
            "/a%7cb",
            "/%22q%22",
            "/%7Bx%7d",
        ] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.message().text(), "found", "{path}");
        }
    });
}
