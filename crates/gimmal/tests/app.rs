//! Routes, extractors, middleware and state, asked in memory.

use std::cell::Cell;
use std::rc::Rc;

use gimmal::test::TestClient;
use gimmal::{
    App, AppError, Body, Bytes, Chunk, Error, Extension, Form, HeaderMap, Html, IntoResponse, Json, Method,
    Next, Path, Query, Redirect, Request, Response, State, StatusCode, any, get,
};
use serde::{Deserialize, Serialize};

fn client(app: App) -> TestClient {
    TestClient::new(app).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn routes_match_by_method_and_pattern() {
    let app = App::new()
        .route("/x", get(async || "got").post(async || "posted"))
        .get("/users/{id}", async |Path(id): Path<u32>| format!("user {id}"))
        .get("/files/{*path}", async |Path(path): Path<String>| path)
        .route("/any", any(async |method: Method| method.to_string()).put(async || "put alone"));
    let client = client(app);
    assert_eq!(client.get("/x").send().await.text(), "got");
    assert_eq!(client.post("/x").send().await.text(), "posted");
    assert_eq!(client.get("/users/7").send().await.text(), "user 7");
    assert_eq!(client.get("/files/a/b%20c").send().await.text(), "a/b c");
    assert_eq!(client.delete("/any").send().await.text(), "DELETE");
    assert_eq!(client.put("/any").send().await.text(), "put alone");
    assert_eq!(client.get("/nowhere").send().await.status(), 404);
    assert_eq!(client.get("/x/").send().await.status(), 404);
}

#[tokio::test(flavor = "current_thread")]
async fn head_options_and_405_come_by_themselves() {
    let client = client(App::new().route("/x", get(async || "got").delete(async || ())));
    let head = client.head("/x").send().await;
    assert_eq!((head.status().as_u16(), head.text()), (200, ""));
    let refused = client.post("/x").send().await;
    assert_eq!(
        (refused.status().as_u16(), refused.header("allow")),
        (405, Some("GET, HEAD, DELETE, OPTIONS"))
    );
    let options = client.options("/x").send().await;
    assert_eq!(
        (options.status().as_u16(), options.header("allow")),
        (204, Some("GET, HEAD, DELETE, OPTIONS"))
    );
    assert_eq!(client.options("*").send().await.status(), 204);
}

#[tokio::test(flavor = "current_thread")]
async fn an_escaped_letter_is_the_letter_and_an_escaped_slash_is_no_slash() {
    let app = App::new().get("/admin/{name}", async |Path(name): Path<String>| name);
    let client = client(app);
    assert_eq!(client.get("/%61dmin/x").send().await.text(), "x");
    assert_eq!(client.get("/admin/a%2Fb").send().await.text(), "a/b");
    assert_eq!(client.get("/admin%2Fx").send().await.status(), 404);
    assert_eq!(client.get("/admin/%FF").send().await.status(), 400);
}

#[tokio::test(flavor = "current_thread")]
async fn a_path_comes_before_a_parameter_and_braces_and_escapes_mean_what_they_say() {
    let app = App::new()
        .get("/users/{id}", async |Path(id): Path<String>| format!("user {id}"))
        .get("/users/me", async || "myself")
        .get("/{{x}}", async || "braces");
    let client = client(app);
    assert_eq!(client.get("/users/me").send().await.text(), "myself");
    assert_eq!(client.get("/users/m%65").send().await.text(), "myself");
    assert_eq!(client.get("/users/me2").send().await.text(), "user me2");
    assert_eq!(client.get("/%7Bx%7D").send().await.text(), "braces");
    assert_eq!(client.get("/%7bx%7d").send().await.text(), "braces");
    assert_eq!(client.post("/users/me").send().await.status(), 405);
}

#[tokio::test(flavor = "current_thread")]
async fn a_pattern_matches_in_whatever_form_a_request_writes_it() {
    let forms: [(&str, &[&str]); 7] = [
        ("/a b", &["/a%20b"]),
        ("/caf\u{e9}", &["/caf%C3%A9", "/caf%c3%a9", "/c%61f%C3%a9"]),
        ("/th%c3%a9", &["/th%C3%A9", "/th%c3%a9"]),
        ("/%7Euser", &["/~user", "/%7euser", "/%7Euser"]),
        ("/a%7Cb[]", &["/a|b[]", "/a%7Cb%5b%5D", "/a%7cb[]"]),
        ("/\"q\"", &["/%22q%22"]),
        ("/{id}/\u{fc}", &["/1/%C3%BC", "/1/%c3%bc"]),
    ];
    let app = forms.iter().fold(App::new(), |app, (pattern, _)| app.get(pattern, async || "found"));
    let nested = App::new().get("/\u{e4}", async || "nested").fallback(async || "fallback");
    let client = client(app.nest("/\u{f6} x", nested));
    for (pattern, paths) in forms {
        for path in paths {
            assert_eq!(client.get(path).send().await.text(), "found", "{pattern} {path}");
        }
    }
    assert_eq!(client.get("/%c3%b6%20x/%C3%A4").send().await.text(), "nested");
    assert_eq!(client.get("/%c3%b6%20x/none").send().await.text(), "fallback");
    // An escaped slash is still no slash.
    assert_eq!(client.get("/1%2f%C3%BC").send().await.status(), 404);
}

#[tokio::test(flavor = "current_thread")]
async fn connect_is_answered_only_where_a_route_says_so() {
    let ask = async |app: App| {
        let client = client(app.with(async |request: Request, next: Next| {
            let mut response = next.run(request).await;
            response.headers_mut().insert("x-around", "yes".parse().unwrap());
            response
        }));
        let response = client.request(Method::CONNECT, "example.org:443").send().await;
        assert_eq!(response.header("x-around"), Some("yes"));
        (response.status().as_u16(), response.header("allow").map(str::to_owned))
    };
    let refused = |allowed: &str| (405, Some(allowed.to_owned()));
    assert_eq!(
        ask(App::new().any("/", async || "tunnel")).await,
        refused("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    );
    assert_eq!(ask(App::new().get("/", async || "page")).await, refused("GET, HEAD, OPTIONS"));
    assert_eq!(ask(App::new().fallback(async || "tunnel")).await, refused(""));
    assert_eq!(ask(App::new().any("/{*path}", async || "tunnel")).await, refused(""));
    assert_eq!(ask(App::new()).await, refused(""));
    let connecting = App::new().route("/", any(async || "page").connect(async || "tunnel"));
    assert_eq!(ask(connecting.fallback(async || "tunnel")).await.0, 200);
}

#[tokio::test(flavor = "current_thread")]
async fn nested_apps_keep_their_middleware_to_themselves() {
    async fn mark(request: Request, next: Next) -> Response {
        let mut response = next.run(request).await;
        response.headers_mut().append("x-mark", "inner".parse().unwrap());
        response
    }
    let inner = App::new()
        .get("/", async || "list")
        .get("/{id}", async |Path(id): Path<String>| id)
        .fallback(async || (StatusCode::GONE, "gone"))
        .with(mark);
    let client = client(App::new().get("/", async || "root").nest("/items", inner));
    assert_eq!(client.get("/").send().await.header("x-mark"), None);
    let list = client.get("/items").send().await;
    assert_eq!((list.text(), list.header("x-mark")), ("list", Some("inner")));
    assert_eq!(client.get("/items/9").send().await.text(), "9");
    assert_eq!(client.get("/items/9/8").send().await.status(), 410);
    assert_eq!(client.post("/items/9").send().await.header("x-mark"), Some("inner"));
    assert_eq!(client.get("/itemsx").send().await.status(), 404);
    assert_eq!(client.get("/other").send().await.status(), 404);
}

#[tokio::test(flavor = "current_thread")]
async fn a_fallback_below_a_parameter_answers_there_and_nowhere_else() {
    let of_tenant = App::new().get("/a", async || "a").fallback(async || "of the tenant");
    let of_file = App::new().get("/a", async || "a").fallback(async || "of the file");
    let of_one = App::new().fallback(async || "of one");
    let app = App::new().nest("/t/1", of_one).nest("/t/{tenant}", of_tenant).nest("/f/{name}.txt", of_file);
    let client = client(app);
    for (path, text) in [
        ("/t/x/a", "a"),
        ("/t/1/none", "of one"),
        ("/t/x/none", "of the tenant"),
        ("/t/x/", "of the tenant"),
        ("/t/x", "of the tenant"),
        ("/f/n.txt/none", "of the file"),
        ("/f/n.js/none", "Not Found"),
        ("/f/.txt/none", "Not Found"),
        ("/t//none", "Not Found"),
        ("/tx/x/none", "Not Found"),
        ("/t", "Not Found"),
        ("/", "Not Found"),
    ] {
        assert_eq!(client.get(path).send().await.text(), text, "{path}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn middleware_runs_in_order_around_the_app_its_404_and_its_405() {
    #[derive(Clone)]
    struct Trail(Rc<std::cell::RefCell<Vec<&'static str>>>);
    async fn outer(mut request: Request, next: Next) -> Response {
        request.extensions_mut().insert(Trail(Rc::default()));
        let trail = request.extensions().get::<Trail>().cloned().unwrap();
        trail.0.borrow_mut().push("outer");
        let mut response = next.run(request).await;
        trail.0.borrow_mut().push("back");
        let text = trail.0.borrow().join(" ");
        response.headers_mut().insert("x-trail", text.parse().unwrap());
        response
    }
    async fn inner(request: Request, next: Next) -> Response {
        request.extensions().get::<Trail>().unwrap().0.borrow_mut().push("inner");
        next.run(request).await
    }
    async fn handler(Extension(trail): Extension<Trail>) {
        trail.0.borrow_mut().push("handler");
    }
    let client = client(App::new().with(outer).route("/", get(handler).with(inner)));
    let trail = async |path: &str| client.get(path).send().await.header("x-trail").map(str::to_owned);
    assert_eq!(trail("/").await.as_deref(), Some("outer inner handler back"));
    assert_eq!(trail("/nowhere").await.as_deref(), Some("outer back"));
    assert_eq!(client.post("/").send().await.header("x-trail"), Some("outer inner back"));
}

#[tokio::test(flavor = "current_thread")]
async fn middleware_may_answer_in_place_of_the_handler() {
    async fn closed(_: Request, _: Next) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
    let client = client(App::new().get("/", async || -> &str { panic!("never reached") }).with(closed));
    assert_eq!(client.get("/").send().await.status(), 503);
}

#[derive(Deserialize, Serialize)]
struct Point {
    x: i32,
    y: i32,
}

#[tokio::test(flavor = "current_thread")]
async fn json_is_checked_for_type_form_and_fit() {
    let app = App::new().post("/", async |Json(point): Json<Point>| Json(Point { x: point.y, y: point.x }));
    let client = client(app);
    let response = client.post("/").json(&Point { x: 1, y: 2 }).send().await;
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.json::<Point>().x, 2);
    let status = async |media: &str, body: &'static str| {
        client.post("/").header("content-type", media).body(body).send().await.status().as_u16()
    };
    assert_eq!(status("application/problem+json; charset=utf-8", r#"{"x":1,"y":2}"#).await, 200);
    assert_eq!(status("text/plain", r#"{"x":1,"y":2}"#).await, 415);
    assert_eq!(status("application/json", r#"{"x":1,"#).await, 400);
    assert_eq!(status("application/json", r#"{"x":1}"#).await, 422);
}

#[tokio::test(flavor = "current_thread")]
async fn json_nested_too_deep_is_refused() {
    let client = client(App::new().post("/", async |Json(_): Json<serde_json::Value>| ()));
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let status = async |depth| {
        let request = client.post("/").header("content-type", "application/json").body(nested(depth));
        request.send().await.status().as_u16()
    };
    assert_eq!(status(100).await, 200);
    assert_eq!(status(200).await, 400);
    assert_eq!(status(500_000).await, 400);
}

#[tokio::test(flavor = "current_thread")]
async fn queries_and_forms_fill_structs_and_lists() {
    #[derive(Deserialize, Serialize)]
    struct Search {
        q: String,
        #[serde(default)]
        tag: Vec<String>,
    }
    let app = App::new()
        .get("/", async |Query(search): Query<Search>| format!("{}:{}", search.q, search.tag.join("+")))
        .post("/", async |Form(search): Form<Search>| format!("{}:{}", search.q, search.tag.join("+")));
    let client = client(app);
    assert_eq!(client.get("/?q=a%20b&tag=x&tag=y").send().await.text(), "a b:x+y");
    assert_eq!(client.get("/?tag=x").send().await.status(), 400);
    let search = Search { q: "é&=".into(), tag: vec!["1".into()] };
    assert_eq!(client.post("/").form(&search).send().await.text(), "é&=:1");
    assert_eq!(client.post("/").body("q=a").send().await.status(), 415);
}

#[tokio::test(flavor = "current_thread")]
async fn path_parameters_fill_numbers_tuples_structs_and_enums() {
    #[derive(Deserialize)]
    struct Place {
        city: String,
        house: u16,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Cat,
        Dog,
    }
    let app = App::new()
        .get("/t/{a}/{b}", async |Path((a, b)): Path<(String, i64)>| format!("{a}{b}"))
        .get("/s/{city}/{house}", async |Path(place): Path<Place>| format!("{}{}", place.city, place.house))
        .get("/k/{kind}", async |Path(kind): Path<Kind>| match kind {
            Kind::Cat => "meow",
            Kind::Dog => "woof",
        })
        .get("/wrong/{a}", async |Path(_): Path<(u8, u8)>| "never");
    let client = client(app);
    assert_eq!(client.get("/t/x/-5").send().await.text(), "x-5");
    assert_eq!(client.get("/t/x/five").send().await.status(), 404);
    assert_eq!(client.get("/s/K%C3%B6ln/11").send().await.text(), "Köln11");
    assert_eq!(client.get("/s/K/70000").send().await.status(), 404);
    assert_eq!(client.get("/k/dog").send().await.text(), "woof");
    assert_eq!(client.get("/k/cow").send().await.status(), 404);
    assert_eq!(client.get("/wrong/1").send().await.status(), 404);
}

#[tokio::test(flavor = "current_thread")]
async fn extractors_may_be_optional_or_leave_failures_to_the_handler() {
    let app = App::new()
        .post("/maybe", async |point: Option<Json<Point>>| if point.is_some() { "some" } else { "none" })
        .post("/result", async |point: Result<Json<Point>, Error>| match point {
            Ok(_) => "right".to_owned(),
            Err(error) => format!("{}", error.status().as_u16()),
        });
    let client = client(app);
    assert_eq!(client.post("/maybe").send().await.text(), "none");
    assert_eq!(client.post("/maybe").json(&Point { x: 0, y: 0 }).send().await.text(), "some");
    assert_eq!(client.post("/result").body("x").send().await.text(), "415");
}

#[tokio::test(flavor = "current_thread")]
async fn bodies_come_as_bytes_text_pieces_and_whole_requests() {
    async fn pieces(mut body: Body) -> Result<String, gimmal::BodyError> {
        let mut count = 0;
        while let Some(chunk) = body.chunk().await {
            count += chunk?.len();
        }
        Ok(count.to_string())
    }
    async fn whole(mut request: Request) -> Result<String, Error> {
        let first = request.bytes().await?;
        let again = request.bytes().await;
        Ok(format!("{} {}", first.len(), again.is_err()))
    }
    let app = App::new()
        .post("/bytes", async |bytes: Bytes| bytes)
        .post("/text", async |text: String| text.to_uppercase())
        .post("/pieces", pieces)
        .post("/whole", whole)
        .body_limit(10);
    let client = client(app);
    assert_eq!(client.post("/bytes").body("abc").send().await.text(), "abc");
    assert_eq!(client.post("/text").body("abc").send().await.text(), "ABC");
    assert_eq!(client.post("/text").body(&b"\xff"[..]).send().await.status(), 400);
    assert_eq!(client.post("/pieces").body("0123456789").send().await.text(), "10");
    assert_eq!(client.post("/pieces").body("0123456789a").send().await.status(), 413);
    assert_eq!(client.post("/whole").body("abc").send().await.text(), "3 true");
}

#[tokio::test(flavor = "current_thread")]
async fn responses_of_every_kind() {
    let app = App::new()
        .get("/html", async || Html("<p>hi</p>"))
        .get("/away", async || Redirect::see_other("/there"))
        .get("/split", async || Redirect::temporary("/there\r\nset-cookie: a=b"))
        .get("/none", async || None::<&str>)
        .get("/tuple", async || {
            (StatusCode::ACCEPTED, [(gimmal::header::ETAG, "\"1\"".parse().unwrap())], "x")
        })
        .get("/stream", async || {
            let chunks = ["a", "b", "c"].map(|text| Ok(Chunk::from(text)));
            Body::stream(futures_util::stream::iter(chunks)).with_trailers(|| {
                let mut trailers = HeaderMap::new();
                trailers.insert("checksum", "7".parse().unwrap());
                trailers
            })
        });
    let client = client(app);
    assert_eq!(client.get("/html").send().await.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(client.get("/away").send().await.header("location"), Some("/there"));
    let split = client.get("/split").send().await;
    assert_eq!((split.status().as_u16(), split.header("set-cookie")), (500, None));
    assert_eq!(client.get("/none").send().await.status(), 404);
    let tuple = client.get("/tuple").send().await;
    assert_eq!((tuple.status().as_u16(), tuple.header("etag"), tuple.text()), (202, Some("\"1\""), "x"));
    let stream = client.get("/stream").send().await;
    assert_eq!(
        (stream.text(), stream.trailers().unwrap().get("checksum").unwrap()),
        ("abc", &"7".parse().unwrap())
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_handler_that_fails_or_panics_shows_the_client_nothing() {
    async fn fails() -> Result<(), Error> {
        Err(std::io::Error::other("the password of the database is hunter2"))?;
        Ok(())
    }
    let app = App::new().get("/fails", fails).get("/panics", async || -> () { panic!("hunter2") });
    let client = client(app);
    for path in ["/fails", "/panics"] {
        let response = client.get(path).send().await;
        assert_eq!((response.status().as_u16(), response.text()), (500, "Internal Server Error"));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn state_is_shared_or_of_the_core_and_handlers_need_not_be_send() {
    async fn count(shared: State<std::sync::Arc<str>>, own: State<Cell<u32>>) -> String {
        own.set(own.get() + 1);
        let not_send = Rc::new(own.get());
        tokio::task::yield_now().await;
        format!("{} {not_send}", &**shared)
    }
    let app = App::new()
        .get("/", count)
        .state(std::sync::Arc::<str>::from("shared"))
        .state_per_core(|| Cell::new(40_u32));
    let client = client(app);
    assert_eq!(client.get("/").send().await.text(), "shared 41");
    assert_eq!(client.get("/").send().await.text(), "shared 42");
}

#[test]
fn an_inconsistent_app_does_not_start_and_says_why() {
    let error = |app: App| TestClient::new(app).unwrap_err();
    let missing = error(App::new().get("/here", async |_: State<Cell<u32>>| ""));
    assert!(matches!(missing, AppError::StateMissing { .. }));
    assert!(missing.to_string().contains("/here") && missing.to_string().contains("Cell<u32>"), "{missing}");
    let twice = error(App::new().get("/a", async || "").get("/a", async || ""));
    assert_eq!(twice.to_string(), "the route \"/a\" has two handlers for GET; remove one of them");
    let conflict = error(App::new().get("/{a}", async || "").get("/{b}", async || ""));
    assert!(matches!(conflict, AppError::Pattern { .. }), "{conflict}");
    let relative = error(App::new().get("a", async || ""));
    assert!(relative.to_string().contains("slash"), "{relative}");
    for (pattern, reason) in
        [("/a?b", "query"), ("/a#b", "fragment"), ("/100%", "escape"), ("/a\nb", "control"), ("/a}", "brace")]
    {
        for refused in [
            App::new().get(pattern, async || ""),
            App::new().nest(pattern, App::new().get("/", async || "")),
            App::new().nest("/x", App::new().get(pattern, async || "")),
        ] {
            let refused = error(refused);
            assert!(matches!(refused, AppError::Pattern { .. }), "{refused}");
            assert!(refused.to_string().contains(reason), "{pattern:?}: {refused}");
        }
    }
    let same = error(App::new().get("/caf\u{e9}", async || "").get("/caf%c3%a9", async || ""));
    assert!(matches!(same, AppError::Duplicate { .. }), "{same}");
}

#[tokio::test(flavor = "current_thread")]
async fn errors_of_the_user_answer_for_themselves() {
    enum Refusal {
        Full,
    }
    impl IntoResponse for Refusal {
        fn into_response(self) -> Response {
            match self {
                Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "full").into_response(),
            }
        }
    }
    let client = client(App::new().get("/", async || Err::<&str, _>(Refusal::Full)));
    let response = client.get("/").send().await;
    assert_eq!((response.status().as_u16(), response.text()), (507, "full"));
}
