//! How keys, tokens and logins are fetched over TLS.

use gimmal::auth::Fetcher;
use gimmal::http::Method;
use gimmal::security::{FetchError, HttpFetch, RESPONSE_BYTES_MAX};
use gimmal::{App, Backend, Redirect, Request, http};
use gimmal_tests::{Authority, on_a_core};

use crate::scene::{Scene, trusting_client};

#[test]
fn documents_come_over_tls_whole_and_in_bounds() {
    async fn form(mut request: Request) -> Vec<u8> {
        let kind = request.header("content-type").unwrap_or_default().as_bytes().to_vec();
        [kind, b" ".to_vec(), request.bytes().await.unwrap().to_vec()].concat()
    }
    let scene = Scene::new();
    let app = App::new()
        .get("/jwks", async || r#"{"keys":[]}"#)
        .post("/introspect", form)
        .get("/large", async || "x".repeat(RESPONSE_BYTES_MAX + 1))
        .get("/away", async || Redirect::temporary("/jwks"));
    let served = scene.serve(app, Backend::Auto);
    let port = served.address().port();
    let known = trusting_client(&scene.authority).build().unwrap();
    let foreign = trusting_client(&Authority::new("another")).build().unwrap();
    on_a_core(move || {
        let (known, foreign) = (Fetcher::with_tls(known.clone()), Fetcher::with_tls(foreign.clone()));
        async move {
            let request = |method: Method, path: &str| {
                http::Request::builder().method(method).uri(format!("https://localhost:{port}{path}"))
            };
            let get = |path| request(Method::GET, path).body(Vec::new()).unwrap();
            let keys = known.fetch(get("/jwks")).await.unwrap();
            assert_eq!((keys.status().as_u16(), &keys.body()[..]), (200, &br#"{"keys":[]}"#[..]));
            let asked = request(Method::POST, "/introspect").header("content-type", "a/b");
            let told = known.fetch(asked.body(b"token=x".to_vec()).unwrap()).await.unwrap();
            assert_eq!(told.body(), b"a/b token=x");
            assert_eq!(known.fetch(get("/away")).await.unwrap().status(), 307, "no redirect is followed");
            assert_eq!(known.fetch(get("/large")).await.unwrap_err(), FetchError::TooLarge);
            let error = foreign.fetch(get("/jwks")).await.unwrap_err();
            assert!(matches!(&error, FetchError::Unreachable(_)), "{error}");
            assert!(error.to_string().contains("not among the trusted roots"), "{error}");
        }
    });
}
