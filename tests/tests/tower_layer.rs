//! Tower layers around Gimmal's routes, and a Gimmal app as a Tower service.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use gimmal::test::{TestClient, TestServer};
use gimmal::tower::{AppService, layer};
use gimmal::{
    App, Body, Chunk, HeaderMap, HeaderValue, Method, Path, Request, Response, StatusCode, http, post,
};
use gimmal_tests::on_both;
use gimmal_tests::peers::noise;
use tower::ServiceExt as _;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{MakeRequestUuid, RequestId, SetRequestIdLayer};
use tower_http::set_header::SetRequestHeaderLayer;
use tower_http::trace::TraceLayer;

#[test]
fn long_responses_are_compressed_and_short_ones_are_not() {
    let long = "a line that compresses well, again and again and again\n".repeat(100);
    let text = long.clone();
    let app = App::new()
        .get("/long", async move || text.clone())
        .get("/short", async || "short")
        .with(layer(CompressionLayer::new()));
    let server = TestServer::start(app).unwrap();
    let response = server.get("/long").header("accept-encoding", "gzip").send().unwrap();
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(response.bytes().len() < 500 && response.bytes().starts_with(&[0x1f, 0x8b]));
    let response = server.get("/short").header("accept-encoding", "gzip").send().unwrap();
    assert_eq!((response.header("content-encoding"), response.text()), (None, "short"));
    assert_eq!(server.get("/long").send().unwrap().text(), long);
    assert_eq!(server.head("/long").send().unwrap().header("content-length"), Some("5500"));
}

#[test]
fn a_layer_may_answer_in_the_handlers_place() {
    let app = App::new().post("/", async || "posted").with(layer(CorsLayer::permissive()));
    let server = TestServer::start(app).unwrap();
    let preflight = server.request(Method::OPTIONS, "/").header("origin", "https://a.example");
    let response = preflight.header("access-control-request-method", "POST").send().unwrap();
    assert_eq!(response.header("access-control-allow-methods"), Some("*"));
    let response = server.post("/").header("origin", "https://a.example").send().unwrap();
    assert_eq!((response.text(), response.header("access-control-allow-origin")), ("posted", Some("*")));
}

#[test]
fn head_tells_no_length_where_a_layer_answers_with_no_body() {
    let answers = tower::layer::layer_fn(|_| {
        tower::service_fn(async |_: http::Request<Body>| {
            Ok::<_, Infallible>(http::Response::new(http_body_util::Empty::<gimmal::Bytes>::new()))
        })
    });
    on_both(
        || App::new().get("/", async || "never asked").with(layer(answers)),
        |server| {
            let response = server.head("/").send().unwrap();
            assert_eq!((response.status().as_u16(), response.header("content-length")), (200, None));
            assert_eq!(server.get("/").send().unwrap().header("content-length"), Some("0"));
        },
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_handler_sees_the_fields_and_the_extensions_that_a_layer_adds() {
    async fn show(Path(name): Path<String>, request: Request) -> String {
        let extensions = request.extensions().get::<http::Extensions>().unwrap();
        let id = extensions.get::<RequestId>().unwrap().header_value();
        assert_eq!(request.header("x-request-id"), id.to_str().ok());
        format!("{name} {} {} {}", request.header("added").unwrap(), request.path(), request.query().unwrap())
    }
    let added = HeaderValue::from_static("by the layer");
    let app = App::new()
        .get("/users/{name}", show)
        .with(layer(SetRequestHeaderLayer::overriding("added".parse().unwrap(), added)))
        .with(layer(SetRequestIdLayer::x_request_id(MakeRequestUuid)));
    let client = TestClient::new(app).unwrap();
    let response = client.get("/users/%61da?q=1").header("added", "by the client").send().await;
    assert_eq!(response.text(), "ada by the layer /users/ada q=1");
}

#[test]
fn a_core_has_one_service_for_a_route_and_not_one_for_each_request() {
    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(50)).await;
        "slow"
    }
    let app = App::new().get("/", slow).with(layer(ConcurrencyLimitLayer::new(1)));
    let server = TestServer::start(app).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(server.get("/").send().unwrap().text(), "slow"));
        }
    });
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[test]
fn bodies_and_trailers_go_through_a_layer() {
    async fn mirror(mut request: Request) -> Response {
        Response::new(request.take_body())
    }
    async fn trailing() -> Body {
        let chunks = ["one", "two"].map(|text| Ok(Chunk::from(text)));
        let fields = || HeaderMap::from_iter([("checksum".parse().unwrap(), HeaderValue::from_static("42"))]);
        Body::stream(futures_util::stream::iter(chunks)).with_trailers(fields)
    }
    let app = App::new()
        .route("/mirror", post(mirror))
        .get("/trailing", trailing)
        .with(layer(TraceLayer::new_for_http()));
    let server = TestServer::start(app).unwrap();
    let sent = noise(1_000_003);
    assert!(server.post("/mirror").body(sent.clone()).send().unwrap().bytes() == &sent[..]);
    let response = server.get("/trailing").send().unwrap();
    assert_eq!(response.text(), "onetwo");
    assert_eq!(response.trailers().unwrap()["checksum"], "42");
}

