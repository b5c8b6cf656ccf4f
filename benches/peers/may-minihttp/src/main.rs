//! may_minihttp: stackful coroutines on epoll.

use std::io::{self, Read as _};
use std::sync::LazyLock;

use contract::{OTHER_ROUTES, PLAINTEXT};
use matchit::Router;
use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};

#[derive(Clone, Copy)]
enum Route {
    Plaintext,
    Json,
    User,
    Echo,
    Bytes,
    Upload,
    Other,
}

static ROUTER: LazyLock<Router<Route>> = LazyLock::new(|| {
    let mut router = Router::new();
    for (path, route) in [
        ("/plaintext", Route::Plaintext),
        ("/json", Route::Json),
        ("/users/{id}", Route::User),
        ("/echo", Route::Echo),
        ("/bytes/{n}", Route::Bytes),
        ("/upload", Route::Upload),
    ] {
        router.insert(path, route).unwrap();
    }
    for path in OTHER_ROUTES {
        router.insert(path, Route::Other).unwrap();
    }
    router
});

struct Factory;
struct Service;

fn main() {
    let (args, listener) = contract::listen_once();
    may::config().set_workers(args.cores).set_pool_capacity(1000).set_stack_size(0x1000);
    // It binds by itself: give the address back first.
    drop(listener);
    let server = Factory.start(args.addr).unwrap();
    contract::announce(args.addr);
    server.join().unwrap();
}

impl HttpServiceFactory for Factory {
    type Service = Service;

    fn new_service(&self, _: usize) -> Service {
        Service
    }
}

impl HttpService for Service {
    fn call(&mut self, request: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        let path = request.path().to_owned();
        let Ok(matched) = ROUTER.at(&path) else {
            response.status_code(404, "Not Found");
            return Ok(());
        };
        let content_type = match matched.value {
            Route::Json => "content-type: application/json",
            Route::Echo | Route::Bytes => "content-type: application/octet-stream",
            _ => "content-type: text/plain",
        };
        response.header(content_type);
        match matched.value {
            Route::Plaintext => response.body(PLAINTEXT),
            Route::Json => response.body_vec(serde_json::to_vec(&contract::message())?),
            Route::User => response.body_vec(matched.params.get("id").unwrap().into()),
            Route::Echo => {
                let mut body = Vec::new();
                request.body().read_to_end(&mut body)?;
                response.body_vec(body);
            }
            Route::Bytes => {
                response.body_vec(vec![b'x'; matched.params.get("n").unwrap().parse().unwrap_or(0)])
            }
            Route::Upload => {
                let bytes = io::copy(&mut request.body(), &mut io::sink())?;
                response.body_vec(bytes.to_string().into_bytes());
            }
            Route::Other => response.body("ok"),
        }
        Ok(())
    }
}
