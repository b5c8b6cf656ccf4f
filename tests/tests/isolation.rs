//! What is recycled remembers nothing of its former user.

use gimmal::{App, HeaderMap, Method, Path, Query, Request, Version};
use gimmal_tests::{Client, on_both};

/// As many requests as a thread keeps boxes for, and more.
const MANY: usize = 300;

async fn request_first(
    request: Request,
    method: Method,
    version: Version,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> String {
    let path = request.path().to_owned();
    format!("{path} {method} {version:?} {name} {query:?} {:?}", headers.get("x-own"))
}

fn app() -> App {
    App::new().get("/", async || "root").any("/after/{name}", request_first)
}

#[test]
fn an_unfinished_head_does_not_hang_the_requests_of_others() {
    on_both(app, |server| {
        // Longer than any head that follows.
        let unfinished = format!("GET /{} HTTP/1.1\r\nHost: a\r\nX: ", "x".repeat(300));
        let mut kept = Client::connect(server.address());
        assert_eq!(kept.get("/").text(), "root");
        let mut begun = Vec::new();
        for _ in 0..MANY {
            let mut client = Client::connect(server.address());
            client.send(&unfinished);
            begun.push(client);
        }
        let received = (MANY * unfinished.len()) as u64;
        gimmal_tests::eventually("all are received", || {
            server.handle().counters().received_bytes >= received
        });
        for client in begun {
            client.half_close();
            drop(client);
        }
        for _ in 0..MANY {
            assert_eq!(Client::connect(server.address()).get("/").text(), "root");
            assert_eq!(kept.get("/").text(), "root");
        }
    });
}

#[test]
fn an_unfinished_head_that_is_refused_does_not_hang_the_requests_of_others() {
    on_both(app, |server| {
        for _ in 0..MANY {
            let mut client = Client::connect(server.address());
            client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(300)));
            client.send(" folded\r\n\r\n");
            assert_eq!(client.message().status, 400);
        }
        for _ in 0..10 {
            assert_eq!(Client::connect(server.address()).get("/").text(), "root");
        }
    });
}

#[test]
fn extractors_after_the_request_see_this_request_and_no_former_one() {
    on_both(app, |server| {
        for _ in 0..3 {
            let mut other = Client::connect(server.address());
            other.send("DELETE /after/other?their=1 HTTP/1.0\r\nHost: a\r\nX-Own: theirs\r\n\r\n");
            let expected = r#"/after/other DELETE HTTP/1.0 other [("their", "1")] Some("theirs")"#;
            assert_eq!(other.message().text(), expected);
            let mut client = Client::connect(server.address());
            client.send("GET /after/own HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.message().text(), "/after/own GET HTTP/1.1 own [] None");
        }
    });
}
