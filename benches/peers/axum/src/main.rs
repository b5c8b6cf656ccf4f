//! axum: a single-threaded Tokio runtime on each core, HTTP/1 only, pipelined answers flushed together.

use std::net::TcpListener;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;

fn main() {
    contract::on_each_core(|listener| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, serve(listener));
    });
}

async fn serve(listener: TcpListener) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let service = TowerToHyperService::new(axum_app::router());
    let mut http = http1::Builder::new();
    http.pipeline_flush(true);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::task::spawn_local(http.serve_connection(TokioIo::new(stream), service.clone()));
    }
}
