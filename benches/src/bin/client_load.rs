//! Gimmal's HTTP client under load: so many requests under way at a time on one core, for so long. It says how many there
//! were, and what CPU time this process took for them.
#![expect(clippy::print_stdout, reason = "the harness reads it")]

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use futures_util::future::join_all;
use gimmal::Backend;
use gimmal::client::{Client, ClientOptions};
use gimmal::tls::TlsClientConfig;
use gimmal_runtime::Cores;

#[derive(Clone, Copy, ValueEnum)]
enum Ring {
    Uring,
    Epoll,
}

#[derive(Parser)]
struct Args {
    url: String,
    /// PEM file of whom to trust.
    #[arg(long)]
    roots: PathBuf,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    #[arg(long, default_value = "uring")]
    backend: Ring,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let tls = TlsClientConfig::builder().roots_file(&args.roots).build()?;
    let backend = match args.backend {
        Ring::Uring => Backend::IoUring,
        Ring::Epoll => Backend::Epoll,
    };
    let (url, concurrency, seconds) = (args.url, args.concurrency, args.seconds);
    Cores::builder().count(1).backend(backend).run(move |_| {
        let client = Client::with_options(ClientOptions { tls: Some(tls.clone()), ..Default::default() });
        let url = url.clone();
        async move {
            // The connections are opened before anything is counted.
            let (_, warm) = load(&client, &url, concurrency, 0.5).await;
            let before = cpu_seconds();
            let (bytes, requests) = load(&client, &url, concurrency, seconds).await;
            let cpu = cpu_seconds() - before;
            println!("{requests} requests, {bytes} bytes, {cpu:.6} s of CPU, {warm} before");
        }
    })?;
    Ok(())
}

async fn load(client: &Client, url: &str, concurrency: usize, seconds: f64) -> (u64, u64) {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let url: Rc<str> = url.into();
    let core = gimmal::Core::current().expect("this is a core");
    let tasks = (0..concurrency).map(|_| {
        let (client, url) = (client.clone(), Rc::clone(&url));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        core.spawn(async move {
            let (mut bytes, mut requests) = (0, 0);
            while Instant::now() < until {
                let mut response = client.get(&url).send().await.expect("a response comes");
                assert!(response.status().is_success());
                while let Some(chunk) = response.body_mut().chunk().await {
                    bytes += chunk.expect("the body comes").len() as u64;
                }
                requests += 1;
            }
            let _ = sender.send((bytes, requests));
        });
        receiver
    });
    let sums = join_all(tasks).await;
    sums.into_iter().map(|sum| sum.expect("no panic")).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
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
