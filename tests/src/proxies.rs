//! Proxies on each back end, and upstreams for them.

use gimmal::proxy::Proxy;
use gimmal::test::TestServer;
use gimmal::{App, Backend, Request, Server};

/// Checks a proxy of these upstreams on each back end.
///
/// # Panics
/// As `check` does.
pub fn proxied<S: AsRef<str>>(upstreams: &[S], check: impl Fn(&TestServer)) {
    proxied_by(|| Proxy::new(upstreams).expect("they are upstreams"), check);
}

/// Checks a proxy on each back end.
///
/// # Panics
/// As `check` does.
pub fn proxied_by(proxy: impl Fn() -> Proxy, check: impl Fn(&TestServer)) {
    for backend in [Backend::IoUring, Backend::Epoll] {
        let app = App::new().fallback(proxy()).body_limit(u64::MAX);
        let server = Server::new(app).cores(1).backend(backend);
        check(&TestServer::from_server(server).expect("the proxy starts"));
    }
}

/// Starts an upstream that takes large bodies.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn upstream(app: App) -> TestServer {
    TestServer::start(app.body_limit(1 << 30)).expect("the upstream starts")
}

/// A handler that says what came, field by field.
///
/// # Panics
/// If the body does not come.
pub async fn show(mut request: Request) -> String {
    let mut shown = format!("{} {}\n", request.method(), request.target());
    for (name, value) in request.headers() {
        shown += &format!("{name}: {}\n", String::from_utf8_lossy(value));
    }
    shown + &String::from_utf8_lossy(&request.bytes().await.expect("the body comes"))
}
