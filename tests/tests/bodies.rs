//! Server-sent events, cookies and JSON lines, over real sockets on both back ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use gimmal::cookies::{CookieKeys, Cookies, removal, sealed_cookie, secure_cookie, signed_cookie};
use gimmal::sse::{Event, Events, LastEventId};
use gimmal::{App, Error, JsonLines, Response, State, json_lines};
use gimmal_tests::{Client, eventually, on_both};

fn keys(byte: u8) -> CookieKeys {
    CookieKeys::new(&vec![byte; 32].into()).unwrap()
}

async fn count(LastEventId(last): LastEventId) -> Events {
    let next = last.and_then(|last| last.parse::<u64>().ok()).map_or(1, |last| last + 1);
    Events::new(stream::iter(next..4).map(|number| {
        Ok(Event::data(format!("tick\n{number}")).with_id(number.to_string()).with_name("tick"))
    }))
}

#[test]
fn events_come_and_go_on_after_the_last_that_was_seen() {
    on_both(
        || App::new().get("/", count),
        |server| {
            let tick = |number: u64| format!("event: tick\nid: {number}\ndata: tick\ndata: {number}\n\n");
            let first = server.get("/").send().unwrap();
            assert_eq!(first.text(), [tick(1), tick(2), tick(3)].concat());
            assert_eq!(first.header("content-type"), Some("text/event-stream"));
            assert_eq!(first.header("cache-control"), Some("no-store"));
            assert_eq!(server.get("/").header("last-event-id", "2").send().unwrap().text(), tick(3));
        },
    );
}

/// Counts the streams that are alive.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn quiet_events_are_kept_alive_and_end_when_the_client_goes() {
    let alive = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&alive);
    let quiet = move || {
        let alive = Arc::clone(&counted);
        async move || {
            alive.fetch_add(1, Ordering::SeqCst);
            let alive = Alive(Arc::clone(&alive));
            let first = stream::iter([Ok(Event::data("first"))]);
            let never = stream::pending().map(move |event| {
                let _held = &alive;
                event
            });
            Events::new(first.chain(never)).keep_alive(Duration::from_millis(20))
        }
    };
    on_both(
        || App::new().get("/", quiet()),
        |server| {
            let mut client = Client::connect(server.address());
            client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
            let mut received = String::new();
            while received.matches(":\n\n").count() < 3 {
                let mut buffer = [0; 1024];
                let read = std::io::Read::read(&mut client.stream(), &mut buffer).unwrap();
                assert!(read > 0, "{received}");
                received.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            assert!(received.contains("\r\n\r\ndata: first\n\n:\n\n"), "{received}");
            assert_eq!(alive.load(Ordering::SeqCst), 1);
            drop(client);
            eventually("the stream is dropped", || alive.load(Ordering::SeqCst) == 0);
        },
    );
}

#[test]
fn events_end_when_the_server_stops() {
    let app = App::new()
        .get("/", async || Events::new(stream::iter([Ok(Event::data("first"))]).chain(stream::pending())));
    let server = gimmal_tests::start(gimmal_tests::server(app, gimmal::Backend::Auto));
    let mut client = Client::connect(server.address());
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let mut buffer = [0; 4096];
    assert!(std::io::Read::read(&mut client.stream(), &mut buffer).unwrap() > 0);
    server.handle().shutdown();
    while std::io::Read::read(&mut client.stream(), &mut buffer).unwrap() > 0 {}
}

async fn visit(cookies: Cookies, keys: State<Arc<CookieKeys>>) -> Result<Response, Error> {
    let sealed = cookies.sealed(&keys, "__Host-sealed").unwrap_or_default();
    let signed = cookies.signed(&keys, "__Host-signed").unwrap_or_default();
    let theme = cookies.get("theme").unwrap_or("light");
    let hour = Duration::from_secs(3600);
    Ok(Response::new(format!("{sealed}|{signed}|{theme}"))
        .with_cookie(&sealed_cookie(&keys, "__Host-sealed", "only for us", hour))?
        .with_cookie(&signed_cookie(&keys, "__Host-signed", "for all", hour))?
        .with_cookie(&removal(&secure_cookie("theme", "")))?)
}

#[test]
fn cookies_are_read_set_and_removed() {
    on_both(
        || App::new().state(Arc::new(keys(1))).get("/", visit),
        |server| {
            let first = server.get("/").header("cookie", "theme=dark; a=b").send().unwrap();
            assert_eq!(first.text(), "||dark");
            let set: Vec<_> = first
                .headers()
                .get_all("set-cookie")
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect();
            assert_eq!(set.len(), 3);
            assert!(set[0].contains("; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=3600"), "{set:?}");
            assert!(!set[0].contains("only for us"));
            assert!(set[2].starts_with("theme=;") && set[2].ends_with("Max-Age=0"), "{set:?}");
            let sent: Vec<_> = set[..2].iter().map(|set| set.split(';').next().unwrap()).collect();
            let again = server.get("/").header("cookie", &sent.join("; ")).send().unwrap();
            assert_eq!(again.text(), "only for us|for all|light");
            // A value of one cookie is none of another, nor one that was changed.
            let swapped =
                sent.join("; ").replace("sealed", "x").replace("signed", "sealed").replace("x", "signed");
            assert_eq!(server.get("/").header("cookie", &swapped).send().unwrap().text(), "||light");
            // One that another host of the domain has put before it hides it not.
            let tossed = format!("__Host-sealed=evil; {}", sent[0]);
            assert_eq!(
                server.get("/").header("cookie", &tossed).send().unwrap().text(),
                "only for us||light"
            );
        },
    );
}

async fn sum(mut numbers: JsonLines<i64>) -> Result<String, Error> {
    let (mut sum, mut count) = (0, 0);
    while let Some(number) = numbers.next().await? {
        sum += number;
        count += 1;
    }
    Ok(format!("{count} {sum}"))
}

#[test]
fn json_lines_both_ways() {
    on_both(
        || {
            App::new()
                .route("/sum", gimmal::post(sum).body_limit(u64::MAX))
                .get("/squares", async || json_lines(stream::iter((0..4).map(|number| Ok(number * number)))))
        },
        |server| {
            let squares = server.get("/squares").send().unwrap();
            assert_eq!(
                (squares.text(), squares.header("content-type")),
                ("0\n1\n4\n9\n", Some("application/x-ndjson"))
            );
            let post = |body: String| {
                server
                    .post("/sum")
                    .header("content-type", "application/x-ndjson; charset=utf-8")
                    .body(body)
                    .send()
                    .unwrap()
            };
            assert_eq!(post("1\n2\r\n\n3".to_owned()).text(), "3 6");
            assert_eq!(post(String::new()).text(), "0 0");
            let many: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
            assert_eq!(post(many).text(), "100000 5000050000");
            let refused = post("1\n2,\n".to_owned());
            assert_eq!(refused.status(), 400);
            assert!(refused.text().starts_with("line 2 "), "{}", refused.text());
            assert_eq!(post("1\n\"a\"\n".to_owned()).status(), 422);
            assert_eq!(post(" ".repeat((1 << 20) + 1)).status(), 413);
            assert_eq!(server.post("/sum").body("1\n").send().unwrap().status(), 415);
        },
    );
}
