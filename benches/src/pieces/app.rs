//! An app in memory: parser, router, extractors, middleware, handler and response, without a socket.
//!
//! The in-memory client writes each request and copies each response; `app/plaintext` shows what that costs, and the
//! other cases what they add to it.

use std::hint::black_box;

use futures_util::FutureExt as _;
use gimmal::test::TestClient;
use gimmal::{App, Json, Method, Next, Path, Query, Request, Response, State, StatusCode};
use serde::{Deserialize, Serialize};

use super::Piece;

#[derive(Deserialize, Serialize)]
struct Order {
    id: u64,
    customer: String,
    items: Vec<Item>,
    total_cents: u64,
}

#[derive(Deserialize, Serialize)]
struct Item {
    name: String,
    count: u32,
    price_cents: u64,
}

fn order() -> Order {
    let item = |number| Item { name: format!("item {number}"), count: number, price_cents: 1999 };
    Order { id: 7, customer: "Ada Lovelace".into(), items: (1..=4).map(item).collect(), total_cents: 19_990 }
}

#[derive(Deserialize)]
struct Page {
    page: u32,
    sort: String,
}

pub(super) fn pieces() -> Vec<Piece> {
    let plaintext = || App::new().get("/plaintext", async || "Hello, World!");
    let layered = (0..4).fold(plaintext(), |app, _| app.with(pass_on));
    let mut pieces = vec![
        ask("app", "plaintext", plaintext(), Method::GET, "/plaintext", ""),
        ask("app", "plaintext behind 4 middleware", layered, Method::GET, "/plaintext", ""),
        ask(
            "app",
            "JSON response",
            App::new().get("/json", async || Json(order())),
            Method::GET,
            "/json",
            "",
        ),
    ];
    let json: &'static str = serde_json::to_string(&order()).expect("an order is JSON").leak();
    for (case, method, target, body) in [
        ("path parameter", Method::GET, "/users/12345", ""),
        ("query", Method::GET, "/list?page=2&sort=newest+first", ""),
        ("state", Method::GET, "/state", ""),
        ("JSON body", Method::POST, "/orders", json),
    ] {
        pieces.push(ask("extractors", case, extracting(), method, target, body));
    }
    for (case, count) in [("30 routes", 30), ("130 routes", 130), ("1000 routes", 1000)] {
        let target = format!("/service-{}/items/12345/parts", count / 10 - 1);
        pieces.push(ask("routing", case, routes(count), Method::GET, &target, ""));
    }
    pieces
}

/// Builds the case, and asks it once to see that it answers.
fn ask(
    group: &'static str,
    case: &'static str,
    app: App,
    method: Method,
    target: &str,
    body: &'static str,
) -> Piece {
    let client = TestClient::new(app).expect("a valid app");
    let target = target.to_owned();
    let run = move || {
        let request = client.request(method.clone(), black_box(&target));
        let request = if body.is_empty() {
            request
        } else {
            request.header("content-type", "application/json").body(body)
        };
        // Every handler here is ready at once.
        let response = request.send().now_or_never().expect("the response is ready");
        assert_eq!(response.status(), StatusCode::OK);
        black_box(response);
    };
    run();
    Piece::new(group, case, run)
}

async fn pass_on(request: Request, next: Next) -> Response {
    next.run(request).await
}

#[derive(Clone, Copy)]
struct Counter(u64);

fn extracting() -> App {
    App::new()
        .state(Counter(1))
        .get("/users/{id}", async |Path(id): Path<u64>| id.to_string())
        .get("/list", async |Query(page): Query<Page>| format!("{} {}", page.page, page.sort))
        .get("/state", async |State(counter): State<Counter>| counter.0.to_string())
        .post("/orders", async |Json(order): Json<Order>| order.items.len().to_string())
}

/// Ten routes for each of many services.
fn routes(count: usize) -> App {
    (0..count).fold(App::new(), |app, number| {
        let service = number / 10;
        let pattern = match number % 10 {
            0 => format!("/service-{service}"),
            1 => format!("/service-{service}/items"),
            2 => format!("/service-{service}/items/{{id}}"),
            3 => format!("/service-{service}/items/{{id}}/parts"),
            4 => format!("/service-{service}/items/{{id}}/parts/{{part}}"),
            5 => format!("/service-{service}/search"),
            6 => format!("/service-{service}/files/{{*path}}"),
            7 => format!("/service-{service}/status"),
            8 => format!("/service-{service}/users/{{user}}"),
            _ => format!("/service-{service}/users/{{user}}/settings"),
        };
        app.get(&pattern, async || "found")
    })
}
