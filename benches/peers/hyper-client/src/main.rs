//! hyper-util's pooling client with rustls, on a single-threaded Tokio runtime: so many requests under way at a time, as
//! `client_load` of Gimmal's benches makes them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use contract as _;
use http_body_util::{BodyExt, Empty};
use hyper::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

#[derive(Parser)]
struct Args {
    url: Uri,
    /// PEM file of whom to trust.
    #[arg(long)]
    roots: PathBuf,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

fn main() {
    let args = Args::parse();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&args.roots).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let url = Arc::new(args.url);
        // The connections are opened before anything is counted.
        let (_, warm) = load(&client, &url, args.concurrency, 0.5).await;
        let before = cpu_seconds();
        let (bytes, requests) = load(&client, &url, args.concurrency, args.seconds).await;
        let cpu = cpu_seconds() - before;
        println!("{requests} requests, {bytes} bytes, {cpu:.6} s of CPU, {warm} before");
    });
}

type HttpsClient = Client<
    hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>,
    Empty<Bytes>,
>;

async fn load(client: &HttpsClient, url: &Arc<Uri>, concurrency: usize, seconds: f64) -> (u64, u64) {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> = (0..concurrency)
        .map(|_| {
            let (client, url) = (client.clone(), Arc::clone(url));
            tokio::spawn(async move {
                let (mut bytes, mut requests) = (0, 0);
                while Instant::now() < until {
                    let response = client.get(Uri::clone(&url)).await.expect("a response comes");
                    assert!(response.status().is_success());
                    let mut body = response.into_body();
                    while let Some(frame) = body.frame().await {
                        let frame = frame.expect("the body comes");
                        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                    }
                    requests += 1;
                }
                (bytes, requests)
            })
        })
        .collect();
    let mut sum = (0, 0);
    for task in tasks {
        let (bytes, requests) = task.await.expect("no panic");
        sum = (sum.0 + bytes, sum.1 + requests);
    }
    sum
}

/// CPU time of the threads of this process, as the scheduler has counted it.
fn cpu_seconds() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("this is Linux").flatten();
    let nanoseconds = threads.filter_map(|thread| {
        // A thread may just have ended.
        let counted = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        counted.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}
