//! axum on compio, by cyper-axum.

fn main() {
    contract::on_each_core(|listener| {
        compio::runtime::Runtime::new().unwrap().block_on(async move {
            let listener = compio::net::TcpListener::from_std(listener).unwrap();
            cyper_axum::serve(listener, axum_app::router()).await.unwrap();
        });
    });
}