#[test]
fn an_upgrade_goes_through_a_layer() {
    async fn shout() -> Response {
        Response::switching_protocols(HeaderValue::from_static("shout"), async |stream| {
            while let Ok(bytes) = stream.recv().await
                && !bytes.is_empty()
            {
                let _ = stream.send(bytes.to_ascii_uppercase()).await;
            }
        })
    }
    let app = App::new().get("/", shout).with(layer(TraceLayer::new_for_http()));
    let server = TestServer::start(app).unwrap();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\nhey")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 101") && all.ends_with("\r\n\r\nHEY"), "{all}");
}

#[test]
fn what_a_layer_fails_with_is_a_500() {
    let late = TimeoutLayer::new(Duration::from_millis(20));
    let app = App::new().get("/", async || std::future::pending::<()>().await).with(layer(late));
    let server = TestServer::start(app).unwrap();
    assert_eq!(server.get("/").send().unwrap().status(), 500);
}

#[tokio::test(flavor = "current_thread")]
async fn an_app_is_a_service() {
    async fn extension(request: Request) -> String {
        let extensions = request.extensions().get::<http::Extensions>();
        extensions.and_then(|all| all.get::<u32>()).copied().unwrap_or_default().to_string()
    }
    let app = App::new()
        .get("/greet/{name}", async |Path(name): Path<String>| format!("Hello, {name}!"))
        .route("/echo", post(async |body: String| body).body_limit(8))
        .get("/extension", extension);
    let service = AppService::new(app).unwrap();
    let ask = async |request: http::Request<String>| -> Result<_, Infallible> {
        let (parts, body) = service.clone().oneshot(request).await?.into_parts();
        Ok((parts.status, body.collect(1024).await.unwrap()))
    };
    let request = http::Request::get("http://a.example/greet/Ada").body(String::new()).unwrap();
    assert_eq!(ask(request).await.unwrap(), (StatusCode::OK, "Hello, Ada!".into()));
    let request = http::Request::post("/echo").body("small".to_owned()).unwrap();
    assert_eq!(ask(request).await.unwrap(), (StatusCode::OK, "small".into()));
    let request = http::Request::post("/echo").body("too large".to_owned()).unwrap();
    assert_eq!(ask(request).await.unwrap().0, StatusCode::PAYLOAD_TOO_LARGE);
    let request = http::Request::get("/extension").extension(7_u32).body(String::new()).unwrap();
    assert_eq!(ask(request).await.unwrap().1, "7");
    let request = http::Request::get("/none").body(String::new()).unwrap();
    assert_eq!(ask(request).await.unwrap().0, StatusCode::NOT_FOUND);
}
